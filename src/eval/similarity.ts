import { JepaError } from '../base/errors.js';
import { eigh, type Matrix, matrix, multiply, svdvals, transpose } from '../base/linalg.js';
import { centred, columnMeans, features, type Samples } from './samples.js';

/** How alike two representations are: CKA (same samples, any widths) and the Frechet distance (same width). */

function frobenius({ data }: Matrix): number {
  let squares = 0;
  for (const value of data) squares += value * value;
  return Math.sqrt(squares);
}

function paired(what: string, x: Samples, y: Samples): [Matrix, Matrix] {
  const pair: [Matrix, Matrix] = [features(what, x), features(what, y)];
  if (pair[0].rows !== pair[1].rows) {
    throw new JepaError(
      `${what}: ${pair[0].rows} and ${pair[1].rows} samples; both must hold the same samples in the same order`,
    );
  }
  return pair;
}

/** Linear CKA (Kornblith et al., ICML 2019): |YT X|^2 / (|XT X| |YT Y|) of centred columns, Frobenius norms. Biased for few samples. */
export function linearCka(x: Samples, y: Samples): number {
  const [a, b] = paired('CKA', x, y).map(centred);
  return frobenius(multiply(b, a, true)) ** 2 / (frobenius(multiply(a, a, true)) * frobenius(multiply(b, b, true)));
}

/** The unbiased estimator HSIC_1 with linear kernels (Song et al., JMLR 2012, equation 5). */
export function unbiasedHsic(x: Samples, y: Samples): number {
  const [a, b] = paired('HSIC', x, y);
  const n = a.rows;
  if (n < 4) throw new JepaError(`HSIC: the unbiased estimate needs at least 4 samples, not ${n}`);
  const [k, l] = [a, b].map((samples) => multiply(samples, transpose(samples)).data);
  let trace = 0;
  let cross = 0;
  let [totalK, totalL] = [0, 0];
  for (let i = 0; i < n; i++) {
    let [rowK, rowL] = [0, 0];
    for (let j = 0; j < n; j++) {
      // Diagonals count as zero.
      if (i === j) continue;
      trace += k[i * n + j] * l[i * n + j];
      rowK += k[i * n + j];
      rowL += l[i * n + j];
    }
    cross += rowK * rowL;
    totalK += rowK;
    totalL += rowL;
  }
  return (trace + (totalK * totalL) / ((n - 1) * (n - 2)) - (2 / (n - 2)) * cross) / (n * (n - 3));
}

/** CKA from unbiased HSIC: no upward bias for few samples and wide features. */
export function unbiasedCka(x: Samples, y: Samples): number {
  return minibatchCka([[x, y]]);
}

/** CKA of many batches (Nguyen et al., ICLR 2021): every HSIC_1 is averaged over the batches before the ratio. */
export function minibatchCka(batches: readonly (readonly [Samples, Samples])[]): number {
  let [xy, xx, yy] = [0, 0, 0];
  for (const [x, y] of batches) {
    xy += unbiasedHsic(x, y);
    xx += unbiasedHsic(x, x);
    yy += unbiasedHsic(y, y);
  }
  return xy / Math.sqrt(xx * yy);
}

/** Frechet distance of the normal distributions fitted to x and y: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), unbiased covariances. */
export function frechetDistance(x: Samples, y: Samples): number {
  const [a, b] = [x, y].map((samples) => features('Frechet distance', samples));
  if (a.columns !== b.columns) throw new JepaError(`Frechet distance: features of width ${a.columns} and ${b.columns}`);
  if (a.rows < 2 || b.rows < 2) throw new JepaError('Frechet distance: each side needs at least two samples');
  const [meanA, meanB] = [columnMeans(a), columnMeans(b)];
  let distance = 0;
  for (let i = 0; i < a.columns; i++) distance += (meanA[i] - meanB[i]) ** 2;
  const [rootA, rootB] = [covarianceRoot(a), covarianceRoot(b)];
  // tr (C1 C2)^1/2 is the sum of the singular values of C1^1/2 C2^1/2; tr C is the squared norm of its root.
  const common = svdvals(multiply(rootA, rootB)).reduce((sum, s) => sum + s, 0);
  return distance + frobenius(rootA) ** 2 + frobenius(rootB) ** 2 - 2 * common;
}

/** The symmetric square root of the covariance. */
function covarianceRoot(x: Matrix): Matrix {
  const deviations = centred(x);
  const { values, vectors } = eigh(multiply(deviations, deviations, true));
  const n = values.length;
  const scaled = matrix(
    n,
    n,
    vectors.data.map((value, i) => value * Math.sqrt(Math.max(0, values[Math.floor(i / n)]) / (x.rows - 1))),
  );
  return multiply(vectors, scaled, true);
}
