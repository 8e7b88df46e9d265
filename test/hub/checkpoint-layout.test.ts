import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkpointOf, writeTorchCheckpoint, writeTorchFile } from '../../src/hub/checkpoint-layout.js';
import { type CheckpointOptions, loadEncoder, readTorchClassifier } from '../../src/hub/encoder-files.js';
import { withFile } from '../../src/hub/files.js';
import type { EncoderWeights, LoadedEncoder } from '../../src/hub/ijepa-names.js';
import { writeModelFolder } from '../../src/hub/model-folder.js';
import { isOwnFile } from '../../src/hub/own-node.js';
import { openTorchFile, type TorchValue } from '../../src/hub/pth.js';
import type { StoredTensor } from '../../src/hub/raw.js';
import { openSafetensors } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { assertRefused, golden } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-checkpoints-'));
after(() => rmSync(folder, { recursive: true }));
const hf = (name: string) => join(golden, name);

const hex = (tensor: StoredTensor) => [tensor.dtype, [...tensor.shape], Buffer.from(tensor.read()).toString('hex')];
/** Tensors of a PyTorch file that begin with `prefix`, without it. */
function tensorsIn(path: string, prefix: string): Map<string, unknown> {
  return withFile(path, (source) => {
    const found = [...openTorchFile(source).tensors].filter(([name]) => name.startsWith(prefix));
    assert.ok(found.length > 0, prefix);
    return new Map(found.map(([name, tensor]) => [name.slice(prefix.length), hex(tensor)]));
  });
}
const topLevel = (path: string): Map<TorchValue, TorchValue> =>
  withFile(path, (source) => openTorchFile(source).root as Map<TorchValue, TorchValue>);
const numbers = (weights: EncoderWeights) =>
  new Map(Array.from(weights, ([name, { shape, data }]) => [name, [[...shape], [...data]]]));
