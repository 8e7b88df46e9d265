import { isDeepStrictEqual } from 'node:util';
import type { HostTensor } from '../../../src/base/tensor.js';

/** A case of the golden area `formats`; its README says what the members mean. */
export interface FormatCase {
  readonly name: string;
  readonly kind: 'good' | 'bad';
  readonly format: string;
  readonly files: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: facts of many shapes, read by the check of their format
  readonly expect: any;
  // biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
  readonly config: any;
  readonly arrays: Readonly<Record<string, { exact?: boolean; rtol?: number; atol?: number }>>;
  readonly limits: { readonly seconds: number; readonly extra_memory_mb: number };
}

export type Failures = (string | undefined)[];

export interface Got {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** What a check works with. */
export interface Tools {
  /** Path of a file of the case. */
  path(file: string): string;
  /** Contents of a file of the case. */
  bytes(file: string): Uint8Array;
  /** An input of the case. */
  input(name: string): HostTensor;
  /** An expected array of the case. */
  expected(name: string): HostTensor;
  /** Compares an array with the expected one, within the tolerance of the case; texts of all that differ. */
  array(name: string, got: Got): string | undefined;
}

/** How one format is checked. */
export interface FormatCheck {
  good(each: FormatCase, tools: Tools): Failures | Promise<Failures>;
  /** Reads all that is in broken files, as one who uses them would. */
  bad(each: FormatCase, tools: Tools): unknown;
  /** What the error must say, by the end of the case's name. */
  readonly reasons: Readonly<Record<string, RegExp>>;
}

/** A text when two values differ. */
export function same(what: string, got: unknown, expected: unknown): string | undefined {
  if (isDeepStrictEqual(got, expected)) return undefined;
  const text = (value: unknown) =>
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : each))?.slice(0, 200);
  return `${what}: ${text(got)} instead of ${text(expected)}`;
}

/** Starts watching memory; the result says by how many bytes the peak of the process has risen above where it stood. */
export function memoryGrowth(): () => number {
  const before = process.memoryUsage().rss;
  const peak = process.resourceUsage().maxRSS;
  return () => {
    const after = process.resourceUsage().maxRSS;
    return after > peak ? after * 1024 - before : 0;
  };
}
