import { JepaError } from '../base/errors.js';
import { type Matrix, matrix } from '../base/linalg.js';

/** Values with a shape, first axis = samples; host tensors fit. Measurements convert them to double. */
export interface Samples {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** Samples [n, d] as they are: no copy, any type of number. A `Matrix` is one. */
export interface Rows {
  readonly rows: number;
  readonly columns: number;
  readonly data: ArrayLike<number>;
}

/** Checks that x is [n, d] and finite. `what` names the measurement in errors. */
export function finiteRows(what: string, x: Samples): Rows {
  if (x.shape.length !== 2) {
    throw new JepaError(`${what}: features must be [samples, width], not [${x.shape.join(', ')}]`);
  }
  const [rows, columns] = x.shape;
  const { data } = x;
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i])) {
      throw new JepaError(`${what}: sample ${Math.floor(i / columns)} holds ${data[i]}; features must be finite`);
    }
  }
  return { rows, columns, data };
}

/** Samples [n, d] in double, checked. */
export function features(what: string, x: Samples): Matrix {
  const { rows, columns, data } = finiteRows(what, x);
  return matrix(rows, columns, data);
}

/** The mean of each column. */
export function columnMeans({ rows, columns, data }: Rows): Float64Array {
  const means = new Float64Array(columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) means[j] += data[i * columns + j];
  return means.map((sum) => sum / rows);
}

/** x minus its column means. */
export function centred(x: Matrix): Matrix {
  const means = columnMeans(x);
  const out = matrix(x.rows, x.columns, x.data);
  for (let i = 0; i < x.rows; i++) for (let j = 0; j < x.columns; j++) out.data[i * x.columns + j] -= means[j];
  return out;
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
export function columnStds(x: Rows): Float64Array {
  const { rows, columns, data } = x;
  const means = columnMeans(x);
  const squares = new Float64Array(columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) squares[j] += (data[i * columns + j] - means[j]) ** 2;
  return squares.map((sum) => Math.sqrt(sum / (rows - 1)));
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
