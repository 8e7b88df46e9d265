import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { openFileAtomic, withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError, UsageError } from '../base/errors.js';
import { isJsonObject } from '../base/json.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import { type Dataset, sampleName } from '../data/dataset.js';
import { isImages } from '../data/plans.js';
import { parseTransforms } from '../data/transforms.js';
import { fileSource } from '../hub/files.js';
import { npyHeader } from '../hub/npy.js';
import { describeParquet, embeddingsWriter } from '../hub/parquet.js';
import { readJsonFile } from '../hub/weights.js';
import { createEngine, type Engine } from '../runtime/index.js';
import { type FeatureOptions, featureBatches } from './features.js';
import type { FrozenEncoder } from './frozen.js';

export interface EmbedOptions {
  readonly encoder: FrozenEncoder;
  readonly dataset: Dataset;
  /**
   * `.parquet`: path, label, class and embedding of every sample in one file. `.npy`: float32 [samples, features], with
   * paths and labels in `<out>.json` beside it.
   */
  readonly out: string;
  /** Default: one of its own, closed at the end. */
  readonly engine?: Engine;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface EmbedResult {
  readonly samples: number;
  readonly features: number;
  /** Samples that could not be read; they have no row. */
  readonly skipped: number;
  readonly files: readonly string[];
  readonly seconds: number;
}

/** What a file of embeddings is said to be made with; searching with another encoder is refused. */
export const FINGERPRINT = 'encoder fingerprint';

/** The same for equal weights, architecture and preparation, and for nothing else. */
export function fingerprint({ encoder, weights, preparation }: FrozenEncoder): string {
  const hash = createHash('sha256');
  const architecture = Object.entries(encoder.architecture).sort(([a], [b]) => (a < b ? -1 : 1));
  hash.update(
    JSON.stringify([architecture, isImages(preparation) ? parseTransforms(preparation.transforms) : preparation]),
  );
  const { prefix } = encoder.module;
  // Weights may lie in a file and exceed what should be in memory at once.
  let scratch = new Float32Array(0);
  for (const name of [...weights.keys()].sort()) {
    const tensor = weights.get(name) as HostTensor<'float32'>;
    const size = sizeOf(tensor.shape);
    if (tensor.fill && scratch.length < size) scratch = new Float32Array(size);
    const data = tensor.fill ? scratch.subarray(0, size) : tensor.data;
    tensor.fill?.(data);
    hash.update(name.slice(prefix.length)).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex').slice(0, 32);
}

/** A file of embeddings in the making. */
interface Sink {
  add(rows: HostTensor<'float32'>, paths: readonly string[], labels: Int32Array | undefined): void;
  /** Returns the files. */
  commit(): string[];
  abort(): void;
}

/** Turns the samples of a data set into vectors and writes them, batch by batch; the files appear when all is done. */
export async function embed(options: EmbedOptions): Promise<EmbedResult> {
  const started = performance.now();
  const { encoder, dataset, out } = options;
  const metadata = {
    ...encoder.facts,
    encoder: encoder.name,
    [FINGERPRINT]: fingerprint(encoder),
    data: dataset.name,
    features: String(encoder.encoder.features),
  };
  const open = sinkOf(out);
  const engine = options.engine ?? (await createEngine());
  let sink: Sink | undefined;
  let samples = 0;
  let seen = 0;
  try {
    sink = open(out, dataset, encoder.encoder.features, metadata);
    for await (const { rows, indices, asked } of featureBatches(engine, encoder, dataset, options.loading)) {
      const { labels } = dataset;
      sink.add(
        rows,
        Array.from(indices, (index) => sampleName(dataset, index)),
        labels && indices.map((index) => labels[index]),
      );
      samples += indices.length;
      seen += asked;
      options.onProgress?.(seen, dataset.length);
    }
    const files = sink.commit();
    const seconds = (performance.now() - started) / 1000;
    return { samples, features: encoder.encoder.features, skipped: dataset.length - samples, files, seconds };
  } catch (error) {
    sink?.abort();
    throw error;
  } finally {
    if (!options.engine) await engine.close();
  }
}

type Metadata = Readonly<Record<string, string>>;

/** The files that embeddings in `out` are written to. */
export const embeddingFiles = (out: string): string[] => (out.endsWith('.npy') ? [out, companionOf(out)] : [out]);

/** Whether a file says that `embed` wrote it: a table, an array with its companion, or the companion. */
export async function isOwnEmbedding(path: string): Promise<boolean> {
  try {
    if (path.endsWith('.parquet')) {
      const source = fileSource(path);
      try {
        return FINGERPRINT in (await describeParquet(source)).metadata;
      } finally {
        source.close();
      }
    }
    const { metadata } = readJsonFile(path.endsWith('.npy') ? companionOf(path) : path);
    return isJsonObject(metadata) && FINGERPRINT in metadata;
  } catch (error) {
    if (error instanceof JepaError) return false;
    throw error;
  }
}

function sinkOf(out: string): (out: string, dataset: Dataset, width: number, metadata: Metadata) => Sink {
  if (out.endsWith('.parquet')) return parquetSink;
  if (out.endsWith('.npy')) return npySink;
  throw new UsageError(`${out}: embeddings are written as .parquet or .npy; give the file one of these endings`);
}

/** Rows of a group of a Parquet file. */
const GROUP = 4096;

function parquetSink(out: string, { labels, classNames }: Dataset, _: number, metadata: Metadata): Sink {
  const writer = embeddingsWriter({ labelled: labels !== undefined, classNames }, metadata);
  const file = openFileAtomic(out);
  let waiting: { rows: HostTensor<'float32'>; paths: readonly string[]; labels?: Int32Array }[] = [];
  const flush = (): void => {
    if (waiting.length === 0) return;
    const rows = waiting.reduce((sum, part) => sum + part.paths.length, 0);
    const data = new Float32Array(waiting.reduce((sum, part) => sum + part.rows.data.length, 0));
    let at = 0;
    for (const part of waiting) {
      data.set(part.rows.data, at);
      at += part.rows.data.length;
    }
    const embeddings = float32([rows, waiting[0].rows.shape[1]], data);
    const paths = waiting.flatMap((part) => part.paths);
    file.write(writer.add({ embeddings, paths, ...(labels && { labels: joined(waiting, rows) }) }));
    waiting = [];
  };
  return {
    add(rows, paths, own) {
      waiting.push({ rows, paths, labels: own });
      if (waiting.reduce((sum, part) => sum + part.paths.length, 0) >= GROUP) flush();
    },
    commit() {
      flush();
      file.write(writer.finish());
      file.commit();
      return [out];
    },
    abort: () => file.abort(),
  };
}

function joined(parts: readonly { readonly labels?: Int32Array }[], count: number): Int32Array {
  const all = new Int32Array(count);
  let at = 0;
  for (const { labels = new Int32Array(0) } of parts) {
    all.set(labels, at);
    at += labels.length;
  }
  return all;
}

/** The file beside an .npy file that says what its rows are. */
export const companionOf = (path: string): string => `${path}.json`;

export interface Companion {
  readonly metadata: Metadata;
  readonly paths: readonly string[];
  readonly labels?: readonly number[];
  readonly classNames?: readonly string[];
}

function npySink(out: string, { labels, classNames, length }: Dataset, width: number, metadata: Metadata): Sink {
  const file = openFileAtomic(out);
  const allPaths: string[] = [];
  const allLabels: number[] = [];
  // Rewritten at the end, when it is known how many samples could be read; the header has room for any number.
  const header = npyHeader('F32', [length, width]);
  file.write(header);
  return {
    add({ data }, paths, own) {
      file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      for (const path of paths) allPaths.push(path);
      for (const label of own ?? []) allLabels.push(label);
    },
    commit() {
      const final = npyHeader('F32', [allPaths.length, width]);
      if (final.length !== header.length) throw new JepaError(`${out}: the header does not fit its place`);
      file.rewriteStart(final);
      const companion: Companion = {
        metadata,
        paths: allPaths,
        ...(labels && { labels: allLabels }),
        ...(labels && classNames && { classNames }),
      };
      // Never an array beside the companion of another one.
      const beside = companionOf(out);
      withFileErrors('remove', beside, () => fs.rmSync(beside, { force: true }));
      file.commit();
      writeFileAtomic(beside, `${JSON.stringify(companion)}\n`);
      return [out, beside];
    },
    abort: () => file.abort(),
  };
}
