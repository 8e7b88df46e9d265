import { infoNce } from '../energy/infonce.js';
import { varianceTerm } from '../energy/vicreg.js';
import { add, mul, sub } from '../graph/ops/elementwise.js';
import { narrow, reshape, squeeze } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { dense, denseSpec } from '../nn/stacks.js';
import { type ModuleSpec, under, type Weights } from '../nn/weights.js';

/**
 * What stays while a world is acted in: its walls and doors. What comes next can mostly be told without it, where one can go cannot;
 * so a linear projection of each moment's state must tell which of the batch's instances of the world another episode of the same
 * instance was in (InfoNCE, van den Oord et al. 2018; what stays in time as what is worth knowing: Wiskott and Sejnowski 2002).
 */
export const sceneSpec = (width: number): ModuleSpec => new Map(denseSpec('projection', PROJECTED, width));

const PROJECTED = 16;

/**
 * Of states at moments of an episode and of another one in the same instance of the world, [batch, moments, width] each. Moments of
 * one place in the order are compared with each other; the loss is a mean over them.
 */
export function sceneLoss(own: Tensor, elsewhere: Tensor, w: Weights): Tensor {
  const moments = own.shape[1] as number;
  const [a, b] = [own, elsewhere].map((x) => dense(x, under(w, 'projection.')));
  const at = (x: Tensor, moment: number): Tensor => squeeze(narrow(x, 1, moment, 1), 1); // [batch, PROJECTED]
  const each = Array.from({ length: moments }, (_, m) => infoNce(at(a, m), at(b, m)));
  return mul(each.reduce(add), 1 / moments);
}

/** Least deviation that each number of states keeps within an instance of the world; overall it is 1. */
const WITHIN = 0.7;

/**
 * Variance term (VICReg's hinge) of states about their mean in each instance, from moments [batch, moments, width] of one instance
 * each. Without it what stays, which is easy to predict, comes to be all that states tell.
 */
export function varianceWithin(moments: Tensor): Tensor {
  const rows = reshape(sub(moments, mean(moments, 1, true)), [-1, moments.shape[2]]);
  return varianceTerm(rows, { margin: WITHIN });
}
