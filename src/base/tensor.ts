import { JepaError } from './errors.js';

/** Element types of tensors on the host. `bool` is stored as bytes 0 / 1, as ONNX Runtime does. */
export type HostDType = 'float32' | 'float64' | 'int32' | 'int64' | 'uint8' | 'bool';

export interface HostData {
  float32: Float32Array;
  float64: Float64Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

/** A dense row-major array on the host. */
export interface HostTensor<T extends HostDType = HostDType> {
  readonly dtype: T;
  readonly shape: readonly number[];
  readonly data: HostData[T];
  /** Where numbers lie in a file: puts them into memory that is there already, with no other copy in between. */
  fill?(target: HostData[T]): void;
  /** Where numbers lie in a file just as they would in memory. */
  readonly place?: FilePlace;
}

/** Bytes of a file as it was when it was opened. */
export interface FilePlace {
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  /** Where the bytes begin. */
  readonly offset: number;
}

/** Writes the numbers of a tensor into `target`, which has room for exactly them. */
export function copyInto<T extends 'float32'>(tensor: HostTensor<T>, target: HostData[T]): void {
  if (tensor.fill) tensor.fill(target);
  else target.set(tensor.data);
}

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

/** A tensor of a shape; plain numbers are copied, a Float32Array is kept. Throws a `JepaError` where the count differs. */
export function float32(shape: readonly number[], data: Float32Array | readonly number[]): HostTensor<'float32'> {
  return checked('float32', shape, data instanceof Float32Array ? data : Float32Array.from(data));
}

/** The same of whole numbers: labels, indices. */
export function int32(shape: readonly number[], data: Int32Array | readonly number[]): HostTensor<'int32'> {
  return checked('int32', shape, data instanceof Int32Array ? data : Int32Array.from(data));
}

/** The same of masks: 0 and 1. */
export function bool(shape: readonly number[], data: Uint8Array | readonly number[]): HostTensor<'bool'> {
  return checked('bool', shape, data instanceof Uint8Array ? data : Uint8Array.from(data));
}

function checked<T extends HostDType>(dtype: T, shape: readonly number[], data: HostData[T]): HostTensor<T> {
  if (data.length !== sizeOf(shape)) {
    throw new JepaError(`tensor: ${data.length} values do not fill shape [${shape.join(', ')}]`);
  }
  return { dtype, shape, data };
}
