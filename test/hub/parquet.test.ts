import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeFileAtomic } from '../../src/base/atomic.js';
import { JepaError } from '../../src/base/errors.js';
import { float32 } from '../../src/base/tensor.js';
import { describeParquet, embeddingsParquet, readEmbeddings, readParquet } from '../../src/hub/parquet.js';
import { concatBytes } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { fixtures, formatCases } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-parquet-'));
after(() => rmSync(folder, { recursive: true }));

const fixture = (path: string) => bytesSource(readFileSync(join(fixtures, path)), path);

for (const { name, files, expect } of formatCases('parquet', 'good')) {
  test(`read: ${name}`, async () => {
    const rows = await readParquet(fixture(files[0]));
    const plain = rows.map((row) =>
      Object.fromEntries(
        Object.entries(row).map(([key, value]) => [key, typeof value === 'bigint' ? Number(value) : value]),
      ),
    );
    assert.deepEqual(plain, expect.rows);
  });
  test(`described: ${name}`, async () => {
    const { rows, rowGroups, columns } = await describeParquet(fixture(files[0]));
    assert.deepEqual([rows, rowGroups], [expect.rows.length, expect.row_groups]);
    assert.deepEqual(
      columns.map((column) => column.name),
      Object.keys(expect.rows[0]),
    );
  });
}

const REASONS: Record<string, RegExp> = {
  truncated: /footer != PAR1/,
  footer_length: /metadata length 2147483647 exceeds/,
  magic: /PAR1/,
};

for (const { name, files } of formatCases('parquet', 'bad')) {
  test(`refused: ${name}`, async () => {
    const reason = REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    await assert.rejects(
      async () => readParquet(fixture(files[0])),
      (error: Error) => error instanceof JepaError && reason.test(error.message),
    );
  });
}

test('embeddings with paths and labels are written in groups and read back', async () => {
  const [rows, width] = [5000, 3];
  const embeddings = float32(
    [rows, width],
    Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i)),
  );
  const paths = Array.from({ length: rows }, (_, i) => `bilder/größe ${i}.png`);
  const labels = Int32Array.from({ length: rows }, (_, i) => (i % 7) - 1);
  const classNames = ['a', 'b', 'c', 'd', 'e', 'f'];
  const path = join(folder, 'embeddings.parquet');
  writeFileAtomic(
    path,
    embeddingsParquet({ embeddings, paths, labels, classNames }, { model: 'checkpoint', note: 'größe' }),
  );
  const source = bytesSource(readFileSync(path));
  assert.deepEqual(await readEmbeddings(source), { embeddings, paths, labels, classNames });
  const description = await describeParquet(source);
  assert.deepEqual([description.rows, description.rowGroups], [rows, 2]);
  assert.deepEqual(description.columns, [
    { name: 'path', type: 'UTF8' },
    { name: 'label', type: 'INT32' },
    { name: 'class', type: 'UTF8' },
    { name: 'embedding', type: 'LIST' },
  ]);
  assert.deepEqual(description.metadata, { model: 'checkpoint', note: 'größe' });
  const [first, second] = await readParquet(source, { columns: ['label', 'class'], rowStart: 0, rowEnd: 2 });
  assert.deepEqual(
    [first, second],
    [
      { label: null, class: null },
      { label: 0, class: 'a' },
    ],
  );
});

test('tables without labels, and empty ones, are written and read back', async () => {
  for (const rows of [2, 0]) {
    const table = {
      embeddings: float32([rows, 2], new Float32Array(2 * rows).fill(1.5)),
      paths: Array.from({ length: rows }, () => 'x'),
    };
    const read = await readEmbeddings(bytesSource(concatBytes([...embeddingsParquet(table)])));
    assert.deepEqual(read, rows ? table : { ...table, embeddings: float32([0, 0], []) });
  }
  assert.throws(
    () => [...embeddingsParquet({ embeddings: float32([1, 2], [1, 2]), paths: [] })],
    /embeddings \[1,2\] do not go with 0 paths/,
  );
});

test('files without embeddings say so', async () => {
  await assert.rejects(readEmbeddings(fixture('table/episode_none.parquet')), /row 0 has no column "embedding"/);
});

test('damaged files give a result or one clear line', async () => {
  // The library reads asynchronously, so the damage is made here: bits all over the file, and cuts, one at a time.
  const good = readFileSync(join(fixtures, 'table/episode_snappy.parquet'));
  const read = async (bytes: Uint8Array) => {
    try {
      await readParquet(bytesSource(bytes));
    } catch (error) {
      assert.ok(error instanceof JepaError, String(error));
      assert.doesNotMatch(error.message, /\n/);
    }
  };
  for (let at = 0; at < good.length; at += 3) {
    const bytes = Uint8Array.from(good);
    bytes[at] ^= 1 << (at % 8);
    await read(bytes);
    if (at % 30 === 0) await read(good.subarray(0, at));
  }
});
