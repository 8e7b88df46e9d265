import { formatFixed, formatNumber, power } from './format.js';

export type ScaleKind = 'linear' | 'log';

/** Maps data in `domain` to pixels in `range`, evenly or by orders of magnitude. */
export interface Scale {
  readonly kind: ScaleKind;
  readonly domain: readonly [number, number];
  readonly range: readonly [number, number];
}

/** Pixel position of a value; a log scale needs positive values. */
export function position(scale: Scale, value: number): number {
  const map = scale.kind === 'log' ? Math.log10 : (v: number) => v;
  const [low, high] = scale.domain.map(map);
  const [from, to] = scale.range;
  return from + ((map(value) - low) / (high - low)) * (to - from);
}

/** A step of 1, 2 or 5 times a power of ten that cuts `span` into about `count` parts. */
function niceStep(span: number, count: number): number {
  const rough = span / Math.max(1, count);
  const size = 10 ** Math.floor(Math.log10(rough));
  const part = rough / size;
  return size * (part < Math.SQRT2 ? 1 : part < Math.sqrt(10) ? 2 : part < Math.sqrt(50) ? 5 : 10);
}

/** Round values inside [low, high], evenly spaced, about `count` of them. */
export function linearTicks(low: number, high: number, count = 5): number[] {
  if (!(high > low)) return [low];
  const step = niceStep(high - low, count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const ticks: number[] = [];
  // Counting in whole steps and rounding to the step's decimals keeps 0.3 from becoming 0.30000000000000004.
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (let i = first; i <= last; i++) ticks.push(decimals > 20 ? i * step : Number((i * step).toFixed(decimals)));
  return ticks;
}

/** Powers of ten inside [low, high]; with few of them, also twice and five times each; less than one decade: round values. */
export function logTicks(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const decades = Math.log10(high / low);
  const factors = decades > 2.5 ? [1] : [1, 2, 5];
  const skip = Math.max(1, Math.ceil((last - first) / 6));
  const ticks: number[] = [];
  for (let exponent = first; exponent <= last; exponent += skip) {
    for (const factor of factors) {
      const value = Number(`${factor}e${exponent}`);
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push(value);
    }
  }
  return ticks.length >= 3 ? ticks : linearTicks(low, high, 4).filter((tick) => tick > 0);
}

/** The smallest interval of whole nice steps around [low, high]; a single value gets room on both sides. */
export function niceDomain(low: number, high: number, count = 5): [number, number] {
  if (!(high > low)) {
    const room = low === 0 ? 1 : Math.abs(low) * 0.1;
    return niceDomain(low - room, low + room, count);
  }
  const step = niceStep(high - low, count);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const round = (value: number) => (decimals > 20 ? value : Number(value.toFixed(decimals)));
  return [round(Math.floor(low / step + 1e-9) * step), round(Math.ceil(high / step - 1e-9) * step)];
}

/** Labels for ticks of one axis, alike in decimals; very small or large axes share a factor such as `× 10⁻⁴`. */
export function tickLabels(ticks: readonly number[], kind: ScaleKind): { labels: string[]; factor?: string } {
  if (kind === 'log') return { labels: ticks.map(logLabel) };
  const largest = Math.max(...ticks.map(Math.abs));
  if (largest === 0) return { labels: ticks.map(() => '0') };
  const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : largest;
  if (largest >= 1e7 || step < 1e-3) {
    const exponent = Math.floor(Math.log10(largest) + 1e-9);
    const scaled = ticks.map((tick) => tick / 10 ** exponent);
    return { labels: fixedLabels(scaled, step / 10 ** exponent), factor: `× ${power(exponent)}` };
  }
  if (step >= 1000 && step % 500 === 0) {
    return { labels: ticks.map((tick) => (tick === 0 ? '0' : `${formatNumber(tick / 1000, 6)}k`)) };
  }
  return { labels: fixedLabels(ticks, step) };
}

function fixedLabels(ticks: readonly number[], step: number): string[] {
  let decimals = 0;
  while (decimals < 12 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals++;
  return ticks.map((tick) => formatFixed(tick, decimals));
}

function logLabel(value: number): string {
  if (value >= 1e-3 && value < 1e4) return formatNumber(value, 6);
  const exponent = Math.floor(Math.log10(value) + 1e-9);
  const factor = Number((value / 10 ** exponent).toPrecision(6));
  return factor === 1 ? power(exponent) : `${factor}×${power(exponent)}`;
}

/**
 * At most about `limit` points that keep the look of a curve: of every stretch of points its smallest and its largest.
 * `x` and `y` are of equal length.
 */
export function thin(x: readonly number[], y: readonly number[], limit: number): { x: number[]; y: number[] } {
  if (x.length <= limit) return { x: [...x], y: [...y] };
  const keep = new Set<number>([0, x.length - 1]);
  const stretches = Math.max(1, Math.floor(limit / 2) - 1);
  for (let s = 0; s < stretches; s++) {
    const begin = Math.floor((s * x.length) / stretches);
    const end = Math.floor(((s + 1) * x.length) / stretches);
    let low = begin;
    let high = begin;
    for (let i = begin; i < end; i++) {
      if (y[i] < y[low] || Number.isNaN(y[low])) low = i;
      if (y[i] > y[high] || Number.isNaN(y[high])) high = i;
    }
    keep.add(low).add(high);
  }
  const order = [...keep].sort((a, b) => a - b);
  return { x: order.map((i) => x[i]), y: order.map((i) => y[i]) };
}

/** Centred moving average over `window` values (fewer at the ends); values that are not finite are left out. */
export function movingAverage(values: readonly number[], window: number): number[] {
  const half = Math.floor(window / 2);
  const sums = [0];
  const counts = [0];
  values.forEach((value, i) => {
    const finite = Number.isFinite(value);
    sums.push(sums[i] + (finite ? value : 0));
    counts.push(counts[i] + (finite ? 1 : 0));
  });
  return values.map((_, i) => {
    // The window shrinks evenly on both sides near an end, so the average does not lag a slope there.
    const reach = Math.min(half, i, values.length - 1 - i);
    const count = counts[i + reach + 1] - counts[i - reach];
    return count ? (sums[i + reach + 1] - sums[i - reach]) / count : Number.NaN;
  });
}