const sorted = <T>(map: Map<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
const filesOf = (path: string) =>
  readdirSync(path)
    .sort()
    .map((name) => [name, readFileSync(join(path, name)).toString('latin1')]);

const FOLDERS = [
  'hf-ijepa/model',
  'hf-ijepa/classifier',
  'hf-ijepa/sharded',
  'hf-ijepa/pooler',
  'hf-ijepa/bfloat16',
  'hf-vjepa2/model',
  'hf-vjepa2/classifier',
];

for (const name of FOLDERS) {
  test(`a Hugging Face folder, its checkpoint, and a folder again: ${name}`, async () => {
    const slug = name.replace('/', '-');
    const path = join(folder, `${slug}.pth.tar`);
    const model = loadEncoder(hf(name));
    writeTorchCheckpoint(path, model);
    assert.ok(await isOwnFile(path));
    const back = loadEncoder(path);
    // The same files, configuration and preparation included, as without the way round.
    const about = { licence: 'none' };
    writeModelFolder(join(folder, `${slug}-direct`), model, about);
    writeModelFolder(join(folder, `${slug}-round`), back, about);
    assert.deepEqual(filesOf(join(folder, `${slug}-round`)), filesOf(join(folder, `${slug}-direct`)));
  });
}

test('tensors of the folder that came round are those of the folder that was given', () => {
  for (const name of ['hf-ijepa/model', 'hf-ijepa/classifier', 'hf-vjepa2/model', 'hf-vjepa2/classifier']) {
    const [given, round] = [hf(name), join(folder, `${name.replace('/', '-')}-round`)].map((path) => {
      const { tensors } = openSafetensors(bytesSource(readFileSync(join(path, 'model.safetensors'))));
      return sorted(new Map(Array.from(tensors, ([key, tensor]) => [key, hex(tensor)])));
    });
    assert.deepEqual(round, given, name);
  }
});

test("names and numbers are those of Meta's files: I-JEPA", () => {
  const path = join(folder, 'hf-ijepa-model.pth.tar');
  const { tensors } = openSafetensors(
    bytesSource(readFileSync(join(golden, 'hf-ijepa', 'pth', 'official-expected.safetensors'))),
  );
  const expected = new Map(
    Array.from(tensors)
      .filter(([name]) => name.startsWith('encoder/'))
      .map(([name, tensor]) => [name.slice('encoder/'.length), hex(tensor)]),
  );
  assert.ok(expected.has('module.blocks.0.attn.qkv.weight'));
  // One encoder: it stands under both names, and is there once.
  for (const entry of ['encoder/', 'target_encoder/'])
    assert.deepEqual(sorted(tensorsIn(path, entry)), sorted(expected), entry);
  assert.ok(statSync(path).size < 2 * statSync(join(hf('hf-ijepa/model'), 'model.safetensors')).size);
  assert.equal(topLevel(path).get('epoch'), 0);
  assert.ok(!topLevel(path).has('predictor'));
});

test("names and numbers are those of Meta's files: V-JEPA 2 and its classifier", () => {
  const path = join(folder, 'hf-vjepa2-classifier.pth.tar');
  const meta = join(golden, 'hf-vjepa2', 'meta_vjepa2.pt');
  const encoder = tensorsIn(meta, 'encoder/');
  assert.ok(encoder.delete('module.backbone.pos_embed')); // which nothing uses
  assert.deepEqual(sorted(tensorsIn(path, 'encoder/')), sorted(encoder));
  assert.deepEqual(sorted(tensorsIn(path, 'predictor/')), sorted(tensorsIn(meta, 'predictor/')));
  const probe = tensorsIn(join(golden, 'hf-vjepa2', 'meta_probe.pt'), 'classifiers/0/');
  assert.deepEqual(sorted(tensorsIn(path, 'classifiers/0/')), sorted(probe));
  // As the file of a classifier that goes with other encoders, too.
  const { attentive } = loadEncoder(hf('hf-vjepa2/classifier'));
  assert.deepEqual(numbers(readTorchClassifier(path, { heads: 2 }).weights), numbers(attentive!.weights));
});

const SIZES: CheckpointOptions = { heads: 2, predictorHeads: 2, imageSize: 16, frames: 4 };

for (const [file, options] of [
  ['hf-vjepa2/meta_vjepa2.pt', SIZES],
  ['hf-vjepa2/meta_ac.pt', SIZES],
  ['hf-ijepa/pth/official-zip.pth.tar', { heads: 4 }],
] as const) {
  test(`a checkpoint of Meta's keeps both encoders, the predictor and its scalars: ${file}`, () => {
    const given = join(golden, file);
    const path = join(folder, file.split('/').at(-1) as string);
    writeTorchCheckpoint(path, loadEncoder(given, options));
    const [before, now] = [topLevel(given), topLevel(path)];
    for (const key of ['epoch', 'loss', 'lr', 'batch_size', 'world_size']) assert.equal(now.get(key), before.get(key));
    for (const entry of ['encoder/', 'predictor/', 'target_encoder/']) {
      const expected = tensorsIn(given, entry);
      expected.delete('module.backbone.pos_embed');
      assert.deepEqual(sorted(tensorsIn(path, entry)), sorted(expected), entry);
    }
    assert.ok(!now.has('opt'));
    // No options: it says itself what it is.
    const { ignored: _, ...wanted } = loadEncoder(given, options);
    const read = loadEncoder(path);
    for (const key of ['config', 'family', 'facts'] as const)
      assert.deepEqual(plain(read[key]), plain(key === 'facts' ? numbersOf(wanted.facts) : wanted[key]), key);
    for (const part of ['predictor', 'actionPredictor'] as const)
      assert.deepEqual(plain(read[part]?.config), plain(wanted[part]?.config), part);
    // The other encoder by its name, as in every checkpoint.
    const learned = loadEncoder(path, { entry: 'encoder' });
    assert.deepEqual(numbers(learned.weights), numbers(loadEncoder(given, { ...options, entry: 'encoder' }).weights));
    assert.deepEqual(numbers(read.weights), numbers(wanted.weights));
  });
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null));
const numbersOf = (facts: LoadedEncoder['facts'] = {}) =>
  Object.fromEntries(Object.entries(facts).filter(([, value]) => typeof value === 'number'));

