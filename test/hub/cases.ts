import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { JepaError } from '../../src/base/errors.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { parseSafetensors } from '../../src/hub/safetensors.js';
import { type FormatCase, memoryGrowth } from '../harness/formats/case.js';

export type { FormatCase } from '../harness/formats/case.js';

export const packageFolder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
export const fixtures = join(packageFolder, 'test', 'golden', 'formats');
export const golden = join(packageFolder, 'test', 'golden');

const cases = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')).cases as FormatCase[];

export function formatCases(format: string, kind: 'good' | 'bad'): FormatCase[] {
  const found = cases.filter((each) => each.format === format && each.kind === kind);
  assert.ok(found.length > 0, `no ${kind} cases of ${format}`);
  return found;
}

export function formatCase(name: string): FormatCase {
  const found = cases.find((each) => each.name === name);
  assert.ok(found, name);
  return found;
}

let expected: Map<string, HostTensor> | undefined;

/** An expected array of the format cases. */
export function expectedArray(key: string): HostTensor {
  expected ??= parseSafetensors(readFileSync(join(fixtures, 'expected.safetensors')));
  const tensor = expected.get(key);
  assert.ok(tensor, `expected array ${key}`);
  return tensor;
}

/** Asserts that `read` throws a JepaError of one line that matches `pattern`, within the seconds and memory allowed. */
export function assertRefused(
  name: string,
  read: () => unknown,
  pattern: RegExp,
  limits = { seconds: 5, extra_memory_mb: 64 },
): void {
  const start = process.cpuUsage();
  const memory = memoryGrowth();
  assert.throws(read, (error: unknown) => {
    assert.ok(error instanceof JepaError, `${name}: ${error instanceof Error ? error.stack : error}`);
    assert.doesNotMatch(error.message, /\n/, `${name}: one line`);
    assert.match(error.message, pattern, name);
    return true;
  });
  const { user, system } = process.cpuUsage(start);
  assert.ok(user + system < limits.seconds * 1e6, `${name}: took ${(user + system) / 1e3} ms`);
  const bytes = memory();
  assert.ok(bytes < limits.extra_memory_mb * 2 ** 20, `${name}: took ${bytes} bytes`);
}

/**
 * Damages good files at random (bytes overwritten, inserted or removed, tails cut) and reads them: whatever comes out must
 * be a result or a JepaError of one line, and no announced size may be allocated that the file does not hold.
 */
export function fuzzParser(seeds: readonly Uint8Array[], read: (bytes: Uint8Array) => unknown, numRuns = 300): void {
  const damage = fc.record({
    seed: fc.nat(seeds.length - 1),
    flips: fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(255)), { maxLength: 4 }),
    cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 3 }),
    // Most of what matters is in the first bytes: half of the damage goes there.
    near: fc.boolean(),
  });
  const memory = memoryGrowth();
  fc.assert(
    fc.property(damage, ({ seed, flips, cut, near }) => {
      let bytes = Uint8Array.from(seeds[seed]);
      const reach = near ? Math.min(bytes.length, 256) : bytes.length;
      for (const [where, value] of flips) bytes[Math.floor(where * (reach - 1))] = value;
      if (cut !== null) bytes = bytes.slice(0, Math.floor(cut * bytes.length));
      try {
        read(bytes);
      } catch (error) {
        if (!(error instanceof JepaError)) throw error;
        assert.doesNotMatch(error.message, /\n/);
      }
    }),
    { numRuns },
  );
  // Garbage of thousands of runs included; the seeds are a few kilobytes.
  assert.ok(memory() < 256 * 2 ** 20, `took ${memory()} bytes`);
}
