import { JepaError } from '../base/errors.js';

/**
 * Protocol buffers on the wire: just enough to read ONNX models and to read and write TensorBoard events. (The ONNX writer
 * in src/graph keeps large tensors in chunks and has its own.)
 */

/** One field of a message. Integers are in `integer`, 4- and 8-byte values and everything with a length in `bytes`. */
export interface WireField {
  readonly number: number;
  readonly type: 0 | 1 | 2 | 5;
  /** Value of a varint, as signed 64 bits. */
  readonly integer: bigint;
  readonly bytes: Uint8Array;
}

/** The fields of a message in order. Throws JepaError, with `name` and the byte, where it is malformed or ends early. */
export function* wireFields(message: Uint8Array, name: string): Generator<WireField> {
  const reader = { at: 0 };
  const refuse = (what: string): never => {
    throw new JepaError(`${name}: not a valid protobuf message: ${what} (byte ${reader.at})`);
  };
  while (reader.at < message.length) {
    const key = readVarint(message, reader, refuse);
    const type = Number(key & 7n);
    const number = Number(BigInt.asUintN(64, key) >> 3n);
    if (number < 1 || number > 0x1fffffff) refuse(`field number ${number}`);
    let integer = 0n;
    let length = 0;
    if (type === 0) integer = readVarint(message, reader, refuse);
    else if (type === 1) length = 8;
    else if (type === 5) length = 4;
    else if (type === 2) {
      const announced = BigInt.asUintN(64, readVarint(message, reader, refuse));
      if (announced > BigInt(message.length - reader.at))
        refuse(`it ends early: ${announced} bytes announced, ${message.length - reader.at} left`);
      length = Number(announced);
    } else refuse(`wire type ${type}`);
    if (length > message.length - reader.at) refuse('it ends early');
    const bytes = message.subarray(reader.at, reader.at + length);
    reader.at += length;
    yield { number, type: type as WireField['type'], integer, bytes };
  }
}

/** Reads a packed list of varints. */
export function packedIntegers(bytes: Uint8Array, name: string): bigint[] {
  const reader = { at: 0 };
  const values: bigint[] = [];
  const refuse = (what: string): never => {
    throw new JepaError(`${name}: not a valid protobuf message: ${what}`);
  };
  while (reader.at < bytes.length) values.push(readVarint(bytes, reader, refuse));
  return values;
}

function readVarint(bytes: Uint8Array, reader: { at: number }, refuse: (what: string) => never): bigint {
  let low = 0;
  // Up to 28 bits in plain arithmetic, which is what nearly all are.
  for (let shift = 0; shift < 28; shift += 7) {
    if (reader.at >= bytes.length) return refuse('it ends early');
    const byte = bytes[reader.at++];
    low |= (byte & 127) << shift;
    if (byte < 128) return BigInt(low);
  }
  let value = BigInt(low);
  for (let shift = 28n; shift < 70n; shift += 7n) {
    if (reader.at >= bytes.length) return refuse('it ends early');
    const byte = bytes[reader.at++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return BigInt.asIntN(64, value);
  }
  return refuse('an integer longer than 10 bytes');
}

export function doubleOf({ bytes }: WireField): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
}

export function floatOf({ bytes }: WireField): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
}

function varint(value: number | bigint): number[] {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return [...bytes, Number(rest)];
}

/** Fields of a message to be written, joined with `wireMessage`. */
export const wire = {
  integer: (number: number, value: number | bigint) => Uint8Array.from([...varint(number * 8), ...varint(value)]),
  double: (number: number, value: number) => prefixed(number * 8 + 1, new Uint8Array(Float64Array.of(value).buffer)),
  float: (number: number, value: number) => prefixed(number * 8 + 5, new Uint8Array(Float32Array.of(value).buffer)),
  bytes: (number: number, value: Uint8Array) =>
    wireMessage(Uint8Array.from([...varint(number * 8 + 2), ...varint(value.length)]), value),
  text: (number: number, value: string) => wire.bytes(number, new TextEncoder().encode(value)),
  doubles: (number: number, values: readonly number[]) =>
    wire.bytes(number, new Uint8Array(Float64Array.from(values).buffer)),
  message: (number: number, ...fields: readonly Uint8Array[]) => wire.bytes(number, wireMessage(...fields)),
};

function prefixed(key: number, value: Uint8Array): Uint8Array {
  return wireMessage(Uint8Array.from(varint(key)), value);
}

export function wireMessage(...fields: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(fields.reduce((sum, field) => sum + field.length, 0));
  let at = 0;
  for (const field of fields) {
    whole.set(field, at);
    at += field.length;
  }
  return whole;
}
