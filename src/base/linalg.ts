import { JepaError } from './errors.js';
import { createProducts, type Panel, panelBlock, panelSize } from './products.js';

/** Linear algebra of small dense matrices on the host, in double precision. */

/** Row-major [rows, columns]. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

export function matrix(rows: number, columns: number, data?: ArrayLike<number>): Matrix {
  if (data && data.length !== rows * columns) {
    throw new JepaError(`linear algebra: ${data.length} values do not fill [${rows}, ${columns}]`);
  }
  return { rows, columns, data: data ? new Float64Array(data) : new Float64Array(rows * columns) };
}

export function transpose({ rows, columns, data }: Matrix): Matrix {
  const out = new Float64Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j];
  return { rows: columns, columns: rows, data: out };
}

/** a b, or transpose(a) b. */
export function multiply(a: Matrix, b: Matrix, transposeA = false): Matrix {
  const rows = transposeA ? a.columns : a.rows;
  const shapes = [
    [a.rows, a.columns],
    [b.rows, b.columns],
    [rows, b.columns],
  ];
  const memory = createProducts(
    'float64',
    shapes.reduce((sum, [m, n]) => sum + panelSize('float64', m, n), 0),
  );
  const panels = shapes.map(([m, n]) => memory.matrix(m, n));
  for (const [panel, { data, columns }] of [
    [panels[0], a],
    [panels[1], b],
  ] as const) {
    for (let row = 0; row < panel.rows; row++) {
      panel.data.set(data.subarray(row * columns, (row + 1) * columns), row * panel.stride);
    }
  }
  const [left, right, product] = panels;
  memory.accumulate(left, right, product, transposeA);
  const out = matrix(rows, b.columns);
  for (let row = 0; row < rows; row++) {
    out.data.set(product.data.subarray(row * product.stride, row * product.stride + b.columns), row * b.columns);
  }
  return out;
}

// --- symmetric eigenvalues --------------------------------------------------------------------------------------------

export interface Eigen {
  /** Ascending. */
  readonly values: Float64Array;
  /** Row i is the unit eigenvector of values[i]. */
  readonly vectors: Matrix;
}

/** Eigenvalues (ascending) and eigenvectors of a symmetric matrix; reads its lower triangle. */
export function eigh(a: Matrix): Eigen {
  const { diagonal, beside, vectors } = tridiagonal(a, true);
  return sortedEigen(diagonal, beside, vectors);
}

/** Eigenvalues of a symmetric matrix, ascending; reads its lower triangle. */
export function eigvalsh(a: Matrix): Float64Array {
  const { diagonal, beside } = tridiagonal(a, false);
  implicitQl(diagonal, beside);
  return diagonal.sort();
}

function sortedEigen(diagonal: Float64Array, beside: Float64Array, vectors: Matrix): Eigen {
  implicitQl(diagonal, beside, vectors);
  const n = diagonal.length;
  const order = Array.from(diagonal.keys()).sort((i, j) => diagonal[i] - diagonal[j]);
  const sorted = matrix(n, n);
  order.forEach((from, to) => {
    sorted.data.set(vectors.data.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => diagonal[i]), vectors: sorted };
}

interface Tridiagonal {
  readonly diagonal: Float64Array;
  /** beside[i] couples i and i + 1; the last is 0. */
  readonly beside: Float64Array;
  /** Rows that turn the tridiagonal matrix back: a = transpose(vectors) T vectors. Empty unless asked for. */
  readonly vectors: Matrix;
}

/** Householder reduction to tridiagonal form (Golub and Van Loan, Matrix Computations, section 8.3.1). */
function tridiagonal(a: Matrix, wantVectors: boolean): Tridiagonal {
  const n = a.rows;
  if (a.columns !== n) throw new JepaError(`eigenvalues: a matrix of [${n}, ${a.columns}] is not square`);
  const s = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const value = a.data[i * n + j];
      if (!Number.isFinite(value)) throw new JepaError(`eigenvalues: element (${i}, ${j}) is ${value}`);
      s[i * n + j] = value;
      s[j * n + i] = value;
    }
  }
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  const reflectors: Float64Array[] = [];
  const product = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    diagonal[k] = s[k * n + k];
    const v = s.slice(k * n + k + 1, (k + 1) * n);
    if (v.length === 0) break;
    beside[k] = reflector(v);
    if (wantVectors) reflectors.push(v);
    // s <- H s H for the trailing block, with H = I - v vT: s - v wT - w vT, w = s v - (vT s v / 2) v.
    let half = 0;
    for (let i = 0; i < v.length; i++) {
      const row = (k + 1 + i) * n + k + 1;
      let sum = 0;
      for (let j = 0; j < v.length; j++) sum += s[row + j] * v[j];
      product[i] = sum;
      half += (sum * v[i]) / 2;
    }
    for (let i = 0; i < v.length; i++) product[i] -= half * v[i];
    for (let i = 0; i < v.length; i++) {
      const row = (k + 1 + i) * n + k + 1;
      const vi = v[i];
      const wi = product[i];
      for (let j = 0; j < v.length; j++) s[row + j] -= vi * product[j] + wi * v[j];
    }
  }
  if (!wantVectors) return { diagonal, beside, vectors: matrix(0, 0) };
  // Q = H0 H1 ..., built from the last reflector: each touches only its trailing block.
  const q = matrix(n, n);
  for (let i = 0; i < n; i++) q.data[i * n + i] = 1;
  for (let k = reflectors.length - 1; k >= 0; k--) reflectRows(q, k + 1, k + 1, reflectors[k]);
  return { diagonal, beside, vectors: transpose(q) };
}

