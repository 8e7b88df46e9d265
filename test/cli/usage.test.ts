import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { parseConfig } from '../../src/train/config.js';
import { folder, jepa, start, writeConfig } from './command.js';

const COMMANDS = [
  'quickstart',
  'train',
  'agent',
  'collect',
  'plan',
  'probe',
  'finetune',
  'embed',
  'search',
  'export',
  'import',
  'inspect',
  'bench',
  'doctor',
];

test('help lists every command, and every command has examples', async () => {
  const { code, stdout } = await jepa('--help');
  assert.equal(code, 0);
  const listed = [...stdout.matchAll(/^ {2}([a-z]+) .*/gm)].map(([, name]) => name);
  assert.deepEqual(listed.slice(listed.indexOf('quickstart')), [...COMMANDS, 'help']);
  assert.match(stdout, /Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted/);
  for (const name of COMMANDS) {
    const help = await jepa(name, '--help');
    assert.equal(help.code, 0, name);
    assert.match(help.stdout, new RegExp(`Examples:\\n {2}\\$ jepa ${name}`), name);
    assert.match(help.stdout, /--json/, name);
  }
});

test('help is there within 200 ms', () => {
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  // The best of several: a disturbed start says nothing of the program.
  const best = (...args: string[]): number => {
    const times = Array.from({ length: 10 }, () => {
      const started = performance.now();
      assert.equal(spawnSync(process.execPath, args).status, 0);
      return performance.now() - started;
    });
    return Math.min(...times);
  };
  const own = best(main, '--help');
  // On a machine that is too busy to start an empty program in good time, that is the measure.
  const limit = Math.max(200, 3 * best('--eval', ''));
  assert.ok(own < limit, `${own.toFixed(0)} ms, more than ${limit.toFixed(0)}`);
});

