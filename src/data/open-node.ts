import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fileErrorOf } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { cacheKey } from './cache-node.js';
import { parseCifar } from './cifar.js';
import { type CacheOptions, checkIndex, type DecodeOptions, type ImageDataset, memoryDataset } from './dataset.js';
import { idxDataset } from './idx.js';
import { byCodePoint, countImages, listImageFolder } from './image-folder-node.js';
import { DECODE_DEFAULTS, IMAGE_EXTENSIONS } from './image-format.js';
import { openImageSource } from './sources-node.js';
import { splitByHash } from './split.js';
import { parseStl10, STL10_SIZE } from './stl10.js';
import { expandShards } from './webdataset.js';
import { openWebDataset } from './webdataset-node.js';

export type Split = 'train' | 'test';

/** What to open, as it stands in a configuration. */
export interface DatasetSpec extends Partial<DecodeOptions> {
  /**
   * `glyphs` (comes with the package), a folder of images (with class folders or without, with `train` and `test` or `val`
   * inside or without), a folder of IDX, CIFAR or STL-10 binary files or of WebDataset shards, one IDX images file, or a pattern of
   * shards (`train-{000..146}.tar`).
   */
  readonly path: string;
  /** Which part, where the data come in parts; `train` by default. */
  readonly split?: Split;
  /** `none` ignores class folders. */
  readonly labels?: 'folders' | 'none';
  /** Where loader threads keep decoded images (of folders and shards) for the next epoch; not kept by default. */
  readonly cache?: CacheOptions;
}

/**
 * Opens a data set; what it is follows from what lies there. Throws a `JepaError` that names the path and what was looked
 * for if nothing is found, or the file that is damaged. Asking for a test part that does not exist is an error too:
 * `openSplits` makes one.
 */
export async function openDataset(what: string | DatasetSpec): Promise<ImageDataset> {
  const spec = typeof what === 'string' ? { path: what } : what;
  const dataset = await find(spec, spec.split ?? 'train');
  if (!dataset) throw new JepaError(`${spec.path}: there is no test part (looked for ${TEST_NAMES.join(', ')})`);
  return dataset;
}

/** Both parts of a data set. */
export interface Splits {
  readonly train: ImageDataset;
  readonly test: ImageDataset;
  /** `own`: the test part came with the data; `made`: a tenth of the images was taken, by a hash of their names. */
  readonly origin: 'own' | 'made';
}

/** Opens the training and the test part; where the data have no test part, a fixed tenth of the images becomes it. */
export async function openSplits(what: string | DatasetSpec): Promise<Splits> {
  const spec = typeof what === 'string' ? { path: what } : what;
  const all = await openDataset({ ...spec, split: 'train' });
  const test = await find(spec, 'test');
  return test ? { train: all, test, origin: 'own' } : { ...splitByHash(all, 0.1), origin: 'made' };
}

/** Names of the test part, the first that exists counts. */
const TEST_NAMES = ['test', 't10k', 'val', 'validation', 'valid'];

