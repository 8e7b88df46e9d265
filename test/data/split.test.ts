import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ImageDataset, memoryDataset } from '../../src/data/dataset.js';
import { fewShots, labelShare, splitByHash } from '../../src/data/split.js';

/** `count` images named like files; class i has i + 2 of every 20. */
function dataset(count: number, folder = '/data'): ImageDataset {
  const of20 = [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4];
  const labels = Int32Array.from({ length: count }, (_, i) => of20[i % 20]);
  const memory = memoryDataset({
    name: folder,
    width: 1,
    height: 1,
    channels: 1,
    pixels: new Uint8Array(count),
    labels,
  });
  return { ...memory, nameOf: (index) => `${folder}/c${labels[index]}/${index}.png` };
}
const namesOf = (data: ImageDataset) => Array.from({ length: data.length }, (_, i) => data.nameOf!(i));

describe('splitting by a hash of the name', () => {
  it('takes about the share asked for, each image on one side', () => {
    const all = dataset(5000);
    const { train, test } = splitByHash(all, 0.1);
    assert.deepEqual([...namesOf(train), ...namesOf(test)].sort(), namesOf(all).sort());
    // Five standard deviations of a binomial.
    assert.ok(Math.abs(test.length - 500) < 5 * Math.sqrt(5000 * 0.09), String(test.length));
    assert.equal(test.labels!.length, test.length);
  });

  it('an image keeps its side when others are added or the folder moves', () => {
    const few = new Set(namesOf(splitByHash(dataset(300), 0.2).test));
    const many = new Set(namesOf(splitByHash(dataset(900), 0.2).test));
    for (const name of namesOf(dataset(300))) assert.equal(few.has(name), many.has(name));
    const moved = namesOf(splitByHash(dataset(300, '/elsewhere/x'), 0.2).test);
    assert.deepEqual(
      moved.map((name) => name.replace('/elsewhere/x', '/data')),
      [...few],
    );
  });

  it('refuses a set that is too small', () => {
    const refused = /^\/data: \d images? (is|are) too few to hold some out for testing; give at least 4/;
    for (const count of [0, 1, 2, 3])
      assert.throws(() => splitByHash(dataset(count), 0.1), { name: 'JepaError', message: refused });
    // A list that names the same file over and over.
    const same = { ...dataset(9), nameOf: () => '/data/same.png' };
    assert.throws(() => splitByHash(same, 0.1), { name: 'JepaError', message: /^\/data: 9 images are too few/ });
  });

  it('leaves at least two on either side of a small set', () => {
    for (let count = 4; count < 60; count++) {
      for (const share of [0.01, 0.1, 0.99]) {
        const { train, test } = splitByHash(dataset(count), share);
        assert.equal(train.length + test.length, count);
        assert.ok(train.length >= 2 && test.length >= 2, `${count}: ${train.length} and ${test.length}`);
      }
    }
  });
});

describe('few labels', () => {
  it('takes so many of each class, the same every time, more containing fewer', () => {
    const data = dataset(400);
    const one = fewShots(data, 1, 7);
    const ten = fewShots(data, 10, 7);
    for (let label = 0; label < 5; label++) assert.equal([...ten].filter((i) => data.labels![i] === label).length, 10);
    assert.equal(new Set(ten).size, 50);
    assert.deepEqual(
      [...ten],
      [...ten].sort((a, b) => a - b),
    );
    assert.ok([...one].every((i) => ten.includes(i)));
    assert.deepEqual(fewShots(data, 10, 7), ten);
    assert.notDeepEqual(fewShots(data, 10, 8), ten);
    assert.throws(() => fewShots(data, 41, 7), /class 0 has 40 images, 41 were asked for/);
  });

  it('takes a share of each class, at least one image', () => {
    const data = dataset(2000);
    const chosen = [...labelShare(data, 0.01, 3)];
    const counts = [0, 1, 2, 3, 4].map((label) => chosen.filter((i) => data.labels![i] === label).length);
    assert.deepEqual(counts, [2, 3, 4, 5, 6]);
    assert.equal(labelShare(dataset(40), 0.001, 3).length, 5);
  });

  it('every image of a class is as likely', () => {
    const data = dataset(20);
    const times = new Map<number, number>();
    for (let seed = 0; seed < 3000; seed++)
      for (const i of fewShots(data, 1, seed)) times.set(i, (times.get(i) ?? 0) + 1);
    // Class 4 has six images, each expected 500 times with a standard deviation of 20.
    for (let i = 14; i < 20; i++) assert.ok(Math.abs(times.get(i)! - 500) < 100, `${i}: ${times.get(i)}`);
  });

  it('images without a label are left out; a set without labels is refused', () => {
    const data = dataset(40);
    const labels = data.labels!.map((label, i) => (i < 20 ? -1 : label));
    assert.ok([...fewShots({ ...data, labels }, 2, 0)].every((i) => i >= 20));
    assert.throws(() => fewShots({ ...data, labels: undefined }, 2, 0), /there are no labels/);
  });
});
