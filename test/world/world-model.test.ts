import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { type EpisodeDataset, episodeArrays } from '../../src/data/episodes/dataset.js';
import { channelStatistics, scale } from '../../src/data/episodes/scaling.js';
import { createLoader } from '../../src/data/loader.js';
import { spearman } from '../../src/eval/correlation.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { openEpisodes, writeEpisodes } from '../../src/hub/episodes-node.js';
import { initialValues, makeModule } from '../../src/nn/weights.js';
import { adam } from '../../src/optim/adam.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { loadCheckpoint } from '../../src/train/checkpoint.js';
import { type Config, type ConfigInput, parseConfig } from '../../src/train/config.js';
import { openEpisodeSplits } from '../../src/train/episodes-node.js';
import { train } from '../../src/train/trainer.js';
import { openWorldRun } from '../../src/train/world-node.js';
import { collectEpisodes, greedyBehaviour, openCollection, randomBehaviour } from '../../src/world/collect.js';
import {
  type DistanceConfig,
  distanceLoss,
  distanceSpec,
  potentialsOf,
  stepsBetween,
  stepsSkipped,
} from '../../src/world/distance.js';
import { worldCalled } from '../../src/world/envs/index.js';
import { worldEpisodes } from '../../src/world/episodes.js';
import { probeStates, rolloutErrors } from '../../src/world/measure.js';
import { normLimit } from '../../src/world/planning/sampling.js';
import { behaviourActor, planningActor, play, successOf } from '../../src/world/play.js';
import { sceneLoss, sceneSpec, varianceWithin } from '../../src/world/scene.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-world-model-'));
let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 2 });
});
after(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

describe('episodes as data', () => {
  const reading = { observe: 'pictures', frames: 5, moments: 2 } as const;

  it('a procedural set shows what jepa collect would write', async () => {
    const { world, behaviour } = openCollection('two-rooms');
    const table = collectEpisodes(world, behaviour, { episodes: 3, steps: 20, seed: 7, pixels: true });
    const set = worldEpisodes({ world: 'two-rooms', count: 3, steps: 20, seed: 7, ...reading });
    const kept = episodeArrays('kept', table, reading);
    for (let i = 0; i < 3; i++) {
      const [a, b] = [await set.read(i), await kept.read(i)];
      assert.deepEqual(Buffer.from(a.observations), Buffer.from(b.observations));
      assert.deepEqual([...a.actions], [...b.actions]);
      assert.deepEqual([...a.states], [...b.states]);
    }
    // The same draw of the loader takes the same window.
    const random = () => createRandom(3);
    assert.deepEqual([...(await set.read(1, random())).states], [...(await kept.read(1, random())).states]);
  });

  it('moments are of the same episode, at the times that they tell, and of another in the same layout', async () => {
    const steps = 30;
    const options = { world: 'two-rooms', count: 4, steps, observe: 'states', seed: 5 } as const;
    const set = worldEpisodes({ ...options, frames: 3, moments: 8 });
    const whole = worldEpisodes({ ...options, frames: steps + 1, moments: 0 });
    const width = set.shape.observation[0];
    for (let i = 0; i < 4; i++) {
      const { moments, times } = await set.read(i, createRandom(i));
      const { observations } = await whole.read(i);
      const layout = observations.slice(2, width);
      const others = moments.subarray(8 * width);
      for (let m = 0; m < 8; m++) assert.deepEqual(others.slice(m * width + 2, (m + 1) * width), layout);
      assert.notDeepEqual(moments.slice(0, 8 * width), others.slice());
      assert.equal(times.length, 8);
      for (const [m, time] of times.entries()) {
        assert.ok(m === 0 || time > times[m - 1]);
        assert.deepEqual(
          moments.subarray(m * width, (m + 1) * width),
          observations.subarray(time * width, (time + 1) * width),
        );
      }
    }
    await assert.rejects(
      worldEpisodes({ ...options, frames: 3, moments: 40 }).read(0),
      /31 observations, fewer than 40/,
    );
  });

  it('files of episodes are read, in threads too, and other layouts are turned', async () => {
    const { world, behaviour } = openCollection('two-rooms');
    const table = collectEpisodes(world, behaviour, { episodes: 4, steps: 8, seed: 1, pixels: true });
    const pixels = table.columns.get('pixels') as HostTensor<'uint8'>;
    const colour = Uint8Array.from({ length: 36 * 12 }, (_, i) => (i * 7) % 251);
    const columns = new Map(table.columns).set('pixels', { dtype: 'uint8', shape: [36, 2, 2, 3], data: colour });
    await writeEpisodes(join(folder, 'a.npz'), table);
    await writeEpisodes(join(folder, 'a.h5'), table);
    await writeEpisodes(join(folder, 'last.h5'), { ...table, columns });
    const [npz, h5] = [
      await openEpisodes(join(folder, 'a.npz'), reading),
      await openEpisodes(join(folder, 'a.h5'), reading),
    ];
    assert.deepEqual(npz.shape, { frames: 5, moments: 2, observation: [2, 65, 65], action: 2, state: 2 });
    for (let i = 0; i < 4; i++)
      assert.deepEqual(Buffer.from((await npz.read(i)).observations), Buffer.from((await h5.read(i)).observations));
    const first = await (await openEpisodes(join(folder, 'last.h5'), { ...reading, frames: 9, moments: 0 })).read(0);
    // Row 0, channel 1 of the first picture: every third byte.
    assert.deepEqual([...first.observations.subarray(4, 8)], [7, 28, 49, 70]);

    const scaling = { range: 'byte', mean: [0, 0], std: [1, 1] } as const;
    const loader = await createLoader(h5, {
      batchSize: 2,
      threads: 1,
      views: [{ kind: 'episodes', part: 'window', scaling }],
    });
    const batch = await loader.next();
    await loader.close();
    const fields = batch?.views[0] ?? {};
    assert.deepEqual(
      Object.entries(fields).map(([name, { shape }]) => [name, shape]),
      [
        ['observations', [2, 1, 5, 2, 65, 65]],
        ['actions', [2, 1, 5, 2]],
        ['moments', [2, 1, 2, 2, 2, 65, 65]],
        ['times', [2, 1, 2]],
      ],
    );
    // A window of the file, byte for byte.
    const seen = Array.from(fields.observations.data.subarray(0, 2 * 65 * 65), (v) => Math.round(255 * v));
    const rows = Array.from({ length: 36 }, (_, row) => pixels.data.subarray(row * 8450, (row + 1) * 8450));
    assert.ok(rows.some((row) => Buffer.compare(Buffer.from(row), Buffer.from(seen)) === 0));

    await assert.rejects(
      openEpisodes(join(folder, 'a.h5'), { ...reading, frames: 12 }),
      /9 observations, a window needs 12/,
    );
    await assert.rejects(openEpisodes(join(folder, 'none.npz'), reading), /none\.npz/);
    columns.delete('action');
    await writeEpisodes(join(folder, 'no-action.npz'), { ...table, columns });
    await assert.rejects(openEpisodes(join(folder, 'no-action.npz'), reading), /no column "action" of float32/);
  });

  it('statistics standardise what they are taken of', () => {
    const bytes = Uint8Array.from({ length: 3 * 2 * 10 }, (_, i) => (i * 37) % 200);
    const scaling = { range: 'byte', ...channelStatistics(bytes, 10, 2, 'byte') } as const;
    const scaled = scale(bytes, 10, scaling);
    for (const channel of [0, 1]) {
      const own = [...scaled].filter((_, i) => Math.floor(i / 10) % 2 === channel);
      const mean = own.reduce((a, b) => a + b, 0) / own.length;
      const variance = own.reduce((sum, v) => sum + (v - mean) ** 2, 0) / own.length;
      assert.ok(Math.abs(mean) < 1e-5 && Math.abs(variance - 1) < 1e-3, `${mean} ${variance}`);
    }
  });
});

const small: ConfigInput = {
  data: {
    kind: 'episodes',
    source: 'procedural:two-rooms',
    options: { count: 24, testCount: 8, steps: 20 },
    observe: 'states',
    frames: 5,
    moments: 3,
    threads: 0,
  },
  method: {
    name: 'world-model',
    encoder: { kind: 'mlp', hidden: [16], width: 12 },
    steps: 3,
    inverseWidth: 8,
    straightening: 0.1,
    sigreg: 0.1,
    scene: 0.1,
    slices: 8,
    distance: { hidden: [16], groups: 2, potentials: 4 },
  },
  train: { batchSize: 6, steps: 6, checkpointEvery: 2, diagnoseEvery: 100, workers: 2 },
};

const open = async (config: Config) => {
  assert.ok(config.data.kind === 'episodes');
  const { train, test } = await openEpisodeSplits(config.data);
  return { train: train as EpisodeDataset, test: test as EpisodeDataset };
};

describe('world models', () => {
  it('train from pictures with every encoder and predictor', async () => {
    const encoders = [
      { kind: 'impala', widths: [2, 2], blocks: 1, width: 8 },
      { kind: 'patches', patchSize: 13, widths: [4, 2], frequencies: 3, hidden: [8], width: 8 },
      { kind: 'vit', patchSize: 13, width: 12, depth: 1, heads: 2 },
    ] as const;
    for (const encoder of encoders) {
      const config = parseConfig({
        ...small,
        data: { ...small.data, observe: 'pictures' },
        method: { ...small.method, encoder, predictor: { kind: encoder.kind === 'vit' ? 'mlp' : 'gru' } },
        train: { ...small.train, steps: 2 },
      });
      const { train: dataset } = await open(config);
      const losses: number[] = [];
      const scalars: string[] = [];
      const result = await train({
        config,
        dataset,
        engine,
        events: {
          onStep: (step) => {
            losses.push(step.loss);
            scalars.push(...Object.keys(step.scalars));
          },
        },
      });
      assert.ok(losses.length === 2 && losses.every(Number.isFinite), encoder.kind);
      assert.ok(
        ['prediction', 'variance', 'inverse', 'straightening', 'sigreg', 'distance', 'scene'].every((s) =>
          scalars.includes(s),
        ),
      );
      assert.equal(result.last?.width, encoder.width);
    }
  });

  it('a run goes on bit for bit, and is opened to plan', async () => {
    const config = parseConfig(small);
    const { train: dataset, test } = await open(config);
    const whole = join(folder, 'whole');
    const parts = join(folder, 'parts');
    await train({ config, dataset, folder: whole, engine });
    const stop = new AbortController();
    const first = await train({
      config,
      dataset,
      folder: parts,
      engine,
      signal: stop.signal,
      events: { onStep: ({ step }) => step === 3 && stop.abort() },
    });
    assert.deepEqual([first.interrupted, first.steps], [true, 3]);
    await train({ config, dataset, folder: parts, engine, resume: true });
    const [a, b] = [whole, parts].map((run) => loadCheckpoint(join(run, 'checkpoint')));
    for (const part of ['weights', 'slots'] as const) {
      for (const [key, { data }] of a[part]) assert.deepEqual(b[part].get(key)?.data, data, `${part} ${key}`);
    }

    const run = openWorldRun(parts);
    const model = await run.open(engine, 'two-rooms');
    const probe = await probeStates(model, dataset, test);
    assert.equal(probe.r2PerNumber.length, 2);
    const { latent, place } = await rolloutErrors(
      model,
      worldEpisodes({ world: 'two-rooms', count: 6, steps: 10, observe: 'states', frames: 5, moments: 0 }),
      probe,
    );
    assert.equal(latent.model.length, 4);
    assert.ok(place && [...latent.model, ...place.model].every((value) => value > 0 && Number.isFinite(value)));

    const world = worldCalled('two-rooms');
    const thoughts: number[] = [];
    for (const method of ['cem', 'icem', 'mppi', 'predictive', 'gradient'] as const) {
      const actor = await planningActor(model, {
        method,
        horizon: 4,
        samples: 6,
        elites: 2,
        iterations: 2,
        std: 1,
        limit: normLimit(run.facts.episodes?.longest ?? 0),
        objective: { distance: method === 'cem' ? 'learned' : 'latent', time: method === 'mppi' ? 'sum' : 'last' },
        replan: 2,
        warmStart: true,
        seed: 0,
        onThought: ({ paths }) => thoughts.push(paths.shape[1]),
      });
      const options = { episodes: 3, seed: 5, steps: 4 };
      const played = await play(world, actor, options);
      assert.equal(actor.spent.plans, 6);
      await actor.close();
      const floor = await play(world, behaviourActor(greedyBehaviour(1), 5), options);
      for (const [i, { states, goal, factors }] of played.episodes.entries()) {
        assert.equal(states.length, 10);
        // All actors meet the same layouts, starts and goals.
        assert.deepEqual(
          [...states.subarray(0, 2), ...goal, ...factors],
          [...floor.episodes[i].states.subarray(0, 2), ...floor.episodes[i].goal, ...floor.episodes[i].factors],
        );
        for (let t = 0; t < 4; t++)
          assert.ok(Math.hypot(states[2 * t + 2] - states[2 * t], states[2 * t + 3] - states[2 * t + 1]) < 1.8 + 2);
      }
    }
    assert.ok(thoughts.length === 10 && thoughts.every((times) => times === 5));
    await model.close();
  });

  it('says what does not fit', async () => {
    const of = (changes: object) => parseConfig({ ...small, ...changes });
    assert.throws(() => of({ data: { kind: 'image' } }), /world-model learns from data of kind episodes, not image/);
    await assert.rejects(
      openEpisodeSplits({ source: 'procedural:two-room', observe: 'states', frames: 3, moments: 0 }),
      /there is no "two-room"; there are two-rooms, /,
    );
    await assert.rejects(
      openEpisodeSplits({ source: 'procedural:wall', observe: 'states', frames: 3, moments: 0, options: { cuont: 1 } }),
      /there is no option "cuont"; there are count, /,
    );
    const config = of({ method: { ...small.method, steps: 5 } });
    const { train: dataset } = await open(config);
    await assert.rejects(
      train({ config, dataset, engine }),
      /windows of 5 observations have 4 steps; set method\.steps/,
    );
    assert.throws(() => openWorldRun(folder), /no run here/);
  });
});

describe('floors', () => {
  it('greedy reaches goals that lie straight ahead, random does not', async () => {
    const world = worldCalled('two-rooms');
    const options = { episodes: 40, seed: 3, factors: { 'door half': 8 } };
    const greedy = successOf((await play(world, behaviourActor(greedyBehaviour(1.8), 3), options)).episodes);
    const random = successOf((await play(world, behaviourActor(randomBehaviour(), 3), options)).episodes);
    // The share that a point simulator of the rules was measured to reach is 39.5 % with the usual door; this one is wider.
    assert.ok(greedy.rate > 0.35 && greedy.rate < 0.95, `${greedy.rate}`);
    assert.ok(random.rate < 0.1);
    assert.ok(greedy.interval[0] < greedy.rate && greedy.rate < greedy.interval[1]);
  });
});

describe('a learned distance', () => {
  const config: DistanceConfig = { hidden: [64], groups: 4, potentials: 8, horizon: 20, weight: 1 };

  it('is 0 for equal states, not negative, and knows no shorter ways round', async () => {
    const module = makeModule('d.', distanceSpec(3, config));
    const state = await engine.createState([...module.tensors.values()], initialValues(module, createRandom(1)));
    const potentials = potentialsOf(input('x', ['batch', 3]), module.weights, config);
    const program = await engine.compile({ name: 'potentials', outputs: { potentials } }, state);
    const x = float32(
      [30, 3],
      Array.from({ length: 90 }, (_, i) => Math.sin(i * i)),
    );
    const { data } = (await program.run({ x })).outputs.potentials;
    await program.close();
    // By hand: the mean over groups of the largest rise.
    const between = (a: number, b: number): number => {
      let sum = 0;
      for (let g = 0; g < 4; g++) {
        let most = 0;
        for (let p = 0; p < 8; p++)
          most = Math.max(most, Number(data[a * 32 + g * 8 + p]) - Number(data[b * 32 + g * 8 + p]));
        sum += most / 4;
      }
      return sum;
    };
    for (let i = 0; i < 10; i++) {
      assert.equal(between(i, i), 0);
      const [a, b, c] = [i, i + 10, i + 20];
      assert.ok(between(a, b) > 0 && between(a, c) <= between(a, b) + between(b, c) + 1e-6);
    }
  });

  it('is bounded by the steps that an episode took, and pushed apart elsewhere', async () => {
    // One potential: an episode at heights 30, 12, 0 at times 0, 10, 40; three more elsewhere.
    const named = { own: [30, 12, 0], elsewhere: [5, 50, 31] };
    const [own, elsewhere] = Object.keys(named).map((name) => input(name, ['batch', 3, 1, 1]));
    const loss = distanceLoss(own, input('times', ['batch', 3]), elsewhere, { horizon: 100 });
    const program = await engine.compile({ name: 'bounds', outputs: { loss } }, await engine.createState([]));
    const feeds = Object.entries(named).map(([name, heights]) => [name, float32([1, 3, 1, 1], heights)] as const);
    const { outputs } = await program.run({ ...Object.fromEntries(feeds), times: float32([1, 3], [0, 10, 40]) });
    await program.close();
    // Falls of 18 in 10 steps, 30 in 40, 12 in 30; in tenths of 100 steps.
    const bounds = 0.8 ** 2 / 3;
    const falls = named.own.flatMap((from) => named.elsewhere.map((to) => Math.max(0, from - to)));
    const push = falls.reduce((sum, fall) => sum + (0.1 * Math.log1p(Math.exp((100 - fall) / 10))) / falls.length, 0);
    assert.ok(Math.abs(Number(outputs.loss.data[0]) - push - bounds) < 1e-5);
  });

  it('imagined paths owe the steps that they skip', async () => {
    // One potential: falls of 1 a step, one of 9 in the middle, and rises, which are free.
    const heights = [20, 19, 18, 9, 8, 9, 10];
    const path = input('path', ['batch', heights.length, 1, 1]);
    const program = await engine.compile(
      { name: 'skipped', outputs: { two: stepsSkipped(path, 1, 2), all: stepsSkipped(path, 1, 100) } },
      await engine.createState([]),
    );
    const { outputs } = await program.run({ path: float32([1, heights.length, 1, 1], heights) });
    await program.close();
    // Falls in two steps: 2, 10, 10, 0, 0; half of what is above 2 is owed from their ends on. In all six steps: 10.
    assert.deepEqual([...outputs.two.data], [0, 0, 0, 4, 8, 8, 8]);
    assert.deepEqual([...outputs.all.data], [0, 0, 0, 0, 0, 0, Math.fround(4 / 6)]);
  });

  it('finds the way round a wall from walks that stray', async () => {
    const map = ['...#...', '...#...', '...#...', '...#...', '.......'];
    const cells = map.flatMap((row, y) => [...row].flatMap((cell, x) => (cell === '.' ? [[x, y]] : [])));
    const find = (x: number, y: number): number => cells.findIndex((cell) => cell[0] === x && cell[1] === y);
    const ways = [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ];
    const moves = cells.flatMap(([x, y], from) =>
      ways.flatMap(([dx, dy]) => {
        const to = find(x + dx, y + dy);
        return to < 0 ? [] : [[from, to]];
      }),
    );
    const breadthFirst = (start: number): number[] => {
      const steps = cells.map(() => -1);
      steps[start] = 0;
      const queue = [start];
      for (const cell of queue) {
        for (const [from, to] of moves) {
          if (from !== cell || steps[to] >= 0) continue;
          steps[to] = steps[cell] + 1;
          queue.push(to);
        }
      }
      return steps;
    };
    const truth = cells.map((_, start) => breadthFirst(start));

    // Walks of 16 moves that like to go on as they went.
    const random = createRandom(4);
    const walk = (): number[] => {
      const path = [random.integer(cells.length)];
      let heading = random.integer(4);
      while (path.length < 17) {
        if (random.uniform() < 0.3) heading = random.integer(4);
        const [x, y] = cells[path[path.length - 1]];
        const to = find(x + ways[heading][0], y + ways[heading][1]);
        if (to < 0) heading = random.integer(4);
        else path.push(to);
      }
      return path;
    };
    const places = (list: readonly number[]) =>
      list.flatMap((cell) => [cells[cell][0] / 3 - 1, cells[cell][1] / 2 - 1]);

    const module = makeModule('d.', distanceSpec(2, config));
    const parameters = [...module.tensors.values()];
    const state = await engine.createState(parameters, initialValues(module, createRandom(2)));
    const potentials = (x: Tensor) => potentialsOf(x, module.weights, config);
    const names = ['own', 'elsewhere'] as const;
    const [own, elsewhere] = names.map((name) => potentials(input(name, ['batch', 6, 2])));
    const loss = distanceLoss(own, input('times', ['batch', 6]), elsewhere, config);
    const update = { loss, rule: adam(), groups: [parameters], followers: [] };
    const program = await engine.compile({ name: 'distance', outputs: { loss }, update }, state);
    for (let step = 1; step <= 600; step++) {
      const drawn = Array.from({ length: 64 }, () => {
        const [path, other] = [walk(), walk()];
        const times = random.permutation(17).subarray(0, 6).sort();
        return {
          own: Array.from(times, (t) => path[t]),
          elsewhere: Array.from({ length: 6 }, () => other[random.integer(17)]),
          times: [...times],
        };
      });
      const feeds = names.map((name) => {
        const rows = drawn.flatMap((one) => places(one[name]));
        return [name, float32([64, 6, 2], rows)] as const;
      });
      const times = float32(
        [64, 6],
        drawn.flatMap((one) => one.times),
      );
      const numbers = { step, groups: [{ lr: 5e-3, weightDecay: 0 }], momentum: 1 };
      await program.run({ ...Object.fromEntries(feeds), times }, numbers);
    }
    await program.close();
    const [from, to] = ['from', 'to'].map((name) => potentials(input(name, ['batch', 2])));
    const measure = await engine.compile({ name: 'steps', outputs: { steps: stepsBetween(from, to) } }, state);
    const pairs = cells.flatMap((_, a) => cells.map((_, b) => [a, b]));
    const rows = (end: 0 | 1) => float32([pairs.length, 2], places(pairs.map((pair) => pair[end])));
    const { data } = (await measure.run({ from: rows(0), to: rows(1) })).outputs.steps;
    await measure.close();
    const straight = ([a, b]: number[]) => Math.hypot(cells[a][0] - cells[b][0], cells[a][1] - cells[b][1]);
    const learned = spearman(
      Array.from(data, Number),
      pairs.map(([a, b]) => truth[a][b]),
    );
    const direct = spearman(
      pairs.map(straight),
      pairs.map(([a, b]) => truth[a][b]),
    );
    assert.ok(learned > 0.95 && direct < 0.9, `${learned} ${direct}`);
    // Two cells apart through the wall, ten on foot; four cells apart in a room are nearer.
    const across = pairs.findIndex(([a, b]) => a === find(2, 0) && b === find(4, 0));
    assert.equal(truth[find(2, 0)][find(4, 0)], 10);
    const near = pairs.findIndex(([a, b]) => a === find(2, 0) && b === find(2, 4));
    assert.ok(Number(data[across]) > Number(data[near]), `${data[across]} ${data[near]}`);
  });
});

describe('what stays in a world', () => {
  it('is told by projections of moments that belong together', async () => {
    const [batch, moments, width] = [5, 2, 3];
    const module = makeModule('s.', sceneSpec(width));
    const values = initialValues(module, createRandom(4));
    const state = await engine.createState([...module.tensors.values()], values);
    const inputs = ['own', 'elsewhere'].map((name) => input(name, ['batch', moments, width]));
    const loss = sceneLoss(inputs[0], inputs[1], module.weights);
    const program = await engine.compile({ name: 'scene', outputs: { loss } }, state);
    const draw = (seed: number): HostTensor<'float32'> => {
      const data = new Float32Array(batch * moments * width);
      createRandom(seed).fillNormal(data);
      return float32([batch, moments, width], data);
    };
    const fed = { own: draw(1), elsewhere: draw(2) };
    const { outputs } = await program.run(fed);
    await program.close();
    // By hand: unit vectors, a softmax over the batch at a temperature of 0.07.
    const [weight, bias] = ['weight', 'bias'].map(
      (name) => values.get(`s.projection.${name}`) as HostTensor<'float32'>,
    );
    const projected = ({ data }: HostTensor<'float32'>, row: number, moment: number): number[] => {
      const x = data.subarray((row * moments + moment) * width, (row * moments + moment + 1) * width);
      const y = Array.from(bias.data, (b, i) => x.reduce((sum, v, j) => sum + v * weight.data[i * width + j], b));
      return y.map((v) => v / Math.hypot(...y));
    };
    let expected = 0;
    for (let m = 0; m < moments; m++) {
      for (let i = 0; i < batch; i++) {
        const own = projected(fed.own, i, m);
        const scores = Array.from({ length: batch }, (_, j) =>
          projected(fed.elsewhere, j, m).reduce((sum, v, k) => sum + (v * own[k]) / 0.07, 0),
        );
        const all = Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0));
        expected += (all - scores[i]) / (batch * moments);
      }
    }
    assert.ok(
      Math.abs(Number(outputs.loss.data[0]) - expected) < 1e-4 * expected,
      `${outputs.loss.data[0]}, ${expected}`,
    );
  });

  it('is not all that varies', async () => {
    // Two instances far from each other; about their means the first number deviates by 0.1, the second by 2.
    const values = [5, 1, 5.2, 5, -3, 9, -2.8, 13];
    const program = await engine.compile(
      { name: 'within', outputs: { loss: varianceWithin(input('moments', ['batch', 2, 2])) } },
      await engine.createState([]),
    );
    const { outputs } = await program.run({ moments: float32([2, 2, 2], values) });
    await program.close();
    const deviation = Math.sqrt((4 * 0.1 ** 2) / 3 + 1e-4);
    assert.ok(Math.abs(Number(outputs.loss.data[0]) - (0.7 - deviation) / 2) < 1e-5);
  });
});
