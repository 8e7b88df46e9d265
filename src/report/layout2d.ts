import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { principalComponents } from './pca.js';

export interface LayoutOptions {
  /** Nearest neighbours that each point is drawn to. Default 15. */
  readonly neighbours?: number;
  /** `cosine` (default) compares directions, as k-NN probes of embeddings do; `euclidean` keeps lengths. */
  readonly metric?: 'cosine' | 'euclidean';
  /** Passes over the neighbour graph. Default 300. */
  readonly epochs?: number;
  readonly seed?: number;
}

/** Wider data are first reduced to this many principal components: neighbours change little, distances cost far less. */
const WIDTH = 64;
const NEGATIVES = 5;
const POOL = 1 << 20;

/**
 * Places rows of `data` [rows, width] on a map such that near neighbours stay near. Returns [rows, 2] within the unit
 * square, the longer side of the map along x. Equal input gives equal output.
 *
 * Method: the fuzzy neighbour graph and the negative sampling of UMAP (McInnes, Healy and Melville 2018, sections 3 and
 * 4) with the kernel 1 / (1 + d^2) of t-SNE, starting from the first two principal components. Exact neighbours, so the
 * time grows with the square of `rows`.
 */
export function layout2d(
  data: ArrayLike<number>,
  rows: number,
  width: number,
  options: LayoutOptions = {},
): Float32Array {
  const { neighbours = 15, metric = 'cosine', epochs = 300, seed = 0 } = options;
  if (data.length !== rows * width) {
    throw new JepaError(`2-D map: ${data.length} values do not fill [${rows}, ${width}]`);
  }
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i]))
      throw new JepaError(`2-D map: row ${Math.floor(i / width)} holds ${data[i]}; embeddings must be finite`);
  }
  if (rows < 3) return Float32Array.from({ length: rows * 2 }, (_, i) => (rows === 2 && i === 2 ? 1 : 0));
  const points = metric === 'cosine' ? unitRows(data, rows, width) : data;
  const kept = Math.min(WIDTH, width);
  const reduced = principalComponents(points, rows, width, kept).scores;
  const k = Math.min(neighbours, rows - 1);
  const edges = neighbourGraph(nearest(reduced, rows, kept, k), rows, k);
  const places = startPlaces(reduced, rows, kept, seed);
  optimise(places, edges, epochs, seed);
  return framed(places, rows);
}

function unitRows(data: ArrayLike<number>, rows: number, width: number): Float64Array {
  const out = new Float64Array(rows * width);
  for (let i = 0; i < rows; i++) {
    let square = 0;
    for (let j = 0; j < width; j++) square += data[i * width + j] ** 2;
    const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let j = 0; j < width; j++) out[i * width + j] = data[i * width + j] * scale;
  }
  return out;
}

interface Neighbours {
  /** [rows, k], nearest first. */
  readonly index: Int32Array;
  readonly distance: Float64Array;
}

/** The k nearest other rows of every row, by Euclidean distance, compared one block of rows with another to stay in cache. */
function nearest(data: Float64Array, rows: number, width: number, k: number): Neighbours {
  const index = new Int32Array(rows * k).fill(-1);
  const distance = new Float64Array(rows * k).fill(Number.POSITIVE_INFINITY);
  const offer = (i: number, j: number, square: number) => {
    const begin = i * k;
    let at = begin + k - 1;
    if (square >= distance[at]) return;
    while (at > begin && distance[at - 1] > square) {
      distance[at] = distance[at - 1];
      index[at] = index[at - 1];
      at--;
    }
    distance[at] = square;
    index[at] = j;
  };
  const block = 128;
  for (let a = 0; a < rows; a += block) {
    const aEnd = Math.min(rows, a + block);
    for (let b = a; b < rows; b += block) {
      const bEnd = Math.min(rows, b + block);
      for (let i = a; i < aEnd; i++) {
        const first = i * width;
        for (let j = Math.max(b, i + 1); j < bEnd; j++) {
          const second = j * width;
          let square = 0;
          for (let c = 0; c < width; c++) {
            const difference = data[first + c] - data[second + c];
            square += difference * difference;
          }
          offer(i, j, square);
          offer(j, i, square);
        }
      }
    }
  }
  for (let i = 0; i < distance.length; i++) distance[i] = Math.sqrt(distance[i]);
  return { index, distance };
}

interface Edges {
  readonly from: Int32Array;
  readonly to: Int32Array;
  /** In (0, 1]: how surely two points are neighbours. */
  readonly weight: Float64Array;
}

