import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { withSources } from '../../src/cli/data.js';
import {
  open,
  STICK_ACTIONS,
  STICK_LAYOUT,
  type StickFigureOptions,
  stickFigures,
} from '../../src/data/procedural/stick-figures.js';
import { openSampleSplits } from '../../src/data/samples-node.js';
import { ntuClip, type SkeletonClip, skeletonArrays } from '../../src/data/skeleton/dataset.js';
import { ntuFolder } from '../../src/data/skeleton/folder-node.js';
import { NTU_LAYOUT, type SkeletonLayout } from '../../src/data/skeleton/layout.js';
import {
  mainBody,
  planSkeletons,
  type SkeletonInput,
  skeletonPreparation,
} from '../../src/data/skeleton/preparation.js';
import {
  centred,
  geometricView,
  mirrored,
  resampleFrames,
  rotation,
  spineAxis,
  turned,
  uprightRotation,
} from '../../src/data/skeleton/transforms.js';
import { accuracy, fitLogistic, predictedClasses, predictProbabilities } from '../../src/eval/logistic.js';
import { encodeNpz } from '../../src/hub/npy.js';
import { npzSkeletons } from '../../src/hub/skeletons-node.js';

const near = (a: ArrayLike<number>, b: ArrayLike<number>, within = 1e-5): void => {
  assert.equal(a.length, b.length);
  for (let i = 0; i < a.length; i++) assert.ok(Math.abs(a[i] - b[i]) <= within, `${i}: ${a[i]} against ${b[i]}`);
};

const random = createRandom(1);
const poses = (frames: number, joints: number): Float32Array =>
  Float32Array.from({ length: frames * joints * 3 }, () => random.normal());

test('layouts are trees, and mirrors exchange left and right', () => {
  for (const { names, parents, root, pairs } of [NTU_LAYOUT, STICK_LAYOUT]) {
    assert.equal(parents.length, names.length);
    for (let joint = 0; joint < names.length; joint++) {
      let up = joint;
      for (let steps = 0; up !== root; steps++, up = parents[up]) assert.ok(steps < names.length);
    }
    const lefts = names.filter((name) => name.startsWith('left'));
    assert.equal(pairs.length, lefts.length);
    for (const [left, right] of pairs) assert.equal(names[left].replace('left', 'right'), names[right]);
  }
});

test('frames are resampled linearly: a straight line stays one, the same number of frames is the same', () => {
  const line = Float32Array.from({ length: 10 * 2 }, (_, i) => Math.floor(i / 2) * (i % 2 ? -1 : 2));
  near(resampleFrames(line, 2, 10), line);
  // Centres of five frames of two: .5, 2.5, 4.5, ...
  near(
    resampleFrames(line, 2, 5).filter((_, i) => i % 2 === 0),
    [1, 5, 9, 13, 17],
  );
  near(
    resampleFrames(line, 2, 3, 2, 3).filter((_, i) => i % 2 === 0),
    [4, 6, 8],
  );
  near(resampleFrames(line.subarray(0, 2), 2, 3), [0, 0, 0, 0, 0, 0]);
});

test('rotations keep lengths and turn as the right hand says; an upright body stands and looks to the front', () => {
  near(turned(Float32Array.of(1, 0, 0), rotation([0, 0, 1], Math.PI / 2)), [0, 1, 0]);
  near(turned(Float32Array.of(0, 0, 1), rotation([0, 1, 0], Math.PI / 2)), [1, 0, 0]);
  const x = poses(4, 15);
  const upright = turned(x, uprightRotation(x, STICK_LAYOUT));
  near(
    Array.from({ length: 60 }, (_, i) => Math.hypot(...upright.subarray(3 * i, 3 * i + 3))),
    Array.from({ length: 60 }, (_, i) => Math.hypot(...x.subarray(3 * i, 3 * i + 3))),
    1e-4,
  );
  const spine = [3, 4, 5].map((i) => upright[i] - upright[i - 3]);
  near([spine[0], spine[2]], [0, 0]);
  assert.ok(spine[1] > 0);
  assert.ok(Math.abs(upright[3 * 3 + 2] - upright[3 * 6 + 2]) < 1e-5 && upright[3 * 3] > upright[3 * 6]);
  // Turning about the spine leaves the spine where it is.
  const axis = spineAxis(x.subarray(0, 45), STICK_LAYOUT);
  near(spineAxis(turned(x.subarray(0, 45), rotation(axis, 1)), STICK_LAYOUT), axis);
});

