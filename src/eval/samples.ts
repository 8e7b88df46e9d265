import { JepaError } from '../base/errors.js';
import { type Matrix, matrix } from '../base/linalg.js';

/** Values with a shape, first axis = samples; host tensors fit. Measurements convert them to double. */
export interface Samples {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** Samples [n, d] in double. `what` names the measurement in errors. */
export function features(what: string, x: Samples): Matrix {
  if (x.shape.length !== 2)
    throw new JepaError(`${what}: features must be [samples, width], not [${x.shape.join(', ')}]`);
  const [rows, columns] = x.shape;
  const result = matrix(rows, columns, x.data);
  const bad = result.data.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new JepaError(
      `${what}: sample ${Math.floor(bad / columns)} holds ${result.data[bad]}; features must be finite`,
    );
  return result;
}

/** The mean of each column. */
export function columnMeans({ rows, columns, data }: Matrix): Float64Array {
  const means = new Float64Array(columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) means[j] += data[i * columns + j];
  return means.map((sum) => sum / rows);
}

/** x minus its column means. */
export function centred(x: Matrix): Matrix {
  const means = columnMeans(x);
  return { ...x, data: x.data.map((value, i) => value - means[i % x.columns]) };
}

/** Every row divided by its norm; zero rows stay zero. */
export function normalisedRows(x: Matrix): Matrix {
  const { rows, columns, data } = x;
  const out = matrix(rows, columns, data);
  for (let i = 0; i < rows; i++) {
    const row = out.data.subarray(i * columns, (i + 1) * columns);
    let squares = 0;
    for (const value of row) squares += value * value;
    if (squares === 0) continue;
    const norm = Math.sqrt(squares);
    for (let j = 0; j < columns; j++) row[j] /= norm;
  }
  return out;
}

/** Standard deviation of each column, divisor n - 1. */
export function columnStds(x: Matrix): Float64Array {
  const squares = new Float64Array(x.columns);
  const { data } = centred(x);
  for (let i = 0; i < data.length; i++) squares[i % x.columns] += data[i] * data[i];
  return squares.map((sum) => Math.sqrt(sum / (x.rows - 1)));
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** Variance with divisor n - 1. */
export function variance(values: ArrayLike<number>): number {
  const centre = mean(values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] - centre) ** 2;
  return sum / (values.length - 1);
}
