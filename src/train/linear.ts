import { JepaError } from '../base/errors.js';
import { eigh, matrix } from '../base/linalg.js';
import { float32, type HostTensor, int32 } from '../base/tensor.js';
import { minimiseAsync } from '../eval/lbfgs.js';
import { accuracy } from '../eval/logistic.js';
import { gradients } from '../graph/autodiff.js';
import { mul, sub } from '../graph/ops/elementwise.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { linear, matmul } from '../graph/ops/product.js';
import { argmax, sum } from '../graph/ops/reduce.js';
import { input } from '../graph/tensor.js';
import type { Engine } from '../runtime/index.js';
import { pick } from './features.js';

/**
 * Multinomial logistic regression on the engine: the objective of `src/eval/logistic.ts` (mean cross entropy +
 * penalty / 2 x sum of squared weights, intercepts free, standardised features) for data where every evaluation is worth all
 * cores. Features are standardised and turned to their principal axes once: there the curvature at the start is diagonal,
 * so L-BFGS needs few iterations and nothing but products with the features takes time. The penalty does not change, as a
 * rotation keeps lengths.
 */

/** Features in their principal axes, standardised by the training part. Labels play no part in it. */
export interface Axes {
  /** [n, kept]: directions of no variance are left out. */
  readonly train: HostTensor<'float32'>;
  readonly test: HostTensor<'float32'>;
  /** Variance along each axis. */
  readonly variances: Float64Array;
  /** A classifier of the features as they were given: weights [classes, width] and intercepts. */
  forFeatures(
    classifier: Classifier,
    classes: number,
  ): { weights: HostTensor<'float32'>; intercepts: HostTensor<'float32'> };
}

/** Rows of one run: with their products they stay near the caches of two workers. */
const CHUNK = 4096;
/** Share of the largest variance below which a direction is noise of single precision. */
const NEGLIGIBLE = 1e-7;

type Rows = HostTensor<'float32'>;

/** Turns features to principal axes. Both [n, width]. */
export async function principalAxes(engine: Engine, train: Rows, test: Rows): Promise<Axes> {
  const [n, width] = train.shape;
  if (n < 2) throw new JepaError(`linear probe: ${n} training images are too few`);
  const { mean, inverse } = standardisation(train);
  const rows = input('rows', ['batch', width]);
  const standard = mul(sub(rows, input('mean', [width])), input('inverse', [width]));
  const state = await engine.createState([]);
  const fixed = { mean: float32([width], mean), inverse: float32([width], inverse) };

  const products = await engine.compile(
    { name: 'probe: covariance', outputs: { gram: matmul(standard, standard, { transposeA: true }) } },
    state,
  );
  const gram = matrix(width, width);
  for (const { chunk } of chunks(train)) {
    const { data } = (await products.run({ ...fixed, rows: chunk })).outputs.gram;
    for (let i = 0; i < gram.data.length; i++) gram.data[i] += (data as Float32Array)[i] / n;
  }
  await products.close();
  // Sums of workers may differ in the last bit across the diagonal.
  for (let i = 0; i < width; i++) for (let j = 0; j < i; j++) gram.data[j * width + i] = gram.data[i * width + j];

  const { values, vectors } = eigh(gram);
  const largest = values.reduce((a, b) => Math.max(a, b), 0);
  // Of a collapsed encoder nothing is left but one axis that says nothing: its probe finds the largest class.
  const varied = Array.from(values.keys()).filter((i) => values[i] > NEGLIGIBLE * largest);
  const kept = varied.length > 0 ? varied : [width - 1];
  const axes = new Float32Array(width * kept.length);
  kept.forEach((row, j) => {
    for (let i = 0; i < width; i++) axes[i * kept.length + j] = vectors.data[row * width + i];
  });

  const turned = matmul(standard, input('axes', [width, kept.length]));
  const turn = await engine.compile({ name: 'probe: axes', outputs: { turned } }, state);
  const all = async (x: Rows): Promise<Rows> => {
    const out = new Float32Array(x.shape[0] * kept.length);
    for (const { from, chunk } of chunks(x)) {
      const feeds = { ...fixed, axes: float32([width, kept.length], axes), rows: chunk };
      out.set((await turn.run(feeds)).outputs.turned.data as Float32Array, from * kept.length);
    }
    return float32([x.shape[0], kept.length], out);
  };
  const turnedTrain = await all(train);
  const turnedTest = await all(test);
  await turn.close();
  return {
    train: turnedTrain,
    test: turnedTest,
    variances: Float64Array.from(kept, (k) => values[k]),
    forFeatures: ({ parameters }, classes) => {
      const weights = new Float32Array(classes * width);
      const intercepts = Float64Array.from(parameters.subarray(classes * kept.length));
      for (let c = 0; c < classes; c++) {
        for (let j = 0; j < width; j++) {
          let weight = 0;
          for (let k = 0; k < kept.length; k++) weight += parameters[c * kept.length + k] * axes[j * kept.length + k];
          weight *= inverse[j];
          weights[c * width + j] = weight;
          intercepts[c] -= weight * mean[j];
        }
      }
      return {
        weights: float32([classes, width], weights),
        intercepts: float32([classes], Float32Array.from(intercepts)),
      };
    },
  };
}

