import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { memoryDataset } from '../../src/data/dataset.js';
import { ballVideos } from '../../src/data/procedural/balls.js';
import { digitPictures, digitVideos } from '../../src/data/procedural/digits.js';
import {
  INTERACTIONS,
  interactionVideos,
  MOTIONS,
  type MotionOptions,
  motionVideos,
} from '../../src/data/procedural/motions.js';
import { physicsVideos, VIOLATIONS } from '../../src/data/procedural/physics.js';
import type { ProceduralVideos } from '../../src/data/procedural/videos.js';
import { frameOf } from '../../src/data/video/clip.js';
import { openVideos } from '../../src/data/video/dataset.js';
import { accuracy, fitLogistic, predictedClasses, predictProbabilities } from '../../src/eval/logistic.js';

const all = (facts: { count: number }) => Array.from({ length: facts.count }, (_, i) => i);

/** How well a linear probe names classes it was fitted to name, on other samples: rows of `width` numbers. */
function probe(train: number[][], trainLabels: Int32Array, test: number[][], testLabels: Int32Array, classes: number) {
  const samples = (rows: number[][]) => ({
    shape: [rows.length, rows[0].length],
    data: Float32Array.from(rows.flat()),
  });
  const model = fitLogistic(samples(train), trainLabels, classes, { C: 0.1 });
  const predict = (rows: number[][]) => predictedClasses(predictProbabilities(model, samples(rows)));
  return { accuracy: accuracy(predict(test), testLabels), predict };
}

/**
 * What moves, from the pixels of a video alone: where a frame differs from the median of all, its middle on the torus and
 * its area; from these the mean speed, the mean turn, and how the area and the speed change (slowly up or slowly down).
 */
function motionFeatures(frames: readonly Uint8Array[], size: number): number[] {
  const median = Uint8Array.from(
    frames[0],
    (_, i) => frames.map((frame) => frame[i]).sort((a, b) => a - b)[frames.length >> 1],
  );
  const middles = frames.map((frame) => {
    let [area, cx, sx, cy, sy] = [0, 0, 0, 0, 0];
    for (let i = 0; i < frame.length; i++) {
      if (Math.abs(frame[i] - median[i]) < 12) continue;
      const [x, y] = [(2 * Math.PI * (i % size)) / size, (2 * Math.PI * Math.floor(i / size)) / size];
      area++;
      cx += Math.cos(x);
      sx += Math.sin(x);
      cy += Math.cos(y);
      sy += Math.sin(y);
    }
    return { area: Math.sqrt(area) / size, x: Math.atan2(sx, cx), y: Math.atan2(sy, cy) };
  });
  const wrapped = (angle: number) => Math.atan2(Math.sin(angle), Math.cos(angle));
  const steps = middles.slice(1).map((to, t) => ({
    x: wrapped(to.x - middles[t].x),
    y: wrapped(to.y - middles[t].y),
    area: to.area - middles[t].area,
  }));
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const turns = steps.slice(1).map((to, t) => steps[t].x * to.y - steps[t].y * to.x);
  return [
    mean(steps.map(({ x }) => x)),
    mean(steps.map(({ y }) => y)),
    100 * mean(turns.map((turn) => Math.max(-0.05, Math.min(0.05, turn)))),
    100 * mean(steps.map(({ area }) => Math.sign(area))),
    Math.log(1e-3 + mean(steps.map(({ area }) => Math.abs(area)))),
    Math.log(1e-3 + mean(steps.map(({ x, y }) => Math.hypot(x, y)))),
  ];
}

async function framesOf(videos: ProceduralVideos, index: number): Promise<Uint8Array[]> {
  const clip = await videos.read(index, all);
  return Array.from({ length: clip.frames }, (_, t) => frameOf(clip, t));
}