/**
 * Turns x into v such that (I - v vT) x = [value, 0, ..., 0]; returns value. A zero x gives v = 0: no reflection.
 */
function reflector(x: Float64Array): number {
  let largest = 0;
  for (let i = 0; i < x.length; i++) largest = Math.max(largest, Math.abs(x[i]));
  if (largest === 0) return 0;
  // Scaled, so that squares neither overflow nor vanish.
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += (x[i] / largest) ** 2;
  const norm = largest * Math.sqrt(squares);
  const value = x[0] > 0 ? -norm : norm;
  x[0] -= value;
  // |v|^2 = 2 for the unscaled v = x - value e0: 2 norm (norm + |x0|), so divide by sqrt(norm (norm + |x0|)).
  const scale = 1 / (Math.sqrt(norm) * Math.sqrt(Math.abs(x[0])));
  for (let i = 0; i < x.length; i++) x[i] *= scale;
  return value;
}

/**
 * Applies I - v vT from the left to the block of `a` that starts at (row, column). Four rows at a time: the loops are
 * bound by reads and writes of `product`.
 */
function reflectRows(a: Matrix, row: number, column: number, v: Float64Array): void {
  const { columns, data } = a;
  const width = columns - column;
  const product = new Float64Array(width);
  const whole = v.length - (v.length % 4);
  for (let i = 0; i < v.length; i += i < whole ? 4 : 1) {
    const r0 = (row + i) * columns + column;
    const v0 = v[i];
    if (i < whole) {
      const [r1, r2, r3] = [r0 + columns, r0 + 2 * columns, r0 + 3 * columns];
      const [v1, v2, v3] = [v[i + 1], v[i + 2], v[i + 3]];
      for (let j = 0; j < width; j++) {
        product[j] += v0 * data[r0 + j] + v1 * data[r1 + j] + v2 * data[r2 + j] + v3 * data[r3 + j];
      }
    } else {
      for (let j = 0; j < width; j++) product[j] += v0 * data[r0 + j];
    }
  }
  for (let i = 0; i < v.length; i++) {
    const vi = v[i];
    const start = (row + i) * columns + column;
    for (let j = 0; j < width; j++) data[start + j] -= vi * product[j];
  }
}

/**
 * Eigenvalues of a symmetric tridiagonal matrix by QL steps with Wilkinson's shift (Golub and Van Loan, section 8.3.3,
 * from the other end). `diagonal` becomes the eigenvalues, `beside` zero; `vectors` (rows) are rotated along.
 */
function implicitQl(diagonal: Float64Array, beside: Float64Array, vectors?: Matrix): void {
  const n = diagonal.length;
  let norm = 0;
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(diagonal[i]) + Math.abs(beside[i]));
  const negligible = norm * Number.EPSILON;
  for (let first = 0; first < n; first++) {
    for (let round = 0; ; round++) {
      let last = first;
      while (last < n - 1 && Math.abs(beside[last]) > negligible) last++;
      if (last === first) break;
      if (round === 60)
        throw new JepaError('eigenvalues: no convergence after 60 rounds; the matrix is not finite or not symmetric');
      // Wilkinson's shift: the eigenvalue of the leading 2 x 2 block that is nearer to its first element.
      const ratio = (diagonal[first + 1] - diagonal[first]) / (2 * beside[first]);
      const root = Math.hypot(ratio, 1);
      const shift = diagonal[first] - beside[first] / (ratio + (ratio >= 0 ? root : -root));
      let cosine = 1;
      let sine = 1;
      let shifted = diagonal[last] - shift;
      let moved = 0;
      let i = last - 1;
      for (; i >= first; i--) {
        const bulge = sine * beside[i];
        const inner = cosine * beside[i];
        const length = Math.hypot(bulge, shifted);
        beside[i + 1] = length;
        if (length === 0) {
          // The matrix splits here by underflow: start again with the two parts.
          diagonal[i + 1] -= moved;
          beside[last] = 0;
          break;
        }
        sine = bulge / length;
        cosine = shifted / length;
        const corner = diagonal[i + 1] - moved;
        const turned = (diagonal[i] - corner) * sine + 2 * cosine * inner;
        moved = sine * turned;
        diagonal[i + 1] = corner + moved;
        shifted = cosine * turned - inner;
        if (vectors) rotateRows(vectors, i, cosine, sine);
      }
      if (i >= first) continue;
      diagonal[first] -= moved;
      beside[first] = shifted;
      beside[last] = 0;
    }
  }
}