test('the version is that of the package', async () => {
  const { code, stdout } = await jepa('--version');
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test('bad usage ends with code 2 and says what would be right', async () => {
  writeConfig('good.yaml');
  writeConfig('wrong-type.yaml', 'optimizer2: 1\n');
  writeFileSync(
    join(folder, 'types.yaml'),
    'train:\n  steps: 5\noptimizer:\n  betas: [0.9, 0.99]\n  warmup: 0.1\n  lr: fast\n',
  );
  writeFileSync(join(folder, 'broken.yaml'), 'train: [\n');
  writeFileSync(join(folder, 'list.yaml'), '- 1\n');
  const cases: readonly (readonly [args: readonly string[], message: RegExp])[] = [
    [[], /Usage: jepa/],
    [['trian', 'ijepa'], /unknown command 'trian'\n\(Did you mean train\?\)/],
    [['train'], /missing required argument 'recipe'/],
    [['train', 'ijepa', '--stepz'], /unknown option '--stepz'/],
    [['quickstart', '--minutes', '0'], /'--minutes <number>' argument '0' is invalid\. It must be a number above 0/],
    [['quickstart', '--seed', '1.5'], /It must be a whole number/],
    [['search', 'runs/a', 'data', '--like', 'a.png', '-k', '0'], /It must be a whole number above 0/],
    [['bench', 'zzz'], /bench: there is no model zzz; there are a, b, c/],
    [['train', 'lejpa'], /there is no recipe lejpa; did you mean lejepa\? \(recipes: audio-jepa, ijepa, /],
    [['train', 'agent-skill'], /agent-skill is a recipe of another command: jepa agent agent-skill/],
    [['train', 'none.yaml'], /none\.yaml: there is no such file/],
    [['train', folder], /this folder is no run/],
    [['train', 'types.yaml'], /types\.yaml:6:7 optimizer\.lr: expected number, received string/],
    [['train', 'wrong-type.yaml'], /wrong-type\.yaml:\d+:\d+ unknown key optimizer2; did you mean optimizer\?/],
    [['train', 'broken.yaml'], /broken\.yaml:2:1 Flow sequence/],
    [['train', 'list.yaml'], /list\.yaml: settings must be keys with values/],
    [['train', 'good.yaml', 'optimizer.lr=fast'], /command line: optimizer\.lr: expected number, received string/],
    [['train', 'good.yaml', 'train.stps=3'], /unknown key train\.stps; did you mean train\.steps\?/],
    [['train', 'good.yaml', 'train.steps.more=3'], /train\.steps\.more=3: train\.steps is a value and has no more/],
    [
      ['train', 'good.yaml', 'method.name=lejpa'],
      /method\.name: "lejpa" is not known; did you mean lejepa\? \(known are ijepa, /,
    ],
    [['train', 'good.yaml', 'train.backend=metal'], /train\.backend: "metal" is not known; known are cpu, wasm,/],
    [['train', 'good.yaml', 'data.size=[1, 2, 3]'], /data\.size: expected a number, or \[height, width\]/],
    [
      ['train', 'good.yaml', 'data.views=[[{kind: afine}]]'],
      /data\.views\.0\.0\.kind: "afine" is not known; did you mean affine\?/,
    ],
    [
      ['train', 'good.yaml', 'data.views=[[{kind: affine, rotat: 3}]]'],
      /unknown key data\.views\.0\.0\.rotat; did you mean data\.views\.0\.0\.rotate\?/,
    ],
    [
      ['train', 'good.yaml', 'data.views=[[{kind: affine}, {kind: resize, size: 16}]]'],
      /data\.views\.0: transforms\[1\]: resize works on bytes and must come before affine/,
    ],
    [['train', 'good.yaml', 'steps'], /steps: settings are written key=value/],
    [['train', 'good.yaml', 'train.steps=[1'], /train\.steps=\[1: Flow sequence/],
    [['train', 'good.yaml', 'train.steps=null', 'data.source=glyphs'], /exactly one of epochs, steps and minutes/],
    [
      ['train', 'good.yaml', 'method={name: s-jepa}'],
      /data\.kind: s-jepa learns from data of kind skeleton, not image/,
    ],
    [['train', 'good.yaml', '--resume'], /--resume needs to know the run/],
    [['train', 'good.yaml', 'data.source=glyphs', 'data.channels=3'], /images have 1 channel; set data\.channels=1/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await jepa(...args);
    assert.match(stderr, message, args.join(' '));
    assert.equal(code, 2, args.join(' '));
    assert.equal(stdout, '', args.join(' '));
  }
});

test('failures end with code 1 and one line; JEPA_DEBUG shows the stack', async () => {
  writeConfig('good.yaml');
  const { code, stderr } = await jepa('train', 'good.yaml', 'data.source=nowhere');
  assert.equal(code, 1);
  assert.equal(
    stderr,
    'error: nowhere: there is no such file or folder; give a folder of images, or the name glyphs\n',
  );
  const debug = await start(['train', 'good.yaml', 'data.source=nowhere'], { JEPA_DEBUG: '1' }).outcome;
  assert.equal(debug.code, 1);
  assert.match(debug.stderr, /JepaError: nowhere: .*\n\s+at /);
});

test('--print-config prints every default, and what it prints trains the same', async () => {
  const { code, stdout } = await jepa('train', 'ijepa', 'optimizer.lr=5e-4', 'train.steps=7', '--print-config');
  assert.equal(code, 0);
  const config = parse(stdout);
  assert.deepEqual(JSON.parse(JSON.stringify(parseConfig(config))), config);
  assert.equal(config.optimizer.lr, 5e-4);
  // One way to say how long a run is replaces the other of the recipe.
  assert.deepEqual([config.train.steps, config.train.minutes], [7, undefined]);
  assert.equal(config.optimizer.eps, 1e-8);
  assert.equal(config.method.masks.targets, 4);
  assert.equal(config.data.views[0][0].filter, 'bilinear');
  assert.deepEqual(config.data.views[0][0].ratio, [3 / 4, 4 / 3]);
  writeFileSync(join(folder, 'printed.yaml'), stdout);
  const again = await jepa('train', 'printed.yaml', '--print-config');
  assert.equal(again.stdout, stdout);
  const asJson = await jepa('train', 'printed.yaml', '--print-config', '--json');
  assert.deepEqual(JSON.parse(asJson.stdout), config);
});

test('settings reach into lists, and null takes one away', async () => {
  const { stdout } = await jepa(
    'train',
    'ijepa',
    'data.views.0.0.scale=[0.5, 1]',
    'method.masks.minKeep=null',
    '--print-config',
  );
  const config = parse(stdout);
  assert.deepEqual(config.data.views[0][0].scale, [0.5, 1]);
  assert.equal(config.method.masks.minKeep, 10);
});

test('transforms of clips are checked when a configuration is read', () => {
  const data = { kind: 'video', view: { scale: [0.6, 1], mean: [0.5] }, evaluation: { views: 3 } } as const;
  const of = (changes: object) => ({ data: { ...data, ...changes }, method: { name: 'vjepa' }, train: { steps: 1 } });
  const config = parseConfig(of({}));
  // Nothing is filled in: evaluation takes what it does not say from the view.
  assert.deepEqual(config.data.kind === 'video' && [config.data.view, config.data.evaluation], [
    data.view,
    data.evaluation,
  ]);
  const mistakes: readonly (readonly [changes: object, message: RegExp])[] = [
    [{ view: { scal: [0.3, 1] } }, /unknown key data\.view\.scal; did you mean data\.view\.scale\?/],
    [{ view: { kind: 'trian' } }, /data\.view\.kind: "trian" is not known; did you mean train\?/],
    [{ view: { randAugment: { magnitud: 3 } } }, /did you mean data\.view\.randAugment\.magnitude\?/],
    [{ view: { scale: [1, 0.5] } }, /data\.view\.scale: the first number must not be above the second/],
    [{ evaluation: { kind: 'evalute' } }, /data\.evaluation\.kind: "evalute" is not known; did you mean evaluate\?/],
    [{ evaluation: { view: 3 } }, /unknown key data\.evaluation\.view; did you mean data\.evaluation\.views\?/],
    [{ evaluation: { views: 'all' } }, /data\.evaluation\.views: expected number, received string/],
    [{ threads: 100_000 }, /data\.threads: Too big: expected number to be <=256/],
  ];
  for (const [changes, message] of mistakes)
    assert.throws(() => parseConfig(of(changes)), { name: 'UsageError', message }, JSON.stringify(changes));
});
