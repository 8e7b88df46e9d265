import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createActor } from '../../src/agent/actor.js';
import { cemPlanner } from '../../src/agent/cem-planner.js';
import { type Configuration, configurationOf } from '../../src/agent/configurator.js';
import { costModule, intrinsicCost } from '../../src/agent/cost.js';
import {
  augmentedLagrangian,
  type Enforcement,
  type Guardrail,
  guardedCosts,
  shield,
  violations,
} from '../../src/agent/guardrails.js';
import { aStar } from '../../src/agent/search.js';
import { adaptiveModel, type WorldModel } from '../../src/agent/world-model.js';
import { cholesky, choleskySolve, matrix } from '../../src/base/linalg.js';
import { createRandom } from '../../src/base/random.js';

const LAVA = { at: [5, 4.9], radius: 1.6 } as const;
const depth = (s: ArrayLike<number>): number => LAVA.radius - Math.hypot(s[0] - LAVA.at[0], s[1] - LAVA.at[1]);
const lava = (margin: number): Guardrail => ({ name: 'lava', excess: depth, margin });
const move = (s: ArrayLike<number>, a: ArrayLike<number>, gain = 1): Float64Array =>
  Float64Array.of(s[0] + gain * a[0], s[1] + gain * a[1]);

interface Walk {
  readonly enforcement: Enforcement;
  readonly margin: number;
  readonly shielded: boolean;
  readonly goal?: readonly [number, number];
  readonly task?: number;
  /** True gain of actions (the model believes 1), and the slip. */
  readonly gain?: number;
  readonly slip?: number;
  /** What the agent believes; the world without its slip by default. */
  readonly model?: WorldModel['predict'];
}

/** Episodes of walking past lava, in a world that slips, by planning with a model that knows nothing of that. */
async function lavaWalk(
  {
    enforcement,
    margin,
    shielded,
    goal = [9.5, 5],
    task = 1,
    gain = 1,
    slip = 0.05,
    model = (s, a) => move(s, a),
  }: Walk,
  episodes = 6,
) {
  const random = createRandom(11);
  const cost = costModule(
    intrinsicCost([{ name: 'away', energy: (s) => task * Math.hypot(s[0] - goal[0], s[1] - goal[1]) }]),
  );
  const actor = createActor({
    width: 2,
    model: { predict: (s, a) => model(s, a) },
    planner: cemPlanner({ samples: 48, elites: 6, iterations: 4, std: [0.6, 0.6], low: -0.8, high: 0.8, random }),
    enforcement,
    critics: 'last',
  });
  const guardrails = [lava(margin)];
  const configuration: Configuration = configurationOf(
    { reason: 'walk' },
    { intrinsic: cost.intrinsic, guardrails, longestHorizon: 6 },
  );
  const others = Array.from({ length: 16 }, (_, i) => [
    0.8 * Math.cos((i * Math.PI) / 8),
    0.8 * Math.sin((i * Math.PI) / 8),
  ]);
  let [burnt, reached] = [0, 0];
  for (let e = 0; e < episodes; e++) {
    actor.forget();
    let state = Float64Array.of(0.5, 4.5 + random.uniform());
    let touched = false;
    for (let t = 0; t < 26; t++) {
      const { plan } = await actor.deliberate(state, cost, configuration);
      const wish = plan.actions[0];
      const action = shielded ? shield(guardrails, (a) => [model(state, a)], wish, others, [0, 0]).action : wish;
      state = move(state, action, gain).map((v) => v + slip * random.normal());
      touched ||= depth(state) > 0;
    }
    if (touched) burnt++;
    if (Math.hypot(state[0] - goal[0], state[1] - goal[1]) < 1) reached++;
  }
  return { burnt: burnt / episodes, reached: reached / episodes };
}

const LEXICOGRAPHIC: Enforcement = { kind: 'lexicographic' };

test('a shorter way through lava is taken without guardrails, not with them (O1), whatever the task weighs (O4)', async () => {
  const none = await lavaWalk({ enforcement: { kind: 'none' }, margin: 0, shielded: false });
  assert.ok(none.burnt >= 0.6, `no guard ${JSON.stringify(none)}`);
  const guarded = { enforcement: LEXICOGRAPHIC, margin: 0.25, shielded: true };
  const full = await lavaWalk(guarded);
  assert.ok(full.burnt === 0 && full.reached >= 0.85, `shield and margin ${JSON.stringify(full)}`);
  const soft = await lavaWalk({ enforcement: { kind: 'soft', weight: 10 }, margin: 0.25, shielded: false, task: 1e6 });
  assert.ok(soft.burnt >= 0.6, `a soft penalty is outbid: ${JSON.stringify(soft)}`);
  const greedy = await lavaWalk({ ...guarded, task: 1e6 });
  assert.equal(greedy.burnt, 0);
});

