import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRandom } from '../../src/base/random.js';
import { averageRanks, kendall } from '../../src/eval/correlation.js';
import { segmentationScores } from '../../src/eval/dense.js';
import { bootstrapIndices, normalQuantile, quantile, welchTest, wilson } from '../../src/eval/intervals.js';
import { knnVote, nearestNeighbours } from '../../src/eval/knn.js';
import { minimise } from '../../src/eval/lbfgs.js';
import { fitLogistic, predictProbabilities } from '../../src/eval/logistic.js';
import { pcaRgb } from '../../src/eval/pca.js';
import { auroc, averagePrecision } from '../../src/eval/ranking.js';
import { fitRidge } from '../../src/eval/ridge.js';
import type { Samples } from '../../src/eval/samples.js';
import { unbiasedHsic } from '../../src/eval/similarity.js';
import { alphaReq, lidar, rankme, spectrum } from '../../src/eval/spectrum.js';
import { featureStd } from '../../src/eval/spread.js';

function normals(seed: number, ...shape: number[]): Samples & { data: Float32Array } {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  createRandom(seed).fillNormal(data);
  return { shape, data };
}

function near(got: number, wanted: number, tolerance: number, what = 'value'): void {
  assert.ok(Math.abs(got - wanted) <= tolerance, `${what}: ${got} instead of ${wanted}`);
}

test('closed forms of spectra', () => {
  const identity = { shape: [6, 6], data: Float64Array.from({ length: 36 }, (_, i) => (i % 7 === 0 ? 2 : 0)) };
  near(rankme(identity).value, 6, 1e-5);
  // Columns of a 4 x 3 Hadamard matrix scaled by 2, 1, 1: covariance eigenvalues (4, 1, 1) x 4 / 3.
  const hadamard = { shape: [4, 3], data: [2, 1, 1, -2, 1, -1, 2, -1, -1, -2, -1, 1] };
  const { eigenvalues, participationRatio, stableRank, effectiveRank } = spectrum(hadamard);
  [16 / 3, 4 / 3, 4 / 3].forEach((value, i) => {
    near(eigenvalues[i], value, 1e-14);
  });
  near(participationRatio, 36 / 18, 1e-14);
  near(stableRank, 1.5, 1e-14);
  near(effectiveRank, Math.exp(-(2 / 3) * Math.log(2 / 3) - (1 / 3) * Math.log(1 / 6)), 1e-14);
  assert.equal(rankme({ shape: [3, 2], data: [0, 0, 0, 0, 0, 0] }).value, 1);
});

test('alpha-ReQ finds the exponent of an exact power law', () => {
  // Orthogonal columns (cosines) with variance k^-1.5.
  const [n, d] = [240, 60];
  const data = Float64Array.from({ length: n * d }, (_, i) => {
    const [row, k] = [Math.floor(i / d), (i % d) + 1];
    return k ** -0.75 * Math.cos((Math.PI * k * (row + 0.5)) / n);
  });
  const { alpha, weightedR2, unweightedSlope } = alphaReq({ shape: [n, d], data }, { firstIndex: 3, endIndex: 50 });
  near(alpha, 1.5, 1e-10);
  near(unweightedSlope, 1.5, 1e-10);
  near(weightedR2, 1, 1e-10);
  assert.throws(() => alphaReq({ shape: [n, d], data }), /alpha-ReQ: the fit over eigenvalues 10 to 99/);
});

test('LiDAR: scatter of views shrinks the rank of objects', () => {
  const objects = normals(1, 50, 8);
  const views = (noise: number) => {
    const jitter = normals(2, 50, 5, 8);
    const data = jitter.data.map((value, i) => noise * value + objects.data[Math.floor(i / 40) * 8 + (i % 8)]);
    return { shape: [50, 5, 8], data };
  };
  assert.ok(lidar(views(0.01)).value > 6);
  // Objects that differ along one channel only.
  const line = {
    ...views(0.1),
    data: views(0.1).data.map((value, i) =>
      i % 8 === 0 ? 30 * value : value - objects.data[Math.floor(i / 40) * 8 + (i % 8)],
    ),
  };
  assert.ok(lidar(line).value < 1.2);
  assert.throws(() => lidar({ shape: [2, 1, 3], data: new Float32Array(6) }), /at least two of each/);
});

test('feature std: mean cosine is that of all pairs', () => {
  const x = normals(3, 20, 7);
  let sum = 0;
  for (let i = 0; i < 20; i++) {
    for (let j = 0; j < 20; j++) {
      if (i === j) continue;
      const [a, b] = [i, j].map((row) => x.data.subarray(row * 7, row * 7 + 7));
      const dot = (u: Float32Array, v: Float32Array) => u.reduce((total, value, c) => total + value * v[c], 0);
      sum += dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    }
  }
  near(featureStd(x).meanCosine, sum / 380, 1e-12);
});

test('unbiased HSIC averages to zero for independent features', () => {
  const values = Array.from({ length: 200 }, (_, i) => unbiasedHsic(normals(2 * i, 12, 3), normals(2 * i + 1, 12, 3)));
  const mean = values.reduce((a, b) => a + b, 0) / 200;
  const error = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / 200 / 200);
  assert.ok(Math.abs(mean) < 4 * error, `${mean} +- ${error}`);
});