test('two mirrors, and a view turned back, are the skeleton itself', () => {
  const x = poses(3, 25);
  near(mirrored(mirrored(x, NTU_LAYOUT), NTU_LAYOUT), x);
  const there = geometricView(x, NTU_LAYOUT, { angle: 0.4, mirror: false, shift: [1, 2, 3] });
  const back = geometricView(
    there.map((value, i) => value - [1, 2, 3][i % 3]),
    NTU_LAYOUT,
    { angle: -0.4, mirror: false, shift: [0, 0, 0] },
  );
  near(back, x);
  const still = centred(x, 25, 4, 'frame');
  for (let frame = 0; frame < 3; frame++) near(still.subarray((frame * 25 + 4) * 3, (frame * 25 + 5) * 3), [0, 0, 0]);
  near(centred(x, 25, 4, 'first').subarray(12, 15), [0, 0, 0]);
});

const prepared = async (
  dataset: ReturnType<typeof stickFigures>,
  input: SkeletonInput,
  index: number,
  seed = 1,
): Promise<Float32Array[]> => {
  const preparation = skeletonPreparation(planSkeletons(input, dataset, 'data'));
  const out = preparation.fields.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
  preparation.prepare(await dataset.read(index), createRandom(seed), out);
  return out;
};

test('a prepared clip has its frames, its root at the origin, and a view that differs', async () => {
  const dataset = stickFigures({ count: 2, frames: 20 });
  const [plain] = await prepared(dataset, { kind: 'skeleton', frames: 8 }, 0);
  for (let frame = 0; frame < 8; frame++) near(plain.subarray(frame * 45, frame * 45 + 3), [0, 0, 0]);
  const input: SkeletonInput = { kind: 'skeleton', frames: 8, crop: [0.5, 1], view: {} };
  const [skeleton, view] = await prepared(dataset, input, 0);
  const [again] = await prepared(dataset, input, 0);
  assert.deepEqual(skeleton, again);
  assert.notDeepEqual(skeleton, view);
  // Of motion the mean place of every joint is taken away, of the view too; differences between frames stay.
  for (const [i, moved] of (await prepared(dataset, { ...input, motion: true }, 0)).entries()) {
    const still = [skeleton, view][i];
    for (let at = 0; at < 45; at++) {
      const of = (poses: Float32Array): number[] => Array.from({ length: 8 }, (_, frame) => poses[frame * 45 + at]);
      near([of(moved).reduce((a, b) => a + b)], [0]);
      near(
        of(moved).map((value) => value - moved[at]),
        of(still).map((value) => value - still[at]),
      );
    }
  }
  const [scaled] = await prepared(dataset, { ...input, motion: true, scale: 10 }, 0);
  near(
    scaled,
    (await prepared(dataset, { ...input, motion: true }, 0))[0].map((value) => 10 * value),
  );
  assert.throws(() => planSkeletons({ kind: 'skeleton', frames: 0 }, dataset, 'data'), /data\.frames/);
  assert.throws(() => planSkeletons({ kind: 'skeleton', frames: 4, scale: 0 }, dataset, 'data'), /data\.scale/);
  const cut = { crop: [0.5, 2] } as const;
  assert.throws(() => planSkeletons({ kind: 'skeleton', frames: 4, view: cut }, dataset, 'data'), /data\.view\.crop/);
  assert.throws(() => planSkeletons({ kind: 'skeleton', frames: 4, crop: [0.8, 0.5] }, dataset, 'data'), /data\.crop/);
});

test('a view may be of a part of the clip of its own', async () => {
  // In frame t all joints are at t, so that a prepared frame tells when it is.
  const data = Float32Array.from({ length: 40 * 45 }, (_, i) => Math.floor(i / 45));
  const clip = skeletonArrays({ name: 'time', shape: [1, 40, 15, 3], data, layout: STICK_LAYOUT });
  const still = { rotation: 0, mirror: 0, shift: 0 };
  const input = { kind: 'skeleton', frames: 8, centre: 'none', crop: [1, 1] } as const;
  const preparation = (view: SkeletonInput['view']) =>
    skeletonPreparation(planSkeletons({ ...input, view }, clip, 'data'));
  const times = async (view: SkeletonInput['view'], seed: number): Promise<number[][]> => {
    const out = [new Float32Array(8 * 45), new Float32Array(8 * 45)];
    preparation(view).prepare(await clip.read(0), createRandom(seed), out);
    return out.map((poses) => Array.from({ length: 8 }, (_, frame) => poses[frame * 45]));
  };
  const whole = Array.from({ length: 8 }, (_, frame) => 5 * frame + 2);
  for (const seed of [1, 2, 3]) {
    const [same, view] = await times(still, seed);
    near(same, whole);
    near(view, whole);
    const [full, half] = await times({ ...still, crop: [0.5, 0.5] }, seed);
    near(full, whole);
    near(
      half.slice(1).map((time, i) => time - half[i]),
      Array(7).fill(2.5),
    );
  }
});

