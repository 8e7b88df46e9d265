import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { float32 } from '../../src/base/tensor.js';
import {
  checkModelFolder,
  checkOnnxOutput,
  checkOutputs,
  checkPlanFolder,
  checkRunFolder,
} from '../../src/cli/outputs.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { writeEpisodes } from '../../src/hub/episodes-node.js';
import { encodeNpz } from '../../src/hub/npy.js';
import { embeddingsParquet } from '../../src/hub/parquet.js';
import { writeSafetensors, writeWeights } from '../../src/hub/weights.js';
import { embeddingFiles, FINGERPRINT, isOwnEmbedding } from '../../src/train/embed.js';

const root = mkdtempSync(join(tmpdir(), 'jepa-outputs-'));
after(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
/** A new folder with these files. */
function folderOf(files: Readonly<Record<string, string | Uint8Array>> = {}): string {
  const folder = join(root, String(folders++));
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

const refusal = (file: string) => ({
  name: 'UsageError',
  message: new RegExp(`${file.replace('.', '\\.')} is there already, and this command did not write it`),
});
const rows = float32([2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
const episodes = { lengths: [2], offsets: [0], columns: new Map([['action', rows]]) };

test('episodes replace earlier ones, and no other archive of the same form', async () => {
  const columns = new Map([['action', rows]]);
  for (const ending of ['npz', 'h5']) {
    const path = join(folderOf(), `own.${ending}`);
    await checkOutputs([path]);
    await writeEpisodes(path, episodes);
    await checkOutputs([path]);
    // Broken off and anything else that has the ending: not ours.
    writeFileSync(path, readFileSync(path).subarray(0, 100));
    await assert.rejects(checkOutputs([path]), refusal(`own.${ending}`));
  }
  const folder = folderOf({ 'other.npz': encodeNpz(columns) });
  await assert.rejects(checkOutputs([join(folder, 'other.npz')]), refusal('other.npz'));
});

test('embeddings replace earlier ones, and nothing else beside them either', async () => {
  const table = { embeddings: rows, paths: ['a', 'b'] };
  const companion = JSON.stringify({ metadata: { [FINGERPRINT]: '1' }, paths: ['a', 'b'] });
  const folder = folderOf({
    'own.npy': 'array',
    'own.npy.json': companion,
    'own.parquet': Buffer.concat([...embeddingsParquet(table, { [FINGERPRINT]: '1' })]),
    'other.parquet': Buffer.concat([...embeddingsParquet(table)]),
    'bare.npy': 'array',
    'taken.npy.json': '{}',
    'mine.json': '{}',
  });
  const check = (name: string) => checkOutputs(embeddingFiles(join(folder, name)), isOwnEmbedding);
  for (const name of ['own.npy', 'own.parquet', 'new.npy', 'new.parquet', 'mine.npy']) await check(name);
  await assert.rejects(check('other.parquet'), refusal('other.parquet'));
  await assert.rejects(check('bare.npy'), refusal('bare.npy'));
  await assert.rejects(check('taken.npy'), refusal('taken.npy.json'));
});

test('exported models replace earlier ones, and no weights from elsewhere', async () => {
  const { model } = encodeModel({ nodes: [], inputs: [], outputs: [], constants: [] });
  const folder = folderOf({ 'own.onnx': Buffer.concat([...model]), 'other.onnx': 'model', 'big.onnx_data': 'weights' });
  for (const name of ['own.onnx', 'new.onnx']) await checkOnnxOutput(join(folder, name));
  await assert.rejects(checkOnnxOutput(join(folder, 'other.onnx')), refusal('other.onnx'));
  await assert.rejects(checkOnnxOutput(join(folder, 'big.onnx')), refusal('big.onnx_data'));

  const own = folderOf({ 'index.html': '' });
  await checkModelFolder(join(own, 'new'));
  await checkModelFolder(own);
  writeWeights(own, new Map([['weight', rows]]));
  writeFileSync(join(own, 'config.json'), '{}');
  await checkModelFolder(own);
  writeSafetensors(join(own, 'model-00001-of-00002.safetensors'), new Map([['weight', rows]]), { format: 'pt' });
  await assert.rejects(checkModelFolder(own), refusal('model-00001-of-00002.safetensors'));
  await assert.rejects(checkModelFolder(folderOf({ 'config.json': '{}' })), refusal('config.json'));
  await assert.rejects(checkModelFolder(join(folder, 'own.onnx')), {
    name: 'UsageError',
    message: /own\.onnx is a file/,
  });
});

test('a folder that is missing or no folder, and a folder where a file should be, are told before any work', async () => {
  const folder = folderOf({ file: '' });
  mkdirSync(join(folder, 'inner.npz'));
  await assert.rejects(checkOutputs([join(folder, 'no', 'a.npz')]), {
    name: 'UsageError',
    message: /there is no folder/,
  });
  await assert.rejects(checkOutputs([join(folder, 'file', 'a.npz')]), { message: /there is no folder/ });
  await assert.rejects(checkOutputs([join(folder, 'inner.npz')]), { message: /inner\.npz is a folder; name a file/ });
});

test('a run replaces what a run left, and no settings of a person', () => {
  const config = 'train:\n  steps: 5\n';
  const harmless: Record<string, string>[] = [{}, { 'notes.txt': '', photos: '' }, { 'config.yaml': config }];
  for (const files of harmless) checkRunFolder(folderOf(files), config);
  checkRunFolder(join(root, 'new'), config);
  checkRunFolder(folderOf({ 'config.yaml': '', 'metrics.jsonl': '', 'events.out.tfevents.1.host.1.0': '' }), config);
  for (const name of ['config.yaml', 'result.json', 'report.html', 'encoder.onnx', 'metrics.jsonl'])
    assert.throws(() => checkRunFolder(folderOf({ [name]: 'mine' }), config), {
      name: 'UsageError',
      message: new RegExp(`is no run of this program, and its ${name} would be written over`),
    });
  assert.throws(() => checkRunFolder(join(folderOf({ file: '' }), 'file'), config), JepaError);
});

test('a plan replaces an earlier one, and no other results or reports', () => {
  type Files = Readonly<Record<string, string>>;
  const earlier: Files = { 'result.json': '{ "planner": "cem", "floors": {} }', 'report.html': '' };
  const harmless: readonly Files[] = [{}, earlier, { 'notes.txt': 'mine' }];
  const foreign: readonly Files[] = [
    { 'report.html': 'mine' },
    { 'result.json': '{ "probe": {} }' },
    { 'result.json': 'null' },
  ];
  for (const files of harmless) checkPlanFolder(folderOf(files));
  for (const files of foreign)
    assert.throws(() => checkPlanFolder(folderOf(files)), /holds no earlier plan, and its (report\.html|result\.json)/);
});
