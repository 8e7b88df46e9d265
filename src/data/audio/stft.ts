import { JepaError } from '../../base/errors.js';
import { realFft } from './fft.js';

export type WindowKind = 'hann' | 'hamming' | 'povey';

/**
 * Values of a window of `length` samples. `periodic` (spectrograms) divides the circle into `length` parts, else (Kaldi)
 * into `length - 1`, and the window is symmetric. `povey` is Hann's to the power 0.85.
 */
export function windowValues(kind: WindowKind, length: number, periodic: boolean): Float64Array {
  const parts = periodic ? length : length - 1;
  return Float64Array.from({ length }, (_, i) => {
    const turn = Math.cos((2 * Math.PI * i) / parts);
    if (kind === 'hamming') return 0.54 - 0.46 * turn;
    const hann = 0.5 - 0.5 * turn;
    return kind === 'hann' ? hann : hann ** 0.85;
  });
}

export interface StftConfig {
  /** Samples of a frame, which is also the length of its periodic Hann window. */
  readonly fft: number;
  /** Samples from one frame to the next. */
  readonly hop: number;
  /**
   * What lies beyond the ends: frame t is centred on sample t * hop and sees the signal mirrored (torch) or zeros (librosa);
   * with `none`, frame t starts at sample t * hop and none reaches beyond the end.
   */
  readonly edges: 'reflect' | 'zeros' | 'none';
}

export interface Frames {
  /** Number of frames of a signal of `samples` samples. */
  count(samples: number): number;
  /** Calls `visit` with the spectrum of each frame, in order; the arrays [bins] are valid until the next. */
  forEach(signal: Float32Array, visit: (frame: number, re: Float64Array, im: Float64Array) => void): void;
}

/** Plans a short-time Fourier transform, as `torch.stft` with a periodic Hann window. */
export function stftFrames(config: StftConfig): Frames {
  const { fft, hop, edges } = config;
  for (const [what, value] of Object.entries({ fft, hop })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new JepaError(`stft: ${what} must be a positive whole number of samples, not ${value}`);
    }
  }
  const plan = realFft(fft);
  const window = windowValues('hann', fft, true);
  const frame = new Float64Array(fft);
  const re = new Float64Array(plan.bins);
  const im = new Float64Array(plan.bins);
  const before = edges === 'none' ? 0 : fft >> 1;
  const count = (samples: number): number => {
    const padded = samples + 2 * before;
    if (edges === 'reflect' && samples <= before) {
      throw new JepaError(
        `stft: a signal of ${samples} samples is too short to be mirrored by ${before}; use longer clips or zeros at the edges`,
      );
    }
    return padded < fft ? 0 : 1 + Math.floor((padded - fft) / hop);
  };
  return {
    count,
    forEach(signal, visit) {
      const frames = count(signal.length);
      const last = signal.length - 1;
      for (let t = 0; t < frames; t++) {
        const start = t * hop - before;
        for (let i = 0; i < fft; i++) {
          let at = start + i;
          if (edges === 'reflect') at = at < 0 ? -at : at > last ? 2 * last - at : at;
          frame[i] = at < 0 || at > last ? 0 : signal[at] * window[i];
        }
        plan.transform(frame, re, im);
        visit(t, re, im);
      }
    },
  };
}

export interface Stft {
  /** Frames first, as everywhere in `src/data/audio`: [frames, bins]. */
  readonly shape: readonly [frames: number, bins: number];
  readonly re: Float32Array;
  readonly im: Float32Array;
}

/** The complex spectrogram of a signal. */
export function stft(signal: Float32Array, config: StftConfig): Stft {
  const frames = stftFrames(config);
  const bins = (config.fft >> 1) + 1;
  const shape = [frames.count(signal.length), bins] as const;
  const out: Stft = { shape, re: new Float32Array(shape[0] * bins), im: new Float32Array(shape[0] * bins) };
  frames.forEach(signal, (t, re, im) => {
    out.re.set(re, t * bins);
    out.im.set(im, t * bins);
  });
  return out;
}