describe('moving shapes', () => {
  const classes = MOTIONS.slice(0, 8);
  const settings: Omit<MotionOptions, 'count'> = { classes, size: 24, channels: 1, occlusion: 0.3 };

  it('one frame does not name the motion, all frames do; backwards it is the other class', async () => {
    const train = motionVideos({ ...settings, count: 640 });
    const test = motionVideos({ ...settings, count: 320, split: 'test' });
    const [trainFrames, testFrames] = await Promise.all(
      [train, test].map((videos) => Promise.all(Array.from(videos.labels, (_, index) => framesOf(videos, index)))),
    );
    const chance = 1 / classes.length;
    for (const t of [0, 8]) {
      const rows = (videos: Uint8Array[][]) => videos.map((frames) => Array.from(frames[t]));
      const single = probe(rows(trainFrames), train.labels, rows(testFrames), test.labels, classes.length);
      assert.ok(single.accuracy < chance + 0.1, `frame ${t}: ${single.accuracy}`);
    }
    const features = (videos: Uint8Array[][]) => videos.map((frames) => motionFeatures(frames, 24));
    const moving = probe(features(trainFrames), train.labels, features(testFrames), test.labels, classes.length);
    assert.ok(moving.accuracy > 0.7, `all frames: ${moving.accuracy}`);
    // right - left, up - down, clockwise - anticlockwise, approach - recede
    const backwards = moving.predict(testFrames.map((frames) => motionFeatures([...frames].reverse(), 24)));
    const reversed = accuracy(
      backwards,
      test.labels.map((label) => label ^ 1),
    );
    assert.ok(reversed > 0.7, `backwards: ${reversed}`);
  });

  it('whatever the class, places are uniform at any time', () => {
    for (const [make, names] of [
      [motionVideos, MOTIONS],
      [interactionVideos, INTERACTIONS],
    ] as const) {
      const count = 100 * names.length;
      const videos = make({ count });
      const counts = names.map(() => new Map<string, number>());
      for (let index = 0; index < count; index++) {
        const boxes = videos.boxes(index);
        const objects = boxes.length / (16 * 4);
        for (const t of [0, 9, 15]) {
          const [x, y] = boxes.subarray(t * objects * 4, t * objects * 4 + 2);
          assert.ok(x >= 0 && x < 64 && y >= 0 && y < 64);
          const cell = `${t} ${Math.floor(x / 32)} ${Math.floor(y / 32)}`;
          const of = counts[videos.labels[index]];
          of.set(cell, (of.get(cell) ?? 0) + 1);
        }
      }
      for (const [k, of] of counts.entries()) {
        for (const t of [0, 9, 15]) {
          const cells = [...of].filter(([cell]) => cell.startsWith(`${t} `)).map(([, n]) => n);
          const chi2 = cells.reduce((sum, n) => sum + (n - 25) ** 2 / 25, (4 - cells.length) * 25);
          // Three degrees of freedom: above 21 once in 10,000 times, and there are 60 of these.
          assert.ok(chi2 < 21, `${names[k]}, frame ${t}: ${cells}`);
        }
      }
    }
  });

  it('classes are balanced and independent of everything else that is drawn', () => {
    const count = 1400;
    const videos = motionVideos({ count });
    for (let k = 0; k < MOTIONS.length; k++) assert.equal(videos.labels.filter((label) => label === k).length, 100);
    for (const [name, values] of Object.entries(videos.attributes)) {
      const levels = Math.max(...values) + 1;
      let chi2 = 0;
      for (let level = 0; level < levels; level++) {
        const share = values.filter((value) => value === level).length / count;
        for (let k = 0; k < MOTIONS.length; k++) {
          const found = values.filter((value, i) => value === level && videos.labels[i] === k).length;
          chi2 += (found - 100 * share) ** 2 / (100 * share);
        }
      }
      const freedom = (levels - 1) * (MOTIONS.length - 1);
      assert.ok(chi2 < freedom + 4.5 * Math.sqrt(2 * freedom), `${name}: ${chi2} at ${freedom}`);
    }
    const mean = (of: Float32Array) => of.reduce((sum, value) => sum + value, 0) / of.length;
    for (const [name, values] of Object.entries(videos.factors)) {
      const middle = mean(values);
      const deviation = Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
      for (let k = 0; k < MOTIONS.length; k++) {
        const own = values.filter((_, i) => videos.labels[i] === k);
        assert.ok(Math.abs(mean(own) - middle) < 0.4 * deviation, `${name}, ${MOTIONS[k]}`);
      }
    }
  });

  it('the same seed gives the same videos, frame by frame and in any thread; another one others', async () => {
    for (const make of [motionVideos, interactionVideos]) {
      const videos = make({ count: 20, size: 32 });
      const whole = await videos.read(7, all);
      const again = await (await openVideos(videos.source!)).read(7, () => [9, 2]);
      assert.deepEqual(again.data.subarray(0, 32 * 32 * 3), frameOf(whole, 9));
      assert.deepEqual(again.data.subarray(32 * 32 * 3), frameOf(whole, 2));
      for (const other of [make({ count: 20, size: 32, seed: 1 }), make({ count: 20, size: 32, split: 'test' })]) {
        assert.notDeepEqual((await other.read(7, all)).data, whole.data);
      }
    }
  });

  it('several movers move alike: each stays where it is to the first, on the torus, and grows as it does', async () => {
    const options = { count: 28, size: 32, channels: 1, occlusion: 0, bystanders: 0 } as const;
    const one = motionVideos(options);
    const crowd = motionVideos({ ...options, movers: 4 });
    /** [x, y, half width, half height] of a shape at a time. */
    const boxAt = (boxes: Float32Array, shapes: number, t: number, shape: number) =>
      boxes.subarray((t * shapes + shape) * 4, (t * shapes + shape + 1) * 4);
    const around = (value: number) => value - 32 * Math.round(value / 32);
    for (let index = 0; index < crowd.length; index++) {
      const [alone, together] = [one.boxes(index), crowd.boxes(index)];
      assert.equal(together.length, 16 * 4 * 4);
      const starts = [1, 2, 3].map((shape) => boxAt(together, 4, 0, shape));
      const first = boxAt(together, 4, 0, 0);
      for (let t = 0; t < 16; t++) {
        const leader = boxAt(together, 4, t, 0);
        assert.deepEqual(leader, boxAt(alone, 1, t, 0));
        for (const [i, start] of starts.entries()) {
          const box = boxAt(together, 4, t, i + 1);
          for (const axis of [0, 1]) {
            const moved = around(box[axis] - start[axis]) - around(leader[axis] - first[axis]);
            assert.ok(Math.abs(around(moved)) < 1e-3, `video ${index}, frame ${t}, shape ${i + 1}: ${moved}`);
          }
          assert.ok(Math.abs(box[2] / start[2] - leader[2] / first[2]) < 1e-4);
        }
      }
    }
  });

  it('the kinds of backgrounds can be chosen: a plain one has one colour wherever no shape is', async () => {
    const options = { count: 14, size: 32, channels: 1, occlusion: 0, bystanders: 0 } as const;
    const plain = motionVideos({ ...options, movers: 2, backgrounds: ['plain'] });
    assert.ok(plain.attributes.background.every((kind) => kind === 0));
    for (let index = 0; index < plain.length; index++) {
      const { data, boxes } = await plain.read(index, ({ count }) => Array.from({ length: count }, (_, t) => t));
      const seen = new Set<number>();
      for (let t = 0; t < 16; t++) {
        for (let at = 0; at < 32 * 32; at++) {
          const far = [0, 1].every((shape) => {
            const [x, y, radius] = (boxes as Float32Array).subarray((2 * t + shape) * 4);
            const apart = (a: number, b: number) => Math.abs(a - b - 32 * Math.round((a - b) / 32));
            const way = Math.hypot(apart((at % 32) + 0.5, x), apart(Math.floor(at / 32) + 0.5, y));
            return way > 1.4 * radius + 1;
          });
          if (far) seen.add(data[t * 32 * 32 + at]);
        }
      }
      assert.equal(seen.size, 1, `video ${index}`);
    }
    const kinds = motionVideos({ ...options, count: 200, backgrounds: ['clouds', 'stripes'] }).attributes.background;
    assert.deepEqual([...new Set(kinds)].sort(), [2, 4]);
  });

  it('bad options are named', () => {
    assert.throws(() => motionVideos({ count: 1, movers: 0 }), /movers 0 must be from 1 to 32/);
    assert.throws(() => interactionVideos({ count: 1, movers: 3 }), /interactions: two shapes move/);
    assert.throws(() => motionVideos({ count: 1, backgrounds: ['sea'] }), /sea is no background; there are plain, /);
    assert.throws(() => motionVideos({ count: 1, backgrounds: [] }), /nothing is no background/);
    assert.throws(
      () => motionVideos({ count: 10, classes: ['sideways'] }),
      /motions: sideways is no class .* right, left/,
    );
    assert.throws(() => motionVideos({ count: 0 }), /motions: count 0 must be 1 or more/);
    assert.throws(() => motionVideos({ count: 1, occlusion: 2 }), /occlusion 2 must be from 0 to 1/);
  });
});

