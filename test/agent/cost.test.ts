import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type CriticTarget,
  costModule,
  createCritic,
  criticExamples,
  effort,
  homeostasis,
  intrinsicCost,
  smoothHinge,
  targetDistance,
} from '../../src/agent/cost.js';
import type { Moment } from '../../src/agent/memory.js';
import { createRandom } from '../../src/base/random.js';

const oneHot = (size: number) => (s: ArrayLike<number>) =>
  Float64Array.from({ length: size }, (_, i) => (i === Math.round(s[0]) ? 1 : 0));

const moment = (episode: number, time: number, state: number, intrinsic: number): Moment => ({
  episode,
  time,
  state: Float64Array.of(state),
  intrinsic,
  critic: Number.NaN,
  surprise: 0,
  real: true,
});

test('the intrinsic cost is fixed for good, and adds up', () => {
  const terms = [
    homeostasis('hunger', 0, 0.5, 0.9),
    targetDistance('goal', [0.2]),
    { ...effort('effort', 2), leastWeight: 0.5 },
  ];
  const cost = intrinsicCost(terms);
  const report = cost.evaluate([0.3], [1, 1], { hunger: 2, effort: 0 });
  assert.ok(Math.abs(report.total - (2 * 0.2 + 0.01 + 0.5 * 4)) < 1e-12, 'a weight below the least is the least');
  assert.ok(Math.abs(cost.evaluate([1]).terms.hunger - 0.1) < 1e-12);
  // Nothing outside can change it.
  terms[0] = homeostasis('hunger', 0, 0, 9);
  (terms[1] as { energy: unknown }).energy = () => 1e9;
  assert.equal(cost.evaluate([0.3], [1, 1], { hunger: 2, effort: 0 }).total, report.total);
  assert.throws(() => Object.assign(cost, { evaluate: () => 0 }), TypeError);
  assert.throws(() => cost.evaluate([0], undefined, { thirst: 1 }), /no intrinsic term "thirst"/);
  assert.ok(Math.abs(smoothHinge(0.7, 1000) - 0.7) < 1e-9 && Math.abs(smoothHinge(0, 2) - Math.log(2) / 2) < 1e-12);
});

test('in a corridor the critic is the intrinsic cost of three steps later (C1)', () => {
  const pain = (x: number): number => x / 20;
  const moments = Array.from({ length: 20 }, (_, e) =>
    Array.from({ length: 40 }, (_, t) => moment(e, t, Math.min(20, (e % 5) + t), pain(Math.min(20, (e % 5) + t)))),
  ).flat();
  const critic = createCritic({ features: oneHot(21), penalty: 1e-6 });
  critic.learn(criticExamples(moments, { kind: 'delay', delay: 3 }));
  for (let x = 0; x <= 20; x++) assert.ok(Math.abs(critic.evaluate([x]) - pain(Math.min(20, x + 3))) < 0.05, `at ${x}`);
});

test('on a random walk the critic is the discounted sum of the Markov chain (C2)', () => {
  const [size, gamma, steps] = [21, 0.9, 40];
  const pain = Array.from({ length: size }, (_, x) => (x === 20 ? 1 : x === 0 ? 0.4 : 0));
  const random = createRandom(2);
  const moments: Moment[] = [];
  for (let e = 0; e < 60; e++) {
    let x = random.integer(size);
    for (let t = 0; t < 400; t++) {
      moments.push(moment(e, t, x, pain[x]));
      x = Math.min(size - 1, Math.max(0, x + (random.uniform() < 0.5 ? -1 : 1)));
    }
  }
  // sum_k gamma^(k-1) P^k c
  let ahead: number[] = [...pain];
  const exact = new Float64Array(size);
  for (let k = 1; k <= steps; k++) {
    ahead = ahead.map((_, x) => 0.5 * (ahead[Math.max(0, x - 1)] + ahead[Math.min(size - 1, x + 1)]));
    for (let x = 0; x < size; x++) exact[x] += gamma ** (k - 1) * ahead[x];
  }
  const critic = createCritic({ features: oneHot(size), penalty: 1e-6 });
  critic.learn(criticExamples(moments, { kind: 'discounted', gamma, steps }));
  const mean = exact.reduce((a, b) => a + b, 0) / size;
  const error = exact.reduce((a, v, x) => a + (v - critic.evaluate([x])) ** 2, 0);
  const spread = exact.reduce((a, v) => a + (v - mean) ** 2, 0);
  assert.ok(Math.sqrt(error / spread) < 0.1, `normalised error ${Math.sqrt(error / spread)}`);
});