test('ranks, Kendall, AUROC and average precision against counting pairs', () => {
  const scores = fc.array(fc.tuple(fc.integer({ min: 0, max: 6 }), fc.boolean()), { minLength: 4, maxLength: 30 });
  fc.assert(
    fc.property(scores, (pairs) => {
      const values = pairs.map(([value]) => value);
      const labels = pairs.map(([, label]) => Number(label));
      const ranks = averageRanks(values);
      values.forEach((value, i) => {
        const below = values.filter((other) => other < value).length;
        const equal = values.filter((other) => other === value).length;
        near(ranks[i], below + (equal + 1) / 2, 1e-12);
      });
      const positives = values.filter((_, i) => labels[i] === 1);
      const negatives = values.filter((_, i) => labels[i] === 0);
      if (positives.length === 0 || negatives.length === 0) {
        assert.throws(() => auroc(values, labels), /it needs both classes/);
        return;
      }
      let wins = 0;
      for (const p of positives) for (const q of negatives) wins += p > q ? 1 : p === q ? 0.5 : 0;
      near(auroc(values, labels), wins / (positives.length * negatives.length), 1e-12);
      let precision = 0;
      for (const p of positives) {
        const above = pairs.filter(([value]) => value >= p);
        precision += above.filter(([, label]) => label).length / above.length / positives.length;
      }
      near(averagePrecision(values, labels), precision, 1e-12);
    }),
    { numRuns: 100 },
  );
  near(kendall([1, 2, 3, 4], [1, 3, 2, 4]), 4 / 6, 1e-12);
});

test('k-NN equals a full sort in double', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 900 }),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 40 }),
      (seed, n, m, d) => {
        const [bank, queries] = [normals(seed, n, d), normals(seed + 1, m, d)];
        const k = Math.min(n, 7);
        const { indices, similarities } = nearestNeighbours(bank, queries, k);
        const unit = (x: Float32Array, row: number) => {
          const values = [...x.subarray(row * d, row * d + d)];
          const norm = Math.hypot(...values);
          return values.map((value) => value / norm);
        };
        const rows = Array.from({ length: n }, (_, i) => unit(bank.data, i));
        for (const query of [0, m - 1]) {
          const q = unit(queries.data, query);
          const all = rows.map((row, i) => ({ i, s: row.reduce((sum, value, c) => sum + value * q[c], 0) }));
          all.sort((a, b) => b.s - a.s);
          for (let i = 0; i < k; i++) {
            near(similarities[query * k + i], all[i].s, 1e-12);
            // In one dimension all similarities are +-1.
            if (d > 1) assert.equal(indices[query * k + i], all[i].i);
          }
        }
      },
    ),
    { numRuns: 25 },
  );
});

test('k-NN: equal rows keep the order of the bank, zero rows are similar to nothing, bad input is named', () => {
  const bank = { shape: [4, 2], data: [1, 0, 1, 0, 0, 0, -1, 0] };
  const query = { shape: [1, 2], data: [2, 0] };
  const found = nearestNeighbours(bank, query, 4);
  assert.deepEqual([...found.indices], [0, 1, 2, 3]);
  assert.deepEqual([...found.similarities], [1, 1, 0, -1]);
  assert.deepEqual([...knnVote(found, [1, 1, 0, 0], 2, 1).predictions], [1]);
  assert.throws(() => knnVote(found, [1, 2, 0, 0], 2), /label 2 of bank row 1 is not one of 2 classes/);
  assert.throws(() => nearestNeighbours(bank, query, 5), /k = 5 of a bank of 4 rows/);
  assert.throws(() => nearestNeighbours(bank, { shape: [1, 3], data: [1, 2, 3] }, 1), /width 3 for a bank of width 2/);
  assert.throws(() => nearestNeighbours(bank, { shape: [1, 2], data: [Number.NaN, 1] }, 1), /row 0 of the queries/);
});

test('L-BFGS finds the minimum of the Rosenbrock function', () => {
  const rosenbrock = (x: Float64Array, gradient: Float64Array) => {
    gradient[0] = -2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2);
    gradient[1] = 200 * (x[1] - x[0] ** 2);
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2;
  };
  const options = { tolerance: 1e-10, maxIterations: 200, precondition: () => {} };
  const { point, converged, iterations } = minimise(rosenbrock, Float64Array.of(-1.2, 1), options);
  assert.ok(converged && iterations < 60, `${iterations} iterations`);
  near(point[0], 1, 1e-8);
  near(point[1], 1, 1e-8);
  assert.equal(minimise(rosenbrock, Float64Array.of(-1.2, 1), { ...options, maxIterations: 3 }).converged, false);
});