test('soft weights trade safety against the task, ranks do not (O1)', async () => {
  // The body is learned from sixty random moves in a world that slips, and is used as it is.
  const random = createRandom(12);
  const body = adaptiveModel({ features: (_, a) => [a[0], a[1], 1], keep: 1 });
  for (let i = 0; i < 60; i++) {
    const a = [1.6 * random.uniform() - 0.8, 1.6 * random.uniform() - 0.8];
    body.learn([0, 0], a, move([0, 0], a).map((v) => v + 0.05 * random.normal())); // biome-ignore format: short
  }
  const learned = (s: ArrayLike<number>, a: ArrayLike<number>): Float64Array => body.predict(s, a);
  const soft = async (weight: number) =>
    await lavaWalk({ enforcement: { kind: 'soft', weight }, margin: 0.25, shielded: false, model: learned });
  const sweep: { burnt: number; reached: number }[] = [];
  for (const weight of [0.1, 1, 10]) sweep.push(await soft(weight));
  const told = JSON.stringify(sweep);
  assert.ok(sweep[0].burnt >= 0.6, `a small weight is outbid ${told}`);
  assert.ok(sweep[0].burnt > sweep[1].burnt && sweep[1].burnt > sweep[2].burnt, `more weight burns less ${told}`);
  // Without a margin ranks touch lava in 8 % of episodes: what slips is in no plan.
  const ranked = await lavaWalk({ enforcement: LEXICOGRAPHIC, margin: 0.25, shielded: false, model: learned }, 20);
  const full = await lavaWalk({ enforcement: LEXICOGRAPHIC, margin: 0.25, shielded: true, model: learned }, 20);
  assert.ok(ranked.burnt <= 0.05, `ranks with a margin ${JSON.stringify(ranked)}`);
  assert.ok(full.burnt <= 0.01 && full.reached >= 0.85, `with the shield ${JSON.stringify(full)}`);
});

test('a goal inside lava is not reached: the agent stops at the border (O2)', async () => {
  const { burnt, reached } = await lavaWalk({
    enforcement: LEXICOGRAPHIC,
    margin: 0.25,
    shielded: true,
    goal: LAVA.at,
  });
  assert.deepEqual([burnt, reached], [0, 0]);
});

test('a margin absorbs what the model gets wrong (O5)', async () => {
  // Actions reach 15 % further than the model believes.
  const wrong = { enforcement: LEXICOGRAPHIC, shielded: true, gain: 1.15, slip: 0.02 };
  const bare = await lavaWalk({ ...wrong, margin: 0 }, 20);
  const wide = await lavaWalk({ ...wrong, margin: 0.3 }, 20);
  assert.ok(bare.burnt > 0 && wide.burnt <= bare.burnt / 3, `without ${bare.burnt}, with a margin ${wide.burnt}`);
});

test('ranks put safety before cost; a shield keeps, moves or gives up', () => {
  const outside = [
    { steps: 0, size: 0 },
    { steps: 2, size: 0.1 },
    { steps: 1, size: 5 },
    { steps: 0, size: 0 },
  ];
  assert.deepEqual([...guardedCosts([9, 0, 0, 8], outside, LEXICOGRAPHIC)], [1, 3, 2, 0]);
  assert.deepEqual([...guardedCosts([9, 0, 0, 8], outside, { kind: 'soft', weight: 10 })], [9, 1, 50, 8]);
  assert.deepEqual(violations([lava(0)], [[Number.NaN, 0], [0, 0]]), { steps: 1, size: Number.POSITIVE_INFINITY }); // biome-ignore format: one claim
  const wall: Guardrail = { name: 'wall', excess: (s) => s[0] - 1 };
  const next = (a: ArrayLike<number>): number[][] => [[a[0]], [1.2 * a[0]]];
  assert.equal(shield([wall], next, [0.8], [], [0]).verdict, 'kept');
  const moved = shield([wall], next, [0.9], [[0.5], [0.7], [2]], [0]);
  assert.deepEqual([moved.verdict, moved.action[0], moved.broken], ['moved', 0.7, ['wall']]);
  assert.equal(shield([wall], next, [2], [[3]], [0]).verdict, 'fallback');
});