test("without the description it is read as any other of Meta's checkpoints", () => {
  const path = join(folder, 'bare.pth.tar');
  const model = loadEncoder(hf('hf-vjepa2/model'));
  const root = checkpointOf(path, model);
  assert.ok(root.delete('jepa'));
  writeTorchFile(path, root);
  const { config, predictor } = model;
  const read = loadEncoder(path, {
    heads: config.heads,
    predictorHeads: predictor!.config.heads,
    imageSize: config.imageSize[0],
    frames: config.frames,
  });
  assert.equal(read.family, 'vjepa2');
  assert.deepEqual(numbers(read.weights), numbers(model.weights));
  assert.deepEqual(numbers(read.predictor!.weights), numbers(predictor!.weights));
  assert.throws(() => loadEncoder(path), /do not tell the number of attention heads/);
});

test('half precision: the bits of the folder that holds them', () => {
  const path = join(folder, 'half.pth');
  writeTorchCheckpoint(path, loadEncoder(hf('hf-ijepa/bfloat16')), { dtype: 'BF16' });
  const { tensors } = openSafetensors(bytesSource(readFileSync(join(hf('hf-ijepa/bfloat16'), 'model.safetensors'))));
  const stored = tensorsIn(path, 'encoder/module.');
  for (const [official, name] of [
    ['pos_embed', 'embeddings.position_embeddings'],
    ['blocks.0.attn.proj.weight', 'encoder.layer.0.attention.output.dense.weight'],
    ['norm.bias', 'layernorm.bias'],
  ])
    assert.deepEqual(stored.get(official), hex(tensors.get(name)!), official);
  assert.deepEqual(numbers(loadEncoder(path).weights), numbers(loadEncoder(hf('hf-ijepa/bfloat16')).weights));
});

test("what has no place in Meta's layouts is refused, and nothing is written", () => {
  const path = join(folder, 'refused.pth');
  const images = loadEncoder(hf('hf-ijepa/model'));
  const clips = loadEncoder(hf('hf-vjepa2/model'));
  const told = loadEncoder(join(golden, 'hf-vjepa2', 'meta_ac.pt'), SIZES);
  const refused = (model: LoadedEncoder, reason: RegExp) =>
    assertRefused(String(reason), () => writeTorchCheckpoint(path, model), reason);
  refused({ ...images, config: { ...images.config, positions: { frequencies: 'tiled' } } }, /no place .* are rotary/);
  refused({ ...clips, family: 'ijepa', config: { ...clips.config, positions: 'uniform' } }, /I-JEPA sees images/);
  refused({ ...images, family: 'vjepa' }, /V-JEPA sees clips/);
  refused({ ...clips, family: 'vjepa' }, /its positions are rotary/);
  const silent = { ...told.actionPredictor!, config: { ...told.actionPredictor!.config, stateWidth: 0 } };
  refused({ ...told, actionPredictor: silent }, /states of 0 numbers and actions of 7/);
  const lacking = new Map([...images.weights].slice(1));
  refused({ ...images, weights: lacking }, /refused\.pth: encoder: .* 1 missing: "pos_embed"/);
  assert.ok(!readdirSync(folder).some((name) => name.includes('refused')));
});

test('a description that does not fit is refused with one line', async () => {
  const path = join(folder, 'damaged.pth');
  const root = checkpointOf(path, loadEncoder(hf('hf-ijepa/model')));
  const description = root.get('jepa') as Map<TorchValue, TorchValue>;
  const damaged = (change: Record<string, TorchValue>, reason: RegExp) => {
    writeTorchFile(path, new Map([...root, ['jepa', new Map([...description, ...Object.entries(change)])]]));
    assertRefused(String(reason), () => loadEncoder(path), reason);
  };
  damaged({ family: 'other' }, /damaged\.pth: jepa: family: /);
  damaged({ encoder: new Map() }, /damaged\.pth: jepa: encoder\./);
  damaged({ resizing: 3 }, /damaged\.pth: jepa: resizing: /);
  damaged({ code: 'x' }, /damaged\.pth: jepa: .*code/);
  const config = description.get('encoder') as Map<TorchValue, TorchValue>;
  damaged({ encoder: new Map([...config, ['depth', 900]]) }, /damaged\.pth: .*missing: "encoder\.blocks\./);
  // What is called so without being a description is none.
  writeTorchFile(path, new Map([...root, ['jepa', new Map([['weights', 3]])]]));
  assert.equal(loadEncoder(path, { heads: 4 }).config.heads, 4);
  assert.ok(!(await isOwnFile(path)));
  writeFileSync(path, 'text');
  assert.ok(!(await isOwnFile(path)));
});