test('of several bodies the one that moves is shown; arrays must fit their layout', () => {
  const data = new Float32Array(3 * 2 * 2 * 3);
  // Body 1 moves.
  for (let frame = 0; frame < 3; frame++) data[(frame * 2 + 1) * 6] = frame + 1;
  const body = mainBody({ frames: 3, bodies: 2, joints: 2, data });
  near([body[0], body[6], body[12]], [1, 2, 3]);
  const layout: SkeletonLayout = {
    names: ['a', 'b'],
    parents: [0, 0],
    root: 0,
    spine: [0, 1],
    shoulders: [0, 1],
    pairs: [],
  };
  const arrays = skeletonArrays({ name: 'x', shape: [1, 3, 2, 2, 3], data, layout, labels: Int32Array.of(4) });
  assert.equal(arrays.length, 1);
  assert.throws(() => skeletonArrays({ name: 'x', shape: [1, 3, 4, 3], data, layout }), /4 joints, its layout 2/);
  assert.throws(() => skeletonArrays({ name: 'x', shape: [1, 3, 2, 2], data, layout }), /must be \[samples/);
  assert.throws(
    () => skeletonArrays({ name: 'x', shape: [1, 3, 2, 2, 3], data, layout, labels: Int32Array.of(1, 2) }),
    /1 sequences but 2 labels/,
  );
});

test('NTU files: people who move come first, gaps hold the last pose; folders give classes', async () => {
  const [frames, people, row] = [3, 3, 75];
  const xyz = new Float64Array(frames * people * row);
  const tracking = new Uint8Array(frames * people * 25);
  const see = (frame: number, person: number, x: number): void => {
    xyz[(frame * people + person) * row] = x;
    tracking.fill(2, (frame * people + person) * 25, (frame * people + person + 1) * 25);
  };
  for (let frame = 0; frame < 3; frame++) see(frame, 1, 5 * frame);
  see(1, 2, 1);
  see(2, 2, 2);
  see(0, 0, 9);
  const none = new Float64Array(0);
  const recording = {
    frames,
    bodiesPerFrame: [],
    bodyIds: ['a', 'b', 'c'],
    xyz,
    tracking,
    depthXY: none,
    colorXY: none,
    orientation: none,
  };
  const clip = ntuClip(recording, 'x');
  assert.equal(clip.bodies, 2);
  const first = (body: number): number[] => [0, 1, 2].map((frame) => clip.data[(frame * 2 + body) * row]);
  assert.deepEqual(first(0), [0, 5, 10]);
  assert.deepEqual(first(1), [1, 1, 2]);
  assert.throws(() => ntuClip({ ...recording, bodyIds: [] }, 'x.skeleton'), /x\.skeleton: nobody/);

  const golden = 'S001C002P003R002A013.skeleton';
  const bytes = readFileSync(new URL(`../../../test/golden/formats/ntu/${golden}`, import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'ntu-'));
  for (const name of [golden, golden.replace('A013', 'A002')]) writeFileSync(join(folder, name), bytes);
  const dataset = await ntuFolder(folder);
  assert.deepEqual(dataset.classNames, ['A002', 'A013']);
  assert.deepEqual([...(dataset.labels ?? [])], [0, 1]);
  assert.deepEqual([...(dataset.attributes?.performer ?? [])], [3, 3]);
  const read = await dataset.read(1);
  assert.equal(read.frames * read.bodies * 75, read.data.length);
  assert.deepEqual(await (await ntuFolder(join(folder, golden))).read(0), read);
  await assert.rejects(ntuFolder(join(folder, 'none')), /cannot open .*none: it does not exist; check the path/);
});

test('stick figures: the same for a seed, balanced, of rigid bones', async () => {
  const options: StickFigureOptions = { count: 40, seed: 5, noise: 0 };
  const [a, b] = [stickFigures(options), stickFigures(options)];
  const clip = await a.read(7);
  assert.deepEqual(clip, await b.read(7));
  assert.deepEqual(clip, await open(options).read(7));
  assert.notDeepEqual(clip.data, (await stickFigures({ ...options, seed: 6 }).read(7)).data);
  const counts = STICK_ACTIONS.map((_, c) => a.labels?.filter((label) => label === c).length);
  assert.deepEqual(counts, Array(10).fill(4));
  for (let joint = 1; joint < 15; joint++) {
    const length = (frame: number): number => {
      const at = (frame * 15 + joint) * 3;
      const parent = (frame * 15 + STICK_LAYOUT.parents[joint]) * 3;
      return Math.hypot(...[0, 1, 2].map((c) => clip.data[at + c] - clip.data[parent + c]));
    };
    for (let frame = 1; frame < clip.frames; frame++) assert.ok(Math.abs(length(frame) - length(0)) < 1e-5);
  }
  assert.throws(() => stickFigures({ count: 0 }), /count/);
  assert.throws(() => stickFigures({ count: 4, actions: ['fly' as never] }), /no action 'fly'/);
});

test('stick figures: neither the mean pose nor a single one tells the action', async () => {
  const sets = await Promise.all(
    [0, 1].map(async (half) => {
      const dataset = stickFigures({ count: half ? 300 : 600, seed: half, subjects: half ? [30, 40] : [0, 30] });
      const clips = await Promise.all(
        Array.from({ length: dataset.length }, (_, i) => prepared(dataset, { kind: 'skeleton', frames: 32 }, i)),
      );
      return { labels: dataset.labels as Int32Array, clips: clips.map(([skeleton]) => skeleton) };
    }),
  );
  const statistics: Record<string, (clip: Float32Array) => Float32Array> = {
    mean: (clip) => {
      const sum = new Float32Array(45);
      for (let i = 0; i < clip.length; i++) sum[i % 45] += clip[i] / 32;
      return sum;
    },
    single: (clip) => clip.slice(16 * 45, 17 * 45),
  };
  for (const [name, statistic] of Object.entries(statistics)) {
    const [train, held] = sets.map(({ clips }) => ({
      shape: [clips.length, 45],
      data: Float32Array.from(clips.flatMap((clip) => [...statistic(clip)])),
    }));
    const model = fitLogistic(train, sets[0].labels, 10, { C: 0.03 });
    const right = accuracy(predictedClasses(predictProbabilities(model, held)), sets[1].labels);
    assert.ok(right < 0.2, `${name} pose: ${right}`);
  }
});

test('skeletons of an .npz archive: padding is left out, one-hot rows are classes, parts come with it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'jepa-npz-'));
  const write = (name: string, arrays: Record<string, HostTensor>): string => {
    const path = join(folder, name);
    writeFileSync(path, encodeNpz(new Map(Object.entries(arrays))));
    return path;
  };
  const numbers = (shape: number[], of: (i: number) => number): HostTensor => ({
    dtype: 'float64',
    shape,
    data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => of(i)),
  });
  // Two people's places, four frames; of recording 0 the last frame is padding, of recording 1 the second person.
  const x = numbers([2, 4, 150], (i) => {
    const [recording, frame, person] = [Math.floor(i / 600), Math.floor(i / 150) % 4, Math.floor(i / 75) % 2];
    return recording === 0 ? (frame < 3 ? i + 1 : 0) : person === 0 ? i + 1 : 0;
  });
  const y = numbers([2, 3], (i) => Number(i === 2 || i === 3));
  const ones: HostTensor = { dtype: 'int64', shape: [1], data: BigInt64Array.of(1n) };
  const path = write('ntu.npz', { x_train: x, y_train: y, x_test: numbers([1, 4, 75], () => 1), y_test: ones });
  const { train, test: held, origin } = await openSampleSplits(withSources({ kind: 'skeleton', source: path }));
  assert.equal(origin, 'own');
  assert.deepEqual([train.length, held.length], [2, 1]);
  assert.deepEqual([...train.labels!], [2, 0]);
  assert.deepEqual(train.classNames, ['A001', 'A002', 'A003']);
  assert.deepEqual([...held.labels!], [1]);
  const random = createRandom(0);
  const [first, second] = [await train.read(0, random), await train.read(1, random)] as SkeletonClip[];
  assert.deepEqual([first.frames, first.bodies, first.joints], [3, 2, 25]);
  assert.deepEqual(
    [...first.data],
    Array.from({ length: 450 }, (_, i) => i + 1),
  );
  assert.deepEqual([second.frames, second.bodies], [4, 1]);
  assert.deepEqual([...second.data.subarray(75, 78)], [751, 752, 753]);

  const refused = (name: string, arrays: Record<string, HostTensor>, message: RegExp): void =>
    void assert.throws(() => npzSkeletons(write(name, arrays), 'train'), message);
  refused('a.npz', { z: x }, /a\.npz: no array "x_train" or "x" of skeletons in it; it has z/);
  refused('b.npz', { x: numbers([2, 4, 149], () => 1) }, /b\.npz: skeletons must be \[samples/);
  refused('c.npz', { x, y: numbers([3], () => 0) }, /c\.npz: 2 sequences but 3 labels/);
  refused('d.npz', { x, y: numbers([2], () => 0.5) }, /d\.npz: "y" must be whole numbers/);
  refused('e.npz', { x, y: numbers([2, 2], () => 1) }, /e\.npz: "y" must be whole numbers from 0 on, .*one-hot/);
  const empty = npzSkeletons(write('f.npz', { x: numbers([1, 4, 75], () => 0) }), 'train')!;
  await assert.rejects(async () => empty.read(0, random), /f\.npz: nobody is in recording 1/);
  assert.equal(npzSkeletons(path.replace('ntu', 'f'), 'test'), undefined);
});
