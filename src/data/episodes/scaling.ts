import { JepaError } from '../../base/errors.js';

/** How observations become floats: what a model is trained with, it plans with. Plain data. */
export interface Scaling {
  /**
   * Of bytes: `byte` divides them by 255; `own` stretches every channel of every picture to 0..1 by its own range first (EB-JEPA).
   * Numbers of states are `plain`.
   */
  readonly range: 'byte' | 'own' | 'plain';
  /** Taken off and divided by afterwards, one number a channel (or a number of a state). */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Added to a channel's own range, and to standard deviations, before anything is divided by them (EB-JEPA). */
const EPS = 1e-6;

/** Observations [times, channels, ...], `size` numbers a channel (1: numbers of states), into `out`. */
export function scale(
  values: Uint8Array | Float32Array,
  size: number,
  { range, mean, std }: Scaling,
  out: Float32Array = new Float32Array(values.length),
): Float32Array {
  for (let from = 0, channel = 0; from < values.length; from += size, channel = (channel + 1) % mean.length) {
    let [low, factor] = [0, range === 'byte' ? 1 / 255 : 1];
    if (range === 'own') {
      let high = 0;
      low = 255;
      for (let i = from; i < from + size; i++) {
        low = Math.min(low, values[i]);
        high = Math.max(high, values[i]);
      }
      factor = 1 / (high - low + EPS);
    }
    const spread = std[channel] + EPS;
    for (let i = from; i < from + size; i++) out[i] = ((values[i] - low) * factor - mean[channel]) / spread;
  }
  return out;
}

/** Mean and standard deviation of each channel of observations as `scale` would leave them without both. */
export function channelStatistics(
  values: Uint8Array | Float32Array,
  size: number,
  channels: number,
  range: Scaling['range'],
): Pick<Scaling, 'mean' | 'std'> {
  if (values.length % (size * channels) !== 0)
    throw new JepaError(`statistics: ${values.length} numbers are no whole number of ${channels} x ${size}`);
  const plain = scale(values, size, {
    range,
    mean: new Array(channels).fill(0),
    std: new Array(channels).fill(1 - EPS),
  });
  const [sums, squares] = [new Float64Array(channels), new Float64Array(channels)];
  plain.forEach((value, i) => {
    const channel = Math.floor(i / size) % channels;
    sums[channel] += value;
    squares[channel] += value * value;
  });
  const count = values.length / channels;
  const mean = Array.from(sums, (sum) => sum / count);
  // What never changes stays 0 instead of being blown up.
  const std = Array.from(squares, (square, c) => Math.sqrt(Math.max(0, square / count - mean[c] ** 2)) || 1);
  return { mean, std };
}
