import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  cosineRestarts,
  cosineWeightDecay,
  linearMomentum,
  oneCycle,
  scheduleSteps,
  warmupCosine,
} from '../../src/optim/schedules.js';

// The check values of the published ViT-H/14 recipe (300 epochs of 625 steps, 40 of warm-up).
const run = { iterationsPerEpoch: 625, epochs: 300, warmupEpochs: 40, ipeScale: 1 };
const PUBLISHED = [
  [1, 2.00032e-4, 0.04000000002526616, 0.996],
  [2, 2.0006400000000001e-4, 0.04000000010106475, 0.9960000213333333],
  [12500, 6.0e-4, 0.04393343186791493, 0.9962666453333333],
  [24999, 9.99968e-4, 0.05556059095859783, 0.9965332906666666],
  [25000, 1.0e-3, 0.05556181762433182, 0.996533312],
  [100000, 5.607080717875339e-4, 0.2388151233881776, 0.998133312],
  [187500, 1.0e-6, 0.4, 0.9999999786666667],
];

test('I-JEPA schedules of the published recipe', () => {
  const steps = scheduleSteps(run);
  assert.deepEqual(steps, { warmupSteps: 25000, totalSteps: 187500 });
  const lr = warmupCosine({ startLr: 2e-4, refLr: 1e-3, finalLr: 1e-6, ...steps });
  const decay = cosineWeightDecay({ refWd: 0.04, finalWd: 0.4, ...steps });
  const momentum = linearMomentum({ start: 0.996, end: 1, updates: 625 * 300 });
  for (const [step, ...wanted] of PUBLISHED) {
    const got = [lr(step), decay(step), momentum(step - 1)];
    got.forEach((value, i) => {
      assert.ok(Math.abs(value - wanted[i]) <= 1e-12 * wanted[i], `step ${step}: ${value} instead of ${wanted[i]}`);
    });
  }
});

test('ends and bad uses', () => {
  const momentum = linearMomentum({ start: 0.9, end: 1, updates: 10.5 });
  assert.equal(momentum(50), momentum(10));
  const cycle = oneCycle({
    maxLr: 1,
    totalSteps: 10,
    pctStart: 0.3,
    anneal: 'cos',
    threePhase: false,
    divFactor: 25,
    finalDivFactor: 1e4,
  });
  assert.throws(() => cycle(10), /one-cycle schedule: update 10 is past the last, 9/);
  assert.throws(() => cosineRestarts({ lr: 1, minLr: 0, period: 5, multiplier: 0 }), /multiplier 0 at least 1/);
});
