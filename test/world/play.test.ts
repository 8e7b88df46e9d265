import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { startingValues } from '../../src/methods/method.js';
import { createEngine } from '../../src/runtime/index.js';
import { worldCalled } from '../../src/world/envs/index.js';
import type { Batch } from '../../src/world/envs/world.js';
import { openLatentWorld, worldModelStates } from '../../src/world/latent.js';
import { type PlanningActor, planningActor, play, type Thought } from '../../src/world/play.js';
import { worldModelMethod } from '../../src/world/world-model.js';

test('actions of a plan are held for as many steps as --repeat says, in the world and in what is imagined', async () => {
  const world = worldCalled('two-rooms');
  const engine = await createEngine({ workers: 1 });
  const method = worldModelMethod({
    observation: [world.state.length + world.factors.length],
    actions: 2,
    frames: 3,
    moments: 0,
    encoder: { kind: 'mlp', hidden: [8], width: 6 },
    predictor: { kind: 'gru' },
    steps: 2,
    terms: {
      prediction: 1,
      variance: 1,
      covariance: 1,
      similarity: 1,
      inverse: 1,
      straightening: 0,
      sigreg: 0,
      scene: 0,
    },
    inverseWidth: 4,
    slices: 1,
  });
  const state = await engine.createState(method.trained.flatMap(({ tensors }) => [...tensors.values()]));
  await state.write(startingValues(method, createRandom(1)));
  const [mean, std] = [Array.from({ length: 9 }, () => 0), Array.from({ length: 9 }, () => 50)];
  const model = await openLatentWorld(engine, state, worldModelStates(method), { range: 'plain', mean, std });
  const [horizon, repeat, replan, count, steps] = [3, 4, 2, 2, 16];
  const thoughts: Thought[] = [];
  const search = { method: 'cem', horizon, samples: 8, elites: 2, iterations: 2, std: 1 } as const;
  const actor: PlanningActor = await planningActor(model, {
    ...search,
    ...{ repeat, replan, warmStart: true, seed: 0 },
    objective: { distance: 'latent', time: 'sum' },
    onThought: (thought) => thoughts.push(thought),
  });
  const taken: number[][] = [];
  const seen: Float64Array[] = [];
  const noting = {
    ...actor,
    async act(batch: Batch, time: number) {
      if (time % (replan * repeat) === 0) seen.push(batch.states.slice());
      const actions = Array.from(await actor.act(batch, time));
      taken.push(actions);
      return actions;
    },
  };
  const { episodes } = await play(world, noting, { episodes: count, seed: 2, steps });
  // Two plans for each of two episodes; actions change every four steps, and only then.
  assert.deepEqual(
    thoughts.map(({ time }) => time),
    [0, replan * repeat],
  );
  assert.equal(actor.spent.plans, 2 * count);
  for (let step = 1; step < steps; step++)
    assert.equal(isDeepStrictEqual(taken[step], taken[step - 1]), step % repeat !== 0, `step ${step}`);
  // What is imagined begins where it was, and follows the held actions one step at a time.
  for (const [i, { time, paths }] of thoughts.entries()) {
    assert.deepEqual(paths.shape, [count, horizon * repeat + 1, 6]);
    const numbers = episodes.flatMap(({ factors }, e) => [...seen[i].subarray(2 * e, 2 * e + 2), ...factors]);
    const now = await model.encode(Float32Array.from(numbers));
    const done = replan * repeat;
    const moves = Array.from({ length: count }, (_, e) =>
      taken.slice(time, time + done).flatMap((actions) => actions.slice(2 * e, 2 * e + 2)),
    ).flat();
    const { data } = await model.imagine(now, float32([count, done, 2], Float32Array.from(moves)));
    for (let e = 0; e < count; e++)
      for (let j = 0; j < (done + 1) * 6; j++)
        assert.ok(
          Math.abs(data[e * (done + 1) * 6 + j] - paths.data[e * (horizon * repeat + 1) * 6 + j]) < 1e-5,
          `plan ${i}, episode ${e}, number ${j}`,
        );
  }
  await actor.close();
  await model.close();
  await engine.close();
});
