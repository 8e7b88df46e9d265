import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { drift, followNeeds, live, planner } from '../../bench/homeostasis.js';
import { fixedConfigurator } from '../../src/agent/configurator.js';

test('a configurator that follows needs lives better than any fixed weights, and never falls (G1)', async () => {
  const steps = 150;
  const led = await live(followNeeds(), planner(2), steps);
  const fixed: number[] = [];
  for (const u of [
    { hunger: 1, thirst: 1 },
    { hunger: 1, thirst: 3 },
    { hunger: 3, thirst: 1 },
  ])
    fixed.push((await live(fixedConfigurator({ u, reason: 'fixed' }), planner(2), steps)).violation);
  const still = await live(fixedConfigurator({ reason: 'still', horizon: 1 }), drift(3), steps);
  const best = Math.min(...fixed);
  assert.ok(led.violation <= 0.7 * best, `needs ${led.violation}, fixed ${fixed}`);
  assert.ok(still.violation >= 3 * led.violation, `random ${still.violation}, needs ${led.violation}`);
  assert.equal(led.fallen + still.fallen, 0, 'the guardrail holds, whatever is wished');
});

test('every step can be looked at, and a reset forgets what was expected', async () => {
  const { history, log } = await live(fixedConfigurator({ reason: 'always' }), planner(4), 4);
  assert.ok(Number.isNaN(history[0].surprise) && history[1].surprise >= 0);
  for (const step of history) {
    assert.equal(step.mode, 2);
    assert.ok(step.deliberation && step.deliberation.plan.states.length === 4);
    assert.deepEqual(Object.keys(step.cost.terms), ['hunger', 'thirst']);
    assert.equal(step.configuration.reason, 'always');
  }
  assert.deepEqual(log.moments().map(({ time }) => time), [0, 1, 2, 3]); // biome-ignore format: one claim
});

test('the loop fits one screen, in the order of the paper, and every module is at most two imports from it', () => {
  const source = (name: string): string =>
    readFileSync(new URL(`../../../src/agent/${name}.ts`, import.meta.url), 'utf8');
  const lines = source('agent').split('\n');
  const first = lines.findIndex((line) => line.includes('async step('));
  const loop = lines.slice(first, lines.indexOf('    },', first) + 1);
  assert.ok(loop.length > 20 && loop.length <= 50, `${loop.length} lines`);
  const steps = loop.flatMap((line) => /^ +\/\/ (\d)\.(?: to (\d)\.)?/.exec(line)?.slice(1) ?? []).filter(Boolean);
  assert.deepEqual(steps, ['1', '2', '5', '6', '7']);
  const imports = (name: string): string[] =>
    [...source(name).matchAll(/from '\.\/([^']+)\.js'/g)].map(([, imported]) => imported);
  const near = new Set(imports('agent').flatMap((name) => [name, ...imports(name)]));
  for (const name of ['configurator', 'perception', 'world-model', 'cost', 'memory', 'actor', 'guardrails'])
    assert.ok(near.has(name), `${name} is farther than two imports from the loop`);
});
