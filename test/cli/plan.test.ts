import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openEpisodes } from '../../src/hub/episodes-node.js';
import { folder, jepa } from './command.js';

test('collect writes episodes, train learns from the file, plan reaches for goals with it', async () => {
  const collected = await jepa(
    ...[
      'collect',
      'two-rooms',
      '-o',
      'walks.npz',
      '--episodes',
      '200',
      '--steps',
      '12',
      '--seed',
      '3',
      '--no-pixels',
      '--json',
    ],
  );
  assert.equal(collected.code, 0, collected.stderr);
  const facts = JSON.parse(collected.stdout);
  assert.deepEqual(
    [facts.behaviour, facts.columns.state.shape, facts.columns.action.shape],
    ['walk', [2600, 2], [2600, 2]],
  );
  const reading = { observe: 'states', frames: 5, moments: 0 } as const;
  const episodes = await openEpisodes(join(folder, 'walks.npz'), reading);
  assert.deepEqual([episodes.length, episodes.shape.action], [200, 2]);

  writeFileSync(
    join(folder, 'world.yaml'),
    `data: { kind: episodes, source: walks.npz, observe: states, frames: 5, threads: 0 }
method:
  name: world-model
  encoder: { kind: mlp, hidden: [16], width: 12 }
  steps: 3
  inverseWidth: 8
train: { batchSize: 6, steps: 4, diagnoseEvery: 4, workers: 2 }
`,
  );
  const trained = await jepa('train', 'world.yaml', '--out', 'run', '--json');
  assert.equal(trained.code, 0, trained.stderr);
  const { states } = JSON.parse(trained.stdout);
  assert.ok(states.r2 <= 1 && states.rmse > 0 && states.random.rmse > 0);

  const search = ['--horizon', '3', '--samples', '4', '--iterations', '1', '--steps', '4', '--replan', '2'];
  const planned = await jepa('plan', 'run', '--env', 'two-rooms', '--episodes', '3', ...search, '--json');
  assert.equal(planned.code, 0, planned.stderr);
  const result = JSON.parse(planned.stdout);
  assert.equal(result.success.episodes, 3);
  assert.ok(result.floors.random && result.floors.greedy && result.time.action > 0);
  assert.equal(result.planner.objective.distance, 'latent');
  assert.deepEqual(JSON.parse(readFileSync(join(folder, 'run', 'plan-two-rooms', 'result.json'), 'utf8')).seed, 0);
  const page = readFileSync(join(folder, 'run', 'plan-two-rooms', 'report.html'), 'utf8');
  for (const part of ['Goals reached', 'Episodes', 'How far it sees', '<animateMotion'])
    assert.ok(page.includes(part), part);

  const mistakes: readonly (readonly [args: readonly string[], code: number, message: RegExp])[] = [
    [['plan', 'run'], 2, /learned from walks\.npz, which names no world; name one with --env/],
    [['plan', 'run', '--env', 'two-room'], 2, /there is no "two-room"; there are two-rooms, /],
    [['plan', 'run', '--env', 'pendulum'], 2, /the model knows actions of 2 numbers, pendulum has 1/],
    [['plan', 'run', '--env', 'two-rooms', '--distance', 'learned'], 2, /learned no distance; use --distance latent/],
    [['plan', 'run', '--env', 'two-rooms', '--replan', '99'], 2, /--replan 99: a plan has 30 actions/],
    [['plan', 'none'], 1, /none: no run here/],
    [['plan', 'run', '--planner', 'magic'], 2, /Allowed choices are cem, icem, mppi, predictive, gradient/],
    [['collect', 'two-rooms', '-o', 'a.txt'], 2, /a\.txt: episodes are written to \.npz, \.h5 or \.hdf5/],
    [
      ['collect', 'two-rooms', '-o', 'a.npz', '--behaviour', 'run'],
      2,
      /there is no "run"; there are random, held, greedy, walk/,
    ],
    [['collect', 'two-rooms', '-o', 'a.npz', '--factor', 'door'], 2, /factors are written name=value/],
    [['collect', 'two-rooms', '-o', 'a.npz', '--factor', 'dor=1'], 2, /there is no factor "dor"/],
    [['collect', 'two-rooms', '-o', 'a.npz', '--steps', '500'], 2, /walks of 90 actions are over at step 90/],
  ];
  for (const [args, code, message] of mistakes) {
    const outcome = await jepa(...args);
    assert.match(outcome.stderr, message);
    assert.equal(outcome.code, code, args.join(' '));
    assert.match(outcome.stderr, /^error: /m);
  }
  assert.equal(existsSync(join(folder, 'a.npz')), false);
});
