import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';

/**
 * Which frames of a video make its clips (specs/vjepa.md 5.1, specs/vjepa2.md 5, 7.2, 8.1). Everything here is whole
 * numbers: the result can be compared with the published loaders frame by frame.
 */
export interface ClipSampling {
  /** Frames a clip. */
  readonly frames: number;
  /** Exactly one of the three says how far apart they are. Every so many frames of the video; */
  readonly frameStep?: number;
  /** or so many frames a second of the video; */
  readonly fps?: number;
  /** or a clip of so many seconds. */
  readonly duration?: number;
  /** Clips a video, one from each of as many equal parts; 1 by default. */
  readonly clips?: number;
  /** Which of them a data set of single clips gives; the first by default. */
  readonly which?: number;
  /** Where a clip lies in its part: anywhere (the default), or at its beginning. */
  readonly start?: 'random' | 'first';
  /** Let clips overlap where the parts are shorter than a clip; by default such a clip repeats the last frame of its part. */
  readonly overlap?: boolean;
  /** A video shorter than one clip is padded with its last frame (the default) or passed over. */
  readonly short?: 'pad' | 'skip';
  /**
   * V-JEPA 2 rounds the rate of a video up before it divides (29.97 counts as 30) and refuses a video with too few frames a
   * second; V-JEPA does neither, and makes a clip of one frame from such a video. `up` by default.
   */
  readonly rate?: 'up' | 'exact';
}

/** What sampling needs to know of a video. */
export interface VideoLength {
  /** Frames of the video. */
  readonly count: number;
  /** Frames a second; 0 where unknown. */
  readonly fps: number;
}

/** Frames of the video from one frame of a clip to the next. Throws a `JepaError` where a video has too few a second. */
export function frameStep(sampling: ClipSampling, fps: number): number {
  const { frameStep: step, fps: wanted, duration, frames } = sampling;
  if ([step, wanted, duration].filter((value) => value !== undefined).length !== 1) {
    throw new JepaError('clip sampling: give exactly one of frameStep, fps and duration');
  }
  if (step !== undefined) {
    if (!Number.isInteger(step) || step < 1) throw new JepaError(`clip sampling: frameStep ${step} must be 1 or more`);
    return step;
  }
  const rate = sampling.rate === 'exact' ? fps : Math.ceil(fps);
  const result = wanted !== undefined ? Math.floor(rate / wanted) : Math.trunc((duration! * rate) / frames);
  if (result >= 1 || (result === 0 && sampling.rate === 'exact')) return result;
  const asked = wanted !== undefined ? `${wanted} frames a second` : `${frames} frames in ${duration} s`;
  throw new JepaError(
    `clip sampling: ${asked} cannot come from a video of ${fps} frames a second; set frameStep instead`,
  );
}

/** numpy's linspace: `count` doubles from `start` to `stop`, both included. */
function linspace(start: number, stop: number, count: number): number[] {
  const step = count > 1 ? (stop - start) / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => (i > 0 && i === count - 1 ? stop : i * step + start));
}

/**
 * Frame numbers of every clip of one video, or undefined where the video is to be skipped. A clip of n frames at step s
 * spans n s frames and takes n of them evenly, both ends included: the spacing is n s / (n - 1). A random place draws one
 * integer a clip, in their order. Numbers stay inside the video (an empty one gives zeros). Throws a `JepaError` for
 * settings that cannot work with this video.
 */
export function sampleClips(
  sampling: ClipSampling,
  { count, fps }: VideoLength,
  random: Pick<Random, 'integer'>,
): Int32Array[] | undefined {
  const { frames, clips = 1, start = 'random', overlap = false, short = 'pad' } = sampling;
  for (const [name, value] of Object.entries({ frames, clips })) {
    if (!Number.isInteger(value) || value < 1) throw new JepaError(`clip sampling: ${name} ${value} must be 1 or more`);
  }
  const step = frameStep(sampling, fps);
  const span = frames * step;
  if (short === 'skip' && count < span) return undefined;
  const part = Math.floor(count / clips);
  const pointsIn = (length: number) => (step > 0 ? Math.floor(length / step) : 0);
  /** Evenly from `first` to `end`, then the rest of the clip at its end. */
  const evenly = (first: number, end: number, points: number) => {
    const numbers = linspace(first, end, points).map((at) => Math.min(Math.max(first, at), end - 1));
    return [...numbers, ...new Array<number>(frames - points).fill(end - 1)];
  };
  return Array.from({ length: clips }, (_, clip) => {
    let numbers: number[];
    let shift = clip * part;
    if (part > span) {
      const end = start === 'random' ? span + random.integer(part - span) : span;
      numbers = evenly(end - span, end, frames);
    } else if (!overlap) {
      numbers = evenly(0, part, pointsIn(part));
    } else {
      // One frame less than there is: the published loader ends its overlapping clips twice on the last frame but one.
      const length = Math.max(0, Math.min(span, count) - 1);
      numbers = evenly(0, length, pointsIn(length));
      shift = count > span ? clip * Math.floor((count - span) / (clips - 1)) : 0;
    }
    return Int32Array.from(numbers, (at) => Math.max(0, Math.min(Math.trunc(at) + shift, count - 1)));
  });
}

/** What is to be anticipated, and from how far (EPIC-Kitchens-100). */
export interface Anticipation {
  /** First and last frame of the action. */
  readonly start: number;
  readonly stop: number;
  /** Seconds between the end of the clip and the anchor. */
  readonly seconds: number;
  /** The anchor: 0 is the end of the action, 1 its beginning. */
  readonly point: number;
}

/**
 * Frame numbers of the clip of `frames` frames at about `fps` a second that ends `seconds` before the anchor; those before
 * the video are frame 0. Throws a `JepaError` where the video has fewer frames a second.
 */
export function anticipationFrames(action: Anticipation, videoFps: number, frames: number, fps: number): Int32Array {
  const step = Math.trunc(videoFps / fps);
  if (!(step >= 1)) {
    throw new JepaError(
      `clip sampling: ${fps} frames a second cannot come from a video of ${videoFps}; set a lower fps`,
    );
  }
  const { start, stop, seconds, point } = action;
  const end = Math.trunc(start * point + stop * (1 - point) - Math.trunc(seconds * videoFps));
  return Int32Array.from({ length: frames }, (_, i) => Math.max(0, end - (frames - i) * step));
}

export interface RobotClip {
  readonly frames: Int32Array;
  /** Rows of the recorded states that belong to it; between two of them lies one action. */
  readonly states: Int32Array;
}

/**
 * Frames and state rows of a clip of a robot's episode (specs/vjepa2.md 8.1): a random window, every
 * ceil(video rate / fps)-th frame of it, and of those every `frameskip`-th state. Throws a `JepaError` where the episode is
 * shorter.
 */
export function robotFrames(
  { count, fps: videoFps }: VideoLength,
  frames: number,
  fps: number,
  frameskip: number,
  random: Pick<Random, 'integer'>,
): RobotClip {
  const step = Math.ceil(videoFps / fps);
  const span = frames * step;
  if (!(step >= 1) || span > count) {
    throw new JepaError(
      `clip sampling: an episode of ${count} frames at ${videoFps} a second has no clip of ${frames} frames at ${fps}`,
    );
  }
  const end = span + (count > span ? random.integer(count - span) : 0);
  const numbers = Int32Array.from({ length: frames }, (_, i) => end - span + i * step);
  return { frames: numbers, states: numbers.filter((_, i) => i % frameskip === 0) };
}
