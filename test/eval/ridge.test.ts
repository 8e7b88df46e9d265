import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { regressionScores } from '../../src/eval/ridge.js';

test('outputs that never vary have no share of explained variance, and leave that of the others as it is', () => {
  // Targets 1, 2, 3 (squared deviations 2) and the constant 0.1; errors of the first: 0.25, 0, 0.25; of the second: 1 each.
  const y = float32([3, 2], Float32Array.of(1, 0.1, 2, 0.1, 3, 0.1));
  const tenth = Math.fround(0.1);
  const predictions = { rows: 3, columns: 2, data: Float64Array.of(1.5, tenth + 1, 2, tenth - 1, 2.5, tenth + 1) };
  const { r2, r2PerOutput, rmse } = regressionScores(predictions, y);
  assert.deepEqual([...r2PerOutput], [0.75, Number.NaN]);
  assert.equal(r2, 0.75);
  assert.ok(Math.abs(rmse - Math.sqrt(3.5 / 6)) < 1e-12);
});
