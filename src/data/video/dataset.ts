import { JepaError } from '../../base/errors.js';
import { isShared } from '../dataset.js';
import { pickFrames, type RawClip } from './clip.js';

/** What is known of a video before it is decoded. */
export interface VideoFacts {
  /** Frames. */
  readonly count: number;
  /** Frames a second; 0 where unknown. */
  readonly fps: number;
  /** Size of the frames that are given. */
  readonly height: number;
  readonly width: number;
}

/** Chooses frames of a video: their numbers from 0, in any order, also several times. */
export type FrameRequest = (facts: VideoFacts) => ArrayLike<number>;

/** Some frames of a video, with what is known of the whole. */
export interface VideoFrames extends RawClip {
  readonly facts: VideoFacts;
  /** Numbers of the frames in the video. */
  readonly indices: Int32Array;
  /** Where the objects are, where that is known: [frames, objects, 4 (x, y, half width, half height)], in pixels of the video. */
  readonly boxes?: Float32Array;
}

/**
 * A set of videos. An object with these members is all that one's own data needs. `read` must give the same frames for the
 * same request every time, and may be called several times at once.
 */
export interface VideoDataset {
  /** Where it comes from, for messages. */
  readonly name: string;
  readonly length: number;
  /** 1 (grey) or 3 (RGB). */
  readonly channels: number;
  /** Set where all videos have frames of one size. */
  readonly size?: { readonly width: number; readonly height: number };
  /** Class of every video, -1 where unknown; absent where there are no labels. */
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  /** Other things known of every video, by name: classes, */
  readonly attributes?: Readonly<Record<string, Int32Array>>;
  /** and numbers. */
  readonly factors?: Readonly<Record<string, Float32Array>>;
  /** Reads the frames that `request` chooses. Rejects with a `JepaError` naming the video if it cannot be read. */
  read(index: number, request: FrameRequest): Promise<VideoFrames>;
  /**
   * Every `step`-th frame of a whole video, at most `chunk` of them at a time, in order: what a long video is read with.
   * Where it is absent `streamVideo` reads piece by piece.
   */
  stream?(index: number, step: number, chunk: number): AsyncIterable<VideoFrames>;
  /** What a video is called in messages: a path, or `name[index]` by default. */
  nameOf?(index: number): string;
  /** How another thread can open the same videos; without it they are read in the calling thread. */
  readonly source?: VideoSource;
  /** Ends what is open (a cache that is being written). */
  close?(): Promise<void>;
}

/** Videos that another thread can open: `openVideoSource(options)` of the module gives them. Plain data. */
export interface VideoSource {
  /** URL of the module. */
  readonly module: string;
  readonly options: unknown;
}

/** What the module of a `VideoSource` exports. */
export interface VideoModule {
  openVideoSource(options: unknown): VideoDataset | Promise<VideoDataset>;
}

/** Name of video `index`, for messages. */
export function videoName(videos: VideoDataset, index: number): string {
  return videos.nameOf?.(index) ?? `${videos.name}[${index}]`;
}

/** Refuses an index outside of the data set. */
export function checkVideo({ name, length }: Pick<VideoDataset, 'name' | 'length'>, index: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= length) {
    throw new JepaError(`${name}: there is no video ${index}, indices are 0 to ${length - 1}`);
  }
}

/** The frame numbers of a request as integers; throws a `JepaError` for one outside of the video. */
export function requestedFrames(request: FrameRequest, facts: VideoFacts, where: string): Int32Array {
  if (facts.count < 1) throw new JepaError(`${where}: the video has no frames`);
  const numbers = request(facts);
  for (let i = 0; i < numbers.length; i++) {
    if (!Number.isInteger(numbers[i]) || numbers[i] < 0 || numbers[i] >= facts.count) {
      throw new JepaError(`${where}: there is no frame ${numbers[i]}, the video has ${facts.count}`);
    }
  }
  return Int32Array.from(numbers);
}

/** Every `step`-th frame of a video, at most `chunk` at a time, in order; memory holds one piece. */
export async function* streamVideo(
  videos: VideoDataset,
  index: number,
  step: number,
  chunk: number,
): AsyncGenerator<VideoFrames, void> {
  for (const [name, value] of Object.entries({ step, chunk })) {
    if (!Number.isInteger(value) || value < 1) throw new JepaError(`videos: the ${name} ${value} must be 1 or more`);
  }
  if (videos.stream) {
    yield* videos.stream(index, step, chunk);
    return;
  }
  for (let first = 0, count = 1; first < count; first += step * chunk) {
    const piece = await videos.read(index, (facts) => {
      count = facts.count;
      const left = Math.ceil((count - first) / step);
      return Int32Array.from({ length: Math.min(chunk, left) }, (_, i) => first + i * step);
    });
    yield piece;
  }
}

