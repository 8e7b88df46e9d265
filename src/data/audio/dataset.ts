import { JepaError } from '../../base/errors.js';
import { checkIndex, type Dataset, type SampleReader, sharedBytes } from '../dataset.js';

/** A set of recordings; a sample is mono sound, [samples], and lengths may differ. */
export interface SoundDataset extends Dataset<Float32Array> {
  readonly modality: 'sound';
  /** Samples a second of every recording. */
  readonly sampleRate: number;
}

export interface SoundArrays
  extends Pick<SoundDataset, 'name' | 'sampleRate' | 'classNames' | 'factors' | 'attributes'> {
  /** One mono recording each, about -1 to 1. */
  readonly clips: readonly Float32Array[];
  readonly labels?: Int32Array;
}

/** Where recordings lie in one array, which threads share. */
interface Packed {
  readonly samples: Float32Array;
  /** Recording i is samples[ends[i - 1]] to samples[ends[i]]. */
  readonly ends: Float64Array;
}

/** Recordings held in memory. Throws a `JepaError` where labels or factors differ from them in number. */
export function soundArrays({ clips, ...facts }: SoundArrays): SoundDataset {
  const { name, labels, factors, attributes } = facts;
  const { length } = clips;
  for (const [what, values] of Object.entries({ labels, ...attributes, ...factors })) {
    if (values && values.length !== length)
      throw new JepaError(`${name}: ${length} recordings but ${values.length} ${what}; they differ in number`);
  }
  let total = 0;
  const ends = Float64Array.from(clips, (clip) => {
    total += clip.length;
    return total;
  });
  const samples = new Float32Array(sharedBytes(4 * total).buffer);
  clips.forEach((clip, i) => {
    samples.set(clip, ends[i] - clip.length);
  });
  const packed: Packed = { samples, ends };
  return {
    ...facts,
    modality: 'sound',
    length,
    async read(index) {
      checkIndex({ name, length, modality: 'sound' }, index);
      return clipOf(packed, index);
    },
    source: { kind: 'module', module: import.meta.url, options: packed },
  };
}

const clipOf = ({ samples, ends }: Packed, index: number): Float32Array =>
  samples.subarray(index === 0 ? 0 : ends[index - 1], ends[index]);

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<Float32Array> => ({
  read: (index) => clipOf(options as Packed, index),
});