test('logistic regression: the gradient vanishes at the fit, in both precisions and scalings', () => {
  const [n, d, classes, C] = [1300, 6, 4, 0.7];
  const noise = normals(1, n, d);
  const labels = Int32Array.from({ length: n }, (_, i) => i % classes);
  // Correlated features of very different sizes, one of them constant.
  const data = noise.data.map((value, i) => {
    const [row, c] = [Math.floor(i / d), i % d];
    return c === 5 ? 3 : (value + (labels[row] === c ? 1 : 0) + noise.data[row * d]) * 10 ** (c - 2) + 5;
  });
  const x = { shape: [n, d], data };
  for (const precision of ['float64', 'float32'] as const) {
    for (const standardise of [false, true]) {
      const model = fitLogistic(x, labels, classes, { C, precision, standardise, tolerance: 1e-7 });
      const p = predictProbabilities(model, x).data;
      const tolerance = precision === 'float64' ? 1e-6 : 1e-4;
      const column = (j: number) => Float64Array.from({ length: n }, (_, i) => data[i * d + j]);
      for (let j = 0; j < d; j++) {
        const values = column(j);
        const mean = values.reduce((a, b) => a + b, 0) / n;
        const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)) || 1;
        const scale = standardise ? std : 1;
        for (let c = 0; c < classes; c++) {
          let slope = (model.weights.data[c * d + j] * scale) / C;
          let intercept = 0;
          for (let i = 0; i < n; i++) {
            const error = p[i * classes + c] - Number(labels[i] === c);
            slope += (error * (values[i] - mean)) / scale;
            intercept += error;
          }
          near(slope / n, 0, tolerance * (std / scale), `${precision} slope ${j} ${c}`);
          near(intercept / n, 0, tolerance, 'intercept');
        }
      }
    }
  }
});

test('logistic regression: bad labels are named', () => {
  const x = normals(1, 4, 2);
  assert.throws(() => fitLogistic(x, [0, 1, 2, 1], 2), /label 2 is 2; labels are whole numbers from 0 to 1/);
  assert.throws(() => fitLogistic(x, [0, 1], 2), /2 labels for 4 samples/);
  assert.throws(() => fitLogistic(x, [0, 0, 0, 0], 1), /needs at least 2/);
});

test('ridge: dependent features without a penalty are named', () => {
  const x = { shape: [3, 2], data: [1, 2, 2, 4, 3, 6] };
  assert.throws(
    () => fitRidge(x, { shape: [3, 1], data: [1, 2, 3] }, 0),
    /features of 3 samples depend on each other; use a penalty/,
  );
  const { weights, intercept } = fitRidge({ shape: [3, 1], data: [1, 2, 3] }, { shape: [3, 1], data: [3, 5, 7] }, 0);
  near(weights.data[0], 2, 1e-12);
  near(intercept[0], 1, 1e-12);
});

test('PCA colours: full range, and black where a component has no variance', () => {
  const flat = pcaRgb({ shape: [4, 3], data: [0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0] });
  assert.deepEqual([...flat.bytes], [0, 0, 0, 85, 0, 0, 170, 0, 0, 255, 0, 0]);
  assert.throws(() => pcaRgb({ shape: [4, 2], data: new Float32Array(8) }), /3 components of features \[4, 2\]/);
});

test('segmentation: classes that do not occur are left out of means', () => {
  const scores = segmentationScores({ shape: [4], data: [0, 0, 1, 1] }, { shape: [4], data: [0, 1, 1, 9] }, 3, 9);
  assert.deepEqual([...scores.confusion], [1, 0, 0, 1, 1, 0, 0, 0, 0]);
  assert.ok(Number.isNaN(scores.iou[2]));
  assert.equal(scores.meanIou, 0.5);
  assert.equal(scores.pixelAccuracy, 2 / 3);
  assert.equal(scores.meanAccuracy, 0.75);
});

test('normal and Student quantiles of the tables', () => {
  const table = [
    [0.5, 0],
    [0.8413447460685429, 1],
    [0.95, 1.6448536269514722],
    [0.975, 1.959963984540054],
    [0.999, 3.090232306167813],
  ];
  for (const [p, z] of table) near(normalQuantile(p), z, 1e-12);
  near(normalQuantile(0.025), -1.959963984540054, 1e-12);
  // Two samples of two: (0, 2) and (a, a + 2) have t = -a / sqrt(2) with 2 degrees, where P(|T| > t) = 1 - t / sqrt(t^2 + 2).
  for (const a of [0.1, 1, 3, 40]) {
    const { t, p, degreesOfFreedom } = welchTest([0, 2], [a, a + 2]);
    near(t, -a / Math.SQRT2, 1e-12);
    near(degreesOfFreedom, 2, 1e-12);
    near(p, 1 - -t / Math.sqrt(t * t + 2), 1e-12);
  }
});

test('intervals: quantiles, resamples, shares out of range', () => {
  assert.equal(quantile([3, 1, 2], 0.5), 2);
  assert.equal(quantile([0, 10], 0.25), 2.5);
  const indices = bootstrapIndices(createRandom(1), 10, 500);
  assert.equal(indices.length, 5000);
  assert.ok(indices.every((index) => index >= 0 && index < 10));
  assert.throws(() => wilson(5, 0), /5 of 0 is no share/);
  const [low, high] = wilson(7, 10, 0.9);
  assert.ok(low > wilson(7, 10)[0] && high < wilson(7, 10)[1]);
});
