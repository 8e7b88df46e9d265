import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { specOf } from '../../src/cli/data.js';
import { openSampleSplits, type SampleSplits } from '../../src/data/samples-node.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { loadCheckpoint } from '../../src/train/checkpoint.js';
import { type Config, parseConfig } from '../../src/train/config.js';
import { forecastScores } from '../../src/train/forecast.js';
import { schedules } from '../../src/train/loop.js';
import { train } from '../../src/train/trainer.js';
import { lookingAhead } from './encoders.js';

const input = lookingAhead(8, { count: 32, testCount: 24 });

let engine: Engine;
let root: string;
let data: SampleSplits;
let config: Config;
const folder = (name: string): string => join(root, name);
before(async () => {
  root = mkdtempSync(join(tmpdir(), 'jepa-forecast-'));
  engine = await createEngine({ workers: 1 });
  config = parseConfig(input);
  data = await openSampleSplits(specOf(config));
  await train({ config, dataset: data.train, folder: folder('first'), engine });
});
after(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

describe('forecasts of a run', () => {
  it('are measured by horizon beside persistence, random weights and the future itself', async () => {
    const run = loadCheckpoint(join(folder('first'), 'checkpoint'));
    const scores = await forecastScores({ engine, run, ...data, loading: { threads: 0 } });
    assert.deepEqual(scores?.future, { context: 2, segment: 1, horizons: 2 });
    assert.deepEqual(
      scores?.trained.map(({ moments }) => moments),
      [1, 2],
    );
    for (const { predicted, persisted, classes } of [...(scores?.trained ?? []), ...(scores?.random ?? [])]) {
      // Layer-normed tokens are 2 / sqrt(pi) apart where they have nothing to do with each other.
      for (const energy of [predicted, persisted]) assert.ok(energy > 0.01 && energy < 1.3, String(energy));
      for (const kind of ['prediction', 'persistence', 'target'] as const) {
        const { accuracy, interval } = classes?.[kind] ?? { accuracy: Number.NaN, interval: [0, 0] };
        assert.ok(Number.isInteger(Math.round(accuracy * 24 * 1e6) / 1e6) && accuracy <= interval[1]);
      }
    }
    assert.notDeepEqual(scores?.trained, scores?.random);
  });

  it('where nothing moves, persistence is nearer to what comes', async () => {
    const standing = {
      ...data.test,
      source: undefined,
      read: async (index: number) => {
        const clip = (await data.test.read(index)) as { readonly data: Uint8Array; readonly frames: number };
        const size = clip.data.length / clip.frames;
        const same = clip.data.slice();
        for (let frame = 1; frame < clip.frames; frame++) same.set(clip.data.subarray(0, size), frame * size);
        return { ...clip, data: same };
      },
    };
    const run = loadCheckpoint(join(folder('first'), 'checkpoint'));
    const options = { engine, run, train: { ...data.train, labels: undefined }, loading: { threads: 0 } };
    const moving = await forecastScores({ ...options, test: data.test });
    const still = await forecastScores({ ...options, test: standing });
    for (const h of [0, 1]) assert.ok((still?.trained[h].persisted ?? 1) < (moving?.trained[h].persisted ?? 0));
    assert.equal(still?.trained[0].classes, undefined);
  });

  it('methods without time make none', async () => {
    const run = loadCheckpoint(join(folder('first'), 'checkpoint'));
    const images = parseConfig({
      data: { kind: 'image', size: 28, channels: 1 },
      method: {
        name: 'ijepa',
        encoder: { kind: 'vit', patchSize: 4, width: 16, depth: 1, heads: 2 },
        masks: { minKeep: 2 },
      },
      train: { steps: 1 },
    });
    const meta = { ...run.meta, config: images };
    assert.equal(await forecastScores({ engine, run: { ...run, meta }, ...data }), undefined);
  });
});

describe('a run that begins with the weights of another', () => {
  const from = (extra: object) =>
    parseConfig({ ...input, ...extra, train: { ...input.train, steps: 1, from: folder('first') } });

  it('starts from them', async () => {
    const first = loadCheckpoint(join(folder('first'), 'checkpoint')).weights;
    const calm = { lr: 1e-12, startLr: 0, weightDecay: 0, finalWeightDecay: 0, schedule: 'linear', warmup: 0 };
    const result = await train({ config: from({ optimizer: calm }), dataset: data.train, engine });
    const now = await result.state.read();
    for (const [name, { data }] of first) {
      const other = now.get(name)?.data as Float32Array;
      assert.ok(
        data.every((value, i) => Math.abs(value - other[i]) < 1e-5),
        name,
      );
    }
  });

  it('refuses those of another shape, and says which', async () => {
    const wider = { ...input.method, predictor: { width: 16, depth: 1 } };
    await assert.rejects(
      train({ config: from({ method: wider }), dataset: data.train, engine }),
      /train\.from: predictor\.\S+ has shape \[.*\] there and \[.*\] here/,
    );
  });
});

describe('schedules of a configuration', () => {
  const at = (optimizer: object) => schedules(parseConfig({ ...input, optimizer }), 100);
  const rates = { lr: 1, startLr: 0, finalLr: 0, warmup: 0.1 };

  it('cosine, constant, stable and linear rates', () => {
    const values = (schedule: string, steps: readonly number[]) => {
      const { lr } = at({ ...rates, schedule, anneal: 0.2 });
      return steps.map((step) => Math.round(lr(step) * 1e6) / 1e6);
    };
    assert.deepEqual(values('cosine', [5, 10, 55, 100]), [0.5, 1, 0.5, 0]);
    assert.deepEqual(values('constant', [5, 10, 55, 100]), [0.5, 1, 1, 1]);
    assert.deepEqual(values('stable', [5, 10, 80, 90, 100]), [0.5, 1, 1, 0.5, 0]);
    assert.deepEqual(values('linear', [5, 10, 55, 100]), [0.5, 1, 0.5, 0]);
  });

  it('momentum on a line or half a cosine', () => {
    const momentum = [0.996, 1] as const;
    const values = (momentumSchedule: string) => {
      const schedule = at({ momentum, momentumSchedule }).momentum;
      return [0, 25, 50, 100].map((update) => Math.round(schedule(update) * 1e7) / 1e7);
    };
    assert.deepEqual(values('linear'), [0.996, 0.997, 0.998, 1]);
    // 1 - 0.004 (1 + cos(pi / 4)) / 2 at a quarter.
    assert.deepEqual(values('cosine'), [0.996, 0.9965858, 0.998, 1]);
  });
});