/** Rotates rows i and i + 1. */
function rotateRows({ data, columns }: Matrix, i: number, cosine: number, sine: number): void {
  const upper = i * columns;
  const lower = upper + columns;
  for (let j = 0; j < columns; j++) {
    const above = data[upper + j];
    const below = data[lower + j];
    data[lower + j] = sine * above + cosine * below;
    data[upper + j] = cosine * above - sine * below;
  }
}

// --- singular values --------------------------------------------------------------------------------------------------

/**
 * Singular values, descending, with errors of about 1e-15 of the largest (those of the Gram matrix would lose everything
 * below 1e-8 of it). [2048, 192] takes some 60 ms.
 */
export function svdvals(x: Matrix): Float64Array {
  for (let i = 0; i < x.data.length; i++) {
    if (!Number.isFinite(x.data[i])) {
      throw new JepaError(`singular values: element ${i} of the matrix of [${x.rows}, ${x.columns}] is ${x.data[i]}`);
    }
  }
  const tall = x.rows >= x.columns ? x : transpose(x);
  const n = tall.columns;
  const { diagonal, beside } = bidiagonal(triangle(tall));
  // [[0, B], [BT, 0]] has eigenvalues +-s; reordered it is tridiagonal with zero diagonal and the elements of B beside it.
  const values = new Float64Array(2 * n);
  const couplings = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    couplings[2 * i] = diagonal[i];
    couplings[2 * i + 1] = beside[i];
  }
  implicitQl(values, couplings);
  return values
    .map(Math.abs)
    .sort()
    .reverse()
    .filter((_, i) => i % 2 === 0);
}

/** Columns that are reduced one by one before their reflections are applied to the rest as two products. */
const QR_BLOCK = 16;

/**
 * The triangular factor R of x = Q R [rows >= columns] by blocks of Householder reflections: the product of those of a
 * block is I - V T VT (Schreiber and Van Loan 1989).
 */
function triangle(x: Matrix): Matrix {
  const { rows, columns } = x;
  const sizes = [
    [rows, columns],
    [rows, QR_BLOCK],
    [QR_BLOCK, columns],
  ] as const;
  const memory = createProducts(
    'float64',
    sizes.reduce((sum, [m, n]) => sum + panelSize('float64', m, n), 0),
  );
  const [a, v, w] = sizes.map(([m, n]) => memory.matrix(m, n));
  for (let i = 0; i < rows; i++) a.data.set(x.data.subarray(i * columns, (i + 1) * columns), i * a.stride);
  const r = matrix(columns, columns);
  for (let k = 0; k < columns; k += QR_BLOCK) {
    const width = Math.min(QR_BLOCK, columns - k);
    const height = rows - k;
    const strip = matrix(height, width);
    for (let i = 0; i < height; i++) {
      const start = (k + i) * a.stride + k;
      strip.data.set(a.data.subarray(start, start + width), i * width);
    }
    const reflectors = reduceStrip(strip);
    for (let i = 0; i < width; i++)
      r.data.set(strip.data.subarray(i * width + i, (i + 1) * width), (k + i) * columns + k + i);
    if (k + width === columns) break;
    // The rest <- (I - V TT VT) rest.
    const vectors = { ...v, rows: height, columns: width };
    for (let j = 0; j < width; j++) {
      for (let i = 0; i < height; i++) v.data[i * v.stride + j] = i < j ? 0 : reflectors[j][i - j];
    }
    const rest = panelBlock(a, k, k + width);
    const inner = { ...w, rows: width, columns: rest.columns };
    w.data.fill(0);
    memory.accumulate(vectors, rest, inner, true);
    negativeTransposedProduct(blockTriangle(reflectors), inner);
    memory.accumulate(vectors, inner, rest);
    for (let i = 0; i < width; i++) {
      const start = i * a.stride;
      r.data.set(rest.data.subarray(start, start + rest.columns), (k + i) * columns + k + width);
    }
  }
  return r;
}

