import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { add, mul } from '../../src/graph/ops/elementwise.js';
import { createEngine, type Engine, type State } from '../../src/runtime/index.js';
import { crossEntropyMethod } from '../../src/world/cem.js';
import { beamSearch, treeSearch } from '../../src/world/planning/discrete.js';
import {
  controlPenalty,
  goalDistances,
  overTime,
  pathsBySteps,
  weightedSum,
} from '../../src/world/planning/objectives.js';
import {
  openPlanner,
  openPlanScores,
  type PlanningModel,
  type SamplingOptions,
  shifted,
} from '../../src/world/planning/planner.js';
import { boxLimit } from '../../src/world/planning/sampling.js';

/** A point that moves by its actions: the best plan for the last state and effort is known in closed form. */
const EFFORT = 0.01;
const point: PlanningModel = {
  width: 2,
  actions: 2,
  futures: [pathsBySteps((state, action) => add(state, action))],
  cost: (path, goal, plans) =>
    weightedSum([
      [2, overTime(goalDistances(path, goal, 3), 2, 'last')],
      [EFFORT, controlPenalty(plans)],
    ]),
};
const horizon = 4;
/** Every action is the same share of the way: minimise |h a - d|^2 + e h |a|^2. */
const bestAction = (distance: number, repeat = 1): number => (repeat * distance) / (repeat * repeat * horizon + EFFORT);

let engine: Engine;
let state: State;
before(async () => {
  engine = await createEngine();
  state = await engine.createState([]);
});
after(() => engine.close());

const base: SamplingOptions = {
  method: 'cem',
  horizon,
  samples: 128,
  elites: 12,
  iterations: 24,
  iterationsPerRun: 4,
  std: 1,
};
const cases: Record<string, SamplingOptions> = {
  cem: base,
  icem: { ...base, method: 'icem', meanFirst: true, keptElites: 3, keep: 0.1, beta: 0.5 },
  mppi: { ...base, method: 'mppi', temperature: 1, elites: 24 },
};

for (const [name, options] of Object.entries(cases)) {
  test(`${name} finds the best plans of several environments at once`, async () => {
    const planner = await openPlanner(engine, state, point, options);
    assert.equal(planner.executions, 6);
    const goals = [1, -2, 0.5, 0.25, -1, 1.5];
    const { plans, costs } = await planner.plan({
      states: float32([3, 2], new Float32Array(6)),
      goals: float32([3, 2], goals),
      random: createRandom(3),
    });
    await planner.close();
    assert.deepEqual(plans.shape, [3, horizon, 2]);
    for (let env = 0; env < 3; env++) {
      for (let axis = 0; axis < 2; axis++) {
        const moves = Array.from({ length: horizon }, (_, t) => plans.data[(env * horizon + t) * 2 + axis]);
        const way = moves.reduce((a, b) => a + b);
        assert.ok(
          Math.abs(way - horizon * bestAction(goals[2 * env + axis])) < 0.05,
          `${way} for ${goals[2 * env + axis]}`,
        );
      }
      assert.ok(costs[env] < 0.03);
    }
  });
}

test('limits, repeated actions and warm starts', async () => {
  const limited = await openPlanner(engine, state, point, { ...base, limit: boxLimit(-0.1, 0.1) });
  const query = { states: float32([1, 2], [0, 0]), goals: float32([1, 2], [5, -5]), random: createRandom(1) };
  const { best } = await limited.plan(query);
  await limited.close();
  const most = Math.max(...best.data.map(Math.abs));
  assert.ok(most <= Math.fround(0.1));
  assert.ok(Math.abs(best.data[0] - 0.1) < 0.02 && Math.abs(best.data[1] + 0.1) < 0.02);

  const held = await openPlanner(engine, state, point, { ...base, repeat: 3 });
  const { plans } = await held.plan({ ...query, goals: float32([1, 2], [3, 0]) });
  await held.close();
  const way = [0, 1, 2, 3].reduce((sum, t) => sum + plans.data[2 * t], 0);
  assert.ok(Math.abs(way - horizon * bestAction(3, 3)) < 0.05, `${way}`);

  const rest = shifted(float32([1, 3, 2], [1, 2, 3, 4, 5, 6]), 1);
  assert.deepEqual([...rest.data], [3, 4, 5, 6, 0, 0]);
  // One iteration about a good start stays there; from zero it cannot get so far.
  const short = await openPlanner(engine, state, point, {
    ...base,
    iterations: 1,
    iterationsPerRun: 1,
    std: 0.01,
    meanFirst: true,
  });
  const start = float32(
    [1, horizon, 2],
    [0, 1, 2, 3].flatMap(() => [bestAction(5), bestAction(-5)]),
  );
  const warm = await short.plan({ ...query, start });
  const cold = await short.plan(query);
  await short.close();
  assert.ok(warm.costs[0] < 0.2 && cold.costs[0] > 40);
  await assert.rejects(openPlanner(engine, state, point, { ...base, elites: 1 }), /1 elites of 128 samples/);
});