function* chunks(x: Rows): Generator<{ from: number; chunk: Rows }> {
  const [n, width] = x.shape;
  for (let from = 0; from < n; from += CHUNK) {
    const to = Math.min(n, from + CHUNK);
    yield { from, chunk: float32([to - from, width], x.data.subarray(from * width, to * width)) };
  }
}

/** Mean and inverse standard deviation of each feature; constant features stay as they are. */
function standardisation({ shape: [n, width], data }: Rows): { mean: Float32Array; inverse: Float32Array } {
  const means = new Float64Array(width);
  for (let i = 0; i < n; i++) for (let j = 0; j < width; j++) means[j] += data[i * width + j] / n;
  const squares = new Float64Array(width);
  for (let i = 0; i < n; i++) for (let j = 0; j < width; j++) squares[j] += (data[i * width + j] - means[j]) ** 2;
  const bad = squares.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new JepaError(`linear probe: feature ${bad} is not finite for some image`);
  const inverse = Float32Array.from(squares, (value, j) => {
    const std = Math.sqrt(value / (n - 1));
    // A constant feature has a deviation of nothing but rounding.
    return std > 1e-6 * Math.abs(means[j]) ? 1 / std : 1;
  });
  return { mean: Float32Array.from(means), inverse };
}

/** A linear classifier in principal axes. */
export interface Classifier {
  /** [classes, kept weights, then classes intercepts], one after the other. */
  readonly parameters: Float64Array;
  readonly penalty: number;
  readonly iterations: number;
  readonly converged: boolean;
}

export interface FitOptions {
  /** Where to begin: a solution for a similar penalty or for part of the data. Default: zero. */
  readonly start?: Float64Array;
  readonly tolerance?: number;
}

/** Fits and applies linear classifiers of a fixed width and number of classes. */
export interface LinearClassifiers {
  fit(x: Rows, labels: Int32Array, penalty: number, options?: FitOptions): Promise<Classifier>;
  predict(classifier: Classifier, x: Rows): Promise<Int32Array>;
  close(): Promise<void>;
}

/** Largest element of the gradient of the mean loss at which a fit is done: accuracy has long stopped changing. */
const TOLERANCE = 2e-4;
/** The same while penalties are compared. */
const ROUGH = 5e-4;
const MOST_ITERATIONS = 200;

/** Programs that fit and use linear classifiers on rows [n, features] along axes of these variances; to be closed. */
export async function linearClassifiers(
  engine: Engine,
  variances: Float64Array,
  classes: number,
): Promise<LinearClassifiers> {
  const width = variances.length;
  const rows = input('rows', ['batch', width]);
  const labels = input('labels', ['batch'], 'int32');
  const weights = input('weights', [classes, width]);
  const intercepts = input('intercepts', [classes]);
  const logits = linear(rows, weights, intercepts);
  // Sums over rows are made in double on the host: the search compares values that differ in the sixth digit.
  const losses = crossEntropy(logits, labels, { reduction: 'none' });
  const [weightGradient, interceptGradient] = gradients(sum(losses), [weights, intercepts]);
  if (!weightGradient || !interceptGradient) throw new Error('the loss does not depend on the weights');
  const state = await engine.createState([]);
  const objective = await engine.compile(
    { name: 'probe: objective', outputs: { losses, weightGradient, interceptGradient } },
    state,
  );
  const prediction = await engine.compile(
    { name: 'probe: prediction', outputs: { classes: argmax(logits, 1) } },
    state,
  );
  const feedsOf = (parameters: Float64Array) => ({
    weights: float32([classes, width], Float32Array.from(parameters.subarray(0, classes * width))),
    intercepts: float32([classes], Float32Array.from(parameters.subarray(classes * width))),
  });

  return {
    fit: async (x, y, penalty, { start = new Float64Array(classes * (width + 1)), tolerance = TOLERANCE } = {}) => {
      const n = x.shape[0];
      const evaluate = async (parameters: Float64Array) => {
        const feeds = feedsOf(parameters);
        const gradient = new Float64Array(parameters.length);
        let value = 0;
        for (const { from, chunk } of chunks(x)) {
          const part = int32([chunk.shape[0]], y.subarray(from, from + chunk.shape[0]));
          const { outputs } = await objective.run({ ...feeds, rows: chunk, labels: part });
          for (const loss of outputs.losses.data as Float32Array) value += loss / n;
          addScaled(gradient, 0, outputs.weightGradient.data as Float32Array, 1 / n);
          addScaled(gradient, classes * width, outputs.interceptGradient.data as Float32Array, 1 / n);
        }
        for (let i = 0; i < classes * width; i++) {
          value += (penalty / 2) * parameters[i] ** 2;
          gradient[i] += penalty * parameters[i];
        }
        return { value, gradient };
      };
      // Where every class has probability 1 / classes, this is the curvature along each axis, whatever the class.
      const spread = (classes - 1) / classes ** 2;
      const inverse = variances.map((variance) => 1 / (spread * variance + penalty));
      const { point, iterations, converged } = await minimiseAsync(evaluate, start, {
        tolerance,
        maxIterations: MOST_ITERATIONS,
        precondition: (vector) => {
          for (let i = 0; i < classes * width; i++) vector[i] *= inverse[i % width];
          for (let i = classes * width; i < vector.length; i++) vector[i] /= spread;
        },
      });
      return { parameters: point, penalty, iterations, converged };
    },
    predict: async ({ parameters }, x) => {
      const predicted = new Int32Array(x.shape[0]);
      const feeds = feedsOf(parameters);
      for (const { from, chunk } of chunks(x)) {
        predicted.set((await prediction.run({ ...feeds, rows: chunk })).outputs.classes.data as Int32Array, from);
      }
      return predicted;
    },
    close: async () => {
      await objective.close();
      await prediction.close();
    },
  };
}

