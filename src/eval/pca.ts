import { JepaError } from '../base/errors.js';
import { eigh, type Matrix, matrix, multiply, transpose } from '../base/linalg.js';
import { centred, columnMeans, features, type Samples } from './samples.js';

export interface PrincipalComponents {
  readonly mean: Float64Array;
  /** [components, width] unit rows, by falling variance; the entry of largest magnitude of each is positive. */
  readonly components: Matrix;
  /** Variance along each component (divisor n - 1), and its share of the total. */
  readonly explainedVariance: Float64Array;
  readonly explainedVarianceRatio: Float64Array;
  /** [samples, components] of the centred samples. */
  readonly projections: Matrix;
}

/** Principal components of x [samples, width]. */
export function principalComponents(x: Samples, count: number): PrincipalComponents {
  const samples = features('PCA', x);
  const { rows, columns } = samples;
  if (count > columns || rows < 2)
    throw new JepaError(
      `PCA: ${count} components of features [${rows}, ${columns}]; ask for fewer or give more samples`,
    );
  const deviations = centred(samples);
  const { values, vectors } = eigh(multiply(deviations, deviations, true));
  const components = matrix(count, columns);
  for (let c = 0; c < count; c++) {
    const from = columns - 1 - c;
    const vector = vectors.data.subarray(from * columns, (from + 1) * columns);
    const largest = vector.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best));
    components.data.set(
      vector.map((value) => value * Math.sign(largest)),
      c * columns,
    );
  }
  const descending = values.toReversed().map((value) => Math.max(0, value));
  const total = descending.reduce((sum, value) => sum + value, 0);
  return {
    mean: columnMeans(samples),
    components,
    explainedVariance: descending.slice(0, count).map((value) => value / (rows - 1)),
    explainedVarianceRatio: descending.slice(0, count).map((value) => value / total),
    projections: multiply(deviations, transpose(components)),
  };
}

/**
 * Feature maps as colours: the first three components of the tokens [tokens, width] of one image, each scaled to 0 .. 1
 * over the image. Returns the components too, and bytes [tokens, 3].
 */
export function pcaRgb(x: Samples): PrincipalComponents & { readonly rgb: Matrix; readonly bytes: Uint8Array } {
  const pca = principalComponents(x, 3);
  const { rows, columns, data } = pca.projections;
  const rgb = matrix(rows, columns);
  for (let c = 0; c < columns; c++) {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let i = c; i < data.length; i += columns) {
      low = Math.min(low, data[i]);
      high = Math.max(high, data[i]);
    }
    // A component without variance is shown as black.
    for (let i = c; i < data.length; i += columns) rgb.data[i] = high > low ? (data[i] - low) / (high - low) : 0;
  }
  return { ...pca, rgb, bytes: Uint8Array.from(rgb.data, (value) => Math.round(255 * value)) };
}
