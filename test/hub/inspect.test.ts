import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zipSync } from 'fflate';
import { JepaError } from '../../src/base/errors.js';
import { float32 } from '../../src/base/tensor.js';
import { writeEpisodes } from '../../src/hub/episodes-node.js';
import { type Inspection, inspectFile } from '../../src/hub/inspect.js';
import { embeddingsParquet } from '../../src/hub/parquet.js';
import { fixtures, formatCase, golden } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-inspect-'));
after(() => rmSync(folder, { recursive: true }));

async function inspect(path: string): Promise<Inspection> {
  const inspection = await inspectFile(path);
  assert.deepEqual(JSON.parse(JSON.stringify(inspection)), inspection, 'survives JSON');
  assert.equal(inspection.path, path);
  return inspection;
}

const tensorOf = ({ tensors }: Inspection, name: string) => tensors!.find((tensor) => tensor.name === name);

test('safetensors', async () => {
  const { expect } = formatCase('safetensors.all_dtypes');
  const found = await inspect(join(fixtures, 'safetensors/all_dtypes.safetensors'));
  assert.equal(found.kind, 'safetensors');
  assert.deepEqual(found.metadata, expect.metadata);
  for (const [name, { dtype, shape }] of Object.entries<{ dtype: string; shape: number[] }>(expect.tensors)) {
    assert.deepEqual(tensorOf(found, name), { name, dtype, shape });
  }
});

test('the number of parameters is that of the configuration', async () => {
  // 2 blocks of width 32 and MLP 64, patches of 7, 16 positions (specs/ijepa.md 1).
  const block = 2 * 64 + (96 * 32 + 96) + (32 * 32 + 32) + (64 * 32 + 64) + (32 * 64 + 32);
  const total = 16 * 32 + (32 * 147 + 32) + 2 * block + 64;
  assert.equal((await inspect(join(golden, 'hf-ijepa/model/model.safetensors'))).parameters, total);
});

test('PyTorch checkpoints, with the licence of the official ones', async () => {
  const found = await inspect(join(golden, 'hf-ijepa/pth/official-legacy.pth.tar'));
  assert.equal(found.kind, 'pytorch');
  assert.equal(found.details!.format, 'legacy');
  assert.deepEqual(found.metadata, {
    scaler: null,
    epoch: 3,
    loss: 0.34567891234,
    batch_size: 128,
    world_size: 16,
    lr: 0.001,
  });
  assert.match(found.warnings[0], /CC BY-NC/);
  assert.deepEqual(tensorOf(found, 'predictor/module.mask_token')?.shape, [1, 1, 8]);
  // Those of V-JEPA 2 are free, also where nothing but the layout shows what they are.
  const clips = await inspect(join(golden, 'hf-vjepa2/meta_ac.pt'));
  assert.match(clips.warnings[0], /released for V-JEPA 2 are licensed MIT and Apache 2\.0/);
  const zip = await inspect(join(fixtures, 'pytorch/zip.pth.tar'));
  assert.equal(zip.details!.format, 'zip');
  assert.deepEqual(zip.warnings, []);
});

test('NumPy files and archives', async () => {
  const array = await inspect(join(fixtures, 'npy/fortran.npy'));
  assert.deepEqual([array.kind, array.tensors], ['npy', [{ name: 'array', dtype: 'F32', shape: [2, 3, 4] }]]);
  const archive = await inspect(join(fixtures, 'npy/plain_zip.npz'));
  assert.equal(archive.kind, 'npz');
  assert.match(archive.warnings[0], /1 members are no arrays/);
  const text = await inspect(join(fixtures, 'npy/unicode.npy'));
  assert.deepEqual(text.tensors, [{ name: 'array', dtype: '<U5', shape: [2, 2] }]);
});

test('HDF5', async () => {
  const path = join(folder, 'episodes.h5');
  const action = float32([3, 2], new Float32Array(6));
  await writeEpisodes(path, { lengths: [3], offsets: [0], columns: new Map([['action', action]]) });
  const found = await inspect(path);
  assert.deepEqual([found.kind, found.metadata], ['hdf5', { producer: 'jepa' }]);
  assert.deepEqual(tensorOf(found, 'action'), { name: 'action', dtype: 'F32', shape: [3, 2] });
  assert.deepEqual(tensorOf(found, 'ep_len'), { name: 'ep_len', dtype: 'I32', shape: [1] });
  const noise = join(folder, 'noise.h5');
  writeFileSync(noise, 'noise');
  await assert.rejects(inspectFile(noise), { name: 'JepaError', message: /noise\.h5: not an HDF5 file/ });
});

test('Parquet, logs and events', async () => {
  const path = join(folder, 'embeddings.parquet');
  writeFileSync(
    path,
    Buffer.concat([...embeddingsParquet({ embeddings: float32([1, 2], [1, 2]), paths: ['a'] }, { model: 'x' })]),
  );
  const table = await inspect(path);
  assert.deepEqual([table.kind, table.metadata, table.details!.rows], ['parquet', { model: 'x' }, 1]);
  const log = await inspect(join(fixtures, 'table/cut_tail.jsonl'));
  assert.deepEqual([log.kind, log.details!.records], ['jsonl', 1]);
  assert.match(log.warnings[0], /last line is cut/);
  const events = await inspect(join(fixtures, 'tensorboard/torch/events.out.tfevents.1700000000.host.1.0'));
  assert.equal(events.kind, 'tensorboard');
  const tags = events.details!.tags as Record<string, object>;
  assert.deepEqual(tags['train/loss'], {
    kind: 'scalar',
    count: 3,
    firstStep: 0,
    lastStep: 20,
    last: Math.fround(1 / 3),
  });
  assert.deepEqual(tags['eval/acc'], { kind: 'scalar', count: 1, firstStep: 5, lastStep: 5, last: 'NaN' });
  assert.match((await inspect(join(fixtures, 'tensorboard/cut/events.out.tfevents.1.host.1.0'))).warnings[0], /is cut/);
});

