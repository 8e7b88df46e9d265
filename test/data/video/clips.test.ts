import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { JepaError } from '../../../src/base/errors.js';
import { createRandom } from '../../../src/base/random.js';
import { sharedBytes } from '../../../src/data/dataset.js';
import type { RawClip } from '../../../src/data/video/clip.js';
import { clipDataset, shortVideoNote } from '../../../src/data/video/clips.js';
import {
  memoryVideos,
  mixVideos,
  openVideos,
  streamVideo,
  subsetVideos,
  videoName,
} from '../../../src/data/video/dataset.js';
import { randAugment, randAugmentOperations, randAugmentSchema } from '../../../src/data/video/randaugment.js';
import { sampleClips } from '../../../src/data/video/sampling.js';
import {
  applyClipTransform,
  clipViews,
  eraseBox,
  parseClipTransform,
  pretrainClips,
  probeClips,
} from '../../../src/data/video/transforms.js';

const root = join(fileURLToPath(new URL('.', import.meta.url)), '../../../..');

const noise = (frames: number, height: number, width: number, channels = 3): RawClip => {
  const random = createRandom(4);
  const data = Uint8Array.from({ length: frames * height * width * channels }, () => random.integer(256));
  return { frames, height, width, channels, data };
};

describe('RandAugment', () => {
  it('operations equal those of Pillow 9.4, byte for byte', () => {
    const { image, width, height, level, sign, results } = JSON.parse(
      readFileSync(join(root, 'test/fixtures/video/randaugment.json'), 'utf8'),
    ) as { image: string; width: number; height: number; level: number; sign: number; results: Record<string, string> };
    const data = new Uint8Array(Buffer.from(image, 'hex'));
    const seen = new Set<string>();
    for (const increasing of [true, false]) {
      for (const [name, operation] of Object.entries(randAugmentOperations({ increasing }))) {
        const got = operation({ data, width, height, channels: 3 }, level, sign);
        assert.equal(Buffer.from(got).toString('hex'), results[name], name);
        seen.add(name);
      }
    }
    assert.deepEqual([...seen].sort(), Object.keys(results).sort());
  });

  it('treats all frames alike and follows the generator', () => {
    const one = noise(1, 12, 10);
    const clip = { ...one, frames: 3, data: Uint8Array.from([...one.data, ...one.data, ...one.data]) };
    const options = randAugmentSchema.parse({});
    const changed = Array.from({ length: 30 }, (_, seed) => randAugment(clip, options, createRandom(seed)));
    for (const { data } of changed) {
      assert.deepEqual(data.subarray(0, one.data.length), data.subarray(2 * one.data.length));
    }
    assert.deepEqual(randAugment(clip, options, createRandom(5)).data, changed[5].data);
    // Nothing happens with probability 1/16.
    const same = changed.filter(({ data }) => Buffer.compare(data, clip.data) === 0).length;
    assert.ok(same < 10, `${same} of 30 unchanged`);
  });
});

describe('clip transforms', () => {
  it('training: a constant colour stays, flips mirror, the same seed gives the same clip', () => {
    const red: RawClip = {
      ...noise(2, 20, 30),
      data: Uint8Array.from({ length: 3600 }, (_, i) => [255, 0, 51][i % 3]),
    };
    const transform = parseClipTransform({ ...pretrainClips(8), mean: [0], std: [1], motionShift: true });
    const out = new Float32Array(3 * 2 * 64);
    applyClipTransform(red, transform, createRandom(1), out);
    for (const [i, value] of out.entries()) assert.ok(Math.abs(value - [1, 0, 0.2][Math.floor(i / 128)]) < 1e-6);
    // The whole frame, mirrored for certain or never.
    const clip = noise(1, 8, 8);
    const [plain, mirrored] = [0, 1].map((flip) => {
      const whole = parseClipTransform({ kind: 'train', size: 8, scale: [1, 1], ratio: [1, 1], flip });
      const pixels = new Float32Array(3 * 64);
      applyClipTransform(clip, whole, createRandom(2), pixels);
      return pixels;
    });
    for (let row = 0; row < 24; row++) {
      assert.deepEqual(plain.slice(8 * row, 8 * row + 8).reverse(), mirrored.slice(8 * row, 8 * row + 8));
    }
    const probe = parseClipTransform(probeClips(8));
    const runs = [3, 3, 4].map((seed) => {
      const pixels = new Float32Array(3 * 4 * 64);
      applyClipTransform(noise(4, 30, 40), probe, createRandom(seed), pixels);
      return pixels;
    });
    assert.deepEqual(runs[0], runs[1]);
    assert.notDeepEqual(runs[0], runs[2]);
  });

  it('erasing happens as often as asked, inside of the frame, with the areas and shapes of the range', () => {
    const random = createRandom(9);
    let erased = 0;
    for (let i = 0; i < 2000; i++) {
      const box = eraseBox(60, 80, 0.25, random);
      if (!box) continue;
      erased++;
      assert.ok(box.top >= 0 && box.left >= 0 && box.top + box.height <= 60 && box.left + box.width <= 80);
      const area = (box.height * box.width) / 4800;
      assert.ok(area > 0.015 && area < 0.35, String(area));
    }
    // 500 expected, standard deviation 19.
    assert.ok(Math.abs(erased - 500) < 80, String(erased));
  });

  it('bad settings and sizes are one-line errors', () => {
    assert.throws(() => parseClipTransform({ kind: 'train' }, 'views'), JepaError);
    assert.throws(
      () => parseClipTransform({ kind: 'train', size: 8, ratio: [2, 1] }),
      /transform\.ratio: the first number/,
    );
    assert.deepEqual(clipViews(parseClipTransform({ kind: 'evaluate', size: 16, views: 3 })), {
      views: 3,
      height: 16,
      width: 16,
    });
    const out = new Float32Array(5);
    assert.throws(
      () => applyClipTransform(noise(1, 20, 20), parseClipTransform(pretrainClips(8)), createRandom(0), out),
      /do not hold 3 x 1 x 8 x 8/,
    );
    assert.throws(
      () => sampleClips({ frames: 4 }, { count: 9, fps: 30 }, createRandom(0)),
      /exactly one of frameStep, fps and duration/,
    );
  });
});

