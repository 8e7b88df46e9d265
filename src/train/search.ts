import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { withFileErrors } from '../base/atomic.js';
import { JepaError, UsageError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import type { Dataset, DatasetSource } from '../data/dataset.js';
import { openImageFiles } from '../data/open-node.js';
import { nearestNeighbours } from '../eval/knn.js';
import { fileSource, withFile } from '../hub/files.js';
import { openNpy } from '../hub/npy.js';
import { describeParquet, type EmbeddingTable, readEmbeddings } from '../hub/parquet.js';
import { loadFloat32 } from '../hub/raw.js';
import { readJsonFile } from '../hub/weights.js';
import { createEngine, type Engine } from '../runtime/index.js';
import { type Companion, companionOf, embed, FINGERPRINT, fingerprint } from './embed.js';
import { extractFeatures, type FeatureOptions } from './features.js';
import { type FrozenEncoder, imageShape } from './frozen.js';

/** Embeddings to search in. */
export interface EmbeddingIndex extends EmbeddingTable {
  /** Of what, for messages. */
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Opens a file that `embed` wrote (.npy with its .json, or .parquet), or another Parquet file with such columns. */
export async function openEmbeddings(path: string): Promise<EmbeddingIndex> {
  if (path.endsWith('.npy')) return openArray(path);
  if (!path.endsWith('.parquet')) throw new UsageError(`${path}: embeddings are read from .parquet and .npy files`);
  const source = fileSource(path);
  try {
    const { metadata } = await describeParquet(source);
    return { name: path, metadata, ...(await readEmbeddings(source)) };
  } finally {
    source.close();
  }
}

const companionSchema = z.looseObject({
  metadata: z.record(z.string(), z.string()),
  paths: z.array(z.string()),
  labels: z.array(z.int32()).optional(),
  classNames: z.array(z.string()).optional(),
});

function openArray(path: string): EmbeddingIndex {
  const embeddings = withFile(path, (source) => {
    const { tensor } = openNpy(source);
    if (tensor?.shape.length !== 2) throw new JepaError(`${path}: embeddings are an array [images, features]`);
    return loadFloat32(tensor, path);
  });
  const beside = companionOf(path);
  if (!fs.existsSync(beside)) {
    throw new JepaError(`${path}: ${beside}, which says what the rows are, is missing; embed the images again`);
  }
  const companion = companionSchema.safeParse(readJsonFile(beside));
  if (!companion.success)
    throw new JepaError(`${beside} does not say what the rows of ${path} are; embed the images again`);
  const { paths, labels, classNames, metadata }: Companion = companion.data;
  const [rows] = embeddings.shape;
  if (paths.length !== rows || (labels && labels.length !== rows)) {
    throw new JepaError(`${beside} does not go with the ${rows} rows of ${path}; embed the images again`);
  }
  return { name: path, metadata, embeddings, paths, ...(labels && { labels: Int32Array.from(labels) }), classNames };
}

export interface IndexOptions {
  readonly encoder: FrozenEncoder;
  readonly dataset: Dataset;
  readonly engine?: Engine;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onProgress?: (done: number, total: number) => void;
  /** Where embeddings are kept for the next search. Default: the user's cache folder. */
  readonly cache?: string;
}

/** Tables kept in the cache folder, at most; the ones not used for longest go. */
const KEPT = 16;

/** The user's cache folder for embeddings. */
const embeddingCache = (): string =>
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'jepa', 'embeddings');

/** Embeddings of a data set, from the cache where the same encoder has seen the same images before. */
export async function embeddingsOf(options: IndexOptions): Promise<EmbeddingIndex> {
  const { encoder, dataset, cache = embeddingCache() } = options;
  withFileErrors('create', cache, () => fs.mkdirSync(cache, { recursive: true }));
  const version = dataset.source && versionOf(dataset.source);
  // Images that only the caller can read may change unseen: they are embedded anew, under a name of their own.
  const key = version ?? `unknown ${process.pid} ${performance.now()}`;
  const labels = [dataset.labels?.join() ?? '', JSON.stringify(dataset.classNames ?? [])];
  const path = join(cache, `${hashOf(fingerprint(encoder), key, dataset.name, ...labels)}.parquet`);
  if (version !== undefined && fs.existsSync(path)) {
    fs.utimesSync(path, new Date(), new Date());
    return { ...(await openEmbeddings(path)), name: dataset.name };
  }
  await embed({ ...options, out: path });
  try {
    return { ...(await openEmbeddings(path)), name: dataset.name };
  } finally {
    if (version === undefined) fs.rmSync(path, { force: true });
    tidy(cache);
  }
}

const hashOf = (...parts: readonly string[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);

/** What changes when the samples do; undefined where that is not known. */
function versionOf(source: DatasetSource): string | undefined {
  const files = (paths: readonly string[]): string =>
    hashOf(
      ...paths.flatMap((path) => {
        const { size, mtimeMs } = withFileErrors('read', path, () => fs.statSync(path));
        return [resolve(path), String(size), String(mtimeMs)];
      }),
    );
  switch (source.kind) {
    case 'files':
      return hashOf(files(source.paths), JSON.stringify(source.decode));
    case 'tar':
      return hashOf(files(source.shards), JSON.stringify(source.decode), source.names.join('\n'));
    case 'memory':
      return createHash('sha256').update(source.pixels).digest('hex');
    case 'subset': {
      const of = versionOf(source.of);
      return of && hashOf(of, source.indices.join());
    }
    case 'module':
      return undefined;
  }
}

function tidy(cache: string): void {
  const tables = fs
    .readdirSync(cache)
    .filter((name) => name.endsWith('.parquet'))
    .map((name) => ({ path: join(cache, name), used: fs.statSync(join(cache, name)).mtimeMs }))
    .sort((a, b) => b.used - a.used);
  for (const { path } of tables.slice(KEPT)) fs.rmSync(path, { force: true });
}

export interface SearchOptions {
  readonly encoder: FrozenEncoder;
  readonly index: EmbeddingIndex;
  /** The example: an image file, or a row of the index. */
  readonly like: string | number;
  /** How many. Default: 10. */
  readonly k?: number;
  readonly engine?: Engine;
}

export interface Hit {
  readonly path: string;
  /** Cosine to the example. */
  readonly score: number;
  readonly row: number;
  readonly class?: string;
}

/** The images most like an example, which is not among them: an exact scan by cosine. */
export async function search({ encoder, index, like, k = 10, engine }: SearchOptions): Promise<Hit[]> {
  const { embeddings, paths, labels, classNames, metadata, name } = index;
  const [rows, width] = embeddings.shape;
  const made = metadata[FINGERPRINT];
  if (width !== encoder.encoder.features || (made !== undefined && made !== fingerprint(encoder))) {
    throw new JepaError(
      `${name}: these embeddings were made by another encoder${metadata.encoder ? ` (${metadata.encoder})` : ''}; embed the images with ${encoder.name}`,
    );
  }
  const query = await queryOf(encoder, index, like, engine);
  const self = typeof like === 'number' ? like : paths.findIndex((path) => resolve(path) === resolve(like));
  const wanted = Math.min(rows, k + (self >= 0 ? 1 : 0));
  if (wanted < 1) throw new JepaError(`${name}: there is nothing to search in`);
  const { indices, similarities } = nearestNeighbours(embeddings, query, wanted);
  return Array.from(indices, (row, i): Hit => {
    const label = labels?.[row] ?? -1;
    return {
      path: paths[row],
      score: similarities[i],
      row,
      ...(label >= 0 && { class: classNames?.[label] ?? String(label) }),
    };
  })
    .filter(({ row }) => row !== self)
    .slice(0, k);
}

async function queryOf(
  encoder: FrozenEncoder,
  { embeddings, name }: EmbeddingIndex,
  like: string | number,
  engine: Engine | undefined,
): Promise<HostTensor<'float32'>> {
  const [rows, width] = embeddings.shape;
  if (typeof like === 'number') {
    if (!(Number.isInteger(like) && like >= 0 && like < rows)) {
      throw new JepaError(`${name}: there is no row ${like}, rows are 0 to ${rows - 1}`);
    }
    return float32([1, width], embeddings.data.slice(like * width, (like + 1) * width));
  }
  const image = await openImageFiles([like], { channels: imageShape(encoder).channels as 1 | 3 });
  const own = engine ?? (await createEngine({ workers: 1 }));
  try {
    // Nothing is skipped: an example that cannot be read is an error.
    return (await extractFeatures(own, encoder, image, { maxCorrupt: 0, threads: 0 })).rows;
  } finally {
    if (!engine) await own.close();
  }
}
