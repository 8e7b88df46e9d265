import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { type FilePlace, type HostData, type HostDType, type HostTensor, sizeOf } from '../base/tensor.js';

/**
 * Bits of one element of every type that tensor files hold, under the names of safetensors. The order is that in which
 * the reference writer of safetensors lays tensors out (last first), which keeps each of them aligned.
 */
export const FILE_DTYPES = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type FileDType = keyof typeof FILE_DTYPES;

/** A tensor in a file: row-major, little-endian. Its bytes are read only when asked for. */
export interface StoredTensor {
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  /** Number of bytes that `read` gives. */
  readonly byteLength: number;
  /** A fresh copy of the bytes, at the start of its own buffer. */
  read(): Uint8Array<ArrayBuffer>;
  /** The same into memory that is there, `byteLength` bytes, where that saves a copy. */
  readInto?(target: Uint8Array): void;
  /** Where the bytes are in a file. */
  readonly place?: FilePlace;
}

export function isFileDType(name: unknown): name is FileDType {
  return typeof name === 'string' && Object.hasOwn(FILE_DTYPES, name);
}

/** Bytes of a tensor, or undefined where the product of its sizes is no exact integer or no whole number of bytes. */
export function byteLengthOf(dtype: FileDType, shape: readonly number[]): number | undefined {
  let bits: number = FILE_DTYPES[dtype];
  for (const size of shape) {
    bits *= size;
    if (!Number.isSafeInteger(bits)) return undefined;
  }
  return bits % 8 === 0 ? bits / 8 : undefined;
}

const HOST_TO_FILE: Record<HostDType, FileDType> = {
  float32: 'F32',
  float64: 'F64',
  int32: 'I32',
  int64: 'I64',
  uint8: 'U8',
  bool: 'BOOL',
};

/**
 * A tensor of the host as one that can be written to a file. Shares its memory until `read`; numbers that lie in a file are
 * read no sooner than that, and not kept.
 */
export function storeTensor(tensor: HostTensor): StoredTensor {
  const dtype = HOST_TO_FILE[tensor.dtype];
  const { shape, fill } = tensor;
  if (fill && tensor.dtype === 'float32') {
    return {
      dtype,
      shape,
      byteLength: 4 * sizeOf(shape),
      read() {
        const data = new Float32Array(sizeOf(shape));
        fill(data);
        return new Uint8Array(data.buffer);
      },
    };
  }
  const { buffer, byteOffset, byteLength } = tensor.data;
  return { dtype, shape, byteLength, read: () => new Uint8Array(new Uint8Array(buffer, byteOffset, byteLength)) };
}

/**
 * Reads a stored tensor into memory. Types that the host lacks are widened without loss: F16, BF16, F8_E5M2 and F8_E4M3
 * become float32, I8, I16 and U16 int32, U32 and (where they fit) U64 int64. Throws JepaError for the others.
 */
export function loadTensor(stored: StoredTensor, name: string): HostTensor {
  const { dtype, shape } = stored;
  const make = <T extends HostDType>(type: T, data: HostData[T]): HostTensor => ({ dtype: type, shape, data });
  const bytes = stored.read();
  const { buffer } = bytes;
  switch (dtype) {
    case 'F32':
      return make('float32', new Float32Array(buffer));
    case 'F64':
      return make('float64', new Float64Array(buffer));
    case 'I32':
      return make('int32', new Int32Array(buffer));
    case 'I64':
      return make('int64', new BigInt64Array(buffer));
    case 'U8':
      return make('uint8', bytes);
    case 'BOOL':
      return make('bool', checkedBools(bytes, name));
    case 'I8':
      return make('int32', Int32Array.from(new Int8Array(buffer)));
    case 'I16':
      return make('int32', Int32Array.from(new Int16Array(buffer)));
    case 'U16':
      return make('int32', Int32Array.from(new Uint16Array(buffer)));
    case 'U32':
      return make('int64', BigInt64Array.from(new Uint32Array(buffer), BigInt));
    case 'U64': {
      const signed = new BigInt64Array(buffer);
      if (signed.some((value) => value < 0n)) {
        throw new JepaError(`tensor ${quoted(name)}: U64 values above 2^63 - 1 do not fit any type of the host`);
      }
      return make('int64', signed);
    }
    case 'F16':
      return make('float32', widen(new Uint16Array(buffer), halfBits));
    case 'BF16':
      return make(
        'float32',
        widen(new Uint16Array(buffer), (bits) => bits << 16),
      );
    case 'F8_E5M2':
      return make(
        'float32',
        widen(bytes, (bits) => halfBits(bits << 8)),
      );
    case 'F8_E4M3':
      return make('float32', widen(bytes, e4m3Bits));
    default:
      throw new JepaError(
        `tensor ${quoted(name)}: type ${dtype} can be copied and inspected, but not computed with; convert it to F32`,
      );
  }
}

