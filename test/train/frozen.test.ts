import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { parseSafetensors } from '../../src/hub/safetensors.js';
import { encoderInputs } from '../../src/methods/method.js';
import { initialValues } from '../../src/nn/weights.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { buildMethod } from '../../src/train/build.js';
import { saveCheckpoint } from '../../src/train/checkpoint.js';
import { parseConfig } from '../../src/train/config.js';
import { fingerprint } from '../../src/train/embed.js';
import { exportSafetensors } from '../../src/train/export.js';
import {
  type FrozenEncoder,
  installEncoder,
  openEncoder,
  randomEncoder,
  trainedEncoder,
} from '../../src/train/frozen.js';
import { goldenFolder } from '../golden.js';
import { smallVit, transformsOf, untrained } from './encoders.js';

let folder: string;
let engine: Engine;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'jepa-frozen-'));
  engine = await createEngine({ workers: 1 });
});
after(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

async function represent(frozen: FrozenEncoder, images: HostTensor<'float32'>): Promise<HostTensor> {
  const { encoder } = frozen;
  const outputs = { features: encoder.represent(encoderInputs(encoder)) };
  const program = await engine.compile({ name: 'features', outputs }, await installEncoder(engine, frozen));
  const { features } = (await program.run({ images })).outputs;
  await program.close();
  return features;
}

describe('opening an encoder', () => {
  it('a Hugging Face folder: features are those of the reference', async () => {
    const area = join(goldenFolder, 'hf-ijepa');
    const opened = openEncoder(join(area, 'model'));
    const values = parseSafetensors(readFileSync(join(area, 'outputs.safetensors')));
    const got = await represent(opened, values.get('pixel_values') as HostTensor<'float32'>);
    const expected = values.get('model/mean_of_tokens') as HostTensor<'float32'>;
    assert.deepEqual(got.shape, expected.shape);
    got.data.forEach((value, i) => {
      assert.ok(Math.abs(Number(value) - expected.data[i]) < 1e-4, `${i}: ${value} instead of ${expected.data[i]}`);
    });
    assert.equal(opened.facts.method, 'ijepa');
  });

  it('an official checkpoint: the target encoder, with its licence', () => {
    const opened = openEncoder(join(goldenFolder, 'hf-ijepa', 'pth', 'official-zip.pth.tar'), { heads: 2 });
    assert.match(opened.facts.licence, /CC BY-NC/);
    assert.equal(opened.weights.size, opened.encoder.module.spec.size);
    assert.deepEqual(transformsOf(opened).at(-1)?.kind, 'normalize');
  });

  const config = parseConfig({
    data: { size: 16, channels: 1, evaluation: [{ kind: 'normalize', mean: [0.2], std: [0.3] }] },
    method: {
      name: 'ijepa',
      encoder: { kind: 'vit', patchSize: 4, width: 16, depth: 2, heads: 2 },
      predictor: { width: 8, depth: 1, heads: 2 },
      masks: { minKeep: 0 },
    },
    train: { steps: 10 },
  });

  it('a run: the moving average, with its transforms', async () => {
    const method = buildMethod(config);
    const modules = [...method.trained, ...method.followers.map(({ module }) => module)];
    const weights = new Map(modules.flatMap((module, i) => [...initialValues(module, createRandom(i))]));
    const run = join(folder, 'run');
    const meta = {
      facts: {},
      format: 1 as const,
      step: 7,
      totalSteps: 10,
      position: { epoch: 0, step: 7 },
      workers: 1,
      backend: 'cpu',
      seconds: 1,
      config,
    };
    mkdirSync(run);
    saveCheckpoint(join(run, 'checkpoint'), { meta, weights, slots: new Map(), memory: new Map() });
    const opened = openEncoder(run);
    assert.deepEqual(fingerprint(openEncoder(join(run, 'checkpoint'))), fingerprint(opened));
    for (const [name, { data }] of opened.weights) {
      assert.match(name, /^target_encoder\./);
      assert.deepEqual(data, weights.get(name)?.data);
    }
    assert.equal(opened.weights.size, method.encoder.module.spec.size);
    assert.deepEqual(opened.facts, { method: 'ijepa', steps: '7' });
    // Any image is brought to the encoder's size.
    assert.deepEqual(
      transformsOf(opened).map(({ kind }) => kind),
      ['resize', 'normalize'],
    );

    const state = await engine.createState(modules.flatMap((module) => [...module.tensors.values()]));
    await state.write(weights);
    const inMemory = await trainedEncoder({ method, state, steps: 7, facts: {} }, config, 'now');
    assert.equal(fingerprint(inMemory), fingerprint(opened));
  });

  it('a checkpoint that does not fit its configuration says so', () => {
    const method = buildMethod(config);
    const weights = new Map(method.trained.flatMap((module) => [...initialValues(module, createRandom(1))]));
    const meta = {
      facts: {},
      format: 1 as const,
      step: 1,
      totalSteps: 10,
      position: { epoch: 0, step: 1 },
      workers: 1,
      backend: 'cpu',
      seconds: 1,
      config,
    };
    const run = join(folder, 'broken');
    saveCheckpoint(run, { meta, weights, slots: new Map(), memory: new Map() });
    assert.throws(() => openEncoder(run), /target_encoder\.\S+ is missing where the configuration says/);
  });

  it('anything else says what was looked for', () => {
    assert.throws(() => openEncoder(folder), /no encoder here \(looked for checkpoint.*config\.json/);
    assert.throws(() => openEncoder(join(folder, 'nothing')), /cannot open .*nothing/);
    const exported = join(folder, 'encoder.onnx');
    writeFileSync(exported, '');
    assert.throws(() => openEncoder(exported), /encoder\.onnx: exported models are for other programs; give the run/);
  });

  it('written and opened again it is the same encoder', async () => {
    const frozen = untrained(smallVit(), [{ kind: 'normalize', mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] }]);
    const out = join(folder, 'written');
    exportSafetensors(frozen, out);
    const opened = openEncoder(out);
    assert.equal(fingerprint(opened), fingerprint(frozen));
    const images = float32(
      [1, 3, 24, 24],
      Float32Array.from({ length: 3 * 24 * 24 }, (_, i) => Math.sin(i)),
    );
    assert.deepEqual((await represent(opened, images)).data, (await represent(frozen, images)).data);
  });

  it('random weights follow from the seed alone, and are of the same shape', () => {
    const frozen = untrained(smallVit());
    const [a, b, c] = [randomEncoder(frozen, 1), randomEncoder(frozen, 1), randomEncoder(frozen, 2)];
    assert.equal(fingerprint(a), fingerprint(b));
    assert.notEqual(fingerprint(a), fingerprint(c));
    assert.notEqual(fingerprint(a), fingerprint(frozen));
    for (const [name, { shape }] of frozen.weights) assert.deepEqual(a.weights.get(name)?.shape, shape);
  });
});
