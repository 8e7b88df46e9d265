import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import type { RawImage } from '../../src/data/dataset.js';
import { embeddingMap, featureMaps, neighbourRows, sphericalKMeans, trainingCurves } from '../../src/report/build.js';

const grey = (value: number) => ({ width: 1, height: 1, channels: 1, data: Uint8Array.of(value) });
const images = (count: number) => Array.from({ length: count }, (_, i) => grey(i % 256));

test('nearest neighbours by cosine: direction counts, length does not, the query itself is left out', () => {
  const embeddings = { shape: [5, 2], data: [1, 0, 10, 1, 0, 3, -1, 0, 5, 5] };
  const set = { embeddings, images: images(5), labels: [0, 0, 1, -1, 1], classNames: ['a', 'b'] };
  const [row] = neighbourRows(set, [0], 3);
  assert.equal(row.label, 'a');
  assert.deepEqual(
    row.neighbours.map(({ image, label }) => [(image as RawImage).data[0], label]),
    [
      [1, 'a'],
      [4, 'b'],
      [2, 'b'],
    ],
  );
  const expected = [10 / Math.sqrt(101), Math.SQRT1_2, 0];
  for (const [i, { similarity }] of row.neighbours.entries()) assert.ok(Math.abs(similarity - expected[i]) < 1e-12);
  assert.equal(neighbourRows(set, [3], 1)[0].label, undefined);
  assert.throws(() => neighbourRows(set, [5]), /no image 5 among 5/);
  assert.throws(() => neighbourRows({ ...set, images: images(4) }, [0]), /\[5, 2\] are not \[4 images, width\]/);
});

test('k-means finds bundles of directions, whatever their lengths', () => {
  const random = createRandom(2);
  const sizes = [50, 30, 20];
  const truth = sizes.flatMap((size, c) => new Array<number>(size).fill(c));
  const rows = truth.flatMap((c) => {
    const length = 0.1 + 10 * random.uniform();
    return [0, 1, 2].map((axis) => length * ((axis === c ? 1 : 0) + 0.1 * random.normal()));
  });
  assert.deepEqual([...sphericalKMeans({ shape: [100, 3], data: rows }, 3)], truth);
});

test('k-means of fewer directions than clusters ends', () => {
  const found = sphericalKMeans({ shape: [4, 2], data: [1, 0, 1, 0, 0, 1, 0, 0] }, 4);
  assert.equal(found[0], found[1]);
  assert.notEqual(found[0], found[2]);
});

test('feature maps stretch components over all images; one image alike in all patches is grey', () => {
  // Patches differ along one axis only: red carries it, evenly from 0 to 255, whichever way round.
  const values = Array.from({ length: 2 * 6 }, (_, i) => [i, 0, 0, 0]).flat();
  const maps = featureMaps(images(2), { shape: [2, 6, 4], data: values }, { rows: 2, columns: 3 });
  assert.deepEqual([maps[0].colours.width, maps[0].colours.height], [3, 2]);
  const red = maps.flatMap(({ colours }) => [0, 1, 2, 3, 4, 5].map((i) => colours.data[3 * i]));
  const rising = red[0] < red[11] ? red : red.reverse();
  assert.deepEqual(
    rising,
    Array.from({ length: 12 }, (_, i) => Math.round((255 * i) / 11)),
  );
  const flat = { shape: [1, 6, 4], data: new Float32Array(24) };
  const [even] = featureMaps(images(1), flat, { rows: 2, columns: 3 });
  assert.ok(even.colours.data.every((value) => value === 128));
  assert.throws(
    () => featureMaps(images(2), flat, { rows: 2, columns: 3 }),
    /\[1, 6, 4\] are not \[2 images, 6 tokens, width\]/,
  );
});

test('the map thins evenly and keeps points, pictures, names and classes together', () => {
  const random = createRandom(4);
  const embeddings = { shape: [100, 4], data: Float32Array.from({ length: 400 }, () => random.normal()) };
  const labels = Int32Array.from({ length: 100 }, (_, i) => (i % 10 === 0 ? -1 : i % 3));
  const set = { embeddings, images: images(100), labels, classNames: ['x', 'y', 'z'] };
  const names = Array.from({ length: 100 }, (_, i) => `image ${i}`);
  const map = embeddingMap(set, { limit: 25, names, attributes: { bold: labels.map((l) => (l > 0 ? 1 : 0)) } });
  assert.equal(map.points.length, 50);
  assert.equal(map.note, '25 of 100 images');
  assert.deepEqual(
    map.colourings.map((one) => [one.name, one.groups]),
    [
      ['class', ['x', 'y', 'z']],
      ['bold', ['no', 'yes']],
    ],
  );
  map.thumbnails!.forEach((thumbnail, i) => {
    const from = thumbnail.data[0];
    assert.equal(from, 4 * i);
    assert.equal(map.names![i], `image ${from}`);
    assert.equal(map.colourings[0].values[i], labels[from]);
  });
});

test('without labels points are coloured by cluster', () => {
  const random = createRandom(4);
  const data = Float32Array.from({ length: 60 }, () => random.normal());
  const set = { embeddings: { shape: [20, 3], data }, images: images(20) };
  const { colourings } = embeddingMap(set);
  assert.equal(colourings[0].name, 'cluster');
  assert.equal(colourings[0].groups.length, 8);
  assert.ok(Array.from(colourings[0].values).every((value) => value >= 0 && value < 8));
});

test('training curves: one figure for what was recorded, a log axis where values span decades', () => {
  const x = [1, 2, 3];
  const curves = trainingCurves({
    loss: { x, y: [10, 1, 0.1] },
    energyMatched: { x, y: [0.4, 0.3, 0.2] },
    energyShuffled: { x, y: [0.4, 0.5, 0.5] },
    knn: { x: [], y: [] },
    rankme: { x, y: [3, 2, 1] },
    width: 192,
  });
  assert.deepEqual(
    curves.map((curve) => [curve.title, curve.yScale ?? 'linear', curve.series.length]),
    [
      ['Loss', 'log', 1],
      ['RankMe', 'linear', 1],
      ['Energy', 'linear', 2],
    ],
  );
  assert.equal(curves[1].unit, 'of 192 dimensions');
});
