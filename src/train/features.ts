import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import type { ImageDataset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import type { TransformInput } from '../data/transforms.js';
import { concat } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input } from '../graph/tensor.js';
import type { Engine, Program } from '../runtime/index.js';
import { type FrozenEncoder, installEncoder } from './frozen.js';

/** What is measured of an image: an encoder's features, or the pixels themselves. */
export type FeatureSource = FrozenEncoder | PixelSource;

/** Raw pixels, the baseline that needs no encoder. */
export interface PixelSource {
  readonly name: 'raw pixels';
  readonly transforms: readonly TransformInput[];
}

/** Numbers of an image above which raw pixels are shrunk: 32 x 32 in colour. */
const MOST_PIXELS = 3072;

/** The pixels that an encoder sees, as one vector an image; larger images are shrunk to about 32 x 32. */
export function rawPixels({ encoder }: FrozenEncoder): PixelSource {
  const [height, width] = encoder.imageSize;
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (encoder.channels * height * width)));
  const size: [number, number] = [Math.round(height * factor), Math.round(width * factor)];
  return { name: 'raw pixels', transforms: [{ kind: 'resize', size, fit: 'stretch' }] };
}

/** Features of the images of a data set; images that cannot be read are left out. */
export interface Features {
  /** [images x views, features]: the encoder's `represent`, or the pixels. */
  readonly rows: HostTensor<'float32'>;
  /**
   * The means over tokens of the last four blocks side by side [images, 4 width], where it was asked for and the encoder is
   * a transformer: the second form that the I-JEPA paper probes.
   */
  readonly layers?: HostTensor<'float32'>;
  /** Which images the rows are of. */
  readonly indices: Int32Array;
}

export interface FeatureOptions {
  /** Also the last four layers. Default: false. */
  readonly layers?: boolean;
  /** Other transforms than the source's (augmented views); random ones draw by `seed`. */
  readonly transforms?: readonly TransformInput[];
  readonly seed?: number;
  /** Views of each image, one row each, those of an image one after the other. Default: 1. */
  readonly views?: number;
  /** Threads that decode and transform; one for four cores by default. */
  readonly threads?: number;
  readonly maxCorrupt?: number;
  /** Told of each image that is skipped. */
  readonly log?: (line: string) => void;
}

/** Blocks whose outputs the second form of the linear probe reads. */
const LAYERS = 4;
/** Tokens of one run of an encoder: enough to keep every worker busy, small enough for the caches. */
const TOKENS_PER_RUN = 32768;
/** Images of a batch of raw pixels. */
const PIXELS_PER_RUN = 512;

/** Some images of a data set as an encoder sees them. */
export interface ImageBatch {
  /** [images x views, channels, height, width]; valid until the next batch is asked for. */
  readonly images: HostTensor<'float32'>;
  /** Which images these are; those that cannot be read are left out. */
  readonly indices: Int32Array;
  /** Images gone through, readable or not. */
  readonly asked: number;
}

/** The images of a data set in order. */
export async function* imageBatches(
  dataset: ImageDataset,
  transforms: readonly TransformInput[],
  batchSize: number,
  { seed, views = 1, threads, maxCorrupt, log }: Omit<FeatureOptions, 'layers' | 'transforms'> = {},
): AsyncGenerator<ImageBatch> {
  const size = Math.min(batchSize, dataset.length);
  const loader = await createLoader(dataset, {
    batchSize: size,
    views: [{ count: views, transforms }],
    seed,
    shuffle: false,
    dropLast: false,
    epochs: 1,
    threads,
    maxCorrupt,
    log,
  });
  try {
    for (let batch = await loader.next(); batch; batch = await loader.next()) {
      const [all] = batch.images;
      const [count, , ...image] = all.shape;
      // The loader puts the next image in the place of one that it cannot read; here nothing takes its place.
      const first = batch.step * size;
      const kept = Array.from(batch.indices.keys()).filter((i) => batch.indices[i] === first + i);
      const { data } = kept.length === count ? all : pick(all, kept);
      const images = float32([kept.length * views, ...image], data);
      yield { images, indices: Int32Array.from(kept, (i) => first + i), asked: count };
      loader.recycle(batch);
    }
  } finally {
    await loader.close();
  }
}

