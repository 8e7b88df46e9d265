import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { openConfiguredData } from '../../src/cli/data.js';
import { motionVideos } from '../../src/data/procedural/motions.js';
import { clipDataset } from '../../src/data/video/clips.js';
import type { VideoDataset } from '../../src/data/video/dataset.js';
import { averagePrecision, boxIou, tubeIous, videoMap } from '../../src/eval/detection.js';
import { vitConfig } from '../../src/nn/vit.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { anticipationScores } from '../../src/train/anticipate.js';
import { loadCheckpoint } from '../../src/train/checkpoint.js';
import { parseConfig } from '../../src/train/config.js';
import type { FrozenEncoder } from '../../src/train/frozen.js';
import { inPatches, locate } from '../../src/train/locate.js';
import { knownBoxes } from '../../src/train/moments.js';
import { train } from '../../src/train/trainer.js';
import { lookingAhead, untrained } from './encoders.js';

let engine: Engine;
let root: string;
before(async () => {
  root = mkdtempSync(join(tmpdir(), 'jepa-locate-'));
  engine = await createEngine({ workers: 1 });
});
after(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

const near = (a: number, b: number, what?: string) =>
  assert.ok(Math.abs(a - b) < 1e-9, `${what ?? ''} ${a} is not ${b}`);

describe('boxes and tubes', () => {
  it('overlap as areas do, inside of the frame only', () => {
    const box = [0.5, 0.5, 0.2, 0.1];
    near(boxIou(box, box), 1);
    near(boxIou(box, [0.7, 0.5, 0.2, 0.1]), 1 / 3); // half of each is shared
    near(boxIou(box, [0.9, 0.5, 0.1, 0.1]), 0);
    near(boxIou([0, 0.5, 0.2, 0.1], [0.1, 0.5, 0.1, 0.1]), 1); // what lies outside does not count
    near(boxIou([0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]), 0);
    near(boxIou(box, [0.5, 0.5, Number.POSITIVE_INFINITY, 0.1]), 0.4);
    assert.deepEqual(
      [...tubeIous([...box, ...box], [...box, 0.7, 0.5, 0.2, 0.1], 2)],
      [(1 + boxIou(box, [0.7, 0.5, 0.2, 0.1])) / 2],
    );
    assert.throws(() => tubeIous([1, 2, 3], [1, 2, 3], 1), /no equal numbers of tubes/);
  });

  it('average precision is that of the published example', () => {
    // Found at ranks 1, 3 and 4 of 4 that could be found: (1/1 + 2/3 + 3/4) / 4.
    near(averagePrecision([0.9, 0.8, 0.7, 0.6], [true, false, true, true], 4), (1 + 2 / 3 + 3 / 4) / 4);
    near(averagePrecision([0.1, 0.9], [true, false], 1), 1 / 2);
    assert.ok(Number.isNaN(averagePrecision([], [], 0)));
    // Two classes; the second video's tube misses, so that its class finds nothing.
    near(videoMap([0.9, 0.1, 0.2, 0.8], [0, 1], [0.7, 0.2], 2), 1 / 2);
    // A class without a video is left out.
    near(videoMap([0.9, 0.1, 0, 0.2, 0.8, 0], [0, 1], [0.7, 0.5], 3), 1);
  });

  it('a patch sees a box from its own middle', () => {
    const { patches, boxes } = inPatches(Float32Array.of(0.3, 0.8, 0.25, 0.125), [4, 4]);
    assert.deepEqual([...patches], [4 * 3 + 1]);
    const wanted = [0.3 * 4 - 1.5, 0.8 * 4 - 3.5, Math.log(1), Math.log(0.5)];
    wanted.forEach((value, i) => {
      assert.ok(Math.abs(boxes[i] - value) < 1e-6);
    });
  });
});

/** Clips of a bright square on noise, going right (0) or down (1), 2 frames of 16 x 16. */
function squares(count: number, seed: number): VideoDataset {
  const made = motionVideos({ count, seed, frames: 2, size: 16, channels: 1, classes: ['right', 'down'] });
  const { labels } = made;
  return {
    ...made,
    source: undefined,
    async read(index, request) {
      const frames = await made.read(index, request);
      const data = frames.data.map((_, i) => (i * 7 + index * 13) % 60);
      const boxes = new Float32Array(8);
      const [x, y] = [2 + ((index * 5) % 9), 2 + ((index * 11) % 9)];
      for (let t = 0; t < 2; t++) {
        const [left, top] = [x + (labels[index] === 0 ? 2 * t : 0), y + (labels[index] === 1 ? 2 * t : 0)];
        for (let p = 0; p < 16; p++) data[t * 256 + (top + (p >> 2)) * 16 + left + (p & 3)] = 250;
        boxes.set([left + 2, top + 2, 2, 2], 4 * t);
      }
      return { ...frames, data, boxes };
    },
  };
}

describe('localisation', () => {
  const encoder: FrozenEncoder = {
    ...untrained({
      kind: 'vit',
      ...vitConfig({
        imageSize: 16,
        patchSize: 4,
        channels: 1,
        frames: 2,
        width: 24,
        depth: 1,
        heads: 2,
        positions: 'uniform',
      }),
    }),
    preparation: { kind: 'video', transform: { kind: 'evaluate', size: 16, mean: [0.5], std: [0.25] } },
  };
  const clips = (videos: VideoDataset) => clipDataset(videos, { frames: 2, frameStep: 1 });

  it('finds a bright square in raw patches and with random weights, not with an encoder that is blind', async () => {
    const weights = new Map(encoder.weights);
    for (const [name, { shape, data }] of weights) weights.set(name, float32(shape, new Float32Array(data.length)));
    const options = {
      engine,
      encoder: { ...encoder, weights },
      train: clips(squares(192, 1)),
      test: clips(squares(48, 2)),
      loading: { threads: 0 },
      settings: { epochs: 1, leastSteps: 150, lr: 5e-3 },
    };
    const { moments, testSamples, raw, constant, encoder: own, random } = await locate(options);
    assert.deepEqual([moments, testSamples], [1, 48]);
    assert.ok(constant.iou < 0.25, `mean box: ${constant.iou}`);
    assert.ok(raw.iou > constant.iou + 0.3, `raw: ${raw.iou} beside ${constant.iou}`);
    // What is blind tells the same of every clip; random weights, which see, are not those that were given.
    assert.ok(own.iou < constant.iou + 0.1, `blind: ${own.iou} beside ${constant.iou}`);
    assert.ok(random.iou > own.iou + 0.15, `random weights: ${random.iou} beside ${own.iou}`);
    for (const { iou, found, map } of [own, raw, random])
      for (const share of [iou, found, map]) assert.ok(share >= 0 && share <= 1);
  });

  it('knows boxes by the last frame of each tubelet, and refuses videos without them', async () => {
    const { boxes, moments } = await knownBoxes(clips(squares(4, 1)), 2)([1]);
    const { boxes: all } = await squares(4, 1).read(1, () => [0, 1]);
    assert.equal(moments, 1);
    assert.deepEqual(
      [...boxes],
      Array.from(all?.subarray(4) ?? [], (value) => Math.fround(value / 16)),
    );
    const blind = {
      ...squares(4, 1),
      read: async (i: number) => ({ ...(await squares(4, 1).read(i, () => [0, 1])), boxes: undefined }),
    };
    await assert.rejects(knownBoxes(clips(blind), 2)([0]), /it is known where their one object is/);
  });
});

describe('anticipation', () => {
  const config = parseConfig(lookingAhead(4, { count: 96, testCount: 48, frames: 8 }));

  it('is told from what was seen, predicted and comes, beside where it is now and chance', async () => {
    const data = await openConfiguredData(config);
    await train({ config, dataset: data.train, folder: join(root, 'run'), engine });
    const run = loadCheckpoint(join(root, 'run', 'checkpoint'));
    const settings = { epochs: 1, leastSteps: 40 };
    const scores = await anticipationScores({ engine, run, ...data, settings, loading: { threads: 0 } });
    assert.deepEqual(
      [scores.future, scores.moments, scores.testSamples],
      [{ context: 2, segment: 1, horizons: 2 }, [1, 2], 48],
    );
    const { predicted, seen, coming, random, raw, persistence, chance } = scores;
    for (const { first, amongFive } of [predicted, seen, coming, random, raw, persistence].flat())
      assert.ok(first >= 0 && first <= amongFive && amongFive <= 100);
    assert.deepEqual(chance, { first: 6.25, amongFive: 31.25 });

    // Persistence by hand: shares of clips that stay in their field, class by class.
    const byClass = new Map<number, number[]>();
    for (let i = 0; i < 48; i++) {
      const { boxes } = await knownBoxes(data.test, 2)([i]);
      const field = (moment: number): number =>
        Math.floor(4 * boxes[4 * moment]) + 4 * Math.floor(4 * boxes[4 * moment + 1]);
      // The context lies at the beginning: 2 + 2 moments are all.
      byClass.set(field(3), [...(byClass.get(field(3)) ?? []), field(1) === field(3) ? 100 : 0]);
    }
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    near(persistence[1].first, mean([...byClass.values()].map(mean)), 'persistence');
  });
});
