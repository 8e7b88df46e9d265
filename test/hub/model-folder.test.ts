import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { describeModel } from '../../src/hub/describe.js';
import { loadEncoder, readTorchCheckpoint, readTorchClassifier } from '../../src/hub/encoder-files.js';
import type { EncoderWeights, LoadedEncoder } from '../../src/hub/ijepa-names.js';
import { readModelFolder, writeModelFolder } from '../../src/hub/model-folder.js';
import { golden } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-model-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const area = join(golden, 'hf-vjepa2');
const read = () =>
  readTorchCheckpoint(join(area, 'meta_ac.pt'), { heads: 2, predictorHeads: 2, imageSize: 16, frames: 4 });

const sameWeights = (got: EncoderWeights | undefined, wanted: EncoderWeights | undefined): void => {
  assert.ok(got && wanted);
  assert.deepEqual([...got.keys()].sort(), [...wanted.keys()].sort());
  for (const [name, { shape, data }] of wanted) {
    assert.deepEqual(got.get(name)?.shape, shape, name);
    assert.deepEqual(got.get(name)?.data, data, name);
  }
};

test('what no class of Hugging Face holds comes back from a folder of our own', () => {
  const model: LoadedEncoder = { ...read(), labels: ['up', 'down'] };
  const attentive = readTorchClassifier(join(area, 'meta_probe.pt'), { heads: 2 });
  const to = join(folder, 'ac');
  const about = { licence: 'Ask first.', source: 'meta_ac.pt' };
  assert.deepEqual(writeModelFolder(to, { ...model, attentive }, about), { form: 'jepa', leftOut: [] });
  const back = loadEncoder(to);
  assert.equal(back.family, 'vjepa2-ac');
  assert.deepEqual(back.config, model.config);
  assert.deepEqual(back.actionPredictor?.config, model.actionPredictor?.config);
  assert.deepEqual(back.attentive?.config, attentive.config);
  assert.deepEqual(back.labels, ['up', 'down']);
  sameWeights(back.weights, model.weights);
  sameWeights(back.actionPredictor?.weights, model.actionPredictor?.weights);
  sameWeights(back.attentive?.weights, attentive.weights);
  assert.equal(describeModel(to, back).licence, 'Ask first.');
});

test('what Hugging Face holds is written as its class, licence and all', () => {
  const model = loadEncoder(join(area, 'classifier'));
  const to = join(folder, 'classifier');
  assert.deepEqual(writeModelFolder(to, model, { licence: 'Ask first.' }), { form: 'Hugging Face', leftOut: [] });
  const back = loadEncoder(to);
  assert.equal(
    JSON.parse(readFileSync(join(to, 'config.json'), 'utf8')).architectures[0],
    'VJEPA2ForVideoClassification',
  );
  sameWeights(back.weights, model.weights);
  assert.deepEqual(back.transforms, model.transforms);
  assert.equal(describeModel(to, back).licence, 'Ask first.');

  const image = loadEncoder(join(golden, 'hf-ijepa', 'model'));
  const images = join(folder, 'images');
  assert.equal(writeModelFolder(images, { ...image, transforms: undefined }).form, 'Hugging Face');
  const [resize, crop] = loadEncoder(images).transforms ?? [];
  assert.deepEqual(
    [resize.kind, crop.kind],
    ['resize', 'centerCrop'],
    'the published preparation where there was none',
  );
});

test('a model is described: sizes, what was not read, its licence', () => {
  const path = join(area, 'meta_ac.pt');
  const facts = describeModel(path, read());
  assert.equal(facts.family, 'vjepa2-ac');
  // 16 / 4 patches a side, 4 / 2 tubelets.
  assert.deepEqual([facts.tokens, facts.frames, facts.tubeletSize, facts.patchSize], [32, 4, 2, 4]);
  assert.match(facts.title, /width 24 and depth 1, patch 4, for clips of 4 frames of 16 x 16/);
  assert.deepEqual(facts.ignored, ['encoder', 'opt']);
  assert.match(facts.licence, /V-JEPA 2-AC are licensed MIT and Apache 2\.0/);
  assert.equal(facts.preparationFrom, 'publication');
  const zip = join(golden, 'hf-ijepa', 'pth', 'official-zip.pth.tar');
  const image = describeModel(zip, readTorchCheckpoint(zip, { heads: 2 }));
  assert.match(image.licence, /I-JEPA are licensed CC BY-NC 4\.0 \(non-commercial\)/);
  const hf = join(folder, 'images');
  writeFileSync(join(hf, 'README.md'), '---\ntags: [x]\nlicense: cc-by-nc-4.0\n---\n# Model\n');
  assert.match(describeModel(hf, loadEncoder(hf)).licence, /this model are licensed cc-by-nc-4\.0 \(non-commercial\)/);
});

test('damaged folders are refused', () => {
  const to = join(folder, 'bad');
  writeModelFolder(to, read());
  const path = join(to, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8'));
  const changed = (change: object) => {
    writeFileSync(path, JSON.stringify({ ...config, ...change }));
    return () => readModelFolder(to);
  };
  assert.throws(changed({ encoder: { ...config.encoder, width: 1e9 } }), /config\.json: encoder\.width: /);
  assert.throws(changed({ encoder: { ...config.encoder, depth: 2 } }), /missing: .*blocks\.1/);
  assert.throws(changed({ actionPredictor: undefined }), /unexpected: "actionPredictor/);
  assert.throws(changed({ family: 'other' }), /config\.json: family: /);
  assert.throws(changed({ encoder: { ...config.encoder, patchSize: 3 } }), /does not divide into patches/);
});
