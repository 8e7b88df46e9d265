import { batchNormEval, batchNormTrain } from '../graph/ops/normalise.js';
import type { Tensor } from '../graph/tensor.js';
import { fillInit } from './transformer.js';
import type { ParameterSpec, Weights } from './weights.js';

/**
 * Batch normalisation with PyTorch's parameters: weight, bias, running_mean, running_var. A graph that trains may use one norm
 * several times; each use renews the running statistics that the one before left.
 */
export interface NormMode {
  /** Normalise by the batch's own statistics (otherwise by the running ones). */
  readonly train: boolean;
  /** Running statistics after the graph, by the parameter they replace; filled while a training graph is built. */
  readonly renewed: Map<Tensor, Tensor>;
}

export const normMode = (train: boolean): NormMode => ({ train, renewed: new Map() });

export const batchNormSpec = (name: string, width: number): [string, ParameterSpec][] => [
  [`${name}.weight`, fillInit([width], 1)],
  [`${name}.bias`, fillInit([width], 0)],
  [`${name}.running_mean`, { shape: [width], init: { kind: 'fill', value: 0 }, trainable: false }],
  [`${name}.running_var`, { shape: [width], init: { kind: 'fill', value: 1 }, trainable: false }],
];

/** x [batch, channels, ...]. */
export function batchNorm(x: Tensor, w: Weights, { train, renewed }: NormMode): Tensor {
  const [mean, variance] = [w('running_mean'), w('running_var')];
  const affine = { weight: w('weight'), bias: w('bias') };
  const [nowMean, nowVariance] = [renewed.get(mean) ?? mean, renewed.get(variance) ?? variance];
  if (!train) return batchNormEval(x, nowMean, nowVariance, affine);
  const { out, newRunningMean, newRunningVar } = batchNormTrain(x, nowMean, nowVariance, affine);
  renewed.set(mean, newRunningMean);
  renewed.set(variance, newRunningVar);
  return out;
}
