import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { blocked, twoRooms } from '../../src/world/envs/two-rooms.js';
import type { LatentWorld } from '../../src/world/latent.js';
import {
  balancedAccuracy,
  type Clip,
  observeClips,
  type Quadruplet,
  quadrupletSurprises,
  surprises,
  teleports,
  vanishings,
  wallsPassed,
} from '../../src/world/surprise.js';

const world = twoRooms('stay');
const factors = world.factors.length;
const bright = world.factors.findIndex(({ name }) => name === 'dot brightness');
const draw = { count: 40, frames: 13 };

const frameOf = ({ states, factors: all }: Clip, t: number): string =>
  [...states.subarray(2 * t, 2 * t + 2), ...all.subarray(t * factors, (t + 1) * factors)].join();

/** Moments whose place does not follow by the rules of the data from the last one. */
function broken({ states, factors: all, actions }: Clip): number[] {
  const times: number[] = [];
  for (let t = 0; 2 * t < actions.length; t++) {
    const [x, y, dx, dy] = [...states.subarray(2 * t, 2 * t + 2), ...actions.subarray(2 * t, 2 * t + 2)];
    const layout = { wall: all[t * factors], door: all[t * factors + 1] };
    const [nx, ny] = blocked(x, y, dx, dy, layout) ? [x, y] : [x + dx, y + dy];
    const changed = all[t * factors + bright] !== all[(t + 1) * factors + bright];
    if (changed || Math.hypot(states[2 * t + 2] - nx, states[2 * t + 3] - ny) > 1e-9) times.push(t + 1);
  }
  return times;
}

const kinds: Readonly<Record<string, readonly Quadruplet[]>> = {
  teleports: teleports({ ...draw, random: createRandom(1) }),
  vanishings: vanishings({ ...draw, random: createRandom(2) }),
  'walls passed': wallsPassed({ ...draw, random: createRandom(3) }),
};

for (const [name, quadruplets] of Object.entries(kinds)) {
  test(`${name}: possible clips keep to the rules, impossible ones break them`, () => {
    for (const { possible, impossible } of quadruplets) {
      for (const clip of possible) assert.deepEqual(broken(clip), []);
      for (const clip of impossible) {
        const times = broken(clip);
        assert.ok(name === 'walls passed' ? times.length >= 1 : times.length === 1, `${times}`);
        assert.ok(times[0] >= 4 && times[0] < 12);
      }
    }
  });
}

test('both halves show the same: frame by frame, or course by course and room by room', () => {
  for (const name of ['teleports', 'vanishings']) {
    for (const { possible, impossible } of kinds[name]) {
      const frames = (half: readonly Clip[]) =>
        half.flatMap((clip) => Array.from({ length: draw.frames }, (_, t) => frameOf(clip, t))).sort();
      assert.deepEqual(frames(impossible), frames(possible));
    }
  }
  for (const { possible, impossible } of kinds['walls passed']) {
    for (const part of ['states', 'factors', 'actions'] as const) {
      const all = (half: readonly Clip[]) => half.map((clip) => clip[part].join()).sort();
      assert.deepEqual(all(impossible), all(possible));
    }
    // One course ends beyond the wall, the other before it.
    const [through, stopped] = impossible.map(({ states, factors: own }) =>
      Math.sign((states[0] - own[0]) * (states[2 * draw.frames - 2] - own[0])),
    );
    assert.deepEqual([through, stopped], [-1, 1]);
  }
});

test('a picture without a dot has walls alone', () => {
  const [{ possible }] = kinds.vanishings;
  const seen = observeClips(world, possible, 'pictures');
  const plane = 65 * 65;
  const [there, absent] = [seen.subarray(0, plane), seen.subarray(13 * 2 * plane, 13 * 2 * plane + plane)];
  assert.ok(there.some((byte) => byte > 200) && absent.every((byte) => byte === 0));
  assert.deepEqual(seen.subarray(plane, 2 * plane), seen.subarray(27 * plane, 28 * plane));
});

/** A model that sees places as they are and believes that nothing stops a dot. */
const believer = {
  model: { width: 2, observation: [2 + factors], actions: 2, futures: [undefined] },
  async encode(observations: Float32Array) {
    const rows = observations.length / (2 + factors);
    return float32(
      [rows, 2],
      Float32Array.from({ length: 2 * rows }, (_, i) => observations[(2 + factors) * (i >> 1) + (i % 2)]),
    );
  },
  async imagine(states: { data: Float32Array }, plans: { shape: readonly number[]; data: Float32Array }) {
    const [rows, steps] = plans.shape;
    const out = new Float32Array(rows * (steps + 1) * 2);
    for (let row = 0; row < rows; row++) {
      for (const axis of [0, 1]) {
        let at = states.data[2 * row + axis];
        out[row * (steps + 1) * 2 + axis] = at;
        for (let t = 0; t < steps; t++) {
          at += plans.data[(row * steps + t) * 2 + axis];
          out[(row * (steps + 1) + t + 1) * 2 + axis] = at;
        }
      }
    }
    return float32([rows, steps + 1, 2], out);
  },
} as unknown as LatentWorld;

test('surprise is the squared error of what was foreseen, at its own moment', async () => {
  const jump: Clip = {
    states: Float64Array.of(10, 10, 11, 10, 12, 10, 20, 14, 21, 14),
    factors: new Float64Array(5 * factors),
    actions: Float64Array.of(1, 0, 1, 0, 1, 0, 1, 0),
  };
  const seen = observeClips(world, [jump], 'states');
  const actions = Float32Array.from(jump.actions);
  // From (12, 10) the dot should be at (13, 10): 7 and 4 off.
  assert.deepEqual([...(await surprises(believer, seen, actions, { clips: 1 }))[0]], [0, 0, 65 / 2, 0]);
  assert.deepEqual([...(await surprises(believer, seen, actions, { clips: 1, depth: 2 }))[0]], [0, 65 / 2, 65 / 2]);
  await assert.rejects(surprises(believer, seen, actions, { clips: 1, depth: 5 }), /more frames than steps ahead/);
});

test('who believes that nothing stops a dot finds every teleport, and walls tell him nothing', async () => {
  assert.equal(balancedAccuracy(await quadrupletSurprises(believer, world, kinds.teleports)), 1);
  assert.equal(balancedAccuracy(await quadrupletSurprises(believer, world, kinds['walls passed'])), 0.5);
});
