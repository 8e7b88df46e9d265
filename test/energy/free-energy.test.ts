import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import {
  codeEntropy,
  freeEnergy,
  gibbs,
  quadraticFreeEnergy,
  relaxedMinimum,
  softMinimum,
  variationalFreeEnergy,
} from '../../src/energy/free-energy.js';
import { latentInformation, noisyLatent, samplePrior, sparsity } from '../../src/energy/latent.js';
import { sum } from '../../src/graph/ops/reduce.js';
import { assertGradient, assertNear, normals, numberOf, valueAndGradients } from './numeric.js';

const BETAS = [0.1, 1, 10, 100];

test('the free energy of a quadratic is its closed form (E1)', () => {
  for (const beta of BETAS) {
    for (const [a, m, c] of [
      [1, 0, 0],
      [3.7, -0.4, 2.1],
      [0.2, 1.3, -5],
    ]) {
      // The trapezoid rule on a smooth bell is exact to rounding once it spans 12 deviations.
      const reach = 12 / Math.sqrt(a * beta);
      const step = reach / 400;
      const energies = Array.from({ length: 801 }, (_, i) => 0.5 * a * (-reach + i * step) ** 2 + c);
      const expected = c - Math.log((2 * Math.PI) / (beta * a)) / (2 * beta);
      assert.ok(Math.abs(freeEnergy(energies, beta, step) - expected) < 1e-9, `beta ${beta}, m ${m}`);
      assert.ok(Math.abs(quadraticFreeEnergy([a], c, beta) - expected) < 1e-12);
    }
  }
});

test('the free energy of a linear Gaussian model is minus the log density of its marginal (E1)', () => {
  // y = W z + noise: y is normal with covariance W W' + s^2, here by hand for two dimensions and one latent.
  const [w, s2, y] = [[0.8, -1.7], 0.3, [0.4, 1.1]];
  const covariance = [w[0] ** 2 + s2, w[0] * w[1], w[1] ** 2 + s2];
  const det = covariance[0] * covariance[2] - covariance[1] ** 2;
  const quadratic = (y[0] ** 2 * covariance[2] - 2 * y[0] * y[1] * covariance[1] + y[1] ** 2 * covariance[0]) / det;
  const surprise = 0.5 * (quadratic + Math.log(det)) + Math.log(2 * Math.PI);
  // E = -log p(y, z) is quadratic in z with curvature A and least value E*.
  const curvature = (w[0] ** 2 + w[1] ** 2) / s2 + 1;
  const best = (w[0] * y[0] + w[1] * y[1]) / s2 / curvature;
  const joint = (z: number): number =>
    ((y[0] - w[0] * z) ** 2 + (y[1] - w[1] * z) ** 2) / (2 * s2) +
    Math.log(2 * Math.PI * s2) +
    z * z * 0.5 +
    0.5 * Math.log(2 * Math.PI);
  assert.ok(Math.abs(quadraticFreeEnergy([curvature], joint(best), 1) - surprise) < 1e-12);
});

test('a mixture keeps its bounds at every temperature, and the minimum at none (E1)', () => {
  const random = createRandom(1);
  for (let trial = 0; trial < 50; trial++) {
    const energies = Array.from({ length: 7 }, () => 3 * random.normal());
    const least = Math.min(...energies);
    for (const beta of BETAS) {
      const [sum, mean] = [freeEnergy(energies, beta), freeEnergy(energies, beta, 'mean')];
      const slack = Math.log(7) / beta;
      assert.ok(sum <= least + 1e-12 && sum >= least - slack - 1e-12);
      assert.ok(mean >= least - 1e-12 && mean <= least + slack + 1e-12);
      assert.ok(Math.abs(mean - sum - slack) < 1e-9);
      const direct = -Math.log(energies.map((e) => Math.exp(-beta * (e - least))).reduce((a, b) => a + b, 0)) / beta;
      assert.ok(Math.abs(sum - least - direct) < 1e-9);
    }
    assert.equal(freeEnergy(energies, Number.POSITIVE_INFINITY), least);
    assert.ok(Math.abs(freeEnergy(energies, 1e6) - least) < 1e-5);
  }
});

