import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { openEpisodes } from '../../src/hub/episodes-node.js';
import { folder, jepa, start } from './command.js';

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

  const search = ['--horizon', '3', '--samples', '4', '--iterations', '1', '--steps', '8', '--replan', '2'];
  search.push('--repeat', '2', '--shifts', '2', '--factor', 'dot size=1', 'dot brightness=1', 'wall half=draw');
  const planned = await jepa('plan', 'run', '--env', 'two-rooms', '--episodes', '3', ...search, '--json');
  assert.equal(planned.code, 0, planned.stderr);
  const result = JSON.parse(planned.stdout);
  assert.equal(result.success.episodes, 3);
  assert.ok(result.floors.random && result.floors.greedy && result.time.action > 0);
  assert.equal(result.planner.objective.distance, 'latent');
  assert.deepEqual([result.planner.repeat, result.steps, result.interrupted], [2, 8, false]);
  // A plan serves for 2 actions of 2 steps each.
  assert.ok(Math.abs(result.time.action - result.time.plan / 4) < 1e-9);
  assert.deepEqual(
    result.factors.map(({ factor }: { factor: string }) => factor),
    ['start to goal', 'wall', 'door', 'wall half'],
  );
  for (const { groups } of result.factors)
    assert.equal(
      groups.reduce((sum: number, { success }: { success: { episodes: number } }) => sum + success.episodes, 0),
      3,
    );
  assert.equal(result.shifted.usual.success.episodes, 2);
  assert.deepEqual(
    result.shifted.worlds.map(({ factor, value }: { factor: string; value: number }) => [factor, value]),
    [
      ['door half', 2],
      ['door half', 8],
      ['swapped channels', 1],
    ],
  );
  assert.deepEqual(JSON.parse(readFileSync(join(folder, 'run', 'plan-two-rooms', 'result.json'), 'utf8')).seed, 0);
  const page = readFileSync(join(folder, 'run', 'plan-two-rooms', 'report.html'), 'utf8');
  for (const part of ['Goals reached', 'What makes it harder', 'In changed worlds', 'How far it sees', 'episodes.gif'])
    assert.ok(page.includes(part), part);
  const film = await sharp(join(folder, 'run', 'plan-two-rooms', 'episodes.gif'), { animated: true }).metadata();
  // Three cells of 3 x 65 pixels with gaps of 8 around them, one frame a step.
  assert.deepEqual([film.format, film.width, film.pageHeight, film.pages, film.loop], ['gif', 618, 212, 9, 0]);

  const mistakes: readonly (readonly [args: readonly string[], code: number, message: RegExp])[] = [
    [['plan', 'run'], 2, /learned from walks\.npz, which names no world; name one with --env/],
    [['plan', 'run', '--env', 'two-room'], 2, /there is no "two-room"; there are two-rooms, /],
    [['plan', 'run', '--env', 'pendulum'], 2, /the model knows actions of 2 numbers, pendulum has 1/],
    [['plan', 'run', '--env', 'two-rooms', '--distance', 'learned'], 2, /learned no distance; use --distance latent/],
    [['plan', 'run', '--env', 'two-rooms', '--replan', '99'], 2, /--replan 99: a plan has 30 actions/],
    [['plan', 'none'], 1, /none: no run here/],
    [['plan', 'run', '--env', 'two-rooms', '--episodes', '0'], 2, /above 0/],
    [['plan', 'run', '--env', 'two-rooms', '--episodes', '3000'], 2, /at most 2,000 of these at a time/],
    [['plan', 'run', '--env', 'two-rooms', '--samples', '100000000'], 2, /lower --samples, --horizon or --repeat/],
    [['plan', 'run', '--env', 'two-rooms', '--elites', '1'], 2, /1 elites of 64 samples: give .* 2 elites or more/],
    [
      ['plan', 'run', '--env', 'two-rooms', '--factor', 'dor=1'],
      2,
      /two-rooms has no factor "dor" to be set; it has "wall", "door", /,
    ],
    [
      ['plan', 'run', '--env', 'two-rooms', '-o', 'world.yaml/plans'],
      1,
      /cannot write world\.yaml\/plans: a part of the path is a file/,
    ],
    [['plan', 'run', '--planner', 'magic'], 2, /Allowed choices are cem, icem, mppi, predictive, gradient/],
    [['collect', 'two-rooms', '-o', 'a.txt'], 2, /a\.txt: episodes are written to \.npz, \.h5 or \.hdf5/],
    [
      ['collect', 'two-rooms', '-o', 'a.npz', '--behaviour', 'run'],
      2,
      /there is no "run"; there are random, held, greedy, walk/,
    ],
    [['collect', 'two-rooms', '-o', 'a.npz', '--factor', 'door'], 2, /factors are written name=value/],
    [['collect', 'two-rooms', '-o', 'a.npz', '--factor', 'dor=1'], 2, /no factor "dor" to be set/],
    [
      ['collect', 'point-maze-u', '-o', 'a.npz', '--factor', 'walls=3'],
      2,
      /no factor "walls" to be set; it has "radius"/,
    ],
    [['collect', 'two-rooms', '-o', 'no/a.npz'], 2, /no\/a\.npz: there is no folder no; make it/],
    [['collect', 'two-rooms', '-o', 'a.npz', '--episodes', '9999999', '--no-pixels'], 2, /more than one file may hold/],
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

test('plan reaches for goals with a run of V-JEPA 2-AC, with the same table, report and film', async () => {
  const data = 'source: procedural:point-maze-u, frames: 4, threads: 0';
  const training = 'train: { batchSize: 8, steps: 2, workers: 2 }';
  writeFileSync(
    join(folder, 'eyes.yaml'),
    `data: { kind: video, ${data}, frameStep: 1, size: 64, options: { count: 16, testCount: 8, steps: 3 } }
method:
  name: vjepa2
  encoder: { kind: vit, patchSize: 32, width: 24, depth: 1, heads: 2 }
  predictor: { width: 32, depth: 1 }
  masks: [{ blocks: 1, spatialScale: [0.4, 0.6] }]
${training}
`,
  );
  writeFileSync(
    join(folder, 'actions.yaml'),
    `data: { kind: episodes, ${data}, options: { count: 16, testCount: 8, steps: 8 } }
method: { name: vjepa2-ac, encoder: eyes, predictor: { width: 24, depth: 1, heads: 2 }, pose: 2 }
${training}
`,
  );
  for (const [config, out] of [
    ['eyes.yaml', 'eyes'],
    ['actions.yaml', 'actions'],
  ]) {
    const trained = await jepa('train', config, '--out', out, '--no-probe', '--json');
    assert.equal(trained.code, 0, trained.stderr);
  }
  const search = ['--episodes', '2', '--steps', '3', '--samples', '4', '--iterations', '1'];
  const planned = await jepa('plan', 'actions', ...search, '--json');
  assert.equal(planned.code, 0, planned.stderr);
  const result = JSON.parse(planned.stdout);
  assert.deepEqual([result.model, result.env, result.success.episodes], ['V-JEPA 2-AC', 'point-maze-u', 2]);
  // As far as windows of 4 frames go, and the published energy.
  const { horizon, replan, objective } = result.planner;
  assert.deepEqual([horizon, replan, objective], [3, 3, { distance: 'latent', time: 'last' }]);
  assert.deepEqual(
    [result.rollout.place.model.length, result.poses.r2.length, result.probe.r2PerNumber.length],
    [3, 3, 2],
  );
  assert.ok(result.floors.random && result.floors.greedy && result.time.action > 0);
  const page = readFileSync(join(folder, 'actions', 'plan-point-maze-u', 'report.html'), 'utf8');
  for (const part of ['V-JEPA 2-AC, cem planner', 'Goals reached', 'How far it sees', 'episodes.gif'])
    assert.ok(page.includes(part), part);
  const film = await sharp(join(folder, 'actions', 'plan-point-maze-u', 'episodes.gif'), { animated: true }).metadata();
  assert.deepEqual([film.format, film.pages], ['gif', 4]);

  const told = await jepa('plan', 'actions', ...search);
  assert.match(told.stdout, /poses told along plans: R2 [01]\.\d{3} after 1, [01]\.\d{3} after 3 actions/);
});

test('Ctrl-C keeps what was planned so far, told of the steps that were made', { timeout: 120_000 }, async () => {
  const args = [
    'plan',
    'run',
    '--env',
    'two-rooms',
    '--episodes',
    '2',
    '--horizon',
    '2',
    '--samples',
    '2',
    '--replan',
    '1',
  ];
  const running = start([...args, '--iterations', '1', '--steps', '20000', '-o', 'cut', '--json']);
  await running.until(/step \d+\/20000/);
  running.child.kill('SIGINT');
  const { code, stdout, stderr } = await running.outcome;
  assert.equal(code, 130, stderr);
  const told = JSON.parse(stdout);
  assert.match(stderr, new RegExp(`interrupted after ${told.steps} of 20000 steps; what is told is of those`));
  assert.ok(told.interrupted && told.steps > 0 && told.steps < 20000);
  assert.equal(told.floors.greedy.episodes, 2);
  assert.deepEqual(JSON.parse(readFileSync(join(folder, 'cut', 'result.json'), 'utf8')).interrupted, true);
  assert.match(readFileSync(join(folder, 'cut', 'report.html'), 'utf8'), /The evaluation was interrupted/);

  const early = start([...args, '-o', 'early']);
  await early.until(/where things are/);
  early.child.kill('SIGINT');
  const stopped = await early.outcome;
  assert.equal(stopped.code, 130, stopped.stderr);
  assert.match(stopped.stderr, /interrupted before the first step; nothing was written/);
  assert.equal(existsSync(join(folder, 'early')), false);
});
