import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type ImageDataset, subset } from '../../src/data/dataset.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { type FrozenEncoder, randomEncoder } from '../../src/train/frozen.js';
import { probe, probePercents, type SourceScores } from '../../src/train/probe.js';
import { smallConv, smallVit, untrained } from './encoders.js';
import { stripes } from './patterns.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 2 });
});
after(() => engine.close());

const train = stripes(600, 1);
const test = stripes(300, 2);
const SOURCES = ['encoder', 'raw', 'random'] as const;

describe('probe', () => {
  it('measures encoder, raw pixels and random weights by the same protocols', async () => {
    const encoder = randomEncoder(untrained(smallConv), 7);
    const stages: string[] = [];
    const result = await probe({
      encoder,
      train,
      test,
      engine,
      attributes: true,
      onStage: (what) => stages.push(what),
    });
    assert.deepEqual([result.trainSamples, result.testSamples, result.classes.length], [600, 300, 4]);
    assert.deepEqual(result.testFeatures.shape, [300, 64]);
    assert.deepEqual(
      SOURCES.map((source) => result[source].features),
      [64, 144, 64],
    );
    for (const source of SOURCES) {
      const { linear, knn, fewLabels, attributes } = result[source];
      for (const { accuracy, interval, confusion, perClass, predictions } of [linear, knn]) {
        const right = predictions.filter((label, i) => label === (test.labels as Int32Array)[i]).length;
        assert.equal(accuracy, right / 300);
        assert.ok(interval[0] < accuracy && accuracy < interval[1] + 1e-12);
        assert.equal(
          confusion.reduce((a, b) => a + b, 0),
          300,
        );
        assert.equal(confusion[0] + confusion[5] + confusion[10] + confusion[15], right);
        assert.ok(Math.abs(perClass.reduce((a, b) => a + b, 0) / 4 - accuracy) < 1e-12); // classes are equally large
      }
      assert.deepEqual(
        fewLabels.map(({ labels, samples, accuracies }) => [labels, samples, accuracies.length]),
        [
          ['1 %', 8, 3],
          ['10 a class', 40, 3],
        ],
      );
      // Brightness is a matter of the mean, which every source holds.
      assert.ok(attributes.bright.accuracy > 0.75, `${source}: ${attributes.bright.accuracy}`);
      assert.ok(attributes.bright.majority < 0.6);
      assert.ok(stages.some((stage) => stage.startsWith(result[source].name)));
    }
    // Stripes at random places have no mean image: what a conv net sees at once, a linear map of pixels cannot.
    assert.ok(result.encoder.linear.accuracy > result.raw.linear.accuracy + 0.2);
    assert.ok(result.encoder.measures && result.random.measures && !result.raw.measures);
    const { rankme, width, lidar, meanCosine, diagnosis, alignment } = result.encoder.measures;
    assert.ok(rankme > 1 && rankme <= width && width === 64);
    assert.ok(lidar >= 1 && lidar <= width && meanCosine <= 1 && alignment > 0);
    assert.match(diagnosis.message, /rank \d+ of 64/);
    const round = (value: number): number => Math.round(value * 1e4) / 100;
    assert.deepEqual(probePercents(result).probe, {
      linear: round(result.encoder.linear.accuracy),
      knn: round(result.encoder.knn.accuracy),
    });
  });

  const vit = untrained({ ...smallVit(1), imageSize: [16, 16] });
  const withWeights = (change: (name: string, data: Float32Array) => Float32Array): FrozenEncoder => ({
    ...vit,
    weights: new Map(Array.from(vit.weights, ([name, value]) => [name, { ...value, data: change(name, value.data) }])),
  });
  const few = { train: stripes(200, 3, 16), test: stripes(80, 4, 16), draws: 0 };

  it('reads the last four layers of a ViT where that is better on held-out images', async () => {
    // The last block adds so much to everything that what was there is rounded away.
    const encoder = withWeights((name, data) =>
      name === 'encoder.blocks.4.mlp.fc2.bias' ? data.map((value) => value * 1e9) : data,
    );
    const result = await probe({ ...few, encoder, engine, measures: false });
    assert.equal(result.encoder.linear.form, 'last 4 layers');
    assert.ok(result.encoder.linear.accuracy > 0.4);
    assert.ok(result.encoder.knn.accuracy < 0.4); // reads the representation alone
    assert.deepEqual([result.raw.linear.form, result.raw.features], ['representation', 256]);
    assert.deepEqual(result.encoder.fewLabels, []);
  });

  it('measures an encoder that has collapsed, and says so', async () => {
    const encoder = withWeights((name, data) => (name === 'encoder.norm.weight' ? data.map(() => 0) : data));
    const { encoder: own, notes } = await probe({ ...few, encoder, engine });
    assert.equal(own.linear.accuracy, 0.25);
    assert.equal(own.measures?.diagnosis.verdict, 'complete collapse');
    assert.ok(notes.some((note) => /alpha-ReQ/.test(note)));
  });

  it('leaves out what one held-out sample cannot show, and says so', async () => {
    const one = subset(few.test, [0]);
    const { encoder, testSamples, notes } = await probe({ ...few, test: one, encoder: vit, engine });
    assert.deepEqual([testSamples, encoder.measures], [1, undefined]);
    assert.ok(notes.includes('RankMe, LiDAR, cosines: there is one held-out image'), notes.join('; '));
  });

  it('is the same for the same seed', async () => {
    const encoder = untrained(smallConv);
    const small = {
      train: subset(
        train,
        Int32Array.from({ length: 120 }, (_, i) => i),
      ),
      test: stripes(60, 6),
    };
    const run = () => probe({ encoder, ...small, engine, seed: 3, draws: 1, measures: false });
    const [first, second] = [await run(), await run()];
    const numbers = (scores: SourceScores) => [scores.linear.predictions, scores.knn.predictions, scores.fewLabels];
    for (const source of SOURCES) assert.deepEqual(numbers(first[source]), numbers(second[source]));
  });

  it('leaves out what has no label or cannot be read, and says what it did not measure', async () => {
    const encoder = untrained(smallConv);
    const part = subset(
      train,
      Int32Array.from({ length: 100 }, (_, i) => i),
    );
    const labels = (part.labels as Int32Array).map((label, i) => (i < 20 ? -1 : i >= 92 ? 3 : label === 3 ? 0 : label));
    const broken: ImageDataset = {
      ...part,
      labels,
      source: undefined,
      read: (index) => (index === 50 ? Promise.reject(new Error('damaged')) : part.read(index)),
    };
    const skipped: string[] = [];
    const loading = { log: (line: string) => skipped.push(line) };
    const result = await probe({
      encoder,
      train: broken,
      test: stripes(40, 8),
      engine,
      measures: false,
      draws: 1,
      loading,
    });
    assert.equal(result.trainSamples, 79);
    assert.ok(skipped.some((line) => /damaged/.test(line)));
    assert.deepEqual(result.notes, ['10 labels a class: the smallest class has 8 images']);
    assert.deepEqual(
      result.encoder.fewLabels.map(({ labels: name }) => name),
      ['1 %'],
    );
  });

  it('needs labels of at least two classes', async () => {
    const encoder = untrained(smallConv);
    await assert.rejects(
      probe({ encoder, train: { ...train, labels: undefined }, test, engine }),
      /there are no labels/,
    );
    await assert.rejects(
      probe({ encoder, train: { ...train, labels: new Int32Array(600) }, test, engine }),
      /all images are of one class/,
    );
  });
});