async function find(spec: DatasetSpec, split: Split): Promise<ImageDataset | undefined> {
  const { path } = spec;
  if (path === 'glyphs') return openGlyphs(split);
  const info = await stat(path).catch(() => undefined);
  if (!info && (path.includes('{') || path.includes('::')))
    return split === 'train' ? openShards(expandShards(path), spec) : undefined;
  if (!info)
    throw new JepaError(`${path}: there is no such file or folder; give a folder of images, or the name glyphs`);
  if (info.isFile()) return split === 'train' ? openFile(spec) : undefined;

  const names = (await listNames(path)).sort(byCodePoint);
  const packed = packedSet(path, names);
  if (!packed) return openImageFolder(spec, names, split);
  // What there is more of is what the folder is for: shards with a preview beside them, or images with an archive.
  const { files, called } = packed;
  const images = files.length === 0 ? 0 : await countImages(path);
  const isFolder = images > files.length;
  const dataset = await (isFolder ? openImageFolder(spec, names, split) : packed.open(spec, names, split));
  if (!dataset || images === 0) return dataset;
  const [one, left] = [files.length === 1, join(path, files[0])];
  const [packs, pictures] = [counted(files.length, called), counted(images, 'image')];
  const note = isFolder
    ? `${path}: took ${pictures} and left ${packs}, ${files[0]}${one ? '' : ', ...'} (to take ${one ? 'it' : 'one'}, give the path ${left})`
    : `${path}: took ${packs} and left ${pictures} in the same folder (to take images, put them into a folder of their own)`;
  return { ...dataset, note };
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** A data set that is packed into files of a folder. */
interface PackedSet {
  /** The files that show it, directly in the folder; none where a folder has the name of a known set. */
  readonly files: readonly string[];
  /** What one of them is called in messages. */
  readonly called: string;
  readonly open: (spec: DatasetSpec, names: readonly string[], split: Split) => Promise<ImageDataset | undefined>;
}

function packedSet(path: string, names: readonly string[]): PackedSet | undefined {
  const shards = names.filter((name) => SHARD.test(name));
  if (shards.length > 0) {
    const open: PackedSet['open'] = async (spec, _, split) => {
      const parts = shardsOfSplit(shards, split)?.map((name) => join(path, name));
      return parts && openShards(parts, spec);
    };
    return { files: shards, called: '.tar file', open };
  }
  const idx = names.filter((name) => IDX_IMAGES.test(name));
  if (idx.length > 0)
    return { files: idx, called: 'IDX file', open: (_, all, split) => openIdxFolder(path, all, split) };
  const cifar = findCifar(path, names);
  if (cifar) {
    const files = cifar.folder === path ? names.filter((name) => name.endsWith('.bin')) : [];
    return { files, called: '.bin file', open: (_, __, split) => openCifar(cifar.folder, cifar.classes, split) };
  }
  if (names.includes('stl10_binary'))
    return { files: [], called: '', open: (_, __, split) => openStl10(join(path, 'stl10_binary'), split) };
  if (!names.includes('train_X.bin')) return undefined;
  const files = names.filter((name) => name.endsWith('.bin'));
  return { files, called: '.bin file', open: (_, __, split) => openStl10(path, split) };
}

const listNames = (folder: string) => readdir(folder).catch(fileErrorOf('list', folder));

async function load(path: string): Promise<{ bytes: Uint8Array; where: string }> {
  const bytes = await readFile(path).catch(fileErrorOf('read', path));
  return { bytes, where: path };
}

function decodeOptions(spec: Partial<DecodeOptions>): DecodeOptions {
  const { channels, orientation, maxPixels, shortSide } = spec;
  return {
    channels: channels ?? DECODE_DEFAULTS.channels,
    orientation: orientation ?? DECODE_DEFAULTS.orientation,
    maxPixels: maxPixels ?? DECODE_DEFAULTS.maxPixels,
    shortSide,
  };
}

/** Every data set has a folder of its own in the cache, so that opening one does not read the lists of the others. */
function cacheOf(spec: DatasetSpec): CacheOptions | undefined {
  return spec.cache && { ...spec.cache, folder: join(spec.cache.folder, cacheKey(resolve(spec.path))) };
}

// --- one file -------------------------------------------------------------------------------------------------------

async function openFile(spec: DatasetSpec): Promise<ImageDataset> {
  const { path } = spec;
  const name = basename(path);
  if (SHARD.test(name)) return openShards([path], spec);
  const names = await listNames(dirname(path));
  if (IDX_IMAGES.test(name)) return openIdx(dirname(path), name, names);
  if (IMAGE_EXTENSIONS.some((extension) => name.toLowerCase().endsWith(`.${extension}`)))
    return imageFiles(path, [path], decodeOptions(spec), cacheOf(spec));
  throw new JepaError(`${path}: a single file must be an image, a .tar shard or IDX images (...-images-idx3-ubyte)`);
}

// --- WebDataset -----------------------------------------------------------------------------------------------------

const SHARD = /\.(tar|tar\.gz|tgz)$/;

function openShards(paths: readonly string[], spec: DatasetSpec): Promise<ImageDataset> {
  return openWebDataset(paths, decodeOptions(spec), cacheOf(spec));
}

/** The shards of one part by the beginning of their names; all are training shards if none says otherwise. */
function shardsOfSplit(names: readonly string[], split: Split): string[] | undefined {
  const test = TEST_NAMES.map((part) => names.filter((name) => name.startsWith(part))).find((part) => part.length > 0);
  if (split === 'test') return test;
  const train = names.filter((name) => name.startsWith('train'));
  return train.length > 0 ? train : names.filter((name) => !test?.includes(name));
}

// --- IDX ------------------------------------------------------------------------------------------------------------

/** What MNIST-like sets call their files, with a dash or a dot before `idx`, gzipped or not. */
const IDX_IMAGES = /^(.*?)-?images[-.]idx[34]-ubyte(\.gz)?$/;
const IDX_VALUES = /^(.*?)-?([a-z0-9_]+)[-.]idx1-(?:ubyte|int)(\.gz)?$/;

async function openIdxFolder(
  folder: string,
  names: readonly string[],
  split: Split,
): Promise<ImageDataset | undefined> {
  const files = names.filter((name) => IDX_IMAGES.test(name));
  const isTest = (name: string) => TEST_NAMES.some((part) => IDX_IMAGES.exec(name)![1].split(/[-_.]/).includes(part));
  const chosen = files.filter((name) => isTest(name) === (split === 'test'));
  if (chosen.length > 1) {
    const list = chosen.join(', ');
    throw new JepaError(`${folder}: several IDX files of images (${list}); give the path of the one to use`);
  }
  if (chosen.length === 1) return openIdx(folder, chosen[0], names);
  if (split === 'test') return undefined;
  throw new JepaError(`${folder}: only test images (${files.join(', ')}); give the path of the file to use`);
}

async function openIdx(
  folder: string,
  images: string,
  names: readonly string[],
  classNames?: readonly string[],
): Promise<ImageDataset> {
  const prefix = IDX_IMAGES.exec(images)![1];
  const values = new Map<string, { bytes: Uint8Array; where: string }>();
  for (const name of names) {
    const match = IDX_VALUES.exec(name);
    // The same values gzipped and not: one of them is enough.
    if (match && match[1] === prefix && !values.has(match[2])) values.set(match[2], await load(join(folder, name)));
  }
  const labels = values.get('labels');
  values.delete('labels');
  return idxDataset({
    images: await load(join(folder, images)),
    labels,
    attributes: Object.fromEntries(values),
    classNames,
  });
}

/** The data set that comes with the package: 47 classes of letters and digits from 896 fonts, 28 x 28 grey. */
async function openGlyphs(split: Split): Promise<ImageDataset> {
  const folder = packageData();
  const { classes } = JSON.parse(readFileSync(join(folder, 'glyphs-fonts.json'), 'utf8')) as { classes: string[] };
  const dataset = await openIdx(folder, `glyphs-${split}-images-idx3-ubyte.gz`, await listNames(folder), classes);
  const name = `glyphs (${split})`;
  return { ...dataset, name };
}

/** The `data` folder of the package: beside the first package.json above this file that has it. */
function packageData(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'data', 'glyphs-fonts.json'))) {
    const above = dirname(folder);
    if (above === folder) throw new JepaError('glyphs: the data folder of the package is missing; install jepa again');
    folder = above;
  }
  return join(folder, 'data');
}

