import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadEncoder, readTorchCheckpoint, readTorchClassifier } from '../../src/hub/encoder-files.js';
import { readVjepa2Folder, writeVjepa2Folder } from '../../src/hub/hf-vjepa2.js';
import { type StoredTensor, storeTensor } from '../../src/hub/raw.js';
import { parseSafetensors } from '../../src/hub/safetensors.js';
import { readClassifierState, readVideoModel } from '../../src/hub/video-files.js';
import { readCases, readTensors } from '../harness/harness.js';
import { golden } from './cases.js';

// What models compute is tested by the golden area `hf-vjepa2`; here is what folders and files look like.

const area = join(golden, 'hf-vjepa2');
const folder = mkdtempSync(join(tmpdir(), 'jepa-vjepa2-'));
after(() => rmSync(folder, { recursive: true }));
const json = (...path: string[]) => JSON.parse(readFileSync(join(...path), 'utf8'));

for (const name of ['model', 'classifier']) {
  test(`the folder ${name} is written as the reference has it`, () => {
    const to = join(folder, name);
    writeVjepa2Folder(to, readVjepa2Folder(join(area, name)));
    const wanted = json(area, name, 'config.json');
    // A model without classifier has no use for the labels that the reference keeps.
    if (name === 'model') for (const key of ['id2label', 'label2id', 'num_pooler_layers']) delete wanted[key];
    const { num_pooler_layers, ...got } = json(to, 'config.json');
    assert.deepEqual(name === 'model' ? got : { ...got, num_pooler_layers }, wanted);
    const [a, b] = [to, join(area, name)].map((path) =>
      parseSafetensors(readFileSync(join(path, 'model.safetensors'))),
    );
    assert.deepEqual([...a.keys()].sort(), [...b.keys()].sort());
    for (const [key, tensor] of b) assert.deepEqual(a.get(key), tensor, key);
    const { return_metadata: _, ...steps } = json(area, name, 'video_preprocessor_config.json');
    assert.deepEqual(json(to, 'video_preprocessor_config.json'), steps);
    const { labels, ...read } = readVjepa2Folder(join(area, name));
    assert.deepEqual(loadEncoder(to), { ...read, labels: name === 'model' ? undefined : labels });
  });
}

test('half precision, shards, and what the classes cannot hold', () => {
  const model = readVjepa2Folder(join(area, 'classifier'));
  const to = join(folder, 'half');
  writeVjepa2Folder(to, model, { dtype: 'F16', maxShardBytes: 50_000 });
  assert.equal(json(to, 'config.json').dtype, 'float16');
  const [weight, half] = [model, readVjepa2Folder(to)].map(({ weights }) => weights.get('blocks.0.attn.qkv.weight')!);
  weight.data.forEach((value, i) => {
    assert.ok(Math.abs(half.data[i] - value) <= Math.abs(value) * 2 ** -11 + 2 ** -25);
  });
  const write = (change: Partial<typeof model>) => () => writeVjepa2Folder(join(folder, 'x'), { ...model, ...change });
  assert.throws(write({ predictor: undefined }), /cannot hold this model: it has no predictor with mask tokens/);
  assert.throws(write({ config: { ...model.config, positions: 'uniform' } }), /positions are not those of V-JEPA 2/);
  const meta = readTorchClassifier(join(area, 'meta_probe.pt'), { heads: model.config.heads });
  // The official probe computes with another epsilon: what would be loaded is another function.
  assert.throws(write({ attentive: meta }), /its pooler has other heads, another epsilon/);
  assert.deepEqual([...meta.weights].sort(), [...model.attentive!.weights].sort());
});

test('an MLP is as wide as its weights, whatever the rounded ratio says', () => {
  const to = join(folder, 'ratio');
  writeVjepa2Folder(to, readVjepa2Folder(join(area, 'model')));
  const config = json(to, 'config.json');
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, mlp_ratio: 1.999 }));
  assert.equal(readVjepa2Folder(to).config.mlpWidth, config.hidden_size * config.mlp_ratio);
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, model_type: 'vjepa3' }));
  assert.throws(() => readVjepa2Folder(to), /"model_type" is "vjepa3" instead of "vjepa2"/);
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, num_hidden_layers: 3 }));
  assert.throws(() => readVjepa2Folder(to), /16 missing: "encoder\.layer\.2\./);
});

