import { abs, square, sub } from '../graph/ops/elementwise.js';
import { cosineSimilarity, smoothL1Loss } from '../graph/ops/losses.js';
import { mean } from '../graph/ops/reduce.js';
import { operatorError, sameShape, type Tensor } from '../graph/tensor.js';

/** How far a prediction is from its target: the energy of the pair. */
export type Distance = 'smooth-l1' | 'l1' | 'l2' | 'cosine';

export const DISTANCES: readonly Distance[] = ['smooth-l1', 'l1', 'l2', 'cosine'];

/**
 * Energy of each token: predictions and targets [..., width] -> [...]. Means over the width of the smooth L1 distance with
 * threshold 1, of |d|, or of d^2; or 1 - cosine.
 */
export function tokenEnergy(prediction: Tensor, target: Tensor, distance: Distance = 'smooth-l1'): Tensor {
  if (!sameShape(prediction.shape, target.shape)) {
    throw operatorError('energy', 'prediction and target must have one shape', prediction, target);
  }
  switch (distance) {
    case 'smooth-l1':
      return mean(smoothL1Loss(prediction, target, 1, 'none'), -1);
    case 'l1':
      return mean(abs(sub(prediction, target)), -1);
    case 'l2':
      return mean(square(sub(prediction, target)), -1);
    case 'cosine':
      return sub(1, cosineSimilarity(prediction, target));
    default:
      throw operatorError('energy', `unknown distance '${distance}': choose one of ${DISTANCES.join(', ')}`);
  }
}

/** Mean energy over all tokens, a scalar: the loss of a joint-embedding predictive method. */
export const meanEnergy = (prediction: Tensor, target: Tensor, distance: Distance = 'smooth-l1'): Tensor =>
  mean(tokenEnergy(prediction, target, distance));
