import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import {
  EB_QUADRATURE,
  eppsPulley,
  lejepaLoss,
  randomDirections,
  sigreg,
  sigregStatistics,
  unitColumns,
} from '../../src/energy/sigreg.js';
import { constant, input, mean, mul, sum } from '../../src/graph/index.js';
import { harmonicSums } from '../../src/graph/ops/harmonics.js';
import { eppsPulleyIntegral } from '../harness/ssl.js';
import {
  alongGradient,
  assertGradient,
  assertNear,
  type Floats,
  type Loss,
  normals,
  numberOf,
  tableFeatures,
  valueAndGradients,
} from './numeric.js';

const column = (values: readonly number[]): Floats => float32([values.length, 1], values);
const statistic = (values: readonly number[]): Promise<number> => numberOf((x) => mean(eppsPulley(x)), column(values));

test('harmonic sums are sums of the cosines and sines of the multiples', async () => {
  // Each angle is a sum of its own: errors are seen one by one.
  const angles = float32(
    [1, 401],
    Array.from({ length: 401 }, (_, i) => (i - 200) / 100),
  );
  for (const first of [1, 0.5] as const) {
    for (const count of [1, 2, 3, 16]) {
      const { value } = await valueAndGradients((x) => harmonicSums(x, 0, count, first), angles);
      const wanted = [Math.cos, Math.sin].flatMap((wave) =>
        Array.from({ length: count }, (_, j) => [...angles.data].map((x) => wave((first + j) * x))),
      );
      // Where the angle is near pi / 2 errors grow with the square of the number of steps.
      assertNear(value, wanted.flat(), 0, 4e-7 + 6e-8 * count ** 2, `${count} from ${first}`);
    }
  }
  const shape = [2, 3, 4];
  const x = normals(20, shape);
  const { value } = await valueAndGradients((t) => harmonicSums(t, 1, 2), x);
  const sums = Array.from({ length: 2 * 4 * 4 }, (_, k) => {
    const [a, wave, b] = [Math.floor(k / 16), Math.floor(k / 4) % 4, k % 4];
    const each = [0, 1, 2].map((i) => (wave < 2 ? Math.cos : Math.sin)((1 + (wave % 2)) * x.data[a * 12 + i * 4 + b]));
    return each.reduce((total, v) => total + v, 0);
  });
  assertNear(value, sums, 1e-6, 1e-6);
});

test('harmonic sums: first, second and third derivatives', async () => {
  const x = normals(1, [3, 2]);
  for (const first of [1, 0.5] as const) {
    for (const count of [1, 2, 4]) {
      const weights = constant(normals(3, [2 * count, 2]));
      const loss: Loss = (t) => sum(mul(harmonicSums(t, 0, count, first), weights));
      const second = alongGradient(loss, normals(2, [3, 2]));
      await assertGradient(loss, [x], 5e-3);
      await assertGradient(second, [x], 5e-3);
      await assertGradient(alongGradient(second, normals(4, [3, 2])), [x], 1e-2);
    }
  }
});

test('published values of the statistic', async () => {
  const { a } = tableFeatures();
  const first = Array.from({ length: 8 }, (_, i) => a.data[4 * i]);
  const { value, grads } = await valueAndGradients((x) => mean(eppsPulley(x)), column(first));
  assertNear(value, [0.793634851572], 3e-6);
  assertNear(
    grads[0],
    [0.5979783664, -0.0984787688, -0.4030307027, -0.2871313845, 0.2611900944, 0.7925594756, 0.8513845792, 0.8526823841],
    2e-5,
    2e-6,
  );
  const line = Array.from({ length: 8 }, (_, i) => -2 + (4 * i) / 7);
  const expected = [0.994884167166, 7.763409108512, 2.885734381615];
  const shifted = [line, line.map((v) => 3 * v), line.map((v) => v + 1)];
  for (const [i, values] of shifted.entries()) assertNear([await statistic(values)], [expected[i]], 5e-6);
});

test('published values of SIGReg', async () => {
  const { a } = tableFeatures();
  const raw = Array.from({ length: 12 }, (_, i) => {
    const [k, m] = [Math.floor(i / 3), i % 3];
    return Math.cos(0.9 * k + 0.5 * m + 0.2 * k * m);
  });
  const directions = constant(unitColumns(float32([4, 3], raw)));
  const { value } = await valueAndGradients((z) => sigregStatistics(z, directions), a);
  assertNear(value, [0.8707363, 0.746667973, 0.106456949], 5e-6);
  assertNear([await numberOf((z) => sigreg(z, directions), a)], [0.574620407235], 5e-6);
});

