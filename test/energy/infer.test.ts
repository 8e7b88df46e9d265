import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cholesky, choleskySolve, eigvalsh, matrix, multiply, transpose } from '../../src/base/linalg.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import {
  bestCode,
  type Descent,
  type DescentMethod,
  descend,
  inferLatent,
  inferTarget,
  shrink,
} from '../../src/energy/infer.js';
import { gradients } from '../../src/graph/autodiff.js';
import { add, mul, square, sub } from '../../src/graph/ops/elementwise.js';
import { linear } from '../../src/graph/ops/product.js';
import { mean, sum } from '../../src/graph/ops/reduce.js';
import { constant, input, type Tensor } from '../../src/graph/tensor.js';
import { mlpForward, mlpSpec } from '../../src/nn/mlp.js';
import { makeModule } from '../../src/nn/weights.js';
import { createFit } from '../../src/optim/fit.js';
import { createEngine } from '../../src/runtime/engine.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { assertNear, normals } from './numeric.js';

type Floats = HostTensor<'float32'>;

/** 1/2 |y - W z|^2 for rows y [..., m], z [..., d] and W [m, d]. */
const misfit = (weight: Floats) => (y: Tensor, z: Tensor) =>
  mul(sum(square(sub(y, linear(z, constant(weight)))), -1), 0.5);

/** argmin_z 1/2 |y - W z|^2 + ridge/2 |z|^2 in double, and that least energy, for each row of y. */
function ridgeSolution(weight: Floats, y: Floats, ridge: number): { z: Float64Array; energy: number[] } {
  const [m, d] = weight.shape;
  const rows = y.shape[0];
  const w = matrix(m, d, weight.data);
  const normal = multiply(w, w, true);
  for (let i = 0; i < d; i++) normal.data[i * d + i] += ridge;
  const right = multiply(w, transpose(matrix(rows, m, y.data)), true); // [d, rows]
  const solution = choleskySolve(cholesky(normal), right).data;
  const z = Float64Array.from({ length: rows * d }, (_, i) => solution[(i % d) * rows + Math.floor(i / d)]);
  const energy = Array.from({ length: rows }, (_, r) => {
    let total = 0;
    for (let i = 0; i < m; i++) {
      let predicted = 0;
      for (let k = 0; k < d; k++) predicted += weight.data[i * d + k] * z[r * d + k];
      total += 0.5 * (y.data[r * m + i] - predicted) ** 2;
    }
    for (let k = 0; k < d; k++) total += 0.5 * ridge * z[r * d + k] ** 2;
    return total;
  });
  return { z, energy };
}

/** Runs a search that was unrolled for a few steps again and again, each time from where it stood. */
async function looped(found: Descent, start: Floats, times: number, feeds: Record<string, Floats> = {}) {
  const engine = await createEngine({ workers: 1 });
  try {
    const program = await engine.compile(
      { name: 'search', outputs: { v: found.value, e: found.energy, trace: found.trace } },
      await engine.createState([]),
    );
    let at = start;
    for (let i = 1; ; i++) {
      const { outputs } = await program.run({ ...feeds, start: at });
      if (i === times) return outputs as Record<string, Floats>;
      at = outputs.v as Floats;
    }
  } finally {
    await engine.close();
  }
}

const W = normals(11, [6, 3]);
const Y = normals(12, [5, 6]);

test('descent finds the latent of a quadratic energy, by every method', async () => {
  const y = input('y', ['batch', 6]);
  const start = input('start', ['batch', 3]);
  const expected = ridgeSolution(W, Y, 0.1);
  const energy = (_: Tensor, target: Tensor, z: Tensor): Tensor =>
    add(misfit(W)(target, z), mul(sum(square(z), -1), 0.05));
  for (const [method, steps, rate, times] of [
    [{ kind: 'gradient' }, 20, 0.08, 10],
    [{ kind: 'line-search', halvings: 4 }, 4, 0.5, 15],
    [{ kind: 'adam' }, 20, 0.02, 20],
  ] as [DescentMethod, number, number, number][]) {
    const found = inferLatent(energy, y, y, start, { steps, rate, method });
    const got = await looped(found, float32([5, 3], new Float32Array(15)), times, { y: Y });
    assertNear(got.e.data, expected.energy, 1e-3, 1e-4, `energy by ${method.kind}`);
    assertNear(got.v.data, expected.z, 2e-2, 1e-2, `latent by ${method.kind}`);
    assert.deepEqual(got.trace.shape, [steps + 1, 5]);
    const trace = got.trace.data;
    if (method.kind === 'line-search')
      for (let i = 5; i < trace.length; i++) assert.ok(trace[i] <= trace[i - 5], 'the energy never rises');
  }
});

