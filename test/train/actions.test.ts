import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { openConfiguredData } from '../../src/cli/data.js';
import type { EpisodeDataset, EpisodeWindow } from '../../src/data/episodes/dataset.js';
import { OBSERVATIONS } from '../../src/data/episodes/preparation.js';
import { IMAGENET_MEAN, IMAGENET_STD } from '../../src/data/transforms.js';
import type { VideoFrames } from '../../src/data/video/dataset.js';
import { input } from '../../src/graph/tensor.js';
import { startingValues, untrainedValues } from '../../src/methods/method.js';
import { isActionConditioned } from '../../src/methods/vjepa2-ac.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { actionScores } from '../../src/train/actions.js';
import { buildMethod } from '../../src/train/build.js';
import { loadCheckpoint } from '../../src/train/checkpoint.js';
import { type Config, parseConfig } from '../../src/train/config.js';
import { installEncoder, openEncoder } from '../../src/train/frozen.js';
import { type TrainResult, train } from '../../src/train/trainer.js';
import { openWorldRun } from '../../src/train/world-node.js';
import { openCollection, runEpisode } from '../../src/world/collect.js';
import { worldVideos } from '../../src/world/videos.js';
import { goldenFolder } from '../golden.js';

const WORLD = 'procedural:point-maze-u';
const train1 = { batchSize: 8, steps: 2, checkpointEvery: 2, workers: 1 };
const video = {
  kind: 'video',
  source: WORLD,
  options: { count: 16, testCount: 8, steps: 3 },
  frames: 4,
  frameStep: 1,
  size: 64,
  threads: 0,
};
const eyes = (name: string) => ({
  data: video,
  method: {
    name,
    encoder: { kind: 'vit', patchSize: 32, width: 24, depth: 1, heads: 2 },
    predictor: { width: 32, depth: 1 },
    masks: [{ blocks: 1, spatialScale: [0.4, 0.6] }],
  },
  train: train1,
});
const model = (encoder: string, method: object = {}, data: object = {}) => ({
  data: {
    kind: 'episodes',
    source: WORLD,
    options: { count: 16, testCount: 8, steps: 8 },
    frames: 4,
    threads: 0,
    ...data,
  },
  method: { name: 'vjepa2-ac', encoder, predictor: { width: 24, depth: 1, heads: 2 }, pose: 2, ...method },
  train: train1,
});

let root: string;
let engine: Engine;
const folder = (name: string): string => join(root, name);
async function run(input: object, name: string, resume = false): Promise<TrainResult> {
  const config = parseConfig(input);
  const { train: dataset } = await openConfiguredData(config);
  return train({ config, dataset, folder: folder(name), engine, resume });
}

