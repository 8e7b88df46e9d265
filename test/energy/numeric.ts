import assert from 'node:assert/strict';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import { mul } from '../../src/graph/ops/elementwise.js';
import { sum } from '../../src/graph/ops/reduce.js';
import { constant, input, type Tensor } from '../../src/graph/tensor.js';
import { evaluate } from '../../src/runtime/evaluate.js';

export type Floats = HostTensor<'float32'>;
export type Loss = (...inputs: Tensor[]) => Tensor;

export function normals(seed: number, shape: readonly number[], mean = 0, std = 1): Floats {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  createRandom(seed).fillNormal(data, mean, std);
  return float32(shape, data);
}

/** Values and, for a scalar, gradients with respect to every input. */
export async function valueAndGradients(
  loss: Loss,
  ...values: Floats[]
): Promise<{ value: number[]; grads: number[][] }> {
  const inputs = values.map(({ shape }, i) => input(`x${i}`, shape));
  const value = loss(...inputs);
  const grads = value.shape.length === 0 ? gradients(value, inputs) : [];
  const outputs = Object.fromEntries([value, ...grads].flatMap((t, i) => (t ? [[`y${i}`, t]] : [])));
  const got = await evaluate(outputs, new Map(inputs.map((t, i) => [t, values[i]])));
  return {
    value: [...(got.y0.data as Float32Array)],
    grads: grads.map((t, i) => (t ? [...(got[`y${i + 1}`].data as Float32Array)] : [])),
  };
}

export const numberOf = async (loss: Loss, ...values: Floats[]): Promise<number> =>
  (await valueAndGradients(loss, ...values)).value[0];

export function assertNear(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  rtol: number,
  atol = 0,
  what = '',
): void {
  assert.equal(got.length, expected.length, what);
  for (let i = 0; i < expected.length; i++) {
    const bound = atol + rtol * Math.abs(expected[i]);
    assert.ok(Math.abs(got[i] - expected[i]) <= bound, `${what}[${i}]: ${got[i]} instead of ${expected[i]}`);
  }
}

/** The gradient along a random direction against central differences of the value. */
export async function assertGradient(loss: Loss, values: Floats[], tolerance = 2e-3): Promise<void> {
  const step = 1e-2;
  const directions = values.map(({ shape }, i) => normals(900 + i, shape));
  const moved = (sign: number): Floats[] =>
    values.map(({ shape, data }, i) =>
      float32(
        shape,
        data.map((v, k) => v + sign * step * directions[i].data[k]),
      ),
    );
  const { value, grads } = await valueAndGradients(loss, ...values);
  const numeric = ((await numberOf(loss, ...moved(1))) - (await numberOf(loss, ...moved(-1)))) / (2 * step);
  const analytic = grads.flatMap((g, i) => g.map((v, k) => v * directions[i].data[k])).reduce((a, b) => a + b, 0);
  const scale = Math.max(Math.abs(numeric), Math.abs(value[0]), 1e-2);
  assert.ok(Math.abs(numeric - analytic) <= tolerance * scale, `gradient ${analytic}, differences ${numeric}`);
}

/** The gradient's own gradient: that of <gradient, v> for a fixed v. */
export const alongGradient =
  (loss: Loss, v: Floats): Loss =>
  (x, ...others) => {
    const [grad] = gradients(loss(x, ...others), [x]);
    assert.ok(grad);
    return sum(mul(grad, constant(v)));
  };

/** The generic features A and B of the published tables: 8 rows, 4 columns. */
export function tableFeatures(): { a: Floats; b: Floats } {
  const fill = (f: (i: number, j: number) => number): Floats =>
    float32(
      [8, 4],
      Array.from({ length: 32 }, (_, k) => f(Math.floor(k / 4), k % 4)),
    );
  return {
    a: fill((i, j) => Math.sin(0.7 * i + 1.3 * j + 0.1) + 0.05 * i),
    b: fill((i, j) => Math.sin(0.7 * i + 1.3 * j + 0.4) + 0.05 * i - 0.03 * j),
  };
}
