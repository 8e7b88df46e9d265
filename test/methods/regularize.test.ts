import assert from 'node:assert/strict';
import { it } from 'node:test';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { regularize } from '../../src/methods/regularize.js';
import { assertNear, numberOf, tableFeatures } from '../energy/numeric.js';

const published = { kind: 'vicreg', invariance: 25, variance: 25, covariance: 1 } as const;

it('two embeddings of the same samples have the loss of the published table', async () => {
  const { a, b } = tableFeatures();
  const loss = await numberOf((x, y) => regularize([x, y], published).loss as Tensor, a, b);
  assertNear([loss], [7.852699170922], 5e-6);
});

it('refuses invariance of one embedding', () => {
  assert.throws(() => regularize([input('z', ['batch', 3])], published), /masks\.contexts to 2/);
});
