import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { matrix } from '../../src/base/linalg.js';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { openConfiguredData } from '../../src/cli/data.js';
import { type PlanCommandOptions, plan } from '../../src/cli/plan.js';
import { type EpisodeDataset, episodeArrays } from '../../src/data/episodes/dataset.js';
import { OBSERVATIONS } from '../../src/data/episodes/preparation.js';
import type { LinearModel } from '../../src/eval/ridge.js';
import { input } from '../../src/graph/tensor.js';
import { type AcMethod, isActionConditioned } from '../../src/methods/vjepa2-ac.js';
import { acPredictor } from '../../src/nn/ac-predictor.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { parseConfig } from '../../src/train/config.js';
import { type TrainResult, train } from '../../src/train/trainer.js';
import { openWorldRun } from '../../src/train/world-node.js';
import { acStates, learnPoses } from '../../src/world/ac-states.js';
import { worldCalled } from '../../src/world/envs/index.js';
import { openBatch } from '../../src/world/envs/world.js';
import { worldEpisodes } from '../../src/world/episodes.js';
import { encodeGoals, encodeNow, openLatentWorld, planningModel } from '../../src/world/latent.js';
import { probeStates, rolloutErrors } from '../../src/world/measure.js';
import { openPlanner, openPlanScores } from '../../src/world/planning/planner.js';
import { normLimit } from '../../src/world/planning/sampling.js';
import { planningActor, play, type Thought } from '../../src/world/play.js';

const WORLD = 'point-maze-u';
const train1 = { batchSize: 8, steps: 2, checkpointEvery: 2, workers: 1 };
const [FRAMES, TOKENS, WIDTH, SIDE] = [4, 4, 24, 64];
const eyes = {
  data: {
    kind: 'video',
    source: `procedural:${WORLD}`,
    options: { count: 16, testCount: 8, steps: 3 },
    frames: 4,
    frameStep: 1,
    size: SIDE,
    threads: 0,
  },
  method: {
    name: 'vjepa2',
    encoder: { kind: 'vit', patchSize: 32, width: WIDTH, depth: 1, heads: 2 },
    predictor: { width: 32, depth: 1 },
    masks: [{ blocks: 1, spatialScale: [0.4, 0.6] }],
  },
  train: train1,
};
const model = (pose: number, source = `procedural:${WORLD}`) => ({
  data: {
    kind: 'episodes',
    source,
    ...(source.startsWith('procedural:') && { options: { count: 16, testCount: 8, steps: 8 } }),
    frames: FRAMES,
    threads: 0,
  },
  method: { name: 'vjepa2-ac', encoder: folder('eyes'), predictor: { width: 24, depth: 2, heads: 2 }, pose },
  train: train1,
});

