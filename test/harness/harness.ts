import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HostTensor } from '../../src/base/tensor.js';
import { parseSafetensors } from '../../src/hub/safetensors.js';

/** What became of one golden case; `error` says in one line why it failed. */
export interface GoldenResult {
  readonly name: string;
  readonly error?: string;
  /** A known case of a system that is not built yet: neither passed nor failed, and listed. */
  readonly notCovered?: boolean;
}

/**
 * Checks one golden area. `folder` is the area's folder. Yields one result for every case in `cases.json`; takes every
 * shape and number from the case, and yields a failure for an op, kind or group it does not know.
 */
export type Harness = (folder: string) => AsyncIterable<GoldenResult>;

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

export function readCases<T>(folder: string, file = 'cases.json'): T {
  return JSON.parse(readFileSync(join(folder, file), 'utf8')) as T;
}

const cache = new Map<string, Map<string, HostTensor>>();

export function readTensors(folder: string, file: string): Map<string, HostTensor> {
  const path = join(folder, file);
  let tensors = cache.get(path);
  if (!tensors) {
    tensors = parseSafetensors(readFileSync(path));
    cache.set(path, tensors);
  }
  return tensors;
}

/** The first difference beyond |got - expected| <= atol + rtol |expected|, in words, or undefined. Shapes must be equal. */
export function difference(
  what: string,
  got: { shape: readonly number[]; data: ArrayLike<number | bigint> },
  expected: { shape: readonly number[]; data: ArrayLike<number | bigint> },
  { rtol, atol }: Tolerance,
): string | undefined {
  if (got.shape.join() !== expected.shape.join()) {
    return `${what}: shape [${got.shape}] instead of [${expected.shape}]`;
  }
  let worst = 0;
  let at = -1;
  for (let i = 0; i < expected.data.length; i++) {
    const e = Number(expected.data[i]);
    const g = Number(got.data[i]);
    if (Object.is(g, e) || g === e) continue;
    if (Number.isNaN(g) && Number.isNaN(e)) continue;
    const excess = Math.abs(g - e) / (atol + rtol * Math.abs(e));
    if (!(excess <= 1) && !(excess <= worst)) {
      worst = excess;
      at = i;
    }
  }
  return at < 0
    ? undefined
    : `${what}[${at}]: ${got.data[at]} instead of ${expected.data[at]} (${worst.toPrecision(3)} x the tolerance)`;
}

/** Runs a case and turns what it throws into a failure. `check` returns failure texts (empty or undefined ones are ignored). */
export async function attempt(
  name: string,
  check: () => Promise<(string | undefined)[]> | (string | undefined)[],
): Promise<GoldenResult> {
  try {
    const failures = (await check()).filter((failure): failure is string => Boolean(failure));
    return failures.length ? { name, error: failures.join('; ') } : { name };
  } catch (error) {
    return { name, error: error instanceof Error ? `${error.name}: ${error.message.split('\n')[0]}` : String(error) };
  }
}