// --- in memory ------------------------------------------------------------------------------------------------------

export interface MemoryVideos {
  readonly name: string;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** [videos, frames, height, width, channels]; other threads can read them where they lie in `sharedBytes`. */
  readonly pixels: Uint8Array;
  /** Frames a second; 0 (unknown) by default. */
  readonly fps?: number;
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  readonly attributes?: Readonly<Record<string, Int32Array>>;
}

/** A data set of decoded videos of one length and size held in memory. Throws a `JepaError` where sizes do not fit. */
export function memoryVideos(videos: MemoryVideos): VideoDataset {
  const { name, frames, height, width, channels, pixels, fps = 0, labels, classNames, attributes } = videos;
  const bytes = frames * height * width * channels;
  if (!(bytes > 0) || pixels.length % bytes !== 0) {
    throw new JepaError(
      `${name}: ${pixels.length} bytes are no whole number of ${frames} x ${height} x ${width} x ${channels} videos`,
    );
  }
  const length = pixels.length / bytes;
  for (const [what, values] of Object.entries({ labels, ...attributes })) {
    if (values && values.length !== length) {
      throw new JepaError(`${name}: ${length} videos but ${values.length} ${what}; they must be as many`);
    }
  }
  const facts: VideoFacts = { count: frames, fps, height, width };
  return {
    name,
    length,
    channels,
    size: { width, height },
    labels,
    classNames,
    attributes,
    async read(index, request) {
      checkVideo({ name, length }, index);
      const indices = requestedFrames(request, facts, `${name}[${index}]`);
      const data = pixels.subarray(index * bytes, (index + 1) * bytes);
      return { ...pickFrames({ frames, height, width, channels, data }, indices), facts, indices };
    },
    // Memory that threads do not share would be copied for each.
    source: isShared(pixels) ? { module: import.meta.url, options: { kind: 'memory', videos } } : undefined,
  };
}

// --- parts and mixtures ---------------------------------------------------------------------------------------------

/** Some videos of a data set, in the order of `indices`. */
export function subsetVideos(videos: VideoDataset, indices: ArrayLike<number>, name = videos.name): VideoDataset {
  const chosen = Int32Array.from(indices);
  for (const index of chosen) checkVideo(videos, index);
  const pick = <T extends Int32Array | Float32Array>(values: T) => {
    const Values = values.constructor as new (from: Iterable<number>) => T;
    return new Values(Array.from(chosen, (index) => values[index]));
  };
  const pickAll = <T extends Int32Array | Float32Array>(columns?: Readonly<Record<string, T>>) =>
    columns && Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, pick(values)]));
  const at = (index: number) => {
    checkVideo({ name, length: chosen.length }, index);
    return chosen[index];
  };
  const { labels, attributes, factors, stream, source } = videos;
  return {
    ...videos,
    name,
    length: chosen.length,
    labels: labels && pick(labels),
    attributes: pickAll(attributes),
    factors: pickAll(factors),
    read: async (index, request) => videos.read(at(index), request),
    stream: stream && ((index, step, chunk) => stream.call(videos, at(index), step, chunk)),
    nameOf: (index) => videoName(videos, at(index)),
    source: source && { module: import.meta.url, options: { kind: 'subset', source, indices: chosen } },
  };
}

/** A data set and how much of a mixture it makes up, relative to the others. */
export interface MixPart {
  readonly videos: VideoDataset;
  readonly weight: number;
}

/** Most entries of a mixture: positions are 32-bit integers. */
const MAX_MIX = 2 ** 31 - 1;

/**
 * Several data sets as one, each making up a share of it in proportion to its weight. The one that is shortest for its
 * weight sets the length: it comes with each video once, the others with theirs as often as their share demands, all of them
 * equally often (up to once). Labels stay where all parts have them, by the names of the classes where there are any. Throws a `JepaError` for
 * parts that cannot be mixed.
 */
