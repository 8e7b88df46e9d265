import { zipSync } from 'fflate';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, quoted } from '../base/json.js';
import { byteLengthOf, type FileDType, gatherStrided, type StoredTensor } from './raw.js';
import { byCodePoint, concatBytes, toStored, type Writable } from './safetensors.js';
import type { ByteSource } from './source.js';
import { crc32, openZip, type ZipEntry } from './zip.js';

/** An open .npy file or member of an .npz archive. Data are read when asked for. */
export interface NpyFile {
  readonly version: readonly [number, number];
  /** NumPy's name of the type: `<f4`, `>i8`, `|b1`, `<U5`, ... */
  readonly descr: string;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  /** The array, row-major and little-endian; undefined for text. */
  readonly tensor?: StoredTensor;
  /** The strings of a text array (types U and S), row-major; undefined for numbers. */
  readonly text?: () => string[];
}

const DTYPES: Readonly<Record<string, FileDType>> = {
  f2: 'F16',
  f4: 'F32',
  f8: 'F64',
  i1: 'I8',
  i2: 'I16',
  i4: 'I32',
  i8: 'I64',
  u1: 'U8',
  u2: 'U16',
  u4: 'U32',
  u8: 'U64',
  b1: 'BOOL',
  c8: 'C64',
  // bfloat16 has no name in NumPy: two bytes of nothing in particular.
  V2: 'BF16',
};

/** The longest header that is parsed. Real ones take 118 bytes. */
const LONGEST_HEADER = 65_535;
const MAGIC = '\x93NUMPY';

interface Header {
  readonly version: [number, number];
  readonly descr: string;
  readonly fortranOrder: boolean;
  readonly shape: number[];
  readonly dataStart: number;
}

/**
 * Opens an .npy file (format 1.0 to 3.0, any numeric type and byte order, text of types U and S). The header is parsed as
 * the literal that it must be, never evaluated. Throws JepaError for pickled objects, structured types, sizes that
 * overflow, and data that are too short or too long.
 */
export function openNpy(source: ByteSource): NpyFile {
  const head = source.read(0, Math.min(source.size, LONGEST_HEADER + 12));
  return npyFile(head, source.size, source.name, (start) => source.read(start, source.size - start));
}

function npyFile(
  head: Uint8Array,
  size: number,
  name: string,
  readFrom: (start: number) => Uint8Array<ArrayBuffer>,
): NpyFile {
  const refuse = (what: string): never => {
    throw new JepaError(`${name}: not a readable .npy array: ${what}`);
  };
  const { dataStart, ...header } = parseHeader(head, size, refuse);
  const { descr, fortranOrder, shape } = header;
  const [, order, kind, width] = /^([<>|=])([a-zA-Z])(\d{0,9})$/.exec(descr) ?? [];
  if (kind === 'O')
    refuse('it holds Python objects, which are pickles and could run code; save it without allow_pickle');

  const isText = kind === 'U' || kind === 'S';
  const dtype = isText ? undefined : DTYPES[`${kind}${width}`];
  if (!isText && dtype === undefined) refuse(`type ${quoted(descr)} is unknown`);
  const itemBytes = isText ? Number(width) * (kind === 'U' ? 4 : 1) : byteLengthOf(dtype!, [])!;
  const count = byteLengthOf('U8', shape);
  const length = count === undefined ? undefined : byteLengthOf('U8', [count, itemBytes]);
  if (count === undefined || length === undefined) return refuse(`shape ${quoted(shape)} overflows`);
  if (dataStart + length !== size) {
    refuse(
      `${descr} ${quoted(shape)} takes ${length} bytes, ${size - dataStart} follow the header; the file is cut or damaged`,
    );
  }

  const swapped = order === '>';
  const ordered = (unit: number): Uint8Array<ArrayBuffer> => {
    const bytes = readFrom(dataStart);
    if (swapped) swapBytes(bytes, unit);
    if (!fortranOrder || shape.length < 2 || length === 0) return bytes;
    let stride = 1;
    const strides = shape.map((each) => {
      stride *= each;
      return stride / each;
    });
    return gatherStrided(bytes, itemBytes, shape, strides);
  };
  if (dtype)
    return {
      ...header,
      tensor: { dtype, shape, byteLength: length, read: () => ordered(dtype === 'C64' ? 4 : itemBytes) },
    };
  if (fortranOrder && shape.length > 1) refuse('text in Fortran order');
  const decode = kind === 'U' ? decodeUtf32 : decodeBytes;
  return {
    ...header,
    text() {
      const bytes = ordered(4);
      return Array.from({ length: count }, (_, i) => decode(bytes.subarray(i * itemBytes, (i + 1) * itemBytes), name));
    },
  };
}