test('a descent in parts ends where one that is whole ends', async () => {
  const options: SamplingOptions = { ...base, method: 'gradient', samples: 3, elites: 1, iterations: 12, lr: 0.05 };
  const [whole, parts] = await Promise.all(
    [12, 4].map(async (iterationsPerRun) => {
      const planner = await openPlanner(engine, state, point, {
        ...options,
        iterationsPerRun,
        limit: boxLimit(-0.3, 0.3),
      });
      const goals = float32([2, 2], [1, -1, 0.5, 2]);
      const answer = await planner.plan({ states: float32([2, 2], [0, 0, 0, 0]), goals, random: createRandom(5) });
      await planner.close();
      return { ...answer, executions: planner.executions };
    }),
  );
  assert.deepEqual([whole.executions, parts.executions], [1, 3]);
  for (const [i, value] of whole.plans.data.entries()) assert.ok(Math.abs(value - parts.plans.data[i]) < 1e-5);
  assert.ok(whole.plans.data.some((value) => Math.abs(value) > 0.1));
});

test('where the future is open a plan costs the mean over all futures', async () => {
  // In one future the point moves as it is told, in the other three times as far: (s - d)^2 + (3 s - d)^2 is least at s = 0.4 d.
  const open: PlanningModel = {
    ...point,
    futures: [...point.futures, pathsBySteps((at, action) => add(at, mul(action, 3)))],
  };
  for (const method of ['cem', 'gradient'] as const) {
    const options: SamplingOptions =
      method === 'cem' ? base : { ...base, method, iterations: 60, lr: 0.05, iterationsPerRun: 12 };
    const planner = await openPlanner(engine, state, open, options);
    const { plans } = await planner.plan({
      states: float32([1, 2], [0, 0]),
      goals: float32([1, 2], [2, -1]),
      random: createRandom(2),
    });
    await planner.close();
    for (const [axis, distance] of [2, -1].entries()) {
      const way = [0, 1, 2, 3].reduce((sum, t) => sum + plans.data[2 * t + axis], 0);
      assert.ok(Math.abs(way - 0.4 * distance) < 0.05, `${method}: ${way}`);
    }
  }
});

test('costs of plans for planners on the host, shared by the threads', async () => {
  const scores = await openPlanScores(engine, state, point, horizon);
  const goal = float32([2], [1, -1]);
  const random = createRandom(7);
  const { mean } = await crossEntropyMethod(
    (plans) => scores.costs(float32([2], [0, 0]), goal, plans),
    { horizon, width: 2, samples: 128, elites: 12, iterations: 24, std: [1, 1] },
    () => {
      const noise = new Float32Array(128 * horizon * 2);
      random.fillNormal(noise, 0, 1);
      return noise;
    },
  );
  await scores.close();
  assert.ok(Math.abs(mean[0] + mean[2] + mean[4] + mean[6] - horizon * bestAction(1)) < 0.05);
});

/** Cost of a sequence: how far the sum of signed powers is from a target; enumerated for the truth. */
const target = 37;
const weights = [1, -2, 5, 9];
const lengthCost = (sequence: ArrayLike<number>): number =>
  Math.abs(Array.from(sequence).reduce((sum, choice, t) => sum + weights[choice] * (t + 1), 0) - target);

function* sequences(length: number): Generator<number[]> {
  for (let code = 0; code < weights.length ** length; code++)
    yield Array.from({ length }, (_, t) => Math.floor(code / weights.length ** t) % weights.length);
}

test('beam search with a full beam is exhaustive, and a narrow one comes close', async () => {
  const truth = Math.min(...[...sequences(4)].map(lengthCost));
  const costs = async (flat: Int32Array, count: number, length: number) =>
    Array.from({ length: count }, (_, i) => lengthCost(flat.subarray(i * length, (i + 1) * length)));
  const full = await beamSearch(costs, { choices: 4, horizon: 4, width: 256 });
  assert.equal(full.cost, truth);
  assert.equal(lengthCost(full.sequence), truth);
  const narrow = await beamSearch(costs, { choices: 4, horizon: 4, width: 8 });
  assert.ok(narrow.cost <= truth + 3);
});

test('tree search finds the cheapest state that exists within its depth', async () => {
  const truth = Math.min(...[1, 2, 3, 4].flatMap((length) => [...sequences(length)].map(lengthCost)));
  const model = {
    expand: async (state: readonly number[]) => {
      const states = weights.map((_, choice) => [...state, choice]);
      return { states, costs: states.map(lengthCost) };
    },
  };
  const { path, cost, visits } = await treeSearch<readonly number[]>([], model, { simulations: 400, depth: 4 });
  assert.equal(cost, truth);
  assert.equal(lengthCost(path), truth);
  assert.equal(
    visits.reduce((a, b) => a + b),
    399,
  );
});
