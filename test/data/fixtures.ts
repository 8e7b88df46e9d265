import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the package, from dist/test/data. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** A part of the golden area `formats`: images, folders of images, IDX, CIFAR and WebDataset files with their content. */
export const fixtures = join(root, 'test', 'data-fixtures');

export interface FormatCase {
  readonly name: string;
  readonly kind: 'good' | 'bad';
  readonly format: string;
  readonly files: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: facts of many shapes
  readonly expect: any;
  readonly arrays: Readonly<Record<string, { exact?: boolean; atol?: number; rtol?: number }>>;
}

export function casesOf(format: string, kind: 'good' | 'bad'): FormatCase[] {
  const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: FormatCase[] };
  return cases.filter((one) => one.format === format && one.kind === kind);
}

export interface Values {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

const READ: Record<string, [number, (view: DataView, at: number) => number]> = {
  U8: [1, (view, at) => view.getUint8(at)],
  I8: [1, (view, at) => view.getInt8(at)],
  I16: [2, (view, at) => view.getInt16(at, true)],
  I32: [4, (view, at) => view.getInt32(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F64: [8, (view, at) => view.getFloat64(at, true)],
};

/** All arrays of a safetensors file as plain numbers. */
export function readValues(path: string): Map<string, Values> {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const arrays = new Map<string, Values>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [size, read] = READ[dtype];
    const count = (data_offsets[1] - data_offsets[0]) / size;
    arrays.set(name, { shape, data: Array.from({ length: count }, (_, i) => read(view, data_offsets[0] + i * size)) });
  }
  return arrays;
}

export const expected = readValues(join(fixtures, 'expected.safetensors'));

/** Largest absolute difference; Infinity if the lengths differ. */
export function largestDifference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (got.length !== wanted.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < got.length; i++) largest = Math.max(largest, Math.abs(got[i] - wanted[i]));
  return largest;
}
