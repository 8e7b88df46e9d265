import { JepaError } from '../../base/errors.js';
import { float32, type HostTensor } from '../../base/tensor.js';
import { type StftConfig, stftFrames } from './stft.js';

/**
 * Mel scales: `htk` 2595 log10(1 + f / 700); `slaney` (Auditory Toolbox, librosa) is linear below 1 kHz and logarithmic
 * above; `kaldi` 1127 ln(1 + f / 700) is HTK's up to rounding.
 */
export type MelScale = 'htk' | 'slaney' | 'kaldi';

const SLANEY_STEP = 200 / 3;
const SLANEY_KNEE = 1000;
const SLANEY_LOG_STEP = Math.log(6.4) / 27;

export function hzToMel(hz: number, scale: MelScale): number {
  if (scale === 'htk') return 2595 * Math.log10(1 + hz / 700);
  if (scale === 'kaldi') return 1127 * Math.log(1 + hz / 700);
  const knee = SLANEY_KNEE / SLANEY_STEP;
  return hz < SLANEY_KNEE ? hz / SLANEY_STEP : knee + Math.log(hz / SLANEY_KNEE) / SLANEY_LOG_STEP;
}

export function melToHz(mel: number, scale: MelScale): number {
  if (scale === 'htk') return 700 * (10 ** (mel / 2595) - 1);
  if (scale === 'kaldi') return 700 * (Math.exp(mel / 1127) - 1);
  const knee = SLANEY_KNEE / SLANEY_STEP;
  return mel < knee ? mel * SLANEY_STEP : SLANEY_KNEE * Math.exp((mel - knee) * SLANEY_LOG_STEP);
}

/** Triangles over the bins of a spectrum: filter m weighs bins `start[m]` and following with `weights[m]`. */
export interface MelFilters {
  readonly start: Int32Array;
  readonly weights: readonly Float64Array[];
}

export interface MelBand {
  readonly sampleRate: number;
  readonly mels: number;
  /** Lower edge of the first triangle and upper edge of the last, in Hz. */
  readonly low: number;
  readonly high: number;
}

export interface MelShape extends MelBand {
  readonly fft: number;
  readonly scale: MelScale;
  /** Triangles that are straight over the frequency (torchaudio, librosa) or over mel (Kaldi). */
  readonly straight: 'hz' | 'mel';
  /** `area`: divided by half the width in Hz, so that all have one area (librosa, `norm='slaney'`); `peak`: height 1. */
  readonly norm: 'peak' | 'area';
}

/** Triangles whose corners are equally spaced in mel, each from its left to its right neighbour's peak. */
export function melFilters(config: MelShape): MelFilters {
  const { sampleRate, mels, low, high, fft, scale, straight, norm } = config;
  if (!(Number.isInteger(mels) && mels > 0 && low >= 0 && low < high && high <= sampleRate / 2)) {
    throw new JepaError(
      `mel: ${mels} filters from ${low} to ${high} Hz do not fit sound of ${sampleRate} Hz; use 0 <= low < high <= ${sampleRate / 2}`,
    );
  }
  const [first, last] = [hzToMel(low, scale), hzToMel(high, scale)];
  const corners = Array.from({ length: mels + 2 }, (_, i) => first + ((last - first) * i) / (mels + 1));
  const hz = corners.map((mel) => melToHz(mel, scale));
  const place = straight === 'hz' ? hz : corners;
  const bins = Array.from({ length: (fft >> 1) + 1 }, (_, k) => {
    const frequency = (k * sampleRate) / fft;
    return straight === 'hz' ? frequency : hzToMel(frequency, scale);
  });
  const start = new Int32Array(mels);
  const weights = start.reduce<Float64Array[]>((all, _, m) => {
    const [left, peak, right] = place.slice(m, m + 3);
    const height = norm === 'area' ? 2 / (hz[m + 2] - hz[m]) : 1;
    start[m] = bins.findIndex((bin) => bin > left);
    const inside = bins.filter((bin) => bin > left && bin < right);
    all.push(
      Float64Array.from(
        inside,
        (bin) => height * Math.min((bin - left) / (peak - left), (right - bin) / (right - peak)),
      ),
    );
    return all;
  }, []);
  return { start, weights };
}

/** The weights as a matrix [mels, bins]. */
export function melMatrix({ start, weights }: MelFilters, bins: number): HostTensor<'float32'> {
  const data = new Float32Array(weights.length * bins);
  weights.forEach((row, m) => {
    data.set(row, m * bins + start[m]);
  });
  return float32([weights.length, bins], data);
}

/** Weighted sums of a spectrum [bins], one for each filter, into `out`. */
export function applyMel({ start, weights }: MelFilters, spectrum: Float64Array, out: Float64Array): void {
  for (let m = 0; m < weights.length; m++) {
    const row = weights[m];
    const first = start[m];
    let sum = 0;
    for (let i = 0; i < row.length; i++) sum += row[i] * spectrum[first + i];
    out[m] = sum;
  }
}

export interface MelConfig extends StftConfig, MelBand {
  readonly scale: 'htk' | 'slaney';
  readonly norm: 'peak' | 'area';
  /** 2: power; 1: magnitude. */
  readonly power: 1 | 2;
}

/** What torchaudio's `MelSpectrogram` and librosa's `melspectrogram` do unless told otherwise. */
export const TORCHAUDIO_MEL = { edges: 'reflect', scale: 'htk', norm: 'peak', power: 2 } as const;
export const LIBROSA_MEL = { edges: 'zeros', scale: 'slaney', norm: 'area', power: 2 } as const;

/** Plans mel spectrograms (before any logarithm), [frames, mels]. */
export function melSpectrogram(config: MelConfig): (signal: Float32Array) => HostTensor<'float32'> {
  const { mels, fft, power } = config;
  const frames = stftFrames(config);
  const filters = melFilters({ ...config, straight: 'hz' });
  const spectrum = new Float64Array((fft >> 1) + 1);
  const row = new Float64Array(mels);
  return (signal) => {
    const count = frames.count(signal.length);
    const out = new Float32Array(count * mels);
    frames.forEach(signal, (t, re, im) => {
      for (let k = 0; k < spectrum.length; k++) {
        const square = re[k] * re[k] + im[k] * im[k];
        spectrum[k] = power === 2 ? square : Math.sqrt(square);
      }
      applyMel(filters, spectrum, row);
      out.set(row, t * mels);
    });
    return float32([count, mels], out);
  };
}

export interface DecibelOptions {
  /** Exponent of the values: 10 log10 of a power (2), 20 log10 of a magnitude (1). */
  readonly power?: 1 | 2;
  /** The largest value is 0 dB (librosa, `ref=max`). */
  readonly relative?: boolean;
}

/** A spectrogram in decibels; values below 1e-10 count as that, and all end 80 dB below the largest. */
export function decibels(
  spectrogram: HostTensor<'float32'>,
  { power = 2, relative = false }: DecibelOptions = {},
): HostTensor<'float32'> {
  const FLOOR = 1e-10;
  const toDecibels = (value: number): number => (20 / power) * Math.log10(Math.max(value, FLOOR));
  let largest = FLOOR;
  for (const value of spectrogram.data) if (value > largest) largest = value;
  const top = toDecibels(largest);
  const data = spectrogram.data.map((value) => Math.max(toDecibels(value), top - 80) - (relative ? top : 0));
  return float32(spectrogram.shape, data);
}
