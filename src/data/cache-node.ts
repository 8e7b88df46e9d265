import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { isCount } from '../base/json.js';
import type { CacheOptions, RawImage } from './dataset.js';

/**
 * Decoded images on disk. A shard file holds the bytes of many images, then a JSON index, its length and a mark; it is
 * written to a temporary file, flushed and renamed, so a shard is whole or not there. Several threads and processes can use
 * one folder: each writes shards of its own and sees those of the others.
 */
export interface DecodedCache {
  get(key: string): Promise<RawImage | undefined>;
  /** Keeps an image; it is on disk after the shard is full, or after `close`. */
  put(key: string, image: RawImage): void;
  close(): Promise<void>;
}

const MARK = Buffer.from('jepa decoded 1\n\0');
const TRAILER = 4 + MARK.length;
const SUFFIX = '.decoded';
const SHARD_BYTES = 64 << 20;
/** Shards written by other threads are looked for at most this often, in milliseconds. */
const RESCAN = 2000;
/** Most shards open at a time. */
const MAX_OPEN = 128;

/** [key, offset, width, height, channels] of every image of a shard. */
type ShardIndex = [string, number, number, number, number][];

interface Place {
  readonly file: string;
  readonly offset: number;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** A key of a file's decoded content: another path, time of change, size or way of decoding gives another key. */
export function cacheKey(...parts: (string | number | undefined)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url').slice(0, 24);
}

/**
 * Opens (and makes) the folder; throws a `JepaError` if it cannot be made. Later trouble with the disk ends only the
 * keeping of further images, and is told to `notice`: the images themselves can always be decoded again.
 */
export async function openDecodedCache(
  { folder, maxBytes }: CacheOptions,
  notice: (message: string) => void,
): Promise<DecodedCache> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw fileError('make the cache folder', folder, error);
  }
  const opened = Date.now();
  const shardBytes = Math.min(SHARD_BYTES, maxBytes / 8);
  const places = new Map<string, Place>();
  const known = new Set<string>();
  /** Open shards, the one opened last at the end. */
  const handles = new Map<string, Promise<FileHandle>>();
  let pending = new Map<string, RawImage>();
  let pendingBytes = 0;
  /** Images on their way to disk: still to be found. */
  let flushing: Map<string, RawImage> | undefined;
  let flushed: Promise<void> = Promise.resolve();
  let full = false;
  let scanned = 0;

  const shards = async () => (await readdir(folder)).filter((name) => name.endsWith(SUFFIX)).sort();

  async function scan(): Promise<void> {
    scanned = Date.now();
    for (const file of await shards()) {
      if (known.has(file)) continue;
      known.add(file);
      for (const [key, offset, width, height, channels] of await readIndex(join(folder, file))) {
        places.set(key, { file, offset, width, height, channels });
      }
    }
  }

  function handleOf(file: string): Promise<FileHandle> {
    let handle = handles.get(file);
    if (!handle) {
      const path = join(folder, file);
      // A shard in use is marked as young, so that making room takes those of other data sets first.
      handle = open(path, 'r').then(async (opened) => {
        const now = new Date();
        await utimes(path, now, now).catch(() => undefined);
        return opened;
      });
      handles.set(file, handle);
      const [[oldest, first]] = handles;
      if (handles.size > MAX_OPEN) {
        handles.delete(oldest);
        // Closing waits for the reads under way.
        first.then((opened) => opened.close()).catch(() => undefined);
      }
    }
    return handle;
  }

  /** Removes shards that nobody has used since this cache was opened until `bytes` more fit; false if they cannot. */
  async function makeRoom(bytes: number): Promise<boolean> {
    const files: { path: string; size: number; used: number }[] = [];
    for (const name of await shards()) {
      const path = join(folder, name);
      const info = await stat(path).catch(() => undefined);
      if (info) files.push({ path, size: info.size, used: info.mtimeMs });
    }
    let total = files.reduce((sum, file) => sum + file.size, bytes);
    for (const file of files.sort((a, b) => a.used - b.used)) {
      if (total <= maxBytes || file.used >= opened) break;
      await rm(file.path, { force: true });
      total -= file.size;
    }
    return total <= maxBytes;
  }

  async function flush(images: Map<string, RawImage>): Promise<void> {
    const index: ShardIndex = [];
    const parts: Uint8Array[] = [];
    let offset = 0;
    for (const [key, { width, height, channels, data }] of images) {
      index.push([key, offset, width, height, channels]);
      parts.push(data);
      offset += data.length;
    }
    const json = Buffer.from(JSON.stringify(index));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    parts.push(json, length, MARK);
    if (!(await makeRoom(offset + json.length + TRAILER))) {
      full = true;
      return;
    }
    const name = randomBytes(9).toString('hex');
    const temporary = join(folder, `.${name}.tmp`);
    try {
      const handle = await open(temporary, 'wx');
      try {
        await handle.writeFile(Buffer.concat(parts));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, join(folder, name + SUFFIX));
    } catch (error) {
      await rm(temporary, { force: true });
      full = true;
      notice(`${fileError('write the decoded cache', folder, error).message} (training goes on without keeping more)`);
    }
  }

  function startFlush(): void {
    const images = pending;
    pending = new Map();
    pendingBytes = 0;
    flushing = images;
    flushed = flush(images).finally(() => {
      flushing = undefined;
      // What was written is found by the next look into the folder.
      scanned = 0;
    });
  }

  await scan();
  return {
    async get(key) {
      const held = pending.get(key) ?? flushing?.get(key);
      if (held) return held;
      if (!places.has(key) && Date.now() - scanned > RESCAN) await scan();
      const place = places.get(key);
      if (!place) return undefined;
      const { file, offset, width, height, channels } = place;
      // Not zeroed first: it is filled at once.
      const data = Buffer.allocUnsafeSlow(width * height * channels);
      try {
        const { bytesRead } = await (await handleOf(file)).read(data, 0, data.length, offset);
        if (bytesRead === data.length) return { width, height, channels, data };
      } catch {
        // Removed by another process that needed the room.
      }
      places.delete(key);
      return undefined;
    },
    put(key, image) {
      // While the disk is slower than the decoder, images are not kept: memory stays bounded.
      if (full || image.data.length > maxBytes || (pendingBytes >= shardBytes && flushing)) return;
      pending.set(key, image);
      pendingBytes += image.data.length;
      if (pendingBytes >= shardBytes && !flushing) startFlush();
    },
    async close() {
      await flushed;
      if (pending.size > 0 && !full) startFlush();
      await flushed;
      for (const handle of handles.values()) await handle.then((opened) => opened.close()).catch(() => undefined);
    },
  };
}

/** The index of a shard; throws a `JepaError` if the file is not one. A shard that has vanished has none. */
async function readIndex(path: string): Promise<ShardIndex> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch {
    return [];
  }
  try {
    const { size } = await handle.stat();
    const trailer = Buffer.alloc(TRAILER);
    await handle.read(trailer, 0, TRAILER, Math.max(0, size - TRAILER));
    const length = trailer.readUInt32LE(0);
    const start = size - TRAILER - length;
    if (trailer.subarray(4).equals(MARK) && start >= 0) {
      const json = Buffer.alloc(length);
      await handle.read(json, 0, length, start);
      const index = JSON.parse(json.toString()) as ShardIndex;
      const isPlace = ([key, ...numbers]: ShardIndex[number]): boolean => {
        const [offset, width, height, channels] = numbers;
        return typeof key === 'string' && numbers.every(isCount) && offset + width * height * channels <= start;
      };
      if (index.every(isPlace)) return index;
    }
  } catch {
    // Fall through: whatever it is, it is not a shard.
  } finally {
    await handle.close();
  }
  throw new JepaError(`${path}: not a shard of decoded images; delete it`);
}
