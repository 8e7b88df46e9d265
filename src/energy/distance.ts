import { abs, add, mul, neg, powScalar, square, sub } from '../graph/ops/elementwise.js';
import { cosineSimilarity, smoothL1Loss } from '../graph/ops/losses.js';
import { logSoftmax } from '../graph/ops/normalise.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { operatorError, sameShape, type Tensor } from '../graph/tensor.js';

/** How far a prediction is from its target: the energy of the pair. */
export type Distance = DistanceName | SmoothL1 | CrossEntropy;

export type DistanceName = 'smooth-l1' | 'l1' | 'l2' | 'cosine' | 'normalised-l2';

export const DISTANCES: readonly DistanceName[] = ['smooth-l1', 'l1', 'l2', 'cosine', 'normalised-l2'];

/** Smooth L1 whose quadratic part ends at `beta` (Point-JEPA 2, data2vec's text 4). */
export interface SmoothL1 {
  readonly kind: 'smooth-l1';
  readonly beta: number;
}

/** -sum target log softmax(prediction / temperature): targets are distributions (S-JEPA, DINO). */
export interface CrossEntropy {
  readonly kind: 'cross-entropy';
  readonly temperature: number;
}

/**
 * Energy of each token: predictions and targets [..., width] -> [...]. Means over the width of the smooth L1 distance with
 * threshold 1, of |d|, or of d^2; 1 - cosine; 2 - 2 cosine, the squared distance of the unit vectors; cross-entropy.
 */
export function tokenEnergy(prediction: Tensor, target: Tensor, distance: Distance = 'smooth-l1'): Tensor {
  if (!sameShape(prediction.shape, target.shape)) {
    throw operatorError('energy', 'prediction and target must have one shape', prediction, target);
  }
  if (typeof distance === 'object') {
    return distance.kind === 'smooth-l1'
      ? mean(smoothL1Loss(prediction, target, distance.beta, 'none'), -1)
      : neg(sum(mul(target, logSoftmax(mul(prediction, 1 / distance.temperature))), -1));
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
    case 'normalised-l2':
      return mul(sub(1, cosineSimilarity(prediction, target)), 2);
    default:
      throw operatorError('energy', `unknown distance '${distance}': choose one of ${DISTANCES.join(', ')}`);
  }
}

/** Mean energy over all tokens, a scalar: the loss of a joint-embedding predictive method. */
export const meanEnergy = (prediction: Tensor, target: Tensor, distance: Distance = 'smooth-l1'): Tensor =>
  mean(tokenEnergy(prediction, target, distance));

/**
 * Mean of |prediction - target|^exponent / exponent over all numbers, a scalar (V-JEPA's loss; 1 is the L1 distance).
 * Both of one shape.
 */
export function meanPower(prediction: Tensor, target: Tensor, exponent = 1): Tensor {
  if (!sameShape(prediction.shape, target.shape)) {
    throw operatorError('energy', 'prediction and target must have one shape', prediction, target);
  }
  const distance = abs(sub(prediction, target));
  if (exponent === 1) return mean(distance);
  // Far below the last digit of any distance: the root in a broken exponent has no slope at zero itself.
  const base = Number.isInteger(exponent) ? distance : add(distance, 1e-30);
  return mul(mean(powScalar(base, exponent)), 1 / exponent);
}