function addScaled(to: Float64Array, at: number, from: Float32Array, factor: number): void {
  for (let i = 0; i < from.length; i++) to[at + i] += factor * from[i];
}

/** Penalties that may be tried; features are standardised and losses are means, so they need no unit. */
const PENALTIES = [1, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5];
const FIRST = PENALTIES.indexOf(1e-3);

export interface Sweep {
  /** The solution for the chosen penalty on the part that was not held out. */
  readonly classifier: Classifier;
  /** Its accuracy on the held-out part. */
  readonly accuracy: number;
  /** What was tried, in that order. */
  readonly tried: readonly { readonly penalty: number; readonly accuracy: number }[];
}

/** Rows that penalties are compared on at the most: a choice between factors of three needs no more of them. */
const SWEEP_ROWS = 16384;

/**
 * Chooses the penalty on a held-out part of the training images: from a middle one downwards, then upwards, each time as
 * long as accuracy rises. Each fit starts from the best before it.
 */
export async function sweepPenalty(
  classifiers: LinearClassifiers,
  train: Rows,
  labels: Int32Array,
  heldOut: Int32Array,
): Promise<Sweep> {
  const held = new Set(heldOut);
  const others = Int32Array.from(labels.keys()).filter((i) => !held.has(i));
  const every = Math.max(1, others.length / SWEEP_ROWS);
  const rest = others.filter((_, i) => i % every < 1);
  const [fitRows, checkRows] = [pick(train, rest), pick(train, heldOut)];
  const [fitLabels, checkLabels] = [rest.map((i) => labels[i]), heldOut.map((i) => labels[i])];
  const tried: { penalty: number; accuracy: number }[] = [];
  const attempt = async (at: number, start?: Float64Array) => {
    const classifier = await classifiers.fit(fitRows, fitLabels, PENALTIES[at], { start, tolerance: ROUGH });
    const result = { classifier, accuracy: accuracy(await classifiers.predict(classifier, checkRows), checkLabels) };
    tried.push({ penalty: PENALTIES[at], accuracy: result.accuracy });
    return result;
  };
  let best = await attempt(FIRST);
  for (const direction of [1, -1]) {
    for (let at = FIRST + direction; PENALTIES[at] !== undefined; at += direction) {
      const next = await attempt(at, best.classifier.parameters);
      if (next.accuracy <= best.accuracy) break;
      best = next;
    }
  }
  return { ...best, tried };
}

/** A linear probe: principal axes, a penalty chosen on held-out training images, and the fit on all of them. */
export interface LinearProbe {
  readonly train: Rows;
  readonly test: Rows;
  readonly variances: Float64Array;
  readonly classifiers: LinearClassifiers;
  readonly sweep: Sweep;
  /** Fits all training images with the chosen penalty. */
  scores(): Promise<{
    readonly predictions: Int32Array;
    readonly penalty: number;
    readonly heldOut: number;
    /** The classifier, for features as they were given. */
    readonly model: ReturnType<Axes['forFeatures']>;
  }>;
  close(): Promise<void>;
}

/**
 * A linear probe on training rows [n, features] with these labels of `count` classes: the penalty is chosen on the rows that
 * `held` names, the final fit sees all.
 */
export async function linearProbe(
  engine: Engine,
  trainRows: Rows,
  testRows: Rows,
  labels: Int32Array,
  held: Int32Array,
  count: number,
): Promise<LinearProbe> {
  const { train, test, variances, forFeatures } = await principalAxes(engine, trainRows, testRows);
  const classifiers = await linearClassifiers(engine, variances, count);
  const sweep = await sweepPenalty(classifiers, train, labels, held);
  return {
    train,
    test,
    variances,
    classifiers,
    sweep,
    scores: async () => {
      const { penalty, parameters } = sweep.classifier;
      const all = await classifiers.fit(train, labels, penalty, { start: parameters });
      const predictions = await classifiers.predict(all, test);
      return { predictions, penalty, heldOut: sweep.accuracy, model: forFeatures(all, count) };
    },
    close: () => classifiers.close(),
  };
}
