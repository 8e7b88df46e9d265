import assert from 'node:assert/strict';
import { test } from 'node:test';
import { infoNce, ntXent, symmetricInfoNce } from '../../src/energy/infonce.js';
import { input } from '../../src/graph/index.js';
import { assertGradient, assertNear, normals, numberOf, tableFeatures, valueAndGradients } from './numeric.js';

test('the published table', async () => {
  const { a, b } = tableFeatures();
  assertNear([await numberOf((x, y) => infoNce(x, y), a, b)], [0.396872047309], 1e-5);
  assertNear([await numberOf((x, y) => symmetricInfoNce(x, y), a, b)], [0.406847074024], 1e-5);
  assertNear([await numberOf((x, y) => ntXent(x, y, 0.1), a, b)], [0.672622952414], 1e-5);
  const { value, grads } = await valueAndGradients((x, y) => ntXent(x, y, 0.5), a, b);
  assertNear(value, [1.532003765103], 1e-5);
  assertNear(grads[0].slice(0, 4), [0.00694346, 0.009042286, 0.017358869, 0.022492975], 1e-4, 1e-6);
});

test('gradients', async () => {
  const pair = [normals(1, [5, 3]), normals(2, [5, 3])];
  await assertGradient((x, y) => infoNce(x, y, 0.3), pair);
  await assertGradient((x, y) => ntXent(x, y, 0.3), pair);
});

test('bad calls', () => {
  assert.throws(() => infoNce(input('a', [4, 3]), input('b', [5, 3])), /infonce: needs two \[batch, width\]/);
  assert.throws(() => ntXent(input('a', [4, 3, 2]), input('b', [4, 3, 2])), /nt_xent/);
});
