import { JepaError } from '../base/errors.js';
import { cholesky, forwardSubstitute, type Matrix, matrix, svdvals, transpose } from '../base/linalg.js';
import { centred, columnMeans, features, type Samples } from './samples.js';

/** Measures of how many directions features use: singular values, spectra of covariances, LiDAR. All in double. */

/** exp of the entropy of p; terms with p = 0 count as 0. */
function perplexity(p: ArrayLike<number>): number {
  let entropy = 0;
  for (let i = 0; i < p.length; i++) if (p[i] > 0) entropy -= p[i] * Math.log(p[i]);
  return Math.exp(entropy);
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}

export interface RankMe {
  /** Between 1 and min(samples, width). */
  readonly value: number;
  /** Descending. */
  readonly singularValues: Float64Array;
}

/**
 * RankMe (Garrido et al., ICML 2023, equation 1): exp of the entropy of the singular values of features [n, d] divided by
 * their sum, plus eps. The paper does not centre.
 */
export function rankme(x: Samples, { eps = 1e-7, centre = false } = {}): RankMe {
  const samples = features('RankMe', x);
  const singularValues = svdvals(centre ? centred(samples) : samples);
  const total = sum(singularValues);
  if (total === 0) return { value: 1, singularValues };
  return { value: perplexity(singularValues.map((s) => s / total + eps)), singularValues };
}

export interface Spectrum {
  /** Of the covariance (divisor n - 1), descending; as many as features. */
  readonly eigenvalues: Float64Array;
  /** (sum l)^2 / sum l^2. */
  readonly participationRatio: number;
  /** exp of the entropy of l / sum l (Roy and Vetterli 2007). */
  readonly effectiveRank: number;
  /** sum l / max l. */
  readonly stableRank: number;
}

/** Ranks by the spectrum of the covariance of samples [n, features], in double. */
export function spectrum(x: Samples): Spectrum {
  const eigenvalues = covarianceEigenvalues(features('spectrum', x));
  const total = sum(eigenvalues);
  return {
    eigenvalues,
    participationRatio: total ** 2 / sum(eigenvalues.map((l) => l * l)),
    effectiveRank: perplexity(eigenvalues.map((l) => l / total)),
    stableRank: total / eigenvalues[0],
  };
}

/** Descending. From singular values of the centred features: small ones keep their digits, as logarithms of them need. */
function covarianceEigenvalues(x: Matrix): Float64Array {
  if (x.rows < 2) throw new JepaError('spectrum: a covariance needs at least two samples');
  const eigenvalues = new Float64Array(x.columns);
  svdvals(centred(x)).forEach((s, i) => {
    eigenvalues[i] = (s * s) / (x.rows - 1);
  });
  return eigenvalues;
}

export interface AlphaReq {
  /** Exponent of the power law l_k ~ k^-alpha; around 1 for good representations. */
  readonly alpha: number;
  readonly intercept: number;
  /** Share of the (weighted) variance of log l that the law explains. */
  readonly weightedR2: number;
  /** The slope of ordinary least squares, for comparison. */
  readonly unweightedSlope: number;
}

/**
 * alpha-ReQ (Agrawal et al., NeurIPS 2022): decay of the eigenspectrum. Least squares of log l_k on -log k with weights
 * 1 / k over the 0-based indices firstIndex .. endIndex - 1, where k = index + 1.
 */
export function alphaReq(x: Samples, { firstIndex = 10, endIndex = 100 } = {}): AlphaReq {
  const eigenvalues = covarianceEigenvalues(features('alpha-ReQ', x));
  const ks = Array.from({ length: Math.max(0, endIndex - firstIndex) }, (_, i) => firstIndex + i + 1);
  if (ks.length < 2 || !(eigenvalues[endIndex - 1] > 0)) {
    throw new JepaError(
      `alpha-ReQ: the fit over eigenvalues ${firstIndex} to ${endIndex - 1} needs that many positive ones; ` +
        `features of [${x.shape.join(', ')}] do not have them, choose a lower endIndex`,
    );
  }
  const logs = ks.map((k) => Math.log(eigenvalues[k - 1]));
  const position = ks.map((k) => -Math.log(k));
  const weighted = lineFit(
    position,
    logs,
    ks.map((k) => 1 / k),
  );
  return {
    alpha: weighted.slope,
    intercept: weighted.intercept,
    weightedR2: weighted.r2,
    unweightedSlope: lineFit(
      position,
      logs,
      ks.map(() => 1),
    ).slope,
  };
}

function lineFit(x: readonly number[], y: readonly number[], weights: readonly number[]) {
  const total = sum(weights);
  const meanX = sum(x.map((value, i) => weights[i] * value)) / total;
  const meanY = sum(y.map((value, i) => weights[i] * value)) / total;
  const xx = sum(x.map((value, i) => weights[i] * (value - meanX) ** 2));
  const xy = sum(x.map((value, i) => weights[i] * (value - meanX) * (y[i] - meanY)));
  const yy = sum(y.map((value, i) => weights[i] * (value - meanY) ** 2));
  const slope = xy / xx;
  return { slope, intercept: meanY - slope * meanX, r2: (slope * xy) / yy };
}

export interface Lidar {
  /** Between 1 and min(objects - 1, width). */
  readonly value: number;
  /** Of the within-object whitened between-object covariance, descending. */
  readonly eigenvalues: Float64Array;
}

/**
 * LiDAR (Thilak et al., ICLR 2024): rank of what tells objects apart, relative to the scatter of the views of one object.
 * x is [objects, views, width]; delta regularises the within-object covariance.
 */
export function lidar(x: Samples, { delta = 1e-4, eps = 1e-8 } = {}): Lidar {
  if (x.shape.length !== 3)
    throw new JepaError(`LiDAR: features must be [objects, views, width], not [${x.shape.join(', ')}]`);
  const [objects, views, width] = x.shape;
  if (objects < 2 || views < 2)
    throw new JepaError(`LiDAR: ${objects} objects with ${views} views; it needs at least two of each`);
  const means = matrix(objects, width);
  const within = matrix(width, width);
  for (let object = 0; object < objects; object++) {
    const block = matrix(
      views,
      width,
      Array.prototype.slice.call(x.data, object * views * width, (object + 1) * views * width),
    );
    means.data.set(columnMeans(block), object * width);
    addGram(within, centred(block), 1 / (objects * (views - 1)));
  }
  for (let i = 0; i < width; i++) within.data[i * width + i] += delta;
  // Eigenvalues of Sw^-1/2 Sb Sw^-1/2 are the squared singular values of L^-1 times the centred means, Sw = L LT.
  const whitened = forwardSubstitute(cholesky(within), transpose(centred(means)));
  const eigenvalues = new Float64Array(width);
  svdvals(whitened).forEach((s, i) => {
    eigenvalues[i] = (s * s) / (objects - 1);
  });
  const total = sum(eigenvalues) + width * eps;
  return { value: perplexity(eigenvalues.map((l) => (l + eps) / total)), eigenvalues };
}

/** a += scale x transpose(x) x. */
function addGram(a: Matrix, x: Matrix, scale: number): void {
  for (let row = 0; row < x.rows; row++) {
    for (let i = 0; i < x.columns; i++) {
      const factor = scale * x.data[row * x.columns + i];
      for (let j = 0; j < x.columns; j++) a.data[i * x.columns + j] += factor * x.data[row * x.columns + j];
    }
  }
}
