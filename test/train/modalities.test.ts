import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { specOf } from '../../src/cli/data.js';
import { openSampleSplits, type SampleSplits } from '../../src/data/samples-node.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { loadCheckpoint } from '../../src/train/checkpoint.js';
import { type Config, type ConfigInput, parseConfig } from '../../src/train/config.js';
import { extractFeatures, rawSource } from '../../src/train/features.js';
import { openEncoder, trainedEncoder } from '../../src/train/frozen.js';
import { train } from '../../src/train/trainer.js';

let root: string;
let engine: Engine;
before(async () => {
  root = mkdtempSync(join(tmpdir(), 'jepa-modalities-'));
  engine = await createEngine({ workers: 2 });
});
after(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

const few = { options: { count: 16, testCount: 8 }, threads: 0 };
const settings = { batchSize: 4, steps: 3, checkpointEvery: 2, diagnoseEvery: 100, probeEvery: 100, workers: 2 };
const small = { width: 16, depth: 2, heads: 2 };

/** Of each modality a method on its procedural set, and how many numbers a raw sample has. */
const RUNS: Readonly<Record<string, { readonly config: Partial<ConfigInput>; readonly raw: number }>> = {
  vjepa: {
    config: {
      data: { kind: 'video', source: 'procedural:motions', frames: 4, frameStep: 2, size: 16, ...few },
      method: {
        name: 'vjepa',
        encoder: { kind: 'vit', patchSize: 8, ...small },
        predictor: { width: 8, depth: 1 },
        masks: [{ blocks: 1, spatialScale: [0.3, 0.5] }],
      },
    },
    raw: 3 * 4 * 9 * 9, // larger samples are shrunk to about a thousand numbers
  },
  vjepa2: {
    config: {
      data: { kind: 'video', source: 'procedural:motions', frames: 8, frameStep: 2, size: 16, ...few },
      method: {
        name: 'vjepa2',
        encoder: { kind: 'vit', patchSize: 8, ...small },
        predictor: { width: 32, depth: 1 },
        masks: [],
        future: { context: 2, horizons: 2 },
      },
    },
    raw: 3 * 8 * 6 * 6,
  },
  vjepa21: {
    config: {
      data: { kind: 'video', source: 'procedural:motions', frames: 4, frameStep: 2, size: 16, ...few },
      method: {
        name: 'vjepa21',
        encoder: { kind: 'vit', patchSize: 8, ...small, heads: 1 },
        predictor: { width: 32, depth: 1 },
        masks: [{ blocks: 1, spatialScale: [0.3, 0.5] }],
      },
    },
    raw: 3 * 4 * 9 * 9,
  },
  'audio-jepa': {
    config: {
      data: { kind: 'sound', source: 'procedural:tones', seconds: 1, features: { frames: 16, mels: 16 }, ...few },
      method: {
        name: 'audio-jepa',
        encoder: { kind: 'vit', patchSize: 4, ...small },
        predictor: { width: 8, depth: 1, heads: 2 },
      },
    },
    raw: 16 * 16,
  },
  's-jepa': {
    config: {
      data: { kind: 'skeleton', source: 'procedural:stick-figures', frames: 16, ...few },
      method: { name: 's-jepa', encoder: small, predictor: { width: 8, depth: 1, heads: 2 } },
    },
    raw: 16 * 15 * 3,
  },
  'text-jepa': {
    config: {
      data: { kind: 'text', source: 'procedural:grammar', tokens: 32, vocabulary: 300, ...few },
      method: { name: 'text-jepa', encoder: small, predictor: { width: 8, depth: 1 } },
    },
    raw: 300,
  },
  'llm-jepa': {
    config: {
      data: { kind: 'text', source: 'procedural:grammar', tokens: 256, vocabulary: 300, ...few },
      method: { name: 'llm-jepa', encoder: small },
    },
    raw: 300,
  },
};

const open = (config: Config): Promise<SampleSplits> => openSampleSplits(specOf(config));

describe('one trainer for every modality', () => {
  for (const [name, { config: input, raw }] of Object.entries(RUNS)) {
    it(`${name}: trains, and what it learned is frozen, read back and compared with the samples themselves`, async () => {
      const config = parseConfig({ ...input, train: settings });
      const data = await open(config);
      assert.deepEqual([data.train.length, data.test.length], [16, 8]);
      const folder = join(root, name);
      const losses: number[] = [];
      const result = await train({
        config,
        dataset: data.train,
        heldOut: data.test,
        folder,
        engine,
        events: { onStep: ({ loss }) => losses.push(loss) },
      });
      assert.equal(losses.length, 3);
      assert.ok(losses.every(Number.isFinite));
      assert.ok(result.last && result.last.width === result.method.encoder.features);

      const own = await trainedEncoder(result, config, 'own');
      const opened = openEncoder(folder);
      const rows = await extractFeatures(engine, opened, data.test, { threads: 0 });
      assert.deepEqual(rows.rows.shape, [8, opened.encoder.features]);
      assert.deepEqual((await extractFeatures(engine, own, data.test, { threads: 1 })).rows, rows.rows);
      const plain = await extractFeatures(engine, rawSource(opened), data.test, { threads: 0 });
      assert.equal(plain.rows.shape[0], 8);
      assert.ok(Math.abs(plain.rows.shape[1] / raw - 1) < 0.05, `${plain.rows.shape[1]} numbers`);
    });
  }

  it('a run with values that live from step to step goes on bit for bit', async () => {
    const config = parseConfig({ ...RUNS['s-jepa'].config, train: { ...settings, checkpointEvery: 1 } });
    const { train: dataset } = await open(config);
    const folder = join(root, 'resumed');
    const stop = new AbortController();
    const first = await train({
      config,
      dataset,
      folder,
      engine,
      signal: stop.signal,
      events: { onStep: ({ step }) => step === 2 && stop.abort() },
    });
    assert.deepEqual([first.interrupted, first.steps], [true, 2]);
    await train({ config, dataset, folder, engine, resume: true });
    const [whole, resumed] = ['s-jepa', 'resumed'].map((run) => loadCheckpoint(join(root, run, 'checkpoint')));
    assert.ok(whole.memory.get('centre')?.data.some((value) => value !== 0));
    for (const part of ['memory', 'weights', 'slots'] as const) {
      for (const [key, { data }] of whole[part]) assert.deepEqual(resumed[part].get(key)?.data, data, `${part} ${key}`);
    }
  });

  it('a method on data of another kind is refused', () => {
    assert.throws(
      () => parseConfig({ data: { kind: 'text' }, method: { name: 'vjepa' }, train: { steps: 1 } }),
      /data\.kind: vjepa learns from data of kind video, not text/,
    );
  });
});
