import { readdir, stat } from 'node:fs/promises';
import { JepaError } from '../base/errors.js';
import { SOUND_EXTENSIONS, soundFolder } from './audio/folder-node.js';
import { type CacheOptions, type Dataset, sampleName, subset } from './dataset.js';
import type { Modality } from './modality.js';
import { openDataset, openSplits } from './open-node.js';
import {
  PROCEDURAL,
  proceduralModality,
  proceduralSkeletons,
  proceduralSounds,
  proceduralTexts,
  proceduralVideos,
} from './procedural/open-node.js';
import type { SkeletonDataset } from './skeleton/dataset.js';
import { ntuFolder } from './skeleton/folder-node.js';
import { splitByHash } from './split.js';
import { textFolder } from './text/folder-node.js';
import { clipsAlong } from './video/along.js';
import { clipDataset } from './video/clips.js';
import { mixVideos, type VideoDataset } from './video/dataset.js';
import { VIDEO_EXTENSIONS } from './video/files-node.js';
import { isVideoList, openVideoFiles } from './video/open-node.js';
import type { ClipSampling } from './video/sampling.js';

/** Samples of any modality to open, as they stand in a configuration. */
export interface SampleSpec {
  readonly kind: Exclude<Modality, 'episodes'>;
  /** A path, `glyphs` (images), or `procedural:<name>`. */
  readonly source: string;
  /** Held-out samples; by default the test part of the source, else a tenth of it. */
  readonly test?: string;
  /** Options of a procedural set. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Of images and videos. */
  readonly channels?: 1 | 3;
  readonly cache?: CacheOptions;
  /** Of videos. */
  readonly sampling?: ClipSampling;
  /** Videos that a list names which was read elsewhere (an `.npy` file); `source` is that list. */
  readonly paths?: readonly string[];
  /** Opens a part of the skeletons in an `.npz` file, where it has one; such files are read elsewhere. */
  readonly skeletons?: (path: string, part: 'train' | 'test') => SkeletonDataset | undefined;
  /** Opens a part of a procedural set of videos that is made elsewhere (of a world), with `options`. */
  readonly made?: MadeVideos;
  /** Further videos to learn from, and how much they make up beside those of `source`, whose weight is 1. */
  readonly mix?: readonly VideoShare[];
  /** Clips one after the other along every video, instead of one. */
  readonly along?: boolean;
  /** Of sound; its own rate by default. */
  readonly sampleRate?: number;
  /** Of `.txt` files. */
  readonly split?: 'paragraphs' | 'lines' | 'file';
}

type MadeVideos = (options: Readonly<Record<string, unknown>>, part: 'train' | 'test') => VideoDataset;

export interface VideoShare {
  readonly source: string;
  readonly paths?: readonly string[];
  readonly made?: MadeVideos;
  readonly weight: number;
}

/** Both parts of a data set of any modality. */
export interface SampleSplits {
  readonly train: Dataset;
  readonly test: Dataset;
  /** `own`: the test part came with the data; `made`: a tenth of the samples was taken, by a hash of their names. */
  readonly origin: 'own' | 'made';
}

/** Opens the training and the test part. Throws a `JepaError` that says what was looked for. */
export async function openSampleSplits(spec: SampleSpec): Promise<SampleSplits> {
  if (spec.test !== undefined) {
    const parts = [await openSamples(spec), await openSamples({ ...spec, source: spec.test })] as const;
    return { ...sameClasses(...parts), origin: 'own' };
  }
  if (spec.kind === 'image') return openSplits(imageSpec(spec));
  const train = await openSamples(spec);
  const test = await testPart(spec);
  if (test) return { train, test, origin: 'own' };
  const made = splitByHash(train, 0.1);
  // A mixture repeats the videos of its small sets; held out, each counts once.
  return { train: made.train, test: spec.mix ? distinct(made.test) : made.test, origin: 'made' };
}

/** Each sample once, by name. */
function distinct(dataset: Dataset): Dataset {
  const names = Array.from({ length: dataset.length }, (_, i) => sampleName(dataset, i));
  const first = new Map(names.map((name, i) => [name, i] as const).reverse());
  return subset(dataset, Int32Array.from(first.values()).sort(), dataset.name);
}

/** Gives the classes of two sets that were opened apart one numbering, that of the first; further ones of the second come after. */
export function sameClasses(train: Dataset, test: Dataset): Pick<SampleSplits, 'train' | 'test'> {
  const { classNames: own } = train;
  const { classNames: other, labels } = test;
  if (!own || !other || !labels || own.join('\0') === other.join('\0')) return { train, test };
  const classNames = [...new Set([...own, ...other])];
  const numbers = other.map((name) => classNames.indexOf(name));
  return {
    train: { ...train, classNames },
    test: { ...test, classNames, labels: labels.map((label) => numbers[label] ?? label) },
  };
}

