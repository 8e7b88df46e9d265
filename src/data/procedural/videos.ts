import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';
import { checkVideo, requestedFrames, type VideoDataset } from '../video/dataset.js';

/** Videos that are drawn when they are read, with everything known about them. */
export interface ProceduralVideos extends VideoDataset {
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly attributes: Readonly<Record<string, Int32Array>>;
  /** Numbers known of every video that are no classes, by name; lengths in shares of the side, times in frames. */
  readonly factors: Readonly<Record<string, Float32Array>>;
  /** Middle and half size of the objects in every frame: [frames, objects, 4 (x, y, half width, half height)], in pixels. */
  boxes(index: number): Float32Array;
}

/** What all procedural videos share. */
export interface VideoSize {
  /** How many videos. */
  readonly count: number;
  /** Other numbers give other videos; `split` does too, so that a test set shares its seed with its training set. */
  readonly seed?: number;
  readonly split?: 'train' | 'test';
  /** Frames a video; */
  readonly frames?: number;
  /** side of the square frames in pixels; */
  readonly size?: number;
  /** RGB by default. */
  readonly channels?: 1 | 3;
}

/** One video, drawn frame by frame. */
export interface Scene {
  /** What never changes: [size, size, channels]. */
  readonly background: Uint8Array;
  /** Draws what moves in frame `t` onto the background. */
  draw(t: number, frame: Uint8Array): void;
  /** The objects in frame `t`, four numbers each (`boxes`). */
  boxes(t: number): readonly number[];
}

export interface Description {
  readonly name: string;
  readonly labels: Int32Array;
  readonly classNames: readonly string[];
  readonly attributes: Readonly<Record<string, Int32Array>>;
  readonly factors: Readonly<Record<string, Float32Array>>;
  /** Frames a second: nothing depends on it. */
  readonly fps: number;
  scene(index: number): Scene;
}

export type FullSize = Required<VideoSize>;

/** Fills in defaults; throws a `JepaError` for sizes that cannot be. */
export function fullSize(where: string, options: VideoSize, frames: number): FullSize {
  const full = { seed: 0, split: 'train', frames, size: 64, channels: 3, ...defined(options) } as FullSize;
  for (const [name, least] of [
    ['count', 1],
    ['frames', 2],
    ['size', 16],
  ] as const) {
    const value = full[name];
    if (!Number.isInteger(value) || value < least || value > 1 << 24) {
      throw new JepaError(`${where}: ${name} ${value} must be ${least} or more`);
    }
  }
  if (full.channels !== 1 && full.channels !== 3)
    throw new JepaError(`${where}: channels ${full.channels} must be 1 or 3`);
  return full;
}

function defined(options: VideoSize): Partial<VideoSize> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Generators of the videos of a set, one for each index; named by the set, its seed and its split. */
export function videoRandom(kind: string, { seed, split }: FullSize): (index: number) => Random {
  const all = createRandom(seed, 'video', kind, split);
  return (index) => all.split(index);
}

/** A class for every video: each as often as the others (up to one video), in random order. */
export function balancedLabels(kind: string, { seed, split, count }: FullSize, classes: number): Int32Array {
  const random = createRandom(seed, 'labels', kind, split);
  const labels = new Int32Array(count);
  for (let first = 0; first < count; first += classes) {
    labels.set(random.permutation(classes).subarray(0, Math.min(classes, count - first)), first);
  }
  return labels;
}

/** Turns descriptions of scenes into a data set. `source` opens the same videos in another thread. */
export function drawnVideos(
  { frames, size, channels }: FullSize,
  described: Description,
  source: VideoDataset['source'],
): ProceduralVideos {
  const { name, labels, classNames, attributes, factors, fps, scene } = described;
  const { length } = labels;
  const facts = { count: frames, fps, height: size, width: size };
  return {
    name,
    length,
    channels,
    size: { width: size, height: size },
    labels,
    classNames,
    attributes,
    factors,
    async read(index, request) {
      checkVideo({ name, length }, index);
      const indices = requestedFrames(request, facts, `${name}[${index}]`);
      const { background, draw, boxes } = scene(index);
      const data = new Uint8Array(indices.length * background.length);
      for (let i = 0; i < indices.length; i++) {
        const frame = data.subarray(i * background.length, (i + 1) * background.length);
        frame.set(background);
        draw(indices[i], frame);
      }
      const known = Float32Array.from(Array.from(indices, (t) => boxes(t)).flat());
      return { frames: indices.length, height: size, width: size, channels, data, facts, indices, boxes: known };
    },
    boxes(index) {
      checkVideo({ name, length }, index);
      const { boxes } = scene(index);
      return Float32Array.from(Array.from({ length: frames }, (_, t) => boxes(t)).flat());
    },
    source,
  };
}
