import { type Matrix, matrix } from '../base/linalg.js';
import { createRandom } from '../base/random.js';
import { nearestNeighbours } from '../eval/knn.js';
import { features, normalisedRows, type Samples } from '../eval/samples.js';
import { leadingScores } from './pca.js';

export interface LayoutOptions {
  /** Nearest neighbours that each point is drawn to. Default 15. */
  readonly neighbours?: number;
  /** Passes over the neighbour graph. Default 300. */
  readonly epochs?: number;
  readonly seed?: number;
}

const NEGATIVES = 5;
const POOL = 1 << 20;

/**
 * Places embeddings [rows, width] on a map such that those of similar direction (cosine, as in k-NN probes) lie close
 * together. Returns [rows, 2] within the unit square, the longer side of the map along x. Equal input gives equal output.
 *
 * Method: the fuzzy neighbour graph and the negative sampling of UMAP (McInnes, Healy and Melville 2018, sections 3 and
 * 4) with the kernel 1 / (1 + d^2) of t-SNE, starting from the first two principal components. Neighbours are exact, so
 * that part of the time grows with the square of `rows`.
 */
export function layout2d(embeddings: Samples, options: LayoutOptions = {}): Float32Array {
  const { neighbours = 15, epochs = 300, seed = 0 } = options;
  const points = normalisedRows(features('2-D map', embeddings));
  const { rows } = points;
  // Fewer points have no shape to keep.
  if (rows < 3) return Float32Array.from([0, 0.5, 1, 0.5].slice(0, rows * 2));
  const edges = neighbourGraph(nearest(points, Math.min(neighbours, rows - 1)));
  const places = startPlaces(points, seed);
  optimise(places, edges, epochs, seed);
  return framed(places);
}

interface Neighbours {
  readonly k: number;
  /** [rows, k], nearest first. */
  readonly index: Int32Array;
  readonly distance: Float64Array;
}

/** The k other unit rows nearest to each, and their distances. */
function nearest({ rows, columns, data }: Matrix, k: number): Neighbours {
  const set = { shape: [rows, columns], data };
  const { indices, similarities } = nearestNeighbours(set, set, k + 1);
  const index = new Int32Array(rows * k);
  const distance = new Float64Array(rows * k);
  for (let i = 0; i < rows; i++) {
    let at = i * k;
    // Among equal rows a point itself need not be the first of its neighbours, nor one of them.
    for (let n = i * (k + 1); n < (i + 1) * (k + 1) && at < (i + 1) * k; n++) {
      if (indices[n] === i) continue;
      index[at] = indices[n];
      distance[at++] = Math.sqrt(Math.max(0, 2 - 2 * similarities[n]));
    }
  }
  return { k, index, distance };
}

interface Edges {
  readonly from: Int32Array;
  readonly to: Int32Array;
  /** In (0, 1]: how surely two points are neighbours. */
  readonly weight: Float64Array;
}

/** Distances become memberships whose sum is log2 k for every point; an edge holds if either end says so. */
function neighbourGraph({ k, index, distance }: Neighbours): Edges {
  const rows = index.length / k;
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
function startPlaces(points: Matrix, seed: number): Float64Array {
  const random = createRandom(seed, 'map start');
  const count = Math.min(2, points.columns);
  const scores = leadingScores(points, count).data;
  const largest = scores.reduce((most, score) => Math.max(most, Math.abs(score)), 0);
  const scale = largest > 0 ? 10 / largest : 0;
  return Float64Array.from({ length: points.rows * 2 }, (_, i) => {
    const axis = i % 2;
    return (axis < count ? scores[Math.floor(i / 2) * count + axis] * scale : 0) + random.normal() * 1e-3;
  });
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
function framed(places: Float64Array): Float32Array {
  const scores = leadingScores(matrix(places.length / 2, 2, places), 2).data;
  const low = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const high = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < scores.length; i++) {
    low[i % 2] = Math.min(low[i % 2], scores[i]);
    high[i % 2] = Math.max(high[i % 2], scores[i]);
  }
  const span = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
  return Float32Array.from(scores, (value, i) => 0.5 + (value - (low[i % 2] + high[i % 2]) / 2) / span);
}
