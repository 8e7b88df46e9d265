import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRandom } from '../../src/base/random.js';
import { float32, int32 } from '../../src/base/tensor.js';
import {
  motionOfTokens,
  motionProbabilities,
  pathProbabilities,
  type SkeletonMasks,
  sampleSkeletonMasks,
} from '../../src/masking/skeleton.js';
import { sampleSpans } from '../../src/masking/spans.js';

const [FRAMES, JOINTS, SEGMENT] = [12, 5, 3];
const TOKENS = (FRAMES / SEGMENT) * JOINTS;

/** Skeletons whose joint 2 moves and whose others hardly do. */
function skeletons(batch: number) {
  const random = createRandom(3);
  const data = Float32Array.from({ length: batch * FRAMES * JOINTS * 3 }, (_, i) => {
    const moving = Math.floor(i / 3) % JOINTS === 2;
    return random.normal() * (moving ? 1 : 0.02);
  });
  return float32([batch, FRAMES, JOINTS, 3], data);
}

const KINDS: SkeletonMasks[] = [
  { kind: 'motion', segment: SEGMENT, ratio: 0.6, temperature: 0.3 },
  { kind: 'proportional', segment: SEGMENT, ratio: 0.6 },
  { kind: 'random', segment: SEGMENT, ratio: 0.6 },
  { kind: 'joints', segment: SEGMENT, ratio: 0.6 },
  { kind: 'future', segment: SEGMENT, ratio: 0.5 },
];

test('skeleton masks part the tokens of every sample, as many each', () => {
  for (const masks of KINDS) {
    const { context, targets } = sampleSkeletonMasks(masks, skeletons(7), createRandom(1));
    const kept = { joints: 2 * (FRAMES / SEGMENT), future: 2 * JOINTS }[masks.kind as string] ?? TOKENS * 0.4;
    assert.deepEqual(context.shape, [7, 1, kept]);
    assert.deepEqual(targets.shape, [7, 1, TOKENS - kept]);
    for (let i = 0; i < 7; i++) {
      const rows = [context, targets].map(({ shape, data }) => [...data.subarray(i * shape[2], (i + 1) * shape[2])]);
      assert.deepEqual(
        [...rows[0], ...rows[1]].sort((a, b) => a - b),
        Array.from({ length: TOKENS }, (_, t) => t),
      );
      for (const row of rows)
        assert.deepEqual(
          row,
          row.toSorted((a, b) => a - b),
        );
    }
  }
});

test('what moves is hidden more often, whole joints stay together, the future is the end', () => {
  const hidden = (masks: SkeletonMasks): number[] => {
    const { targets } = sampleSkeletonMasks({ ...masks, ratio: 0.4 }, skeletons(400), createRandom(2));
    const counts = new Array(JOINTS).fill(0);
    for (const token of targets.data) counts[token % JOINTS] += 1 / 400 / (FRAMES / SEGMENT);
    return counts;
  };
  const [motion, path, random] = KINDS.map(hidden);
  for (const counts of [motion, path]) {
    for (let joint = 0; joint < JOINTS; joint++)
      if (joint !== 2) assert.ok(counts[2] > counts[joint] + 0.3, `${counts}`);
  }
  for (const share of random) assert.ok(Math.abs(share - 0.4) < 0.05, `${random}`);
  const joints = sampleSkeletonMasks(KINDS[3], skeletons(1), createRandom(5)).targets.data;
  assert.equal(new Set(joints.map((token) => token % JOINTS)).size, 3);
  const future = sampleSkeletonMasks(KINDS[4], skeletons(1), createRandom(5)).targets.data;
  assert.deepEqual(
    [...future],
    Array.from({ length: TOKENS / 2 }, (_, i) => TOKENS / 2 + i),
  );
});

test('motion of a joint in steady flight is its speed; a still skeleton is masked evenly', () => {
  // Joint 0 moves by 1 a frame along x, joint 1 rests.
  const data = Float32Array.from({ length: 8 * 2 * 3 }, (_, i) => (i % 6 === 0 ? i / 6 : 0));
  const moving = float32([1, 8, 2, 3], data);
  // Over a segment of two frames a number changes by 2; of the three coordinates one moves.
  for (let segment = 0; segment < 4; segment++) {
    assert.ok(Math.abs(motionOfTokens(moving, 2).data[2 * segment] - 2 / 3) < 1e-6);
    assert.equal(motionOfTokens(moving, 2).data[2 * segment + 1], 0);
  }
  // Paths: one step in the first segment, two in the others, against 1e-6 for each token.
  const path = pathProbabilities(moving, 2).data;
  assert.ok(Math.abs(path[0] - 1 / 7) < 1e-5 && Math.abs(path[2] - 2 / 7) < 1e-5 && path[1] < 1e-5);
  const still = float32([1, 8, 2, 3], new Float32Array(48));
  for (const p of motionProbabilities(motionOfTokens(still, 2), 0.8).data) assert.ok(Math.abs(p - 1 / 8) < 1e-7);
  assert.throws(() => motionOfTokens(moving, 3), /do not divide into segments of 3/);
  assert.throws(
    () => sampleSkeletonMasks({ kind: 'random', segment: 2, ratio: 0.95 }, moving, createRandom(1)),
    /0 of 8 tokens stay visible/,
  );
});

test('spans: exact numbers, runs that end with their document, padding only where rows are short', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.array(fc.integer({ min: 12, max: 40 }), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 6 }),
      (seed, lengths, length) => {
        const tokens = 40;
        const random = createRandom(seed);
        const documents = new Int32Array(lengths.length * tokens);
        lengths.forEach((text, row) => {
          let document = 1;
          for (let i = 0; i < text; i++) {
            documents[row * tokens + i] = document;
            if (random.uniform() < 0.15) document++;
          }
        });
        const rows = int32([lengths.length, tokens], documents);
        const { context, targets, counted } = sampleSpans({ length, ratio: 0.35 }, rows, random);
        const longest = Math.max(...lengths);
        assert.equal(targets.shape[2], Math.round(0.35 * longest));
        assert.equal(context.shape[2], longest - targets.shape[2]);
        lengths.forEach((text, row) => {
          const own = [...targets.data.subarray(row * targets.shape[2], (row + 1) * targets.shape[2])];
          const seen = [...context.data.subarray(row * context.shape[2], (row + 1) * context.shape[2])];
          assert.equal(new Set([...own, ...seen]).size, longest);
          const counts = counted.data.subarray(row * targets.shape[2], (row + 1) * targets.shape[2]);
          own.forEach((token, i) => {
            assert.equal(counts[i], token < text ? 1 : 0);
          });
          assert.equal(
            counts.reduce((a, b) => a + b, 0),
            Math.round(0.35 * text),
          );
          for (let token = 0; token < text; token++) assert.ok(own.includes(token) || seen.includes(token));
        });
      },
    ),
    { numRuns: 60 },
  );
});

test('spans are of their length: hidden tokens come in runs', () => {
  const tokens = 400;
  const documents = int32([1, tokens], new Int32Array(tokens).fill(1));
  const { targets } = sampleSpans({ length: 4, ratio: 0.1 }, documents, createRandom(4));
  const runs = [...targets.data].filter((token, i, all) => token !== all[i - 1] + 1).length;
  assert.ok(runs <= 14, `40 tokens in ${runs} runs`);
  assert.throws(() => sampleSpans({ length: 4, ratio: 0 }, documents, createRandom(4)), /at least one each/);
});
