import { JepaError } from '../../base/errors.js';
import { shortEdgeSize } from '../resample.js';
import type { RawClip } from './clip.js';
import type { VideoFacts } from './dataset.js';

/** How a video becomes bytes. */
export interface VideoDecode {
  /** 3: RGB; 1: grey. */
  readonly channels: 1 | 3;
  /** Reduce frames while decoding until their short side has this many pixels; smaller ones stay as they are. */
  readonly shortSide?: number;
  /** A video with more pixels a frame is refused before it is decoded. */
  readonly maxPixels: number;
  /** Seconds without a frame after which a decoder is ended. */
  readonly timeout: number;
}

/** RGB at full size, refused above 8192 x 8192 pixels or after two minutes. */
export const VIDEO_DECODE: VideoDecode = { channels: 3, maxPixels: 1 << 26, timeout: 120 };

/** The size that frames are given in: smaller where a short side is asked for. */
export function frameSize(
  size: { readonly width: number; readonly height: number },
  { shortSide }: VideoDecode,
): { width: number; height: number } {
  const { width, height } = size;
  if (!shortSide || Math.min(width, height) <= shortSide) return { width, height };
  return shortEdgeSize(size, shortSide);
}

/** One opened video. */
export interface OpenVideo {
  readonly facts: VideoFacts;
  /** The frames of these numbers, in this order. */
  frames(indices: Int32Array): Promise<RawClip>;
  /** Every `step`-th frame, at most `chunk` at a time, in order; absent where `frames` does as well. */
  every?(step: number, chunk: number): AsyncIterable<{ readonly clip: RawClip; readonly indices: Int32Array }>;
}

/** Something that decodes videos. Errors are `JepaError`s that begin with the path. */
export interface VideoDecoder {
  readonly name: string;
  open(path: string, decode: VideoDecode): Promise<OpenVideo>;
}

/** Most bytes of frames that are read at once. */
const MAX_BYTES = 1 << 30;
/** A video may end this much before the frames that its header announces; its last frame then stands for the rest. */
const MISSING = 0.05;

/** Collects the frames that are wanted from those that a decoder gives in rising order. */
export interface WantedFrames {
  /** Different frame numbers, rising. */
  readonly numbers: Int32Array;
  /** Bytes a frame. */
  readonly bytes: number;
  /** Notes a frame that came; one that is not wanted is ignored. The bytes are copied. */
  take(number: number, frame: Uint8Array): void;
  /** The frames in the wanted order. Throws a `JepaError` where too many did not come. */
  finish(): RawClip;
}

/** Throws a `JepaError` where the frames are more than memory should hold. */
export function wantedFrames(
  path: string,
  { count, width, height }: VideoFacts,
  indices: Int32Array,
  { channels }: VideoDecode,
): WantedFrames {
  const bytes = width * height * channels;
  const numbers = Int32Array.from(new Set(indices)).sort();
  if (Math.max(indices.length, numbers.length) * bytes > MAX_BYTES) {
    throw new JepaError(
      `${path}: ${indices.length} frames of ${width} x ${height} are more than 1 GiB; set shortSide or read fewer at once`,
    );
  }
  const kept = new Uint8Array(numbers.length * bytes);
  const slots = new Map(Array.from(numbers, (number, slot) => [number, slot]));
  let came = 0;
  let latest: number | undefined;
  return {
    numbers,
    bytes,
    take(number, frame) {
      latest = number;
      const slot = slots.get(number);
      if (slot === undefined) return;
      kept.set(frame, slot * bytes);
      came = slot + 1;
    },
    finish() {
      if (came === 0 && numbers.length > 0) {
        throw new JepaError(
          `${path}: the video ends before frame ${numbers[0]}, ${count} are announced; it is damaged`,
        );
      }
      if (came < numbers.length && numbers[came] < (1 - MISSING) * count) {
        throw new JepaError(`${path}: the video ends after frame ${latest}, ${count} are announced; it is damaged`);
      }
      const last = kept.subarray((came - 1) * bytes, came * bytes);
      const data = new Uint8Array(indices.length * bytes);
      for (let i = 0; i < indices.length; i++) {
        const slot = slots.get(indices[i])!;
        data.set(slot < came ? kept.subarray(slot * bytes, (slot + 1) * bytes) : last, i * bytes);
      }
      return { frames: indices.length, height, width, channels, data };
    },
  };
}
