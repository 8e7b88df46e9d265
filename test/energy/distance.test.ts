import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { DISTANCES, type Distance, type DistanceName, meanEnergy, tokenEnergy } from '../../src/energy/distance.js';
import { input, mul, sum } from '../../src/graph/index.js';
import { assertGradient, assertNear, normals, numberOf, tableFeatures, valueAndGradients } from './numeric.js';

test('means over the published table', async () => {
  const { a, b } = tableFeatures();
  const published: Record<DistanceName, number> = {
    'smooth-l1': 0.0223797339,
    l1: 0.184333358734,
    l2: 0.044759467819,
    cosine: 1 - 0.958057821579,
    'normalised-l2': 2 - 2 * 0.958057821579,
  };
  for (const distance of DISTANCES) {
    const value = await numberOf((x, y) => meanEnergy(x, y, distance), a, b);
    assertNear([value], [published[distance]], 2e-6, 0, distance);
  }
});

test('smooth L1 beyond its threshold', async () => {
  const { value } = await valueAndGradients(
    (x, y) => tokenEnergy(x, y),
    float32([2, 2], [0.5, -0.5, 3, 0]),
    float32([2, 2], [0, 0, 0, -2]),
  );
  assertNear(value, [0.125, (2.5 + 1.5) / 2], 1e-6);
});

test('one energy for each token; gradients', async () => {
  const prediction = normals(1, [2, 3, 5], 0, 1.5);
  const target = normals(2, [2, 3, 5]);
  for (const distance of DISTANCES) {
    const energies = tokenEnergy(input('p', ['batch', 'tokens', 5]), input('t', ['batch', 'tokens', 5]), distance);
    assert.deepEqual(
      energies.shape.map((d) => (typeof d === 'number' ? d : d.key)),
      ['batch', 'tokens'],
    );
    await assertGradient((x, y) => meanEnergy(x, y, distance), [prediction, target]);
    const weights = normals(3, [2, 3]);
    await assertGradient((x, y, w) => sum(mul(tokenEnergy(x, y, distance), w)), [prediction, target, weights], 4e-3);
  }
});

test('bad calls', () => {
  const x = input('x', [2, 3]);
  assert.throws(() => tokenEnergy(x, input('y', [2, 4])), /energy.*one shape.*\[2, 3\] and \[2, 4\]/);
  assert.throws(() => tokenEnergy(x, x, 'l3' as Distance), /unknown distance 'l3': choose one of smooth-l1/);
});
