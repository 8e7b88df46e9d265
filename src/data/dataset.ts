import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { type Modality, wordsOf } from './modality.js';

/** One decoded image: bytes in the order [height, width, channels]. */
export interface RawImage {
  readonly width: number;
  readonly height: number;
  /** 1 (grey), 3 (RGB), or whatever one's own data has. */
  readonly channels: number;
  readonly data: Uint8Array;
}

/**
 * A set of samples of one modality: images, clips of videos, recordings, ... Everything in `src/data` reads from this
 * interface, so an object with these members is all that one's own data needs.
 */
export interface Dataset<Sample = unknown> {
  /** Where it comes from, for messages. */
  readonly name: string;
  /** What its samples are; images by default. */
  readonly modality?: Modality;
  readonly length: number;
  /** Class of every sample, -1 where unknown; absent where there are no labels. */
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  /** Other things known of every sample (coarse classes, style), by name. */
  readonly attributes?: Readonly<Record<string, Int32Array>>;
  /** Numbers known of every sample that are no classes (pitch, speed), by name. */
  readonly factors?: Readonly<Record<string, Float32Array>>;
  /**
   * Reads one sample; several reads may be under way at once. Without `random` an index gives the same sample every time;
   * what can be read in part (a long video) takes the part that `random` chooses. Rejects with a `JepaError` naming the
   * sample if it cannot be read.
   */
  read(index: number, random?: Random): Promise<Sample>;
  /** What a sample is called in messages and search results: a path, or `name[index]` by default. */
  nameOf?(index: number): string;
  /** What else lay where it was found and was left, in one line that whoever opens it should tell. */
  readonly note?: string;
  /** How a loader thread can open the same samples; without it they are read in the calling thread. */
  readonly source?: DatasetSource;
}

/** A set of images. */
export interface ImageDataset extends Dataset<RawImage> {
  readonly channels: number;
  /** Set where all images have the same size. */
  readonly size?: { readonly width: number; readonly height: number };
}

/** Samples that a loader thread can read without the object in the calling thread. Survives `structuredClone`. */
export type DatasetSource = ImageSource | SubsetSource | ModuleSource;

export type ImageSource = MemorySource | FileSource | TarSource;

/** Samples of a modality that opens its own: what `open(options)` of a module gives (`SourceModule`). */
export interface ModuleSource {
  readonly kind: 'module';
  /** URL of the module, `import.meta.url` where it names itself. */
  readonly module: string;
  /** Plain data. */
  readonly options: unknown;
}

/** What the module of a `ModuleSource` exports. */
export interface SourceModule {
  open(options: unknown): SampleReader | Promise<SampleReader>;
}

/** Reads the samples of a source. Several reads may be under way at once. */
export interface SampleReader<Sample = unknown> {
  /** As `Dataset.read`; at once where the sample lies in memory. */
  read(index: number, random?: Random): Sample | Promise<Sample>;
  close?(): Promise<void>;
}

/** Images of one size, one after the other. The bytes are shared between threads, not copied. */
export interface MemorySource {
  readonly kind: 'memory';
  /** On a SharedArrayBuffer. */
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** Encoded images in files of their own. */
export interface FileSource {
  readonly kind: 'files';
  readonly paths: readonly string[];
  readonly decode: DecodeOptions;
  readonly cache?: CacheOptions;
}

/** Encoded images inside uncompressed tar files: image i is `bytes[i]` bytes at `offset[i]` of `shards[shard[i]]`. */
export interface TarSource {
  readonly kind: 'tar';
  readonly shards: readonly string[];
  readonly shard: Int32Array;
  readonly offset: Float64Array;
  readonly bytes: Float64Array;
  readonly names: readonly string[];
  readonly decode: DecodeOptions;
  readonly cache?: CacheOptions;
}

export interface SubsetSource {
  readonly kind: 'subset';
  readonly of: DatasetSource;
  readonly indices: Int32Array;
}

/** How an encoded image becomes bytes. */
export interface DecodeOptions {
  /** 3: RGB as Pillow's `convert('RGB')` (alpha dropped); 1: its `convert('L')`. */
  readonly channels: 1 | 3;
  /** `upright` turns the image as its EXIF tag says (photographs of phones); `stored` ignores the tag, as torchvision does. */
  readonly orientation: 'upright' | 'stored';
  /** An image of more pixels is refused before it is decoded. */
  readonly maxPixels: number;
  /** Reduce the image while decoding until its short side has this many pixels; smaller images stay as they are. */
  readonly shortSide?: number;
}

/** A folder of decoded images, so that the next epoch need not decode again. */
export interface CacheOptions {
  readonly folder: string;
  /** Most bytes kept in the folder, all data sets together. */
  readonly maxBytes: number;
}

/** Name of sample `index`, for messages. */
export function sampleName(dataset: Dataset, index: number): string {
  return dataset.nameOf?.(index) ?? `${dataset.name}[${index}]`;
}

/** Refuses an index outside of the data set. */
export function checkIndex(dataset: Pick<Dataset, 'name' | 'length' | 'modality'>, index: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= dataset.length) {
    const { one } = wordsOf(dataset);
    throw new JepaError(`${dataset.name}: there is no ${one} ${index}, indices are 0 to ${dataset.length - 1}`);
  }
}

