import type { Group, File as H5File, Metadata } from 'h5wasm';
import { writeAtomicBy } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { type HostTensor, sizeOf } from '../base/tensor.js';
import { fileSource } from './files.js';
import { byteLengthOf, FILE_DTYPES, type FileDType, loadTensor } from './raw.js';

/** A data set of an HDF5 file: numbers or booleans in a box. */
export interface Hdf5Dataset {
  /** Path through the groups, without a leading slash. */
  readonly path: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /** Items `from` to `to` (exclusive) of the first axis, all by default; types that the host lacks are widened. */
  read(from?: number, to?: number): HostTensor;
}

export type Hdf5Attribute = string | number | bigint | boolean;

/** An open HDF5 file. */
export interface Hdf5File {
  readonly datasets: ReadonlyMap<string, Hdf5Dataset>;
  /** Paths of everything else: text, compounds, single values, links (which are not followed). */
  readonly others: readonly string[];
  /** Single values attached to each group and data set, by its path; those of the file by ''. */
  readonly attributes: ReadonlyMap<string, ReadonlyMap<string, Hdf5Attribute>>;
  /** Data sets cannot be read afterwards. */
  close(): void;
}

const SIGNATURE = '\x89HDF\r\n\x1a\n';
/** Deflate shrinks at most about 1032 times: a data set beyond that is announced, not stored. */
const LARGEST_RATIO = 1040;
/** Most bytes read at once; the library's memory ends at 4 GiB. */
const LARGEST_READ = 2 ** 31;
/** Groups inside of groups, and items in all. */
const DEEPEST = 32;
const MOST_ITEMS = 1_000_000;

/**
 * Opens an HDF5 file (any version, gzip and shuffled chunks; Blosc is not in the library). Only what is asked for is read.
 * Throws a `JepaError` naming the file for anything that is no HDF5 file, cut, or announces what cannot be in it.
 */
