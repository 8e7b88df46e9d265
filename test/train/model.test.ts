import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { createRandom } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { writeTorchCheckpoint } from '../../src/hub/checkpoint-layout.js';
import { loadEncoder } from '../../src/hub/encoder-files.js';
import type { EncoderWeights } from '../../src/hub/ijepa-names.js';
import { writeModelFolder } from '../../src/hub/model-folder.js';
import { untrainedValues } from '../../src/methods/method.js';
import { vitConfig } from '../../src/nn/vit.js';
import { buildMethod } from '../../src/train/build.js';
import { saveCheckpoint } from '../../src/train/checkpoint.js';
import { parseConfig } from '../../src/train/config.js';
import type { DataFacts } from '../../src/train/facts.js';
import { openEncoder } from '../../src/train/frozen.js';
import { openModel } from '../../src/train/model.js';
import { goldenFolder } from '../golden.js';

const root = mkdtempSync(join(tmpdir(), 'jepa-model-'));
after(() => rmSync(root, { recursive: true, force: true }));

/** The folder of a run that has not learned anything, and its parameters; every one of them is another number. */
function run(
  name: string,
  input: object,
  facts: DataFacts = {},
): { readonly path: string; readonly weights: Map<string, HostTensor<'float32'>> } {
  const config = parseConfig(input);
  const values = untrainedValues(buildMethod(config, facts), createRandom(1));
  const weights = new Map(
    Array.from(values, ([key, { shape, data }], i): [string, HostTensor<'float32'>] => [
      key,
      { dtype: 'float32', shape, data: data.map((value, k) => value + i + k / 1024) },
    ]),
  );
  const path = join(root, name);
  saveCheckpoint(join(path, 'checkpoint'), {
    meta: {
      ...{ format: 1, step: 9, totalSteps: 9, position: { epoch: 3, step: 0 }, workers: 1 },
      ...{ backend: 'cpu', seconds: 1, config, facts },
    },
    weights,
    slots: new Map([['exp_avg/encoder.norm.bias', weights.values().next().value as HostTensor<'float32'>]]),
    memory: new Map(),
  });
  return { path, weights };
}

const sorted = (weights: ReadonlyMap<string, HostTensor>, prefix = '') =>
  [...weights]
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, { shape, data }]): [string, number[], number[]] => [
      name.slice(prefix.length),
      [...shape],
      Array.from(data, Number),
    ])
    .sort(([a], [b]) => (a < b ? -1 : 1));

const vit = { kind: 'vit', patchSize: 4, width: 24, depth: 2, heads: 2 };
const images = {
  data: {
    source: 'procedural:shapes',
    size: 16,
    channels: 1,
    evaluation: [
      { kind: 'resize', size: 20, fit: 'shortEdge', filter: 'bilinear' },
      { kind: 'centerCrop', size: 16 },
      { kind: 'normalize', mean: [0.4], std: [0.2] },
    ],
  },
};
const clips = {
  data: {
    kind: 'video',
    source: 'procedural:motions',
    frames: 4,
    size: 16,
    channels: 1,
    view: { mean: [0.5], std: [0.25] },
    evaluation: { shortSide: 18 },
  },
};

const tubes = [{ blocks: 1, spatialScale: [0.5, 0.5] }];

const RUNS: readonly (readonly [name: string, family: string, input: object])[] = [
  [
    'ijepa',
    'ijepa',
    {
      ...images,
      method: {
        name: 'ijepa',
        encoder: vit,
        predictor: { width: 16, depth: 1, heads: 4 },
        masks: { targetScale: [0.3, 0.4], minKeep: 1 },
      },
    },
  ],
  [
    'vjepa',
    'vjepa',
    { ...clips, method: { name: 'vjepa', encoder: vit, predictor: { width: 16, depth: 1 }, masks: tubes } },
  ],
  [
    'vjepa2',
    'vjepa2',
    { ...clips, method: { name: 'vjepa2', encoder: vit, predictor: { width: 32, depth: 1 }, masks: tubes } },
  ],
  [
    'vjepa21',
    'vjepa2.1',
    { ...clips, method: { name: 'vjepa21', encoder: vit, predictor: { width: 32, depth: 1 }, masks: tubes } },
  ],
];

