import { float32, type HostTensor } from '../../base/tensor.js';
import { type FbankConfig, kaldiFbank } from './fbank.js';
import { type MelConfig, melSpectrogram } from './mel.js';

/** How a clip of sound becomes what an encoder sees: a log-mel spectrogram [frames, mels] of fixed size. */
export interface AudioFeatures {
  readonly spectrum: ({ readonly kind: 'fbank' } & FbankConfig) | ({ readonly kind: 'mel' } & MelConfig);
  /** What is done to the clip first: nothing, its mean removed, or also divided by its largest value (Audio-JEPA). */
  readonly level: 'as-is' | 'centred' | 'centred-peak';
  /** Rows: missing ones at the end are 0 (after the logarithm), surplus ones are cut. */
  readonly frames: number;
  /** (x - mean) / scale, rows that were filled up included; a data set's statistics, which travel with the weights. */
  readonly mean: number;
  readonly scale: number;
}

/** AudioMAE (Huang et al. 2022), also A-JEPA: 10 s at 16 kHz; statistics of AudioSet, twice the standard deviation. */
export const AUDIOMAE_FEATURES: AudioFeatures = {
  spectrum: {
    kind: 'fbank',
    sampleRate: 16000,
    mels: 128,
    low: 20,
    high: 8000,
    frameMs: 25,
    shiftMs: 10,
    window: 'hann',
  },
  level: 'centred',
  frames: 1024,
  mean: -4.2677393,
  scale: 2 * 4.5689974,
};

const AUDIO_JEPA_SHIFT = 10000 / 512;

/** Audio-JEPA (Tuncay et al. 2025): 10 s at 32 kHz, 512 frames of 96 bands, not standardised. */
export const AUDIO_JEPA_FEATURES: AudioFeatures = {
  spectrum: {
    kind: 'fbank',
    sampleRate: 32000,
    mels: 96,
    low: 20,
    high: 16000,
    frameMs: 2.5 * AUDIO_JEPA_SHIFT,
    shiftMs: AUDIO_JEPA_SHIFT,
    window: 'hann',
  },
  level: 'centred-peak',
  frames: 512,
  mean: 0,
  scale: 1,
};

/** Smallest power that a mel spectrogram's logarithm sees. */
const MEL_FLOOR = 1e-10;

/** Plans the features of clips. The plan holds scratch memory and may be used for any number of clips, one at a time. */
export function audioFeatures(config: AudioFeatures): (clip: Float32Array) => HostTensor<'float32'> {
  const { spectrum, frames, mean, scale } = config;
  const { mels } = spectrum;
  const compute = spectrum.kind === 'fbank' ? kaldiFbank(spectrum).compute : logarithm(melSpectrogram(spectrum));
  return (clip) => {
    const { data } = compute(levelled(clip, config.level));
    const fitted = new Float32Array(frames * mels);
    fitted.set(data.subarray(0, fitted.length));
    return float32(
      [frames, mels],
      fitted.map((value) => (value - mean) / scale),
    );
  };
}

const logarithm =
  (spectrogram: (clip: Float32Array) => HostTensor<'float32'>) =>
  (clip: Float32Array): HostTensor<'float32'> => {
    const { shape, data } = spectrogram(clip);
    return float32(
      shape,
      data.map((power) => Math.log(Math.max(power, MEL_FLOOR))),
    );
  };

function levelled(clip: Float32Array, level: AudioFeatures['level']): Float32Array {
  if (level === 'as-is' || clip.length === 0) return clip;
  let sum = 0;
  let largest = Number.NEGATIVE_INFINITY;
  for (const value of clip) {
    sum += value;
    if (value > largest) largest = value;
  }
  const mean = sum / clip.length;
  // Audio-JEPA divides by the largest value (not by the largest magnitude).
  const peak = level === 'centred-peak' && largest > mean ? largest - mean : 1;
  return clip.map((value) => (value - mean) / peak);
}