describe('clips of a video', () => {
  it('lie in the video, rise, and begin everywhere equally often', () => {
    const starts = new Map<number, number>();
    const random = createRandom(11);
    for (let i = 0; i < 4000; i++) {
      const [clip] = sampleClips({ frames: 4, frameStep: 2 }, { count: 18, fps: 0 }, random)!;
      assert.ok(clip.every((frame, k) => frame >= 0 && frame < 18 && (k === 0 || frame > clip[k - 1])));
      starts.set(clip[0], (starts.get(clip[0]) ?? 0) + 1);
    }
    // The published loader never draws the last place: 10 of them.
    assert.deepEqual(
      [...starts.keys()].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
    for (const count of starts.values()) assert.ok(Math.abs(count - 400) < 90, String(count));
  });
});

describe('videos shorter than a clip', () => {
  it('are told of', async () => {
    const pixels = new Uint8Array(2 * 10 * 4 * 4 * 3);
    const videos = memoryVideos({ name: 'short', frames: 10, height: 4, width: 4, channels: 3, pixels });
    // A clip spans frames times step (specs/vjepa.md 5.1).
    for (const [frames, frameStep] of [
      [10, 1],
      [5, 2],
    ])
      assert.equal(await shortVideoNote(clipDataset(videos, { frames, frameStep })), undefined);
    const note = await shortVideoNote(clipDataset(videos, { frames: 4, frameStep: 3 }));
    assert.match(note ?? '', /^short: it has 10 of the 12 frames that a clip spans, and is filled up with its last/);
    const damaged = { ...videos, read: () => Promise.reject(new JepaError('short: damaged')) };
    assert.equal(await shortVideoNote(clipDataset(damaged, { frames: 4, frameStep: 3 })), undefined);
  });
});

describe('videos in memory', () => {
  const [frames, height, width] = [5, 2, 3];
  const videos = (name: string, length: number, first: number, labelled = true) => {
    const pixels = sharedBytes(length * frames * height * width);
    for (let i = 0; i < pixels.length; i++) pixels[i] = first + Math.floor(i / (height * width));
    const labels = labelled ? Int32Array.from({ length }, (_, i) => i % 2) : undefined;
    const classNames = labelled ? ['a', name] : undefined;
    return memoryVideos({ name, frames, height, width, channels: 1, pixels, fps: 10, labels, classNames });
  };
  const first = async (set: ReturnType<typeof videos>, index: number) => (await set.read(index, () => [0])).data[0];

  it('frames, parts, streams and other threads', async () => {
    const set = videos('x', 4, 0);
    const clip = await set.read(2, ({ count, fps }) => [count - 1, 0, fps === 10 ? 1 : 0]);
    assert.deepEqual(
      [...clip.data].filter((_, i) => i % 6 === 0),
      [14, 10, 11],
    );
    const part = subsetVideos(set, [3, 1]);
    assert.deepEqual([...part.labels!], [1, 1]);
    assert.equal(videoName(part, 0), 'x[3]');
    const again = await openVideos(part.source!);
    assert.equal(await first(again, 1), 5);
    const pieces: number[][] = [];
    for await (const piece of streamVideo(set, 1, 2, 2)) pieces.push([...piece.indices, piece.data[0]]);
    assert.deepEqual(pieces, [
      [0, 2, 5],
      [4, 9],
    ]);
    await assert.rejects(
      set.read(4, () => [0]),
      /x: there is no video 4, indices are 0 to 3/,
    );
    await assert.rejects(
      set.read(0, () => [5]),
      /x\[0\]: there is no frame 5, the video has 5/,
    );
    assert.throws(
      () => memoryVideos({ name: 'y', frames, height, width, channels: 1, pixels: new Uint8Array(7) }),
      /7 bytes/,
    );
  });

  it('mixtures hold every data set in proportion to its weight', async () => {
    const [x, y, z] = [videos('x', 4, 0), videos('y', 3, 100), videos('z', 2, 200)];
    const mix = mixVideos([
      { videos: x, weight: 0.5 },
      { videos: y, weight: 0.3 },
      { videos: z, weight: 0.2 },
    ]);
    // 10 is the least total at which none of them loses a video: 4 / 0.5, 3 / 0.3 and 2 / 0.2.
    assert.equal(mix.length, 10);
    const found = await Promise.all(Array.from({ length: 10 }, (_, i) => first(mix, i)));
    assert.deepEqual(found, [0, 5, 10, 15, 0, 100, 105, 110, 200, 205]);
    assert.deepEqual(mix.classNames, ['a', 'x', 'y', 'z']);
    assert.deepEqual([...mix.labels!], [0, 1, 0, 1, 0, 0, 2, 0, 0, 3]);
    assert.equal(videoName(mix, 6), 'y[1]');
    const again = await openVideos(mix.source!);
    assert.equal(await first(again, 7), 110);
    assert.equal(
      mixVideos([
        { videos: x, weight: 1 },
        { videos: videos('u', 2, 0, false), weight: 1 },
      ]).labels,
      undefined,
    );
    assert.throws(() => mixVideos([{ videos: x, weight: 0 }]), /the weight 0 of x must be above 0/);
  });
});