for (const [name, family, input] of RUNS) {
  test(`a run as a checkpoint of PyTorch: ${name}`, () => {
    const { path, weights } = run(name, input);
    const file = join(root, `${name}.pth.tar`);
    writeTorchCheckpoint(file, openModel(path));

    const model = loadEncoder(file);
    assert.equal(model.family, family);
    assert.deepEqual(model.facts, { epoch: 3, batch_size: 128, world_size: 1 });
    assert.deepEqual(sorted(model.weights), sorted(weights, 'target_encoder.'));
    assert.deepEqual(sorted(model.context as EncoderWeights), sorted(weights, 'encoder.'));
    assert.deepEqual(sorted(model.predictor!.weights), sorted(weights, 'predictor.'));
    const { encoder, predictor } = parseConfig(input).method as unknown as Record<string, { [key: string]: number }>;
    assert.equal(model.config.heads, encoder.heads);
    assert.equal(model.predictor!.config.heads, predictor.heads ?? model.predictor!.config.heads);

    // What is embedded with it: the same weights behind the same preparation.
    const [ours, theirs] = [openEncoder(path), openEncoder(file)];
    assert.deepEqual(theirs.encoder.architecture, ours.encoder.architecture);
    assert.deepEqual(sorted(theirs.weights, 'encoder.'), sorted(ours.weights, 'target_encoder.'));
    const { preparation } = theirs;
    if (preparation.kind === 'video' && ours.preparation.kind === 'video')
      assert.deepEqual(
        { views: 1, ...preparation.transform },
        { views: 1, ...ours.preparation.transform, kind: 'evaluate', like: 'papers' },
      );
    else assert.deepEqual(preparation, ours.preparation);
  });
}

test('an encoder without a moving average stands under both names', () => {
  const method = { name: 'lejepa', encoder: vit, projector: [16] };
  const { path, weights } = run('lejepa', { ...images, method });
  const model = openModel(path);
  assert.deepEqual([model.family, model.context, model.predictor], ['ijepa', undefined, undefined]);
  const file = join(root, 'lejepa.pth');
  writeTorchCheckpoint(file, model);
  for (const entry of ['encoder', 'target_encoder'] as const)
    assert.deepEqual(sorted(loadEncoder(file, { entry }).weights), sorted(weights, 'encoder.'));
});

test('a predictor that follows actions, with the encoder that it is for', () => {
  const eyes = vitConfig({ ...vit, imageSize: 16, channels: 1, frames: 4, positions: { frequencies: 'tiled' } });
  const scaling = { range: 'byte', mean: [0.3], std: [0.2] } as const;
  const facts = {
    episodes: { observation: [1, 16, 16], action: 2, scaling, longest: 1 },
    encoder: { config: eyes, mean: [0.3], std: [0.2] },
  };
  const input = (pose: number, data: object = {}) => ({
    data: { kind: 'episodes', source: 'procedural:two-rooms', frames: 4, ...data },
    method: { name: 'vjepa2-ac', encoder: 'eyes', predictor: { width: 24, depth: 1, heads: 2 }, pose },
  });
  const { path, weights } = run('ac', input(2), facts);
  const file = join(root, 'ac.pt');
  writeTorchCheckpoint(file, openModel(path));
  const model = loadEncoder(file);
  assert.equal(model.family, 'vjepa2-ac');
  assert.deepEqual(sorted(model.weights), sorted(weights, 'encoder.'));
  assert.deepEqual(sorted(model.actionPredictor!.weights), sorted(weights, 'predictor.'));
  assert.equal(model.actionPredictor!.config.actionWidth, 2);
  assert.deepEqual(model.transforms, [{ kind: 'normalize', mean: [0.3], std: [0.2] }]);
  const other = run('ac-blind', input(0), facts);
  const blind = openModel(other.path);
  assert.throws(() => writeTorchCheckpoint(file, blind), /told states of 0 numbers and actions of 2/);
  const stretched = run('ac-own', input(2, { scaling: { ...scaling, range: 'own' } }), facts);
  assert.throws(() => openModel(stretched.path), /scaled by their own range.*data\.scaling\.range=byte/);
});

test('encoders that none of the layouts has a place for are refused with the way out', () => {
  const refused = (name: string, input: object, reason: RegExp) => {
    const { path } = run(name, input);
    assert.throws(
      () => openModel(path),
      (error) => error instanceof JepaError && reason.test(error.message) && !error.message.includes('\n'),
    );
  };
  const conv = {
    name: 'lejepa',
    encoder: { kind: 'conv', widths: [4, 8, 8], blocks: [0, 0], width: 16 },
    projector: [16],
  };
  refused('conv', { ...images, method: conv }, /this is a conv net: export it as ONNX/);
  const sounds = {
    data: {
      kind: 'sound',
      source: 'procedural:tones',
      features: { frames: 16, mels: 16 },
      statistics: { mean: 0, std: 1 },
    },
    method: { name: 'audio-jepa', encoder: vit, predictor: { width: 16, depth: 1 } },
  };
  refused('sounds', sounds, /this is an encoder of recordings: export it as ONNX/);
  assert.throws(() => openModel(join(root, 'nothing')), /it does not exist/);
});

test('the licence of a published model goes along', () => {
  const [given, file] = [join(root, 'licensed'), join(root, 'licensed.pt')];
  writeModelFolder(given, loadEncoder(join(goldenFolder, 'hf-vjepa2', 'model')), { licence: 'to nobody' });
  writeTorchCheckpoint(file, openModel(given));
  assert.equal(loadEncoder(file).licence, 'to nobody');
  assert.equal(openEncoder(file).facts.licence, 'to nobody');
});
