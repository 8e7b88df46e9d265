import { JepaError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import { matrix, multiply, transpose } from '../base/linalg.js';
import { createRandom } from '../base/random.js';
import { nearestNeighbours } from '../eval/knn.js';
import { features, normalisedRows, type Samples } from '../eval/samples.js';
import type { Colouring, Curve, EmbeddingMap, FeatureMap, NeighbourRow, Picture } from './data.js';
import { formatNumber } from './format.js';
import { layout2d } from './layout2d.js';
import type { TokenLayout } from './looks.js';
import { leadingScores } from './pca.js';

/** Values over steps; `x` and `y` are of equal length, a value that was not measured is left out or NaN. */
export interface Trace {
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** What a trainer may have recorded. Each trace that is there becomes a figure. */
export interface TrainingHistory {
  readonly loss?: Trace;
  readonly learningRate?: Trace;
  /** Spread of directions, `CollapseSigns.featureStd`: 1 for even ones, 0 for a single one. */
  readonly featureStd?: Trace;
  readonly rankme?: Trace;
  /** Mean cosine similarity of features of different images. */
  readonly meanCosine?: Trace;
  /** Energy (prediction error) against the image's own target, and against another image's. */
  readonly energyMatched?: Trace;
  readonly energyShuffled?: Trace;
  /** Accuracy of the online probes, per cent. */
  readonly knn?: Trace;
  readonly linear?: Trace;
  readonly samplesPerSecond?: Trace;
  /** What samples are called; `images` by default. */
  readonly samples?: string;
  /** Width of the features: the rank's upper bound. */
  readonly width?: number;
}

/** The usual figures of a training run, each with the sentence that says how to read it. */
export function trainingCurves(history: TrainingHistory): Curve[] {
  const { samples = 'images' } = history;
  const curves: (Curve | false)[] = [
    figure('Loss', [['loss', history.loss, true]], {
      ...fromZeroOrLog(history.loss),
      note: 'Prediction error in feature space; may rise while targets become richer.',
    }),
    figure(
      'Online probe',
      [
        ['k-NN', history.knn],
        ['linear', history.linear],
      ],
      {
        unit: '% correct',
        note: 'Accuracy of a probe on the encoder of that step. The number that matters.',
      },
    ),
    figure('RankMe', [['effective rank', history.rankme]], {
      unit: history.width ? `of ${history.width} dimensions` : undefined,
      include: [0],
      note: 'Directions in use. Falling towards 1 is dimensional collapse.',
    }),
    figure('Feature spread', [['spread', history.featureStd]], {
      include: [0, 1],
      note: 'How far the directions of embeddings spread: 1 is evenly, 0 is complete collapse.',
    }),
    figure(`Similarity of different ${samples}`, [['mean cosine', history.meanCosine]], {
      include: [0, 1],
      note: `Mean cosine of pairs of different ${samples}. At 1 the encoder calls all ${samples} the same.`,
    }),
    figure(
      'Energy',
      [
        ['matched', history.energyMatched],
        ['shuffled', history.energyShuffled],
      ],
      {
        ...fromZeroOrLog(history.energyMatched, history.energyShuffled),
        note: 'Error against the own target and against that of another sample. The gap is what the predictor knows.',
      },
    ),
    figure('Learning rate', [['learning rate', history.learningRate]], { include: [0], note: 'The schedule as run.' }),
    figure('Speed', [[`${samples} per second`, history.samplesPerSecond]], {
      unit: `${samples}/s`,
      include: [0],
      note: 'Dips are evaluations, checkpoints or slow decoding.',
    }),
  ];
  return curves.filter((curve) => curve !== false);
}

function figure(
  title: string,
  traces: readonly (readonly [name: string, trace: Trace | undefined, smooth?: boolean])[],
  look: Omit<Curve, 'title' | 'series'>,
): Curve | false {
  const series = traces.flatMap(([name, trace, smooth]) => (trace?.x.length ? [{ name, smooth, ...trace }] : []));
  return series.length > 0 && { title, series, ...look };
}

/** A log axis for positive values over more than one and a half orders of magnitude, else one that starts at zero. */
function fromZeroOrLog(...traces: (Trace | undefined)[]): Pick<Curve, 'yScale' | 'include'> {
  const values = traces.flatMap((trace) => trace?.y.filter(Number.isFinite) ?? []);
  const low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = values.reduce((a, b) => Math.max(a, b), 0);
  return low > 0 && high / low > 30 ? { yScale: 'log' } : { include: [0] };
}

export interface EmbeddedImages {
  /** [images.length, width]. */
  readonly embeddings: Samples;
  readonly images: readonly Picture[];
  /** Class of every image, -1 where unknown. */
  readonly labels?: ArrayLike<number>;
  readonly classNames?: readonly string[];
}

export interface MapOptions {
  /** Other things known of the images; 0/1 attributes read `no` and `yes`. */
  readonly attributes?: Readonly<Record<string, ArrayLike<number>>>;
  readonly names?: readonly string[];
  /** Most points shown; more images are thinned evenly. Default 3,000. */
  readonly limit?: number;
  readonly seed?: number;
  /** What samples are called; `images` by default. */
  readonly samples?: string;
}

/** A 2-D map of embeddings, coloured by class, by attributes, and by cluster where nothing is known. */
export function embeddingMap(set: EmbeddedImages, options: MapOptions = {}): EmbeddingMap {
  const { attributes = {}, names, limit = 3000, seed = 0, samples = 'images' } = options;
  checkSet('embedding map', set);
  const total = set.images.length;
  const chosen = evenly(total, limit);
  const count = chosen.length;
  const embeddings = rowsOf(set.embeddings, chosen);
  const shown = Array.from(chosen, (i) => set.images[i]);
  const pictures = shown.filter((picture) => typeof picture !== 'string');
  const colourings: Colouring[] = [];
  if (set.labels) colourings.push(colouringOf('class', set.labels, chosen, set.classNames));
  for (const [name, values] of Object.entries(attributes)) colourings.push(colouringOf(name, values, chosen));
  if (!colourings.length) {
    const clusters = Math.max(1, Math.min(8, Math.floor(count / 2)));
    const groups = Array.from({ length: clusters }, (_, i) => `cluster ${i + 1}`);
    colourings.push({ name: 'cluster', groups, values: sphericalKMeans(embeddings, clusters, seed) });
  }
  return {
    points: layout2d(embeddings, { seed }),
    ...(pictures.length === shown.length ? { thumbnails: pictures } : {}),
    names: names && Array.from(chosen, (i) => names[i]),
    colourings,
    note:
      count < total
        ? `${formatNumber(count, 5)} of ${formatNumber(total, 6)} ${samples}`
        : `${formatNumber(count, 5)} ${samples}`,
  };
}

function colouringOf(
  name: string,
  values: ArrayLike<number>,
  chosen: Int32Array,
  groups?: readonly string[],
): Colouring {
  const picked = Array.from(chosen, (i) => values[i]);
  const largest = picked.reduce((a, b) => Math.max(a, b), 0);
  const fallback = largest === 1 ? ['no', 'yes'] : Array.from({ length: largest + 1 }, (_, i) => String(i));
  return { name, groups: groups ?? fallback, values: picked };
}

/** Some rows of samples [rows, width]. */
function rowsOf({ shape, data }: Samples, rows: ArrayLike<number>): Samples {
  const width = shape[1];
  const chosen = Array.from(rows);
  return {
    shape: [chosen.length, width],
    data: Float64Array.from({ length: chosen.length * width }, (_, i) => {
      return data[chosen[Math.floor(i / width)] * width + (i % width)];
    }),
  };
}

/**
 * k-means on directions: samples [rows, width] go to the centre of largest cosine, centres start far apart (k-means++ of
 * Arthur and Vassilvitskii 2007). Returns the cluster of each row, the largest cluster first.
 */
export function sphericalKMeans(samples: Samples, k: number, seed = 0): Int32Array {
  const points = normalisedRows(features('k-means', samples));
  const { rows, columns } = points;
  const row = (i: number) => points.data.subarray(i * columns, (i + 1) * columns);
  const random = createRandom(seed, 'k-means');
  const centres = matrix(k, columns);
  const far = new Float64Array(rows).fill(2);
  for (let c = 0; c < k; c++) {
    let target = random.uniform() * far.reduce((a, b) => a + b, 0);
    let chosen = 0;
    while (chosen < rows - 1 && target >= far[chosen]) target -= far[chosen++];
    centres.data.set(row(chosen), c * columns);
    const { data } = multiply(points, matrix(columns, 1, row(chosen)));
    for (let i = 0; i < rows; i++) far[i] = Math.min(far[i], Math.max(0, 1 - data[i]));
  }
  const cluster = new Int32Array(rows).fill(-1);
  for (let round = 0, moved = 1; moved > 0 && round < 100; round++) {
    const similarity = multiply(points, transpose(centres)).data;
    moved = 0;
    centres.data.fill(0);
    for (let i = 0; i < rows; i++) {
      let best = 0;
      for (let c = 1; c < k; c++) if (similarity[i * k + c] > similarity[i * k + best]) best = c;
      if (cluster[i] !== best) moved++;
      cluster[i] = best;
      for (let j = 0; j < columns; j++) centres.data[best * columns + j] += points.data[i * columns + j];
    }
    centres.data.set(normalisedRows(centres).data);
  }
  const sizes = new Int32Array(k);
  for (const c of cluster) sizes[c]++;
  const order = Array.from(sizes.keys()).sort((a, b) => sizes[b] - sizes[a] || a - b);
  return cluster.map((c) => order.indexOf(c));
}

/** For each query (an index into the set), the `count` other images of largest cosine similarity, nearest first. */
export function neighbourRows(set: EmbeddedImages, queries: readonly number[], count = 8): NeighbourRow[] {
  checkSet('nearest neighbours', set);
  const { embeddings, images, labels, classNames } = set;
  const wrong = queries.find((query) => !(query in images));
  if (wrong !== undefined) {
    throw new JepaError(`nearest neighbours: there is no image ${wrong} among ${images.length}`);
  }
  if (!queries.length) return [];
  const k = Math.min(count + 1, images.length);
  const { indices, similarities } = nearestNeighbours(embeddings, rowsOf(embeddings, queries), k);
  const labelOf = (i: number) =>
    labels && labels[i] >= 0 ? (classNames?.[labels[i]] ?? String(labels[i])) : undefined;
  return queries.map((query, row) => {
    const places = Array.from({ length: k }, (_, n) => row * k + n).filter((place) => indices[place] !== query);
    return {
      query: images[query],
      label: labelOf(query),
      neighbours: places.slice(0, count).map((place) => ({
        image: images[indices[place]],
        similarity: similarities[place],
        label: labelOf(indices[place]),
      })),
    };
  });
}

/**
 * Colours of token features [images.length, tokens, width], which lie on the pictures as `layout` says: the first three
 * principal components over all tokens of all images together, each stretched over its middle 98 %.
 */
export function featureMaps(
  images: readonly Picture[],
  tokens: Samples,
  {
    rows,
    columns,
    cells = Int32Array.from({ length: rows * columns }, (_, i) => i),
  }: Partial<TokenLayout> & Pick<TokenLayout, 'rows' | 'columns'>,
): FeatureMap[] {
  const patches = cells.length;
  const [count, perImage, width] = tokens.shape;
  if (tokens.shape.length !== 3 || count !== images.length || perImage !== patches) {
    throw new JepaError(
      `feature maps: features [${tokens.shape.join(', ')}] are not [${images.length} images, ${patches} tokens, width]`,
    );
  }
  const total = count * patches;
  const kept = Math.min(3, width);
  const scores = leadingScores(matrix(total, width, tokens.data), kept).data;
  const colours = new Uint8Array(total * 3).fill(128);
  for (let c = 0; c < kept; c++) {
    const sorted = Float64Array.from({ length: total }, (_, i) => scores[i * kept + c]).sort();
    const low = sorted[Math.floor(total * 0.01)];
    const high = sorted[Math.ceil(total * 0.99) - 1];
    for (let i = 0; i < total && high > low; i++) {
      const share = (scores[i * kept + c] - low) / (high - low);
      colours[i * 3 + c] = Math.round(255 * Math.min(1, Math.max(0, share)));
    }
  }
  return images.map((image, i) => {
    // Grey where there is no token.
    const data = new Uint8Array(rows * columns * 3).fill(128);
    for (let t = 0; t < patches; t++) {
      data.set(colours.subarray((i * patches + t) * 3, (i * patches + t + 1) * 3), cells[t] * 3);
    }
    return { image, colours: { width: columns, height: rows, channels: 3, data } };
  });
}

function checkSet(what: string, { embeddings, images }: EmbeddedImages): void {
  const { shape } = embeddings;
  if (shape.length !== 2 || shape[0] !== images.length) {
    throw new JepaError(`${what}: embeddings [${shape.join(', ')}] are not [${images.length} images, width]`);
  }
}