/** Reads a stored tensor as float32: floating-point types of any width, F64 rounded. Throws JepaError for integers. */
export function loadFloat32(stored: StoredTensor, name: string): HostTensor<'float32'> {
  const tensor = loadTensor(stored, name);
  if (tensor.dtype === 'float32') return tensor as HostTensor<'float32'>;
  if (tensor.dtype !== 'float64') {
    throw new JepaError(`tensor ${quoted(name)}: type ${stored.dtype} where floating-point numbers were expected`);
  }
  return { dtype: 'float32', shape: tensor.shape, data: Float32Array.from(tensor.data as Float64Array) };
}

/** Stored tensors by name, each as `lateFloat32` has it. */
export const lateWeights = (stored: Iterable<readonly [string, StoredTensor]>): Map<string, HostTensor<'float32'>> =>
  new Map(Array.from(stored, ([name, tensor]) => [name, lateFloat32([{ name, stored: tensor }], tensor.shape)]));

/**
 * Stored tensors whose rows follow each other as one tensor of `shape`, each read as `loadFloat32` does, but only when its
 * numbers are asked for: they are then kept for as long as somebody holds them, or written to where they are wanted (`fill`).
 * The file must stay where it is. Throws JepaError for integers.
 */
export function lateFloat32(
  parts: readonly { readonly name: string; readonly stored: StoredTensor }[],
  shape: readonly number[],
): HostTensor<'float32'> {
  for (const { name, stored } of parts) {
    if (!FLOATS.has(stored.dtype))
      throw new JepaError(
        `tensor ${quoted(name)}: type ${stored.dtype} where floating-point numbers were expected; convert it to F32`,
      );
  }
  const fill = (target: Float32Array): void => {
    let at = 0;
    for (const { name, stored } of parts) {
      const own = target.subarray(at, at + sizeOf(stored.shape));
      if (stored.dtype === 'F32' && stored.readInto)
        stored.readInto(new Uint8Array(own.buffer, own.byteOffset, own.byteLength));
      else own.set(loadFloat32(stored, name).data);
      at += own.length;
    }
  };
  let kept: WeakRef<Float32Array> | undefined;
  const data = (): Float32Array => {
    const known = kept?.deref();
    if (known) return known;
    const [only] = parts;
    const read = parts.length === 1 ? loadFloat32(only.stored, only.name).data : new Float32Array(sizeOf(shape));
    if (parts.length > 1) fill(read);
    kept = new WeakRef(read);
    return read;
  };
  // Listed as data are, so that a copy of the object has them; `fill` is a way to read, not a part of the value.
  return Object.defineProperties({ dtype: 'float32', shape } as HostTensor<'float32'>, {
    data: { get: data, enumerable: true },
    fill: { value: fill },
    place: { value: parts.length === 1 && parts[0].stored.dtype === 'F32' ? parts[0].stored.place : undefined },
  });
}

/** What `loadFloat32` reads. */
const FLOATS: ReadonlySet<FileDType> = new Set(['F32', 'F64', 'F16', 'BF16', 'F8_E5M2', 'F8_E4M3']);