const imageSpec = ({ source, channels, cache }: SampleSpec) => ({ path: source, channels, cache });

/** A part of the skeletons in an archive of arrays; undefined where it has no such part, or where `source` is something else. */
const archived = ({ source, skeletons }: SampleSpec, part: 'train' | 'test'): SkeletonDataset | undefined =>
  /\.npz$/i.test(source) ? skeletons?.(source, part) : undefined;

/** Opens one part of a data set. */
export async function openSamples(spec: SampleSpec, part: 'train' | 'test' = 'train'): Promise<Dataset> {
  const { kind, source, options = {}, channels, sampling = { frames: 16, frameStep: 4 }, cache } = spec;
  const isProcedural = source.startsWith(PROCEDURAL);
  switch (kind) {
    case 'image':
      return openDataset({ ...imageSpec(spec), split: part });
    case 'video': {
      const open = async (what: Omit<VideoShare, 'weight'>): Promise<VideoDataset> => {
        const own = what.source === source ? options : {};
        if (what.made) return what.made(own, part);
        return what.source.startsWith(PROCEDURAL)
          ? proceduralVideos(what.source, { ...own, channels }, part)
          : openVideoFiles({ path: what.source, paths: what.paths, split: part, channels, cache });
      };
      const own = await open(spec);
      const { mix = [], along = false } = part === 'train' ? spec : { along: spec.along };
      const others = await Promise.all(mix.map(async (share) => ({ videos: await open(share), weight: share.weight })));
      const videos = others.length > 0 ? mixVideos([{ videos: own, weight: 1 }, ...others]) : own;
      return along ? clipsAlong(videos, sampling) : clipDataset(videos, sampling);
    }
    case 'sound':
      if (isProcedural) return proceduralSounds(source, options, part);
      return soundFolder(source, { sampleRate: spec.sampleRate });
    case 'skeleton':
      if (isProcedural) return proceduralSkeletons(source, options, part);
      return archived(spec, part) ?? ntuFolder(source);
    case 'text':
      return isProcedural ? proceduralTexts(source, options, part) : textFolder(source, { split: spec.split });
  }
}

/** The test part that comes with the data; undefined where there is none. */
async function testPart(spec: SampleSpec): Promise<Dataset | undefined> {
  const { source, kind } = spec;
  if (source.startsWith(PROCEDURAL)) return openSamples(spec, 'test');
  if (kind === 'skeleton') return archived(spec, 'test');
  if (kind !== 'video' || spec.paths || !(await stat(`${source}/train`).catch(() => undefined))) return undefined;
  return openSamples(spec, 'test');
}

/** Endings of files by what they hold; files of other kinds say nothing. */
export const ENDINGS: readonly (readonly [SampleSpec['kind'], RegExp])[] = [
  ['image', /\.(jpe?g|png|webp|gif|tiff?|bmp|ppm|pgm|avif|heic|tar|tar\.gz|tgz)$|ubyte|\.bin$/i],
  ['video', new RegExp(`\\.(${VIDEO_EXTENSIONS.filter((ending) => ending !== 'gif').join('|')})$`, 'i')],
  ['sound', new RegExp(`\\.(${SOUND_EXTENSIONS.filter((ending) => ending !== 'webm').join('|')})$`, 'i')],
  ['skeleton', /\.skeleton$/],
  ['text', /\.(txt|text|md|jsonl|ndjson)$/i],
];

/**
 * What a path or `procedural:` name seems to hold, by the endings of the files; undefined where nothing there speaks for
 * anything. Throws a `JepaError` for a folder without any file.
 */
export async function modalityAt(source: string): Promise<SampleSpec['kind'] | undefined> {
  if (source.startsWith(PROCEDURAL)) return proceduralModality(source);
  const info = await stat(source).catch(() => undefined);
  const names = info?.isDirectory() ? await readdir(source, { recursive: true }) : [source];
  if (names.length === 0) throw new JepaError(`${source}: this folder is empty`);
  if (info?.isFile() && (await isVideoList(source))) return 'video';
  const counts = ENDINGS.map(([kind, ending]) => ({ kind, count: names.filter((name) => ending.test(name)).length }));
  const most = counts.reduce((a, b) => (b.count > a.count ? b : a));
  return most.count > 0 ? most.kind : undefined;
}
