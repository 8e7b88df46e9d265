import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { input } from '../../src/graph/index.js';
import { interpolatePositions, type PositionRule } from '../../src/nn/interpolate.js';
import { cutPatches, spectralPool } from '../../src/nn/patches.js';
import { evaluate } from '../../src/runtime/index.js';

test('patches in two dimensions, row by row, channels first; a remainder is left out', async () => {
  const x = input('x', ['batch', 2, 5, 4]);
  const value = float32(
    [1, 2, 5, 4],
    Array.from({ length: 40 }, (_, i) => i),
  );
  const { patches } = await evaluate({ patches: cutPatches(x, [2, 2]) }, new Map([[x, value]]));
  assert.deepEqual(patches.shape, [1, 4, 8]);
  assert.deepEqual([...patches.data].slice(0, 8), [0, 1, 4, 5, 20, 21, 24, 25]);
  assert.deepEqual([...patches.data].slice(16, 24), [8, 9, 12, 13, 28, 29, 32, 33]);
});

test('patches of a clip: frames first', async () => {
  const x = input('x', ['batch', 1, 4, 2, 4]);
  const value = float32(
    [1, 1, 4, 2, 4],
    Array.from({ length: 32 }, (_, i) => i),
  );
  const { patches } = await evaluate({ patches: cutPatches(x, [2, 2, 2]) }, new Map([[x, value]]));
  assert.deepEqual(patches.shape, [1, 4, 8]);
  assert.deepEqual([...patches.data].slice(8, 16), [2, 3, 6, 7, 10, 11, 14, 15]);
  assert.deepEqual([...patches.data].slice(16, 24), [16, 17, 20, 21, 24, 25, 28, 29]);
});

test('a position table keeps a constant and, on a finer grid, a line inside of the border', async () => {
  const table = input('table', [1, 36, 2]);
  const values = Array.from({ length: 36 }, (_, i) => [i % 6, 7]).flat();
  for (const rule of ['hugging-face', 'vjepa-image', 'antialiased', 'linear'] as PositionRule[]) {
    const resized = interpolatePositions(table, [6, 6], [12, 12], rule);
    const { out } = await evaluate({ out: resized }, new Map([[table, float32([1, 36, 2], values)]]));
    for (let i = 0; i < 144; i++) {
      assert.ok(Math.abs((out.data[2 * i + 1] as number) - 7) < 1e-5, `${rule}: constant`);
      const column = i % 12;
      const wanted = (column + 0.5) / 2 - 0.5;
      if (column < 3 || column > 8) continue;
      // A cubic kernel with a = -0.75 does not keep a line exactly.
      const bound = rule === 'hugging-face' || rule === 'vjepa-image' ? 0.05 : 1e-5;
      assert.ok(Math.abs((out.data[2 * i] as number) - wanted) < bound, `${rule}: ${out.data[2 * i]} at ${wanted}`);
    }
  }
  assert.equal(interpolatePositions(table, [6, 6], [6, 6]), table);
});

test('bad calls', () => {
  const table = input('table', [1, 36, 2]);
  assert.throws(
    () => interpolatePositions(table, [6, 5], [3, 3]),
    /needs a table \[1, 30, width\] of the grid \[6,5\]; got \[1, 36, 2\]/,
  );
  assert.throws(
    () => cutPatches(input('x', ['batch', 3, 3, 8]), [4, 4]),
    /patches: needs .* hold patches of \[4,4\]; got \[batch, 3, 3, 8\]/,
  );
  assert.throws(() => cutPatches(input('x', ['batch', 3, 8, 8]), [2, 4, 4]), /patches: needs/);
});

test('spectral pooling: an even map has frequency 0 alone, a wave its own; all frequencies together keep the length', async () => {
  const [rows, columns] = [4, 5];
  const x = input('x', ['batch', rows * columns, 3]);
  const wave = (at: number, frequency: number, length: number) => Math.cos((Math.PI * frequency * (at + 0.5)) / length);
  const values = Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return [2, wave(row, 1, rows) * wave(column, 2, columns), Math.sin(7 * i)];
  });
  const pooled = async (frequencies: number) => {
    const out = spectralPool(x, [rows, columns], frequencies);
    const given = float32([1, rows * columns, 3], values.flat());
    const { data } = (await evaluate({ out }, new Map([[x, given]]))).out;
    return (channel: number) => Array.from(data, Number).filter((_, i) => i % 3 === channel);
  };
  const near = (found: readonly number[], wanted: readonly number[]) => {
    assert.equal(found.length, wanted.length);
    for (const [i, value] of found.entries())
      assert.ok(Math.abs(value - wanted[i]) < 1e-5, `${i}: ${value}, ${wanted[i]}`);
  };
  const at = (place: number, value: number, length: number) =>
    Array.from({ length }, (_, i) => (i === place ? value : 0));
  const three = await pooled(3);
  near(three(0), at(0, 2 * Math.sqrt(rows * columns), 9));
  near(three(1), at(1 * 3 + 2, Math.sqrt(rows * columns) / 2, 9));
  // Along the longer axis one frequency is missing: what is left is no longer than the map, and all but that.
  const length = (numbers: readonly number[]) => Math.hypot(...numbers);
  const [four, whole] = [length((await pooled(4))(2)), length(values.map(([, , value]) => value))];
  assert.ok(four < whole && four > length(three(2)));
});
