import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import { add } from '../../src/graph/ops/elementwise.js';
import { broadcastTo } from '../../src/graph/ops/move.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { evaluate } from '../../src/runtime/evaluate.js';

test('a size that only an input elsewhere in the graph has is known', async () => {
  const x = input('x', ['batch', 1]);
  const index = input('index', ['batch', 'hidden'], 'int32');
  const spread = broadcastTo(add(x, 1), [...x.shape.slice(0, 1), index.shape[1]]); // [batch, hidden]
  const { y } = await evaluate(
    { y: spread },
    new Map<Tensor, HostTensor>([
      [x, float32([2, 1], [1, 2])],
      [index, int32([2, 3], [0, 1, 2, 3, 4, 5])],
    ]),
  );
  assert.deepEqual(y.shape, [2, 3]);
  assert.deepEqual([...y.data], [2, 2, 2, 3, 3, 3]);
});
