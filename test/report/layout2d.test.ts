import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { createRandom } from '../../src/base/random.js';
import { layout2d } from '../../src/report/layout2d.js';
import { principalComponents, symmetricEigen } from '../../src/report/pca.js';

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

for (const metric of ['cosine', 'euclidean'] as const) {
  test(`ten separated clusters stay apart on the map (${metric})`, () => {
    const rows = 1000;
    const map = layout2d(clusters(rows, 64, 3), rows, 64, { metric });
    const agree = ranked(map, rows, 2).filter(([first], i) => first % 10 === i % 10).length;
    assert.ok(agree / rows > 0.98, `1-NN agreement ${agree / rows}`);
    assert.ok(map.every((value) => value >= 0 && value <= 1));
  });
}

test('neighbours on the map are neighbours in the data: trustworthiness of a curved sheet', () => {
  const rows = 500;
  const random = createRandom(11);
  const data = new Float32Array(rows * 3);
  for (let i = 0; i < rows; i++) {
    const angle = 1.5 * Math.PI * (1 + 2 * random.uniform());
    data.set([angle * Math.cos(angle), 20 * random.uniform(), angle * Math.sin(angle)], i * 3);
  }
  const map = layout2d(data, rows, 3, { metric: 'euclidean' });
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
  assert.ok(trust > 0.97, `trustworthiness ${trust}`);
});

test('equal data give equal maps, another seed another map', () => {
  const data = clusters(200, 16, 5);
  const first = layout2d(data, 200, 16);
  assert.deepEqual(layout2d(data, 200, 16), first);
  assert.notDeepEqual(layout2d(data, 200, 16, { seed: 1 }), first);
});

test('collapsed and tiny data still give a map', () => {
  for (const rows of [0, 1, 2, 3, 40]) {
    const map = layout2d(new Float32Array(rows * 8).fill(0.5), rows, 8);
    assert.equal(map.length, rows * 2);
    assert.ok(map.every(Number.isFinite));
  }
  const line = layout2d(Float32Array.from([1, 2, 3, 4, 5]), 5, 1, { metric: 'euclidean' });
  assert.ok(line.every(Number.isFinite));
});

test('bad data are named', () => {
  assert.throws(() => layout2d([1, 2, 3], 2, 2), new JepaError('2-D map: 3 values do not fill [2, 2]'));
  assert.throws(() => layout2d([1, 2, 3, Number.NaN], 2, 2), /row 1 holds NaN/);
  assert.throws(() => principalComponents([1, 2], 1, 2, 3), /3 asked of data of width 2/);
});

test('principal components of points on three known axes', () => {
  // A rotation of 3-space by a half turn about (1, 1, 1) / sqrt 3 has the columns (-1, 2, 2) / 3, (2, -1, 2) / 3, (2, 2, -1) / 3.
  const axes = [
    [-1 / 3, 2 / 3, 2 / 3],
    [2 / 3, -1 / 3, 2 / 3],
    [2 / 3, 2 / 3, -1 / 3],
  ];
  const lengths = [1, 5, 3];
  const rows = axes.flatMap((axis, i) => [1, -1].map((sign) => axis.map((value) => sign * lengths[i] * value + 10)));
  const { scores, variances } = principalComponents(rows.flat(), 6, 3, 3);
  // Two of six points lie at distance l on each axis: the variance is l^2 / 3.
  for (const [i, expected] of [25 / 3, 3, 1 / 3].entries()) assert.ok(Math.abs(variances[i] - expected) < 1e-12);
  const sizes = Array.from(scores, Math.abs);
  for (const [i, expected] of [0, 0, 1, 0, 0, 1, 5, 0, 0, 5, 0, 0, 0, 3, 0, 0, 3, 0].entries()) {
    assert.ok(Math.abs(sizes[i] - expected) < 1e-12, `${i}: ${sizes[i]}`);
  }
  for (let k = 0; k < 3; k++) {
    const column = [0, 1, 2, 3, 4, 5].map((i) => scores[i * 3 + k]);
    assert.ok(Math.max(...column) >= -Math.min(...column) - 1e-12);
  }
});

test('leading components of wide data, by both ways of iterating', () => {
  // Orthogonal sine waves with amplitudes falling by half: variances fall by a quarter.
  for (const width of [40, 400]) {
    const rows = 64;
    const data = new Float64Array(rows * width);
    for (let w = 0; w < 12; w++) {
      for (let i = 0; i < rows; i++) {
        const factor = 2 ** -w * Math.SQRT2 * Math.cos((Math.PI * (i + 0.5) * (w + 1)) / rows);
        data[i * width + 3 * w] += factor;
      }
    }
    const { variances } = principalComponents(data, rows, width, 3);
    for (const [i, expected] of [1, 1 / 4, 1 / 16].entries()) {
      assert.ok(Math.abs(variances[i] / expected - 1) < 1e-9, `${width}: ${variances[i]}`);
    }
  }
});

test('eigenvalues of the second difference matrix have their closed form, eigenvectors solve the equation', () => {
  const size = 24;
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) matrix[i * size + j] = i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0;
  }
  const { values, vectors } = symmetricEigen(matrix.slice(), size);
  for (let k = 0; k < size; k++) {
    const expected = 2 - 2 * Math.cos(((size - k) * Math.PI) / (size + 1));
    assert.ok(Math.abs(values[k] - expected) < 1e-12);
    for (let i = 0; i < size; i++) {
      let product = 0;
      for (let j = 0; j < size; j++) product += matrix[i * size + j] * vectors[j * size + k];
      assert.ok(Math.abs(product - values[k] * vectors[i * size + k]) < 1e-12);
    }
  }
});
