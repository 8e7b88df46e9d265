import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wilson } from '../../src/eval/intervals.js';
import { greedyBehaviour } from '../../src/world/collect.js';
import { worldCalled } from '../../src/world/envs/index.js';
import type { World } from '../../src/world/envs/world.js';
import { behaviourActor, type PlayedEpisode, play } from '../../src/world/play.js';
import { cutShort, shiftsOf, successByFactor } from '../../src/world/variation.js';

/** A line of places; the goal is reached within 1. */
const line: World = {
  name: 'line',
  state: ['x'],
  action: [{ name: 'dx', low: -1, high: 1 }],
  factors: [
    { name: 'wind', usual: 0, low: 0, high: 2, whole: true, drawn: true },
    { name: 'width', usual: 1, low: 0.5, high: 3 },
    { name: 'own', usual: 1, low: 1, high: 2, own: true },
  ],
  picture: [1, 1, 8],
  goal: 1,
  steps: 4,
  begin(state, goal) {
    state[0] = 0;
    goal[0] = 10;
  },
  advance(state, action) {
    state[0] += action[0];
  },
  paint: (_state, _factors, out) => void out.fill(0),
  reached: (state, goal) => ({
    distance: Math.abs(goal[0] - state[0]),
    success: Math.abs(goal[0] - state[0]) <= 1,
  }),
};

const episode = (start: number, wind: number, success: boolean): PlayedEpisode => ({
  factors: Float64Array.of(wind, 1, 1),
  goal: Float64Array.of(10),
  states: Float64Array.of(start, start),
  distance: 10 - start,
  success,
  everReached: success,
});

test('success is told by distance and by every drawn factor, in groups of equal size that keep equal values together', () => {
  // Far ones fail; the floor succeeds where the wind is 2.
  const winds = [0, 0, 0, 0, 0, 1, 2, 2, 2];
  const planned = winds.map((wind, i) => episode(i, wind, i >= 3));
  const floor = winds.map((wind, i) => episode(i, wind, wind === 2));
  const [distance, wind, ...none] = successByFactor(line, {}, planned, floor);
  assert.equal(none.length, 0);
  assert.equal(distance.factor, 'start to goal');
  assert.deepEqual(
    distance.groups.map(({ from, to, success }) => [from, to, success.successes, success.episodes]),
    [
      [2, 4, 3, 3],
      [5, 7, 3, 3],
      [8, 10, 0, 3],
    ],
  );
  assert.deepEqual(distance.groups[2].success.interval, wilson(0, 3));
  assert.equal(wind.factor, 'wind');
  assert.deepEqual(
    wind.groups.map(({ from, to, success, floor }) => [from, to, success.rate, success.episodes, floor.rate]),
    [
      [0, 0, 2 / 5, 5, 0],
      [1, 1, 1, 1, 0],
      [2, 2, 1, 3, 1],
    ],
  );
  // A factor that was set is the same everywhere, one that was asked to be drawn is not.
  const named = (settings: Parameters<typeof successByFactor>[1]): string[] =>
    successByFactor(line, settings, planned, floor).map(({ factor }) => factor);
  assert.deepEqual(named({ wind: 1 }), ['start to goal']);
  assert.deepEqual(named({ wind: null }), ['start to goal', 'wind']);
  assert.deepEqual(successByFactor(line, {}, planned.slice(0, 1), floor.slice(0, 1)), []);
});

test('shifts are the ends of ranges of factors with a usual value, but of none that the world sets itself', () => {
  assert.deepEqual(shiftsOf(line, {}), [
    { factor: 'width', value: 0.5 },
    { factor: 'width', value: 3 },
  ]);
  assert.deepEqual(shiftsOf(line, { width: 2 }), []);
  const names = new Set(shiftsOf(worldCalled('point-maze-u'), {}).map(({ factor }) => factor));
  assert.deepEqual([...names], ['radius', 'speed', 'brightness']);
});

test('episodes that are cut short are those of fewer steps', async () => {
  const world = worldCalled('two-rooms');
  const actor = () => behaviourActor(greedyBehaviour(), 3);
  const options = { episodes: 12, seed: 3 };
  const whole = await play(world, actor(), { ...options, steps: 60 });
  for (const steps of [0, 7, 60]) {
    const short = await play(world, actor(), { ...options, steps });
    const cut = cutShort(world, whole.episodes, steps);
    assert.deepEqual(cut, short.episodes);
    if (steps === 60) assert.ok(cut.some(({ success }) => success) && cut.some(({ success }) => !success));
  }
});
