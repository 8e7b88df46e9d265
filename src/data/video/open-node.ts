import { open, readFile, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import { cacheKey } from '../cache-node.js';
import type { CacheOptions } from '../dataset.js';
import { folderEntries, listFolder } from '../image-folder-node.js';
import type { VideoDataset } from './dataset.js';
import { VIDEO_DECODE, type VideoDecode } from './decoder.js';
import { VIDEO_EXTENSIONS, type VideoFiles, videoFiles } from './files-node.js';
import { parseVideoList } from './list.js';
import { IMAGES } from './pictures-node.js';

/** Which videos to open, as it stands in a configuration. */
export interface VideoSpec extends Partial<VideoDecode> {
  /**
   * A folder of videos (with class folders or without, with `train` and `test` or `val` inside or without), a folder of
   * folders that hold a picture a frame (the same way), a list (`.csv`, `.txt`) or one video.
   */
  readonly path: string;
  /** Videos by their paths: what a list that was read elsewhere names; `path` is that list. */
  readonly paths?: readonly string[];
  /** Which part, where the data come in parts; `train` by default. */
  readonly split?: 'train' | 'test';
  /** `none` ignores class folders and the labels of lists. */
  readonly labels?: 'folders' | 'none';
  /** Frames a second of folders of pictures; 30 by default. */
  readonly fps?: number;
  /** Where decoded frames are kept for the next time; not kept by default. */
  readonly cache?: CacheOptions;
}

/** Bytes of a file of text that show whether it lists videos. */
const LIST_HEAD = 1 << 16;

/** Whether a `.csv` or `.txt` file is a list of videos: one of its first lines names one, with a label. */
export async function isVideoList(path: string): Promise<boolean> {
  if (!/\.(csv|txt)$/i.test(path)) return false;
  const file = await open(path, 'r').catch(fileErrorOf('open', path));
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(LIST_HEAD), 0, LIST_HEAD, 0);
    const lines = buffer.toString('latin1', 0, bytesRead).split('\n').slice(0, 2);
    return lines.some((line) => NAMED_VIDEO[/\.csv$/i.test(path) ? 'csv' : 'txt'].test(line));
  } finally {
    await file.close();
  }
}

const ENDINGS = VIDEO_EXTENSIONS.join('|');
/** In a table any field may be a video; in a text, where sentences may name one, a number must follow. */
const NAMED_VIDEO = {
  csv: new RegExp(`\\.(${ENDINGS})"?\\s*(::|[\\s,;]|$)`, 'i'),
  txt: new RegExp(`\\.(${ENDINGS})(::| )-?\\d+\\s*$`, 'i'),
};

const VIDEOS = { one: 'video', extensions: VIDEO_EXTENSIONS };
/** Names of the test part, the first that exists counts. */
const TEST_NAMES = ['test', 'val', 'validation', 'valid'];

/**
 * Opens a set of video files; what it is follows from what lies there. Throws a `JepaError` that names the path and what was
 * looked for if nothing is found. Asking for a test part that does not exist is an error too.
 */
export async function openVideoFiles(what: string | VideoSpec): Promise<VideoDataset> {
  const spec = typeof what === 'string' ? { path: what } : what;
  const { path, paths, split = 'train' } = spec;
  if (paths && split === 'train') return videoFiles(filesOf(path, paths, spec));
  if (/\.npy$/i.test(path) && !paths) {
    throw new JepaError(`${path}: read the list with npyVideoList and give its paths`);
  }
  const info = await stat(path).catch(() => undefined);
  if (!info) throw new JepaError(`${path}: there is no such file or folder; give a folder of videos or a list of them`);
  if (!info.isDirectory()) {
    if (split === 'test') throw new JepaError(`${path}: there is no test part in a single file`);
    return /\.(csv|txt)$/i.test(path) ? openList(path, spec) : videoFiles(filesOf(path, [path], spec));
  }
  const { folders } = await folderEntries(path, VIDEOS);
  const test = TEST_NAMES.find((name) => folders.includes(name));
  if (!folders.includes('train')) {
    if (split === 'train') return openFolder(path, spec);
    throw new JepaError(`${path}: there are no folders train and ${TEST_NAMES.join(' or ')}`);
  }
  const train = await openFolder(join(path, 'train'), spec);
  if (split === 'train') return train;
  if (!test) throw new JepaError(`${path}: there is no test part (looked for ${TEST_NAMES.join(', ')})`);
  return openFolder(join(path, test), spec, train.classNames);
}

