/**
 * Writes ONNX models (protobuf wire format, fields of onnx.proto). Large tensors are kept as chunks and never copied;
 * above `EXTERNAL_LIMIT` they go to a second file, as a protobuf message cannot exceed 2 GiB.
 */

/** ONNX element types (TensorProto.DataType). */
export const ELEMENT_TYPES = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9, float64: 11 } as const;

export type Attribute = number | string | readonly number[] | { readonly float: number };
/** A number is an int attribute, `{ float }` a float one, an array an ints one. */
export type Attributes = Readonly<Record<string, Attribute>>;

export interface OnnxNode {
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
}

export interface OnnxTensor {
  readonly name: string;
  readonly elementType: number;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export interface OnnxValue {
  readonly name: string;
  readonly elementType: number;
  readonly shape: readonly (number | string)[];
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxTensor[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  /** Name of the file for external data, written beside the model. Given, float32 tensors of 1 KiB and more go there: shapes must stay. */
  readonly externalFile?: string;
}

export interface OnnxFiles {
  readonly model: readonly Uint8Array[];
  /** Chunks of the external data file; empty when nothing is external. */
  readonly external: readonly Uint8Array[];
}

const OPSET = 21;
const IR_VERSION = 10;
const EXTERNAL_ALIGNMENT = 4096;

/** Bytes of initializers above which a model must keep them in an external file. */
export const EXTERNAL_LIMIT = 1.9e9;

interface Message {
  readonly chunks: Uint8Array[];
  length: number;
}

const encoder = new TextEncoder();

function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

const message = (): Message => ({ chunks: [], length: 0 });

function push(to: Message, ...chunks: readonly Uint8Array[]): void {
  for (const chunk of chunks) {
    to.chunks.push(chunk);
    to.length += chunk.length;
  }
}

const integer = (to: Message, field: number, value: number | bigint): void =>
  push(to, varint(field * 8), varint(value));
const bytes = (to: Message, field: number, value: Uint8Array): void =>
  push(to, varint(field * 8 + 2), varint(value.length), value);
const text = (to: Message, field: number, value: string): void => bytes(to, field, encoder.encode(value));
function nested(to: Message, field: number, value: Message): void {
  push(to, varint(field * 8 + 2), varint(value.length));
  // One by one: a graph of many nodes has more chunks than a call can have arguments.
  for (const chunk of value.chunks) push(to, chunk);
}
const packed = (to: Message, field: number, values: readonly number[]): void => {
  const inner = message();
  for (const value of values) push(inner, varint(value));
  nested(to, field, inner);
};
function float(to: Message, field: number, value: number): void {
  push(to, varint(field * 8 + 5), new Uint8Array(Float32Array.of(value).buffer));
}
function keyValue(key: string, value: string): Message {
  const entry = message();
  text(entry, 1, key);
  text(entry, 2, value);
  return entry;
}

function attributeProto(name: string, value: Attribute): Message {
  const out = message();
  text(out, 1, name);
  if (typeof value === 'number') {
    integer(out, 3, value);
    integer(out, 20, 2);
  } else if (typeof value === 'string') {
    text(out, 4, value);
    integer(out, 20, 3);
  } else if ('float' in value) {
    float(out, 2, value.float);
    integer(out, 20, 1);
  } else {
    for (const item of value) integer(out, 8, item);
    integer(out, 20, 7);
  }
  return out;
}

function nodeProto(node: OnnxNode): Message {
  const out = message();
  for (const name of node.inputs) text(out, 1, name);
  for (const name of node.outputs) text(out, 2, name);
  text(out, 3, node.name);
  text(out, 4, node.opType);
  for (const [name, value] of Object.entries(node.attributes)) nested(out, 5, attributeProto(name, value));
  if (node.domain !== '') text(out, 7, node.domain);
  return out;
}

function valueProto(value: OnnxValue): Message {
  const shape = message();
  for (const dim of value.shape) {
    const dimension = message();
    if (typeof dim === 'number') integer(dimension, 1, dim);
    else text(dimension, 2, dim);
    nested(shape, 1, dimension);
  }
  const tensor = message();
  integer(tensor, 1, value.elementType);
  nested(tensor, 2, shape);
  const type = message();
  nested(type, 1, tensor);
  const out = message();
  text(out, 1, value.name);
  nested(out, 2, type);
  return out;
}

/** Encodes a graph as an ONNX ModelProto. */
export function encodeModel(graph: OnnxGraph, { metadata = {}, externalFile }: OnnxOptions = {}): OnnxFiles {
  const external: Uint8Array[] = [];
  let externalLength = 0;
  const body = message();
  for (const node of graph.nodes) nested(body, 1, nodeProto(node));
  text(body, 2, 'jepa');
  for (const tensor of graph.constants) {
    const out = message();
    if (tensor.shape.length > 0) packed(out, 1, tensor.shape);
    integer(out, 2, tensor.elementType);
    text(out, 8, tensor.name);
    if (externalFile !== undefined && tensor.elementType === ELEMENT_TYPES.float32 && tensor.data.length >= 1024) {
      const padding = (EXTERNAL_ALIGNMENT - (externalLength % EXTERNAL_ALIGNMENT)) % EXTERNAL_ALIGNMENT;
      if (padding > 0) external.push(new Uint8Array(padding));
      external.push(tensor.data);
      const offset = externalLength + padding;
      externalLength = offset + tensor.data.length;
      nested(out, 13, keyValue('location', externalFile));
      nested(out, 13, keyValue('offset', String(offset)));
      nested(out, 13, keyValue('length', String(tensor.data.length)));
      integer(out, 14, 1);
    } else {
      bytes(out, 9, tensor.data);
    }
    nested(body, 5, out);
  }
  for (const value of graph.inputs) nested(body, 11, valueProto(value));
  for (const value of graph.outputs) nested(body, 12, valueProto(value));

  const model = message();
  integer(model, 1, IR_VERSION);
  text(model, 2, 'jepa');
  nested(model, 7, body);
  const domains = new Set(['', ...graph.nodes.map((node) => node.domain)]);
  for (const domain of domains) {
    const opset = message();
    if (domain !== '') text(opset, 1, domain);
    integer(opset, 2, domain === '' ? OPSET : 1);
    nested(model, 8, opset);
  }
  for (const [key, value] of Object.entries(metadata)) nested(model, 14, keyValue(key, value));
  return { model: model.chunks, external };
}

/** Joins chunks into one array. */
export function joinChunks(chunks: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}