/** Householder QR of a few columns in place; reflector j acts on rows j and below. */
function reduceStrip(strip: Matrix): Float64Array[] {
  const { rows, columns, data } = strip;
  const reflectors: Float64Array[] = [];
  for (let j = 0; j < columns; j++) {
    const v = new Float64Array(rows - j);
    for (let i = j; i < rows; i++) v[i - j] = data[i * columns + j];
    const value = reflector(v);
    reflectRows(strip, j, j + 1, v);
    data[j * columns + j] = value;
    reflectors.push(v);
  }
  return reflectors;
}

/** The upper triangle T of I - V T VT = (I - v0 v0T) (I - v1 v1T) ... */
function blockTriangle(reflectors: readonly Float64Array[]): Matrix {
  const n = reflectors.length;
  const t = matrix(n, n);
  for (let j = 0; j < n; j++) {
    t.data[j * n + j] = 1;
    const overlaps = new Float64Array(j);
    for (let i = 0; i < j; i++) {
      const v = reflectors[i];
      for (let row = 0; row < reflectors[j].length; row++) overlaps[i] += v[row + j - i] * reflectors[j][row];
    }
    for (let i = 0; i < j; i++) {
      for (let l = i; l < j; l++) t.data[i * n + j] -= t.data[i * n + l] * overlaps[l];
    }
  }
  return t;
}

/** x <- - transpose(t) x for an upper triangular t. */
function negativeTransposedProduct(t: Matrix, x: Panel<Float64Array>): void {
  for (let i = t.rows - 1; i >= 0; i--) {
    for (let column = 0; column < x.columns; column++) {
      let sum = 0;
      for (let j = 0; j <= i; j++) sum += t.data[j * t.columns + i] * x.data[j * x.stride + column];
      x.data[i * x.stride + column] = -sum;
    }
  }
}

/** Golub-Kahan reduction of a square matrix to upper bidiagonal form; destroys it. */
function bidiagonal(a: Matrix): { diagonal: Float64Array; beside: Float64Array } {
  const { columns: n, data } = a;
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    const left = new Float64Array(n - k);
    for (let i = 0; i < left.length; i++) left[i] = data[(k + i) * n + k];
    diagonal[k] = reflector(left);
    reflectRows(a, k, k + 1, left);
    const right = data.slice(k * n + k + 1, (k + 1) * n);
    beside[k] = reflector(right);
    for (let row = k + 1; row < n; row++) {
      const start = row * n + k + 1;
      let sum = 0;
      for (let j = 0; j < right.length; j++) sum += data[start + j] * right[j];
      for (let j = 0; j < right.length; j++) data[start + j] -= sum * right[j];
    }
  }
  return { diagonal, beside };
}

// --- positive definite systems ----------------------------------------------------------------------------------------

/** Lower triangular L with a = L transpose(L); reads the lower triangle of a. Pivots that are only rounding are an error. */
export function cholesky(a: Matrix): Matrix {
  const n = a.rows;
  const lower = matrix(n, n);
  const l = lower.data;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a.data[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      if (i !== j) l[i * n + j] = sum / l[j * n + j];
      else if (sum > n * Number.EPSILON * a.data[i * n + i]) l[i * n + i] = Math.sqrt(sum);
      else throw new JepaError(`Cholesky: the matrix of [${n}, ${n}] is not positive definite (pivot ${i} is ${sum})`);
    }
  }
  return lower;
}

/** Solves L y = b for each column of b [n, columns]. */
export function forwardSubstitute(lower: Matrix, b: Matrix): Matrix {
  const x = matrix(b.rows, b.columns, b.data);
  for (let i = 0; i < x.rows; i++) {
    for (let k = 0; k < i; k++) subtractRow(x, i, k, lower.data[i * x.rows + k]);
    divideRow(x, i, lower.data[i * x.rows + i]);
  }
  return x;
}

/** Solves L transpose(L) x = b for each column of b [n, columns]. */
export function choleskySolve(lower: Matrix, b: Matrix): Matrix {
  const x = forwardSubstitute(lower, b);
  for (let i = x.rows - 1; i >= 0; i--) {
    for (let k = i + 1; k < x.rows; k++) subtractRow(x, i, k, lower.data[k * x.rows + i]);
    divideRow(x, i, lower.data[i * x.rows + i]);
  }
  return x;
}

/** row i -= factor x row k. */
function subtractRow({ data, columns }: Matrix, i: number, k: number, factor: number): void {
  for (let j = 0; j < columns; j++) data[i * columns + j] -= factor * data[k * columns + j];
}

function divideRow({ data, columns }: Matrix, i: number, by: number): void {
  for (let j = 0; j < columns; j++) data[i * columns + j] /= by;
}