// --- CIFAR ----------------------------------------------------------------------------------------------------------

function findCifar(path: string, names: readonly string[]): { folder: string; classes: 10 | 100 } | undefined {
  for (const [inner, classes] of [
    ['cifar-10-batches-bin', 10],
    ['cifar-100-binary', 100],
  ] as const) {
    if (names.includes(inner)) return { folder: join(path, inner), classes };
  }
  if (names.some((name) => /^data_batch_\d+\.bin$/.test(name))) return { folder: path, classes: 10 };
  if (names.some((name) => /^(train|test)\.bin$/.test(name))) return { folder: path, classes: 100 };
  const pickled = names.find((name) => /^(data_batch_\d+|cifar-10{1,2}-(batches-py|python))$/.test(name));
  if (pickled) {
    throw new JepaError(
      `${join(path, pickled)}: this is the pickled (Python) version of CIFAR; download the binary version`,
    );
  }
  return undefined;
}

async function openCifar(folder: string, classes: 10 | 100, split: Split): Promise<ImageDataset | undefined> {
  const names = (await listNames(folder)).sort(byCodePoint);
  const pattern =
    classes === 10
      ? split === 'train'
        ? /^data_batch_\d+\.bin$/
        : /^test_batch\.bin$/
      : split === 'train'
        ? /^train\.bin$/
        : /^test\.bin$/;
  const files = names.filter((name) => pattern.test(name));
  if (files.length === 0) {
    if (split === 'test') return undefined;
    throw new JepaError(
      `${folder}: no training files of CIFAR-${classes} (looked for ${classes === 10 ? 'data_batch_1.bin ...' : 'train.bin'})`,
    );
  }
  const classFile = join(folder, classes === 10 ? 'batches.meta.txt' : 'fine_label_names.txt');
  const { pixels, labels, coarse } = parseCifar(
    await Promise.all(files.map((name) => load(join(folder, name)))),
    classes,
  );
  const text = await readFile(classFile, 'utf8').catch(() => undefined);
  return memoryDataset({
    name: `${folder} (${split})`,
    width: 32,
    height: 32,
    channels: 3,
    pixels,
    labels,
    classNames: text
      ?.split('\n')
      .map((line) => line.trim())
      .filter(Boolean),
    attributes: coarse && { coarse },
  });
}

