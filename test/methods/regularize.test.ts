import assert from 'node:assert/strict';
import { it } from 'node:test';
import { add } from '../../src/graph/ops/elementwise.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { regularize } from '../../src/methods/regularize.js';
import { assertNear, numberOf, tableFeatures } from '../energy/numeric.js';

it('either of two embeddings with the other as target has half of the loss of the published table', async () => {
  const { a, b } = tableFeatures();
  // The table has the mean of the two variance terms and the sum of the two covariance terms.
  const halves = { kind: 'vicreg', invariance: 25 / 2, variance: 25 / 2, covariance: 1 } as const;
  const loss = (z: Tensor, target: Tensor): Tensor => regularize([z], halves, () => target).loss as Tensor;
  assertNear([await numberOf((x, y) => add(loss(x, y), loss(y, x)), a, b)], [7.852699170922], 5e-6);
});

it('refuses invariance where a method has no pooled target', () => {
  const terms = { kind: 'vicreg', invariance: 1, variance: 1, covariance: 1 } as const;
  assert.throws(() => regularize([input('z', ['batch', 3])], terms), /no pooled target/);
});
