import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { folder, start } from './command.js';

/** Recordings whose statistics take far longer than anyone waits. */
const SLOW = `data: { kind: sound, source: 'procedural:tones', options: { seconds: 600 }, seconds: 600 }
method: { name: audio-jepa }
train: { steps: 5, workers: 1 }
`;

test('Ctrl-C before the first step ends a training at once, with one line and nothing written', async () => {
  writeFileSync(join(folder, 'slow.yaml'), SLOW);
  const run = start(['train', 'slow.yaml', '-o', 'run']);
  await run.until(/writing run/);
  run.child.kill('SIGINT');
  const { code, stdout, stderr } = await run.outcome;
  assert.equal(code, 130, stderr);
  assert.match(stderr, /^.* writing run\ninterrupted before the first step; nothing was written\n$/);
  assert.equal(stdout, '');
  assert.equal(existsSync(join(folder, 'run')), false);
});

test('Ctrl-C while episodes are collected ends with one line and no file', async () => {
  const run = start(['collect', 'two-rooms', '-o', 'walks.npz', '--episodes', '100000', '--no-pixels']);
  await run.until(/collecting 100,000 episodes/);
  run.child.kill('SIGINT');
  const { code, stdout, stderr } = await run.outcome;
  assert.equal(code, 130, stderr);
  assert.match(stderr, /^collecting 100,000 episodes of two-rooms\ninterrupted\n$/);
  assert.equal(stdout, '');
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.includes('walks')),
    [],
  );
});
