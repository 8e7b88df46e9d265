import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { Dataset, SampleReader } from '../dataset.js';
import type { Preparation } from '../preparation.js';
import { type FrameRequest, openVideos, type VideoDataset, type VideoFrames, type VideoSource } from './dataset.js';
import { type ClipSampling, frameStep, sampleClips } from './sampling.js';
import {
  applyClipTransform,
  type ClipTransform,
  type ClipTransformInput,
  clipViews,
  parseClipTransform,
} from './transforms.js';

/** A set of videos of which clips are read, one a sample. */
export interface ClipDataset extends Dataset<VideoFrames> {
  readonly modality: 'video';
  readonly channels: number;
  readonly sampling: ClipSampling;
}

/** Clips of videos: anywhere in a video where a generator says where, else at its middle. */
export function clipDataset(videos: VideoDataset, sampling: ClipSampling): ClipDataset {
  const { name, length, channels, labels, classNames, attributes, factors, nameOf, source } = videos;
  return {
    name,
    modality: 'video',
    length,
    channels,
    sampling,
    labels,
    classNames,
    attributes,
    factors,
    read: (index, random) => videos.read(index, clipRequest(sampling, random)),
    nameOf: nameOf && ((index) => nameOf.call(videos, index)),
    source: source && { kind: 'module', module: import.meta.url, options: { source, sampling } satisfies Options },
  };
}

/**
 * What to know where the first video is shorter than a clip: as published, its last frame fills the rest. Undefined where it is
 * long enough, or cannot be read.
 */
export async function shortVideoNote({ read, nameOf, name, sampling }: ClipDataset): Promise<string | undefined> {
  let facts: VideoFrames['facts'];
  try {
    ({ facts } = await read(0));
  } catch (error) {
    if (error instanceof JepaError) return undefined;
    throw error;
  }
  const span = sampling.frames * frameStep(sampling, facts.fps);
  if (facts.count >= span) return undefined;
  return `${nameOf?.(0) ?? name}: it has ${facts.count} of the ${span} frames that a clip spans, and is filled up with its last frame; take fewer frames, or closer ones`;
}

function clipRequest(sampling: ClipSampling, random: Random | undefined): FrameRequest {
  return (facts) => {
    const clips = sampleClips(sampling, facts, random ?? { integer: (bound) => Math.floor((bound - 1) / 2) });
    if (!clips) throw new JepaError(`a video of ${facts.count} frames is shorter than a clip`);
    return clips[sampling.which ?? 0];
  };
}

/** What a loader thread is given. */
interface Options {
  readonly source: VideoSource;
  readonly sampling: ClipSampling;
}

/** For loader threads (`SourceModule`). */
export async function open(options: unknown): Promise<SampleReader<VideoFrames>> {
  const { source, sampling } = options as Options;
  const videos = await openVideos(source);
  return {
    read: (index, random) => videos.read(index, clipRequest(sampling, random)),
    close: async () => videos.close?.(),
  };
}

/** How clips are prepared, as it stands in a configuration. */
export interface VideoInput {
  readonly kind: 'video';
  readonly transform: ClipTransformInput;
  /** Which of the transform's views is prepared, where it makes several. */
  readonly view?: number;
}

/** A checked `VideoInput` with what the data say: plain data. */
export interface VideoPlan {
  readonly kind: 'video';
  readonly transform: ClipTransform;
  readonly view: number;
  readonly channels: number;
  readonly frames: number;
}

/** Checks a preparation. Throws a `JepaError` beginning with `where`. */
export function planClips(
  { transform, view }: VideoInput,
  { channels, sampling }: ClipDataset,
  where: string,
): VideoPlan {
  const parsed = parseClipTransform(transform, `${where}.transform`);
  const { views } = clipViews(parsed);
  if (view === undefined ? views !== 1 : !(view >= 0 && view < views))
    throw new JepaError(`${where}.transform.views: one view is prepared at a time; say which of the ${views}`);
  return { kind: 'video', transform: parsed, view: view ?? 0, channels, frames: sampling.frames };
}

/** Clips as `clips` [channels, frames, height, width]. */
export function clipPreparation({ transform, view, channels, frames }: VideoPlan): Preparation<VideoFrames> {
  const { views, height, width } = clipViews(transform);
  const size = channels * frames * height * width;
  return {
    fields: [{ name: 'clips', dtype: 'float32', shape: [channels, frames, height, width] }],
    prepare(clip, random, [out]) {
      const all = views === 1 ? (out as Float32Array) : new Float32Array(views * size);
      applyClipTransform(clip, transform, random, all);
      if (views > 1) out.set(all.subarray(view * size, (view + 1) * size));
    },
  };
}
