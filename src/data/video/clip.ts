import { JepaError } from '../../base/errors.js';

/** Some frames of a video: bytes in the order [frames, height, width, channels]. */
export interface RawClip {
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  /** 1 (grey) or 3 (RGB). */
  readonly channels: number;
  readonly data: Uint8Array;
}

/** Frame `index` of a clip: a view, not a copy. */
export function frameOf({ data, height, width, channels, frames }: RawClip, index: number): Uint8Array {
  if (!(index >= 0 && index < frames)) throw new JepaError(`a clip of ${frames} frames has no frame ${index}`);
  const bytes = height * width * channels;
  return data.subarray(index * bytes, (index + 1) * bytes);
}

/** The frames `indices` of a clip, in that order; a frame may come several times. */
export function pickFrames(clip: RawClip, indices: ArrayLike<number>): RawClip {
  const bytes = clip.height * clip.width * clip.channels;
  const data = new Uint8Array(indices.length * bytes);
  for (let i = 0; i < indices.length; i++) data.set(frameOf(clip, indices[i]), i * bytes);
  return { ...clip, frames: indices.length, data };
}