describe('possible and impossible events', () => {
  const videos = physicsVideos({ count: 4 * 5 * 8, size: 32 });
  const { kind, quadruplet, member, violation, visible, fromLeft } = videos.attributes;

  it('come in balanced quadruplets', () => {
    for (let index = 0; index < videos.length; index++) {
      assert.equal(quadruplet[index], Math.floor(index / 4));
      assert.equal(member[index], index % 4);
      assert.equal(videos.labels[index], index % 4 < 2 ? 0 : 1);
      assert.equal(violation[index] >= 0, videos.labels[index] === 1);
    }
    for (const [k] of VIOLATIONS.entries()) assert.equal(kind.filter((value) => value === k).length, 4 * 8);
    const left = fromLeft.reduce((sum, value) => sum + value, 0) / videos.length;
    assert.ok(left > 0.2 && left < 0.8);
  });

  it('impossible videos are made of the frames of the possible ones, and change when nothing is to be seen', async () => {
    for (let first = 0; first < videos.length; first += 4) {
      const four = await Promise.all([0, 1, 2, 3].map((i) => framesOf(videos, first + i)));
      const equal = (a: number, b: number, t: number) => Buffer.compare(four[a][t], four[b][t]) === 0;
      const [at, seen] = [violation[first + 2], visible[first + 2]];
      const wall = VIOLATIONS[kind[first]] === 'wall';
      for (let t = 0; t < 24; t++) {
        // 2 begins as 0 and 3 as 1; a wall stays where it is for the whole video.
        if (t < at) assert.ok(equal(2, 0, t) && equal(3, 1, t), `${first}, frame ${t}`);
        else if (!wall) assert.ok(equal(2, 1, t) && equal(3, 0, t), `${first}, frame ${t}`);
      }
      const shown = four[0].findIndex((_, t) => t >= at && !equal(2, 0, t));
      assert.ok(shown > at, `${first}: seen at ${shown}, happened at ${at}`);
      assert.ok(Math.abs(shown - seen) <= 1, `${first}: seen at ${shown}, expected ${seen}`);
      if (!wall) assert.ok(equal(0, 1, at) && equal(0, 1, at - 1), `${first}: not hidden`);
    }
  });

  it('options', async () => {
    const some = physicsVideos({ count: 8, kinds: ['wall', 'shape'], channels: 1, frames: 16 });
    assert.equal((await some.read(0, all)).data.length, 16 * 64 * 64);
    assert.throws(() => physicsVideos({ count: 6 }), /count 6 must be a multiple of 4/);
  });
});

