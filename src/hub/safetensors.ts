import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';

const ARRAYS = {
  F32: ['float32', Float32Array],
  F64: ['float64', Float64Array],
  I32: ['int32', Int32Array],
  I64: ['int64', BigInt64Array],
  U8: ['uint8', Uint8Array],
  BOOL: ['bool', Uint8Array],
} as const;

/** Parse a safetensors file held in memory. Data is copied, so it may start anywhere. */
export function parseSafetensors(bytes: Uint8Array): Map<string, HostTensor> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as Record<
    string,
    { dtype: keyof typeof ARRAYS; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, HostTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const kind = ARRAYS[entry.dtype];
    if (!kind) throw new JepaError(`safetensors: tensor ${name} has unsupported type ${entry.dtype}`);
    const [begin, end] = entry.data_offsets;
    const copy = bytes.slice(8 + headerLength + begin, 8 + headerLength + end);
    tensors.set(name, { dtype: kind[0], shape: entry.shape, data: new kind[1](copy.buffer) } as HostTensor);
  }
  return tensors;
}