/** Distances become memberships whose sum is log2 k for every point; an edge holds if either end says so. */
function neighbourGraph({ index, distance }: Neighbours, rows: number, k: number): Edges {
  const weights = new Map<number, number>();
  for (let i = 0; i < rows; i++) {
    const own = distance.subarray(i * k, (i + 1) * k);
    const offset = own.find((value) => value > 0) ?? 0;
    const sigma = bandwidth(own, offset, Math.log2(k));
    for (let n = 0; n < k; n++) {
      const j = index[i * k + n];
      const membership = Math.exp(-Math.max(0, own[n] - offset) / sigma);
      const key = Math.min(i, j) * rows + Math.max(i, j);
      const other = weights.get(key) ?? 0;
      weights.set(key, other + membership - other * membership);
    }
  }
  const keys = [...weights.keys()].sort((a, b) => a - b);
  return {
    from: Int32Array.from(keys, (key) => Math.floor(key / rows)),
    to: Int32Array.from(keys, (key) => key % rows),
    weight: Float64Array.from(keys, (key) => weights.get(key)!),
  };
}

/** The sigma at which the memberships sum to `target`, by bisection; never far below the mean distance. */
function bandwidth(distances: Float64Array, offset: number, target: number): number {
  let mean = 0;
  for (const value of distances) mean += value / distances.length;
  if (mean === 0) return 1;
  let low = 0;
  let high = mean * 1000;
  for (let step = 0; step < 50; step++) {
    const sigma = (low + high) / 2;
    let sum = 0;
    for (const value of distances) sum += Math.exp(-Math.max(0, value - offset) / sigma);
    if (sum > target) high = sigma;
    else low = sigma;
  }
  return Math.max(high, mean * 1e-3);
}

/** The first two components, spread over 20 units, each point shifted a little so that equal rows can part. */
function startPlaces(scores: Float64Array, rows: number, width: number, seed: number): Float64Array {
  const random = createRandom(seed, 'map start');
  const places = new Float64Array(rows * 2);
  let largest = 0;
  for (let i = 0; i < rows; i++) {
    for (let c = 0; c < Math.min(2, width); c++) {
      places[i * 2 + c] = scores[i * width + c];
      largest = Math.max(largest, Math.abs(scores[i * width + c]));
    }
  }
  const scale = largest > 0 ? 10 / largest : 0;
  for (let i = 0; i < places.length; i++) places[i] = places[i] * scale + random.normal() * 1e-3;
  return places;
}

/** Stochastic descent: ends of an edge attract as often as its weight says, and push random points away. */
function optimise(places: Float64Array, edges: Edges, epochs: number, seed: number): void {
  const rows = places.length / 2;
  const random = createRandom(seed, 'map negatives');
  // One long list of random points, read round and round: drawing each anew would cost more than the descent.
  const pool = Int32Array.from({ length: POOL }, () => random.integer(rows));
  let drawn = 0;
  const count = edges.weight.length;
  const heaviest = edges.weight.reduce((a, b) => Math.max(a, b), 0);
  const due = new Float64Array(count);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const rate = 1 - epoch / epochs;
    for (let e = 0; e < count; e++) {
      due[e] += edges.weight[e] / heaviest;
      if (due[e] < 1) continue;
      due[e] -= 1;
      const from = edges.from[e] * 2;
      const to = edges.to[e] * 2;
      attract(places, from, to, rate);
      for (let side = 0; side < 2; side++) {
        const moved = side ? to : from;
        for (let n = 0; n < NEGATIVES; n++) {
          const other = pool[drawn++ & (POOL - 1)] * 2;
          if (other !== moved) repel(places, moved, other, rate);
        }
      }
    }
  }
}

/** Descent of -log(1 / (1 + d^2)) on both points. */
function attract(places: Float64Array, a: number, b: number, rate: number): void {
  const dx = places[a] - places[b];
  const dy = places[a + 1] - places[b + 1];
  const pull = (-2 / (1 + dx * dx + dy * dy)) * rate;
  places[a] += clip(pull * dx, rate);
  places[a + 1] += clip(pull * dy, rate);
  places[b] -= clip(pull * dx, rate);
  places[b + 1] -= clip(pull * dy, rate);
}

/** Descent of -log(1 - 1 / (1 + d^2)) on the first point. */
function repel(places: Float64Array, a: number, b: number, rate: number): void {
  const dx = places[a] - places[b];
  const dy = places[a + 1] - places[b + 1];
  const square = dx * dx + dy * dy;
  const push = (2 / ((0.001 + square) * (1 + square))) * rate;
  places[a] += clip(push * dx, rate);
  places[a + 1] += clip(push * dy, rate);
}

function clip(move: number, rate: number): number {
  const limit = 4 * rate;
  return Math.min(limit, Math.max(-limit, move));
}

/** Turns the map so that its longer axis lies along x and fits it into the unit square. */
function framed(places: Float64Array, rows: number): Float32Array {
  const { scores } = principalComponents(places, rows, 2, 2);
  const low = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const high = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < scores.length; i++) {
    low[i % 2] = Math.min(low[i % 2], scores[i]);
    high[i % 2] = Math.max(high[i % 2], scores[i]);
  }
  const span = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
  return Float32Array.from(scores, (value, i) => 0.5 + (value - (low[i % 2] + high[i % 2]) / 2) / span);
}