test('the slope of F is the slope of E at the latent found, with and without gradients through the search', async () => {
  const y = input('y', [5, 6]);
  const energy = (_: Tensor, target: Tensor, z: Tensor): Tensor =>
    add(misfit(W)(target, z), mul(sum(square(z), -1), 0.05));
  const { z } = ridgeSolution(W, Y, 0.1);
  // By Danskin's theorem: dF/dy = y - W z*.
  const expected = Float64Array.from({ length: 30 }, (_, i) => {
    const [r, m] = [Math.floor(i / 6), i % 6];
    return Y.data[i] - [0, 1, 2].reduce((a, k) => a + W.data[m * 3 + k] * z[r * 3 + k], 0);
  });
  for (const differentiable of [false, true]) {
    const found = inferLatent(energy, y, y, constant(float32([5, 3], Float32Array.from(z))), {
      steps: 30,
      rate: 0.08,
      differentiable,
    });
    const slope = gradients(sum(found.energy), [y])[0] as Tensor;
    assertNear((await evaluate({ slope }, new Map([[y, Y]]))).slope.data as Float32Array, expected, 1e-3, 3e-3);
  }
});

test('prediction by inference: argmin over y of F(x, y), where F itself is a minimum over z', async () => {
  // E = |y - x - z u|^2 + z^2 has F(x, y) = |y - x|^2 - ((y - x) u)^2 / (1 + |u|^2), least at y = x.
  const x = normals(13, [4, 2]);
  const u = constant(float32([2, 1], [1, 0.5]));
  const free = (a: Tensor, b: Tensor): Tensor =>
    inferLatent(
      (p, q, z) => add(sum(square(sub(sub(q, p), linear(z, u))), -1), sum(square(z), -1)),
      a,
      b,
      constant(float32([4, 1], [0, 0, 0, 0])),
      { steps: 4, rate: 0.22 },
    ).energy;
  const a = input('x', [4, 2]);
  const found = inferTarget(free, a, input('start', [4, 2]), { steps: 4, rate: 0.3 });
  const got = await looped(found, normals(14, [4, 2]), 12, { x });
  assertNear(got.v.data, x.data, 0, 1e-3);
  assertNear(got.e.data, [0, 0, 0, 0], 0, 1e-5);
});

test('Langevin steps sample exp(-beta E)', async () => {
  const [steps, chains, beta] = [40, 4000, 4];
  const found = descend((v) => mul(sum(square(v), -1), 0.5), constant(float32([chains, 1], new Float32Array(chains))), {
    steps,
    rate: 0.1,
    method: { kind: 'langevin', beta, noise: constant(normals(15, [steps, chains, 1])) },
  });
  const data = (await evaluate({ v: found.value }, new Map())).v.data as Float32Array;
  const variance = data.reduce((a, b) => a + b * b, 0) / chains;
  // A step of eta on curvature a settles at 1 / (beta a (1 - eta a / 2)).
  const expected = 1 / (beta * (1 - 0.05));
  assert.ok(Math.abs(variance / expected - 1) < 0.08, `variance ${variance}, expected ${expected}`);
});

test('what cannot be searched is refused', () => {
  const v = input('v', ['batch', 2]);
  assert.throws(() => descend((t) => sum(square(t)), v, { steps: 1, rate: 1 }), /one number for each row/);
  assert.throws(
    () => descend(() => sum(square(v), -1), input('w', ['batch', 2]), { steps: 1, rate: 1 }),
    /does not depend/,
  );
  assert.throws(() => descend((t) => sum(t, -1), v, { steps: 1.5, rate: 1 }), /steps and a positive rate/);
});

test('an amortised latent, refined by five steps, is within 5 % of the best energy (E7)', async () => {
  const weight = normals(21, [8, 4], 0, 0.6);
  const module = makeModule('encoder.', mlpSpec([8, 24, 4]));
  const y = input('y', ['batch', 8]);
  const energy = (_: Tensor, target: Tensor, z: Tensor): Tensor =>
    add(misfit(weight)(target, z), mul(sum(square(z), -1), 0.05));
  const z = mlpForward(y, module.weights, 2);
  const engine = await createEngine({ workers: 1 });
  try {
    const fit = await createFit(engine, {
      name: 'amortised',
      modules: [module],
      loss: mean(energy(y, y, z)),
      seed: 1,
      lr: 1e-2,
    });
    for (let step = 0; step < 200; step++) await fit.step({ y: normals(1000 + step, [64, 8]) });
    const refined = inferLatent(energy, y, y, z, { steps: 5, rate: 0.5, method: { kind: 'line-search', halvings: 3 } });
    const program = await fit.program('use', { guess: energy(y, y, z), refined: refined.energy });
    const fresh = normals(5000, [200, 8]);
    const { guess, refined: after } = (await program.run({ y: fresh })).outputs;
    const best = ridgeSolution(weight, fresh, 0.1).energy;
    const gap = (values: ArrayLike<number>): number =>
      Array.from(values).reduce((a, b) => a + b, 0) / best.reduce((a, b) => a + b, 0) - 1;
    assert.ok(gap(after.data as Float32Array) < 0.05, `gap ${gap(after.data as Float32Array)}`);
    assert.ok(gap(after.data as Float32Array) >= -1e-5, 'nothing is better than the best');
    assert.ok(gap(after.data as Float32Array) < gap(guess.data as Float32Array));
    await fit.close();
  } finally {
    await engine.close();
  }
});

