import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzz } from '../../bench/fuzz/fuzz.js';
import { mutate } from '../../bench/fuzz/mutate.js';
import type { Reader } from '../../bench/fuzz/reader.js';
import { READERS } from '../../bench/fuzz/readers.js';
import { createRandom } from '../../src/base/random.js';
import { ALL as BAD } from './bad-readers.js';

const module = new URL('./bad-readers.js', import.meta.url).href;
const run = (name: string, files: number) =>
  fuzz({
    reader: BAD.find((reader) => reader.name === name) as Reader,
    module,
    files,
    seed: 1,
    most: 2,
    seconds: name === 'hangs' ? 2 : 60,
  });
const kinds = async (name: string, files = 12) => [
  ...new Set((await run(name, files)).findings.map(({ kind }) => kind)),
];

test('damage follows from the seed, and differs from file to file', () => {
  const seeds = { files: [new Uint8Array(100).map((_, i) => i)], words: ['word'] };
  const files = Array.from({ length: 200 }, (_, i) => mutate(seeds, createRandom(3, i)));
  const again = Array.from({ length: 200 }, (_, i) => mutate(seeds, createRandom(3, i)));
  assert.deepEqual(files, again);
  const distinct = new Set(files.map((file) => Buffer.from(file).toString('hex')));
  assert.ok(distinct.size > 150, `${distinct.size} different files of 200`);
  // The seed itself is left alone.
  assert.deepEqual(
    seeds.files[0],
    new Uint8Array(100).map((_, i) => i),
  );
});

test('the fuzzer sees every kind of fault', async () => {
  const { values, errors, findings } = await run('none', 40);
  assert.deepEqual(findings, []);
  assert.equal(values + errors, 40);
  assert.ok(values > 0 && errors > 0);
  assert.deepEqual(await kinds('exception'), ['exception']);
  assert.deepEqual(await kinds('several lines'), ['exception']);
  assert.deepEqual(await kinds('allocates'), ['memory']);
  assert.deepEqual(await kinds('announces'), []);
  assert.deepEqual(await kinds('evaluates'), ['execution']);
  assert.deepEqual(await kinds('pollutes'), ['execution']);
  assert.deepEqual(await kinds('hangs', 1), ['hang']);
  assert.deepEqual(await kinds('grows', 1), ['crash']);
});

test('every reader of our own survives damaged files', async () => {
  for (const reader of READERS) {
    const { files, values, errors, findings } = await fuzz({ reader, files: 100, seed: 20, seconds: 60 });
    assert.deepEqual(findings, [], reader.name);
    assert.equal(values + errors, files);
    assert.ok(errors > 0, `${reader.name}: nothing was refused`);
  }
});
