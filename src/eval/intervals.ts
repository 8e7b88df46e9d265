import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { mean, variance } from './samples.js';

/** Uncertainty of measured numbers: bootstrap, Wilson's interval of a share, Welch's test. */

export type Interval = readonly [low: number, high: number];

/** Quantile q of values: at position q (n - 1) of the order statistics, linear in between. */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  const position = q * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}

/** `resamples` lists of n indices drawn with replacement: [resamples, n]. */
export function bootstrapIndices(random: Random, n: number, resamples: number): Int32Array {
  return Int32Array.from({ length: n * resamples }, () => random.integer(n));
}

export interface Bootstrap {
  /** Percentile interval of the statistic over the resamples. */
  readonly interval: Interval;
  /** Standard deviation of the statistic over the resamples (divisor one less). */
  readonly standardError: number;
}

/** Percentile bootstrap (Efron 1979). `indices` [resamples, n] are passed to the statistic one resample at a time. */
export function bootstrap(
  indices: Int32Array,
  n: number,
  statistic: (resample: Int32Array) => number,
  level = 0.95,
): Bootstrap {
  if (indices.length % n !== 0 || indices.length < 2 * n) {
    throw new JepaError(`bootstrap: ${indices.length} indices are not two or more resamples of ${n}`);
  }
  const values = Float64Array.from({ length: indices.length / n }, (_, b) =>
    statistic(indices.subarray(b * n, (b + 1) * n)),
  );
  return {
    interval: [quantile(values, (1 - level) / 2), quantile(values, (1 + level) / 2)],
    standardError: Math.sqrt(variance(values)),
  };
}

/** Wilson's score interval (1927) for a share of successes / trials, clipped to [0, 1]. */
export function wilson(successes: number, trials: number, level = 0.95): Interval {
  if (!(trials > 0 && successes >= 0 && successes <= trials))
    throw new JepaError(`Wilson interval: ${successes} of ${trials} is no share`);
  const z = normalQuantile((1 + level) / 2);
  const p = successes / trials;
  const scale = 1 + (z * z) / trials;
  const centre = (p + (z * z) / (2 * trials)) / scale;
  const half = (z / scale) * Math.sqrt((p * (1 - p)) / trials + (z * z) / (4 * trials * trials));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

export interface WelchTest {
  readonly t: number;
  /** Two-sided. */
  readonly p: number;
  readonly degreesOfFreedom: number;
}

/** Welch's t-test of equal means, unequal variances allowed. */
export function welchTest(a: ArrayLike<number>, b: ArrayLike<number>): WelchTest {
  if (a.length < 2 || b.length < 2)
    throw new JepaError(`Welch test: ${a.length} and ${b.length} values; each side needs at least 2`);
  const [errorA, errorB] = [variance(a) / a.length, variance(b) / b.length];
  const t = (mean(a) - mean(b)) / Math.sqrt(errorA + errorB);
  const degreesOfFreedom = (errorA + errorB) ** 2 / (errorA ** 2 / (a.length - 1) + errorB ** 2 / (b.length - 1));
  // Student's t: P(|T| > t) = I_x(v / 2, 1 / 2) with x = v / (v + t^2).
  return {
    t,
    p: incompleteBeta(degreesOfFreedom / (degreesOfFreedom + t * t), degreesOfFreedom / 2, 0.5),
    degreesOfFreedom,
  };
}

// --- special functions ------------------------------------------------------------------------------------------------

/** Where the standard normal distribution function equals p, by Newton steps. */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) throw new JepaError(`normal quantile: ${p} is not between 0 and 1`);
  let x = 0;
  for (let step = 0; step < 100; step++) {
    const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
    // Steps of at most 1: far out the density is so small that a whole step would overshoot.
    const change = Math.max(-1, Math.min(1, (normalCdf(x) - p) / density));
    x -= change;
    if (Math.abs(change) < 1e-15) break;
  }
  return x;
}

/** 1 / 2 + density x (x + x^3 / 3 + x^5 / (3 5) + ...): all terms of one sign. */
function normalCdf(x: number): number {
  let term = x;
  let sum = x;
  for (let odd = 3; Math.abs(term) > 1e-17 * Math.abs(sum); odd += 2) {
    term *= (x * x) / odd;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

/** Regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast below the mean of the distribution; above it use the symmetry.
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  // Terms needed grow with the square root of a and b; evaluated from the last to the first.
  const terms = 100 + 5 * Math.ceil(Math.sqrt(Math.max(a, b)));
  let fraction = 1;
  for (let m = terms; m >= 0; m--) {
    const even = ((m + 1) * (b - m - 1) * x) / ((a + 2 * m + 1) * (a + 2 * m + 2));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    fraction = 1 + odd / (1 + even / fraction);
  }
  const logFront = a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b);
  return Math.exp(logFront) / (a * fraction);
}

/** log Gamma(x) for x > 0: Stirling's series (DLMF 5.11.1) after raising x above 10. */
function logGamma(x: number): number {
  let shift = 0;
  while (x < 10) shift -= Math.log(x++);
  const inverse = 1 / (x * x);
  const series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / x;
  return shift + (x - 0.5) * Math.log(x) - x + Math.log(2 * Math.PI) / 2 + series;
}