test('K codes make K wells (E8)', async () => {
  const codes = float32([3, 2], [1, 0, -1, 0.5, 0, -1.2]);
  const starts = normals(31, [60, 2], 0, 1.5);
  const f = (y: Tensor): Tensor =>
    bestCode((_, target, z) => sum(square(sub(target, z)), -1), y, y, constant(codes)).energy;
  const found = descend(f, constant(starts), { steps: 12, rate: 0.4 });
  const got = await evaluate({ y: found.value, e: found.energy }, new Map());
  assert.ok((got.e.data as Float32Array).every((e) => e < 1e-8));
  const wells = new Set(
    Array.from({ length: 60 }, (_, i) => [0, 1].map((k) => Math.round(Number(got.y.data[2 * i + k]) * 100)).join()),
  );
  assert.deepEqual([...wells].sort(), ['-100,50', '0,-120', '100,0']);
});

test('d latent dimensions leave a flat set of dimension d, in five dimensions (E8)', async () => {
  for (const d of [1, 2, 3]) {
    // Columns of the unit matrix, turned a little into each other.
    const weight = float32(
      [5, d],
      Array.from({ length: 5 * d }, (_, i) => (Math.floor(i / d) === i % d ? 1 : 0.1)),
    );
    const y = input('y', [1, 5]);
    const f = inferLatent((_, t, z) => misfit(weight)(t, z), y, y, constant(float32([1, d], new Float32Array(d))), {
      steps: 30,
      rate: 0.6,
    });
    const slope = gradients(sum(f.energy), [y])[0] as Tensor;
    // F is quadratic: its slope at the unit vectors is its curvature.
    const curvature = matrix(5, 5);
    for (let i = 0; i < 5; i++) {
      const unit = new Float32Array(5);
      unit[i] = 1;
      curvature.data.set(
        (await evaluate({ slope }, new Map([[y, float32([1, 5], unit)]]))).slope.data as Float32Array,
        5 * i,
      );
    }
    const symmetric = matrix(5, 5, curvature.data.map((v, i) => (v + curvature.data[(i % 5) * 5 + Math.floor(i / 5)]) / 2)); // biome-ignore format: one matrix
    const values = [...eigvalsh(symmetric)].sort((a, b) => a - b);
    assert.equal(values.filter((v) => Math.abs(v) < 0.02).length, d, `eigenvalues ${values}`);
    assert.equal(values.filter((v) => Math.abs(v - 1) < 0.02).length, 5 - d);
  }
});

test('sparse latents use fewer coefficients as alpha grows, and are those of coordinate descent (E8)', async () => {
  const weight = normals(51, [8, 12], 0, 0.35);
  const target = normals(52, [16, 8]);
  const active: number[] = [];
  for (const alpha of [0.02, 0.1, 0.3, 0.8]) {
    const y = constant(target);
    const found = inferLatent((_, t, z) => misfit(weight)(t, z), y, y, input('start', [16, 12]), {
      steps: 20,
      rate: 0.15,
      method: { kind: 'proximal', alpha },
    });
    const z = (await looped(found, float32([16, 12], new Float32Array(192)), 40)).v.data;
    active.push(z.filter((v) => v !== 0).length / 16);
    if (alpha === 0.3) assertNear(z, lasso(weight, target, alpha), 0, 5e-3);
  }
  for (let i = 1; i < active.length; i++) assert.ok(active[i] < active[i - 1], `${active}`);
  const shrunk = await evaluate({ v: shrink(constant(float32([4], [2, -0.3, 0.3, -2])), 0.5) }, new Map());
  assert.deepEqual([...(shrunk.v.data as Float32Array)].map(Math.abs), [1.5, 0, 0, 1.5]);
});

/** The lasso by coordinate descent in double: an independent solution. */
function lasso(weight: Floats, y: Floats, alpha: number): Float64Array {
  const [m, d] = weight.shape;
  const out = new Float64Array(y.shape[0] * d);
  for (let r = 0; r < y.shape[0]; r++) {
    const z = out.subarray(r * d, (r + 1) * d);
    const rest = Float64Array.from(y.data.subarray(r * m, (r + 1) * m));
    for (let sweep = 0; sweep < 3000; sweep++) {
      for (let k = 0; k < d; k++) {
        let [rho, norm] = [0, 0];
        for (let i = 0; i < m; i++) {
          const w = weight.data[i * d + k];
          rho += w * (rest[i] + w * z[k]);
          norm += w * w;
        }
        const next = (Math.sign(rho) * Math.max(0, Math.abs(rho) - alpha)) / norm;
        for (let i = 0; i < m; i++) rest[i] += weight.data[i * d + k] * (z[k] - next);
        z[k] = next;
      }
    }
  }
  return out;
}