/** What is built on a given encoder says what that cannot see, and where there is none. */
async function refusesUnfit(on: (from: string, method?: object, data?: object) => object): Promise<void> {
  await assert.rejects(
    run(on(folder('eyes'), {}, { source: 'procedural:two-rooms' }), 'channels'),
    /method\.encoder: it sees 3 channels, observations have 2/,
  );
  await assert.rejects(
    run(on(folder('eyes'), {}, { observe: 'states' }), 'states'),
    /it sees pictures; set data\.observe/,
  );
  await assert.rejects(run(on(folder('nowhere')), 'missing'), /nowhere/);
}

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'jepa-actions-'));
  engine = await createEngine({ workers: 1 });
  await run(eyes('vjepa2'), 'eyes');
});
after(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

describe('videos of a world', () => {
  it('show the states of its episodes, any frames of them', async () => {
    const videos = worldVideos({ world: 'point-maze-u', count: 3, frames: 6, seed: 4 });
    const { data, indices, channels, width } = await videos.read(2, () => [5, 0]);
    assert.deepEqual([[...indices], channels, width, videos.length], [[5, 0], 3, 64, 3]);
    const { world, behaviour } = openCollection('point-maze-u');
    const { states, factors } = runEpisode(world, behaviour, { steps: 5, seed: 4 }, 2);
    const picture = new Uint8Array(3 * 64 * 64);
    world.paint(states.subarray(10, 12), factors, picture);
    for (const pixel of [0, 1000, 64 * 32 + 20, 4095]) {
      for (let c = 0; c < 3; c++) assert.equal(data[pixel * 3 + c], picture[c * 4096 + pixel]);
    }
  });

  it('are data of their own for the command line, with held-out ones that differ', async () => {
    const data = await openConfiguredData(parseConfig(eyes('vjepa2')));
    assert.deepEqual([data.train.length, data.test.length], [16, 8]);
    const [a, b] = await Promise.all([data.train.read(0), data.test.read(0)]);
    assert.notDeepEqual(Buffer.from((a as VideoFrames).data), Buffer.from((b as VideoFrames).data));
    const grey = { ...eyes('vjepa2'), data: { ...video, channels: 1 } };
    await assert.rejects(openConfiguredData(parseConfig(grey)), /its pictures have 3 channels; set data\.channels=3/);
  });

  it('have two channels where the world has; files have not', async () => {
    const two = { ...eyes('vjepa2'), data: { ...video, source: 'procedural:two-rooms', size: 65, channels: 2 } };
    const { data } = (await (await openConfiguredData(parseConfig(two))).train.read(0)) as VideoFrames;
    // The left border is of the second channel, the dot of the first.
    assert.deepEqual([...data.subarray(2 * (65 * 20 + 4), 2 * (65 * 20 + 4) + 2)], [0, 255]);
    const dot = data.subarray(0, 2 * 65 * 65).filter((value, i) => i % 2 === 0 && value > 0);
    assert.ok(dot.length > 20 && dot.length < 150, String(dot.length));
    const files = { ...two, data: { ...two.data, source: root, options: undefined } };
    await assert.rejects(
      openConfiguredData(parseConfig(files)),
      /grey or coloured; set data\.channels to 1 or 3, not 2/,
    );
  });
});

describe('V-JEPA 2-AC', () => {
  let trained: TrainResult;
  let config: Config;
  before(async () => {
    config = parseConfig(model(folder('eyes')));
    trained = await run(model(folder('eyes')), 'model');
  });

  it('learns a predictor on an encoder that stays, bit for bit, and is whole without the encoder', async () => {
    const seen = loadCheckpoint(join(folder('eyes'), 'checkpoint')).weights;
    const { weights } = loadCheckpoint(join(folder('model'), 'checkpoint'));
    const names = [...weights.keys()].filter((name) => name.startsWith('encoder.'));
    assert.ok(names.length > 10);
    for (const name of names) {
      const [own, given] = [weights.get(name), seen.get(`target_${name}`)];
      assert.ok(own && given, name);
      assert.deepEqual(own.data, given.data, name);
    }
    // Goes on though what it began with is gone.
    const more = { ...model(folder('gone')), train: { ...train1, steps: 4 } };
    await run(model(folder('eyes')), 'copy');
    assert.equal(loadCheckpoint(join(folder('copy'), 'checkpoint')).meta.facts.encoder?.config.patchSize, 32);
    assert.equal((await run(more, 'copy', true)).steps, 2);
  });

  it('is told poses that are standardised, and nothing else of states', async () => {
    const { episodes } = trained.facts;
    assert.equal(episodes?.told?.mean.length, 2);
    // The maze is 5 wide.
    for (const value of episodes?.told?.mean ?? []) assert.ok(value > 0.5 && value < 4.5);
    const blind = await run(model(folder('eyes'), { pose: 0 }), 'blind');
    assert.equal(blind.facts.episodes?.told, undefined);
    assert.ok(!(await blind.state.read()).has('predictor.state_encoder.weight'));
    assert.ok((await trained.state.read()).has('predictor.state_encoder.weight'));
  });

  const scores = async (test: EpisodeDataset) => {
    const { method, state, facts } = trained;
    assert.ok(isActionConditioned(method));
    return actionScores({ engine, method, state, config, facts, test, loading: { threads: 0 } });
  };
  /** The same windows, changed. */
  const changed = (data: EpisodeDataset, change: (window: EpisodeWindow) => EpisodeWindow): EpisodeDataset => ({
    ...data,
    source: undefined,
    read: async (index, random) => change(await data.read(index, random)),
  });

  it('is measured by steps ahead, beside standing still and other actions', async () => {
    const test = (await openConfiguredData(config)).test as EpisodeDataset;
    const moving = await scores(test);
    assert.deepEqual([moving.windows, moving.ahead.length], [8, 3]);
    for (const { predicted, misled, still } of moving.ahead) {
      for (const error of [predicted, misled, still]) assert.ok(error > 0 && error < 2.5, String(error));
      assert.notEqual(predicted, misled);
    }
    // Where nothing is seen to move, standing still is right.
    const size = 3 * 64 * 64;
    const frozen = await scores(
      changed(test, (window) => {
        const observations = window.observations.slice();
        for (let frame = 1; frame < 4; frame++) observations.set(observations.subarray(0, size), frame * size);
        return { ...window, observations };
      }),
    );
    for (const { still } of frozen.ahead) assert.ok(still < 1e-6, String(still));
    // Where all do the same, other actions are the same.
    const alike = await scores(
      changed(test, (window) => ({
        ...window,
        actions: window.actions.map(() => 0.1),
        states: window.states.map(() => 1),
      })),
    );
    for (const { predicted, misled } of alike.ahead) assert.equal(predicted, misled);
  });

  it('sees with a published encoder, in its own normalisation', async () => {
    const input = model(join(goldenFolder, 'hf-vjepa2', 'model'), { steps: 1 }, { frames: 2 });
    const { facts, last } = await run({ ...input, train: { ...train1, batchSize: 2, steps: 1 } }, 'published');
    assert.equal(facts.encoder?.config.width, 32);
    assert.deepEqual(facts.episodes?.scaling, { range: 'byte', mean: IMAGENET_MEAN, std: IMAGENET_STD });
    assert.ok((last?.energyMatched ?? 0) > 0);
  });

  it('says what it needs', async () => {
    await run(eyes('vjepa'), 'table');
    await assert.rejects(
      run(model(folder('table')), 'a'),
      /method\.encoder: it has a table of positions for whole clips/,
    );
    await assert.rejects(
      run(model(folder('eyes'), { pose: 3 }), 'b'),
      /states of 2 numbers; set method\.pose between 0 and/,
    );
    await assert.rejects(run(model(folder('eyes'), { steps: 4 }), 'c'), /windows of 4 observations have 3 steps/);
    await refusesUnfit(model);
  });
});

describe('a world model on a frozen encoder', () => {
  const frozen = (from: string, encoder: object = {}, data: object = {}) => {
    const { data: episodes } = model(from, {}, { moments: 2, ...data });
    const kind = { kind: 'frozen', from, frequencies: 2, hidden: [8], width: 6, ...encoder };
    return {
      data: episodes,
      method: { name: 'world-model', encoder: kind, predictor: { kind: 'mlp', hidden: [8] }, steps: 2, scene: 1 },
      train: train1,
    };
  };

  it('learns what follows the encoder, which stays bit for bit, and is whole without it', async () => {
    await run(eyes('vjepa2'), 'seen');
    await run(frozen(folder('seen')), 'world');
    const seen = loadCheckpoint(join(folder('seen'), 'checkpoint')).weights;
    rmSync(folder('seen'), { recursive: true });
    const { meta, weights } = loadCheckpoint(join(folder('world'), 'checkpoint'));
    const names = [...weights.keys()].filter((name) => name.startsWith('eyes.'));
    assert.ok(names.length > 10);
    for (const name of names) {
      const given = seen.get(`target_encoder.${name.slice('eyes.'.length)}`);
      assert.deepEqual(weights.get(name)?.data, given?.data, name);
    }
    // What learns is what began otherwise.
    const method = buildMethod(meta.config, meta.facts);
    const first = startingValues(method, createRandom(0, 'weights'));
    assert.notDeepEqual(weights.get('encoder.mlp.0.weight')?.data, first.get('encoder.mlp.0.weight')?.data);
    assert.ok(!first.has(names[0]) && untrainedValues(method, createRandom(0, 'weights')).has(names[0]));
    // Frames are normalised as the encoder's were.
    assert.deepEqual(meta.facts.episodes?.scaling, { range: 'byte', mean: IMAGENET_MEAN, std: IMAGENET_STD });
    assert.equal((await run({ ...frozen(folder('seen')), train: { ...train1, steps: 4 } }, 'world', true)).steps, 2);

    const world = await openWorldRun(folder('world')).open(engine, 'point-maze-u');
    const pictures = new Uint8Array(2 * 3 * 64 * 64).map((_, i) => (i * 31) % 256);
    const states = await world.encode(pictures);
    await world.close();
    // The same as an encoder by itself, which has all of its weights.
    const eye = openEncoder(folder('world'));
    assert.deepEqual([eye.encoder.features, eye.weights.size], [6, names.length + 6]);
    const alone = await engine.compile(
      {
        name: 'alone',
        outputs: { states: eye.encoder.represent({ [OBSERVATIONS]: input('x', ['batch', 3, 64, 64]) }) },
      },
      await installEncoder(engine, eye),
    );
    const { mean, std } = { mean: IMAGENET_MEAN, std: IMAGENET_STD };
    const x = Float32Array.from(pictures, (value, i) => {
      const c = Math.floor(i / 4096) % 3;
      return (value / 255 - mean[c]) / std[c];
    });
    const { outputs } = await alone.run({ x: float32([2, 3, 64, 64], x) });
    for (const [i, value] of states.data.entries()) assert.ok(Math.abs(value - Number(outputs.states.data[i])) < 1e-3);
    await alone.close();
  });

  it('says what it needs', async () => {
    await assert.rejects(
      run(frozen(folder('eyes'), { frequencies: 3 }), 'm'),
      /patches of 32 are 2 along a side; set method\.encoder\.frequencies to 2 or less, not 3/,
    );
    await refusesUnfit(frozen);
  });
});
