import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { nearestNeighbours } from '../../src/eval/knn.js';
import { fitLogistic, predictedClasses } from '../../src/eval/logistic.js';
import { predictLinear } from '../../src/eval/ridge.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { linearClassifiers, linearProbe, principalAxes, sweepPenalty } from '../../src/train/linear.js';
import { neighboursOnEngine } from '../../src/train/neighbours.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 2 });
});
after(() => engine.close());

function normal(rows: number, width: number, seed: number): HostTensor<'float32'> {
  const data = new Float32Array(rows * width);
  createRandom(seed).fillNormal(data);
  return float32([rows, width], data);
}

/** Correlated features on very different scales, one of them constant, and three classes that depend on them. */
function problem(rows: number, seed: number): { x: HostTensor<'float32'>; labels: Int32Array } {
  const raw = normal(rows, 7, seed);
  const labels = new Int32Array(rows);
  for (let i = 0; i < rows; i++) {
    const row = raw.data.subarray(i * 7, (i + 1) * 7);
    labels[i] = row[0] + 0.8 * row[5] > 0.5 ? 2 : row[1] - 0.8 * row[6] > 0 ? 1 : 0;
    row[1] = 100 * (row[1] + 0.9 * row[0]) + 300;
    row[2] = 1e-3 * row[2];
    row[3] = 5;
  }
  return { x: raw, labels };
}

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

describe('logistic regression on the engine', () => {
  it('turns features to uncorrelated axes without changing distances between standardised rows', async () => {
    const { x } = problem(500, 1);
    const { train, variances } = await principalAxes(engine, x, x);
    const [n, kept] = train.shape;
    assert.deepEqual([n, kept], [500, 6]); // the constant feature has no direction
    const column = (j: number) => Float64Array.from({ length: n }, (_, i) => train.data[i * kept + j]);
    for (let a = 0; a < kept; a++) {
      for (let b = 0; b < kept; b++) {
        const covariance = sum(column(a).map((value, i) => (value * column(b)[i]) / n));
        assert.ok(Math.abs(covariance - (a === b ? variances[a] : 0)) < 1e-4, `${a} ${b} ${covariance}`);
      }
    }
    // Standardised features have variance (n - 1) / n each.
    assert.ok(Math.abs(sum(variances) - (6 * (n - 1)) / n) < 1e-4);
  });

  it('finds the minimum that the host finds in double precision', async () => {
    const { x, labels } = problem(5000, 2); // more than one chunk
    const test = problem(400, 3);
    const penalty = 3e-3;
    const axes = await principalAxes(engine, x, test.x);
    const classifiers = await linearClassifiers(engine, axes.variances, 3);
    const fitted = await classifiers.fit(axes.train, labels, penalty, { tolerance: 1e-6 });
    assert.ok(fitted.converged);
    const reference = fitLogistic(x, labels, 3, { C: 1 / (penalty * 5000), tolerance: 1e-8, precision: 'float64' });

    // The value of the objective at the engine's solution, by its definition in double.
    const kept = axes.variances.length;
    const { parameters } = fitted;
    let objective = sum(parameters.subarray(0, 3 * kept).map((w) => (penalty / 2) * w * w));
    for (let i = 0; i < 5000; i++) {
      const logits = [0, 1, 2].map((c) => {
        const row = axes.train.data.subarray(i * kept, (i + 1) * kept);
        return parameters[3 * kept + c] + sum(Array.from(row, (value, j) => value * parameters[c * kept + j]));
      });
      objective += (Math.log(sum(logits.map(Math.exp))) - logits[labels[i]]) / 5000;
    }
    const least = reference.objective / 5000;
    assert.ok(Math.abs(objective - least) < 1e-6 * least, `${objective} instead of ${least}`);
    const own = await classifiers.predict(fitted, axes.test);
    const other = predictedClasses(predictLinear(reference, test.x));
    assert.ok(own.filter((label, i) => label !== other[i]).length <= 1);
    await classifiers.close();
  });

  it('chooses the penalty on held-out images, around a middle one', async () => {
    const { x, labels } = problem(600, 4);
    // Noise that a weak penalty would fit.
    const noisy = labels.map((label, i) => (i % 3 === 0 ? (label + (i % 2) + 1) % 3 : label));
    const { train, variances } = await principalAxes(engine, x, x);
    const classifiers = await linearClassifiers(engine, variances, 3);
    const held = Int32Array.from({ length: 120 }, (_, i) => 5 * i);
    const sweep = await sweepPenalty(classifiers, train, noisy, held);
    const best = Math.max(...sweep.tried.map(({ accuracy }) => accuracy));
    assert.equal(sweep.accuracy, best);
    assert.equal(sweep.tried[0].penalty, 1e-3);
    assert.equal(sweep.tried.find(({ accuracy }) => accuracy === best)?.penalty, sweep.classifier.penalty);
    // It went both ways until accuracy no longer rose.
    const tried = sweep.tried.map(({ penalty }) => penalty);
    assert.ok(Math.min(...tried) < 1e-3 && Math.max(...tried) > 1e-3);
    await classifiers.close();
  });

  it('finds the largest class where features say nothing, and refuses those that are not finite', async () => {
    const constant = float32([60, 2], new Float32Array(120).fill(3));
    const labels = Int32Array.from({ length: 60 }, (_, i) => (i % 4 === 0 ? 0 : 1));
    const held = Int32Array.from({ length: 12 }, (_, i) => i);
    const probe = await linearProbe(engine, constant, constant, labels, held, 2);
    assert.ok((await probe.scores()).predictions.every((label) => label === 1));
    await probe.close();
    const broken = float32([10, 2], new Float32Array(20).fill(1));
    broken.data[7] = Number.NaN;
    await assert.rejects(principalAxes(engine, broken, broken), /feature 1 is not finite/);
  });
});

describe('nearest neighbours on the engine', () => {
  it('are those of the host, in the same order', async () => {
    for (const [bankRows, queryRows, width, k] of [
      [500, 70, 24, 20],
      [33_000, 9, 3, 5], // two blocks
      [12, 3, 4, 12],
    ]) {
      const bank = normal(bankRows, width, bankRows);
      // Equal rows and a zero row: ties are broken by the row's number.
      bank.data.copyWithin(5 * width, 2 * width, 3 * width);
      bank.data.fill(0, 7 * width, 8 * width);
      const queries = normal(queryRows, width, 99);
      const own = await neighboursOnEngine(engine, bank, queries, k);
      const reference = nearestNeighbours(bank, queries, k);
      assert.deepEqual(own.indices, reference.indices);
      assert.deepEqual(own.similarities, reference.similarities);
    }
  });

  it('refuse widths that differ and k beyond the bank', async () => {
    const bank = normal(5, 3, 1);
    await assert.rejects(neighboursOnEngine(engine, bank, normal(2, 4, 2), 2), /width 4 for a bank of width 3/);
    await assert.rejects(neighboursOnEngine(engine, bank, normal(2, 3, 2), 6), /k = 6 of a bank of 5 rows/);
  });
});
