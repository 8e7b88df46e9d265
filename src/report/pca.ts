import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';

export interface Projection {
  /** [rows, components]: the centred data along each component, in order of falling variance. */
  readonly scores: Float64Array;
  /** Variance (division by rows) along each component. */
  readonly variances: Float64Array;
}

const OVERSAMPLE = 8;
const ROUNDS = 7;

/**
 * The first `components` principal components of data [rows, width], by subspace iteration with a Rayleigh-Ritz step
 * (Halko, Martinsson and Tropp 2011, algorithm 4.4 and 5.3). The sign of each component is fixed so that its largest score
 * is positive: equal data give equal results.
 */
export function principalComponents(
  data: ArrayLike<number>,
  rows: number,
  width: number,
  components: number,
): Projection {
  if (data.length !== rows * width) {
    throw new JepaError(`principal components: ${data.length} values do not fill [${rows}, ${width}]`);
  }
  if (components > width) {
    throw new JepaError(
      `principal components: ${components} asked of data of width ${width}; ask for at most ${width}`,
    );
  }
  const centred = centre(data, rows, width);
  const size = Math.min(width, components + OVERSAMPLE);
  // Rounds run on the covariance, unless the data are so wide that forming it costs more than all rounds on the data.
  const gram = width < 2 * ROUNDS * size ? transposedTimes(centred, centred, rows, width, width) : undefined;
  let basis = orthonormal(start(width, size), width, size);
  for (let round = 0; round < ROUNDS && size < width; round++) {
    const image = gram
      ? times(gram, basis, width, width, size)
      : transposedTimes(centred, times(centred, basis, rows, width, size), rows, width, size);
    basis = orthonormal(image, width, size);
  }
  const scores = times(centred, basis, rows, width, size);
  const covariance = transposedTimes(scores, scores, rows, size, size);
  for (let i = 0; i < covariance.length; i++) covariance[i] /= Math.max(1, rows);
  const { values, vectors } = symmetricEigen(covariance, size);
  const rotated = times(scores, vectors, rows, size, size);
  const out = new Float64Array(rows * components);
  for (let k = 0; k < components; k++) {
    let largest = 0;
    for (let i = 0; i < rows; i++) {
      const value = rotated[i * size + k];
      if (Math.abs(value) > Math.abs(largest)) largest = value;
    }
    const sign = largest < 0 ? -1 : 1;
    for (let i = 0; i < rows; i++) out[i * components + k] = sign * rotated[i * size + k];
  }
  return { scores: out, variances: values.slice(0, components) };
}

function centre(data: ArrayLike<number>, rows: number, width: number): Float64Array {
  const mean = new Float64Array(width);
  for (let i = 0; i < rows; i++) for (let j = 0; j < width; j++) mean[j] += data[i * width + j] / rows;
  const out = new Float64Array(rows * width);
  for (let i = 0; i < rows; i++) for (let j = 0; j < width; j++) out[i * width + j] = data[i * width + j] - mean[j];
  return out;
}

/** A fixed matrix in general position. */
function start(rows: number, columns: number): Float64Array {
  const random = createRandom(0, 'principal components');
  return Float64Array.from({ length: rows * columns }, () => random.normal());
}

/** a [rows, inner] times b [inner, columns]. */
function times(a: Float64Array, b: Float64Array, rows: number, inner: number, columns: number): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const to = i * columns;
    for (let k = 0; k < inner; k++) {
      const factor = a[i * inner + k];
      const from = k * columns;
      for (let j = 0; j < columns; j++) out[to + j] += factor * b[from + j];
    }
  }
  return out;
}

/** The transpose of a [rows, width] times b [rows, columns]. */
function transposedTimes(a: Float64Array, b: Float64Array, rows: number, width: number, columns: number): Float64Array {
  const out = new Float64Array(width * columns);
  for (let i = 0; i < rows; i++) {
    const from = i * columns;
    for (let k = 0; k < width; k++) {
      const factor = a[i * width + k];
      const to = k * columns;
      for (let j = 0; j < columns; j++) out[to + j] += factor * b[from + j];
    }
  }
  return out;
}

/** Orthonormal columns spanning those of a [rows, columns] (modified Gram-Schmidt, twice); dependent ones become zero. */
function orthonormal(a: Float64Array, rows: number, columns: number): Float64Array {
  for (let j = 0; j < columns; j++) {
    const before = columnDot(a, j, j, rows, columns);
    for (let pass = 0; pass < 2; pass++) {
      for (let k = 0; k < j; k++) {
        const along = columnDot(a, k, j, rows, columns);
        for (let i = 0; i < rows; i++) a[i * columns + j] -= along * a[i * columns + k];
      }
    }
    const left = columnDot(a, j, j, rows, columns);
    const scale = left > before * 1e-20 && left > 1e-300 ? 1 / Math.sqrt(left) : 0;
    for (let i = 0; i < rows; i++) a[i * columns + j] *= scale;
  }
  return a;
}

function columnDot(a: Float64Array, j: number, k: number, rows: number, columns: number): number {
  let sum = 0;
  for (let i = 0; i < rows; i++) sum += a[i * columns + j] * a[i * columns + k];
  return sum;
}

/**
 * Eigenvalues, largest first, and eigenvectors (as columns) of a symmetric matrix [size, size], by cyclic Jacobi
 * rotations (Golub and Van Loan, section 8.5). The matrix is overwritten.
 */
export function symmetricEigen(a: Float64Array, size: number): { values: Float64Array; vectors: Float64Array } {
  const vectors = new Float64Array(size * size);
  for (let i = 0; i < size; i++) vectors[i * size + i] = 1;
  for (let sweep = 0; sweep < 50; sweep++) {
    let off = 0;
    let all = 0;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const square = a[i * size + j] ** 2;
        all += square;
        if (i !== j) off += square;
      }
    }
    if (off <= all * 1e-28) break;
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) rotate(a, vectors, size, p, q);
  }
  const order = Array.from({ length: size }, (_, i) => i).sort((i, j) => a[j * size + j] - a[i * size + i] || i - j);
  const sorted = new Float64Array(size * size);
  order.forEach((from, to) => {
    for (let i = 0; i < size; i++) sorted[i * size + to] = vectors[i * size + from];
  });
  return { values: Float64Array.from(order, (i) => a[i * size + i]), vectors: sorted };
}

/** One Jacobi rotation: makes a[p, q] zero. */
function rotate(a: Float64Array, vectors: Float64Array, size: number, p: number, q: number): void {
  const apq = a[p * size + q];
  if (apq === 0) return;
  const tau = (a[q * size + q] - a[p * size + p]) / (2 * apq);
  const tangent = (tau < 0 ? -1 : 1) / (Math.abs(tau) + Math.sqrt(1 + tau * tau));
  const cos = 1 / Math.sqrt(1 + tangent * tangent);
  const sin = tangent * cos;
  for (let k = 0; k < size; k++) {
    const kp = a[k * size + p];
    const kq = a[k * size + q];
    a[k * size + p] = cos * kp - sin * kq;
    a[k * size + q] = sin * kp + cos * kq;
  }
  for (let k = 0; k < size; k++) {
    const pk = a[p * size + k];
    const qk = a[q * size + k];
    a[p * size + k] = cos * pk - sin * qk;
    a[q * size + k] = sin * pk + cos * qk;
    const vp = vectors[k * size + p];
    const vq = vectors[k * size + q];
    vectors[k * size + p] = cos * vp - sin * vq;
    vectors[k * size + q] = sin * vp + cos * vq;
  }
}