test('an energy limit on a linear-quadratic plan is met to 1e-3 at the optimum of its conditions (O6)', async () => {
  // A point of unit mass is brought from 0 towards 1 in ten steps: |A u - b|^2 + 0.01 |u|^2 with |u|^2 <= limit.
  const n = 10;
  const reach = Float64Array.from({ length: 2 * n }, (_, i) => (i < n ? n - i - 0.5 : 1));
  const goal = [1, 0];
  const solve = (weight: number): Float64Array => {
    // (A'A + weight I) u = A'b
    const normal = matrix(n, n);
    const right = matrix(n, 1);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++)
        normal.data[i * n + j] = reach[i] * reach[j] + reach[n + i] * reach[n + j] + (i === j ? weight : 0);
      right.data[i] = reach[i] * goal[0] + reach[n + i] * goal[1];
    }
    return Float64Array.from(choleskySolve(cholesky(normal), right).data);
  };
  const energy = (u: Float64Array): number => u.reduce((a, v) => a + v * v, 0);
  const task = (u: Float64Array): number =>
    [0, 1].reduce((t, r) => t + (u.reduce((a, v, i) => a + v * reach[r * n + i], 0) - goal[r]) ** 2, 0) +
    0.01 * energy(u);
  // Half of what it would use without a limit.
  const limit = 0.5 * energy(solve(0.01));
  // From elsewhere: the multiplier by bisection on the conditions of Karush, Kuhn and Tucker.
  let [low, high] = [0, 1e4];
  for (let i = 0; i < 200; i++) {
    const middle = (low + high) / 2;
    if (energy(solve(0.01 + middle)) > limit) low = middle;
    else high = middle;
  }
  const optimum = solve(0.01 + high);
  const found = await augmentedLagrangian(
    (lambda, rho, start) => {
      // The stationary point of the inner problem: its weight is lambda + rho g, found by damped steps.
      let u = start;
      for (let i = 0; i < 300; i++) {
        const next = solve(0.01 + Math.max(0, lambda[0] + rho * (energy(u) - limit)));
        u = u.map((v, k) => 0.8 * v + 0.2 * next[k]);
      }
      return u;
    },
    (u) => [energy(u) - limit],
    solve(0.01),
    { rounds: 60, rho: 1, tolerance: 1e-6 },
  );
  assert.ok(found.worst < 1e-3, `violation ${found.worst}`);
  assert.ok(Math.abs(task(found.x) / task(optimum) - 1) < 0.02, `${task(found.x)} against ${task(optimum)}`);
  assert.ok(Math.abs(found.multipliers[0] / high - 1) < 0.05, `multiplier ${found.multipliers[0]} against ${high}`);
});

test('a forbidden room is kept out of by the level that chooses the route; below it there are dead ends (O3)', () => {
  // Nine rooms in a square; the one in the middle, and one more, are forbidden. Doors join neighbours. The upper level chooses a
  // route of rooms, the lower one walks from room to room and will not enter a forbidden one, whatever is asked.
  const random = createRandom(15);
  let [crossing, reached, crossingBelow, reachedBelow, plain] = [0, 0, 0, 0, 0];
  const episodes = 200;
  for (let episode = 0; episode < episodes; episode++) {
    const order = [...random.permutation(9)];
    const [start, goal] = order.filter((room) => room !== 4);
    // Forbidden: the middle, and a second one that leaves a way.
    const other = order.find((room) => ![4, start, goal].includes(room)) as number;
    const forbidden = new Set([4, other]);
    const neighbours = (room: number): number[] =>
      [
        room % 3 < 2 ? room + 1 : -1,
        room % 3 > 0 ? room - 1 : -1,
        room < 6 ? room + 3 : -1,
        room > 2 ? room - 3 : -1,
      ].filter((next) => next >= 0);
    const route = (guarded: boolean): readonly number[] | undefined =>
      aStar<number>(
        {
          actions: (room) => neighbours(room).filter((next) => !(guarded && forbidden.has(next))),
          next: (_, next) => next,
          // Ways through the middle are the shorter ones.
          cost: (from, _, next) => (from === 4 || next === 4 ? 0.9 : 1),
          key: String,
          reached: (room) => room === goal,
        },
        start,
      )?.states;
    /** The lower level with its own guard: it stops before a room that it may not enter. */
    const walk = (rooms: readonly number[] | undefined): boolean => {
      if (!rooms) return false;
      for (const room of rooms) if (forbidden.has(room)) return false;
      return true;
    };
    const [above, below] = [route(true), route(false)];
    // Brute force over all orders of free rooms: is there a way at all?
    const seen = new Set([start]);
    for (const room of seen) for (const next of neighbours(room)) if (!forbidden.has(next)) seen.add(next);
    if (seen.has(goal)) plain++;
    if (above?.some((room) => forbidden.has(room))) crossing++;
    if (below?.some((room) => forbidden.has(room))) crossingBelow++;
    if (walk(above)) reached++;
    if (walk(below)) reachedBelow++;
  }
  assert.equal(crossing, 0);
  assert.equal(reached, plain, 'wherever there is a way it is found');
  assert.ok(crossingBelow > 0.2 * episodes, `${crossingBelow} routes cross`);
  assert.ok(reachedBelow < 0.8 * reached, `${reachedBelow} reached with the guard below only, ${reached} with both`);
});
