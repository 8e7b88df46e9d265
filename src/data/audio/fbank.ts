import { JepaError } from '../../base/errors.js';
import { float32, type HostTensor } from '../../base/tensor.js';
import { realFft } from './fft.js';
import { applyMel, type MelBand, melFilters } from './mel.js';
import { type WindowKind, windowValues } from './stft.js';

/** Log-mel filterbanks as Kaldi computes them (`torchaudio.compliance.kaldi.fbank` without dither and energy). */
export interface FbankConfig extends MelBand {
  /** Length of a frame and distance of two, in ms; both truncated to whole samples. */
  readonly frameMs: number;
  readonly shiftMs: number;
  readonly window: WindowKind;
}

/** Kaldi's defaults. */
export const KALDI_FRAMES = { frameMs: 25, shiftMs: 10, window: 'povey', low: 20 } as const;

const PREEMPHASIS = 0.97;
/** Below this energies count as this: the resolution of a float. */
export const LOG_FLOOR = 2 ** -23;

export interface Fbank {
  /** Samples of a frame, from frame to frame, and of its transform. */
  readonly frame: number;
  readonly shift: number;
  readonly fft: number;
  /** Number of frames of a signal: only whole ones count. */
  frames(samples: number): number;
  /** Natural logarithms of the energies, [frames, mels]. */
  compute(signal: Float32Array): HostTensor<'float32'>;
}

/**
 * Plans filterbanks. Each frame loses its mean, is pre-emphasised (x[i] - 0.97 x[i - 1], the first with itself), windowed
 * (symmetric window), padded with zeros to a power of two; triangles are straight in mel.
 */
export function kaldiFbank(config: FbankConfig): Fbank {
  const { sampleRate, frameMs, shiftMs, mels, window: kind } = config;
  const frame = Math.trunc(sampleRate * frameMs * 0.001);
  const shift = Math.trunc(sampleRate * shiftMs * 0.001);
  if (!(frame >= 2 && shift >= 1)) {
    throw new JepaError(
      `fbank: frames of ${frameMs} ms every ${shiftMs} ms are ${frame} and ${shift} samples at ${sampleRate} Hz; use longer ones`,
    );
  }
  const fft = 2 ** Math.ceil(Math.log2(frame));
  const plan = realFft(fft);
  const window = windowValues(kind, frame, false);
  const filters = melFilters({ ...config, fft, scale: 'kaldi', straight: 'mel', norm: 'peak' });
  const samples = new Float64Array(fft);
  const re = new Float64Array(plan.bins);
  const im = new Float64Array(plan.bins);
  const power = new Float64Array(plan.bins);
  const energies = new Float64Array(mels);
  const frames = (count: number): number => (count < frame ? 0 : 1 + Math.floor((count - frame) / shift));

  function frameInto(signal: Float32Array, start: number): void {
    let sum = 0;
    for (let i = 0; i < frame; i++) sum += signal[start + i];
    const mean = sum / frame;
    let previous = signal[start] - mean;
    for (let i = 0; i < frame; i++) {
      const value = signal[start + i] - mean;
      samples[i] = (value - PREEMPHASIS * previous) * window[i];
      previous = value;
    }
  }

  return {
    frame,
    shift,
    fft,
    frames,
    compute(signal) {
      const count = frames(signal.length);
      const out = new Float32Array(count * mels);
      for (let t = 0; t < count; t++) {
        frameInto(signal, t * shift);
        plan.transform(samples, re, im);
        for (let k = 0; k < power.length; k++) power[k] = re[k] * re[k] + im[k] * im[k];
        applyMel(filters, power, energies);
        for (let m = 0; m < mels; m++) out[t * mels + m] = Math.log(Math.max(energies[m], LOG_FLOOR));
      }
      return float32([count, mels], out);
    },
  };
}
