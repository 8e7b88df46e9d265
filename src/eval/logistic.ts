import { JepaError } from '../base/errors.js';
import { cholesky, choleskySolve, type Matrix, matrix, transpose } from '../base/linalg.js';
import { createProducts, type Panel, panelRows, panelSize } from '../base/products.js';
import { minimise } from './lbfgs.js';
import { type LinearModel, predictLinear } from './ridge.js';
import { columnMeans, columnStds, finiteRows, type Rows, type Samples } from './samples.js';

/**
 * Multinomial logistic regression, the linear probe without tricks. The objective is scikit-learn's: sum of cross entropies
 * + sum W^2 / (2 C), intercepts free. C multiplies the sum, not the mean: to keep a solution for another number of samples,
 * keep C n.
 */
export interface LogisticOptions {
  /** Inverse strength of the penalty. Default 1. */
  readonly C?: number;
  /** Divide every feature by its standard deviation first (constant features are left alone). Default true. */
  readonly standardise?: boolean;
  /** Stop when no element of the gradient of the mean loss is larger. Default 1e-5. */
  readonly tolerance?: number;
  readonly maxIterations?: number;
  /** Of the products. Default: double for small problems, single where an evaluation would take more than some 20 ms. */
  readonly precision?: 'float32' | 'float64';
}

/** Two classes: one row of weights and a sigmoid. More: one row a class and a softmax. For features as they were given. */
export interface LogisticModel extends LinearModel {
  readonly classes: number;
  /** Value of the objective (in the scaled features, where they were standardised). */
  readonly objective: number;
  readonly iterations: number;
  readonly converged: boolean;
}

/** Products (samples x width x classes) up to which double precision costs next to nothing. */
const SMALL = 5e7;
/** Samples whose logits are formed at a time: logits and features of a chunk stay in the second-level cache. */
const CHUNK = 512;

/** Fits x [n, d] to labels 0 .. classes - 1. */
export function fitLogistic(
  x: Samples,
  labels: ArrayLike<number>,
  classes: number,
  options: LogisticOptions = {},
): LogisticModel {
  const { C = 1, standardise = true, tolerance = 1e-5, maxIterations = 500 } = options;
  const samples = finiteRows('logistic regression', x);
  const { rows: n, columns: width } = samples;
  checkLabels(labels, n, classes);
  const outputs = classes === 2 ? 1 : classes;
  const precision = options.precision ?? (n * width * outputs <= SMALL ? 'float64' : 'float32');

  // Centring changes nothing (intercepts are free) but makes the problem far better conditioned.
  const shift = columnMeans(samples);
  const scale = standardise ? columnStds(samples).map((std) => (std > 0 ? std : 1)) : new Float64Array(width).fill(1);
  const { loss, gram } = crossEntropy(samples, labels, outputs, shift, scale, precision);
  const objective = (parameters: Float64Array, gradient: Float64Array): number => {
    let value = loss(parameters, gradient);
    for (let i = 0; i < outputs * width; i++) {
      value += parameters[i] ** 2 / (2 * C);
      gradient[i] += parameters[i] / C;
    }
    return value;
  };
  const found = minimise(objective, new Float64Array(outputs * (width + 1)), {
    tolerance: tolerance * n,
    maxIterations,
    precondition: inverseCurvature(gram, n, outputs, C),
  });

  const weights = matrix(outputs, width, found.point.subarray(0, outputs * width));
  const intercept = found.point.slice(outputs * width);
  for (let o = 0; o < outputs; o++) {
    for (let j = 0; j < width; j++) {
      weights.data[o * width + j] /= scale[j];
      intercept[o] -= weights.data[o * width + j] * shift[j];
    }
  }
  const { value, iterations, converged } = found;
  return { weights, intercept, classes, objective: value, iterations, converged };
}

/** Class probabilities [n, classes]. */
export function predictProbabilities(model: LogisticModel, x: Samples): Matrix {
  const logits = predictLinear(model, x);
  const probabilities = matrix(logits.rows, model.classes);
  for (let i = 0; i < logits.rows; i++) {
    const row = probabilities.data.subarray(i * model.classes, (i + 1) * model.classes);
    // Two classes: a sigmoid is the softmax of [0, logit].
    row.set(logits.data.subarray(i * logits.columns, (i + 1) * logits.columns), model.classes - logits.columns);
    softmax(row);
  }
  return probabilities;
}

/** The most probable class of each row; the first of equals. */
export function predictedClasses({ rows, columns, data }: Matrix): Int32Array {
  return Int32Array.from({ length: rows }, (_, i) => {
    const row = data.subarray(i * columns, (i + 1) * columns);
    return row.indexOf(row.reduce((best, value) => Math.max(best, value)));
  });
}

/** Share of the predicted classes that are right, 0 to 1. Throws a `JepaError` where the numbers differ. */
export function accuracy(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  if (predictions.length !== labels.length)
    throw new JepaError(`accuracy: ${predictions.length} predictions for ${labels.length} labels`);
  let correct = 0;
  for (let i = 0; i < labels.length; i++) if (predictions[i] === labels[i]) correct++;
  return correct / labels.length;
}

/** Turns logits into probabilities; returns the log of the sum of their exponentials. */
function softmax(row: Float32Array | Float64Array): number {
  let largest = row[0];
  for (let i = 1; i < row.length; i++) largest = Math.max(largest, row[i]);
  let sum = 0;
  for (let i = 0; i < row.length; i++) {
    row[i] = Math.exp(row[i] - largest);
    sum += row[i];
  }
  for (let i = 0; i < row.length; i++) row[i] /= sum;
  return largest + Math.log(sum);
}

