import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, quoted } from '../base/json.js';
import { fileSource } from './files.js';
import { byteLengthOf, FILE_DTYPES, type FileDType, type StoredTensor } from './raw.js';
import type { ByteSource } from './source.js';
import { floatOf, packedIntegers, type WireField, wireFields } from './wire.js';

/** Reads ONNX models (specs/formats.md 2.1). The writer is in src/graph/onnx.ts. */

export interface OnnxModel {
  readonly irVersion: number;
  readonly producer: string;
  /** Version of each operator set; the standard one is ''. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly graph: OnnxGraph;
}

export interface OnnxGraph {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, OnnxInitializer>;
  /** Without those that an initializer fills. */
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxNode {
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

export type OnnxAttribute =
  | number
  | bigint
  | string
  | OnnxGraph
  | OnnxInitializer
  | readonly number[]
  | readonly bigint[]
  | readonly string[];

export interface OnnxValue {
  readonly name: string;
  /** Type of the elements under the names of safetensors (F32, I64, ...), or ONNX's number for what those lack. */
  readonly type: string;
  /** Numbers, names of symbolic dimensions, or '?'; undefined where the model does not say. */
  readonly shape?: readonly (number | string)[];
}

export interface OnnxInitializer {
  readonly type: string;
  readonly shape: readonly number[];
  /** The file beside the model that holds the data, for external ones. */
  readonly external?: string;
  /** The data; undefined for types that tensors of the host cannot hold (strings, 4-bit integers). */
  readonly tensor?: StoredTensor;
}

/** TensorProto.DataType, as far as it can be read. */
const TYPES: Readonly<Record<number, FileDType>> = {
  1: 'F32',
  2: 'U8',
  3: 'I8',
  4: 'U16',
  5: 'I16',
  6: 'I32',
  7: 'I64',
  9: 'BOOL',
  10: 'F16',
  11: 'F64',
  12: 'U32',
  13: 'U64',
  14: 'C64',
  16: 'BF16',
  17: 'F8_E4M3',
  18: 'F8_E4M3FNUZ',
  19: 'F8_E5M2',
  20: 'F8_E5M2FNUZ',
};

/** A protobuf message cannot be longer. */
const LARGEST_MODEL = 2 ** 31;
/** Graphs inside of attributes inside of graphs. */
const DEEPEST_GRAPH = 16;

/** How external data are opened: given the location that the model names. */
type OpenExternal = (location: string) => ByteSource;

/**
 * Opens an ONNX file. External data are read from the folder of the model when a tensor is read; that they are there, long
 * enough and nowhere else is checked here. Throws JepaError for everything that is not a well-formed model.
 */
export function openOnnx(path: string): OnnxModel {
  const source = fileSource(path);
  try {
    if (source.size >= LARGEST_MODEL)
      throw new JepaError(
        `${path}: ${source.size} bytes; an ONNX file is smaller than 2 GiB, larger weights are in files beside it`,
      );
    return parseOnnx(source.read(0, source.size), path, (location) => {
      const file = join(dirname(path), location);
      if (!fs.existsSync(file))
        throw new JepaError(`${path}: its data file ${quoted(location)} is missing; it belongs in the same folder`);
      return fileSource(file);
    });
  } finally {
    source.close();
  }
}

/** Parses an ONNX model in memory; `open` gives its external data. See `openOnnx`. */
export function parseOnnx(bytes: Uint8Array, name: string, open?: OpenExternal): OnnxModel {
  let irVersion = 0;
  let producer = '';
  let graph: OnnxGraph | undefined;
  const opsets: [string, number][] = [];
  const metadata: [string, string][] = [];
  const context: Context = { name, open };
  for (const field of wireFields(bytes, name)) {
    if (is(field, 1, 0)) irVersion = Number(field.integer);
    else if (is(field, 2, 2)) producer = textOf(field, name);
    else if (is(field, 7, 2)) graph = parseGraph(field.bytes, context, 0);
    else if (is(field, 8, 2)) opsets.push(parsePair(field.bytes, name, (version) => Number(version.integer)));
    else if (is(field, 14, 2)) metadata.push(parsePair(field.bytes, name, (value) => textOf(value, name)));
  }
  if (!graph) throw new JepaError(`${name}: not an ONNX model: it has no graph`);
  return { irVersion, producer, opsets: Object.fromEntries(opsets), metadata: Object.fromEntries(metadata), graph };
}

interface Context {
  readonly name: string;
  readonly open?: OpenExternal;
}

function is(field: WireField, number: number, type: WireField['type']): boolean {
  return field.number === number && field.type === type;
}

function textOf(field: WireField, name: string): string {
  return decodeUtf8(field.bytes, name);
}

/** A message of a text (field 1) and something else (field 2). */
function parsePair<T>(bytes: Uint8Array, name: string, second: (field: WireField) => T): [string, T] {
  let key = '';
  let value: T | undefined;
  for (const field of wireFields(bytes, name)) {
    if (is(field, 1, 2)) key = textOf(field, name);
    else if (field.number === 2) value = second(field);
  }
  if (value === undefined) throw new JepaError(`${name}: not an ONNX model: ${quoted(key)} has no value`);
  return [key, value];
}

/** Field numbers that GraphProto has given up: no writer uses them. */
const RESERVED_IN_GRAPH = new Set([3, 4, 6, 7, 8, 9]);

function parseGraph(bytes: Uint8Array, context: Context, depth: number): OnnxGraph {
  if (depth > DEEPEST_GRAPH) throw new JepaError(`${context.name}: graphs nest deeper than ${DEEPEST_GRAPH}`);
  let name = '';
  const nodes: OnnxNode[] = [];
  const initializers = new Map<string, OnnxInitializer>();
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  for (const field of wireFields(bytes, context.name)) {
    if (RESERVED_IN_GRAPH.has(field.number))
      throw new JepaError(
        `${context.name}: not an ONNX model: its graph has a field ${field.number}, which graphs do not have`,
      );
    if (field.type !== 2) continue;
    if (field.number === 1) nodes.push(parseNode(field.bytes, context, depth));
    else if (field.number === 2) name = textOf(field, context.name);
    else if (field.number === 5) {
      const [key, tensor] = parseTensor(field.bytes, context);
      if (initializers.has(key)) throw new JepaError(`${context.name}: two initializers are called ${quoted(key)}`);
      initializers.set(key, tensor);
    } else if (field.number === 11) inputs.push(parseValue(field.bytes, context.name));
    else if (field.number === 12) outputs.push(parseValue(field.bytes, context.name));
  }
  return { name, nodes, initializers, inputs: inputs.filter((input) => !initializers.has(input.name)), outputs };
}

function parseNode(bytes: Uint8Array, context: Context, depth: number): OnnxNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const texts = ['', '', '', '', '', '', '', ''];
  const attributes = new Map<string, OnnxAttribute>();
  for (const field of wireFields(bytes, context.name)) {
    if (field.type !== 2) continue;
    if (field.number === 1) inputs.push(textOf(field, context.name));
    else if (field.number === 2) outputs.push(textOf(field, context.name));
    else if (field.number === 3 || field.number === 4 || field.number === 7)
      texts[field.number] = textOf(field, context.name);
    else if (field.number === 5) {
      const [name, value] = parseAttribute(field.bytes, context, depth);
      if (value !== undefined) attributes.set(name, value);
    }
  }
  return { name: texts[3], opType: texts[4], domain: texts[7], inputs, outputs, attributes };
}

function parseAttribute(bytes: Uint8Array, context: Context, depth: number): [string, OnnxAttribute | undefined] {
  let name = '';
  let single: OnnxAttribute | undefined;
  const floats: number[] = [];
  const integers: bigint[] = [];
  const strings: string[] = [];
  for (const field of wireFields(bytes, context.name)) {
    if (is(field, 1, 2)) name = textOf(field, context.name);
    else if (is(field, 2, 5)) single = floatOf(field);
    else if (is(field, 3, 0)) single = field.integer;
    else if (is(field, 4, 2)) single = textOrHex(field.bytes);
    else if (is(field, 5, 2)) single = parseTensor(field.bytes, context)[1];
    else if (is(field, 6, 2)) single = parseGraph(field.bytes, context, depth + 1);
    else if (is(field, 7, 5)) floats.push(floatOf(field));
    else if (is(field, 7, 2)) for (const value of floatsOf(field, context.name)) floats.push(value);
    else if (is(field, 8, 0)) integers.push(field.integer);
    else if (is(field, 8, 2)) for (const value of packedIntegers(field.bytes, context.name)) integers.push(value);
    else if (is(field, 9, 2)) strings.push(textOrHex(field.bytes));
  }
  const list = floats.length > 0 ? floats : integers.length > 0 ? integers : strings.length > 0 ? strings : undefined;
  return [name, single ?? list];
}

/** String attributes are bytes; those that are no text are shown as hexadecimal. */
function textOrHex(bytes: Uint8Array): string {
  try {
    return decodeUtf8(bytes, '');
  } catch {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }
}

function floatsOf({ bytes }: WireField, name: string): Float32Array {
  if (bytes.length % 4 !== 0)
    throw new JepaError(`${name}: not a valid protobuf message: ${bytes.length} bytes of float32`);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

function typeName(code: number): string {
  return TYPES[code] ?? (code === 8 ? 'STRING' : `type ${code}`);
}

function parseValue(bytes: Uint8Array, model: string): OnnxValue {
  let name = '';
  let type = 'unknown';
  let shape: (number | string)[] | undefined;
  for (const field of wireFields(bytes, model)) {
    if (is(field, 1, 2)) name = textOf(field, model);
    else if (is(field, 2, 2)) {
      for (const kind of wireFields(field.bytes, model)) {
        if (!is(kind, 1, 2)) continue;
        for (const inner of wireFields(kind.bytes, model)) {
          if (is(inner, 1, 0)) type = typeName(Number(inner.integer));
          else if (is(inner, 2, 2)) shape = parseDimensions(inner.bytes, model, name);
        }
      }
    }
  }
  return { name, type, shape };
}

function parseDimensions(bytes: Uint8Array, model: string, value: string): (number | string)[] {
  const dimensions: (number | string)[] = [];
  for (const field of wireFields(bytes, model)) {
    if (!is(field, 1, 2)) continue;
    let dimension: number | string = '?';
    for (const inner of wireFields(field.bytes, model)) {
      if (is(inner, 2, 2)) dimension = textOf(inner, model);
      else if (is(inner, 1, 0)) {
        if (inner.integer < 0n)
          throw new JepaError(`${model}: a dimension of ${quoted(value)} is negative: ${inner.integer}`);
        dimension = Number(inner.integer);
      }
    }
    dimensions.push(dimension);
  }
  return dimensions;
}

/** Lists of numbers that a tensor may hold instead of raw bytes, by field number. */
interface TypedData {
  floats: Uint8Array[];
  doubles: Uint8Array[];
  integers: bigint[];
}

function parseTensor(bytes: Uint8Array, context: Context): [string, OnnxInitializer] {
  let name = '';
  let code = 0;
  let raw: Uint8Array | undefined;
  let isExternal = false;
  const dims: bigint[] = [];
  const typed: TypedData = { floats: [], doubles: [], integers: [] };
  const external: [string, string][] = [];
  for (const field of wireFields(bytes, context.name)) {
    const { number, type } = field;
    if (number === 1 && type === 0) dims.push(field.integer);
    else if (number === 1 && type === 2) for (const dim of packedIntegers(field.bytes, context.name)) dims.push(dim);
    else if (is(field, 2, 0)) code = Number(field.integer);
    else if (is(field, 8, 2)) name = textOf(field, context.name);
    else if (is(field, 9, 2)) raw = field.bytes;
    else if (is(field, 13, 2))
      external.push(parsePair(field.bytes, context.name, (value) => textOf(value, context.name)));
    else if (is(field, 14, 0)) isExternal = field.integer === 1n;
    else if (number === 4 && (type === 2 || type === 5)) typed.floats.push(field.bytes);
    else if (number === 10 && (type === 2 || type === 1)) typed.doubles.push(field.bytes);
    else if ((number === 5 || number === 7 || number === 11) && type === 0) typed.integers.push(field.integer);
    else if ((number === 5 || number === 7 || number === 11) && type === 2) {
      for (const value of packedIntegers(field.bytes, context.name)) typed.integers.push(value);
    }
  }

  const what = `tensor ${quoted(name)}`;
  const refuse = (problem: string): never => {
    throw new JepaError(`${context.name}: ${what} ${problem}`);
  };
  const shape = dims.map((dim) => (dim < 0n ? refuse(`has the negative dimension ${dim}`) : Number(dim)));
  const dtype = TYPES[code];
  if (dtype === undefined) return [name, { type: typeName(code), shape }];
  const byteLength = byteLengthOf(dtype, shape);
  if (byteLength === undefined) return refuse(`has dimensions that overflow: ${quoted(shape)}`);
  const make = (read: () => Uint8Array<ArrayBuffer>, location?: string): [string, OnnxInitializer] => [
    name,
    { type: dtype, shape, external: location, tensor: { dtype, shape, byteLength, read } },
  ];
  if (isExternal) {
    const { location, offset, read } = openExternal(external, byteLength, context, refuse);
    return make(() => read(offset), location);
  }
  const data = raw ?? typedBytes(typed, dtype);
  if (data.length !== byteLength)
    refuse(`is ${dtype} ${quoted(shape)} and takes ${byteLength} bytes, ${data.length} are there`);
  return make(() => new Uint8Array(data));
}

/** Numbers of the typed lists as the bytes that raw data would be. Narrow types share the list of 32-bit integers. */
function typedBytes({ floats, doubles, integers }: TypedData, dtype: FileDType): Uint8Array {
  const pieces = dtype === 'F32' || dtype === 'C64' ? floats : dtype === 'F64' ? doubles : undefined;
  const width = FILE_DTYPES[dtype] / 8;
  const bytes = new Uint8Array(pieces ? pieces.reduce((sum, piece) => sum + piece.length, 0) : integers.length * width);
  if (pieces) {
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
  } else {
    integers.forEach((value, i) => {
      for (let byte = 0; byte < width; byte++) bytes[i * width + byte] = Number((value >> BigInt(8 * byte)) & 255n);
    });
  }
  return bytes;
}

function openExternal(
  pairs: [string, string][],
  byteLength: number,
  context: Context,
  refuse: (problem: string) => never,
) {
  const facts = new Map(pairs);
  const location = facts.get('location');
  if (!location) return refuse('is external, but names no file');
  const parts = location.split(/[/\\]/);
  if (/^[/\\]|^[a-zA-Z]:/.test(location) || parts.includes('..') || location.includes('\0')) {
    return refuse(
      `is external in ${quoted(location)}, which is outside of the model's folder; only files in it are read`,
    );
  }
  const integer = (key: string, fallback: number): number => {
    const text = facts.get(key);
    if (text === undefined) return fallback;
    return /^\d{1,15}$/.test(text)
      ? Number(text)
      : refuse(`has the external ${key} ${quoted(text)}, which is not a plausible number of bytes`);
  };
  const offset = integer('offset', 0);
  const length = integer('length', byteLength);
  if (length !== byteLength) return refuse(`takes ${byteLength} bytes, its external data are said to have ${length}`);
  if (!context.open) return refuse(`is in the file ${quoted(location)}, which is not at hand`);
  const { open } = context;
  const source = open(location);
  try {
    if (offset + byteLength > source.size)
      return refuse(
        `reaches to byte ${offset + byteLength} of ${quoted(location)}, which has ${source.size}; the file is cut`,
      );
  } finally {
    source.close();
  }
  const read = (from: number) => {
    const again = open(location);
    try {
      return again.read(from, byteLength);
    } finally {
      again.close();
    }
  };
  return { location, offset, read };
}
