import { JepaError } from '../base/errors.js';
import { cholesky, choleskySolve, type Matrix, matrix, multiply, transpose } from '../base/linalg.js';
import { centred, columnMeans, features, type Samples } from './samples.js';

/** A linear map y = x WT + b. */
export interface LinearModel {
  /** [outputs, width]. */
  readonly weights: Matrix;
  readonly intercept: Float64Array;
}

/**
 * Ridge regression: minimises the sum over rows of squared errors + penalty x |W|^2; the intercept is free. Penalty 0 is
 * least squares. x [n, d], y [n, outputs]. The penalty stands against the sum, not the mean, of the rows.
 */
export function fitRidge(x: Samples, y: Samples, penalty: number): LinearModel {
  const [inputs, outputs] = [features('ridge regression', x), features('ridge regression', y)];
  if (inputs.rows !== outputs.rows)
    throw new JepaError(`ridge regression: ${inputs.rows} inputs for ${outputs.rows} targets`);
  const [a, b] = [centred(inputs), centred(outputs)];
  const gram = multiply(a, a, true);
  for (let i = 0; i < gram.rows; i++) gram.data[i * gram.rows + i] += penalty;
  let lower: Matrix;
  try {
    lower = cholesky(gram);
  } catch {
    throw new JepaError(
      `ridge regression: the ${inputs.columns} features of ${inputs.rows} samples depend on each other; use a penalty above ${penalty}`,
    );
  }
  const weights = transpose(choleskySolve(lower, multiply(a, b, true)));
  const shift = columnMeans(inputs);
  const intercept = columnMeans(outputs);
  for (let o = 0; o < weights.rows; o++) {
    for (let j = 0; j < weights.columns; j++) intercept[o] -= weights.data[o * weights.columns + j] * shift[j];
  }
  return { weights, intercept };
}

/** Predictions [n, outputs]. */
export function predictLinear({ weights, intercept }: LinearModel, x: Samples): Matrix {
  const product = multiply(features('prediction', x), transpose(weights));
  return matrix(
    product.rows,
    product.columns,
    product.data.map((value, i) => value + intercept[i % intercept.length]),
  );
}

export interface RegressionScores {
  /**
   * 1 - squared errors / squared deviations from the mean, for each output, and the mean of those. An output that is the same in all
   * samples has none (NaN) and is left out of the mean.
   */
  readonly r2PerOutput: Float64Array;
  readonly r2: number;
  /** Root of the mean squared error over all entries. */
  readonly rmse: number;
}

/** Spread of an output over its size below which it is rounding. */
const ROUNDING = 1e-20;

/** How well predictions [n, outputs] agree with the numbers of samples of the same shape. */
export function regressionScores(predictions: Matrix, y: Samples): RegressionScores {
  const targets = features('regression', y);
  const { rows, columns } = targets;
  if (rows !== predictions.rows || columns !== predictions.columns) {
    throw new JepaError(
      `regression: predictions [${predictions.rows}, ${predictions.columns}] for targets [${rows}, ${columns}]`,
    );
  }
  const deviations = centred(targets).data;
  const [errors, spreads, sizes] = [0, 1, 2].map(() => new Float64Array(columns));
  for (let i = 0; i < targets.data.length; i++) {
    errors[i % columns] += (targets.data[i] - predictions.data[i]) ** 2;
    spreads[i % columns] += deviations[i] ** 2;
    sizes[i % columns] += targets.data[i] ** 2;
  }
  const r2PerOutput = errors.map((error, o) =>
    spreads[o] > ROUNDING * sizes[o] ? 1 - error / spreads[o] : Number.NaN,
  );
  const told = r2PerOutput.filter((value) => !Number.isNaN(value));
  return {
    r2PerOutput,
    r2: told.reduce((sum, value) => sum + value, 0) / told.length,
    rmse: Math.sqrt(errors.reduce((sum, value) => sum + value, 0) / targets.data.length),
  };
}