export function mixVideos(
  parts: readonly MixPart[],
  name = parts.map(({ videos }) => videos.name).join(' + '),
): VideoDataset {
  if (parts.length === 0) throw new JepaError('a mixture of videos needs at least one data set');
  for (const { videos, weight } of parts) {
    if (!(weight > 0 && weight < Infinity))
      throw new JepaError(`${name}: the weight ${weight} of ${videos.name} must be above 0`);
    if (videos.length < 1) throw new JepaError(`${name}: ${videos.name} has no videos`);
    if (videos.channels !== parts[0].videos.channels) {
      throw new JepaError(`${name}: ${videos.name} has ${videos.channels} channels, not ${parts[0].videos.channels}`);
    }
  }
  const scale = Math.max(...parts.map(({ videos, weight }) => videos.length / weight));
  const counts = parts.map(({ weight }) => Math.round(weight * scale));
  const length = counts.reduce((sum, count) => sum + count, 0);
  if (length > MAX_MIX)
    throw new JepaError(`${name}: ${length} entries are too many; bring the weights closer together`);
  const firsts = counts.map((_, k) => counts.slice(0, k).reduce((sum, count) => sum + count, 0));
  const place = (index: number) => {
    checkVideo({ name, length }, index);
    let k = firsts.length - 1;
    while (firsts[k] > index) k--;
    return { videos: parts[k].videos, at: (index - firsts[k]) % parts[k].videos.length };
  };
  const { labels, classNames } = mixedLabels(parts, firsts, counts, length);
  const sizes = parts.map(({ videos }) => videos.size);
  const oneSize = sizes.every((size) => size && size.width === sizes[0]?.width && size.height === sizes[0]?.height);
  const sources = parts.map(({ videos, weight }) => ({ source: videos.source, weight }));
  return {
    name,
    length,
    channels: parts[0].videos.channels,
    size: oneSize ? sizes[0] : undefined,
    labels,
    classNames,
    async read(index, request) {
      const { videos, at } = place(index);
      return videos.read(at, request);
    },
    stream(index, step, chunk) {
      const { videos, at } = place(index);
      return streamVideo(videos, at, step, chunk);
    },
    nameOf(index) {
      const { videos, at } = place(index);
      return videoName(videos, at);
    },
    source: sources.every(({ source }) => source)
      ? { module: import.meta.url, options: { kind: 'mix', sources, name } }
      : undefined,
    async close() {
      for (const { videos } of parts) await videos.close?.();
    },
  };
}

/** Labels of a mixture: by class names where all parts have them, as they are where none has. */
function mixedLabels(
  parts: readonly MixPart[],
  firsts: readonly number[],
  counts: readonly number[],
  length: number,
): Pick<VideoDataset, 'labels' | 'classNames'> {
  const named = parts.filter(({ videos }) => videos.classNames).length;
  if (parts.some(({ videos }) => !videos.labels) || (named > 0 && named < parts.length)) return {};
  const classNames = named > 0 ? [...new Set(parts.flatMap(({ videos }) => videos.classNames!))] : undefined;
  const labels = new Int32Array(length);
  for (const [k, { videos }] of parts.entries()) {
    const numbers = videos.classNames?.map((className) => classNames!.indexOf(className));
    for (let i = 0; i < counts[k]; i++) {
      const label = videos.labels![i % videos.length];
      labels[firsts[k] + i] = numbers && label >= 0 ? numbers[label] : label;
    }
  }
  return { labels, classNames };
}

// --- for other threads ----------------------------------------------------------------------------------------------

type OwnSource =
  | { readonly kind: 'memory'; readonly videos: MemoryVideos }
  | { readonly kind: 'subset'; readonly source: VideoSource; readonly indices: Int32Array }
  | {
      readonly kind: 'mix';
      readonly sources: readonly { source: VideoSource; weight: number }[];
      readonly name: string;
    };

/** Opens a source in this thread. */
export async function openVideos(source: VideoSource): Promise<VideoDataset> {
  const { openVideoSource } = (await import(/* webpackIgnore: true */ /* @vite-ignore */ source.module)) as VideoModule;
  return openVideoSource(source.options);
}

/** Opens what the data sets of this file give as their source. */
export async function openVideoSource(options: unknown): Promise<VideoDataset> {
  const own = options as OwnSource;
  if (own.kind === 'memory') return memoryVideos(own.videos);
  if (own.kind === 'subset') return subsetVideos(await openVideos(own.source), own.indices);
  const parts = await Promise.all(
    own.sources.map(async ({ source, weight }) => ({ videos: await openVideos(source), weight })),
  );
  return mixVideos(parts, own.name);
}
