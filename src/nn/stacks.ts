import { relu } from '../graph/ops/elementwise.js';
import { linear } from '../graph/ops/product.js';
import type { Tensor } from '../graph/tensor.js';
import { batchNorm, type NormMode } from './batch-norm.js';
import { type ParameterSpec, under, type Weights } from './weights.js';

/** Small stacks of linear layers whose parameters are numbered as PyTorch's `Sequential` numbers its modules. */

/** A linear layer's spread at the start: PyTorch's default has the variance 1 / (3 inputs). */
export const denseSpec = (name: string, out: number, into: number, bias = true): [string, ParameterSpec][] => {
  const init = { kind: 'normal', std: 1 / Math.sqrt(3 * into) } as const;
  const weight: [string, ParameterSpec] = [`${name}.weight`, { shape: [out, into], init, trainable: true }];
  return bias
    ? [weight, [`${name}.bias`, { shape: [out], init: { kind: 'fill', value: 0 }, trainable: true }]]
    : [weight];
};

export const dense = (x: Tensor, w: Weights, bias = true): Tensor =>
  linear(x, w('weight'), bias ? w('bias') : undefined);

/** Linear layers with ReLU between, at 0, 2, 4, ... */
export const reluStackSpec = (prefix: string, widths: readonly number[]): [string, ParameterSpec][] =>
  widths.slice(1).flatMap((out, i) => denseSpec(`${prefix}${2 * i}`, out, widths[i]));

export function reluStack(x: Tensor, w: Weights, layers: number): Tensor {
  let y = x;
  for (let i = 0; i < layers; i++) y = dense(i === 0 ? y : relu(y), under(w, `${2 * i}.`));
  return y;
}

/** Hidden layers with batch norm and ReLU (3 places each), then a linear layer (EB-JEPA, `Projector`: without bias). */
export function projector(rows: Tensor, w: Weights, layers: number, mode: NormMode, lastBias = false): Tensor {
  let x = rows;
  for (let i = 0; i < layers - 1; i++) {
    x = relu(batchNorm(dense(x, under(w, `${3 * i}.`)), under(w, `${3 * i + 1}.`), mode));
  }
  return dense(x, under(w, `${3 * (layers - 1)}.`), lastBias);
}
