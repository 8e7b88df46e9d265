import type { HostTensor } from '../../src/base/tensor.js';
import { kendall, pearson, spearman } from '../../src/eval/correlation.js';
import { flowError, segmentationScores } from '../../src/eval/dense.js';
import { bootstrap, welchTest, wilson } from '../../src/eval/intervals.js';
import { knnVote, nearestNeighbours } from '../../src/eval/knn.js';
import { accuracy, fitLogistic, predictedClasses, predictProbabilities } from '../../src/eval/logistic.js';
import { pcaRgb } from '../../src/eval/pca.js';
import { auroc, averagePrecision, retrievalRanks } from '../../src/eval/ranking.js';
import { fitRidge, predictLinear, regressionScores } from '../../src/eval/ridge.js';
import { mean, type Samples, variance } from '../../src/eval/samples.js';
import { frechetDistance, linearCka, minibatchCka, unbiasedCka, unbiasedHsic } from '../../src/eval/similarity.js';
import { alphaReq, lidar, rankme, spectrum } from '../../src/eval/spectrum.js';
import { alignmentUniformity, featureStd, tokenStd } from '../../src/eval/spread.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';

interface StatsCase {
  name: string;
  metric: string;
  // biome-ignore lint/suspicious/noExplicitAny: each metric has its own settings
  attrs: any;
  inputs: Record<string, string>;
  expected: Record<string, number | { key: string }>;
  tolerance: Tolerance;
}

type Inputs = Record<string, Samples & { data: ArrayLike<number> }>;
/** What a metric gives: a number, or an array whose shape is that of the expected one. */
type Got = Record<string, number | ArrayLike<number>>;

const rowsOf = (x: Samples, rows: ArrayLike<number>): Samples => {
  const width = x.shape[1];
  const data = Array.from(rows).flatMap((row) => Array.from({ length: width }, (_, j) => x.data[row * width + j]));
  return { shape: [rows.length, width], data };
};

const at = (x: Samples, index: number) => x.data[index];

/** Subtracts the mean: intercepts of a softmax are fixed up to a constant only. */
const withoutMean = (values: ArrayLike<number>) => Float64Array.from(values, (value) => value - mean(values));

