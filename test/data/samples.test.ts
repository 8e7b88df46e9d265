import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import sharp from 'sharp';
import { modalityAt, openSampleSplits } from '../../src/data/samples-node.js';
import { openVideoFiles } from '../../src/data/video/open-node.js';

const scratch = mkdtempSync(join(tmpdir(), 'jepa-samples-'));
after(() => rmSync(scratch, { recursive: true }));

const gif = await sharp(new Uint8Array(192), { raw: { width: 8, height: 8, channels: 3 } })
  .gif()
  .toBuffer();

/** A folder of videos, so many of each class. */
function videos(name: string, classes: Readonly<Record<string, number>>): string {
  for (const [label, count] of Object.entries(classes)) {
    mkdirSync(join(scratch, name, label), { recursive: true });
    for (let i = 0; i < count; i++) writeFileSync(join(scratch, name, label, `${i}.gif`), gif);
  }
  return join(scratch, name);
}

test('held-out data that are named apart have the classes of the training data', async () => {
  const train = videos('train-set', { ant: 2, bee: 2, cat: 2 });
  const test = videos('test-set', { cat: 1, bee: 1, dog: 1 });
  const parts = await openSampleSplits({ kind: 'video', source: train, test });
  const nameOf = (part: typeof parts.test, i: number) => part.classNames![part.labels![i] as number];
  assert.deepEqual(parts.train.classNames, ['ant', 'bee', 'cat', 'dog']);
  assert.deepEqual(parts.test.classNames, parts.train.classNames);
  for (const part of [parts.train, parts.test])
    for (let i = 0; i < part.length; i++) assert.match(part.nameOf!(i), new RegExp(`/${nameOf(part, i)}/\\d\\.gif$`));
});

test('held-out videos of a mixture come once each, and never in training', async () => {
  const source = videos('few', { x: 3, y: 3 });
  const twice = await openSampleSplits({ kind: 'video', source, mix: [{ source, weight: 1 }] });
  assert.deepEqual([twice.train.length, twice.test.length], [8, 2]);
  const many = videos('many', { x: 30, y: 30 });
  const { train, test } = await openSampleSplits({ kind: 'video', source, mix: [{ source: many, weight: 1 }] });
  const names = (part: typeof test) => Array.from({ length: part.length }, (_, i) => part.nameOf!(i));
  assert.equal(new Set(names(test)).size, test.length);
  assert.ok(test.length >= 2 && train.length > 100, `${train.length} and ${test.length}`);
  const seen = new Set(names(train));
  for (const name of names(test)) assert.ok(!seen.has(name), name);
});

test('a list of videos with names of classes', async () => {
  videos('listed', { left: 2, right: 1 });
  const list = join(scratch, 'list.csv');
  writeFileSync(list, 'path,label\nlisted/right/0.gif,right\nlisted/left/0.gif,left\nlisted/left/1.gif,left\n');
  const opened = await openVideoFiles(list);
  assert.deepEqual(opened.classNames, ['left', 'right']);
  assert.deepEqual([...opened.labels!], [1, 0, 0]);
});

test('what is in a folder or file', async () => {
  const at = (name: string, text = ''): string => {
    writeFileSync(join(scratch, name), text);
    return join(scratch, name);
  };
  assert.equal(await modalityAt(at('a.csv', 'path,label\n"/x/y z.mp4",3\n')), 'video');
  assert.equal(await modalityAt(at('b.txt', '/x/y.webm 3\n')), 'video');
  assert.equal(await modalityAt(at('c.txt', 'the film y.webm lasts 3 minutes\n')), 'text');
  assert.equal(await modalityAt(at('d.csv', 'a,b\n1,2\n')), undefined);
  assert.equal(await modalityAt(at('e.tar.gz')), 'image');
  const empty = join(scratch, 'empty');
  mkdirSync(empty);
  await assert.rejects(modalityAt(empty), { name: 'JepaError', message: `${empty}: this folder is empty` });
});
