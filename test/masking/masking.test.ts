import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRandom } from '../../src/base/random.js';
import { int32 } from '../../src/base/tensor.js';
import { blockSize, blockSizeProbabilities, cellsOf, roundHalfEven } from '../../src/masking/blocks.js';
import { checkClipMasks, sampleClipMasks } from '../../src/masking/clips.js';
import { between } from '../../src/masking/draws.js';
import { gatherTokens } from '../../src/masking/gather.js';
import {
  checkMultiBlock2d,
  drawBlockSizes2d,
  drawImageMasks2d,
  type MultiBlock2dConfig,
  RELEASED_MULTIBLOCK_2D,
  sampleMultiBlock2d,
} from '../../src/masking/multiblock2d.js';
import { checkMultiBlock3d, RELEASED_MULTIBLOCK_3D, sampleMultiBlock3d } from '../../src/masking/multiblock3d.js';
import { sampleMultiSequence3d } from '../../src/masking/multiseq3d.js';
import { sampleRandomTube } from '../../src/masking/random-tube.js';
import { sampleRandom2d } from '../../src/masking/random2d.js';

const released = (grid: [number, number], change: Partial<MultiBlock2dConfig> = {}): MultiBlock2dConfig => ({
  ...RELEASED_MULTIBLOCK_2D,
  grid,
  ...change,
});

const draws2d = (seed: number) => {
  const random = createRandom(seed, 'masks');
  return { sizes: random.split('sizes'), places: random.split('places') };
};

test('halves round to even', () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4999, 2.5001, 3, 7.5].map(roundHalfEven), [0, 2, 2, 2, 3, 3, 8]);
});