test('a checkpoint says what it is; what it does not show must be given', () => {
  const options = { heads: 2, predictorHeads: 2, imageSize: 16, frames: 4 };
  const path = join(area, 'meta_vjepa2.pt');
  const { config, weights, facts, family } = readTorchCheckpoint(path, options);
  assert.equal(family, 'vjepa2');
  assert.deepEqual([config.imageSize, config.frames, config.depth, config.mlpWidth], [[16, 16], 4, 2, 64]);
  assert.ok(facts && 'epoch' in facts);
  assert.ok(!readTorchCheckpoint(path, { ...options, entry: 'encoder' }).weights.has('pos_embed'));
  assert.ok(!weights.has('pos_embed'));
  assert.throws(
    () => readTorchCheckpoint(path),
    /weights of width 32 do not tell the number of attention heads; say it \(--heads\)/,
  );
  assert.throws(() => readTorchCheckpoint(path, { heads: 5 }), /width 32 cannot have 5 attention heads \(--heads\)/);
  assert.throws(
    () => readTorchCheckpoint(path, { heads: 2, predictorHeads: 7, imageSize: 16, frames: 4 }),
    /predictor: weights of width 24 cannot have 7 attention heads \(--predictor-heads\)/,
  );
  assert.throws(
    () => readTorchCheckpoint(join(area, 'meta_probe.pt')),
    /meta_probe\.pt: an attentive classifier without its encoder; .* --classifier$/,
  );
  assert.throws(() => readTorchClassifier(path), /there is no "classifier"; it holds "encoder", "predictor"/);
});

/** State dicts under Meta's names: the weight sets of another golden area. */
function states(name: 'vjepa' | 'vjepa2', file: string, set: string) {
  const tensors = readTensors(join(golden, name), file);
  return new Map(
    [...tensors].flatMap(([key, tensor]): [string, StoredTensor][] =>
      key.startsWith(set) ? [[key.slice(set.length), storeTensor(tensor)]] : [],
    ),
  );
}

// biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
const caseOf = (name: 'vjepa' | 'vjepa2', wanted: string): any =>
  readCases<{ cases: { name: string }[] }>(join(golden, name)).cases.find((each) => each.name === wanted);

test('V-JEPA and V-JEPA 2 are told by the position table of the predictor', () => {
  for (const [name, family, table] of [
    ['vjepa', 'vjepa', true],
    ['vjepa2', 'vjepa2', false],
  ] as const) {
    const { encoder, predictor } = caseOf(name, 'train_steps').config;
    const read = readVideoModel(
      states(name, 'train.safetensors', 'w_train/encoder.'),
      states(name, 'train.safetensors', 'w_train/predictor.'),
      name,
      {
        heads: encoder.num_heads,
        predictorHeads: predictor.num_heads,
        frames: encoder.num_frames,
        ...(family === 'vjepa2' && { imageSize: encoder.img_size }),
      },
    );
    assert.equal(read.family, family);
    assert.deepEqual(read.config.imageSize, [encoder.img_size, encoder.img_size].flat().slice(-2));
    assert.equal(read.weights.has('pos_embed'), table);
    assert.deepEqual(
      [read.predictor!.config.maskTokens, read.predictor!.config.depth, read.predictor!.config.width],
      [predictor.num_mask_tokens, predictor.depth, predictor.predictor_embed_dim],
    );
  }
});

test('classifiers of V-JEPA keep a projection and have their blocks behind, those of V-JEPA 2 before', () => {
  for (const [name, blocks] of [
    ['vjepa', 'after'],
    ['vjepa2', 'before'],
  ] as const) {
    const state = states(name, 'probe.safetensors', 'w_classifier/classifier.');
    const { config, weights } = readClassifierState(state, name, { heads: 2 });
    assert.equal(config.pooler.blocks, blocks);
    assert.equal(weights.size, state.size);
    assert.deepEqual(config.heads, { linear: state.get('linear.weight')!.shape[0] });
  }
});
