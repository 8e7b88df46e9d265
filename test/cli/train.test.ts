import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import * as ort from 'onnxruntime-node';
import { withFile } from '../../src/hub/files.js';
import { readJsonl } from '../../src/hub/jsonl.js';
import { openNpy } from '../../src/hub/npy.js';
import { openOnnx } from '../../src/hub/onnx.js';
import { loadFloat32, type StoredTensor } from '../../src/hub/raw.js';
import { readCheckpointMeta } from '../../src/train/checkpoint.js';
import { folder, jepa, start, writeConfig, writeImages } from './command.js';

/** What the first run came to. */
let first: Record<string, unknown>;

const json = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'));

before(async () => {
  await writeImages();
  writeConfig('tiny.yaml');
});

test('train writes everything; the run cannot be overwritten, but gone on with and inspected', async () => {
  const { code, stdout, stderr } = await jepa('train', 'tiny.yaml', '--out', 'runs/a', '--json');
  assert.equal(code, 0, stderr);
  const result = JSON.parse(stdout);
  first = result;
  assert.deepEqual({ ...json('runs/a/result.json'), folder: 'runs/a' }, result);
  assert.equal(result.steps, 5);
  assert.ok(result.seconds > 0 && result.seconds < 600);
  for (const group of ['probe', 'raw', 'random']) {
    for (const kind of ['linear', 'knn'])
      assert.ok(result[group][kind] >= 0 && result[group][kind] <= 100, `${group}.${kind}`);
  }
  // Bright and dark images differ in every pixel.
  assert.equal(result.raw.linear, 100);
  const names = readdirSync(join(folder, 'runs/a'));
  for (const name of ['checkpoint', 'config.yaml', 'metrics.jsonl', 'report.html', 'result.json', 'encoder.onnx']) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  assert.ok(names.some((name) => name.startsWith('events.out.tfevents.')));
  const { records } = readJsonl(join(folder, 'runs/a/metrics.jsonl'));
  assert.deepEqual(
    records.flatMap(({ step, loss }) => (loss === undefined ? [] : [step])),
    [1, 2, 3, 4, 5],
  );
  assert.match(stderr, /LeJEPA on data: 5\d images, \d held out; writing runs\/a/);
  assert.match(stderr, /step 5\/5 {2}100 % {2}loss .* images\/s {2}rank .* energy [\d.]+\/[\d.]+/);

  const again = await jepa('train', 'tiny.yaml', '--out', 'runs/a');
  assert.equal(again.code, 2);
  assert.match(again.stderr, /runs\/a holds a run already; add --resume/);
  const bare = await jepa('train', 'runs/a');
  assert.equal(bare.code, 2);
  assert.match(bare.stderr, /runs\/a is a run; add --resume/);
  const other = await jepa('train', 'runs/a', '--resume', 'optimizer.lr=0.01');
  assert.equal(other.code, 2);
  assert.match(other.stderr, /was started with optimizer\.lr=0\.001 and would go on with 0\.01/);

  const resumed = await jepa('train', 'runs/a', '--resume', '--no-probe', '--json');
  assert.equal(resumed.code, 0, resumed.stderr);
  const { steps, verdict, rankme } = JSON.parse(resumed.stdout);
  assert.deepEqual([steps, verdict, rankme], [5, result.verdict, result.rankme]);

  const inspected = await jepa('inspect', 'runs/a', '--json');
  assert.equal(inspected.code, 0, inspected.stderr);
  const run = JSON.parse(inspected.stdout);
  assert.deepEqual([run.kind, run.method, run.step, run.totalSteps, run.workers], ['run', 'lejepa', 5, 5, 2]);
  const shown = await jepa('inspect', 'runs/a');
  assert.match(shown.stdout, /a run of LeJEPA on data\n/);
});