// --- STL-10 ---------------------------------------------------------------------------------------------------------

/** The labelled images; `unlabeled_X.bin` has 2.6 GiB, more than is read at once. */
async function openStl10(folder: string, split: Split): Promise<ImageDataset | undefined> {
  const names = await listNames(folder);
  if (!names.includes(`${split}_X.bin`)) {
    if (split === 'test') return undefined;
    throw new JepaError(`${folder}: no training files of STL-10 (looked for train_X.bin)`);
  }
  const labels = names.includes(`${split}_y.bin`) ? await load(join(folder, `${split}_y.bin`)) : undefined;
  const text = await readFile(join(folder, 'class_names.txt'), 'utf8').catch(() => undefined);
  return memoryDataset({
    name: `${folder} (${split})`,
    width: STL10_SIZE,
    height: STL10_SIZE,
    channels: 3,
    ...parseStl10(await load(join(folder, `${split}_X.bin`)), labels),
    classNames: text?.split('\n').filter(Boolean),
  });
}

// --- image folders --------------------------------------------------------------------------------------------------

async function openImageFolder(
  spec: DatasetSpec,
  names: readonly string[],
  split: Split,
): Promise<ImageDataset | undefined> {
  const { path } = spec;
  const isFolder = async (name: string) => names.includes(name) && (await stat(join(path, name))).isDirectory();
  if (!(await isFolder('train'))) return split === 'test' ? undefined : imageFolder(path, spec);
  if (split === 'train') return imageFolder(join(path, 'train'), spec);
  const train = await listImageFolder(join(path, 'train'), { labels: spec.labels });
  for (const name of TEST_NAMES) {
    if (!(await isFolder(name))) continue;
    const root = join(path, name);
    // ImageNet's test images have no labels, its val images do: a part without classes cannot test a labelled one.
    const listing = await listImageFolder(root, { labels: spec.labels, classNames: train.classNames });
    if (listing.labels || !train.labels) return imageFolder(root, spec, train.classNames);
  }
  return undefined;
}

async function imageFolder(root: string, spec: DatasetSpec, classes?: readonly string[]): Promise<ImageDataset> {
  const { paths, labels, classNames } = await listImageFolder(root, { labels: spec.labels, classNames: classes });
  return { ...(await imageFiles(root, paths, decodeOptions(spec), cacheOf(spec))), labels, classNames };
}

/** A data set of image files that are named one by one. Reading one that is missing or no image is an error, later. */
export function openImageFiles(paths: readonly string[], options: Partial<DecodeOptions> = {}): Promise<ImageDataset> {
  const name = paths.length === 1 ? paths[0] : `${paths.length} images`;
  return imageFiles(name, paths, decodeOptions(options));
}

async function imageFiles(
  name: string,
  paths: readonly string[],
  decode: DecodeOptions,
  cache?: CacheOptions,
): Promise<ImageDataset> {
  const reader = await openImageSource({ kind: 'files', paths, decode }, () => undefined);
  return {
    name,
    length: paths.length,
    channels: decode.channels,
    async read(index) {
      checkIndex({ name, length: paths.length }, index);
      return reader.read(index);
    },
    nameOf: (index) => paths[index],
    source: { kind: 'files', paths, decode, cache },
  };
}
