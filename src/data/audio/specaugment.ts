import type { Random } from '../../base/random.js';
import { float32, type HostTensor } from '../../base/tensor.js';

/** A run of frames or of mel bands that is erased. */
export interface Stripe {
  readonly start: number;
  readonly length: number;
}

export interface Stripes {
  readonly time: readonly Stripe[];
  readonly frequency: readonly Stripe[];
}

/** SpecAugment (Park et al. 2019): erases stripes of a spectrogram [frames, mels] with `value`; a new array. */
export function maskStripes(
  spectrogram: HostTensor<'float32'>,
  { time, frequency }: Stripes,
  value = 0,
): HostTensor<'float32'> {
  const [frames, mels] = spectrogram.shape;
  const data = spectrogram.data.slice();
  for (const { start, length } of time) data.fill(value, start * mels, (start + length) * mels);
  for (const { start, length } of frequency) {
    for (let t = 0; t < frames; t++) data.fill(value, t * mels + start, t * mels + start + length);
  }
  return float32(spectrogram.shape, data);
}

export interface SpecAugment {
  /** Number of stripes along each axis, and an upper bound of their widths. */
  readonly timeStripes: number;
  readonly timeWidth: number;
  readonly frequencyStripes: number;
  readonly frequencyWidth: number;
}

/** Stripes of one spectrogram, as torchaudio draws them: width and start are truncated uniforms, width first. */
export function drawStripes(config: SpecAugment, [frames, mels]: readonly number[], random: Random): Stripes {
  const draw = (count: number, width: number, size: number): Stripe[] =>
    Array.from({ length: count }, () => {
      const wanted = random.uniform() * Math.min(width, size);
      const start = Math.trunc(random.uniform() * (size - wanted));
      return { start, length: Math.trunc(wanted) };
    });
  return {
    time: draw(config.timeStripes, config.timeWidth, frames),
    frequency: draw(config.frequencyStripes, config.frequencyWidth, mels),
  };
}
