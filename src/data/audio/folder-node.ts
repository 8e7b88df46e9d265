import { type FileHandle, open as openFile, stat } from 'node:fs/promises';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { checkIndex, type SampleReader } from '../dataset.js';
import { type FolderListing, type FolderOptions, listFolder } from '../image-folder-node.js';
import type { SoundDataset } from './dataset.js';
import { decodeSound } from './ffmpeg-node.js';
import { resampler } from './resample.js';
import { type Sound, toMono, type WavLayout, wavLayout, wavSamples } from './wav.js';

/** File name endings that a folder of recordings is searched for, in any case. */
export const SOUND_EXTENSIONS: readonly string[] = [
  ...['wav', 'flac', 'mp3', 'ogg', 'oga', 'opus', 'm4a', 'aac', 'wma', 'aif', 'aiff', 'au', 'caf', 'webm', 'mka'],
];

export interface SoundReading {
  /** Rate that all recordings are converted to. */
  readonly sampleRate: number;
  /** Read only so much of a recording: a random part where there is a generator, else the beginning. All of it by default. */
  readonly seconds?: number;
  /** Longer recordings are refused unless a part is read, 600 by default: decoded sound is far larger than its file. */
  readonly maxSeconds?: number;
}

export interface SoundFolderOptions extends FolderOptions, Partial<SoundReading> {}

const MAX_SECONDS = 600;
/** Rate of folders whose first recording is no WAV file. */
const USUAL_RATE = 16000;

/**
 * The recordings in a folder and those below it, or a single one; class folders as for images. Their rate is that of the first one if it is a WAV
 * file, else 16000 Hz, unless `sampleRate` says otherwise; channels are averaged. WAV files are read here, others by ffmpeg.
 */
export async function soundFolder(folder: string, options: SoundFolderOptions = {}): Promise<SoundDataset> {
  const info = await stat(folder).catch(fileErrorOf('open', folder));
  const { paths, ...classes }: FolderListing = info.isDirectory()
    ? await listFolder(folder, { one: 'recording', extensions: SOUND_EXTENSIONS }, options)
    : { paths: [folder] };
  const { seconds, maxSeconds } = options;
  const sampleRate = options.sampleRate ?? (await usualRate(paths));
  const reading: SoundReading = { sampleRate, seconds, maxSeconds };
  return {
    name: folder,
    modality: 'sound',
    length: paths.length,
    sampleRate,
    ...classes,
    async read(index, random) {
      checkIndex({ name: folder, length: paths.length, modality: 'sound' }, index);
      return readSound(paths[index], reading, random);
    },
    nameOf: (index) => paths[index],
    source: { kind: 'module', module: import.meta.url, options: { paths, reading } },
  };
}

/** For loader threads (`SourceModule`). */
export function open(options: unknown): SampleReader<Float32Array> {
  const { paths, reading } = options as { paths: readonly string[]; reading: SoundReading };
  return { read: (index, random) => readSound(paths[index], reading, random) };
}

const isWav = (path: string): boolean => /\.wav$/i.test(path);

/** One recording, mono, at the wanted rate. Rejects with a `JepaError` naming the file and what is wrong with it. */
export async function readSound(path: string, reading: SoundReading, random?: Random): Promise<Float32Array> {
  const share = random?.uniform() ?? 0;
  const sound = isWav(path)
    ? await withFile(path, (file, size) => readWav(file, size, path, reading, share))
    : await decodeSound(path, { ...reading, maxSeconds: reading.maxSeconds ?? MAX_SECONDS }, share);
  const mono = toMono(sound);
  if (!mono.every(Number.isFinite))
    throw new JepaError(`${path}: the recording has samples that are no finite numbers`);
  try {
    return converter(sound.sampleRate, reading.sampleRate)(mono);
  } catch (error) {
    throw new JepaError(`${path}: ${(error as Error).message}`);
  }
}

/** Plans of conversions that were needed, kept: most folders have one rate. */
const converters = new Map<string, (signal: Float32Array) => Float32Array>();

function converter(from: number, to: number): (signal: Float32Array) => Float32Array {
  const key = `${from} ${to}`;
  const known = converters.get(key);
  if (known) return known;
  if (converters.size > 16) converters.clear();
  const made = resampler(from, to);
  converters.set(key, made);
  return made;
}

/** Bytes of a file that are read to find its header; files with pictures or notes in front need the larger piece. */
const HEADERS = [1 << 16, 1 << 24];

async function withFile<T>(path: string, use: (file: FileHandle, size: number) => Promise<T>): Promise<T> {
  const file = await openFile(path, 'r').catch(fileErrorOf('read', path));
  try {
    const { size } = await file.stat();
    return await use(file, size);
  } finally {
    await file.close();
  }
}

async function readBytes(file: FileHandle, from: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const { bytesRead } = await file.read(bytes, 0, length, from);
  return bytes.subarray(0, bytesRead);
}

async function layoutOf(file: FileHandle, size: number, path: string): Promise<WavLayout> {
  for (const length of HEADERS) {
    const bytes = await readBytes(file, 0, Math.min(length, size));
    try {
      return wavLayout(bytes, path, size);
    } catch (error) {
      // The samples may begin beyond this piece.
      if (bytes.length === size || length === HEADERS.at(-1)) throw error;
    }
  }
  throw new JepaError(`${path}: not a readable WAV file`);
}

const rateOf = (path: string): Promise<number> =>
  withFile(path, async (file, size) => (await layoutOf(file, size, path)).sampleRate);

/** Recordings that are opened for their rate, so that a damaged one at the beginning does not stand for all. */
const TRIED = 10;

async function usualRate(paths: readonly string[]): Promise<number> {
  if (!isWav(paths[0])) return USUAL_RATE;
  for (const path of paths.filter(isWav).slice(0, TRIED)) {
    const rate = await rateOf(path).catch((error: Error) => error);
    if (typeof rate === 'number') return rate;
    if (!(rate instanceof JepaError)) throw rate;
  }
  return USUAL_RATE;
}

async function readWav(
  file: FileHandle,
  size: number,
  path: string,
  { seconds, maxSeconds = MAX_SECONDS }: SoundReading,
  share: number,
): Promise<Sound> {
  const layout = await layoutOf(file, size, path);
  const { sampleRate, channels, bits, dataStart } = layout;
  const part = partOf(layout.frames, sampleRate, { seconds, maxSeconds }, share, path);
  const frameBytes = (channels * bits) / 8;
  const bytes = await readBytes(file, dataStart + part.start * frameBytes, part.frames * frameBytes);
  return { sampleRate, channels, frames: part.frames, samples: wavSamples(layout, bytes) };
}

/** Which frames of a recording are read. */
function partOf(
  frames: number,
  sampleRate: number,
  { seconds, maxSeconds }: { readonly seconds?: number; readonly maxSeconds: number },
  share: number,
  where: string,
): { readonly start: number; readonly frames: number } {
  if (seconds === undefined) {
    if (frames > maxSeconds * sampleRate) {
      throw new JepaError(
        `${where}: ${Math.round(frames / sampleRate)} s are more than the limit of ${maxSeconds} s; set seconds to read parts, or raise maxSeconds`,
      );
    }
    return { start: 0, frames };
  }
  const wanted = Math.min(frames, Math.ceil(seconds * sampleRate));
  return { start: Math.floor(share * (frames - wanted + 1)), frames: wanted };
}
