import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { applyClipTransform, parseClipTransform } from '../../src/data/video/transforms.js';
import { parseSafetensors } from '../../src/hub/safetensors.js';
import { encoderInputs } from '../../src/methods/method.js';
import { createEngine } from '../../src/runtime/index.js';
import { fingerprint } from '../../src/train/embed.js';
import { installEncoder, openEncoder, randomEncoder } from '../../src/train/frozen.js';
import { goldenFolder } from '../golden.js';

const area = join(goldenFolder, 'hf-vjepa2');
const folder = mkdtempSync(join(tmpdir(), 'jepa-published-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const values = (file: string) => parseSafetensors(readFileSync(join(area, file)));

/** [frames, channels, ...] -> [channels, frames, ...] */
function channelsFirst({ shape: [frames, channels, ...rest], data }: HostTensor<'float32'>): HostTensor<'float32'> {
  const size = rest.reduce((a, b) => a * b, 1);
  const out = new Float32Array(data.length);
  for (let t = 0; t < frames; t++)
    for (let c = 0; c < channels; c++)
      out.set(data.subarray((t * channels + c) * size, (t * channels + c + 1) * size), (c * frames + t) * size);
  return { dtype: 'float32', shape: [channels, frames, ...rest], data: out };
}

test('clips through a Hugging Face folder: preparation and features are those of the reference', async () => {
  const opened = openEncoder(join(area, 'model'));
  assert.equal(opened.facts.method, 'vjepa2');
  const { preparation, encoder } = opened;
  assert.ok(preparation.kind === 'video');
  const prepared = values('preprocess.safetensors');
  for (const name of ['preprocess_wide', 'preprocess_tall', 'preprocess_no_resize']) {
    const { shape, data } = prepared.get(`${name}/video`)!;
    const [frames, height, width, channels] = shape;
    const out = new Float32Array(channels * frames * 16 * 16);
    const clip = { frames, height, width, channels, data: data as Uint8Array };
    applyClipTransform(clip, parseClipTransform(preparation.transform), createRandom(0), out);
    const wanted = channelsFirst(prepared.get(`${name}/pixel_values_videos`) as HostTensor<'float32'>);
    // One level of 8 bits, as the area allows; nothing where nothing is resized.
    const most = name === 'preprocess_no_resize' ? 2e-6 : 0.01768;
    wanted.data.forEach((value, i) => {
      assert.ok(Math.abs(value - out[i]) <= most, `${name} ${i}: ${out[i]} instead of ${value}`);
    });
  }

  const outputs = values('outputs.safetensors');
  const videos = outputs.get('model_default/pixel_values_videos') as HostTensor<'float32'>;
  const wanted = outputs.get('model_default/last_hidden_state') as HostTensor<'float32'>;
  const [batch, ...one] = videos.shape;
  const size = videos.data.length / batch;
  const clips = Array.from({ length: batch }, (_, i) =>
    channelsFirst({ dtype: 'float32', shape: one, data: videos.data.subarray(i * size, (i + 1) * size) }),
  );
  const data = Float32Array.from(clips.flatMap((clip) => [...clip.data]));
  const engine = await createEngine({ workers: 2 });
  try {
    const spec = { name: 'tokens', outputs: { tokens: encoder.tokens(encoderInputs(encoder)) } };
    const program = await engine.compile(spec, await installEncoder(engine, opened));
    const feed = { dtype: 'float32' as const, shape: [batch, ...clips[0].shape], data };
    const { tokens } = (await program.run({ clips: feed })).outputs;
    assert.deepEqual(tokens.shape, wanted.shape);
    wanted.data.forEach((value, i) => {
      assert.ok(Math.abs(Number(tokens.data[i]) - value) < 3e-5, `token value ${i}`);
    });
  } finally {
    await engine.close();
  }
});

test("Meta's checkpoints: frames, preparation, licence", () => {
  const path = join(area, 'meta_vjepa2.pt');
  const opened = openEncoder(path, { heads: 2, predictorHeads: 2, imageSize: 32, frames: 8 });
  assert.deepEqual(opened.encoder.inputs[0].shape, [3, 8, 32, 32]);
  assert.match(opened.facts.licence, /V-JEPA 2 are licensed MIT/);
  // trunc(32 * 256 / 224) and ImageNet's statistics.
  assert.deepEqual(opened.preparation, {
    kind: 'video',
    transform: {
      like: 'papers',
      kind: 'evaluate',
      size: 32,
      shortSide: 36,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    },
  });
  assert.equal(randomEncoder(opened).weights.size, opened.weights.size);
  const shorter = openEncoder(join(area, 'model'), { frames: 2 });
  assert.deepEqual(shorter.encoder.inputs[0].shape, [3, 2, 16, 16]);
  assert.throws(
    () => openEncoder(join(area, 'model'), { frames: 3 }),
    /3 frames do not divide into patches of 2 frames/,
  );
  assert.throws(() => openEncoder(join(goldenFolder, 'hf-ijepa', 'model'), { frames: 8 }), /an encoder of images/);
  assert.throws(() => openEncoder('facebook/nothing-like-it'), /jepa import facebook\/nothing-like-it/);
});

test('weights that are read late are the same weights', () => {
  const opened = openEncoder(join(area, 'model'));
  const held = new Map(
    [...opened.weights].map(([name, { shape, data }]) => [
      name,
      { dtype: 'float32' as const, shape, data: data.slice() },
    ]),
  );
  assert.equal(fingerprint(opened), fingerprint({ ...opened, weights: held }));
  for (const [name, tensor] of opened.weights) {
    assert.ok(tensor.fill, name);
    const target = new Float32Array(tensor.data.length);
    tensor.fill(target);
    assert.deepEqual(target, held.get(name)?.data, name);
  }
});
