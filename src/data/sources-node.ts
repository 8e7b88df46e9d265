import { open as openFile, readFile, stat } from 'node:fs/promises';
import { fileError, fileErrorOf } from '../base/atomic.js';
import { cacheKey, type DecodedCache, openDecodedCache } from './cache-node.js';
import {
  type CacheOptions,
  type DatasetSource,
  type DecodeOptions,
  type ImageSource,
  imageOfMemory,
  type RawImage,
  type SampleReader,
  type SourceModule,
} from './dataset.js';

/** An encoded image: where its bytes are, and what they depend on. */
interface Encoded {
  readonly where: string;
  /** Time of change and size of the file, so that a changed file is decoded again. */
  version(): Promise<readonly number[]>;
  bytes(): Promise<Uint8Array>;
}

/** Opens a source in this thread. `notice` is told what goes wrong without being an error. */
export async function openSource(source: DatasetSource, notice: (message: string) => void): Promise<SampleReader> {
  if (source.kind === 'subset') {
    const inner = await openSource(source.of, notice);
    return { read: (index, random) => inner.read(source.indices[index], random), close: async () => inner.close?.() };
  }
  if (source.kind !== 'module') return openImageSource(source, notice);
  const { open } = (await import(source.module)) as SourceModule;
  return open(source.options);
}

/** Opens a source of images in this thread. */
export async function openImageSource(
  source: ImageSource,
  notice: (message: string) => void,
): Promise<SampleReader<RawImage>> {
  if (source.kind === 'memory') return { read: (index) => imageOfMemory(source, index) };
  const encoded = source.kind === 'files' ? filesOf(source.paths) : membersOf(source);
  return decoding(encoded, source.decode, source.cache, notice);
}

async function decoding(
  encoded: (index: number) => Encoded,
  decode: DecodeOptions,
  cacheOptions: CacheOptions | undefined,
  notice: (message: string) => void,
): Promise<SampleReader<RawImage>> {
  // Loaded when needed: data sets in memory do without the image library.
  const { decodeImage } = await import('./decode-node.js');
  const cache: DecodedCache | undefined = cacheOptions && (await openDecodedCache(cacheOptions, notice));
  return {
    async read(index) {
      const image = encoded(index);
      if (!cache) return decodeImage(await image.bytes(), image.where, decode);
      const { channels, orientation, shortSide } = decode;
      const key = cacheKey(image.where, ...(await image.version()), channels, orientation, shortSide);
      const kept = await cache.get(key);
      if (kept) return kept;
      const decoded = await decodeImage(await image.bytes(), image.where, decode);
      cache.put(key, decoded);
      return decoded;
    },
    close: async () => cache?.close(),
  };
}

const versionOf = (path: string) =>
  stat(path).then((info) => [info.mtimeMs, info.size] as const, fileErrorOf('read', path));

function filesOf(paths: readonly string[]): (index: number) => Encoded {
  return (index) => {
    const path = paths[index];
    return {
      where: path,
      version: () => versionOf(path),
      bytes: () => readFile(path).catch(fileErrorOf('read', path)),
    };
  };
}

function membersOf(source: Extract<DatasetSource, { kind: 'tar' }>): (index: number) => Encoded {
  const versions = new Map<string, Promise<readonly number[]>>();
  return (index) => {
    const path = source.shards[source.shard[index]];
    return {
      where: source.names[index],
      version() {
        const version = versions.get(path) ?? versionOf(path);
        versions.set(path, version);
        return version;
      },
      async bytes() {
        try {
          const handle = await openFile(path, 'r');
          try {
            const bytes = new Uint8Array(source.bytes[index]);
            const { bytesRead } = await handle.read(bytes, 0, bytes.length, source.offset[index]);
            return bytes.subarray(0, bytesRead);
          } finally {
            await handle.close();
          }
        } catch (error) {
          throw fileError('read', path, error);
        }
      },
    };
  };
}
