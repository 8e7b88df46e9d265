import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import {
  drawTruncatedNormal,
  drawVonMises,
  truncatedNormalCdf,
  vonMisesCdf,
} from '../../src/world/envs/distributions.js';
import { WORLDS, worldCalled } from '../../src/world/envs/index.js';
import { movingDigits } from '../../src/world/envs/passive.js';
import { BORDERS, drawTrajectory, follow, STEP_LENGTHS, TURN_KAPPA, twoRooms } from '../../src/world/envs/two-rooms.js';
import { type Batch, openBatch, type World } from '../../src/world/envs/world.js';

const digits = { width: 5, height: 7, pixels: new Uint8Array(2 * 35).fill(200), labels: Int32Array.of(0, 1) };
const worlds: readonly World[] = [...Object.values(WORLDS).map((make) => make()), movingDigits(digits, { size: 32 })];

/** Random actions within the ranges that the world tells. */
function actions({ world: { action }, count }: Batch, random: ReturnType<typeof createRandom>): Float64Array {
  return Float64Array.from({ length: count * action.length }, (_, i) => {
    const { low, high } = action[i % action.length];
    return low + (high - low) * random.uniform();
  });
}

for (const world of worlds) {
  test(`${world.name}: states stay finite, can be put back, and do not depend on the other environments`, () => {
    const three = openBatch(world, { count: 3, seed: 4 });
    const one = openBatch(world, { count: 1, seed: 4 });
    const random = createRandom(1);
    const width = world.action.length;
    for (let t = 0; t < 50; t++) {
      const given = actions(three, random);
      three.step(given);
      one.step(given.subarray(0, width));
    }
    assert.ok(three.states.every(Number.isFinite));
    assert.deepEqual(three.states.subarray(0, world.state.length), one.states);
    const saved = three.save();
    const next = actions(three, random);
    three.step(next);
    const after = three.states.slice();
    three.restore(saved);
    three.step(next);
    assert.deepEqual(three.states, after);
    three.reset({ seed: 4 });
    one.reset({ seed: 4 });
    assert.deepEqual(three.states.subarray(0, world.state.length), one.states);
  });

  test(`${world.name}: pictures show the state`, () => {
    const batch = openBatch(world, { count: 2, seed: 1 });
    const pictures = batch.render();
    assert.equal(pictures.length, 2 * world.picture.reduce((a, b) => a * b));
    const half = pictures.length / 2;
    assert.ok(pictures.subarray(0, half).some((byte, i) => byte !== pictures[half + i]));
    assert.ok(new Set(pictures).size > 1);
  });
}

test('factors are set, drawn or left as they are; unknown ones are an error', () => {
  const batch = openBatch(twoRooms(), { count: 50, seed: 2, factors: { wall: 25, 'dot size': null } });
  const column = (f: number) => Array.from({ length: 50 }, (_, i) => batch.factors[i * twoRooms().factors.length + f]);
  assert.ok(column(0).every((wall) => wall === 25));
  assert.ok(new Set(column(1)).size > 20);
  assert.ok(new Set(column(4)).size === 50);
  assert.throws(
    () => openBatch(twoRooms(), { count: 1, seed: 0, factors: { walls: 3 } }),
    /no factor "walls"; it has wall/,
  );
  assert.throws(() => worldCalled('maze'), /no "maze"; there are two-rooms/);
  assert.throws(() => openBatch(twoRooms(), { count: 2, seed: 0 }).step([0, 0]), /give one row an environment/);
});

/** Largest distance between an empirical and a true cumulative function, times the root of the number of samples. */
function kolmogorov(samples: Float64Array, cdf: (x: number) => number): number {
  const sorted = samples.toSorted();
  const gaps = sorted.map((x, i) =>
    Math.max(Math.abs(cdf(x) - i / sorted.length), Math.abs(cdf(x) - (i + 1) / sorted.length)),
  );
  return Math.max(...gaps) * Math.sqrt(sorted.length);
}

test('draws follow their distributions', () => {
  const random = createRandom(5);
  const draw = (one: () => number) => Float64Array.from({ length: 4000 }, one);
  // Beyond 1.95 once in a thousand.
  assert.ok(
    kolmogorov(
      draw(() => drawTruncatedNormal(random, STEP_LENGTHS)),
      (x) => truncatedNormalCdf(x, STEP_LENGTHS),
    ) < 1.95,
  );
  assert.ok(
    kolmogorov(
      draw(() => drawVonMises(random, TURN_KAPPA)),
      (x) => vonMisesCdf(x, TURN_KAPPA),
    ) < 1.95,
  );
});

test('a third of the trajectories of the data pass the door, and all stay in the room', () => {
  const random = createRandom(6);
  const layout = { wall: 32, door: 30 };
  let crossed = 0;
  for (let i = 0; i < 300; i++) {
    const { start, moves } = drawTrajectory(layout, random);
    const places = follow(start, moves, layout);
    assert.ok(places.every((at) => at >= BORDERS[0] && at <= BORDERS[1]));
    const xs = Array.from({ length: 91 }, (_, t) => places[2 * t]);
    if (Math.min(...xs) < 30 && Math.max(...xs) > 34) crossed++;
  }
  assert.ok(crossed > 60 && crossed < 180, `${crossed} of 300 crossed`);
});

test('the fork takes either branch as often as its factor says', () => {
  const batch = openBatch(worldCalled('fork'), { count: 2000, seed: 3, factors: { 'chance of down': 0.3 } });
  for (let t = 0; t < 40; t++) batch.step(new Float64Array(2000).fill(0.05));
  const down = Array.from({ length: 2000 }, (_, i) => batch.states[3 * i + 2]).filter((branch) => branch === 1).length;
  assert.ok(Math.abs(down / 2000 - 0.3) < 4 * Math.sqrt((0.3 * 0.7) / 2000), `${down} of 2000 went down`);
});

test('steps in state mode are fast', () => {
  for (const world of worlds) {
    const batch = openBatch(world, { count: 64, seed: 0 });
    const random = createRandom(0);
    const given = actions(batch, random);
    for (let t = 0; t < 200; t++) batch.step(given);
    // The best of a few short runs: the machine may be busy. 50 000 are wanted; a fifth of that would be a defect anywhere.
    let best = 0;
    for (let run = 0; run < 5; run++) {
      const start = performance.now();
      for (let t = 0; t < 40; t++) batch.step(given);
      best = Math.max(best, (40 * 64 * 1000) / (performance.now() - start));
    }
    assert.ok(best > 10_000, `${world.name}: ${Math.round(best)} steps a second`);
    if (process.env.JEPA_SPEED) console.log(world.name, Math.round(best));
  }
});
