import assert from 'node:assert/strict';
import { test } from 'node:test';
import { banditConfigurator, configurationOf, type Situation, type Wish } from '../../src/agent/configurator.js';
import { intrinsicCost } from '../../src/agent/cost.js';
import type { Guardrail } from '../../src/agent/guardrails.js';
import { worstExcess } from '../../src/agent/guardrails.js';
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
    };
    last = configurator.configure(situation).reason;
  }
  const total = configurator.counts.reduce((a, b) => a + b, 0);
  assert.ok(configurator.counts[1] > 0.6 * total, `${configurator.counts}`);
  assert.ok(Math.abs(configurator.means[1] + 0.2) < 0.05, `${configurator.means}`);
});
