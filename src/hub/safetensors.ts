import { JepaError } from '../base/errors.js';
import { decodeUtf8, isCount, isJsonObject, type Json, parseJson, quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import { byteLengthOf, FILE_DTYPES, isFileDType, loadTensor, type StoredTensor, storeTensor } from './raw.js';
import { type ByteSource, bytesSource } from './source.js';

/** An open safetensors file. Tensors are in the order of their data. */
export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** The format's own limit on the header, in bytes. */
const LARGEST_HEADER = 100_000_000;

interface Entry {
  readonly name: string;
  readonly dtype: StoredTensor['dtype'];
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Opens a safetensors file: reads and checks the header, tensors only when asked for. The source stays open.
 * Everything that the format forbids is refused with a JepaError: a header that is cut, not UTF-8, not JSON or names a
 * tensor twice; sizes that are no integers or overflow; data with holes, overlaps or bytes left over.
 */
export function openSafetensors(source: ByteSource): SafetensorsFile {
  const refuse = (what: string): never => {
    throw new JepaError(`${source.name}: not a valid safetensors file: ${what}`);
  };
  if (source.size < 8) refuse(`no header, the file has only ${source.size} bytes`);
  const announced = new DataView(source.read(0, 8).buffer).getBigUint64(0, true);
  const room = Math.min(source.size - 8, LARGEST_HEADER);
  if (announced > room)
    refuse(`its header announces ${announced} bytes, at most ${room} are possible here; the file is cut or damaged`);
  const headerLength = Number(announced);

  const text = decodeUtf8(source.read(8, headerLength), `${source.name}: header of the safetensors file`);
  if (text[0] !== '{') refuse('the header does not start with {');
  const header = parseJson(text, `${source.name}: header of the safetensors file`);
  if (!isJsonObject(header)) return refuse('the header is not an object');

  const metadata: [string, string][] = [];
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isJsonObject(value)) return refuse('__metadata__ is not an object');
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') return refuse(`metadata values must be strings, ${quoted(key)} is not`);
        metadata.push([key, text]);
      }
    } else {
      entries.push(checkedEntry(name, value, refuse));
    }
  }

  const dataStart = 8 + headerLength;
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, ...range } of entries) {
    if (range.begin > end) refuse(`there is a gap of ${range.begin - end} bytes before tensor ${quoted(name)}`);
    if (range.begin < end) refuse(`tensor ${quoted(name)} overlaps the one before it`);
    end = range.end;
    if (dataStart + end > source.size) {
      refuse(`tensor ${quoted(name)} ends at byte ${dataStart + end}, the file already at ${source.size}; it is cut`);
    }
    const byteLength = range.end - range.begin;
    const at = dataStart + range.begin;
    const { readInto, file } = source;
    tensors.set(name, {
      dtype,
      shape,
      byteLength,
      read: () => source.read(at, byteLength),
      ...(readInto && { readInto: (target: Uint8Array) => readInto(at, target) }),
      ...(file && { place: { ...file, offset: at } }),
    });
  }
  if (dataStart + end < source.size) refuse(`${source.size - dataStart - end} bytes follow the last tensor`);
  return { metadata: Object.fromEntries(metadata), tensors };
}

function checkedEntry(name: string, value: Json, refuse: (what: string) => never): Entry {
  const of = `tensor ${quoted(name)}`;
  if (!isJsonObject(value)) return refuse(`${of} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isFileDType(dtype)) return refuse(`${of} has the unknown dtype ${quoted(dtype)}`);
  if (!isSizes(shape)) return refuse(`${of} has a shape that is not a list of non-negative integers`);
  if (!isSizes(offsets) || offsets.length !== 2)
    return refuse(`${of} has data_offsets that are not two non-negative integers`);
  const [begin, end] = offsets;
  if (end < begin) return refuse(`${of} ends at ${end}, before it begins at ${begin}`);
  const bytes = byteLengthOf(dtype, shape);
  if (bytes === undefined)
    return refuse(`${of} has a size that overflows or is no whole number of bytes: ${dtype} ${quoted(shape)}`);
  if (bytes !== end - begin)
    return refuse(`${of}, ${dtype} ${quoted(shape)}, takes ${bytes} bytes, its offsets say ${end - begin}`);
  return { name, dtype, shape, begin, end };
}

function isSizes(value: Json | undefined): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

/**
 * Parses a safetensors file held in memory; see `openSafetensors` for what is refused and `loadTensor` for types that the
 * host lacks. Data is copied, so it may start anywhere. `where` names the file in messages.
 */
export function parseSafetensors(bytes: Uint8Array, where?: string): Map<string, HostTensor> {
  const { tensors } = openSafetensors(bytesSource(bytes, where));
  return new Map(Array.from(tensors, ([name, stored]) => [name, loadTensor(stored, name)]));
}

/** What the writers take: tensors of the host, or of another file (copied as they are). */
export type Writable = HostTensor | StoredTensor;

export function toStored(tensor: Writable): StoredTensor {
  return 'read' in tensor ? tensor : storeTensor(tensor);
}

/**
 * A safetensors file in pieces: the header, then one tensor after the other, so that a writer never holds more than one.
 * Laid out as the reference writer does: header padded to a multiple of 8 bytes, tensors by descending element size and
 * then by name, which aligns all data. Metadata names are sorted: equal content gives equal bytes.
 */
export function* safetensorsPieces(
  tensors: ReadonlyMap<string, Writable>,
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  const rank = Object.keys(FILE_DTYPES);
  const stored = Array.from(tensors, ([name, tensor]) => ({ name, tensor: toStored(tensor) }));
  stored.sort((a, b) => rank.indexOf(b.tensor.dtype) - rank.indexOf(a.tensor.dtype) || byCodePoint(a.name, b.name));

  const header: string[] = [];
  const notes = Object.entries(metadata).sort(([a], [b]) => byCodePoint(a, b));
  if (notes.length > 0) {
    header.push(
      `"__metadata__":{${notes.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`).join()}}`,
    );
  }
  let offset = 0;
  for (const { name, tensor } of stored) {
    if (name === '__metadata__')
      throw new JepaError('safetensors: a tensor cannot be called __metadata__, the format reserves that name');
    if (byteLengthOf(tensor.dtype, tensor.shape) !== tensor.byteLength) {
      throw new JepaError(
        `safetensors: tensor ${quoted(name)}: ${tensor.byteLength} bytes do not fill ${tensor.dtype} ${quoted(tensor.shape)}`,
      );
    }
    const end = offset + tensor.byteLength;
    const { dtype, shape } = tensor;
    header.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  // Joined by hand: an object would move names like "0" to the front.
  const json = new TextEncoder().encode(`{${header.join()}}`);
  const padded = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  padded.set(json, 8);
  yield padded;
  for (const { tensor } of stored) yield tensor.read();
}

/** A whole safetensors file in memory; see `safetensorsPieces`. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, Writable>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  return concatBytes([...safetensorsPieces(tensors, metadata)]);
}

export function concatBytes(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

/** Order of UTF-8 bytes, which is that of code points (the default order of strings is by UTF-16 units). */
export function byCodePoint(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; ) {
    const left = a.codePointAt(i)!;
    const right = b.codePointAt(i)!;
    if (left !== right) return left - right;
    i += left > 0xffff ? 2 : 1;
  }
  return a.length - b.length;
}
