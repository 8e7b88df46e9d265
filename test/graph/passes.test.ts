import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import * as g from '../../src/graph/index.js';
import { reachable } from '../../src/graph/lower.js';
import { windows } from '../../src/graph/ops/gather-sum.js';
import { convolveMap } from '../../src/graph/ops/map-convolution.js';
import { absorbTransposes } from '../../src/graph/passes/absorb-transposes.js';
import { adjointWindows } from '../../src/graph/passes/adjoint-windows.js';
import { shareCommon } from '../../src/graph/passes/cse.js';
import { cutPhases } from '../../src/graph/passes/phases.js';
import { shardGraph } from '../../src/graph/passes/shard.js';
import { countFlops } from '../../src/runtime/cost.js';
import { evaluate } from '../../src/runtime/evaluate.js';

const values = (shape: readonly number[], seed: number): HostTensor<'float32'> =>
  float32(
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.3 + seed)),
  );

const count = (outputs: readonly g.Tensor[], name: string): number =>
  reachable(outputs).filter((node) => node.op.name === name).length;

/** Convolution by its definition, in double: x [n, height * width, in], weight [k, k, in, out], gradient of sum(y * up). */
function convolution(
  x: HostTensor<'float32'>,
  w: HostTensor<'float32'>,
  up: (at: number) => number,
  [height, width]: readonly [number, number],
  stride: number,
) {
  const [k, , into, out] = w.shape;
  const [n] = x.shape;
  const pad = (k - 1) / 2;
  const [rows, columns] = [height, width].map((size) => Math.floor((size + 2 * pad - k) / stride) + 1);
  const y = new Float64Array(n * rows * columns * out);
  const dx = new Float64Array(x.data.length);
  const dw = new Float64Array(w.data.length);
  for (let b = 0; b < n; b++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++)
        for (let o = 0; o < out; o++) {
          const at = ((b * rows + r) * columns + c) * out + o;
          for (let dy = 0; dy < k; dy++)
            for (let dxx = 0; dxx < k; dxx++) {
              const [row, column] = [r * stride + dy - pad, c * stride + dxx - pad];
              if (row < 0 || row >= height || column < 0 || column >= width) continue;
              for (let i = 0; i < into; i++) {
                const xi = (b * height * width + row * width + column) * into + i;
                const wi = ((dy * k + dxx) * into + i) * out + o;
                y[at] += x.data[xi] * w.data[wi];
                dx[xi] += up(at) * w.data[wi];
                dw[wi] += up(at) * x.data[xi];
              }
            }
        }
  return { y, dx, dw };
}

function close(got: HostTensor<'float32'>, expected: Float64Array, what: string): void {
  assert.equal(got.data.length, expected.length, what);
  expected.forEach((value, i) => {
    assert.ok(Math.abs(got.data[i] - value) < 1e-4, `${what}[${i}]: ${got.data[i]} instead of ${value}`);
  });
}

describe('convolutions over channels-last maps', () => {
  const CASES = [
    { size: [7, 7], into: 9, out: 4, kernel: 3, stride: 1 },
    { size: [4, 4], into: 8, out: 3, kernel: 3, stride: 1 },
    { size: [6, 5], into: 8, out: 2, kernel: 3, stride: 2 },
    { size: [7, 3], into: 10, out: 3, kernel: 5, stride: 2 },
    { size: [9, 8], into: 8, out: 3, kernel: 3, stride: 3 },
    { size: [9, 8], into: 1, out: 3, kernel: 5, stride: 2 },
    { size: [3, 4], into: 2, out: 2, kernel: 1, stride: 1 },
  ] as const;
  for (const { size, into, out, kernel, stride } of CASES) {
    it(`${size.join(' x ')}, kernel ${kernel}, stride ${stride}, ${into} channels: as by definition, before and after the passes`, async () => {
      const shapes = { x: [2, size[0] * size[1], into], w: [kernel, kernel, into, out] };
      const [x, w] = [g.input('x', shapes.x), g.input('w', shapes.w)];
      const { patches } = windows(x, size, { kernel, stride, padding: (kernel - 1) / 2 });
      const y = g.matmul(patches, g.reshape(w, [kernel * kernel * into, out]));
      const up = (at: number): number => Math.cos(at);
      const weights = values(y.shape as number[], 0);
      const cotangent = float32(
        weights.shape,
        weights.data.map((_, i) => up(i)),
      );
      const loss = g.sum(g.mul(y, g.constant(cotangent)));
      const outputs = [y, ...(gradients(loss, [x, w]) as g.Tensor[])];
      const [xs, ws] = [values(shapes.x, 1), values(shapes.w, 2)];
      const expected = convolution(xs, ws, up, size, stride);
      const rewritten = adjointWindows(shareCommon(outputs));
      assert.equal(rewritten[1] !== outputs[1], kernel > 1, 'which gradients are rewritten');
      for (const [what, [vy, vx, vw]] of Object.entries({ plain: outputs, rewritten })) {
        const got = await evaluate(
          { y: vy, dx: vx, dw: vw },
          new Map([
            [x, xs],
            [w, ws],
          ]),
        );
        close(got.y as HostTensor<'float32'>, expected.y, `${what} y`);
        close(got.dx as HostTensor<'float32'>, expected.dx, `${what} dx`);
        close(got.dw as HostTensor<'float32'>, expected.dw, `${what} dw`);
      }
    });
  }
});