test('no target ever reads a critic or crosses an episode (C3)', () => {
  const trapped = (m: Moment): Moment =>
    Object.defineProperty({ ...m }, 'critic', {
      get() {
        throw new Error('a target read the critic');
      },
    });
  const moments = [...[0, 1, 2, 3].map((t) => moment(0, t, t, 1)), ...[0, 1, 2].map((t) => moment(1, t, t, 100))];
  for (const target of [
    { kind: 'delay', delay: 2 },
    { kind: 'discounted', gamma: 0.5, steps: 2, normalised: true },
    { kind: 'max', steps: 2 },
    { kind: 'mean', steps: 2 },
  ] as const) {
    const examples = criticExamples(moments.map(trapped), target);
    assert.deepEqual(examples.map((e) => e.target), [1, 1, 100], target.kind); // biome-ignore format: one claim
  }
});

/** A serpentine of 5 x 5 cells: walls force 24 moves from one corner to the other. */
const PATH = Array.from({ length: 25 }, (_, i) => {
  const row = Math.floor(i / 5);
  return [row % 2 === 0 ? i % 5 : 4 - (i % 5), row];
});
const cellAt = (x: number, y: number): number => PATH.findIndex(([a, b]) => a === x && b === y);
const MOVES = [[1, 0], [-1, 0], [0, 1], [0, -1]]; // biome-ignore format: short
const goTo = (cell: number, [dx, dy]: readonly number[]): number => {
  const [x, y] = PATH[cell];
  const next = cellAt(x + dx, y + dy);
  return next >= 0 && Math.abs(next - cell) === 1 ? next : cell;
};

/** Best first move by trying all plans of `horizon` moves. */
function plan(cell: number, horizon: number, value: (cells: number[]) => number): number {
  let [best, move] = [Number.POSITIVE_INFINITY, 0];
  const walk = (cells: number[], first: number): void => {
    if (cells.length === horizon) {
      const cost = value(cells);
      if (cost < best - 1e-12) [best, move] = [cost, first];
      return;
    }
    for (const [i, m] of MOVES.entries())
      walk([...cells, goTo(cells.at(-1) ?? cell, m)], cells.length === 0 ? i : first);
  };
  walk([], 0);
  return move;
}

test('with a critic a short horizon is enough for a long maze (C4), and the delay matters (C5)', () => {
  // Not to be at the goal is unpleasant, a little less so near it, as the crow flies: that misleads at every wall.
  const goal = PATH[24];
  const away = PATH.map(([x, y], cell) => (cell === 24 ? 0 : 1 + 0.02 * Math.hypot(x - goal[0], y - goal[1])));
  const intrinsic = intrinsicCost([{ name: 'away', energy: (s) => away[s[0]] }]);
  const random = createRandom(4);
  const moments: Moment[] = [];
  for (let e = 0; e < 40; e++) {
    // Memory of somebody who walks with purpose three times of four.
    let cell = random.integer(25);
    for (let t = 0; t < 80; t++) {
      moments.push(moment(e, t, cell, intrinsic.evaluate([cell]).total));
      cell = random.uniform() < 0.75 ? Math.min(24, cell + 1) : goTo(cell, MOVES[random.integer(4)]);
    }
  }
  const success = (value: (cells: number[]) => number): number => {
    let reached = 0;
    for (let start = 0; start < 24; start++) {
      let cell = start;
      for (let t = 0; t < 40 && cell !== 24; t++) cell = goTo(cell, MOVES[plan(cell, 3, value)]);
      if (cell === 24) reached++;
    }
    return reached / 24;
  };
  const without = costModule(intrinsic);
  const rows = (cells: number[]): number[][] => cells.map((c) => [c]);
  const alone = success((cells) => without.ofCourse(rows(cells), [], {}, {}, 'last'));
  const withCritic = (target: CriticTarget): number => {
    const critic = createCritic({ features: oneHot(25), penalty: 1e-3 });
    critic.learn(criticExamples(moments, target));
    const cost = costModule(intrinsic, { later: critic });
    return success((cells) => cost.ofCourse(rows(cells), [], {}, {}, 'last'));
  };
  const sums = withCritic({ kind: 'discounted', gamma: 0.95, steps: 30 });
  assert.ok(sums >= alone + 0.3, `with the critic ${sums}, without ${alone}`);
  // One delay sees no further than the cost itself, the longest has forgotten the nearer half of the way: the best is between.
  const delays = [1, 5, 10, 20].map((delay) => withCritic({ kind: 'delay', delay }));
  const best = Math.max(...delays);
  assert.ok(best > delays[0] && best > delays[3] && sums >= best, `by delay ${delays}, sum ${sums}`);
});