describe('bouncing balls', () => {
  it('keep their energy, stay inside and do not overlap for long', () => {
    const videos = ballVideos({ count: 40, frames: 40, balls: [2, 4] });
    let met = 0;
    for (let index = 0; index < videos.length; index++) {
      const balls = 2 + videos.labels[index];
      const boxes = videos.boxes(index);
      assert.equal(boxes.length, 40 * balls * 4);
      const at = (t: number, ball: number) => boxes.subarray(4 * (t * balls + ball), 4 * (t * balls + ball) + 4);
      met += videos.attributes.collisions[index];
      for (let t = 0; t < 40; t++) {
        for (let a = 0; a < balls; a++) {
          const [x, y, radius] = at(t, a);
          assert.ok(x >= radius - 0.01 && x <= 64 - radius + 0.01 && y >= radius - 0.01 && y <= 64 - radius + 0.01);
          for (let b = 0; b < a; b++) {
            const [u, v, other] = at(t, b);
            assert.ok(Math.hypot(x - u, y - v) > 0.7 * (radius + other));
          }
        }
      }
      // No walls and no balls near: the energy is that of the steps, at the beginning and at the end.
      const energy = (t: number) => {
        let sum = 0;
        for (let ball = 0; ball < balls; ball++) {
          const [[x, y], [u, v]] = [at(t, ball), at(t + 1, ball)];
          sum += (u - x) ** 2 + (v - y) ** 2;
        }
        return sum;
      };
      const free = Array.from({ length: 39 }, (_, t) => t).filter((t) =>
        Array.from({ length: balls }, (_, a) => a).every((a) => {
          const [x, y, radius] = at(t, a);
          const far = radius + 4;
          return (
            Math.min(x, y, 64 - x, 64 - y) > far &&
            Array.from({ length: balls }, (_, b) => b).every((b) => {
              const [u, v, other] = at(t, b);
              return a === b || Math.hypot(x - u, y - v) > radius + other + 8;
            })
          );
        }),
      );
      for (const t of free) assert.ok(Math.abs(energy(t) / energy(free[0]) - 1) < 1e-3, `video ${index}, frame ${t}`);
    }
    assert.ok(met > 40);
  });

  it('are drawn where they are', async () => {
    const videos = ballVideos({ count: 3, balls: [1, 1], channels: 1 });
    const [frames, boxes] = [await framesOf(videos, 0), videos.boxes(0)];
    for (const [t, frame] of frames.entries()) {
      let [sum, x, y] = [0, 0, 0];
      for (let i = 0; i < frame.length; i++) {
        const value = frame[i] - 20;
        sum += value;
        x += value * ((i % 64) + 0.5);
        y += value * (Math.floor(i / 64) + 0.5);
      }
      assert.ok(Math.hypot(x / sum - boxes[4 * t], y / sum - boxes[4 * t + 1]) < 0.1, `frame ${t}`);
    }
  });
});

