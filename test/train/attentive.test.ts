import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type ImageDataset, memoryDataset } from '../../src/data/dataset.js';
import { clipDataset } from '../../src/data/video/clips.js';
import { memoryVideos, type VideoDataset } from '../../src/data/video/dataset.js';
import { vitConfig } from '../../src/nn/vit.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { attentiveProbe } from '../../src/train/attentive.js';
import type { FrozenEncoder } from '../../src/train/frozen.js';
import type { LabelledDataset } from '../../src/train/labelled.js';
import { untrained } from './encoders.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 2 });
});
after(() => engine.close());

const SIDE = 16;

/** Noise, and in one of 16 places a small cross or ring, which are equally bright: the class is told by one patch alone. */
function signs(count: number, seed: number): ImageDataset & { readonly labels: Int32Array } {
  const random = createRandom(seed);
  const pixels = Uint8Array.from({ length: count * SIDE * SIDE }, () => 100 + random.integer(60));
  const labels = Int32Array.from({ length: count }, (_, i) => i % 2);
  const shapes = ['1001' + '0110' + '0110' + '1001', '0110' + '1001' + '1001' + '0110'];
  labels.forEach((label, i) => {
    const [row, column] = [4 * random.integer(4), 4 * random.integer(4)];
    for (let p = 0; p < 16; p++) {
      const at = (i * SIDE + row + Math.floor(p / 4)) * SIDE + column + (p % 4);
      pixels[at] = shapes[label][p] === '1' ? 255 : 0;
    }
  });
  const dataset = memoryDataset({ name: 'signs', width: SIDE, height: SIDE, channels: 1, pixels, labels });
  return { ...dataset, labels };
}

const frozen = untrained({
  kind: 'vit',
  ...vitConfig({ imageSize: SIDE, patchSize: 4, channels: 1, width: 16, depth: 1, heads: 2 }),
});

describe('attentive probe', () => {
  it('finds the one patch that tells the class, and is the same for the same seed', async () => {
    const [train, test] = [signs(256, 1), signs(100, 2)];
    const settings = { epochs: 1, leastSteps: 120, batchSize: 32, lr: 3e-3 };
    const run = () => attentiveProbe(engine, frozen, train, test, { source: 'patches', classes: 2, seed: 3, settings });
    const { predictions, indices } = await run();
    assert.deepEqual([...indices], Array.from(test.labels.keys()));
    const right = predictions.filter((label, i) => label === test.labels[i]).length;
    assert.ok(right >= 90, `${right} of 100`);
    assert.deepEqual((await run()).predictions, predictions);
  });

  it('pools the tokens of an encoder; samples that cannot be read have no class', async () => {
    const [train, test] = [signs(32, 4), signs(10, 5)];
    const broken = {
      ...test,
      source: undefined,
      read: (index: number) => (index === 3 ? Promise.reject(new Error('damaged')) : test.read(index)),
    };
    const notes: string[] = [];
    const { predictions, indices } = await attentiveProbe(engine, frozen, train, broken, {
      source: 'tokens',
      classes: 2,
      seed: 0,
      settings: { epochs: 1, leastSteps: 2 },
      loading: { log: () => undefined },
      note: (line) => notes.push(line),
    });
    assert.deepEqual([...indices], [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert.equal(predictions.length, 9);
    assert.deepEqual(notes, []);
  });

  it('sees several clips of a video side by side, and averages over crops', async () => {
    // In each half of a video one side is bright; the class is how often it is the left one, which no single clip tells.
    const videos = (count: number, seed: number) => {
      const random = createRandom(seed);
      const pixels = new Uint8Array(count * 4 * 64);
      const labels = Int32Array.from({ length: count }, (_, i) => (i & 1) + ((i >> 1) & 1));
      for (let i = 0; i < count; i++) {
        for (let frame = 0; frame < 4; frame++) {
          const left = (frame < 2 ? i & 1 : (i >> 1) & 1) === 1;
          for (let p = 0; p < 64; p++) {
            const bright = p % 8 < 4 === left;
            pixels[(i * 4 + frame) * 64 + p] = (bright ? 160 : 40) + random.integer(40);
          }
        }
      }
      return memoryVideos({ name: 'halves', frames: 4, height: 8, width: 8, channels: 1, pixels, labels });
    };
    const [train, test] = [videos(128, 1), videos(40, 2)];
    const encoder: FrozenEncoder = {
      ...untrained({
        kind: 'vit',
        ...vitConfig({
          imageSize: 8,
          patchSize: 8,
          channels: 1,
          frames: 2,
          width: 8,
          depth: 1,
          heads: 1,
          positions: 'uniform',
        }),
      }),
      preparation: { kind: 'video', transform: { kind: 'evaluate', size: 8, mean: [0.5], std: [0.25] } },
    };
    const at = (videos: VideoDataset, which: number): LabelledDataset =>
      clipDataset(videos, { frames: 2, frameStep: 1, clips: 2, which }) as unknown as LabelledDataset;
    const parts = [0, 1].map((which) => ({ train: at(train, which), test: at(test, which) }));
    const run = async (clips: typeof parts, views: number) => {
      const settings = { epochs: 1, leastSteps: 150, batchSize: 32, lr: 3e-3 };
      const options = { source: 'patches', classes: 3, seed: 0, settings, clips, views } as const;
      const { predictions } = await attentiveProbe(engine, encoder, parts[0].train, parts[0].test, options);
      return predictions.filter((label, i) => label === parts[0].test.labels[i]).length;
    };
    // Of four equally frequent pairs one clip can tell three, at best.
    assert.ok((await run(parts.slice(0, 1), 1)) <= 30);
    assert.equal(await run(parts, 1), 40);
    assert.equal(await run(parts, 3), 40);
  });
});
