import { gruCell } from '../graph/ops/recurrent.js';
import type { Tensor } from '../graph/tensor.js';
import { STATE_NORM_EPS } from './impala.js';
import { norm } from './transformer.js';
import type { ParameterSpec, Weights } from './weights.js';

/** A GRU whose hidden state is the state of the world (EB-JEPA, `RNNPredictor`), under PyTorch's names. */
export const gruSpec = (prefix: string, actions: number, width: number): [string, ParameterSpec][] => {
  // PyTorch draws uniformly within 1 / sqrt(width): the same variance.
  const std = 1 / Math.sqrt(3 * width);
  const drawn = (name: string, ...shape: number[]): [string, ParameterSpec] => [
    `${prefix}${name}`,
    { shape, init: { kind: 'normal', std }, trainable: true },
  ];
  return [
    drawn('weight_ih_l0', 3 * width, actions),
    drawn('weight_hh_l0', 3 * width, width),
    drawn('bias_ih_l0', 3 * width),
    drawn('bias_hh_l0', 3 * width),
  ];
};

/**
 * The next state, layer-normed by `finalNorm`'s weights (the encoder's own, shared). Shapes: state [batch, width], action
 * [batch, numbers].
 */
export function gruPredictor(state: Tensor, action: Tensor, w: Weights, finalNorm?: Weights): Tensor {
  const next = gruCell(action, state, {
    wIh: w('weight_ih_l0'),
    wHh: w('weight_hh_l0'),
    bIh: w('bias_ih_l0'),
    bHh: w('bias_hh_l0'),
  });
  return finalNorm ? norm(next, finalNorm, STATE_NORM_EPS) : next;
}
