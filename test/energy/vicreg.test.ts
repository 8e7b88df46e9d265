import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { covarianceTerm, rowsOf, varianceCovariance, varianceTerm, vicreg } from '../../src/energy/vicreg.js';
import { add, input, mul } from '../../src/graph/index.js';
import {
  alongGradient,
  assertGradient,
  assertNear,
  type Floats,
  normals,
  numberOf,
  tableFeatures,
  valueAndGradients,
} from './numeric.js';

test('the published table', async () => {
  const { a, b } = tableFeatures();
  for (const [term, expected] of [
    ['invariance', 0.044759467819],
    ['variance', 0.235733793009],
    ['covariance', 0.84036765022],
    ['loss', 7.852699170922],
  ] as const) {
    assertNear([await numberOf((x, y) => vicreg(x, y)[term], a, b)], [expected], 5e-6, 0, term);
  }
  const { grads } = await valueAndGradients((x, y) => vicreg(x, y).loss, a, b);
  assertNear(grads[0].slice(0, 4), [-0.309224161, -0.482048729, 0.305004813, 0.820635194], 2e-5);
});

interface Moments {
  readonly centred: number[][];
  readonly covariance: number[][];
}

function moments({ shape: [n, d], data }: Floats): Moments {
  const mean = Array.from({ length: d }, (_, j) => {
    let total = 0;
    for (let i = 0; i < n; i++) total += data[i * d + j];
    return total / n;
  });
  const centred = Array.from({ length: n }, (_, i) => mean.map((m, j) => data[i * d + j] - m));
  const covariance = mean.map((_, j) =>
    mean.map((_, k) => centred.reduce((sum, row) => sum + row[j] * row[k], 0) / (n - 1)),
  );
  return { centred, covariance };
}

test('gradients by their formulas', async () => {
  const z = normals(5, [9, 4], 0.3, 0.6);
  const [n, d] = z.shape;
  const { centred, covariance } = moments(z);
  const hinge = await valueAndGradients((x) => varianceTerm(x), z);
  const expected = centred.flatMap((row) =>
    row.map((v, j) => {
      const deviation = Math.sqrt(covariance[j][j] + 1e-4);
      return deviation < 1 ? -v / ((n - 1) * deviation * d) : 0;
    }),
  );
  assertNear(hinge.grads[0], expected, 1e-5, 1e-7);
  const overlap = await valueAndGradients((x) => covarianceTerm(x, 'entries'), z);
  const offDiagonal = covariance.map((row, j) => row.map((v, k) => (j === k ? 0 : v)));
  assertNear(
    overlap.grads[0],
    centred.flatMap((row) =>
      offDiagonal.map((c) => (4 / (d * (d - 1) * (n - 1))) * row.reduce((sum, v, k) => sum + v * c[k], 0)),
    ),
    1e-5,
    1e-7,
  );
  assertNear(
    [await numberOf((x) => covarianceTerm(x), z)],
    [offDiagonal.flat().reduce((sum, v) => sum + v * v, 0) / d],
    1e-5,
  );
});

test('second derivatives', async () => {
  const z = normals(6, [7, 3], 0, 0.7);
  const v = normals(7, [7, 3]);
  await assertGradient(
    alongGradient((x) => varianceCovariance(x).loss, v),
    [z],
    5e-3,
  );
});

test('collapsed features cost the margin; decorrelated ones with spread cost nothing', async () => {
  assertNear([await numberOf((x) => varianceTerm(x), float32([4, 3], Array(12).fill(2)))], [1 - 0.01], 1e-5);
  const spread = float32([4, 2], [3, 3, 3, -3, -3, 3, -3, -3]);
  assertNear([await numberOf((x) => varianceCovariance(x).loss, spread)], [0], 0, 1e-6);
});

test('rows of tokens', async () => {
  const tokens = input('tokens', ['batch', 3, 2]);
  assert.deepEqual(rowsOf(tokens, 'pooled').shape.slice(1), [2]);
  const x = normals(8, [4, 3, 2]);
  const flat = await numberOf((t) => varianceTerm(rowsOf(t, 'flattened')), x);
  assertNear([flat], [await numberOf((t) => varianceTerm(t), float32([12, 2], x.data))], 1e-6);
  const pooled = float32(
    [4, 2],
    Array.from({ length: 8 }, (_, k) => {
      const [i, j] = [Math.floor(k / 2), k % 2];
      return (x.data[i * 6 + j] + x.data[i * 6 + 2 + j] + x.data[i * 6 + 4 + j]) / 3;
    }),
  );
  assertNear(
    [await numberOf((t) => covarianceTerm(rowsOf(t, 'pooled')), x)],
    [await numberOf((t) => covarianceTerm(t), pooled)],
    1e-5,
  );
  await assertGradient(
    (t) => add(varianceTerm(rowsOf(t, 'pooled')), mul(varianceTerm(rowsOf(t, 'flattened')), 2)),
    [x],
  );
});

test('bad calls', () => {
  assert.throws(() => varianceTerm(input('z', [2, 3, 4])), /variance term: needs \[rows, width\]/);
  assert.throws(() => covarianceTerm(input('z', [1, 4])), /covariance term: one row has no variance/);
  assert.throws(() => rowsOf(input('z', [2, 4]), 'pooled'), /rows: needs \[batch, tokens, width\]/);
});
