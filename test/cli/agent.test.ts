import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { folder, jepa, start } from './command.js';

const SHORT = ['parts.play=20', 'parts.practice=40', 'planner.samples=8', 'planner.elites=2', 'planner.iterations=1'];

test('jepa agent: two short lives with floors, every step, a report and a result', async () => {
  const { code, stdout, stderr } = await jepa('agent', 'agent-homeostasis', ...SHORT, '--steps', '30', '--seeds', '3,4', '-o', 'lives', '--json'); // biome-ignore format: a command
  assert.equal(code, 0, stderr);
  const result = JSON.parse(stdout);
  assert.deepEqual(result.seeds, [3, 4]);
  assert.equal(result.interrupted, false);
  const names = result.lived.map(({ name, kind }: { name: string; kind: string }) => `${kind} ${name}`);
  assert.match(names[0], /^agent /);
  for (const floor of ['random', 'greedy', 'reactive']) assert.ok(names.some((n: string) => n.startsWith(`floor ${floor}`)), floor); // biome-ignore format: short
  for (const { values } of result.lived) assert.ok(values.hurt.mean >= 0 && values.hurt.error >= 0);
  const written = JSON.parse(readFileSync(join(folder, 'lives', 'result.json'), 'utf8'));
  assert.deepEqual({ folder: 'lives', ...written }, result);
  const steps = readFileSync(join(folder, 'lives', 'steps.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line)); // biome-ignore format: short
  // Play, practice and the day, of each seed.
  assert.equal(steps.length, 2 * (20 + 40 + 30));
  assert.ok(steps.every(({ costs, place, reason }) => costs.length === 3 && place.length === 2 && reason.length > 0));
  const page = readFileSync(join(folder, 'lives', 'report.html'), 'utf8');
  assert.match(page, /<section id="replay">/);
  assert.match(stderr, /practice: 40 steps in/);
  // The same seed lives the same life.
  const again = await jepa('agent', 'agent-homeostasis', ...SHORT, '--steps', '30', '--seed', '4', '-o', 'again', '--json'); // biome-ignore format: a command
  const one = readFileSync(join(folder, 'again', 'steps.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
  assert.equal(again.code, 0);
  assert.deepEqual(one.map((line) => JSON.parse(line)), steps.filter(({ seed }) => seed === 4)); // biome-ignore format: one claim
  const twice = await jepa('agent', 'agent-homeostasis', '-o', 'lives');
  assert.equal(twice.code, 2);
  assert.match(twice.stderr, /lives holds a run already; choose another folder/);
});

test('Ctrl-C ends with 130 and keeps what was written', async () => {
  const { child, outcome, until } = start([
    'agent',
    'agent-homeostasis',
    'parts.play=20',
    'parts.practice=100000',
    '-o',
    'stopped',
  ]);
  await until(/play: 20 steps/);
  child.kill('SIGINT');
  const { code, stderr } = await outcome;
  assert.equal(code, 130);
  assert.match(stderr, /interrupted: 0 of 1 lives are complete; every step is in stopped\/steps\.jsonl/);
  const lines = readFileSync(join(folder, 'stopped', 'steps.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
  assert.ok(lines.length >= 20);
  for (const line of lines) JSON.parse(line);
  assert.equal(JSON.parse(readFileSync(join(folder, 'stopped', 'result.json'), 'utf8')).interrupted, true);
  assert.match(readFileSync(join(folder, 'stopped', 'report.html'), 'utf8'), /<section id="replay">/);
});

test('mistakes in a recipe are named with their place', async () => {
  writeFileSync(join(folder, 'odd.yaml'), 'life: day\nworld:\n  slipp: 0.1\n');
  const cases: readonly (readonly [args: readonly string[], message: RegExp])[] = [
    [['agent', 'odd.yaml'], /odd\.yaml:3:\d+ unknown key world\.slipp; did you mean world\.slip\?/],
    [['agent', 'agent-homeostasis', 'life=night'], /command line: life: /],
    [['agent', 'agent-homeostasis', '--seeds', '1,x'], /--seeds 1,x: give whole numbers/],
    [['agent', 'agent-homeostasis', '--seed', '1', '--seeds', '2'], /give one of them/],
    [['agent', 'agent-homeostasi'], /did you mean agent-homeostasis\?/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await jepa(...args);
    assert.match(stderr, message);
    assert.equal(code, 2);
  }
});
