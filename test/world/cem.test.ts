import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type CemOptions, crossEntropyMethod, type PlanCosts } from '../../src/world/cem.js';

const base: CemOptions = { horizon: 3, width: 2, samples: 200, elites: 20, iterations: 15, std: [1, 1] };

const noiseOf = (seed: number, { samples, horizon, width }: CemOptions) => {
  const random = createRandom(seed);
  return (iteration: number): Float32Array => {
    const numbers = new Float32Array(samples * horizon * width);
    random.split(`${iteration}`).fillNormal(numbers, 0, 1);
    return numbers;
  };
};

/** Squared distance to a plan. */
const distanceTo =
  (goal: readonly number[]): PlanCosts =>
  async ({ shape: [plans], data }) =>
    Array.from({ length: plans }, (_, p) =>
      goal.reduce((sum, value, i) => sum + (data[p * goal.length + i] - value) ** 2, 0),
    );

test('finds the plan of least cost', async () => {
  const goal = [0.5, -1, 0.25, 0.75, -0.5, 1.5];
  const { mean, std } = await crossEntropyMethod(distanceTo(goal), base, noiseOf(3, base));
  goal.forEach((value, i) => {
    assert.ok(Math.abs(mean[i] - value) < 0.02, `${i}: ${mean[i]}`);
  });
  assert.ok(std.every((s) => s < 0.05));
});

test('one iteration is the mean and the unbiased deviation of the best plans', async () => {
  const options: CemOptions = {
    horizon: 1,
    width: 1,
    samples: 5,
    elites: 3,
    iterations: 1,
    std: [2],
    keepMean: [0.25],
  };
  const drawn = [1, -1, 3, 0.5, -2]; // plans 2, -2, 6, 1, -4
  const seen: number[][] = [];
  const { mean, std } = await crossEntropyMethod(
    distanceTo([0]),
    { ...options, mean: [0] },
    () => drawn,
    (it) => {
      seen.push([...it.elites]);
    },
  );
  assert.deepEqual(seen, [[3, 0, 1]]); // 1, 2, -2
  const middle = (1 + 2 - 2) / 3;
  assert.ok(Math.abs(mean[0] - 0.75 * middle) < 1e-12);
  const squares = [1, 2, -2].reduce((sum, v) => sum + (v - middle) ** 2, 0);
  assert.ok(Math.abs(std[0] - Math.sqrt(squares / 2)) < 1e-12);
});

test('limits are what is tried and what is kept', async () => {
  const options: CemOptions = {
    ...base,
    limit: (action, step) => {
      action[0] = Math.min(0.1, Math.max(-0.1, action[0]));
      if (step === 2) action[1] = 7;
    },
  };
  const { mean } = await crossEntropyMethod(
    distanceTo([5, 0, 5, 0, 5, 0]),
    options,
    noiseOf(4, options),
    ({ plans }) => {
      for (let i = 0; i < plans.data.length; i += 2) assert.ok(Math.abs(plans.data[i]) <= Math.fround(0.1));
    },
  );
  assert.ok(Math.abs(mean[0] - 0.1) < 1e-3);
  assert.equal(mean[5], 7);
});

test('plans whose cost is not a number are never kept; without any other there is an error', async () => {
  const spoiled: PlanCosts = async (plans) =>
    Array.from(await distanceTo([0, 0, 0, 0, 0, 0])(plans), (cost, i) => (i % 2 === 0 ? Number.NaN : cost));
  await crossEntropyMethod(spoiled, { ...base, iterations: 1 }, noiseOf(1, base), ({ elites }) => {
    assert.ok(elites.every((plan) => plan % 2 === 1));
  });
  const all: PlanCosts = async ({ shape }) => Array(shape[0]).fill(Number.NaN);
  await assert.rejects(crossEntropyMethod(all, base, noiseOf(1, base)), /no plan of iteration 1 has a finite cost/);
});

test('settings that cannot work are refused', async () => {
  const run = (own: Partial<CemOptions>) => crossEntropyMethod(distanceTo([0]), { ...base, ...own }, noiseOf(1, base));
  await assert.rejects(run({ elites: 1 }), /1 elites of 200 samples/);
  await assert.rejects(run({ elites: 201 }), /201 elites/);
  await assert.rejects(run({ std: [1] }), /1 deviations do not fit plans of 3 x 2/);
});