describe('convolutions with few products', () => {
  const [into, out] = [64, 72];
  for (const size of [
    [7, 7],
    [4, 4],
    [3, 5],
    [9, 6],
  ] as const) {
    it(`${size.join(' x ')}: as by definition, with fewer products, in slices of the batch without an exchange`, async () => {
      const positions = size[0] * size[1];
      const shapes = { x: [2, positions, into], w: [3, 3, into, out] };
      const [x, w] = [g.input('x', ['batch', positions, into]), g.input('w', shapes.w)];
      const { tokens: y } = convolveMap({ tokens: x, size }, w, { stride: 1, padding: 1 });
      const random = createRandom(1);
      const draw = (shape: readonly number[]): HostTensor<'float32'> => {
        const data = new Float32Array(sizeOf(shape));
        random.fillNormal(data);
        return { dtype: 'float32', shape, data };
      };
      const cotangent = draw([1, positions, out]);
      const loss = g.sum(g.mul(y, g.constant(cotangent)));
      const outputs = [y, ...(gradients(loss, [x, w]) as g.Tensor[])];
      const [xs, ws] = [draw(shapes.x), draw(shapes.w)];
      const expected = convolution(xs, ws, (at) => cotangent.data[at % (positions * out)], size, 1);
      const got = await evaluate(
        { y, dx: outputs[1], dw: outputs[2] },
        new Map([
          [x, xs],
          [w, ws],
        ]),
      );
      for (const what of ['y', 'dx', 'dw'] as const) {
        const largest = expected[what].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        const { data } = got[what] as HostTensor<'float32'>;
        assert.equal(data.length, expected[what].length, what);
        const worst = expected[what].reduce((most, value, i) => Math.max(most, Math.abs(data[i] - value)), 0);
        assert.ok(worst < 5e-6 * largest, `${what}: off by ${worst} where the largest value is ${largest}`);
      }
      const batch = new Map([['batch', 64]]);
      const direct = 3 * 2 * 9 * into * out * positions * 64;
      const done = countFlops(outputs, batch);
      assert.ok(done < 0.65 * direct, `${done / direct} of the operations of windows`);
      const { exchanges, placements } = shardGraph(outputs, 'batch');
      assert.deepEqual([exchanges.length, ...placements], [0, 0, 0, 'partial']);
    });
  }
});

describe('values of several phases', () => {
  it('views, copies of tokens and what is made of parameters alone are made again, the rest is handed on', () => {
    const x = g.input('x', ['batch', 6, 8]);
    const weight = g.parameter('w', [8, 8]);
    const hidden = g.exp(g.matmul(x, g.square(weight)));
    const { patches } = windows(hidden, [2, 3], { kernel: 3, stride: 1, padding: 1 });
    const mean = g.mean(g.reshape(hidden, ['batch', 48]), 0);
    const moved = g.add(patches, g.reshape(g.mean(mean), [1, 1, 1]));
    const last = g.add(
      g.matmul(g.reshape(moved, ['batch', 6 * 72]), g.constant(values([6 * 72, 48], 1))),
      g.reshape(hidden, ['batch', 48]),
    );
    const result = g.add(g.sum(last), g.sum(g.square(weight)));
    const { outputs, exchanges } = shardGraph(shareCommon([result]), 'batch');
    const phases = cutPhases(outputs, exchanges);
    assert.equal(phases.length, 2);
    const carried = phases[1].carriedIn.map((t) => t.node.op.name).filter((name) => name !== 'exchange');
    assert.deepEqual(carried, ['exp']);
  });
});

describe('transposes of product inputs', () => {
  const [rows, inner, columns] = [3, 4, 5];
  for (const [ta, tb] of [
    [true, false],
    [false, true],
    [true, true],
  ]) {
    it(`${ta ? 'a^T' : 'a'} ${tb ? 'b^T' : 'b'}: absorbed, with batches, and equal to the sum of products`, async () => {
      const a = g.input('a', ta ? [2, inner, rows] : [2, rows, inner]);
      const b = g.input('b', tb ? [2, columns, inner] : [2, inner, columns]);
      const turn = (x: g.Tensor): g.Tensor => g.transpose(x, [0, 2, 1]);
      const product = g.matmul(ta ? turn(a) : a, tb ? turn(b) : b);
      const [absorbed] = absorbTransposes([product]);
      assert.equal(count([product], 'transpose'), Number(ta) + Number(tb));
      assert.equal(count([absorbed], 'transpose'), 0);
      const [va, vb] = [values(a.shape as number[], 1), values(b.shape as number[], 2)];
      const { y } = await evaluate(
        { y: absorbed },
        new Map([
          [a, va],
          [b, vb],
        ]),
      );
      const expected = new Float64Array(2 * rows * columns);
      for (let n = 0; n < 2; n++)
        for (let i = 0; i < rows; i++)
          for (let j = 0; j < columns; j++)
            for (let k = 0; k < inner; k++) {
              const left = va.data[n * rows * inner + (ta ? k * rows + i : i * inner + k)];
              const right = vb.data[n * inner * columns + (tb ? j * inner + k : k * columns + j)];
              expected[(n * rows + i) * columns + j] += left * right;
            }
      close(y as HostTensor<'float32'>, expected, 'product');
    });
  }

  it('a transpose of other axes stays', () => {
    const product = g.matmul(g.transpose(g.input('a', [3, 2, 4]), [1, 0, 2]), g.input('b', [2, 4, 5]));
    const [same] = absorbTransposes([product]);
    assert.equal(same, product);
  });
});
