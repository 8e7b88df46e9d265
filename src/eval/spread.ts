import { JepaError } from '../base/errors.js';
import { type Matrix, matrix, multiply, transpose } from '../base/linalg.js';
import { centred, columnStds, features, mean, normalisedRows, type Samples } from './samples.js';

/** Measures of how far samples are apart: standard deviations, cosines, alignment and uniformity. All in double. */

export interface FeatureStd {
  /** Standard deviation over samples (divisor n - 1): mean and smallest of the channels. */
  readonly meanStd: number;
  readonly minStd: number;
  /** The mean after every row was divided by its norm, times sqrt(width): 1 for directions spread evenly, 0 for one direction. */
  readonly normalizedStd: number;
  readonly normalizedStdTimesSqrtD: number;
  /** Mean cosine between different samples, and the same after the mean sample was subtracted. */
  readonly meanCosine: number;
  readonly meanCosineCentred: number;
}

/** How far samples [n, features] are apart, n >= 2. Throws a `JepaError` for fewer. */
export function featureStd(x: Samples): FeatureStd {
  const samples = features('feature std', x);
  if (samples.rows < 2) throw new JepaError('feature std: needs at least two samples');
  const stds = columnStds(samples);
  const normalizedStd = mean(columnStds(normalisedRows(samples)));
  return {
    meanStd: mean(stds),
    minStd: stds.reduce((least, value) => Math.min(least, value)),
    normalizedStd,
    normalizedStdTimesSqrtD: normalizedStd * Math.sqrt(samples.columns),
    meanCosine: meanCosine(samples),
    meanCosineCentred: meanCosine(centred(samples)),
  };
}

/** Over pairs i != j: (|sum of unit rows|^2 - sum of their squares) / (n (n - 1)). */
function meanCosine(x: Matrix): number {
  const { rows, columns, data } = normalisedRows(x);
  const total = new Float64Array(columns);
  let squares = 0;
  for (let i = 0; i < data.length; i++) {
    total[i % columns] += data[i];
    squares += data[i] * data[i];
  }
  let all = 0;
  for (const value of total) all += value * value;
  return (all - squares) / (rows * (rows - 1));
}

export interface AlignmentUniformity {
  /** Mean squared distance between the two views of a sample. */
  readonly alignment: number;
  /** log of the mean over pairs i < j of exp(-t squared distance); lower is more uniform. */
  readonly uniformity: number;
}

/** Alignment of views a, b and uniformity of a on the unit sphere (Wang and Isola, ICML 2020). */
export function alignmentUniformity(a: Samples, b: Samples, { t = 2 } = {}): AlignmentUniformity {
  const [left, right] = [a, b].map((x) => normalisedRows(features('alignment and uniformity', x)));
  if (left.rows !== right.rows || left.columns !== right.columns) {
    throw new JepaError(
      `alignment: views of shapes [${a.shape.join(', ')}] and [${b.shape.join(', ')}] do not pair up`,
    );
  }
  let distances = 0;
  for (let i = 0; i < left.data.length; i++) distances += (left.data[i] - right.data[i]) ** 2;
  return { alignment: distances / left.rows, uniformity: uniformity(left, t) };
}

/** Rows whose inner products with all others are formed at a time. */
const BLOCK = 256;

function uniformity(unit: Matrix, t: number): number {
  const { rows, columns, data } = unit;
  const others = transpose(unit);
  let total = 0;
  for (let from = 0; from < rows; from += BLOCK) {
    const block = matrix(
      Math.min(BLOCK, rows - from),
      columns,
      data.subarray(from * columns, Math.min(rows, from + BLOCK) * columns),
    );
    const cosines = multiply(block, others);
    for (let i = 0; i < block.rows; i++) {
      for (let j = from + i + 1; j < rows; j++) total += Math.exp(-t * (2 - 2 * cosines.data[i * rows + j]));
    }
  }
  return Math.log(total / ((rows * (rows - 1)) / 2));
}

export interface TokenStd {
  /** Std over samples for each position and channel, averaged over both; and before the average over positions. */
  readonly acrossSamples: number;
  readonly perPosition: Float64Array;
  /** Std over the positions of a sample, averaged over samples and channels. */
  readonly acrossPositions: number;
  /** Std over samples of the mean over positions. */
  readonly pooled: number;
}

/**
 * Spread of token features x [samples, positions, channels]. Features that depend on the position only are a collapse
 * that the spread across positions does not show: acrossSamples is then near 0.
 */
export function tokenStd(x: Samples): TokenStd {
  if (x.shape.length !== 3)
    throw new JepaError(`token std: features must be [samples, positions, channels], not [${x.shape.join(', ')}]`);
  const [samples, positions, channels] = x.shape;
  // One sample a row: columns are (position, channel).
  const bySample = features('token std', { shape: [samples, positions * channels], data: x.data });
  const stds = columnStds(bySample);
  const perPosition = Float64Array.from({ length: positions }, (_, position) =>
    mean(stds.subarray(position * channels, (position + 1) * channels)),
  );
  const pooled = matrix(samples, channels);
  let acrossPositions = 0;
  for (let sample = 0; sample < samples; sample++) {
    const tokens = matrix(
      positions,
      channels,
      bySample.data.subarray(sample * positions * channels, (sample + 1) * positions * channels),
    );
    acrossPositions += mean(columnStds(tokens)) / samples;
    for (let i = 0; i < tokens.data.length; i++)
      pooled.data[sample * channels + (i % channels)] += tokens.data[i] / positions;
  }
  return { acrossSamples: mean(stds), perPosition, acrossPositions, pooled: mean(columnStds(pooled)) };
}