test('tables, points and IDX arrays', async () => {
  const table = await inspect(join(fixtures, 'table/unix.csv'));
  assert.equal(table.kind, 'csv');
  const { rows, delimiter, columns } = table.details as { rows: number; delimiter: string; columns: object };
  // value has an empty field and a word in golden/formats (table.csv).
  assert.deepEqual([rows, delimiter], [6, ',']);
  assert.deepEqual(columns, { id: 'numbers', text: 'text', value: 'text', note: 'text' });
  const points = await inspect(join(fixtures, 'ply/big.ply'));
  assert.deepEqual(points.details!.elements, { vertex: 5, face: 3 });
  assert.deepEqual(tensorOf(points, 'vertex.nx'), { name: 'vertex.nx', dtype: 'F64', shape: [5] });
  assert.equal(tensorOf(points, 'face.vertex_indices[]')?.dtype, 'I32');
  const array = await inspect(join(fixtures, 'idx/type_i2.idx'));
  assert.deepEqual(array.tensors, [{ name: 'array', dtype: 'I16', shape: [2, 3] }]);
  // A file that is not what its name says is refused by the reader of that kind.
  const refused = { 'npy/bad/magic.npy': /not a readable .npy/, 'table/bad/magic.parquet': /not a Parquet file/ };
  for (const [path, message] of Object.entries(refused))
    await assert.rejects(inspectFile(join(fixtures, path)), { name: 'JepaError', message });
});

test('ONNX models', async () => {
  const found = await inspect(join(fixtures, 'onnx/patch_embed.onnx'));
  assert.equal(found.kind, 'onnx');
  const { inputs, outputs, operators } = found.details as {
    inputs: { name: string; dtype: string; shape: unknown[] }[];
    outputs: { name: string }[];
    operators: Record<string, number>;
  };
  assert.equal(inputs[0].name, 'pixel_values');
  assert.equal(inputs[0].dtype, 'F32');
  assert.equal(typeof inputs[0].shape[0], 'string');
  assert.equal(outputs[0].name, 'last_hidden_state');
  assert.equal(operators.Conv, 1);
  assert.ok(found.parameters! > 0);
  const external = await inspect(join(fixtures, 'onnx/external.onnx'));
  assert.deepEqual(external.details!.externalFiles, ['external.onnx_data']);
});

test('folders: every file that says something, an index instead of its shards', async () => {
  const model = await inspect(join(golden, 'hf-ijepa/sharded'));
  assert.deepEqual(
    model.files!.map(({ kind }) => kind),
    ['json', 'safetensors'],
  );
  assert.equal(model.files![1].details!.shards, 3);
  assert.equal(model.parameters, 20485);
  const mixed = join(folder, 'run');
  mkdirSync(join(mixed, 'inner'), { recursive: true });
  copyFileSync(join(golden, 'hf-ijepa/model/model.safetensors'), join(mixed, 'weights.safetensors'));
  copyFileSync(join(fixtures, 'safetensors/bad/hole.safetensors'), join(mixed, 'bad.safetensors'));
  writeFileSync(join(mixed, 'state.json'), '{"step": 3}');
  writeFileSync(join(mixed, 'notes.txt'), 'x');
  const found = await inspect(mixed);
  assert.deepEqual(
    found.files!.map(({ path }) => path),
    [join(mixed, 'state.json'), join(mixed, 'weights.safetensors')],
  );
  assert.deepEqual(found.files![0].details, { step: 3 });
  assert.equal(found.warnings.length, 1);
  assert.match(found.warnings[0], /bad\.safetensors: not a valid safetensors file: there is a gap/);
});

test('what is not known, missing or damaged is one clear line', async () => {
  const refused = (path: string, reason: RegExp) =>
    assert.rejects(
      inspectFile(path),
      (error: unknown) => error instanceof JepaError && reason.test(error.message) && !error.message.includes('\n'),
    );
  writeFileSync(join(folder, 'photo.jpg'), Uint8Array.of(0xff, 0xd8, 0xff));
  writeFileSync(join(folder, 'empty'), '');
  writeFileSync(join(folder, 'some.zip'), zipSync({ a: Uint8Array.of(1) }));
  mkdirSync(join(folder, 'nothing'));
  await refused(join(folder, 'photo.jpg'), /not a file that can be inspected; known are safetensors/);
  await refused(join(folder, 'empty'), /not a file that can be inspected/);
  await refused(join(folder, 'some.zip'), /neither of PyTorch .* nor of NumPy/);
  await refused(join(folder, 'absent'), /cannot open .*absent: it does not exist/);
  await refused(join(folder, 'nothing'), /nothing here that can be inspected/);
  for (const kind of ['safetensors', 'npy', 'onnx', 'pytorch', 'table']) {
    for (const name of readdirSync(join(fixtures, kind, 'bad'))) {
      if (/index_|\.bin$/.test(name)) continue;
      // Damage inside of data is not looked for; whatever happens, only clear lines come out.
      await inspectFile(join(fixtures, kind, 'bad', name)).catch((error: unknown) =>
        assert.ok(error instanceof JepaError, `${name}: ${error}`),
      );
    }
  }
});
