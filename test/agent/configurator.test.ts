import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createActor } from '../../src/agent/actor.js';
import { cemPlanner } from '../../src/agent/cem-planner.js';
import { banditConfigurator, configurationOf, type Situation, type Wish } from '../../src/agent/configurator.js';
import { costModule, intrinsicCost } from '../../src/agent/cost.js';
import type { Guardrail } from '../../src/agent/guardrails.js';
import { worstExcess } from '../../src/agent/guardrails.js';
import { adaptiveModel } from '../../src/agent/world-model.js';
import { createRandom } from '../../src/base/random.js';

const intrinsic = intrinsicCost([
  { name: 'hunger', energy: (s) => s[0] },
  { name: 'pain', energy: (s) => s[1], leastWeight: 0.5 },
  { name: 'boredom', energy: () => 1 },
]);

test('ten thousand wild wishes never weaken a guardrail or switch all costs off (G4)', () => {
  const guardrails: Guardrail[] = [
    { name: 'pit', excess: (s) => s[0] - 1, margin: 0.1 },
    { name: 'heat', excess: (s) => s[1] - 2 },
  ];
  const harmless = intrinsicCost([{ name: 'a', energy: (s) => s[0] }, { name: 'b', energy: (s) => s[1] }]); // biome-ignore format: short
  const random = createRandom(1);
  const wild = (): number =>
    [0, -1, 1, Number.NaN, Number.POSITIVE_INFINITY, -1e9, 1e30, random.normal()][random.integer(8)];
  for (let i = 0; i < 10000; i++) {
    const wish: Wish = {
      u: { hunger: wild(), pain: wild(), boredom: wild(), unheard: wild() },
      v: { later: wild() },
      horizon: wild(),
      mode: (random.integer(4) as 1 | 2) ?? 1,
      guardrails:
        random.uniform() < 0.5
          ? [{ name: 'pit', excess: () => -1e9, margin: wild() }]
          : random.uniform() < 0.5
            ? []
            : [{ name: 'more', excess: (s) => s[0] - 0.5, margin: wild() }],
      reason: '',
    };
    const c = configurationOf(wish, { intrinsic, guardrails, longestHorizon: 12 });
    const s = [3 * random.normal(), 3 * random.normal()];
    assert.ok(worstExcess(c.guardrails, s) >= worstExcess(guardrails, s));
    assert.ok(c.u.pain >= 0.5 && Object.values(c.u).every((w) => w >= 0 && w <= 1e6));
    assert.ok(c.horizon >= 1 && c.horizon <= 12 && (c.mode === 1 || c.mode === 2));
    const zero = configurationOf({ u: { a: 0, b: wild() < 0 ? 0 : 0 }, reason: '' }, { intrinsic: harmless, guardrails, longestHorizon: 1 }); // biome-ignore format: short
    assert.ok(Object.values(zero.u).some((w) => w > 0));
  }
});

test('a bandit finds the configuration whose days are best, by costs that no arm weighs', () => {
  const random = createRandom(2);
  const arms: Wish[] = ['poor', 'good', 'fair'].map((reason) => ({ reason, u: { pain: 0 } }));
  const configurator = banditConfigurator(arms, { hold: 5, exploration: 0.3, random });
  const price: Record<string, number> = { poor: 1, good: 0.2, fair: 0.6 };
  let last = 'fair';
  for (let t = 0; t < 600; t++) {
    const pain = price[last] + 0.1 * random.normal();
    const situation: Situation = {
      time: t,
      state: [0],
      cost: { total: 0, terms: { pain } },
      surprise: 0,
      known: () => 1,
      promise: () => 0,
    };
    last = configurator.configure(situation).reason;
  }
  const total = configurator.counts.reduce((a, b) => a + b, 0);
  assert.ok(configurator.counts[1] > 0.6 * total, `${configurator.counts}`);
  assert.ok(Math.abs(configurator.means[1] + 0.2) < 0.05, `${configurator.means}`);
});

