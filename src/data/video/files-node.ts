import { stat } from 'node:fs/promises';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import { cacheKey, type DecodedCache, openDecodedCache } from '../cache-node.js';
import type { CacheOptions } from '../dataset.js';
import { GET_FFMPEG } from '../ffmpeg-process-node.js';
import { frameOf, type RawClip } from './clip.js';
import { checkVideo, requestedFrames, type VideoDataset, type VideoFacts, type VideoFrames } from './dataset.js';
import type { OpenVideo, VideoDecode, VideoDecoder } from './decoder.js';
import { findFfmpeg } from './ffmpeg-node.js';
import { animationDecoder, pictureDecoder } from './pictures-node.js';

/** File name endings that a folder of videos is searched for, in any case. */
export const VIDEO_EXTENSIONS: readonly string[] = [
  ...['mp4', 'webm', 'mov', 'mkv', 'avi', 'm4v', 'mpg', 'mpeg', 'ts', 'flv', 'ogv', 'wmv', '3gp', 'y4m', 'gif'],
];

/** Videos in files of their own, in folders of pictures, or pictures. */
export interface VideoFiles {
  readonly name: string;
  readonly paths: readonly string[];
  readonly decode: VideoDecode;
  /** Frames a second of folders of pictures. */
  readonly fps: number;
  /** Where decoded frames are kept; not kept by default. */
  readonly cache?: CacheOptions;
}

/** What decodes a path: by the ending of its name. A folder is one of pictures. */
async function decoderOf(path: string, { fps }: VideoFiles): Promise<VideoDecoder> {
  const info = await stat(path).catch(fileErrorOf('read', path));
  if (info.isDirectory()) return pictureDecoder(fps);
  if (/\.(gif|webp)$/i.test(path)) return animationDecoder;
  if (/\.(jpe?g|png|bmp|tiff?|avif|p[pgb]m)$/i.test(path)) return pictureDecoder(fps);
  if (info.size === 0) throw new JepaError(`${path}: the file is empty`);
  const ffmpeg = findFfmpeg();
  if (!ffmpeg) throw new JepaError(`${path}: no video decoder was found; ${GET_FFMPEG}`);
  return ffmpeg;
}

/** Facts of so many videos are remembered: asking costs as much as decoding a short clip. */
const REMEMBERED = 1 << 16;
/** Frames between those wanted are decoded anyway; a cache gets them too where they are not more than these bytes. */
const KEEP_BETWEEN = 1 << 26;

/** A data set of video files that are named one by one. Reading one that is missing or damaged is an error, later. */
export function videoFiles(files: VideoFiles): VideoDataset {
  const { name, paths, decode } = files;
  const remembered = new Map<string, VideoFacts>();
  let cache: Promise<DecodedCache> | undefined;

  /** The path of a video, and a text that changes with its content. */
  async function fileOf(index: number): Promise<{ path: string; version: string }> {
    checkVideo({ name, length: paths.length }, index);
    const path = paths[index];
    const { mtimeMs, size } = await stat(path).catch(fileErrorOf('read', path));
    return { path, version: `${path} ${mtimeMs} ${size}` };
  }

  /** The video that was opened last: clips along a video come one after the other, and asking for its facts takes a program. */
  let last: { readonly version: string; readonly video: Promise<OpenVideo> } | undefined;
  const open = async (path: string, version: string): Promise<OpenVideo> => {
    if (last?.version !== version) {
      const opened = { version, video: decoderOf(path, files).then((decoder) => decoder.open(path, decode)) };
      // What failed for want of time may be opened later.
      opened.video.catch(() => {
        if (last === opened) last = undefined;
      });
      last = opened;
    }
    return last.video;
  };

  return {
    name,
    length: paths.length,
    channels: decode.channels,
    async read(index, request) {
      const { path, version } = await fileOf(index);
      const opened = () => open(path, version);
      const facts = remembered.get(version) ?? (await opened()).facts;
      if (remembered.size < REMEMBERED) remembered.set(version, facts);
      const indices = requestedFrames(request, facts, path);
      if (!files.cache) return { ...(await (await opened()).frames(indices)), facts, indices };
      cache ??= openDecodedCache(files.cache, (message) => console.warn(message));
      const clip = await throughCache(await cache, version, decode, facts, indices, opened);
      return { ...clip, facts, indices };
    },
    async *stream(index, step, chunk) {
      const { path, version } = await fileOf(index);
      const { facts, every, frames } = await open(path, version);
      if (every) for await (const { clip, indices } of every(step, chunk)) yield { ...clip, facts, indices };
      else yield* everyByFrames(facts, frames, step, chunk);
    },
    nameOf: (index) => paths[index],
    source: { module: import.meta.url, options: files },
    async close() {
      await (await cache)?.close();
    },
  };
}

/** Opens what `videoFiles` gives as its source. */
export function openVideoSource(options: unknown): VideoDataset {
  return videoFiles(options as VideoFiles);
}

async function* everyByFrames(
  facts: VideoFacts,
  frames: OpenVideo['frames'],
  step: number,
  chunk: number,
): AsyncGenerator<VideoFrames, void> {
  for (let first = 0; first < facts.count; first += step * chunk) {
    const length = Math.min(chunk, Math.ceil((facts.count - first) / step));
    const indices = Int32Array.from({ length }, (_, i) => first + i * step);
    yield { ...(await frames(indices)), facts, indices };
  }
}

/** Takes frames from the cache, decodes those that are missing (with those between them) and keeps them. */
async function throughCache(
  cache: DecodedCache,
  version: string,
  { channels, shortSide }: VideoDecode,
  { width, height }: VideoFacts,
  indices: Int32Array,
  opened: () => Promise<OpenVideo>,
): Promise<RawClip> {
  const bytes = width * height * channels;
  const keyOf = (number: number) => cacheKey(version, channels, shortSide, 'frame', number);
  const found = new Map<number, Uint8Array>();
  const missing: number[] = [];
  for (const number of new Set(indices)) {
    const kept = await cache.get(keyOf(number));
    if (kept?.data.length === bytes) found.set(number, kept.data);
    else missing.push(number);
  }
  if (missing.length > 0) {
    missing.sort((a, b) => a - b);
    const [first, last] = [missing[0], missing[missing.length - 1]];
    const all = (last - first + 1) * bytes <= KEEP_BETWEEN;
    const wanted = all ? Int32Array.from({ length: last - first + 1 }, (_, i) => first + i) : Int32Array.from(missing);
    const clip = await (await opened()).frames(wanted);
    for (const [i, number] of wanted.entries()) {
      // A copy of its own: a view would keep the whole clip.
      const data = frameOf(clip, i).slice();
      cache.put(keyOf(number), { width, height, channels, data });
      found.set(number, data);
    }
  }
  const data = new Uint8Array(indices.length * bytes);
  for (let i = 0; i < indices.length; i++) data.set(found.get(indices[i])!, i * bytes);
  return { frames: indices.length, height, width, channels, data };
}