function parseHeader(head: Uint8Array, size: number, refuse: (what: string) => never): Header {
  if (head.length < 10) refuse(`only ${head.length} bytes`);
  if (String.fromCharCode(...head.subarray(0, 6)) !== MAGIC) refuse('it does not start as one');
  const version: [number, number] = [head[6], head[7]];
  if (version[0] < 1 || version[0] > 3 || version[1] !== 0) refuse(`format version ${version.join('.')} is unknown`);
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const start = version[0] === 1 ? 10 : 12;
  if (head.length < start) refuse('the header is cut');
  const length = version[0] === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > LONGEST_HEADER || start + length > size)
    refuse(`its header announces ${length} bytes, ${size - start} follow; the file is cut or damaged`);
  const text = decodeUtf8(head.subarray(start, start + length), 'header of the .npy array').trim();

  const fields = parseLiteral(text, refuse);
  const { descr, fortran_order: fortranOrder, shape } = fields;
  if (fields.descr === undefined || fortranOrder === undefined || shape === undefined) {
    const missing = ['descr', 'fortran_order', 'shape'].filter((key) => fields[key as keyof Fields] === undefined);
    return refuse(`its header lacks ${missing.join(' and ')}`);
  }
  return { version, descr: descr!, fortranOrder, shape, dataStart: start + length };
}

interface Fields {
  descr?: string;
  fortran_order?: boolean;
  shape?: number[];
}

const FIELD =
  /\s*(?:'(\w+)'|"(\w+)")\s*:\s*(?:'([^'\\]{0,64})'|"([^"\\]{0,64})"|(True|False)|\(([\dL,\s-]{0,4096})\))\s*(,|\})/y;

/** The dictionary of a header: three fields that are a string, True or False, and a tuple of integers. */
function parseLiteral(text: string, refuse: (what: string) => never): Fields {
  if (/^\{.*'descr'\s*:\s*\[/s.test(text)) refuse('it has a structured type; save its fields as arrays of their own');
  const fields: Fields = {};
  let at = 1;
  if (text[0] !== '{') refuse('its header is not a dictionary');
  while (/\S/.test(text.slice(at)) && text.slice(at).trim() !== '}') {
    FIELD.lastIndex = at;
    const found = FIELD.exec(text);
    if (!found) return refuse('its header is not a plain literal of descr, fortran_order and shape');
    at = FIELD.lastIndex;
    const key = found[1] ?? found[2];
    const string = found[3] ?? found[4];
    const ended = found[7] === '}';
    if (key in fields) refuse(`its header has ${key} twice`);
    if (key === 'descr' && string !== undefined) fields.descr = string;
    else if (key === 'fortran_order' && found[5]) fields.fortran_order = found[5] === 'True';
    else if (key === 'shape' && found[6] !== undefined) fields.shape = parseSizes(found[6], refuse);
    else return refuse(`its header has a field ${quoted(key)} that is no part of the format, or of the wrong kind`);
    if (ended) {
      if (text.slice(at).trim() !== '') refuse('something follows its header');
      return fields;
    }
  }
  return text.slice(at).trim() === '}' ? fields : refuse('its header is cut');
}

function parseSizes(text: string, refuse: (what: string) => never): number[] {
  if (text.trim() === '') return [];
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length > 1 && parts.at(-1) === '') parts.pop();
  return parts.map((part) => {
    if (/^-\d+$/.test(part)) return refuse(`a size is negative: ${part}`);
    // Python 2 wrote long integers with an L.
    if (!/^\d{1,16}L?$/.test(part)) return refuse(`a size is no integer or overflows: ${quoted(part)}`);
    return Number.parseInt(part, 10);
  });
}

function swapBytes(bytes: Uint8Array, unit: number): void {
  for (let i = 0; i < bytes.length; i += unit) bytes.subarray(i, i + unit).reverse();
}

/** UCS-4 code points, padded with zeros. */
function decodeUtf32(bytes: Uint8Array, name: string): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 4) {
    const code = view.getUint32(i, true);
    if (code > 0x10ffff) throw new JepaError(`${name}: a character is no code point: ${code}`);
    text += String.fromCodePoint(code);
  }
  return text.replace(/\0+$/, '');
}

function decodeBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte))
    .join('')
    .replace(/\0+$/, '');
}

/** The header of an .npy file (format 1.0), padded so that data start at a multiple of 64. */
export function npyHeader(dtype: FileDType, shape: readonly number[]): Uint8Array {
  const [type] = Object.entries(DTYPES).find(([, each]) => each === dtype) ?? [];
  if (type === undefined || dtype === 'BF16')
    throw new JepaError(`npy: NumPy has no type for ${dtype}; convert it to F32`);
  const order = byteLengthOf(dtype, [])! === 1 ? '|' : '<';
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${order}${type}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = new Uint8Array(10 + length).fill(0x20);
  header.set(Array.from(MAGIC, (char) => char.charCodeAt(0)));
  header.set([1, 0, length & 255, length >> 8], 6);
  header.set(new TextEncoder().encode(text), 10);
  header[header.length - 1] = 10;
  return header;
}

/** An .npy file in pieces: the header and the data. */
export function* npyPieces(tensor: Writable): Generator<Uint8Array> {
  const { dtype, shape, ...stored } = toStored(tensor);
  yield npyHeader(dtype, shape);
  yield stored.read();
}

export function encodeNpy(tensor: Writable): Uint8Array<ArrayBuffer> {
  return concatBytes([...npyPieces(tensor)]);
}

/** An open .npz archive. */
export interface NpzFile {
  readonly arrays: ReadonlyMap<string, NpyFile>;
  /** Members that are no arrays. */
  readonly others: readonly string[];
}

/**
 * Opens an .npz archive, stored or deflated, by its central directory (NumPy's local headers have no sizes). Throws
 * JepaError where a member is damaged or longer than its own header says, before it is inflated.
 */
export function openNpz(source: ByteSource): NpzFile {
  const arrays = new Map<string, NpyFile>();
  const others: string[] = [];
  for (const entry of openZip(source).values()) {
    if (!entry.name.endsWith('.npy')) {
      others.push(entry.name);
      continue;
    }
    const name = `${source.name}: ${entry.name}`;
    arrays.set(
      entry.name.slice(0, -'.npy'.length),
      npyFile(headOf(entry), entry.size, name, (start) => contentOf(entry, name).slice(start)),
    );
  }
  return { arrays, others };
}

/** The first bytes of a member, enough for any header. */
function headOf(entry: ZipEntry): Uint8Array {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (const piece of entry.pieces()) {
    pieces.push(piece);
    length += piece.length;
    if (length >= LONGEST_HEADER + 12) break;
  }
  return concatBytes(pieces);
}

function contentOf(entry: ZipEntry, name: string): Uint8Array<ArrayBuffer> {
  const content = concatBytes([...entry.pieces()]);
  if (crc32(content) !== entry.crc32) throw new JepaError(`${name}: its checksum is wrong; the file is damaged`);
  return content;
}

/**
 * An .npz archive, as `numpy.savez` (or, deflated, `savez_compressed`) makes it. Equal content gives equal bytes. A comment
 * stands in the directory beside every array.
 */
export function encodeNpz(
  arrays: ReadonlyMap<string, Writable>,
  { compress = false, comment = '' }: { readonly compress?: boolean; readonly comment?: string } = {},
): Uint8Array {
  const names = [...arrays.keys()].sort(byCodePoint);
  const members = Object.fromEntries(names.map((name) => [`${name}.npy`, encodeNpy(arrays.get(name)!)]));
  return zipSync(members, { level: compress ? 6 : 0, mtime: new Date(1980, 0, 1), ...(comment && { comment }) });
}