/** Bytes that threads share where the platform allows it (a page without cross-origin isolation does not). */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(
    typeof SharedArrayBuffer === 'undefined' ? new ArrayBuffer(length) : new SharedArrayBuffer(length),
  );
}

/** Whether threads see these bytes without a copy. */
export function isShared({ buffer }: Uint8Array): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer;
}

function share(bytes: Uint8Array): Uint8Array {
  if (isShared(bytes)) return bytes;
  const copy = sharedBytes(bytes.length);
  if (!isShared(copy)) return bytes;
  copy.set(bytes);
  return copy;
}

export interface MemoryImages {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** [images, height, width, channels]. Kept if it lies in memory that threads share (`sharedBytes`), else copied there. */
  readonly pixels: Uint8Array;
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  readonly attributes?: Readonly<Record<string, Int32Array>>;
}

/** A data set of decoded images of one size held in memory. */
export function memoryDataset(images: MemoryImages): ImageDataset {
  const { name, width, height, channels, labels, classNames, attributes } = images;
  const pixels = share(images.pixels);
  const bytes = width * height * channels;
  if (!(bytes > 0) || pixels.length % bytes !== 0) {
    throw new JepaError(
      `${name}: ${pixels.length} bytes are no whole number of ${height} x ${width} x ${channels} images`,
    );
  }
  const length = pixels.length / bytes;
  for (const [what, values] of Object.entries({ labels, ...attributes })) {
    if (values && values.length !== length) {
      throw new JepaError(`${name}: ${length} images but ${values.length} ${what}; images and labels differ in number`);
    }
  }
  return {
    name,
    length,
    channels,
    size: { width, height },
    labels,
    classNames,
    attributes,
    async read(index) {
      checkIndex({ name, length }, index);
      return imageOfMemory({ pixels, width, height, channels }, index);
    },
    source: isShared(pixels) ? { kind: 'memory', pixels, width, height, channels } : undefined,
  };
}

/** Image `index` of many of one size: a view, not a copy. */
export function imageOfMemory(
  { pixels, width, height, channels }: Pick<MemoryImages, 'pixels' | 'width' | 'height' | 'channels'>,
  index: number,
): RawImage {
  const bytes = width * height * channels;
  return { width, height, channels, data: pixels.subarray(index * bytes, (index + 1) * bytes) };
}

function picked<T extends Int32Array | Float32Array>(values: T, indices: Int32Array): T {
  return new (values.constructor as new (from: number[]) => T)(Array.from(indices, (index) => values[index]));
}

/** Some samples of a data set, in the order of `indices`; what else it says of all its samples stays. */
export function subset<D extends Dataset>(dataset: D, indices: ArrayLike<number>, name = dataset.name): D {
  const chosen = Int32Array.from(indices);
  for (const index of chosen) checkIndex(dataset, index);
  const pickAll = <T extends Int32Array | Float32Array>(all: Readonly<Record<string, T>> | undefined) =>
    all && Object.fromEntries(Object.entries(all).map(([key, values]) => [key, picked(values, chosen)]));
  const { modality } = dataset;
  const { length } = chosen;
  return {
    ...dataset,
    name,
    length,
    labels: dataset.labels && picked(dataset.labels, chosen),
    attributes: pickAll(dataset.attributes),
    factors: pickAll(dataset.factors),
    async read(index: number, random?: Random) {
      checkIndex({ name, length, modality }, index);
      return dataset.read(chosen[index], random);
    },
    nameOf: (index: number) => sampleName(dataset, chosen[index]),
    source: dataset.source && { kind: 'subset', of: dataset.source, indices: chosen },
  };
}
