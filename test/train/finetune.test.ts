import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { vitConfig } from '../../src/nn/vit.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { type FinetuneStep, finetune } from '../../src/train/finetune.js';
import { type FrozenEncoder, randomEncoder } from '../../src/train/frozen.js';
import { smallConv, untrained } from './encoders.js';
import { stripes } from './patterns.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 2 });
});
after(() => engine.close());

const train = stripes(400, 1);
const test = stripes(200, 2);
const plain = { transforms: [{ kind: 'resize' as const, size: 12 }] };

/** The largest change of the parameters whose names match. */
function change(before: FrozenEncoder, after: FrozenEncoder, pattern: RegExp): number {
  let largest = 0;
  for (const [name, { data }] of before.weights) {
    if (!pattern.test(name)) continue;
    const now = after.weights.get(name)!.data;
    data.forEach((value, i) => {
      largest = Math.max(largest, Math.abs(value - now[i]));
    });
  }
  return largest;
}

describe('fine-tuning', () => {
  it('learns classes, beside a frozen probe and the same from random weights', async () => {
    const encoder = randomEncoder(untrained(smallConv), 5);
    const steps: FinetuneStep[] = [];
    const result = await finetune({
      encoder,
      train,
      test,
      engine,
      augmentation: plain,
      settings: { epochs: 6, leastSteps: 0, batchSize: 32, lr: 3e-3 },
      onStep: (info) => steps.push(info),
    });
    assert.deepEqual([result.trainSamples, result.testSamples, result.steps], [400, 200, 75]);
    assert.deepEqual(result.classes, ['0 degrees', '45 degrees', '90 degrees', '135 degrees']);
    // Four classes: chance is 0.25.
    assert.ok(result.finetuned.accuracy > 0.6, `fine-tuned ${result.finetuned.accuracy}`);
    assert.ok(result.scratch.accuracy > 0.6, `from scratch ${result.scratch.accuracy}`);
    assert.ok(result.frozen.accuracy > 0.25 && result.frozen.accuracy <= 1);
    const [low, high] = result.finetuned.interval;
    assert.ok(low < result.finetuned.accuracy && result.finetuned.accuracy <= high);
    for (const from of ['pretrained', 'scratch']) {
      const own = steps.filter((info) => info.from === from);
      assert.deepEqual(
        own.map(({ step }) => step),
        Array.from({ length: 75 }, (_, i) => i + 1),
      );
    }
    assert.ok(result.finetuned.losses[74] < result.finetuned.losses[0]);
    assert.deepEqual(result.finetuned.classifier.weight.shape, [4, encoder.encoder.features]);
    assert.match(result.finetuned.encoder.facts['fine-tuned'], /400 labelled images, 75 steps/);
    assert.ok(change(encoder, result.finetuned.encoder, /stem\.weight/) > 0);
  });

  it('gives both the same budget: random weights without layer decay train as from scratch', async () => {
    const encoder = randomEncoder(untrained(smallConv), 0);
    const settings = { epochs: 2, leastSteps: 0, batchSize: 40, layerDecay: 1, classifier: 'random' as const };
    const result = await finetune({
      encoder,
      train,
      test,
      engine,
      labels: { shots: 20 },
      augmentation: plain,
      settings,
    });
    assert.equal(result.trainSamples, 80);
    assert.deepEqual(result.finetuned.losses, result.scratch.losses);
    assert.equal(result.finetuned.accuracy, result.scratch.accuracy);
  });

  it('begins as the linear probe of the frozen encoder', async () => {
    const encoder = randomEncoder(untrained(smallConv), 0);
    const settings = { epochs: 1, leastSteps: 0, batchSize: 100, lr: 1e-9 };
    const { finetuned, frozen, scratch } = await finetune({
      encoder,
      train,
      test,
      engine,
      augmentation: plain,
      settings,
    });
    // Next to nothing was learned since.
    assert.ok(Math.abs(finetuned.accuracy - frozen.accuracy) <= 0.01);
    assert.ok(frozen.accuracy > scratch.accuracy);
  });

  it('lowers the rate from layer to layer, and drops branches of a ViT', async () => {
    const architecture = {
      kind: 'vit' as const,
      ...vitConfig({ imageSize: 12, patchSize: 3, channels: 1, width: 32, depth: 2, heads: 2 }),
    };
    const encoder = randomEncoder(untrained(architecture), 3);
    const settings = {
      epochs: 2,
      leastSteps: 0,
      batchSize: 40,
      layerDecay: 0.1,
      dropPath: 0.2,
      weightDecay: 0,
      warmup: 0,
    };
    const { finetuned } = await finetune({
      encoder,
      train,
      test,
      engine,
      labels: { share: 0.1 },
      augmentation: plain,
      settings,
    });
    // With AdamW the first of the two steps moves weights by its rate (the rate of the second is nearly zero): each layer a
    // tenth as far as the layer after it.
    const moved = [/patch_embed/, /blocks\.0\./, /blocks\.1\./, /encoder\.norm/].map((layer) =>
      change(encoder, finetuned.encoder, layer),
    );
    for (let i = 0; i < 3; i++) {
      const ratio = moved[i + 1] / moved[i];
      assert.ok(ratio > 9 && ratio < 11, `layers ${i} and ${i + 1}: ${ratio}`);
    }
    assert.equal(change(encoder, finetuned.encoder, /pos_embed/), 0);
  });

  it('refuses what cannot be', async () => {
    const encoder = untrained(smallConv);
    const base = { encoder, train, test, engine, augmentation: plain };
    await assert.rejects(
      finetune({ ...base, settings: { dropPath: 0.1, epochs: 1 } }),
      /drop path needs residual blocks of a ViT/,
    );
    await assert.rejects(finetune({ ...base, train: { ...train, labels: undefined } }), /there are no labels/);
    await assert.rejects(finetune({ ...base, labels: { shots: 101 } }), JepaError);
    await assert.rejects(
      finetune({ ...base, train: { ...train, labels: new Int32Array(400) } }),
      /all images are of one class/,
    );
  });
});
