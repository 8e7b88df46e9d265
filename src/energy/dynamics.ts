import { mul, square, sub } from '../graph/ops/elementwise.js';
import { cosineSimilarity, mseLoss } from '../graph/ops/losses.js';
import { concat, narrow, reshape, transpose } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { constant, operatorError, staticDim, type Tensor } from '../graph/tensor.js';

/** Losses of states along time. */

const steps = (name: string, x: Tensor, axis: number): number =>
  staticDim(name, x.shape[axis], 'the number of steps', x);

/** x_{t+1} - x_t along an axis. */
export function velocities(x: Tensor, axis: number): Tensor {
  const count = steps('velocities', x, axis);
  return sub(narrow(x, axis, 1, count - 1), narrow(x, axis, 0, count - 1));
}

/** mean (x_{t+1} - x_t)^2 of x [time, batch, width]; 0 for one step: slows states down. */
export function temporalSimilarity(x: Tensor): Tensor {
  if (x.shape.length !== 3) throw operatorError('temporal similarity', 'needs [time, batch, width]', x);
  return steps('temporal similarity', x, 0) <= 1 ? constant(0) : mean(square(velocities(x, 0)));
}

/** Minus the mean cosine of consecutive velocities of x [batch, time, width], from -1 (straight) on (arXiv 2603.12231). */
export function straightening(x: Tensor): Tensor {
  if (x.shape.length !== 3 || steps('straightening', x, 1) < 3)
    throw operatorError('straightening', 'needs [batch, time, width] with 3 steps or more', x);
  const moves = velocities(x, 1);
  const count = steps('straightening', moves, 1);
  return mul(mean(cosineSimilarity(narrow(moves, 1, 0, count - 1), narrow(moves, 1, 1, count - 1))), -1);
}

/** Predicts actions [rows, numbers] from pairs of states [rows, 2 width]. */
export type InverseModel = (pairs: Tensor) => Tensor;

/**
 * Mean squared error of actions told from the states around them (EB-JEPA, `InverseDynamicsLoss`). Shapes: x [time, batch,
 * width], actions [batch, numbers, time]; the last action leads out of the window and is left out. 0 for one step.
 */
export function inverseDynamics(x: Tensor, actions: Tensor, model: InverseModel): Tensor {
  const count = steps('inverse dynamics', x, 0);
  if (count <= 1) return constant(0);
  const width = x.shape[2];
  const rows = (from: number): Tensor => reshape(transpose(narrow(x, 0, from, count - 1), [1, 0, 2]), [-1, width]);
  const wanted = reshape(narrow(transpose(actions, [0, 2, 1]), 1, 0, count - 1), [-1, actions.shape[1]]);
  return mseLoss(model(concat([rows(0), rows(1)], 1)), wanted);
}
