import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { input } from '../../src/graph/tensor.js';
import { gridRotary, type Rope, ropeScale, ropeTable, ropeWidth, rotate } from '../../src/nn/rope.js';
import { evaluate } from '../../src/runtime/evaluate.js';

/** The same vector at every token of a grid, turned: [tokens, width]. */
async function turned(vector: Float32Array, grid: readonly number[], rope: Rope): Promise<Float32Array[]> {
  const tokens = grid.reduce((a, b) => a * b, 1);
  const data = Float32Array.from({ length: tokens * vector.length }, (_, i) => vector[i % vector.length]);
  const x = input('x', [1, tokens, vector.length]);
  const { cos, sin } = gridRotary(grid, vector.length, rope);
  const { y } = await evaluate({ y: rotate(x, cos, sin) }, new Map([[x, float32(x.shape as number[], data)]]));
  const out = (y as HostTensor<'float32'>).data;
  return Array.from({ length: tokens }, (_, t) => out.slice(t * vector.length, (t + 1) * vector.length));
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, v, i) => sum + v * b[i], 0);

const vectors = (width: number): [Float32Array, Float32Array] => {
  const random = createRandom(2);
  const make = (name: string): Float32Array => {
    const v = new Float32Array(width);
    random.split(name).fillNormal(v, 0, 1);
    return v;
  };
  return [make('q'), make('k')];
};

test('published widths of a segment', () => {
  assert.deepEqual([24, 32, 64, 80, 88, 104].map(ropeWidth), [8, 10, 20, 26, 28, 34]);
});

test('interleaved: lengths stay, and products depend on how far tokens are apart only', async () => {
  const [q, k] = vectors(20); // segments of 6, two channels that stay
  const grid = [3, 4, 5];
  const rope: Rope = { frequencies: 'interleaved' };
  const [qs, ks] = [await turned(q, grid, rope), await turned(k, grid, rope)];
  for (const v of qs) assert.ok(Math.abs(dot(v, v) - dot(q, q)) < 1e-4);
  const at = (t: number, r: number, c: number): number => (t * 4 + r) * 5 + c;
  const first = dot(qs[at(1, 2, 3)], ks[at(0, 1, 1)]);
  for (const [t, r, c] of [
    [2, 3, 4],
    [1, 1, 2],
    [2, 2, 2],
  ]) {
    assert.ok(Math.abs(dot(qs[at(t, r, c)], ks[at(t - 1, r - 1, c - 2)]) - first) < 1e-4);
  }
  assert.ok(Math.abs(dot(qs[at(1, 2, 3)], ks[at(0, 1, 2)]) - first) > 1e-3);
});

test('tiled: no rotation, as published; channels beyond the segments stay', async () => {
  const [q] = vectors(16); // segments of 4
  const all = await turned(q, [2, 3, 3], { frequencies: 'tiled' });
  assert.ok(all.some((v) => Math.abs(dot(v, v) - dot(q, q)) > 1e-2));
  for (const v of all) assert.deepEqual([...v.slice(12)], [...q.slice(12)]);
});

test('stretched positions reach the ends of the reference grid; a row of one patch has none', () => {
  assert.deepEqual(ropeScale([2, 4, 6], { frequencies: 'interleaved', referenceGrid: 16 }), [5, 3]);
  assert.throws(() => ropeScale([2, 1, 6], { frequencies: 'interleaved', referenceGrid: 16 }), /two rows and columns/);
});

test('heads that are too narrow are refused', () => {
  assert.throws(() => ropeTable([[0]], 5, 'tiled'), /heads need a width of 6 or more, not 5/);
});
