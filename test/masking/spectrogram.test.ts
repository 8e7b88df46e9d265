import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type FutureConfig, futureAt } from '../../src/masking/future.js';
import {
  A_JEPA_MASKS,
  checkSpectrogramMasks,
  competence,
  type SpectrogramMasks,
  sampleSpectrogram,
} from '../../src/masking/spectrogram.js';

const grid = [16, 8] as const;
const patches = 128;

function draw(masks: SpectrogramMasks, seed: number, progress = 0, batch = 3) {
  const random = createRandom(seed);
  return sampleSpectrogram(masks, grid, batch, progress, {
    sizes: random.split('sizes'),
    places: random.split('places'),
  });
}

/** Rows [count][length] of masks [batch, lists, length], list by list. */
const rows = ({ shape, data }: { shape: readonly number[]; data: Int32Array }): number[][] =>
  Array.from({ length: shape[0] * shape[1] }, (_, i) => [...data.subarray(i * shape[2], (i + 1) * shape[2])]);

describe('stripes', () => {
  const masks = { kind: 'stripes', stripes: 3, scale: [0.1, 0.15] } as const;

  it('hide whole rows and columns, show all else, and leave as many patches in every sample', () => {
    for (let seed = 0; seed < 50; seed++) {
      const { context, target } = draw(masks, seed);
      assert.equal(context.shape[2] + target.shape[2], patches);
      const seen = rows(context);
      rows(target).forEach((hidden, i) => {
        assert.deepEqual(
          [...hidden, ...seen[i]].sort((a, b) => a - b),
          Array.from({ length: patches }, (_, p) => p),
        );
        const set = new Set(hidden);
        const full = (of: (k: number) => number, length: number) =>
          Array.from({ length }, (_, k) => of(k)).every((patch) => set.has(patch));
        const times = Array.from({ length: 16 }, (_, t) => full((band) => t * 8 + band, 8));
        const bands = Array.from({ length: 8 }, (_, b) => full((time) => time * 8 + b, 16));
        for (const patch of hidden) assert.ok(times[Math.floor(patch / 8)] || bands[patch % 8]);
        // Widths are 2 of 16 time steps and 1 of 8 bands.
        const [t, b] = [times.filter(Boolean).length, bands.filter(Boolean).length];
        assert.equal(t / 2 + b, 3);
      });
    }
  });

  it('lie at all places equally often', () => {
    const times = new Array<number>(16).fill(0);
    const draws = 3000;
    let stripes = 0;
    for (let seed = 0; seed < draws; seed++) {
      const { target } = draw({ kind: 'stripes', stripes: 1, scale: [0.06, 0.06] }, seed, 0, 1);
      if (target.shape[2] !== 8) continue;
      stripes++;
      times[target.data[0] / 8]++;
    }
    // Half of all stripes are in time; the standard deviation of a count is 9.
    assert.ok(Math.abs(stripes - draws / 2) < 120);
    for (const count of times) assert.ok(Math.abs(count - stripes / 16) < 45, `${times}`);
  });

  it('that could hide everything are refused', () => {
    assert.throws(
      () => checkSpectrogramMasks({ kind: 'stripes', stripes: 8, scale: [0.1, 0.1] }, grid),
      /8 stripes of 2 can hide all 16 time steps/,
    );
    assert.throws(
      () => draw({ kind: 'stripes', stripes: 40, scale: [0.1, 0.1] }, 1),
      /leave nothing to see or to predict/,
    );
  });
});

describe('the curriculum', () => {
  it('has the published probabilities', () => {
    for (const [progress, f] of [
      [0, 0.01],
      [0.1, 0.316],
      [0.25, 0.5],
      [0.5, Math.SQRT1_2],
      [1, 1],
      [2, 1],
    ])
      assert.ok(Math.abs(competence(progress) - f) < 5e-4);
  });

  it('draws hard masks as often as it says, in every tenth of the training', () => {
    const masks = { ...A_JEPA_MASKS, easy: { kind: 'random', ratio: [0.5, 0.5] } } as const;
    for (let tenth = 0; tenth < 10; tenth++) {
      const progress = (tenth + 0.5) / 10;
      const draws = 4000;
      let hard = 0;
      for (let seed = 0; seed < draws; seed++) {
        // Half of the patches are hidden by easy masks, never by three stripes of one patch on this grid.
        if (draw(masks, seed + 1e6 * tenth, progress, 1).target.shape[2] !== patches / 2) hard++;
      }
      assert.ok(Math.abs(hard / draws - competence(progress)) < 0.03, `${progress}: ${hard / draws}`);
    }
  });
});

describe('the future', () => {
  const masks: { kind: 'future' } & FutureConfig = { kind: 'future', context: 6, segment: 2, horizons: 3 };

  it('follows the context, segment by segment, with all bands, at one time in all samples', () => {
    const starts = new Set<number>();
    for (let seed = 0; seed < 100; seed++) {
      const { context, target } = draw(masks, seed, 0, 2);
      assert.deepEqual(
        [context.shape, target.shape],
        [
          [2, 1, 48],
          [2, 3, 16],
        ],
      );
      const [first, second] = rows(context);
      assert.deepEqual(first, second);
      starts.add(first[0] / 8);
      const all = [...first, ...rows(target).slice(0, 3).flat()];
      assert.deepEqual(
        all,
        Array.from({ length: 96 }, (_, i) => first[0] + i),
      );
    }
    assert.deepEqual([...starts].sort(), [0, 1, 2, 3, 4]);
  });

  it('can be asked for at a place', () => {
    assert.equal(futureAt(masks, grid, 1, 4).target.data.at(-1), patches - 1);
    assert.throws(() => futureAt(masks, grid, 1, 5), /from time step 5 on ends beyond the clip; it may begin at 4/);
  });

  it('that does not fit is refused', () => {
    assert.throws(
      () => checkSpectrogramMasks({ ...masks, context: 11 }, grid),
      /a context of 11 and 3 segments of 2 time steps do not fit 16/,
    );
  });
});

it('shares that hide nothing or everything are refused', () => {
  assert.throws(() => checkSpectrogramMasks({ kind: 'random', ratio: [0, 0.5] }, grid), /hiding 0 of 128 patches/);
  checkSpectrogramMasks({ kind: 'random', ratio: [0.4, 0.6] }, grid);
});