test('a report has pictures of the run and asks for nothing from a network', () => {
  const page = readFileSync(join(folder, 'runs/a/report.html'), 'utf8');
  for (const id of ['probes', 'map', 'neighbours', 'features', 'training', 'views', 'time', 'next', 'configuration']) {
    assert.ok(page.includes(`id="${id}"`), id);
  }
  assert.doesNotMatch(page, /(src|href)="https?:/);
});

test('Ctrl-C saves the step and ends with 130; the run goes on from there', async () => {
  const run = start(['train', 'tiny.yaml', 'train.steps=100000', '--out', 'runs/long']);
  await run.until(/step \d/);
  run.child.kill('SIGINT');
  const { code, stderr } = await run.outcome;
  assert.equal(code, 130, stderr);
  assert.match(
    stderr,
    /interrupted at step [\d,]+, which is saved in runs\/long\/checkpoint\ngo on with: jepa train runs\/long --resume\n$/,
  );
  const { step, totalSteps } = readCheckpointMeta(join(folder, 'runs/long/checkpoint'));
  assert.ok(step >= 1);
  assert.equal(totalSteps, 100000);
  assert.equal(existsSync(join(folder, 'runs/long/result.json')), false);

  const more = start(['train', 'runs/long', '--resume']);
  await more.until(new RegExp(`going on after step ${step.toLocaleString('en-US')}`));
  await more.until(/step [\d,]+\/100,000/);
  more.child.kill('SIGINT');
  assert.equal((await more.outcome).code, 130);
  const later = readCheckpointMeta(join(folder, 'runs/long/checkpoint')).step;
  assert.ok(later > step, `${later} after ${step}`);
  const { records } = readJsonl(join(folder, 'runs/long/metrics.jsonl'));
  const steps = records.flatMap(({ step, loss }) => (loss === undefined ? [] : [Number(step)]));
  assert.deepEqual(
    steps,
    Array.from({ length: later }, (_, i) => i + 1),
  );
});

test('Ctrl-C twice leaves at once', async () => {
  const run = start(['train', 'tiny.yaml', 'train.steps=100000', '--out', 'runs/twice']);
  await run.until(/step \d/);
  run.child.kill('SIGINT');
  run.child.kill('SIGINT');
  assert.equal((await run.outcome).code, 130);
});

const SMALL = [
  'data.source=data',
  'data.size=16',
  'data.views=[[{kind: resize, size: 16}, {kind: affine, rotate: 10}]]',
  'method.encoder={kind: conv, widths: [4, 8, 8], blocks: [0, 0], width: 16}',
  'method.projector=[16]',
  'train.batchSize=16',
  'train.workers=2',
];

test('quickstart goes on with an interrupted run and replaces a finished one', async () => {
  const args = ['quickstart', ...SMALL, '--seed', '3', '--out', 'runs/quick'];
  const run = start([...args, 'train.steps=100000']);
  await run.until(/step 1\//);
  run.child.kill('SIGINT');
  const interrupted = await run.outcome;
  assert.equal(interrupted.code, 130, interrupted.stderr);
  assert.match(interrupted.stderr, /go on with: jepa quickstart --out runs\/quick\n$/);
  const other = await jepa(...args, 'train.steps=4');
  assert.equal(other.code, 2);
  assert.match(other.stderr, /going on with it .*\n.*was started with train\.\w+=/s);
  const resumed = start([...args, 'train.steps=100000']);
  await resumed.until(/going on after step [\d,]+; .*\nstep [\d,]+\/100,000 /);
  resumed.child.kill('SIGKILL');
  await resumed.outcome;

  rmSync(join(folder, 'runs/quick'), { recursive: true });
  const first = await jepa(...args, 'train.steps=4');
  assert.equal(first.code, 0, first.stderr);
  assert.match(
    first.stdout,
    /held-out images, % correct +linear +20-NN\nthis encoder, frozen +[\d.]+ +[\d.]+\nraw pixels +100\.0 +/,
  );
  assert.match(first.stdout, /What to do next\n {2}jepa embed runs\/quick photos/);
  const result = json('runs/quick/result.json');
  for (const key of ['probe', 'raw', 'random']) assert.deepEqual(Object.keys(result[key]), ['linear', 'knn']);
  assert.equal(result.steps, 4);
  const second = start([...args, 'train.steps=3']);
  await second.until(/step 1\/3/);
  second.child.kill('SIGKILL');
  await second.outcome;
  assert.doesNotMatch((await second.outcome).stderr, /going on/);
  assert.equal(existsSync(join(folder, 'runs/quick/result.json')), false);

  writeFileSync(join(folder, 'runs', 'note.txt'), 'mine');
  const foreign = await jepa('quickstart', ...SMALL, 'train.steps=3', '--out', 'runs');
  assert.equal(foreign.code, 2);
  assert.match(foreign.stderr, /runs is no run of this program/);
});

test('damaged images are named, and do not keep a run from its report', async () => {
  cpSync(join(folder, 'data'), join(folder, 'flawed'), { recursive: true });
  for (const name of ['0', '1', '10']) writeFileSync(join(folder, 'flawed', 'bright', `${name}.png`), 'no image');
  const settings = ['data.source=flawed', 'train.steps=4'];
  const { code, stderr } = await jepa('train', 'tiny.yaml', ...settings, '--out', 'runs/flawed');
  assert.equal(code, 0, stderr);
  assert.match(stderr, /skipped flawed\/bright\/10?\.png: not an image that can be read/);
  assert.match(readFileSync(join(folder, 'runs/flawed/report.html'), 'utf8'), /id="views"/);
});

test('the same in WebAssembly, with the whole report', async () => {
  const settings = ['train.steps=2', 'train.backend=wasm', 'train.workers=null'];
  const { code, stderr } = await jepa('train', 'tiny.yaml', ...settings, '--out', 'runs/wasm');
  assert.equal(code, 0, stderr);
  const page = readFileSync(join(folder, 'runs/wasm/report.html'), 'utf8');
  assert.match(page, /onnxruntime-web \d+\.\d+\.\d+/);
  assert.match(page, /wasm, 1 worker\b/);
});

test('an encoder is probed, embeds, searches and is exported', async () => {
  const probed = await jepa('probe', 'runs/a', '--draws', '1', '--json');
  assert.equal(probed.code, 0, probed.stderr);
  // As at the end of training: seed and weights are the same.
  const { probe, raw, random } = first;
  const again = JSON.parse(probed.stdout);
  assert.deepEqual([again.probe, again.raw, again.random], [probe, raw, random]);
  const elsewhere = await jepa('probe', 'runs/a/encoder.onnx');
  assert.notEqual(elsewhere.code, 0);

  const embedded = await jepa('embed', 'runs/a', 'data', '--out', 'all.npy', '--json');
  assert.equal(embedded.code, 0, embedded.stderr);
  const { samples, features, skipped } = JSON.parse(embedded.stdout);
  assert.deepEqual([samples, features, skipped], [60, 32, 0]);
  const { tensor } = withFile(join(folder, 'all.npy'), openNpy);
  assert.deepEqual(tensor?.shape, [60, 32]);
  assert.equal((await jepa('embed', 'runs/a', 'data', '--out', 'all.csv')).code, 2);
  assert.equal((await jepa('embed', 'runs/a', 'data')).code, 2);

  const found = await jepa('search', 'runs/a', 'all.npy', '--like', 'data/dark/3.png', '-k', '5', '--json');
  assert.equal(found.code, 0, found.stderr);
  const { hits, searched } = JSON.parse(found.stdout);
  assert.equal(searched, 60);
  assert.equal(hits.length, 5);
  assert.ok(hits.every(({ path }: { path: string }) => path !== 'data/dark/3.png'));
  const shown = await jepa('search', 'runs/a', 'all.npy', '--like', 'data/dark/3.png', '-k', '2');
  assert.match(shown.stdout, /^[\d.]+ {2}data\/\w+\/\d+\.png +\w+\n[\d.]+ {2}data/);
  assert.equal((await jepa('search', 'runs/a', 'all.npy', '--like', 'none.png')).code, 2);

  const exported = await jepa('export', 'runs/a', '--out', 'a.onnx', '--json');
  assert.equal(exported.code, 0, exported.stderr);
  const { details } = JSON.parse((await jepa('inspect', 'a.onnx', '--json')).stdout);
  assert.deepEqual(
    details.outputs.map(({ name }: { name: string }) => name),
    ['last_hidden_state', 'embedding'],
  );
  const web = await jepa('export', 'runs/a', '--out', 'web');
  assert.equal(web.code, 1);
  assert.match(web.stderr, /needs a ViT/);
});

test('fine-tuning is set against the frozen encoder and random weights, and gives a classifier', async () => {
  const tuned = await jepa(
    'finetune',
    'runs/a',
    '--labels',
    '20',
    '--epochs',
    '2',
    '--out',
    'classifier.onnx',
    '--json',
  );
  assert.equal(tuned.code, 0, tuned.stderr);
  const { classes, trainSamples, steps, finetuned, frozen, scratch } = JSON.parse(tuned.stdout);
  assert.deepEqual([classes, trainSamples, steps], [['bright', 'dark'], 40, 2]);
  for (const { accuracy } of [finetuned, frozen, scratch]) assert.ok(accuracy >= 0 && accuracy <= 1);
  assert.match(tuned.stderr, /fine-tuning\nstep 1\/2 .*the same from random weights\nstep 1\/2 /s);
  const wrong = await jepa('finetune', 'runs/a', '--labels', 'some');
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /--labels some: give a share as 1%, or a number of each class as 10/);

  // The model is embedding x weight + bias of its own initializers.
  const path = join(folder, 'classifier.onnx');
  const { initializers } = openOnnx(path).graph;
  const weights = (name: string) => loadFloat32(initializers.get(name)?.tensor as StoredTensor, name).data;
  const session = await ort.InferenceSession.create(path);
  const pixels = Float32Array.from({ length: 3 * 256 }, (_, i) => ((i * 37) % 101) / 101);
  const { embedding, logits } = await session.run({ images: new ort.Tensor('float32', pixels, [3, 1, 16, 16]) });
  await session.release();
  assert.deepEqual(logits.dims, [3, 2]);
  const [w, b] = [weights('classifier.weight'), weights('classifier.bias')];
  for (let i = 0; i < 6; i++) {
    const row = (embedding.data as Float32Array).subarray(Math.floor(i / 2) * 32, (Math.floor(i / 2) + 1) * 32);
    const expected = row.reduce((sum, x, j) => sum + x * w[(i % 2) * 32 + j], b[i % 2]);
    assert.ok(Math.abs(Number(logits.data[i]) - expected) < 1e-5);
  }
});

test('inspect counts images and names damaged ones', async () => {
  mkdirSync(join(folder, 'mixed'));
  writeFileSync(join(folder, 'mixed', 'bad.jpg'), 'no image');
  for (const name of ['0', '1']) {
    writeFileSync(join(folder, 'mixed', `${name}.png`), readFileSync(join(folder, 'data', 'dark', `${name}.png`)));
  }
  const { code, stdout, stderr } = await jepa('inspect', 'mixed', '--json');
  assert.equal(code, 0, stderr);
  const data = JSON.parse(stdout);
  assert.equal(data.train + data.test, 3);
  assert.deepEqual([data.read, data.corrupt.count], [3, 1]);
  assert.match(data.corrupt.first[0], /bad\.jpg/);
  assert.match((await jepa('inspect', 'mixed')).stdout, /damaged +1 of 3 opened\n.*bad\.jpg/);
  const empty = await jepa('inspect', 'runs');
  assert.equal(empty.code, 1);
  // Classes of a list are numbers; what cannot be opened for one reason is said once.
  writeFileSync(join(folder, 'clips.csv'), 'a.mp4 7\nb.mp4 3\nc.mp4 7\nd.mp4 3\n');
  const { classes, corrupt } = JSON.parse((await jepa('inspect', 'clips.csv', '--json')).stdout);
  assert.deepEqual(
    classes.map(({ name, train, test }: { name: string; train: number; test: number }) => [name, train + test]),
    [
      ['3', 2],
      ['7', 2],
    ],
  );
  assert.deepEqual([corrupt.count, corrupt.first.length], [4, 1]);
});

test('doctor looks at everything', async () => {
  const { code, stdout, stderr } = await jepa('doctor', '--json');
  assert.equal(code, 0, stderr);
  const { ok, checks } = JSON.parse(stdout);
  assert.equal(ok, true);
  const decoding = ['image decoding', 'video and sound'];
  const names = ['Node', 'processor', 'onnxruntime', 'shared memory', ...decoding, 'WebGPU', 'memory', 'disk'];
  assert.deepEqual(
    checks.map(({ name }: { name: string }) => name),
    names,
  );
  assert.match(checks[2].message, /GFLOP\/s/);
});