export async function openHdf5(path: string): Promise<Hdf5File> {
  const bytes = checkStart(path);
  const { File, ready } = await import('h5wasm/node');
  const library = await ready;
  // Else damage is printed by the library instead of thrown.
  library.activate_throwing_error_handler();
  const guarded = <T>(what: string, run: () => T): T => {
    try {
      return run();
    } catch (error) {
      if (error instanceof JepaError) throw error;
      throw new JepaError(`${path}: ${what} cannot be read: ${reasonOf(error)}`);
    }
  };
  const file = guarded('the HDF5 file', () => new File(path, 'r'));
  try {
    const found = guarded('the list of data sets', () => walk(file, path, bytes, guarded));
    return { ...found, close: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Writes arrays as the data sets of an HDF5 file, with texts as its attributes. The file appears when it is whole. Throws a
 * `JepaError` that names it.
 */
export async function writeHdf5(
  path: string,
  arrays: ReadonlyMap<string, HostTensor<'float32' | 'uint8' | 'int32'>>,
  attributes: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { File, ready } = await import('h5wasm/node');
  const library = await ready;
  library.activate_throwing_error_handler();
  writeAtomicBy(path, (temporary) => {
    try {
      const file = new File(temporary, 'w');
      try {
        for (const [name, text] of Object.entries(attributes)) file.create_attribute(name, text);
        for (const [name, { shape, data }] of arrays) file.create_dataset({ name, data, shape: [...shape] });
        file.flush();
      } finally {
        file.close();
      }
    } catch (error) {
      if (/no space left/i.test(String(error))) throw Object.assign(new Error(), { code: 'ENOSPC' });
      throw new JepaError(`${path}: the HDF5 file cannot be written: ${reasonOf(error)}`);
    }
  });
}

/** Checks the signature, which may be at byte 0, 512, 1024, ...; returns the size of the file. */
function checkStart(path: string): number {
  const source = fileSource(path);
  try {
    for (let at = 0; at + 8 <= source.size; at = at === 0 ? 512 : 2 * at) {
      if (String.fromCharCode(...source.read(at, 8)) === SIGNATURE) return source.size;
    }
  } finally {
    source.close();
  }
  throw new JepaError(`${path}: not an HDF5 file (its signature is missing)`);
}

/** What the library says in many lines, in one: the innermost reason. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const lines = text.split('\n').map((line) => line.trim());
  const reasons = lines.filter((line) => /^#\d+: /.test(line)).map((line) => line.replace(/^.*\(\): /, ''));
  return (reasons.at(-1) ?? lines[0]) || 'the file is damaged';
}

function walk(
  file: H5File,
  where: string,
  fileBytes: number,
  guarded: <T>(what: string, run: () => T) => T,
): Omit<Hdf5File, 'close'> {
  const datasets = new Map<string, Hdf5Dataset>();
  const others: string[] = [];
  const attributes = new Map<string, Map<string, Hdf5Attribute>>();
  let items = 0;
  const visit = (group: Group, prefix: string, depth: number): void => {
    if (depth > DEEPEST) throw new JepaError(`${where}: groups nest deeper than ${DEEPEST} levels`);
    for (const name of group.keys()) {
      if (++items > MOST_ITEMS) throw new JepaError(`${where}: more than ${MOST_ITEMS} items`);
      const path = prefix + name;
      // Links are not followed: they can lead in circles, and out of the file.
      const isLink = group.get_link(`/${path}`) !== null || Boolean(group.get_external_link(`/${path}`).filename);
      const item = isLink ? null : group.get(name);
      if (item && 'attrs' in item) attributes.set(path, attributesOf(item));
      if (item && 'keys' in item) visit(item, `${path}/`, depth + 1);
      else if (item && 'slice' in item) {
        const { metadata } = item;
        const dtype = dtypeOf(metadata);
        const shape = metadata.shape?.map(Number);
        if (!dtype || !shape || shape.length === 0) {
          others.push(path);
          continue;
        }
        const read = (from = 0, to = shape[0]): HostTensor => {
          const part = [to - from, ...shape.slice(1)];
          checkRead(`${where}: ${quoted(path)}`, dtype, shape, from, to, fileBytes, metadata);
          if (sizeOf(part) === 0) return load(new Uint8Array(0), dtype, part, path);
          const data = guarded(quoted(path), () => item.slice([[from, to]]));
          return load(bytesOf(data, where, path), dtype, part, path);
        };
        datasets.set(path, { path, dtype, shape, read });
      } else others.push(path);
    }
  };
  attributes.set('', attributesOf(file));
  visit(file, '', 0);
  return { datasets, others, attributes };
}

function checkRead(
  what: string,
  dtype: FileDType,
  shape: readonly number[],
  from: number,
  to: number,
  fileBytes: number,
  { chunks }: Metadata,
): void {
  const announced = byteLengthOf(dtype, shape);
  if (announced === undefined || announced > fileBytes * LARGEST_RATIO) {
    throw new JepaError(
      `${what} announces ${shape.join(' x ')} values, which a file of ${fileBytes} bytes cannot hold`,
    );
  }
  const [rows] = shape;
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= rows)) {
    throw new JepaError(`${what} has ${rows} rows, ${from} to ${to} are not among them`);
  }
  const wanted = rows === 0 ? 0 : (announced / rows) * (to - from);
  if (wanted > LARGEST_READ) throw new JepaError(`${what}: ${wanted} bytes at once; read fewer rows`);
  const chunk = chunks ? byteLengthOf(dtype, chunks.map(Number)) : 0;
  if (chunk === undefined || chunk > LARGEST_READ) throw new JepaError(`${what} has chunks of absurd size`);
}

function load(bytes: Uint8Array<ArrayBuffer>, dtype: FileDType, shape: readonly number[], name: string): HostTensor {
  return loadTensor({ dtype, shape, byteLength: bytes.length, read: () => bytes }, name);
}

function bytesOf(data: unknown, where: string, path: string): Uint8Array<ArrayBuffer> {
  if (!ArrayBuffer.isView(data)) throw new JepaError(`${where}: ${quoted(path)} does not hold numbers`);
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength).slice();
}

/** The type under the names of safetensors; undefined for what is neither numbers nor booleans. */
function dtypeOf({ type, size, signed, vlen, enum_type: names }: Metadata): FileDType | undefined {
  if (vlen) return undefined;
  const bits = 8 * size;
  const isBool = names && Object.keys(names.members).sort().join() === 'FALSE,TRUE' && size === 1;
  const name =
    type === H5T_INTEGER ? `${signed ? 'I' : 'U'}${bits}` : type === H5T_FLOAT ? `F${bits}` : isBool ? 'BOOL' : '';
  return name !== 'F16' && Object.hasOwn(FILE_DTYPES, name) ? (name as FileDType) : undefined;
}

// Classes of types in the HDF5 library (H5Tpublic.h).
const H5T_INTEGER = 0;
const H5T_FLOAT = 1;

function attributesOf(item: { attrs: Record<string, { value: unknown }> }): Map<string, Hdf5Attribute> {
  const values = new Map<string, Hdf5Attribute>();
  for (const [name, { value }] of Object.entries(item.attrs)) {
    if (['string', 'number', 'bigint', 'boolean'].includes(typeof value)) values.set(name, value as Hdf5Attribute);
  }
  return values;
}
