import { gunzipSync } from 'fflate';
import { decompress as unzstd } from 'fzstd';
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  type SchemaElement,
} from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import type { ByteSource } from './source.js';

/** What `jepa embed` writes: one row an item. */
export interface EmbeddingTable {
  /** [items, width] */
  readonly embeddings: HostTensor<'float32'>;
  /** Where each item came from. */
  readonly paths: readonly string[];
  /** Class of each item; -1 where there is none. */
  readonly labels?: Int32Array;
  /** Names of the classes, written as a column of their own. */
  readonly classNames?: readonly string[];
}

/** Rows that are encoded at once; each is a group of its own in the file. */
const GROUP_ROWS = 4096;

/** Pages are about a megabyte; what is announced is not made room for beyond this. */
const LARGEST_PAGE = 1 << 28;

/** An embedding table in the making: each method returns the next bytes of the file. */
export interface EmbeddingsWriter {
  /** Adds rows; all calls have labels or none has. */
  add(table: Pick<EmbeddingTable, 'embeddings' | 'paths' | 'labels'>): Uint8Array;
  finish(): Uint8Array;
}

/**
 * Writes an embedding table as a Parquet file, one group of rows for each `add`: columns `path` (text), `label` (int32,
 * null where there is none) and, with class names, `class` (text) where there are labels, and `embedding` (list of
 * float32), not compressed. `metadata` goes to the file's key-value pairs.
 */