/**
 * Sum of cross entropies and its gradient as a function of [outputs x width weights, outputs intercepts], for features
 * (x - shift) / scale. Sums over chunks are double whatever the precision of the products.
 */
function crossEntropy(
  { rows: n, columns: width, data }: Rows,
  labels: ArrayLike<number>,
  outputs: number,
  shift: Float64Array,
  scale: Float64Array,
  precision: 'float32' | 'float64',
): { loss: (parameters: Float64Array, gradient: Float64Array) => number; gram: Matrix } {
  const size = (rows: number, columns: number) => panelSize(precision, rows, columns);
  const elements =
    size(n, width) + size(width, outputs) + size(CHUNK, outputs) + size(outputs, width) + size(width, width);
  // The two element types have the same interface; only one is used.
  const memory = createProducts(precision as 'float32', elements);
  const inputs = memory.matrix(n, width);
  const weights = memory.matrix(width, outputs);
  const logits = memory.matrix(CHUNK, outputs);
  const slopes = memory.matrix(outputs, width);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < width; j++) inputs.data[i * inputs.stride + j] = (data[i * width + j] - shift[j]) / scale[j];
  }

  const products = memory.matrix(width, width);
  memory.accumulate(inputs, inputs, products, true);
  const gram = matrix(width, width);
  for (let i = 0; i < width; i++) {
    gram.data.set(products.data.subarray(i * products.stride, i * products.stride + width), i * width);
  }

  const loss = (parameters: Float64Array, gradient: Float64Array) => {
    const intercept = parameters.subarray(outputs * width);
    const interceptGradient = gradient.subarray(outputs * width);
    for (let o = 0; o < outputs; o++) {
      for (let j = 0; j < width; j++) weights.data[j * weights.stride + o] = parameters[o * width + j];
    }
    gradient.fill(0);
    let sum = 0;
    for (let from = 0; from < n; from += CHUNK) {
      const count = Math.min(CHUNK, n - from);
      const chunk = panelRows(inputs, from, count);
      const part = panelRows(logits, 0, count);
      for (let i = 0; i < count; i++) part.data.set(intercept, i * part.stride);
      memory.accumulate(chunk, weights, part);
      sum += outputs === 1 ? sigmoidErrors(part, labels, from) : softmaxErrors(part, labels, from);
      slopes.data.fill(0);
      memory.accumulate(part, chunk, slopes, true);
      for (let o = 0; o < outputs; o++) {
        for (let j = 0; j < width; j++) gradient[o * width + j] += slopes.data[o * slopes.stride + j];
        for (let i = 0; i < count; i++) interceptGradient[o] += part.data[i * part.stride + o];
      }
    }
    return sum;
  };
  return { loss, gram };
}

/**
 * The inverse of the Hessian at the start, where every class has probability 1 / classes, taken block by block: the same
 * matrix (classes - 1) / classes^2 XT X + I / C for the weights of every class. Features of encoders are strongly
 * correlated; with this in place of a multiple of the identity L-BFGS needs several times fewer iterations.
 */
function inverseCurvature(gram: Matrix, n: number, outputs: number, C: number): (vector: Float64Array) => void {
  const classes = Math.max(2, outputs);
  const curvature = (classes - 1) / classes ** 2;
  const width = gram.rows;
  const hessian = matrix(
    width,
    width,
    gram.data.map((value) => curvature * value),
  );
  // Products may be single precision: rounding must not make the matrix indefinite.
  let largest = 0;
  for (let i = 0; i < width; i++) largest = Math.max(largest, hessian.data[i * width + i]);
  for (let i = 0; i < width; i++) hessian.data[i * width + i] += 1 / C + 1e-5 * largest;
  const lower = cholesky(hessian);
  return (vector) => {
    const weights = matrix(outputs, width, vector.subarray(0, outputs * width));
    vector.set(transpose(choleskySolve(lower, transpose(weights))).data);
    for (let i = outputs * width; i < vector.length; i++) vector[i] /= curvature * n;
  };
}

type AnyPanel = Panel<Float32Array> | Panel<Float64Array>;

/** Replaces logits by probability - one-hot label; returns the sum of cross entropies. */
function softmaxErrors({ rows, columns, stride, data }: AnyPanel, labels: ArrayLike<number>, from: number): number {
  let loss = 0;
  for (let i = 0; i < rows; i++) {
    const label = labels[from + i];
    const row = data.subarray(i * stride, i * stride + columns);
    const logit = row[label];
    loss += softmax(row) - logit;
    row[label] -= 1;
  }
  return loss;
}

function sigmoidErrors({ rows, stride, data }: AnyPanel, labels: ArrayLike<number>, from: number): number {
  let loss = 0;
  for (let i = 0; i < rows; i++) {
    const label = labels[from + i];
    const logit = data[i * stride];
    const small = Math.exp(-Math.abs(logit));
    // log(1 + e^z) - y z without overflow.
    loss += Math.max(logit, 0) + Math.log1p(small) - label * logit;
    data[i * stride] = (logit >= 0 ? 1 : small) / (1 + small) - label;
  }
  return loss;
}

function checkLabels(labels: ArrayLike<number>, n: number, classes: number): void {
  if (labels.length !== n) throw new JepaError(`logistic regression: ${labels.length} labels for ${n} samples`);
  for (let i = 0; i < n; i++) {
    if (!(Number.isInteger(labels[i]) && labels[i] >= 0 && labels[i] < classes)) {
      throw new JepaError(
        `logistic regression: label ${i} is ${labels[i]}; labels are whole numbers from 0 to ${classes - 1}`,
      );
    }
  }
  if (classes < 2) throw new JepaError(`logistic regression: ${classes} class; it needs at least 2`);
}