function filesOf(name: string, paths: readonly string[], spec: VideoSpec): VideoFiles {
  const { channels, shortSide, maxPixels, timeout, fps = 30, cache } = spec;
  return {
    name,
    paths,
    decode: {
      channels: channels ?? VIDEO_DECODE.channels,
      shortSide,
      maxPixels: maxPixels ?? VIDEO_DECODE.maxPixels,
      timeout: timeout ?? VIDEO_DECODE.timeout,
    },
    fps,
    // Every data set has a folder of its own, so that opening one does not read the lists of the others.
    cache: cache && { ...cache, folder: join(cache.folder, cacheKey('videos', resolve(spec.path))) },
  };
}

async function openList(path: string, spec: VideoSpec): Promise<VideoDataset> {
  const bytes = await readFile(path).catch(fileErrorOf('read', path));
  const entries = parseVideoList(bytes, path);
  const paths = entries.map((entry) => (isAbsolute(entry.path) ? entry.path : join(dirname(path), entry.path)));
  const videos = videoFiles(filesOf(path, paths, spec));
  if (spec.labels === 'none') return videos;
  const classNames: string[] = [];
  for (const { label, className } of entries) if (className !== undefined) classNames[label] = className;
  const labels = Int32Array.from(entries, ({ label }) => label);
  return { ...videos, labels, ...(classNames.length > 0 && { classNames }) };
}

async function openFolder(root: string, spec: VideoSpec, classNames?: readonly string[]): Promise<VideoDataset> {
  const options = { labels: spec.labels, classNames };
  const frames = await folderOfFrames(root);
  const listing = frames ? await listFrames(root, frames, options) : await listFolder(root, VIDEOS, options);
  return {
    ...videoFiles(filesOf(root, listing.paths, spec)),
    labels: listing.labels,
    classNames: listing.classNames,
  };
}

/** How many folders down the folders of frames lie (1 or 2), or undefined where there are videos in files. */
async function folderOfFrames(root: string): Promise<1 | 2 | undefined> {
  const { folders } = await folderEntries(root, VIDEOS);
  for (const name of folders) {
    const { files, folders: below } = await folderEntries(join(root, name), IMAGES);
    // A GIF is an image for itself, and a video here.
    if (files.some((file) => !/\.gif$/i.test(file))) return 1;
    for (const inner of below) {
      if ((await folderEntries(join(root, name, inner), IMAGES)).files.some((file) => !/\.gif$/i.test(file))) return 2;
    }
  }
  return undefined;
}

async function listFrames(
  root: string,
  depth: 1 | 2,
  options: { readonly labels?: 'folders' | 'none'; readonly classNames?: readonly string[] },
): Promise<{ paths: string[]; labels?: Int32Array; classNames?: readonly string[] }> {
  const { folders } = await folderEntries(root, IMAGES);
  if (depth === 1) return { paths: folders.map((name) => join(root, name)) };
  const videos = await Promise.all(
    folders.map(async (name) => (await folderEntries(join(root, name), IMAGES)).folders),
  );
  const paths = folders.flatMap((name, k) => videos[k].map((video) => join(root, name, video)));
  if (options.labels === 'none') return { paths };
  const classNames = options.classNames ?? folders;
  const unknown = folders.find((name) => !classNames.includes(name));
  if (unknown !== undefined) {
    throw new JepaError(
      `${root}: the class folder "${unknown}" is not among the ${classNames.length} classes of the training set`,
    );
  }
  const labels = Int32Array.from(folders.flatMap((name, k) => videos[k].map(() => classNames.indexOf(name))));
  return { paths, labels, classNames };
}