const METRICS: Record<string, (inputs: Inputs, attrs: StatsCase['attrs'], record: StatsCase) => Got> = {
  rankme: ({ x }, attrs) => ({ ...rankme(x, attrs) }),
  spectrum: ({ x }) => ({ ...spectrum(x) }),
  'feature-std': ({ x }) => ({ ...featureStd(x) }),
  'alignment-uniformity': ({ a, b }, attrs) => ({ ...alignmentUniformity(a, b, attrs) }),
  'token-std': ({ x }) => ({ ...tokenStd(x) }),
  'alpha-req': ({ x }, attrs) => ({ ...alphaReq(x, attrs) }),
  lidar: ({ x }, attrs) => ({ ...lidar(x, attrs) }),
  cka: ({ x, y, batches }) => {
    const [count, size] = batches.shape;
    const pairs = Array.from({ length: count }, (_, b) => {
      const rows = Array.from({ length: size }, (_, i) => at(batches, b * size + i));
      return [rowsOf(x, rows), rowsOf(y, rows)] as const;
    });
    return {
      linear: linearCka(x, y),
      unbiased: unbiasedCka(x, y),
      minibatch: minibatchCka(pairs),
      hsicXX: unbiasedHsic(x, x),
      hsicXY: unbiasedHsic(x, y),
    };
  },
  'frechet-distance': ({ x, y }) => ({ value: frechetDistance(x, y) }),
  correlation: ({ x, y }) => ({
    pearson: pearson(x.data, y.data),
    spearman: spearman(x.data, y.data),
    kendall: kendall(x.data, y.data),
  }),
  knn: ({ bank, bankLabels, queries, queryLabels }, { k, temperature, classes }) => {
    const neighbours = nearestNeighbours(bank, queries, k);
    const { scores, predictions } = knnVote(neighbours, bankLabels.data, classes, temperature);
    return {
      neighbours: neighbours.indices,
      scores: scores.data,
      predictions,
      top1: accuracy(predictions, queryLabels.data),
    };
  },
  ridge: ({ x, y, xTest, yTest }, { penalty }) => {
    const model = fitRidge(x, y, penalty);
    const predictions = predictLinear(model, xTest);
    return {
      weights: model.weights.data,
      intercept: model.intercept,
      predictions: predictions.data,
      ...regressionScores(predictions, yTest),
    };
  },
  logistic: ({ x, y, xTest, yTest }, { C, classes }, { expected }) => {
    const options = { C, standardise: false, tolerance: 1e-9 };
    const model = fitLogistic(x, y.data, classes, options);
    const probabilities = predictProbabilities(model, xTest);
    const objective = expected.objective as number;
    return {
      // Not larger than the reference's: a lower value is as good as an equal one.
      objective: model.objective <= objective * (1 + 1e-6) ? objective : model.objective,
      weights: model.weights.data,
      intercept: classes > 2 ? withoutMean(model.intercept) : model.intercept,
      probabilities: probabilities.data,
      accuracy: accuracy(predictedClasses(probabilities), yTest.data),
    };
  },
  'pca-rgb': ({ x }) => {
    const { components, explainedVariance, explainedVarianceRatio, projections, rgb, bytes } = pcaRgb(x);
    return {
      components: components.data,
      explainedVariance,
      explainedVarianceRatio,
      projections: projections.data,
      rgb: rgb.data,
      bytes,
    };
  },
  'roc-auc': ({ scores, labels }) => ({
    auroc: auroc(scores.data, labels.data),
    averagePrecision: averagePrecision(scores.data, labels.data),
  }),
  mrr: ({ predictions, candidates, targets }) => ({ ...retrievalRanks(predictions, candidates, targets.data) }),
  segmentation: ({ prediction, target }, { classes, ignore }) => ({
    ...segmentationScores(prediction, target, classes, ignore),
  }),
  'flow-error': ({ prediction, target }) => ({ ...flowError(prediction, target) }),
  bootstrap: ({ x, y, indices }, { level }) => {
    const n = x.data.length;
    const picked = (values: ArrayLike<number>, rows: Int32Array) => mean(Array.from(rows, (row) => values[row]));
    const resamples = indices.data as Int32Array;
    const meanOf = bootstrap(resamples, n, (rows) => picked(x.data, rows), level);
    const meanOf90 = bootstrap(resamples, n, (rows) => picked(x.data, rows), 0.9);
    const paired = bootstrap(resamples, n, (rows) => picked(x.data, rows) - picked(y.data, rows), level);
    return {
      meanCi: meanOf.interval,
      meanCi90: meanOf90.interval,
      standardError: meanOf.standardError,
      pairedDifferenceCi: paired.interval,
      mean: mean(x.data),
    };
  },
  'bootstrap-auc': ({ scores, labels, indices }, { level }) => {
    const { interval } = bootstrap(
      indices.data as Int32Array,
      scores.data.length,
      (rows) =>
        auroc(
          Array.from(rows, (row) => at(scores, row)),
          Array.from(rows, (row) => at(labels, row)),
        ),
      level,
    );
    return { auroc: auroc(scores.data, labels.data), ci: interval };
  },
  wilson: (_, { successes, trials, level }) => {
    const [low, high] = wilson(successes, trials, level);
    return { low, high };
  },
  't-tests': ({ a, b }) => {
    const { t, p } = welchTest(a.data, b.data);
    return { welchT: t, welchP: p, meanA: mean(a.data), stdA: Math.sqrt(variance(a.data)) };
  },
};

const harness: Harness = async function* (folder) {
  const { file, cases } = readCases<{ file: string; cases: StatsCase[] }>(folder);
  const tensors = readTensors(folder, file);
  for (const record of cases) {
    yield attempt(record.name, () => {
      const metric = METRICS[record.metric];
      if (!metric) return [`unknown metric ${record.metric}`];
      const inputs = Object.fromEntries(
        Object.entries(record.inputs).map(([name, key]) => [name, tensors.get(key) as HostTensor<'float32' | 'int32'>]),
      );
      const got = metric(inputs, record.attrs, record);
      return Object.entries(record.expected).map(([name, expected]) => compare(record, name, got[name], expected));
    });
  }

  function compare(record: StatsCase, name: string, got: Got[string] | undefined, expected: number | { key: string }) {
    if (got === undefined) return `${name}: not computed`;
    if (typeof expected === 'number') {
      return difference(name, { shape: [], data: [got as number] }, { shape: [], data: [expected] }, record.tolerance);
    }
    const wanted = tensors.get(expected.key)!;
    const values = got as ArrayLike<number>;
    if (values.length !== wanted.data.length)
      return `${name}: ${values.length} values instead of ${wanted.data.length}`;
    const tolerance = name === 'bytes' ? { rtol: 0, atol: 1 } : record.tolerance;
    // Intercepts of more than two classes are compared without their mean, on both sides.
    const free = record.metric === 'logistic' && name === 'intercept' && record.attrs.classes > 2;
    const reference = free ? withoutMean(wanted.data as Float64Array) : wanted.data;
    return difference(name, { shape: wanted.shape, data: values }, { shape: wanted.shape, data: reference }, tolerance);
  }
};

export default harness;
