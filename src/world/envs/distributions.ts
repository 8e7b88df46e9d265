import type { Random } from '../../base/random.js';

/** Distributions that behaviours draw from, with their cumulative functions. */

/** Error function to about 1e-15 (series near 0, continued fraction beyond). */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * sum * (2 / Math.sqrt(Math.PI));
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

const normalCdf = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));

/** A normal distribution cut off at `low` and `high`. */
export interface TruncatedNormal {
  readonly mean: number;
  readonly std: number;
  readonly low: number;
  readonly high: number;
}

export function truncatedNormalCdf(x: number, { mean, std, low, high }: TruncatedNormal): number {
  if (x <= low) return 0;
  if (x >= high) return 1;
  const at = (value: number): number => normalCdf((value - mean) / std);
  return (at(x) - at(low)) / (at(high) - at(low));
}

/** Mean and standard deviation. */
export function truncatedNormalMoments({ mean, std, low, high }: TruncatedNormal): readonly [number, number] {
  const [a, b] = [(low - mean) / std, (high - mean) / std];
  const density = (z: number): number => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  const mass = normalCdf(b) - normalCdf(a);
  const shift = (density(a) - density(b)) / mass;
  const spread = 1 + (a * density(a) - b * density(b)) / mass - shift * shift;
  return [mean + std * shift, std * Math.sqrt(spread)];
}

/** One draw, by rejection: the range must not lie far out in a tail. */
export function drawTruncatedNormal(random: Random, { mean, std, low, high }: TruncatedNormal): number {
  for (;;) {
    const value = mean + std * random.normal();
    if (value >= low && value <= high) return value;
  }
}

/** I_n(kappa) / I_0(kappa) for n = 1 .. count, by downward recurrence. */
function besselRatios(kappa: number, count: number): number[] {
  const ratios = new Array<number>(count);
  let ratio = 0;
  for (let n = count + 30; n >= 1; n--) {
    ratio = 1 / ((2 * n) / kappa + ratio);
    if (n <= count) ratios[n - 1] = ratio;
  }
  for (let n = 1; n < count; n++) ratios[n] *= ratios[n - 1];
  return ratios;
}

/** Cumulative function of the von Mises distribution about 0, for -pi <= angle <= pi. */
export function vonMisesCdf(angle: number, kappa: number): number {
  const ratios = besselRatios(kappa, 60);
  const waves = ratios.reduce((sum, ratio, i) => sum + (ratio * Math.sin((i + 1) * angle)) / (i + 1), 0);
  return 0.5 + (angle / 2 + waves) / Math.PI;
}

/** Mean cosine of an angle from the von Mises distribution. */
export const vonMisesCosine = (kappa: number): number => besselRatios(kappa, 1)[0];

/** One draw in [-pi, pi] (Best and Fisher 1979). */
export function drawVonMises(random: Random, kappa: number): number {
  const tau = 1 + Math.sqrt(1 + 4 * kappa * kappa);
  const rho = (tau - Math.sqrt(2 * tau)) / (2 * kappa);
  const r = (1 + rho * rho) / (2 * rho);
  for (;;) {
    const z = Math.cos(Math.PI * random.uniform());
    const f = (1 + r * z) / (r + z);
    const c = kappa * (r - f);
    const u = 1 - random.uniform();
    if (c * (2 - c) > u || Math.log(c / u) + 1 >= c) return (random.uniform() < 0.5 ? -1 : 1) * Math.acos(f);
  }
}
