import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSafetensors } from '../../src/hub/safetensors.js';

/** Root of the package, from dist/test/data. */
export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** The golden area `formats`: images, folders of images, IDX, CIFAR and WebDataset files with their content. */
export const fixtures = join(root, 'test', 'golden', 'formats');

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

/** All arrays of a safetensors file as plain numbers. */
export function readValues(path: string): Map<string, Values> {
  const tensors = parseSafetensors(readFileSync(path));
  return new Map([...tensors].map(([name, { shape, data }]) => [name, { shape, data: Array.from(data, Number) }]));
}

export const expected = readValues(join(fixtures, 'expected.safetensors'));

/** Largest absolute difference; Infinity if the lengths differ. */
export function largestDifference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (got.length !== wanted.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < got.length; i++) largest = Math.max(largest, Math.abs(got[i] - wanted[i]));
  return largest;
}