let root: string;
let engine: Engine;
let trained: TrainResult;
const folder = (name: string): string => join(root, name);
async function run(input: object, name: string, given?: EpisodeDataset): Promise<TrainResult> {
  const config = parseConfig(input);
  const dataset = given ?? (await openConfiguredData(config)).train;
  return train({ config, dataset, folder: folder(name), engine });
}
const methodOf = ({ method }: TrainResult): AcMethod => {
  assert.ok(isActionConditioned(method));
  return method;
};

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'jepa-plans-'));
  engine = await createEngine({ workers: 1 });
  await run(eyes, 'eyes');
  trained = await run(model(2), 'model');
});
after(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

/** Layer norm without weights, token by token. */
function normed(values: ArrayLike<number>): number[] {
  const out: number[] = [];
  for (let from = 0; from < values.length; from += WIDTH) {
    const token = Array.from({ length: WIDTH }, (_, j) => values[from + j]);
    const mean = token.reduce((a, b) => a + b) / WIDTH;
    const variance = token.reduce((sum, value) => sum + (value - mean) ** 2, 0) / WIDTH;
    out.push(...token.map((value) => (value - mean) / Math.sqrt(variance + 1e-5)));
  }
  return out;
}

const close = (actual: number, wanted: number, what: string, tolerance = 1e-4): void =>
  assert.ok(Math.abs(actual - wanted) <= tolerance * (1 + Math.abs(wanted)), `${what}: ${actual}, not ${wanted}`);

describe('planning with V-JEPA 2-AC', () => {
  it('judges plans by the published energy: mean absolute difference of the tokens last predicted and those of the goal', async () => {
    const method = methodOf(trained);
    const { predictor } = method.config;
    const scaling = trained.facts.episodes?.scaling;
    const scale = trained.facts.episodes?.told;
    assert.ok(scaling && scale);
    // Poses of this test: every action moves the standardised pose by half of it, and up by 0.1.
    const maps = Array.from({ length: FRAMES - 1 }, (_, t): LinearModel => {
      const weights = matrix(2, 2 + 2 * (t + 1));
      for (let axis = 0; axis < 2; axis++) {
        weights.data[axis * weights.columns + axis] = 1;
        for (let done = 0; done <= t; done++) weights.data[axis * weights.columns + 2 + 2 * done + axis] = 0.5;
      }
      return { weights, intercept: Float64Array.of(0, 0.1 * (t + 1)) };
    });
    const states = acStates(method, { scale, after: { maps, r2: [] } });
    assert.deepEqual([states.width, states.told, states.furthest], [TOKENS * WIDTH + 2, 2, FRAMES - 1]);
    const latent = await openLatentWorld(engine, trained.state, states, scaling);
    const count = 2;
    const batch = openBatch(worldCalled(WORLD), { count, seed: 3 });
    const [now, goals] = [await encodeNow(latent, batch), await encodeGoals(latent, batch)];

    // The encoder by itself, on pictures that are scaled here.
    const picture = [3, SIDE, SIDE];
    const size = 3 * SIDE * SIDE;
    const seeing = await engine.compile(
      { name: 'by hand', outputs: { tokens: method.encoder.tokens({ [OBSERVATIONS]: input('x', [1, ...picture]) }) } },
      trained.state,
    );
    const see = async (pictures: Uint8Array, i: number): Promise<number[]> => {
      const x = Float32Array.from(pictures.subarray(i * size, (i + 1) * size), (byte, at) => {
        const channel = Math.floor(at / SIDE / SIDE);
        return (byte / 255 - scaling.mean[channel]) / (scaling.std[channel] + 1e-6);
      });
      return Array.from((await seeing.run({ x: float32([1, ...picture], x) })).outputs.tokens.data as Float32Array);
    };
    // The predictor by itself: all frames so far, once for every step, without anything kept.
    const predicting = await Promise.all(
      Array.from({ length: FRAMES - 1 }, (_, i) => {
        const frames = i + 1;
        const conditions = { actions: input('actions', [1, frames, 2]), states: input('states', [1, frames, 2]) };
        const features = input('features', [1, frames * TOKENS, WIDTH]);
        const out = acPredictor(features, conditions, method.modules.predictor.weights, predictor);
        return engine.compile({ name: `${frames} frames`, outputs: { out } }, trained.state);
      }),
    );
    const poseNow = (i: number): number[] =>
      [0, 1].map((j) => (batch.states[i * 2 + j] - scale.mean[j]) / scale.std[j]);
    const [pictures, goalPictures] = [batch.render(), batch.renderGoals()];
    /** Energies of frames 0, 1, ... along a plan. */
    async function energies(i: number, plan: ArrayLike<number>): Promise<number[]> {
      const goal = await see(goalPictures, i);
      const frames = await see(pictures, i);
      const poses = [poseNow(i)];
      for (let step = 0; step < FRAMES - 1; step++) {
        const done = step + 1;
        const { outputs } = await predicting[step].run({
          features: float32([1, done * TOKENS, WIDTH], frames),
          actions: float32([1, done, 2], Array.from(plan).slice(0, 2 * done)),
          states: float32([1, done, 2], poses.flat()),
        });
        const all = outputs.out.data as Float32Array;
        frames.push(...normed(all.subarray(step * TOKENS * WIDTH)));
        poses.push([0, 1].map((axis) => poses[step][axis] + 0.5 * plan[2 * step + axis] + 0.1 * axis));
      }
      const each = TOKENS * WIDTH;
      return Array.from({ length: FRAMES }, (_, f) => {
        let sum = 0;
        for (let j = 0; j < each; j++) sum += Math.abs(frames[f * each + j] - goal[j]);
        return sum / each;
      });
    }

    const search = { method: 'cem', horizon: FRAMES - 1, samples: 6, elites: 2, iterations: 2, std: 1 } as const;
    const row = (x: HostTensor<'float32'>, i: number): HostTensor<'float32'> =>
      float32([states.width], x.data.slice(i * states.width, (i + 1) * states.width));
    for (const time of ['last', 'sum'] as const) {
      const judged = planningModel(states, { distance: 'latent', time });
      const wanted = (all: number[]): number => (time === 'last' ? all[FRAMES - 1] : all.reduce((a, b) => a + b));
      // What the planner says of the plan that it found.
      const planner = await openPlanner(engine, trained.state, judged, search);
      const found = await planner.plan({ states: now, goals, random: createRandom(1) });
      await planner.close();
      for (let i = 0; i < count; i++) {
        const plan = found.best.data.subarray(6 * i, 6 * i + 6);
        assert.ok(plan.some((value) => Math.abs(value) > 0.1));
        close(found.costs[i], wanted(await energies(i, plan)), `${time}, environment ${i}`);
      }
      // And of plans that are given to it: other actions, other energies.
      const scores = await openPlanScores(engine, trained.state, judged, FRAMES - 1);
      const plans = [Array(6).fill(0), [1, 0, 1, 0, 1, 0], [0.3, -2, 0.5, 1, -1, 0]];
      const given = float32([3, FRAMES - 1, 2], plans.flat());
      const costs = await scores.costs(row(now, 1), row(goals, 1), given);
      for (const [p, plan] of plans.entries()) close(costs[p], wanted(await energies(1, plan)), `${time}, plan ${p}`);
      assert.ok(Math.abs(costs[0] - costs[1]) > 1e-4 * costs[0]);
      await scores.close();
    }
    assert.throws(() => planningModel(states, { distance: 'learned', time: 'last' }), /it learned no distance/);
    assert.throws(() => acStates(method), /it is told poses/);
    await assert.rejects(latent.encode(pictures), /it is told poses of 2 numbers; give the world's states/);
    for (const program of [seeing, ...predicting]) await program.close();
    await latent.close();
  });

  it('knows poses along plans from episodes: what is done now moves things later too', async () => {
    // A cart that keeps half of its speed: x' = x + v', v' = v / 2 + a. The last number of a state is told to nobody.
    const scale = { mean: [10, -4], std: [2, 0.5] };
    const carts = (count: number, seed: number): EpisodeDataset => ({
      name: 'carts',
      modality: 'episodes',
      length: count,
      shape: { frames: FRAMES, moments: 0, observation: [3], action: 2, state: 3 },
      source: undefined,
      async read(index) {
        const numbers = new Float32Array(2 + 2 * FRAMES + FRAMES);
        createRandom(seed, 'cart').split(index).fillNormal(numbers, 0, 1);
        const actions = numbers.slice(2, 2 + 2 * FRAMES);
        const states = new Float32Array(3 * FRAMES);
        const [x, v] = [
          [numbers[0], numbers[1]],
          [0, 0],
        ];
        for (let t = 0; t < FRAMES; t++) {
          states.set([...x, numbers[2 + 2 * FRAMES + t]], 3 * t);
          for (const axis of [0, 1]) {
            v[axis] = v[axis] / 2 + actions[2 * t + axis];
            x[axis] += v[axis];
          }
        }
        return { observations: states, actions, states, moments: new Float32Array(), times: new Float32Array() };
      },
    });
    const { maps, r2 } = await learnPoses(carts(64, 1), carts(16, 2), scale);
    assert.equal(maps.length, FRAMES - 1);
    for (const share of r2) close(share, 1, 'variance explained', 1e-5);
    const [now, plan] = [
      [1, -3],
      [1, 0, 0, 2, -1, 1],
    ];
    // After 3 actions: a0 (1 + 1/2 + 1/4) + a1 (1 + 1/2) + a2.
    const after = [now[0] + 1.75 - 1, now[1] + 3 + 1];
    const { weights, intercept } = maps[2];
    const told = [...now.map((value, j) => (value - scale.mean[j]) / scale.std[j]), ...plan];
    for (const axis of [0, 1]) {
      const sum = told.reduce((total, value, j) => total + weights.data[axis * weights.columns + j] * value, 0);
      close((sum + intercept[axis]) * scale.std[axis] + scale.mean[axis], after[axis], `axis ${axis}`, 1e-3);
    }
  });

  it('a run is opened to plan: measured as world models are, each observation encoded once', async () => {
    const opened = openWorldRun(folder('model'));
    assert.deepEqual([opened.outline.title, opened.outline.told, opened.outline.furthest], ['V-JEPA 2-AC', 2, 3]);
    const latent = await opened.open(engine, WORLD);
    const { width } = latent.model;
    assert.ok(latent.model.pose?.r2.every((share) => share > 0.8 && share <= 1));
    const reading = { world: WORLD, steps: 8, observe: 'pictures', moments: 0 } as const;
    const probe = await probeStates(
      latent,
      worldEpisodes({ ...reading, count: 200, frames: 1 }),
      worldEpisodes({ ...reading, count: 50, frames: 1, seed: 9 }),
    );
    assert.equal(probe.r2PerNumber.length, 2);
    const { latent: errors, place } = await rolloutErrors(
      latent,
      worldEpisodes({ ...reading, count: 6, frames: FRAMES, seed: 9 }),
      probe,
    );
    assert.deepEqual([errors.model.length, place?.model.length], [FRAMES - 1, FRAMES - 1]);
    assert.ok([...errors.model, ...(place?.model ?? [])].every((value) => value > 0 && Number.isFinite(value)));

    const thoughts: Thought[] = [];
    const encoded: number[] = [];
    const counted: typeof latent = {
      ...latent,
      encode(observations, states) {
        encoded.push(observations.length / (3 * SIDE * SIDE));
        return latent.encode(observations, states);
      },
    };
    const actor = await planningActor(counted, {
      ...{ method: 'cem', horizon: 3, samples: 6, elites: 2, iterations: 2, std: 1, limit: normLimit(1) },
      ...{ objective: latent.model.objective, replan: 2, warmStart: true, seed: 0 },
      onThought: (thought) => thoughts.push(thought),
    });
    const { episodes } = await play(worldCalled(WORLD), actor, { episodes: 3, seed: 5, steps: 4 });
    await actor.close();
    assert.deepEqual(encoded, [3, 3, 3]); // The goals, then what is seen at each of two plans.
    assert.deepEqual(
      thoughts.map(({ paths }) => paths.shape),
      [
        [3, 4, width],
        [3, 4, width],
      ],
    );
    // The first pose of what is imagined is where each one was.
    const scale = trained.facts.episodes?.told;
    for (const [i, { states }] of episodes.entries()) {
      for (const j of [0, 1]) {
        const told = thoughts[0].paths.data[i * 4 * width + width - 2 + j];
        close(told * (scale?.std[j] ?? 0) + (scale?.mean[j] ?? 0), states[j], `episode ${i}`, 1e-5);
      }
    }
    await latent.close();
  });

  it('plans without poses where it is told none', async () => {
    await run(model(0), 'blind');
    const latent = await openWorldRun(folder('blind')).open(engine, WORLD);
    assert.deepEqual([latent.model.width, latent.model.pose], [TOKENS * WIDTH, undefined]);
    const batch = openBatch(worldCalled(WORLD), { count: 2, seed: 1 });
    const paths = await latent.imagine(
      await encodeNow(latent, batch),
      float32([2, 2, 2], new Float32Array(8).fill(0.5)),
    );
    assert.deepEqual(paths.shape, [2, 3, TOKENS * WIDTH]);
    assert.ok(paths.data.every(Number.isFinite));
    await latent.close();
  });

  it('says what does not fit', async () => {
    const usual: PlanCommandOptions = {
      ...{ env: WORLD, episodes: 1, seed: 0, planner: 'cem', samples: 4, iterations: 1, repeat: 1, warmStart: true },
    };
    const refused = (name: string, changes: Partial<PlanCommandOptions>, message: RegExp): Promise<void> =>
      assert.rejects(plan(folder(name), { ...usual, ...changes }), message);
    await refused('model', { horizon: 4 }, /windows of 4 observations, plans have 3 steps at most, not 4; lower/);
    await refused('model', { repeat: 4 }, /plans have 3 steps at most, not 4/);
    await refused('model', { distance: 'learned' }, /this model learned no distance/);
    await refused('model', { env: 'push-t' }, /observes \[3, 64, 64\], push-t shows \[3, 96, 96\]/);
    // Poses of a robot that no world of ours has.
    const rows = 2 * FRAMES;
    const columns = new Map<string, HostTensor<'float32'> | HostTensor<'uint8'>>([
      [
        'action',
        float32(
          [rows, 2],
          Float32Array.from({ length: 2 * rows }, (_, i) => Math.sin(i)),
        ),
      ],
      [
        'state',
        float32(
          [rows, 7],
          Float32Array.from({ length: 7 * rows }, (_, i) => Math.cos(i)),
        ),
      ],
      ['pixels', { dtype: 'uint8', shape: [rows, 3, SIDE, SIDE], data: new Uint8Array(rows * 3 * SIDE ** 2) }],
    ]);
    const reading = { observe: 'pictures', frames: FRAMES, moments: 0 } as const;
    const robot = episodeArrays('robot', { lengths: [FRAMES, FRAMES], offsets: [0, FRAMES], columns }, reading);
    await run({ ...model(7, 'robot.npz'), train: { ...train1, batchSize: 2 } }, 'robot', robot);
    await refused('robot', { env: undefined }, /learned from robot\.npz, which names no world; name one with --env/);
    await refused(
      'robot',
      {},
      /told poses of 7 numbers, states of point-maze-u have 2; plan in a world that gives such/,
    );
    assert.throws(() => openWorldRun(folder('eyes')), /this is a run of vjepa2; plans need a model that knows actions/);
  });
});