test('block size probabilities sum to one and agree with counting', () => {
  const random = createRandom(1);
  for (const coupled of [true, false]) {
    const [grid, scale, aspect] = [
      [11, 7],
      [0.1, 0.5],
      [0.3, 3],
    ] as const;
    const probabilities = blockSizeProbabilities(grid, grid, scale, aspect, coupled);
    assert.ok(Math.abs(probabilities.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-12);
    const counts = new Map<string, number>();
    const draws = 40000;
    for (let i = 0; i < draws; i++) {
      const u = random.uniform();
      const v = coupled ? u : random.uniform();
      const size = blockSize(cellsOf(grid, between(scale, u)), between(aspect, v), grid).join();
      counts.set(size, (counts.get(size) ?? 0) + 1);
    }
    for (const { size, probability } of probabilities) {
      const expected = draws * probability;
      const count = counts.get(size.join()) ?? 0;
      assert.ok(Math.abs(count - expected) <= 5 * Math.sqrt(expected) + 1, `${size}: ${count} of ${expected}`);
      counts.delete(size.join());
    }
    assert.equal(counts.size, 0);
  }
});

test('2-D: targets are rectangles, contexts avoid them, lists ascend', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 8, max: 20 }),
      fc.integer({ min: 8, max: 20 }),
      fc.boolean(),
      (seed, rows, columns, coverEdges) => {
        const config = released([rows, columns], { minKeep: 4, coverEdges });
        const draws = draws2d(seed);
        const sizes = drawBlockSizes2d(config, draws.sizes);
        const { targets, contexts } = drawImageMasks2d(config, sizes, draws.places);
        const hidden = new Set<number>();
        for (const { indices } of targets) {
          assert.equal(indices.length, sizes.target[0] * sizes.target[1]);
          const top = Math.floor(indices[0] / columns);
          const left = indices[0] % columns;
          indices.forEach((patch, i) => {
            assert.equal(patch, (top + Math.floor(i / sizes.target[1])) * columns + left + (i % sizes.target[1]));
            hidden.add(patch);
          });
          assert.ok(left + sizes.target[1] <= columns && top + sizes.target[0] <= rows);
        }
        for (const { indices, dropped } of contexts) {
          assert.ok(indices.length > config.minKeep);
          indices.forEach((patch, i) => {
            assert.ok(i === 0 || patch > indices[i - 1]);
            if (dropped === 0) assert.ok(!hidden.has(patch));
          });
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('2-D: the last row and column are reached only with coverEdges', () => {
  for (const coverEdges of [false, true]) {
    const config = released([10, 10], { coverEdges, minKeep: 5 });
    const seen = new Set<number>();
    const draws = draws2d(3);
    for (let step = 0; step < 50; step++) {
      const { context, target } = sampleMultiBlock2d(config, 4, draws);
      for (const patch of [...context.data, ...target.data]) seen.add(patch);
    }
    const edge = [...seen].filter((patch) => Math.floor(patch / 10) === 9 || patch % 10 === 9);
    assert.equal(edge.length, coverEdges ? 19 : 0);
    assert.equal(seen.size, coverEdges ? 100 : 81);
  }
});

test('2-D: batches are [batch, blocks, length], cut to the shortest list', () => {
  const config = released([14, 14], { contexts: 2 });
  const draws = draws2d(4);
  const sizes = drawBlockSizes2d(config, draws.sizes);
  const images = Array.from({ length: 6 }, () => drawImageMasks2d(config, sizes, draws.places));
  const { context, target } = sampleMultiBlock2d(config, 6, draws2d(4));
  const shortest = Math.min(...images.flatMap((image) => image.contexts.map((block) => block.indices.length)));
  assert.deepEqual(context.shape, [6, 2, shortest]);
  assert.deepEqual(target.shape, [6, 4, sizes.target[0] * sizes.target[1]]);
  images.forEach((image, i) => {
    image.contexts.forEach((block, j) => {
      const start = (i * 2 + j) * shortest;
      assert.deepEqual(context.data.slice(start, start + shortest), block.indices.slice(0, shortest));
    });
  });
});

test('2-D: impossible configurations are named, before training and when drawn', () => {
  // 8 x 8 patches: blocks of int(64 x 0.15) = 9 patches can never exceed 10 (the reference does not return).
  const target = /target block of \d+ x \d+ on a grid of 8 x 8 patches can never hold more than min_keep = 10/;
  assert.throws(() => checkMultiBlock2d(released([8, 8])), target);
  const smallest = { sizes: { uniform: () => 0 }, places: createRandom(1) };
  assert.throws(() => sampleMultiBlock2d(released([8, 8]), 2, smallest), target);
  assert.throws(() => checkMultiBlock2d(released([14, 14], { contextScale: [0.03, 0.04] })), /context block of 2 x 2/);
  assert.throws(() => checkMultiBlock2d(released([1, 30])), /can never hold/);
  checkMultiBlock2d(released([14, 14]));
  checkMultiBlock2d(released([7, 7], { minKeep: 4 }));
});

test('random masks partition the patches; useless ratios are refused', () => {
  const { context, target } = sampleRandom2d({ patches: 30, ratio: [0.4, 0.6] }, 3, draws2d(5));
  for (let image = 0; image < 3; image++) {
    const [kc, kt] = [context.shape[2], target.shape[2]];
    const all = [
      ...context.data.slice(image * kc, (image + 1) * kc),
      ...target.data.slice(image * kt, (image + 1) * kt),
    ];
    assert.deepEqual(
      all.sort((a, b) => a - b),
      Array.from({ length: 30 }, (_, i) => i),
    );
  }
  assert.throws(() => sampleRandom2d({ patches: 4, ratio: [0.9, 1] }, 1, draws2d(5)), /keeps 0/);
});

test('3-D: context and target are disjoint; flags complete or swap them', () => {
  const grid = [4, 9, 7] as const;
  const tokens = 4 * 9 * 7;
  const sample = (flags: object) => {
    const random = createRandom(6);
    const entries = RELEASED_MULTIBLOCK_3D.map((entry) => ({ ...entry, ...flags }));
    return sampleMultiBlock3d(grid, entries, 5, {
      sizes: (entry) => random.split(entry),
      places: random.split('places'),
    });
  };
  const [plain, full, predFull, inverted] = [
    {},
    { fullComplement: true },
    { predFullComplement: true },
    { invertBlocks: true },
  ].map(sample);
  plain.forEach((masks, entry) => {
    for (let clip = 0; clip < 5; clip++) {
      const row = ({ shape, data }: { shape: readonly number[]; data: Int32Array }) => [
        ...data.slice(clip * shape[1], (clip + 1) * shape[1]),
      ];
      const [context, target] = [row(masks.context), row(masks.target)];
      assert.equal(new Set([...context, ...target]).size, context.length + target.length);
      for (const masks of [full[entry], predFull[entry]]) {
        assert.equal(new Set([...row(masks.context), ...row(masks.target)]).size, tokens);
        assert.equal(masks.context.shape[1] + masks.target.shape[1], tokens);
      }
      assert.deepEqual(row(full[entry].context), context);
      assert.deepEqual(row(predFull[entry].target), target);
      assert.deepEqual([row(inverted[entry].target), row(inverted[entry].context)], [context, target]);
    }
  });
});

test('3-D: hopeless configurations are named', () => {
  const entry = { ...RELEASED_MULTIBLOCK_3D[1], spatialScale: [1, 1] as const, aspect: [1, 1] as const };
  assert.throws(
    () => checkMultiBlock3d([2, 4, 4], [entry]),
    /blocks of 2 x 4 x 4 on a clip of 2 x 4 x 4 tokens always hide the whole clip/,
  );
  assert.throws(() => checkMultiBlock3d([2, 4, 4], [{ ...entry, spatialScale: [0, 0.01] }]), /hide nothing/);
  checkMultiBlock3d([8, 14, 14], RELEASED_MULTIBLOCK_3D);
  const crowded = { ...entry, spatialScale: [0.6, 0.6] as const, blocks: 4000 };
  const random = createRandom(1);
  assert.throws(
    () => sampleMultiBlock3d([2, 4, 4], [crowded], 1, { sizes: () => random, places: random }),
    /1000 times in a row/,
  );
});

test('multi-sequence: groups in the order of the grids, each clip once', () => {
  const grids = new Map<number, [number, number, number]>([
    [16, [8, 6, 6]],
    [4, [2, 6, 6]],
    [8, [4, 6, 6]],
  ]);
  const config = { entries: RELEASED_MULTIBLOCK_3D, grids };
  const draws = { sizes: (frames: number, entry: number) => createRandom(frames, entry), places: createRandom(1) };
  const groups = sampleMultiSequence3d(config, [8, 16, 8, 16, 8], draws);
  assert.deepEqual(
    groups.map(({ frames, members }) => [frames, ...members]),
    [
      [16, 1, 3],
      [8, 0, 2, 4],
    ],
  );
  assert.deepEqual(
    groups[1].masks.map((masks) => masks.context.shape[0]),
    [3, 3],
  );
  assert.throws(
    () => sampleMultiSequence3d(config, [5], draws),
    /a clip has 5 frames, but the configuration knows 16, 4, 8/,
  );
});

test('tubes: the same cells in every frame, kept cells truncated', () => {
  const { context, target } = sampleRandomTube([3, 5, 10], 0.9, 2, createRandom(7));
  // 50 x (1 - 0.9) is 4.999... in double precision.
  assert.deepEqual(
    [context.shape, target.shape],
    [
      [2, 12],
      [2, 138],
    ],
  );
  for (let clip = 0; clip < 2; clip++) {
    const row = [...context.data.slice(clip * 12, clip * 12 + 12)];
    for (const frame of [1, 2])
      assert.deepEqual(
        row.slice(4 * frame, 4 * frame + 4),
        row.slice(0, 4).map((cell) => cell + 50 * frame),
      );
  }
  assert.throws(() => sampleRandomTube([3, 2, 2], 0.9, 1, createRandom(7)), /keeps 0/);
});

test('a share of the cells of every frame: as many in each, others in each', () => {
  const { context, target } = sampleRandomTube([4, 4, 4], 0.75, 8, createRandom(3), 'frame');
  assert.deepEqual(
    [context.shape, target.shape],
    [
      [8, 16],
      [8, 48],
    ],
  );
  const frames = new Set<string>();
  for (let clip = 0; clip < 8; clip++) {
    const own = [...context.data.slice(16 * clip, 16 * clip + 16)];
    const all = [...own, ...target.data.slice(48 * clip, 48 * clip + 48)].sort((a, b) => a - b);
    assert.deepEqual(all, Array.from(all.keys()));
    for (let frame = 0; frame < 4; frame++) {
      const cells = own.filter((token) => Math.floor(token / 16) === frame).map((token) => token % 16);
      assert.equal(cells.length, 4);
      frames.add(cells.join());
    }
  }
  // 32 draws of 4 of 16 cells: 1820 ways.
  assert.ok(frames.size > 25, `${frames.size} different frames`);
});

test('kinds of masks over clips: blocks are drawn as they are alone, and every kind is checked', () => {
  const grid = [4, 4, 4] as const;
  const [, block] = RELEASED_MULTIBLOCK_3D;
  const draws = () => {
    const random = createRandom(9);
    return {
      sizes: (entry: number) => random.split(`sizes ${entry}`),
      places: random.split('places'),
      orders: (entry: number) => random.split(`orders ${entry}`),
    };
  };
  const kinds = [{ kind: 'tubes', ratio: 0.5 } as const, block, { kind: 'random', ratio: 0.25 } as const];
  const masks = sampleClipMasks(grid, kinds, 3, draws());
  assert.deepEqual(masks[1], sampleMultiBlock3d(grid, [block], 3, { ...draws(), sizes: () => draws().sizes(1) })[0]);
  assert.deepEqual(
    [masks[0].context.shape, masks[2].context.shape],
    [
      [3, 32],
      [3, 48],
    ],
  );
  checkClipMasks(grid, kinds);
  assert.throws(() => checkClipMasks(grid, [{ kind: 'random', ratio: 0.99 }]), /hiding 0\.99 of 16 cells keeps 0/);
  assert.throws(() => checkClipMasks(grid, [{ ...block, spatialScale: [0, 0.01] }]), /hide nothing/);
});

test('gather refuses indices outside the tokens', () => {
  const x = { dtype: 'float32', shape: [1, 3, 2], data: new Float32Array(6) } as const;
  assert.throws(() => gatherTokens(x, int32([1, 1], [3])), /index 3 is outside the 3 tokens of image 0/);
  assert.throws(() => gatherTokens(x, int32([2, 1], [0, 1])), /masks for 2 images, but tokens of 1/);
});