test('imagined states are worth learning from, at a fifth of the real ones (C6)', () => {
  const random = createRandom(6);
  const size = 15;
  const pain = (x: number): number => (x >= 12 ? 1 : 0);
  const walks = (episodes: number, real: boolean, slip: number): Moment[] =>
    Array.from({ length: episodes }, (_, e) => {
      let x = random.integer(size);
      return Array.from({ length: 30 }, (_, t) => {
        const m = { ...moment(e + (real ? 0 : 1000), t, x, pain(x)), real };
        x = Math.min(size - 1, Math.max(0, x + (random.uniform() < 0.5 + slip ? 1 : -1)));
        return m;
      });
    }).flat();
  const target = { kind: 'mean', steps: 8 } as const;
  const test = criticExamples(walks(400, true, 0), target);
  const error = (moments: Moment[]): number => {
    const critic = createCritic({ features: oneHot(size), penalty: 1e-2 });
    critic.learn(criticExamples(moments, target));
    return test.reduce((a, { state, target }) => a + (critic.evaluate(state) - target) ** 2, 0) / test.length;
  };
  const all = error(walks(100, true, 0));
  // The model of the imagined ones is a little wrong. Half of them, four of five, and nothing else.
  for (const [real, imagined] of [
    [20, 20],
    [20, 80],
    [0, 100],
  ]) {
    const mixed = error([...walks(real, true, 0), ...walks(imagined, false, 0.02)]);
    assert.ok(mixed <= 1.5 * all, `${mixed} with ${imagined} imagined walks beside ${real}, ${all} with 100 real ones`);
  }
});

test('a critic of a high quantile keeps away from rare crashes (C7)', () => {
  // Two ways of equal mean cost: a sure 0.5, or 0 with a crash of 10 in one case of twenty. Lives that have seen 600 trips.
  const [crashes, costs] = [
    [0, 0],
    [0, 0],
  ];
  const [lives, trips] = [12, 100];
  for (let life = 0; life < lives; life++) {
    const random = createRandom(life, 'fork');
    const outcome = (way: number): number =>
      way === 0 ? 0.5 + 0.01 * random.normal() : random.uniform() < 0.05 ? 10 : 0;
    const moments = Array.from({ length: 600 }, (_, e) => [
      moment(e, 0, e % 2, 0),
      moment(e, 1, 2, outcome(e % 2)),
    ]).flat();
    const examples = criticExamples(moments, { kind: 'delay', delay: 1 });
    for (const [i, quantile] of [undefined, 0.97].entries()) {
      const critic = createCritic({ features: oneHot(3), quantile, penalty: 1e-6 });
      critic.learn(examples);
      const way = critic.evaluate([1]) < critic.evaluate([0]) ? 1 : 0;
      for (let trip = 0; trip < trips; trip++) {
        const cost = outcome(way);
        costs[i] += cost / (lives * trips);
        if (cost === 10) crashes[i]++;
      }
    }
  }
  const told = `crashes ${crashes} of ${lives * trips}, mean cost ${costs}, of the mean and of the quantile`;
  assert.ok(crashes[0] > 10 && 2 * crashes[1] <= crashes[0], told);
  assert.ok(Math.abs(costs[0] - costs[1]) < 0.15, told);
});
