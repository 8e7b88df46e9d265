import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { parseTransforms } from '../../src/data/transforms.js';
import { mean } from '../../src/graph/ops/reduce.js';
import { readHuggingFaceFolder } from '../../src/hub/hf-ijepa.js';
import { openOnnx } from '../../src/hub/onnx.js';
import { encoderInputs } from '../../src/methods/method.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { loadOrt } from '../../src/runtime/ort.js';
import { exportOnnx, exportSafetensors, exportTransformers } from '../../src/train/export.js';
import { type FrozenEncoder, installEncoder } from '../../src/train/frozen.js';
import { randomImages, smallConv, smallVit, transformsOf, untrained } from './encoders.js';

let folder: string;
let engine: Engine;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'jepa-export-'));
  engine = await createEngine({ workers: 2 });
});
after(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

async function onEngine(frozen: FrozenEncoder, pixels: HostTensor<'float32'>) {
  const { encoder } = frozen;
  const inputs = encoderInputs(encoder);
  const tokens = encoder.tokens(inputs);
  const outputs = { tokens, embedding: encoder.represent(inputs), pooled: mean(tokens, 1) };
  const program = await engine.compile({ name: 'encoder', outputs }, await installEncoder(engine, frozen));
  const result = (await program.run({ images: pixels })).outputs;
  await program.close();
  return result;
}

async function inRuntime(
  backend: 'cpu' | 'wasm',
  model: string | Uint8Array,
  name: string,
  pixels: HostTensor<'float32'>,
) {
  const ort = await loadOrt(backend);
  const session = await ort.InferenceSession.create(model as string, { executionProviders: [backend] });
  assert.deepEqual(session.inputNames, [name]);
  const outputs = await session.run({ [name]: new ort.Tensor('float32', pixels.data, pixels.shape) });
  await session.release();
  return outputs;
}

function assertClose(got: { dims: readonly number[]; data: unknown }, expected: HostTensor): void {
  assert.deepEqual([...got.dims], [...expected.shape]);
  const data = got.data as Float32Array;
  const worst = data.reduce((largest, value, i) => Math.max(largest, Math.abs(value - Number(expected.data[i]))), 0);
  assert.ok(worst < 1e-4, `largest difference ${worst}`);
}

describe('ONNX', () => {
  for (const [what, architecture] of [
    ['ViT', smallVit()],
    ['conv net', smallConv],
  ] as const) {
    it(`a ${what} gives the engine's values in onnxruntime-node and onnxruntime-web, for any batch`, async () => {
      const frozen = untrained(architecture, [{ kind: 'normalize', mean: [0.5], std: [0.25] }]);
      const path = join(folder, `${architecture.kind}.onnx`);
      assert.deepEqual(exportOnnx(frozen, path), [path]);
      for (const [backend, batch] of [
        ['cpu', 5],
        ['wasm', 3],
      ] as const) {
        const pixels = randomImages(batch, frozen, batch);
        const expected = await onEngine(frozen, pixels);
        const got = await inRuntime(backend, readFileSync(path), 'images', pixels);
        assertClose(got.last_hidden_state, expected.tokens);
        assertClose(got.embedding, expected.embedding);
      }
    });
  }

  it('holds weights by name, standard operators only, and says how images are prepared', () => {
    const frozen = untrained(smallVit(), [{ kind: 'normalize', mean: [0.5], std: [0.25] }]);
    const path = join(folder, 'named.onnx');
    exportOnnx(frozen, path);
    const model = openOnnx(path);
    assert.deepEqual(
      [...model.graph.nodes].filter(({ domain }) => domain !== '' && domain !== 'ai.onnx'),
      [],
    );
    assert.ok(model.graph.initializers.has('encoder.blocks.0.attn.qkv.weight'));
    const [images] = model.graph.inputs;
    assert.deepEqual([images.name, images.shape?.slice(1)], ['images', [3, 24, 24]]);
    assert.equal(typeof images.shape?.[0], 'string');
    assert.equal(model.metadata.method, 'ijepa');
    assert.deepEqual(JSON.parse(model.metadata.transforms), parseTransforms(transformsOf(frozen)));
  });

  it('keeps large weights in a file beside the model', async () => {
    const frozen = untrained(smallVit());
    const path = join(folder, 'large.onnx');
    const files = exportOnnx(frozen, path, { externalAbove: 1000 });
    assert.deepEqual(files, [path, `${path}_data`]);
    assert.ok(statSync(files[1]).size > 4 * 32 * 32 * 12 * 5);
    const pixels = randomImages(2, frozen);
    const got = await inRuntime('cpu', path, 'images', pixels);
    assertClose(got.embedding, (await onEngine(frozen, pixels)).embedding);
  });

  it('a classifier comes along, with the names of its classes', async () => {
    const frozen = untrained(smallConv);
    const { features } = frozen.encoder;
    const weight = float32(
      [3, features],
      Float32Array.from({ length: 3 * features }, (_, i) => Math.cos(i)),
    );
    const bias = float32([3], [0.5, -1, 2]);
    const path = join(folder, 'classifier.onnx');
    exportOnnx(frozen, path, { classifier: { weight, bias, classes: ['a', 'b', 'c'] } });
    const pixels = randomImages(2, frozen);
    const { embedding } = await onEngine(frozen, pixels);
    const expected = Float32Array.from({ length: 6 }, (_, at) => {
      const [image, c] = [Math.floor(at / 3), at % 3];
      let sum = bias.data[c];
      for (let j = 0; j < features; j++)
        sum += Number(embedding.data[image * features + j]) * weight.data[c * features + j];
      return sum;
    });
    assertClose((await inRuntime('cpu', path, 'images', pixels)).logits, float32([2, 3], expected));
    assert.deepEqual(JSON.parse(openOnnx(path).metadata.classes), ['a', 'b', 'c']);
  });

  it('does not write a model without its weights', () => {
    const frozen = untrained(smallVit());
    const weights = new Map([...frozen.weights].slice(1));
    const path = join(folder, 'lacking.onnx');
    assert.throws(() => exportOnnx({ ...frozen, weights }, path), /the weights lack encoder\./);
    assert.ok(!readdirSync(folder).some((name) => name.includes('lacking')));
  });
});

describe('folders', () => {
  it('a folder for transformers.js holds model, configuration and preprocessing', async () => {
    const frozen = untrained(smallVit(1), [{ kind: 'normalize', mean: [0.5], std: [0.25] }]);
    const out = join(folder, 'web');
    const files = exportTransformers(frozen, out);
    assert.deepEqual(files.map((file) => file.slice(out.length + 1)).sort(), [
      'config.json',
      'model.safetensors',
      'onnx/model.onnx',
      'preprocessor_config.json',
    ]);
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
    assert.equal(config.model_type, 'ijepa');
    assert.deepEqual(config['transformers.js_config'], { dtype: 'fp32' });
    const processor = JSON.parse(readFileSync(join(out, 'preprocessor_config.json'), 'utf8'));
    assert.deepEqual(processor.size, { height: 24, width: 24 });
    assert.deepEqual([processor.do_convert_rgb, processor.image_mean, processor.image_std], [false, [0.5], [0.25]]);
    const pixels = randomImages(2, frozen);
    const expected = await onEngine(frozen, pixels);
    const got = await inRuntime('cpu', join(out, 'onnx', 'model.onnx'), 'pixel_values', pixels);
    assertClose(got.last_hidden_state, expected.tokens);
    assertClose(got.pooler_output, expected.pooled);
  });

  it('safetensors are read back as they were', () => {
    const frozen = untrained(smallVit());
    const out = join(folder, 'hf');
    exportSafetensors(frozen, out);
    const { weights, config } = readHuggingFaceFolder(out);
    assert.equal(config.depth, 5);
    assert.equal(weights.size, frozen.weights.size);
    for (const [name, value] of weights) assert.deepEqual(value.data, frozen.weights.get(`encoder.${name}`)?.data);
  });

  it('with a classifier they are for image classification', () => {
    const frozen = untrained(smallVit());
    const classifier = { weight: float32([2, 32], new Float32Array(64).fill(0.5)), bias: float32([2], [1, -1]) };
    const out = join(folder, 'classes');
    exportTransformers(frozen, out, { classifier: { ...classifier, classes: ['cat', 'dog'] } });
    const read = readHuggingFaceFolder(out);
    assert.deepEqual(read.labels, ['cat', 'dog']);
    assert.deepEqual(read.classifier, classifier);
    const names = openOnnx(join(out, 'onnx', 'model.onnx')).graph.outputs.map(({ name }) => name);
    assert.deepEqual(names, ['last_hidden_state', 'pooler_output', 'logits']);
  });

  it('a conv net is refused with the way out', () => {
    const frozen = untrained(smallConv);
    assert.throws(() => exportTransformers(frozen, join(folder, 'conv')), /needs a ViT.*export it as ONNX/);
    assert.throws(() => exportSafetensors(frozen, join(folder, 'conv')), /needs a ViT.*export it as ONNX/);
  });
});
