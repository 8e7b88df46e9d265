import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix } from '../../src/base/linalg.js';
import { createRandom } from '../../src/base/random.js';
import { principalComponents } from '../../src/eval/pca.js';
import { layout2d } from '../../src/report/layout2d.js';
import { leadingScores } from '../../src/report/pca.js';

/** Rows of 10 Gaussian clusters; their labels are the row numbers modulo 10. */
function clusters(rows: number, width: number, seed: number): Float32Array {
  const random = createRandom(seed);
  const centres = Float64Array.from({ length: 10 * width }, () => random.normal());
  return Float32Array.from(
    { length: rows * width },
    (_, i) => centres[(Math.floor(i / width) % 10) * width + (i % width)] + 0.7 * random.normal(),
  );
}

/** Indices of all other rows of `data` [rows, width], nearest first, for every row. */
function ranked(data: ArrayLike<number>, rows: number, width: number): number[][] {
  return Array.from({ length: rows }, (_, i) => {
    const distance = Array.from({ length: rows }, (_, j) => {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += (data[i * width + k] - data[j * width + k]) ** 2;
      return sum;
    });
    const others = distance.map((_, j) => j).filter((j) => j !== i);
    return others.sort((a, b) => distance[a] - distance[b]);
  });
}

test('ten separated clusters stay apart on the map', () => {
  const rows = 1000;
  const map = layout2d({ shape: [rows, 64], data: clusters(rows, 64, 3) });
  const agree = ranked(map, rows, 2).filter(([first], i) => first % 10 === i % 10).length;
  assert.ok(agree / rows > 0.98, `1-NN agreement ${agree / rows}`);
  assert.ok(map.every((value) => value >= 0 && value <= 1));
});

test('neighbours on the map are neighbours in the data: trustworthiness of a curved band', () => {
  // A band of a sphere, nearly closed: principal components fold it, its own surface does not.
  const rows = 500;
  const random = createRandom(11);
  const data = new Float32Array(rows * 3);
  for (let i = 0; i < rows; i++) {
    const angle = 1.8 * Math.PI * random.uniform();
    const height = 0.8 * random.uniform() - 0.4;
    const radius = Math.sqrt(1 - height * height);
    data.set([radius * Math.cos(angle), height, radius * Math.sin(angle)], i * 3);
  }
  const map = layout2d({ shape: [rows, 3], data });
  const before = ranked(data, rows, 3).map((row) => {
    const rank = new Int32Array(rows);
    row.forEach((j, place) => {
      rank[j] = place + 1;
    });
    return rank;
  });
  // Venna and Kaski 2001: how far outside of the true neighbourhood the neighbours on the map come from.
  const k = 12;
  let penalty = 0;
  ranked(map, rows, 2).forEach((row, i) => {
    for (const j of row.slice(0, k)) penalty += Math.max(0, before[i][j] - k);
  });
  const trust = 1 - (2 / (rows * k * (2 * rows - 3 * k - 1))) * penalty;
  assert.ok(trust > 0.98, `trustworthiness ${trust}`);
});

test('equal data give equal maps, another seed another map', () => {
  const samples = { shape: [200, 16], data: clusters(200, 16, 5) };
  const first = layout2d(samples);
  assert.deepEqual(layout2d(samples), first);
  assert.notDeepEqual(layout2d(samples, { seed: 1 }), first);
});

test('collapsed and tiny data still give a map', () => {
  for (const rows of [0, 1, 2, 3, 40]) {
    for (const value of [0, 0.5]) {
      const map = layout2d({ shape: [rows, 8], data: new Float32Array(rows * 8).fill(value) });
      assert.equal(map.length, rows * 2);
      assert.ok(map.every(Number.isFinite));
    }
  }
  assert.ok(layout2d({ shape: [5, 1], data: [1, 2, -3, 4, -5] }).every(Number.isFinite));
});

test('bad data are named', () => {
  assert.throws(() => layout2d({ shape: [2, 2], data: [1, 2, 3] }), /3 values do not fill \[2, 2\]/);
  assert.throws(() => layout2d({ shape: [2, 2], data: [1, 2, 3, Number.NaN] }), /2-D map: sample 1 holds NaN/);
});

test('leading scores agree with the whole decomposition, up to sign, with the largest positive', () => {
  const random = createRandom(8);
  for (const [rows, width, count] of [
    [300, 40, 3],
    [50, 120, 4],
    [200, 5, 5],
  ]) {
    // Variances fall by two thirds from one to the next, after a mixing of all columns.
    const data = new Float64Array(rows * width);
    const mixing = Float64Array.from({ length: width * width }, () => random.normal());
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < width; k++) {
        const value = random.normal() * 0.57 ** k;
        for (let j = 0; j < width; j++) data[i * width + j] += value * mixing[k * width + j];
      }
    }
    const scores = leadingScores(matrix(rows, width, data), count);
    const { projections } = principalComponents({ shape: [rows, width], data }, count);
    for (let k = 0; k < count; k++) {
      const column = ({ data, columns }: typeof scores) =>
        Array.from({ length: rows }, (_, i) => data[i * columns + k]);
      const [got, expected] = [column(scores), column(projections)];
      const largest = Math.max(...got.map(Math.abs));
      assert.equal(Math.max(...got), largest);
      const sign = Math.sign(got[0] * expected[0]);
      const error = Math.max(...got.map((value, i) => Math.abs(value - sign * expected[i])));
      assert.ok(error < 1e-6 * largest, `[${rows}, ${width}] component ${k}: ${error / largest}`);
    }
  }
});
