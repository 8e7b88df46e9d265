import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProducts, panelRows, panelSize } from '../../src/base/products.js';
import { createRandom } from '../../src/base/random.js';

test('products equal the sums of their definition', () => {
  const random = createRandom(1);
  const shapes = [
    [1, 1, 1],
    [4, 8, 3],
    [5, 9, 257],
    [13, 31, 600],
    [64, 3, 40],
  ];
  for (const kind of ['float32', 'float64'] as const) {
    for (const transposeA of [false, true]) {
      for (const [m, n, k] of shapes) {
        const [aRows, aColumns] = transposeA ? [k, m] : [m, k];
        const size = panelSize(kind, aRows, aColumns) + panelSize(kind, k, n) + panelSize(kind, m, n);
        const memory = kind === 'float32' ? createProducts('float32', size) : createProducts('float64', size);
        const a = memory.matrix(aRows, aColumns);
        const b = memory.matrix(k, n);
        const c = memory.matrix(m, n);
        // Whatever the padding holds must not reach the result.
        a.data.fill(Number.NaN);
        b.data.fill(Number.NaN);
        for (let i = 0; i < aRows; i++) for (let j = 0; j < aColumns; j++) a.data[i * a.stride + j] = random.normal();
        for (let i = 0; i < k; i++) for (let j = 0; j < n; j++) b.data[i * b.stride + j] = random.normal();
        for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) c.data[i * c.stride + j] = i - j;
        (memory.accumulate as (...args: unknown[]) => void)(a, b, c, transposeA);
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = i - j;
            let scale = Math.abs(sum);
            for (let s = 0; s < k; s++) {
              const term = a.data[transposeA ? s * a.stride + i : i * a.stride + s] * b.data[s * b.stride + j];
              sum += term;
              scale += Math.abs(term);
            }
            const error = Math.abs(c.data[i * c.stride + j] - sum) / scale;
            assert.ok(error < (kind === 'float32' ? 1e-6 : 1e-14), `${kind} ${m}x${n}x${k} (${i}, ${j}): ${error}`);
          }
        }
      }
    }
  }
});

test('rows of a panel share its memory; wrong shapes and too little memory are named', () => {
  const memory = createProducts('float32', 200000);
  const a = memory.matrix(10, 5);
  a.data.forEach((_, i) => {
    a.data[i] = i;
  });
  const part = panelRows(a, 4, 6);
  assert.equal(part.data[0], 4 * a.stride);
  assert.equal(part.rows, 6);
  assert.throws(() => memory.accumulate(a, a, a), /products: \[10, 5\] times \[10, 5\] does not give \[10, 5\]/);
  assert.throws(() => memory.matrix(1000, 1000), /panels need \d+ bytes/);
});