test('no distribution of the latent goes below the free energy, and Gibbs reaches it (E2)', () => {
  const random = createRandom(2);
  for (let trial = 0; trial < 1000; trial++) {
    const beta = BETAS[trial % 4];
    const energies = Array.from({ length: 5 }, () => 2 * random.normal());
    const raw = energies.map(() => -Math.log(1 - random.uniform()));
    const total = raw.reduce((a, b) => a + b, 0);
    const free = freeEnergy(energies, beta);
    assert.ok(variationalFreeEnergy(energies, raw.map((r) => r / total), beta) >= free - 1e-12); // biome-ignore format: one claim
    assert.ok(Math.abs(variationalFreeEnergy(energies, gibbs(energies, beta), beta) - free) < 1e-9);
  }
});

test('what cannot be is refused with one line', () => {
  assert.throws(() => freeEnergy([1], 0), /beta is 0/);
  assert.throws(() => freeEnergy([], 1), /no energies/);
  assert.throws(() => variationalFreeEnergy([1, 2], [1], 1), /1 probabilities for 2 energies/);
  assert.throws(() => quadraticFreeEnergy([1, 2], 0, 1), /not square/);
});

test('graphs compute the same free energies, with the Gibbs distribution as gradient', async () => {
  const e = normals(3, [4, 6], 0, 2);
  for (const beta of [...BETAS, Number.POSITIVE_INFINITY]) {
    const rows = Array.from({ length: 4 }, (_, i) => e.data.subarray(6 * i, 6 * i + 6));
    for (const measure of ['sum', 'mean'] as const) {
      const { value } = await valueAndGradients((x) => softMinimum(x, beta, measure), e);
      assertNear(value, rows.map((row) => freeEnergy(row, beta, measure)), 1e-5, 1e-5); // biome-ignore format: one claim
    }
    for (const f of [softMinimum, relaxedMinimum]) {
      const { grads } = await valueAndGradients((x) => sum(f(x, beta)), e);
      assertNear(
        grads[0],
        rows.flatMap((row) => [...gibbs(row, beta)]),
        1e-4,
        1e-5,
      );
    }
  }
  await assertGradient((x) => sum(softMinimum(x, 2)), [e]);
  const uniform = float32([3, 4], new Float32Array(12).fill(0.25));
  assertNear([await numberOf(codeEntropy, uniform)], [Math.log(4)], 1e-5);
});

test('the information of a noisy latent is its divergence, and priors have the shape of their regulariser', async () => {
  const { value } = await valueAndGradients(latentInformation, float32([1, 2], [1, -0.5]), float32([1, 2], [0, 1]));
  assertNear(value, [0.5 * (1 + 1 - 1 - 0 + (Math.E + 0.25 - 1 - 1))], 1e-6);
  const z = await valueAndGradients(noisyLatent, float32([1], [1]), float32([1], [Math.log(4)]), float32([1], [3]));
  assertNear(z.value, [7], 1e-6);
  assertNear((await valueAndGradients((t) => sparsity(t, 0.5), float32([1, 2], [1, -3]))).value, [2], 1e-6);

  const random = createRandom(4);
  const laplace = samplePrior({ kind: 'sparse', alpha: 2, width: 1 }, 20000, random, 3).data;
  const mean = laplace.reduce((a, b) => a + Math.abs(b), 0) / laplace.length;
  assert.ok(Math.abs(mean - 1 / 6) < 0.005, `mean size of a Laplace number of rate 6: ${mean}`);
  const normal = samplePrior({ kind: 'normal', width: 2 }, 10000, random, 4).data;
  const variance = normal.reduce((a, b) => a + b * b, 0) / normal.length;
  assert.ok(Math.abs(variance - 0.25) < 0.01, `variance ${variance}`);
  const codes = samplePrior({ kind: 'codes', codes: float32([2, 1], [-1, 1]) }, 1000, random).data;
  assert.ok(codes.every((c) => Math.abs(c) === 1) && Math.abs(codes.reduce((a, b) => a + b, 0)) < 150);
});