test('one world model serves four tasks by weights alone, as well as agents made for each (G2)', async () => {
  // State: own place, the other's place and speed. Learned once, from random moves.
  const world = (s: ArrayLike<number>, a: ArrayLike<number>): Float64Array =>
    Float64Array.of(s[0] + 0.9 * a[0], s[1] + 0.9 * a[1], s[2] + s[4], s[3] + s[5], s[4], s[5]);
  const random = createRandom(41);
  const model = adaptiveModel({ features: (s, a) => [a[0], a[1], s[4], s[5]], keep: 1 });
  for (let i = 0; i < 60; i++) {
    const s = Float64Array.from({ length: 6 }, (_, k) => (k < 4 ? 10 : 0.5) * (random.uniform() - 0.5));
    const a = [2 * random.uniform() - 1, 2 * random.uniform() - 1];
    model.learn(s, a, world(s, a).map((v, k) => v + (k < 4 ? 0.02 * random.normal() : 0))); // biome-ignore format: short
  }
  const apart = (s: ArrayLike<number>): number => Math.hypot(s[0] - s[2], s[1] - s[3]);
  const terms = {
    reach: (s: ArrayLike<number>) => Math.hypot(s[0], s[1]),
    avoid: (s: ArrayLike<number>) => Math.max(0, 6 - apart(s)),
    follow: (s: ArrayLike<number>) => apart(s),
    rest: (_: ArrayLike<number>, a?: ArrayLike<number>) => (a ? a[0] ** 2 + a[1] ** 2 : 0),
  };
  type Task = keyof typeof terms;
  const tasks = Object.keys(terms) as Task[];
  /** What counts as done after 14 steps; random moves do not. */
  const done: Record<Task, (path: readonly Float64Array[]) => boolean> = {
    reach: (path) => Math.hypot(path[14][0], path[14][1]) < 0.6,
    avoid: (path) => path.slice(9).every((s) => apart(s) > 5),
    follow: (path) => path.slice(10).every((s) => apart(s) < 1),
    rest: (path) => path.slice(1).every((s, i) => Math.hypot(s[0] - path[i][0], s[1] - path[i][1]) < 0.25),
  };
  async function rate(task: Task, names: readonly Task[] | 'random'): Promise<number> {
    const chance = createRandom(42);
    const intrinsic = intrinsicCost(
      (names === 'random' ? tasks : names).map((name) => ({ name, energy: terms[name] })),
    );
    const u = Object.fromEntries(intrinsic.names.map((name) => [name, name === task ? 1 : 0]));
    const configuration = configurationOf({ u, reason: task }, { intrinsic, guardrails: [], longestHorizon: 4 });
    const planner = cemPlanner({ samples: 32, elites: 5, iterations: 4, std: [0.5, 0.5], low: -1, high: 1, random: createRandom(43) }); // biome-ignore format: long
    const actor = createActor({ width: 2, model, planner, enforcement: { kind: 'none' }, critics: 'last' });
    let won = 0;
    for (let episode = 0; episode < 10; episode++) {
      actor.forget();
      const path: Float64Array[] = [
        Float64Array.from({ length: 6 }, (_, k) => (k < 4 ? 8 : 0.5) * (chance.uniform() - 0.5)),
      ];
      for (let t = 0; t < 14; t++) {
        const { plan } = await actor.deliberate(path[t], costModule(intrinsic), configuration);
        const drift = [2 * chance.uniform() - 1, 2 * chance.uniform() - 1];
        path.push(world(path[t], names === 'random' ? drift : plan.actions[0]));
      }
      if (done[task](path)) won++;
    }
    return won / 10;
  }
  for (const task of tasks) {
    const [together, alone, chance] = [await rate(task, tasks), await rate(task, [task]), await rate(task, 'random')];
    assert.ok(Math.abs(together - alone) <= 0.05, `${task}: configured ${together}, made for it ${alone}`);
    assert.ok(together >= 0.9 && chance <= 0.5, `${task}: ${together}, by chance ${chance}`);
  }
});