export function embeddingsWriter(
  { labelled, classNames }: { readonly labelled: boolean; readonly classNames?: readonly string[] },
  metadata: Readonly<Record<string, string>> = {},
): EmbeddingsWriter {
  const columns: SchemaElement[] = [
    { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
  ];
  if (labelled) columns.push({ name: 'label', type: 'INT32', repetition_type: 'OPTIONAL' });
  if (labelled && classNames)
    columns.push({ name: 'class', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' });
  const schema: SchemaElement[] = [
    { name: 'schema', num_children: columns.length + 1 },
    ...columns,
    { name: 'embedding', repetition_type: 'REQUIRED', converted_type: 'LIST', num_children: 1 },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    { name: 'element', type: 'FLOAT', repetition_type: 'REQUIRED' },
  ];
  const writer = new ByteWriter();
  const parquet = new ParquetWriter({
    writer,
    schema,
    codec: 'UNCOMPRESSED',
    kvMetadata: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    createdBy: 'jepa',
  });
  /** What has been written so far; the writer goes on in an empty buffer. */
  const drain = () => {
    const bytes = writer.getBytes().slice();
    writer.index = 0;
    return bytes;
  };
  return {
    add({ embeddings, paths, labels }) {
      checkTable({ embeddings, paths, labels });
      if (labelled !== (labels !== undefined)) throw new JepaError('embeddings: all rows have labels or none has');
      const [rows, width] = embeddings.shape;
      const classes = labels && Array.from(labels, (label) => (label < 0 ? null : label));
      const group: Record<string, unknown[]> = {
        path: [...paths],
        label: classes ?? [],
        class: classes?.map((label) => (label === null ? null : (classNames?.[label] ?? null))) ?? [],
        embedding: Array.from({ length: rows }, (_, i) =>
          Array.from(embeddings.data.subarray(i * width, (i + 1) * width)),
        ),
      };
      const columnData = [...columns.map(({ name }) => name), 'embedding'].map((name) => ({
        name,
        data: group[name],
        statistics: name !== 'embedding',
      }));
      parquet.write({ columnData, rowGroupSize: Math.max(1, rows) });
      return drain();
    },
    finish() {
      parquet.finish();
      return drain();
    },
  };
}

function checkTable({ embeddings: { shape }, paths, labels }: EmbeddingTable): void {
  const [rows] = shape;
  if (shape.length !== 2 || paths.length !== rows || (labels && labels.length !== rows)) {
    throw new JepaError(
      `embeddings [${shape}] do not go with ${paths.length} paths${labels ? ` and ${labels.length} labels` : ''}`,
    );
  }
}

/** A whole embedding table as a Parquet file, in pieces. */
export function* embeddingsParquet(
  { embeddings, paths, labels, classNames }: EmbeddingTable,
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  checkTable({ embeddings, paths, labels });
  const [rows, width] = embeddings.shape;
  const writer = embeddingsWriter({ labelled: labels !== undefined, classNames }, metadata);
  for (let start = 0; start < rows; start += GROUP_ROWS) {
    const end = Math.min(rows, start + GROUP_ROWS);
    yield writer.add({
      embeddings: {
        ...embeddings,
        shape: [end - start, width],
        data: embeddings.data.subarray(start * width, end * width),
      },
      paths: paths.slice(start, end),
      labels: labels?.subarray(start, end),
    });
  }
  yield writer.finish();
}

/** What a Parquet file says of itself. */
export interface ParquetDescription {
  readonly rows: number;
  readonly rowGroups: number;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** Reads the footer of a Parquet file. Throws JepaError where it is missing or damaged. */
export async function describeParquet(source: ByteSource): Promise<ParquetDescription> {
  const metadata = await footer(source);
  const [, ...elements] = metadata.schema;
  return {
    rows: Number(metadata.num_rows),
    rowGroups: metadata.row_groups.length,
    columns: topLevel(elements),
    metadata: Object.fromEntries(metadata.key_value_metadata?.map(({ key, value }) => [key, value ?? '']) ?? []),
  };
}

/** The columns of a flat list of schema elements, in which the children of each follow it. */
function topLevel(elements: readonly SchemaElement[]): { name: string; type: string }[] {
  const columns: { name: string; type: string }[] = [];
  let inside = 0;
  for (const { name, type, converted_type: meaning, num_children: children = 0 } of elements) {
    if (inside === 0) columns.push({ name, type: meaning ?? type ?? 'GROUP' });
    else inside--;
    inside += children;
  }
  return columns;
}

/** Rows of a Parquet file as objects; 64-bit integers are bigints. Read are files without compression and with snappy, gzip or zstd. */
export async function readParquet(
  source: ByteSource,
  range: { columns?: string[]; rowStart?: number; rowEnd?: number } = {},
): Promise<Record<string, unknown>[]> {
  const metadata = await footer(source);
  for (const { columns } of metadata.row_groups) {
    for (const { meta_data: column } of columns) {
      if (column && !['UNCOMPRESSED', 'SNAPPY', 'GZIP', 'ZSTD'].includes(column.codec)) {
        throw new JepaError(
          `${source.name}: column ${quoted(column.path_in_schema[0])} is compressed with ${column.codec}, which is not supported; write the file with snappy, gzip or zstd`,
        );
      }
    }
  }
  const room = (length: number): Uint8Array => {
    if (!(length <= LARGEST_PAGE)) throw new JepaError(`${source.name}: a page of ${length} bytes is announced`);
    return new Uint8Array(length);
  };
  const compressors = {
    GZIP: (input: Uint8Array, length: number) => gunzipSync(input, { out: room(length) }),
    ZSTD: (input: Uint8Array, length: number) => unzstd(input, room(length)),
  };
  return guarded(source, () => parquetReadObjects({ ...range, file: asyncBuffer(source), metadata, compressors }));
}

/** Reads back what `embeddingsParquet` wrote, or any file with a column of equally long lists called `embedding`. */
export async function readEmbeddings(source: ByteSource): Promise<EmbeddingTable> {
  const { rows, columns } = await describeParquet(source);
  const [first] = rows > 0 ? await readParquet(source, { rowEnd: 1 }) : [];
  const width = Array.isArray(first?.embedding) ? first.embedding.length : 0;
  const data = new Float32Array(rows * width);
  const paths: string[] = [];
  const labels = new Int32Array(rows).fill(-1);
  const classNames: string[] = [];
  // A part at a time: as objects, rows take many times the memory of their numbers.
  for (let start = 0; start < rows; start += GROUP_ROWS) {
    const part = await readParquet(source, { rowStart: start, rowEnd: Math.min(rows, start + GROUP_ROWS) });
    part.forEach(({ embedding, path, label, class: name }, i) => {
      const row = start + i;
      if (!Array.isArray(embedding) || embedding.length !== width) {
        throw new JepaError(`${source.name}: row ${row} has no column "embedding" with a list of ${width} numbers`);
      }
      data.set(embedding, row * width);
      paths.push(typeof path === 'string' ? path : '');
      if (label === null || label === undefined) return;
      labels[row] = Number(label);
      if (typeof name === 'string') classNames[labels[row]] = name;
    });
  }
  const has = (column: string): boolean => columns.some(({ name }) => name === column);
  return {
    embeddings: { dtype: 'float32', shape: [rows, width], data },
    paths,
    ...(has('label') && { labels }),
    ...(has('label') && has('class') && { classNames: Array.from(classNames, (name, label) => name ?? String(label)) }),
  };
}

function footer(source: ByteSource): Promise<FileMetaData> {
  if (source.size < 12) throw new JepaError(`${source.name}: not a Parquet file: only ${source.size} bytes`);
  if (new TextDecoder().decode(source.read(0, 4)) !== 'PAR1')
    throw new JepaError(`${source.name}: not a Parquet file: it does not start with PAR1`);
  return guarded(source, () => parquetMetadataAsync(asyncBuffer(source)));
}

function asyncBuffer(source: ByteSource): AsyncBuffer {
  return {
    byteLength: source.size,
    slice: (start, end = source.size) => source.read(start, end - start).buffer,
  };
}

/** The library reports damage in many ways; what reaches the user is one line. */
async function guarded<T>(source: ByteSource, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof JepaError) throw error;
    throw new JepaError(`${source.name}: not a readable Parquet file: ${(error as Error).message.split('\n')[0]}`);
  }
}
