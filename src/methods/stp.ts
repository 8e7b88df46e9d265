import { mulDims, subDims } from '../graph/dims.js';
import { atan2, clip, div, mul, sqrt, square, sub } from '../graph/ops/elementwise.js';
import { cosineSimilarity, mseLoss } from '../graph/ops/losses.js';
import { narrow, reshape } from '../graph/ops/move.js';
import { linear, matmul } from '../graph/ops/product.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { operatorError, type Tensor } from '../graph/tensor.js';
import type { ModuleSpec, ParameterSpec } from '../nn/weights.js';

/**
 * Semantic tube prediction (arXiv 2602.22617): the hidden states of one sequence should run straight, so that the increment over a span
 * points where the increment over the rest does. Added to the next-token loss; needs no second view and no second pass.
 */

/** A learned map of the rest's increment, without bias (Xavier). */
export const tubePredictorSpec = (width: number): ModuleSpec =>
  new Map<string, ParameterSpec>([
    ['M.weight', { shape: [width, width], init: { kind: 'normal', std: Math.sqrt(1 / width) }, trainable: true }],
  ]);

export interface TubeOptions {
  readonly distance?: 'cosine' | 'mse';
  /** [width, width], applied to the first direction of each pair. */
  readonly predictor?: Tensor;
}

/**
 * Distance between two sums of hidden states. Shapes: hidden [batch, tokens, width], their coefficients `directions` [batch,
 * pairs, 2, tokens] (`spanIncrements`, `messageDirections`), weights [batch, pairs]. cosine: 1 - weighted mean cosine;
 * mse: the plain mean square.
 */
export function tubeDistance(
  hidden: Tensor,
  directions: Tensor,
  weights: Tensor,
  { distance = 'cosine', predictor }: TubeOptions = {},
): Tensor {
  const [batch, pairs, two, tokens] = directions.shape;
  const width = hidden.shape[2];
  if (two !== 2 || tokens !== hidden.shape[1])
    throw operatorError('tube', 'needs directions [batch, pairs, 2, tokens]', hidden, directions);
  const sums = reshape(matmul(reshape(directions, [batch, mulDims(pairs, 2), tokens]), hidden), [
    batch,
    pairs,
    2,
    width,
  ]);
  const [from, to] = [0, 1].map((side) => reshape(narrow(sums, 2, side, 1), [batch, pairs, width]));
  const predicted = predictor ? linear(from, predictor) : from;
  if (distance === 'mse') return mseLoss(predicted, to);
  return sub(1, div(sum(mul(weights, cosineSimilarity(predicted, to))), sum(weights)));
}

/**
 * Mean turning angle (radians) along hidden states [batch, tokens, width]: angle k, between the steps to states k + 1 and k + 2,
 * counts `weights` [batch, tokens - 2], whose rows sum to 1 (`turnWeights`).
 */
export function curvature(hidden: Tensor, weights: Tensor): Tensor {
  const tokens = hidden.shape[1];
  const steps = subDims(tokens, 1);
  const moves = sub(narrow(hidden, 1, 1, steps), narrow(hidden, 1, 0, steps));
  const turns = subDims(steps, 1);
  // Just inside of [-1, 1], where the arc cosine has a slope.
  const limit = 1 - 1e-7;
  const cosine = clip(cosineSimilarity(narrow(moves, 1, 0, turns), narrow(moves, 1, 1, turns)), -limit, limit);
  const angles = atan2(sqrt(sub(1, square(cosine))), cosine);
  return mean(sum(mul(angles, weights), 1));
}

/** Weight of the tube in step `step` of `steps`, rising linearly from `start` to `weight`. */
export const tubeWarmup = (start: number, weight: number, step: number, steps: number): number =>
  start + ((weight - start) * step) / (steps - 1);