/** Narrows float32 to F16 or BF16 for storage, rounding to the nearest, ties to even. */
export function narrowFloat32(tensor: HostTensor<'float32'>, dtype: 'F16' | 'BF16'): StoredTensor {
  const narrow = dtype === 'F16' ? narrowToHalf : narrowToBfloat;
  return {
    dtype,
    shape: tensor.shape,
    byteLength: 2 * sizeOf(tensor.shape),
    read() {
      const bits = new Uint32Array(Float32Array.from(tensor.data).buffer);
      return new Uint8Array(Uint16Array.from(bits, narrow).buffer);
    },
  };
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis];
  }
  return true;
}

/**
 * Puts a strided view into row-major order. Element 0 of the view is at the start of `bytes`; strides count elements and
 * are not negative. Bytes that are in order already are returned as they are.
 */
export function gatherStrided(
  bytes: Uint8Array<ArrayBuffer>,
  item: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array<ArrayBuffer> {
  if (isRowMajor(shape, strides)) return bytes;
  // Items of 8 bytes as pairs of 4, because doubles would lose the payload of NaNs.
  if (item === 8) return gatherStrided(bytes, 4, [...shape, 2], [...strides.map((stride) => stride * 2), 1]);
  const Unit = item === 4 ? Uint32Array : item === 2 ? Uint16Array : Uint8Array;
  const from = new Unit(bytes.buffer);
  const to = new Unit(shape.reduce((product, size) => product * size, 1));
  const inner = shape.length - 1;
  const index = new Array<number>(shape.length).fill(0);
  let start = 0;
  for (let i = 0; i < to.length; ) {
    for (let k = 0; k < shape[inner]; k++) to[i++] = from[start + k * strides[inner]];
    for (let axis = inner - 1; axis >= 0; axis--) {
      start += strides[axis];
      if (++index[axis] < shape[axis]) break;
      start -= shape[axis] * strides[axis];
      index[axis] = 0;
    }
  }
  return new Uint8Array(to.buffer);
}

function checkedBools(bytes: Uint8Array, name: string): Uint8Array {
  if (bytes.some((byte) => byte > 1))
    throw new JepaError(`tensor ${quoted(name)}: a BOOL value is neither 0 nor 1; the file is damaged`);
  return bytes;
}

/** Widens through bit patterns, which keeps NaN payloads and signed zeros. */
function widen(values: Uint8Array | Uint16Array, bitsOf: (value: number) => number): Float32Array {
  const bits = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) bits[i] = bitsOf(values[i]);
  return new Float32Array(bits.buffer);
}

/** Bits of the float32 equal to a half-precision number given by its bits (1 sign, 5 exponent, 10 fraction). */
function halfBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  return sign | subnormalBits(fraction, 10, -14);
}

/** F8_E4M3 (1 sign, 4 exponent, 3 fraction, bias 7): no infinity; all ones is NaN. */
function e4m3Bits(byte: number): number {
  const sign = (byte & 0x80) << 24;
  const exponent = (byte >> 3) & 15;
  const fraction = byte & 7;
  if ((byte & 0x7f) === 0x7f) return sign | 0x7fc00000;
  if (exponent > 0) return sign | ((exponent + 120) << 23) | (fraction << 20);
  return sign | subnormalBits(fraction, 3, -6);
}

/** Bits of the float32 fraction / 2^width * 2^exponent, a number that is subnormal in its narrow type. */
function subnormalBits(fraction: number, width: number, exponent: number): number {
  if (fraction === 0) return 0;
  const shift = Math.clz32(fraction) - (31 - width);
  return ((exponent - shift + 127) << 23) | (((fraction << shift) & ((1 << width) - 1)) << (23 - width));
}

function narrowToBfloat(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function narrowToHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to infinity
  if (magnitude < 0x33000000) return sign; // below 2^-25, half of the smallest subnormal
  const exponent = magnitude >> 23;
  // Normal halves drop 13 bits; subnormal ones drop more, with the leading one made explicit.
  const [value, drop] =
    exponent >= 113 ? [magnitude - (112 << 23), 13] : [(magnitude & 0x7fffff) | 0x800000, 126 - exponent];
  const half = value >>> drop;
  const rest = value - half * 2 ** drop;
  const tie = 2 ** (drop - 1);
  return sign | (rest > tie || (rest === tie && (half & 1) === 1) ? half + 1 : half);
}