/** Images of one run of an encoder. */
export const imagesPerRun = ({ encoder: { grid } }: FrozenEncoder): number =>
  Math.max(8, Math.min(512, Math.round(TOKENS_PER_RUN / (grid[0] * grid[1]))));

/**
 * Features of a data set, batch after batch in the order of its images, for what does not fit into memory. Tensors belong
 * to the caller.
 */
export async function* featureBatches(
  engine: Engine,
  source: FeatureSource,
  dataset: ImageDataset,
  options: FeatureOptions = {},
): AsyncGenerator<Features & Pick<ImageBatch, 'asked'>> {
  const program = 'encoder' in source ? await featureProgram(engine, source, options.layers ?? false) : undefined;
  const perRun = 'encoder' in source ? imagesPerRun(source) : PIXELS_PER_RUN;
  const batchSize = Math.max(1, Math.floor(perRun / (options.views ?? 1)));
  const transforms = options.transforms ?? source.transforms;
  try {
    for await (const { images, indices, asked } of imageBatches(dataset, transforms, batchSize, options)) {
      const [count, ...image] = images.shape;
      if (program && count > 0) yield { ...((await program.run({ images })).outputs as Outputs), indices, asked };
      else if (!program) yield { rows: float32([count, sizeOf(image)], images.data.slice()), indices, asked };
    }
  } finally {
    await program?.close();
  }
}

type Outputs = { readonly rows: HostTensor<'float32'>; readonly layers?: HostTensor<'float32'> };

async function featureProgram(engine: Engine, frozen: FrozenEncoder, withLayers: boolean): Promise<Program> {
  const { encoder } = frozen;
  const images = input('images', ['batch', encoder.channels, ...encoder.imageSize]);
  const layers = withLayers ? encoder.layers?.(images, LAYERS) : undefined;
  const outputs = {
    rows: encoder.represent(images),
    ...(layers && {
      layers: concat(
        layers.map((tokens) => mean(tokens, 1)),
        1,
      ),
    }),
  };
  return engine.compile({ name: `features of ${frozen.name}`, outputs }, await installEncoder(engine, frozen));
}

/** A copy of some rows of [n, ...]. */
export function pick(tensor: HostTensor<'float32'>, rows: ArrayLike<number>): HostTensor<'float32'> {
  const [, ...rest] = tensor.shape;
  const width = sizeOf(rest);
  const data = new Float32Array(rows.length * width);
  for (let i = 0; i < rows.length; i++)
    data.set(tensor.data.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
  return { dtype: 'float32', shape: [rows.length, ...rest], data };
}

/** Features of a whole data set. */
export async function extractFeatures(
  engine: Engine,
  source: FeatureSource,
  dataset: ImageDataset,
  options: FeatureOptions = {},
): Promise<Features> {
  const parts: Features[] = [];
  for await (const part of featureBatches(engine, source, dataset, options)) parts.push(part);
  const indices = new Int32Array(parts.reduce((sum, part) => sum + part.indices.length, 0));
  let at = 0;
  for (const part of parts) {
    indices.set(part.indices, at);
    at += part.indices.length;
  }
  const layers = parts.flatMap((part) => part.layers ?? []);
  return { rows: join(parts.map((part) => part.rows)), ...(layers.length > 0 && { layers: join(layers) }), indices };
}

function join(parts: readonly HostTensor<'float32'>[]): HostTensor<'float32'> {
  const [, ...rest] = parts[0].shape;
  const rows = parts.reduce((sum, part) => sum + part.shape[0], 0);
  const data = new Float32Array(rows * sizeOf(rest));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return { dtype: 'float32', shape: [rows, ...rest], data };
}
