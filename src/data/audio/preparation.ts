import { JepaError } from '../../base/errors.js';
import { evenly } from '../../base/evenly.js';
import { createRandom, type Random } from '../../base/random.js';
import type { Preparation } from '../preparation.js';
import type { SoundDataset } from './dataset.js';
import { AUDIO_JEPA_FEATURES, AUDIOMAE_FEATURES, type AudioFeatures, audioFeatures } from './features.js';
import { drawStripes, maskStripes, type SpecAugment } from './specaugment.js';

/** How recordings are prepared, as it stands in a configuration. */
export interface SoundInput {
  readonly kind: 'sound';
  /** Length of a clip; longer recordings are cut, shorter ones filled up with silence. */
  readonly seconds: number;
  /** Which part of a longer recording: any (default), the middle one, or the beginning. */
  readonly crop?: 'random' | 'middle' | 'start';
  /** Log-mel spectrograms [frames, mels], or the filterbanks of a published model. */
  readonly features: FeatureInput | 'audiomae' | 'audiojepa';
  /** Mean and standard deviation of the features (`featureStatistics`); those of AudioSet by default. */
  readonly statistics?: { readonly mean: number; readonly std: number };
  /** Erases stripes of time and frequency; not by default. */
  readonly specAugment?: SpecAugment;
}

export interface FeatureInput {
  readonly frames: number;
  readonly mels: number;
  /** Band in Hz; 20 to half the sampling rate by default. */
  readonly low?: number;
  readonly high?: number;
}

/** A checked `SoundInput` with what the data say: plain data. */
export interface SoundPlan {
  readonly kind: 'sound';
  /** Samples of a clip. */
  readonly samples: number;
  readonly crop: 'random' | 'middle' | 'start';
  readonly features: AudioFeatures;
  readonly specAugment?: SpecAugment;
}

const PUBLISHED = { audiomae: AUDIOMAE_FEATURES, audiojepa: AUDIO_JEPA_FEATURES };

/** Checks a preparation. Throws a `JepaError` beginning with `where`. */
export function planSound(
  input: SoundInput,
  dataset: Pick<SoundDataset, 'name' | 'sampleRate'>,
  where: string,
): SoundPlan {
  const { seconds, crop = 'random', statistics, specAugment } = input;
  const { name, sampleRate } = dataset;
  const samples = Math.round(seconds * sampleRate);
  if (!(samples >= 1)) throw new JepaError(`${where}.seconds must be positive, not ${seconds}`);
  if (statistics && !(statistics.std > 0))
    throw new JepaError(`${where}.statistics.std must be positive, not ${statistics.std}`);
  const published = typeof input.features === 'string' ? PUBLISHED[input.features] : undefined;
  if (published && published.spectrum.sampleRate !== sampleRate) {
    throw new JepaError(
      `${where}.features: ${input.features} is defined for ${published.spectrum.sampleRate} Hz, but ${name} has ${sampleRate} Hz; open it with sampleRate ${published.spectrum.sampleRate}`,
    );
  }
  const features = published ?? logMel(input.features as FeatureInput, samples, sampleRate, where);
  return {
    kind: 'sound',
    samples,
    crop,
    features: statistics ? { ...features, mean: statistics.mean, scale: statistics.std } : features,
    specAugment,
  };
}

/** Frames that share the clip evenly; windows are 2.5 times as long as their distance or a little more, a power of two. */
function logMel(
  { frames, mels, low = 20, high }: FeatureInput,
  samples: number,
  sampleRate: number,
  where: string,
): AudioFeatures {
  const hop = Math.floor(samples / frames);
  if (!(Number.isInteger(frames) && frames >= 1 && hop >= 1))
    throw new JepaError(`${where}.features: ${frames} frames do not fit a clip of ${samples} samples`);
  const { mean, scale } = AUDIOMAE_FEATURES;
  const fft = 2 ** Math.ceil(Math.log2(2.5 * hop));
  return {
    spectrum: {
      kind: 'mel',
      sampleRate,
      mels,
      low,
      high: high ?? sampleRate / 2,
      fft,
      hop,
      edges: 'zeros',
      scale: 'htk',
      norm: 'peak',
      power: 2,
    },
    level: 'as-is',
    frames,
    mean,
    scale,
  };
}

/** Name of the field with spectrograms [1, frames, mels]: images of one channel for a ViT, rows are time. */
export const SPECTROGRAMS = 'images';

/** A clip of a recording as a spectrogram. */
export function soundPreparation({ samples, crop, features, specAugment }: SoundPlan): Preparation<Float32Array> {
  const compute = audioFeatures(features);
  return {
    fields: [{ name: SPECTROGRAMS, dtype: 'float32', shape: [1, features.frames, features.spectrum.mels] }],
    prepare(recording, random, [out]) {
      const spectrogram = compute(cropClip(recording, samples, crop, random));
      const shown = specAugment
        ? maskStripes(spectrogram, drawStripes(specAugment, spectrogram.shape, random))
        : spectrogram;
      out.set(shown.data);
    },
  };
}

/** `samples` samples of a recording, filled up with zeros at its end. Draws once where the crop is random. */
export function cropClip(
  recording: Float32Array,
  samples: number,
  crop: SoundPlan['crop'],
  random: Random,
): Float32Array {
  const share = crop === 'random' ? random.uniform() : crop === 'middle' ? 0.5 : 0;
  const room = recording.length - samples;
  if (room >= 0) {
    const start = Math.floor(share * (room + 1));
    return recording.subarray(start, start + samples);
  }
  const filled = new Float32Array(samples);
  filled.set(recording);
  return filled;
}

/**
 * Mean and standard deviation of all features of up to `clips` recordings, evenly spread over the data set: what `statistics`
 * of the preparation should be.
 */
export async function featureStatistics(
  dataset: SoundDataset,
  plan: SoundPlan,
  clips = 256,
): Promise<{ readonly mean: number; readonly std: number }> {
  const compute = audioFeatures({ ...plan.features, mean: 0, scale: 1 });
  const random = createRandom(0, 'feature statistics');
  let [numbers, sum, squares] = [0, 0, 0];
  for (const [i, index] of evenly(dataset.length, clips).entries()) {
    const recording = await dataset.read(index, random.split(i));
    const { data } = compute(cropClip(recording, plan.samples, plan.crop, random));
    numbers += data.length;
    for (const value of data) {
      sum += value;
      squares += value * value;
    }
  }
  const mean = sum / numbers;
  return { mean, std: Math.sqrt(Math.max(0, squares / numbers - mean * mean)) };
}
