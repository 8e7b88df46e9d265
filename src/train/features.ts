import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import type { Dataset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { wordsOf } from '../data/modality.js';
import { isImages, modalityOf, type PreparationInput, rawPreparation } from '../data/plans.js';
import type { Fields } from '../data/preparation.js';
import { encoderInputs } from '../methods/method.js';
import type { Engine, Feeds, Program } from '../runtime/index.js';
import { type FrozenEncoder, installEncoder } from './frozen.js';

/** What is measured of a sample: an encoder's features, or its own numbers. */
export type FeatureSource = FrozenEncoder | RawSource;

/** The numbers of a sample themselves, the baseline that needs no encoder: its first field as one vector. */
export interface RawSource {
  /** `raw pixels`, ... */
  readonly name: string;
  readonly preparation: PreparationInput;
}

/** Numbers of a sample above which they are made fewer: an image of 32 x 32 in colour; a linear probe takes their principal axes. */
const MOST_NUMBERS = { image: 3072, other: 1024 };

/** What an encoder sees, as one vector a sample; large ones are shrunk. */
export const rawSource = ({ encoder, preparation }: FrozenEncoder): RawSource => ({
  name: wordsOf({ modality: modalityOf(preparation) }).raw,
  preparation: rawPreparation(
    preparation,
    encoder.inputs[0].shape,
    MOST_NUMBERS[isImages(preparation) ? 'image' : 'other'],
  ),
});

/** Features of the samples of a data set; those that cannot be read are left out. */
export interface Features {
  /** [samples x views, features]: the encoder's `represent`, or the raw numbers. */
  readonly rows: HostTensor<'float32'>;
  /** The encoder's wide form, where it has one and it was asked for. */
  readonly wide?: HostTensor<'float32'>;
  /** Which samples the rows are of. */
  readonly indices: Int32Array;
}

export interface FeatureOptions {
  /** Also the wide form. Default: false. */
  readonly wide?: boolean;
  /** Another preparation than the source's (augmented views); random ones draw by `seed`. */
  readonly preparation?: PreparationInput;
  readonly seed?: number;
  /** Views of each sample, one row each, those of a sample one after the other. Default: 1. */
  readonly views?: number;
  /** Threads that decode and transform; one for four cores by default. */
  readonly threads?: number;
  readonly maxCorrupt?: number;
  /** Told of each sample that is skipped. */
  readonly log?: (line: string) => void;
}

/** Tokens of one run of an encoder: enough to keep every worker busy, small enough for the caches. */
const TOKENS_PER_RUN = 32768;
/** Samples of a batch of raw numbers. */
const RAW_PER_RUN = 512;

/** Some samples of a data set as an encoder sees them. */
export interface SampleBatch {
  /** Fields, each [samples x views, ...]; valid until the next batch is asked for. */
  readonly fields: Fields;
  /** Which samples these are; those that cannot be read are left out. */
  readonly indices: Int32Array;
  /** Samples gone through, readable or not. */
  readonly asked: number;
}

export interface SampleOptions extends Omit<FeatureOptions, 'wide' | 'preparation'> {
  /** Always the same part of what can be read in parts. Default: true. */
  readonly still?: boolean;
}

/** The samples of a data set in order. */
export async function* sampleBatches(
  dataset: Dataset,
  preparation: PreparationInput,
  batchSize: number,
  { seed, views = 1, still = true, threads, maxCorrupt, log }: SampleOptions = {},
): AsyncGenerator<SampleBatch> {
  const size = Math.min(batchSize, dataset.length);
  const loader = await createLoader(dataset, {
    batchSize: size,
    views: [{ count: views, ...preparation }],
    seed,
    still,
    shuffle: false,
    dropLast: false,
    epochs: 1,
    threads,
    maxCorrupt,
    log,
  });
  try {
    for (let batch = await loader.next(); batch; batch = await loader.next()) {
      const count = batch.indices.length;
      // The loader puts the next sample in the place of one that it cannot read; here nothing takes its place.
      const first = batch.step * size;
      const kept = Array.from(batch.indices.keys()).filter((i) => batch.indices[i] === first + i);
      const fields = Object.entries(batch.views[0]).map(([name, all]) => {
        const [, , ...shape] = all.shape;
        const { dtype, data } = kept.length === count ? all : pick(all, kept);
        return [name, { dtype, shape: [kept.length * views, ...shape], data }];
      });
      const indices = Int32Array.from(kept, (i) => first + i);
      yield { fields: Object.fromEntries(fields) as Fields, indices, asked: count };
      loader.recycle(batch);
    }
  } finally {
    await loader.close();
  }
}

/** Clips are large and slow to read: a few at a time keep memory small, and show how far things are. */
const CLIPS_PER_RUN = 16;

/** Samples of one run of an encoder. */
export const samplesPerRun = ({ encoder: { grid }, preparation }: FrozenEncoder): number =>
  Math.max(
    8,
    Math.min(modalityOf(preparation) === 'video' ? CLIPS_PER_RUN : 512, Math.round(TOKENS_PER_RUN / sizeOf(grid))),
  );

/** What an encoder reads of the fields of prepared samples. */
export function feedsOf({ encoder }: Pick<FrozenEncoder, 'encoder'>, fields: Fields): Feeds {
  return Object.fromEntries(encoder.inputs.map(({ name }) => [name, fields[name]]));
}

/**
 * Features of a data set, batch after batch in the order of its samples, for what does not fit into memory. Tensors belong
 * to the caller.
 */
export async function* featureBatches(
  engine: Engine,
  source: FeatureSource,
  dataset: Dataset,
  options: FeatureOptions = {},
): AsyncGenerator<Features & Pick<SampleBatch, 'asked'>> {
  const program = 'encoder' in source ? await featureProgram(engine, source, options.wide ?? false) : undefined;
  const perRun = 'encoder' in source ? samplesPerRun(source) : RAW_PER_RUN;
  const batchSize = Math.max(1, Math.floor(perRun / (options.views ?? 1)));
  const preparation = options.preparation ?? source.preparation;
  try {
    const reading = { ...options, still: options.preparation === undefined };
    for await (const { fields, indices, asked } of sampleBatches(dataset, preparation, batchSize, reading)) {
      if (!('encoder' in source)) yield { rows: flattened(fields), indices, asked };
      else if (program && indices.length > 0) {
        yield { ...((await program.run(feedsOf(source, fields))).outputs as Outputs), indices, asked };
      }
    }
  } finally {
    await program?.close();
  }
}

/** A copy of the first field, a row a sample. */
function flattened(fields: Fields): HostTensor<'float32'> {
  const [{ shape, data }] = Object.values(fields);
  const [count, ...rest] = shape;
  return float32([count, sizeOf(rest)], Float32Array.from(data));
}

type Outputs = { readonly rows: HostTensor<'float32'>; readonly wide?: HostTensor<'float32'> };

async function featureProgram(engine: Engine, frozen: FrozenEncoder, wide: boolean): Promise<Program> {
  const { encoder } = frozen;
  const inputs = encoderInputs(encoder);
  const outputs = {
    rows: encoder.represent(inputs),
    ...(wide && encoder.wide && { wide: encoder.wide.represent(inputs) }),
  };
  return engine.compile({ name: `features of ${frozen.name}`, outputs }, await installEncoder(engine, frozen));
}

/** A copy of some rows of [n, ...]. */
export function pick<T extends 'float32' | 'int32'>(tensor: HostTensor<T>, rows: ArrayLike<number>): HostTensor<T> {
  const [, ...rest] = tensor.shape;
  const width = sizeOf(rest);
  const from: Float32Array | Int32Array = tensor.data;
  const data = new (from.constructor as typeof Float32Array)(rows.length * width);
  for (let i = 0; i < rows.length; i++) data.set(from.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
  return { dtype: tensor.dtype, shape: [rows.length, ...rest], data: data as HostTensor<T>['data'] };
}

/** Features of a whole data set. */
export async function extractFeatures(
  engine: Engine,
  source: FeatureSource,
  dataset: Dataset,
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
  const wide = parts.flatMap((part) => part.wide ?? []);
  return { rows: join(parts.map((part) => part.rows)), ...(wide.length > 0 && { wide: join(wide) }), indices };
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