describe('moving digits', () => {
  const side = 8;
  const pictures = memoryDataset({
    name: 'digits',
    width: side,
    height: side,
    channels: 1,
    // Picture k of class k mod 12: a square of (k mod 12) + 10 rows of brightness.
    pixels: Uint8Array.from({ length: 24 * side * side }, (_, i) => 60 + 10 * (Math.floor(i / (side * side)) % 12)),
    labels: Int32Array.from({ length: 24 }, (_, i) => i % 12),
  });

  it('show their class, move straight between the walls and keep their light', async () => {
    const videos = digitVideos(await digitPictures(pictures), { count: 20, digits: 1, size: 32, channels: 1 });
    for (let index = 0; index < 20; index++) {
      const boxes = videos.boxes(index);
      for (const [t, frame] of (await framesOf(videos, index)).entries()) {
        const [x, y] = boxes.subarray(4 * t, 4 * t + 2);
        assert.ok(x >= 4 && x <= 28 && y >= 4 && y <= 28);
        const light = frame.reduce((sum, value) => sum + value, 0);
        const wanted = side * side * (60 + 10 * videos.labels[index]);
        assert.ok(Math.abs(light - wanted) < 0.01 * wanted, `${light} instead of ${wanted}`);
      }
    }
    assert.deepEqual(new Set(videos.labels), new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    const other = await openVideos(videos.source!);
    assert.deepEqual((await other.read(3, all)).data, (await videos.read(3, all)).data);
  });

  it('several a video are known', async () => {
    const videos = digitVideos(await digitPictures(pictures), { count: 30, digits: 3, size: 48 });
    assert.deepEqual(Object.keys(videos.attributes), ['digit1', 'digit2', 'digit3']);
    assert.deepEqual(videos.attributes.digit1, videos.labels);
    assert.equal(videos.boxes(0).length, 20 * 3 * 4);
    await assert.rejects(digitPictures({ ...pictures, labels: undefined }), /digits must be grey/);
  });
});
