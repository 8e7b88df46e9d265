import { JepaError } from '../../base/errors.js';
import type { SampleReader } from '../dataset.js';
import type { ClipDataset } from './clips.js';
import { openVideos, type VideoDataset, type VideoFrames, type VideoSource, videoName } from './dataset.js';
import type { ClipSampling } from './sampling.js';
import { frameStep } from './sampling.js';

/** Where the clips of a set of videos begin: plain data. */
interface Places {
  /** Of every clip: its video, its first frame, and the frames from one to the next. */
  readonly video: Int32Array;
  readonly first: Int32Array;
  readonly step: Int32Array;
  readonly frames: number;
}

/**
 * Clips one after the other along whole videos, of which each is read by itself: memory does not grow with the length of a video.
 * What is left at the end and fills no clip belongs to the last one, which begins early enough; a video shorter than a clip is
 * one clip that stays at its last frame. Samples are called `path@seconds` (or `path#frame` where the rate is unknown). Opening
 * asks every video for its length.
 */
export async function clipsAlong(videos: VideoDataset, sampling: ClipSampling): Promise<ClipDataset> {
  const { frames } = sampling;
  const [video, first, step, names]: [number[], number[], number[], string[]] = [[], [], [], []];
  for (let index = 0; index < videos.length; index++) {
    const { count, fps } = (await videos.read(index, () => [0])).facts;
    const every = frameStep(sampling, fps);
    if (every < 1) throw new JepaError(`${videoName(videos, index)}: its clips would stand still; set frameStep`);
    const span = frames * every;
    for (let at = 0; at === 0 || at < count; at += span) {
      const begin = Math.max(0, Math.min(at, count - span));
      video.push(index);
      first.push(begin);
      step.push(every);
      names.push(`${videoName(videos, index)}${fps > 0 ? `@${(begin / fps).toFixed(2)}` : `#${begin}`}`);
    }
  }
  const places: Places = {
    video: Int32Array.from(video),
    first: Int32Array.from(first),
    step: Int32Array.from(step),
    frames,
  };
  const ofVideos = <T extends Int32Array | Float32Array>(values: T): T => {
    const Values = values.constructor as new (from: ArrayLike<number>) => T;
    return new Values(video.map((index) => values[index]));
  };
  const { name, channels, labels, classNames, source } = videos;
  return {
    name,
    modality: 'video',
    length: video.length,
    channels,
    sampling,
    labels: labels && ofVideos(labels),
    classNames,
    read: (index) => readAlong(videos, places, index),
    nameOf: (index) => names[index],
    source: source && { kind: 'module', module: import.meta.url, options: { source, places } satisfies Options },
  };
}

function readAlong(videos: VideoDataset, { video, first, step, frames }: Places, index: number): Promise<VideoFrames> {
  return videos.read(video[index], ({ count }) =>
    Int32Array.from({ length: frames }, (_, i) => Math.min(first[index] + i * step[index], count - 1)),
  );
}

interface Options {
  readonly source: VideoSource;
  readonly places: Places;
}

/** For loader threads (`SourceModule`). */
export async function open(options: unknown): Promise<SampleReader<VideoFrames>> {
  const { source, places } = options as Options;
  const videos = await openVideos(source);
  return {
    read: (index) => readAlong(videos, places, index),
    close: async () => videos.close?.(),
  };
}