test('collapsed embeddings', async () => {
  for (const n of [5, 256]) {
    for (const [value, each] of [
      [0, 0.4020476],
      [1, 1.186006],
      [2, 2.642852],
    ]) {
      assertNear([await statistic(Array(n).fill(value))], [each * n], 3e-6, 0, `all ${value}`);
    }
  }
  const atOrigin = await valueAndGradients((x) => mean(eppsPulley(x)), column(Array(6).fill(0)));
  assert.deepEqual(atOrigin.grads[0].map(Math.abs), Array(6).fill(0), 'no force at the origin');
  const away = await valueAndGradients((x) => mean(eppsPulley(x)), column(Array(6).fill(2)));
  assert.ok(
    away.grads[0].every((g) => g > 0.1),
    'a constant is drawn to the origin',
  );
});

/** Expected statistic of n samples with characteristic function exp(-std^2 t^2 / 2), from the published grid. */
function expectation(n: number, std: number): number {
  let total = 0;
  for (let j = 0; j <= 16; j++) {
    const t = (3 * j) / 16;
    const window = Math.exp((-t * t) / 2);
    const own = Math.exp(-((std * t) ** 2) / 2);
    total += ((j % 16 === 0 ? 3 : 6) / 16) * window * (n * (own - window) ** 2 + 1 - own ** 2);
  }
  return total;
}

test('expectation for normal samples: 1.052464 for any number of them, more for another width', async () => {
  assertNear([expectation(8, 1), expectation(256, 1)], [1.052464, 1.052464], 1e-6);
  for (const [samples, std, columns] of [
    [8, 1, 8192],
    [256, 1, 2048],
    [256, 2, 2048],
    [256, 0.5, 2048],
    [256, 0.1, 256],
  ]) {
    const value = await numberOf((x) => mean(eppsPulley(x)), normals(samples, [samples, columns], 0, std));
    assertNear([value], [expectation(samples, std)], 0.04, 0, `${samples} samples of width ${std}`);
  }
});

test('the quadrature agrees with the integral in closed form', async () => {
  for (const std of [0.3, 1, 2.5]) {
    const x = normals(11, [40, 1], 0.2, std);
    const exact = eppsPulleyIntegral(x.data);
    // A fine grid of the whole line, and the default one.
    assertNear([await numberOf((t) => mean(eppsPulley(t, { knots: 65, to: 6 })), x)], [exact], 2e-3, 2e-3);
    assertNear([await numberOf((t) => mean(eppsPulley(t)), x)], [exact], 1e-2, 2e-3);
  }
});

test('a two-sided grid is the doubled half', async () => {
  const x = normals(12, [20, 3]);
  const half = await valueAndGradients((t) => eppsPulley(t, { knots: 9, to: 3 }), x);
  const both = await valueAndGradients((t) => eppsPulley(t, { knots: 17, from: -3, to: 3 }), x);
  assertNear(half.value, both.value, 1e-6);
});

test('gradients', async () => {
  const z = normals(13, [10, 4]);
  const directions = constant(randomDirections(createRandom(1), 4, 6));
  await assertGradient((t) => sigreg(t, directions), [z]);
  await assertGradient((t) => sigreg(t, directions, { ...EB_QUADRATURE, timesSamples: true }), [z]);
  await assertGradient(
    alongGradient((t) => sigreg(t, directions), normals(14, [10, 4])),
    [z],
    5e-3,
  );
});

test('views and samples may lie along any axis', async () => {
  const directions = constant(randomDirections(createRandom(2), 3, 5));
  const z = normals(15, [2, 6, 3]);
  const turned = float32(
    [6, 2, 3],
    Array.from({ length: 36 }, (_, k) => {
      const [i, v, d] = [Math.floor(k / 6), Math.floor(k / 3) % 2, k % 3];
      return z.data[v * 18 + i * 3 + d];
    }),
  );
  const usual = await numberOf((t) => lejepaLoss(t, directions).loss, z);
  const other = await numberOf((t) => lejepaLoss(t, directions, { views: 1, axis: 0 }).loss, turned);
  assertNear([other], [usual], 1e-6);
});

test('directions', () => {
  const { shape, data } = randomDirections(createRandom(3), 16, 4);
  assert.deepEqual(shape, [16, 4]);
  for (let c = 0; c < 4; c++) {
    let squares = 0;
    for (let r = 0; r < 16; r++) squares += data[r * 4 + c] ** 2;
    assert.ok(Math.abs(squares - 1) < 1e-6);
  }
});

test('bad calls', () => {
  const x = input('x', [4, 2]);
  assert.throws(() => eppsPulley(x, { from: -1, to: 3 }), /sigreg: needs 2 or more knots on \[0, to\] or \[-to, to\]/);
  assert.throws(() => eppsPulley(x, { knots: 1 }), /not 1 on \[0, 3\]/);
  assert.throws(() => sigreg(x, input('d', [3, 5])), /matmul: inner sizes differ; got \[4, 2\] and \[3, 5\]/);
});
