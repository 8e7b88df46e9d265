import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type CollapseSigns, diagnose } from '../../src/eval/collapse.js';
import { rankme } from '../../src/eval/spectrum.js';
import { featureStd } from '../../src/eval/spread.js';

const healthy: CollapseSigns = {
  featureStd: 0.8,
  rankme: 60,
  width: 192,
  meanCosine: 0.3,
  energyMatched: 0.2,
  energyShuffled: 0.5,
};

test('measured runs get their verdicts', () => {
  // RankMe of official modules on a small data set, and of runs with variance-covariance terms.
  for (const rank of [3, 5, 8, 11])
    assert.equal(diagnose({ ...healthy, rankme: rank }).verdict, 'dimensional collapse');
  for (const rank of [50, 60, 74]) assert.equal(diagnose({ ...healthy, rankme: rank }).verdict, 'healthy');
  assert.equal(diagnose({ ...healthy, rankme: 30 }).verdict, 'low rank');
  const collapsed = { ...healthy, rankme: 12.3 };
  assert.equal(diagnose(collapsed).message, 'dimensional collapse: rank 12 of 192');
  assert.equal(diagnose(collapsed, 'try this').message, 'dimensional collapse: rank 12 of 192; try this');
  assert.equal(
    diagnose({ ...healthy, rankme: 30 }, 'try this').message,
    'low rank: rank 30 of 192, watch it; if it falls, try this',
  );
});

test('each sign has its verdict, the worst first', () => {
  assert.equal(diagnose({ ...healthy, featureStd: 0.05, rankme: 2 }).verdict, 'complete collapse');
  assert.equal(diagnose({ ...healthy, meanCosine: 0.995 }).verdict, 'complete collapse');
  assert.match(
    diagnose({ ...healthy, energyMatched: 0.49 }).message,
    /^blind prediction: the error is 0.490 on the right/,
  );
  assert.equal(diagnose({ ...healthy, rankme: 5, energyMatched: 0.5 }).verdict, 'dimensional collapse');
  assert.match(diagnose({ ...healthy, rankme: Number.NaN }).message, /^not finite: rankme is NaN/);
  assert.equal(diagnose({ ...healthy, energyMatched: undefined, energyShuffled: undefined }).verdict, 'healthy');
  // 64 samples of width 192: rank 20 is a third of what is possible.
  assert.equal(
    diagnose({ ...healthy, rankme: 20, samples: 64 }).message,
    'healthy: rank 20 of 64 that 64 samples can have',
  );
});

test('synthetic embeddings: even, few directions, one direction', () => {
  const random = createRandom(1);
  const [n, width] = [400, 64];
  const signsOf = (value: (sample: number, channel: number) => number): CollapseSigns => {
    const x = {
      shape: [n, width],
      data: Float32Array.from({ length: n * width }, (_, i) => value(Math.floor(i / width), i % width)),
    };
    const { normalizedStdTimesSqrtD, meanCosine } = featureStd(x);
    return { featureStd: normalizedStdTimesSqrtD, meanCosine, rankme: rankme(x).value, width };
  };
  const factors = Float64Array.from({ length: n * 3 }, random.normal);
  const axes = Float64Array.from({ length: 3 * width }, random.normal);
  const mean = Float64Array.from({ length: width }, random.normal);
  const low = (s: number, c: number) => [0, 1, 2].reduce((sum, f) => sum + factors[3 * s + f] * axes[f * width + c], 0);
  assert.equal(diagnose(signsOf(() => random.normal())).verdict, 'healthy');
  assert.equal(diagnose(signsOf((s, c) => low(s, c) + 0.01 * random.normal())).verdict, 'dimensional collapse');
  assert.equal(diagnose(signsOf((_, c) => mean[c] + 0.02 * random.normal())).verdict, 'complete collapse');
});
