import { type Dim, productOf } from '../dims.js';
import { apply1, type Operator, operatorError, sameShape, sizeTensor, type Tensor } from '../tensor.js';
import {
  abs,
  add,
  call,
  cast,
  clip,
  div,
  equal,
  exp,
  log,
  maximum,
  mul,
  neg,
  notEqual,
  powScalar,
  sigmoid,
  softplus,
  square,
  sub,
} from './elementwise.js';
import { checkRange, iota } from './index.js';
import { expandDims, reshape } from './move.js';
import { logSoftmax } from './normalise.js';
import { mean, norm, sum } from './reduce.js';

/** Losses. */

export type Reduction = 'none' | 'sum' | 'mean';

const reduce = (x: Tensor, reduction: Reduction): Tensor =>
  reduction === 'none' ? x : reduction === 'sum' ? sum(x) : mean(x);

function requireSame(name: string, x: Tensor, target: Tensor): void {
  if (!sameShape(x.shape, target.shape)) throw operatorError(name, 'the shapes of input and target differ', x, target);
}

/** (x - target)^2 */
export function mseLoss(x: Tensor, target: Tensor, reduction: Reduction = 'mean'): Tensor {
  requireSame('mse_loss', x, target);
  return reduce(square(sub(x, target)), reduction);
}

/** |x - target| */
export function l1Loss(x: Tensor, target: Tensor, reduction: Reduction = 'mean'): Tensor {
  requireSame('l1_loss', x, target);
  return reduce(abs(sub(x, target)), reduction);
}

/** d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; as c (|d| - c / 2) / beta with c = min(|d|, beta). */
const smoothL1Operator: Operator<{ beta: number }> = {
  name: 'smooth_l1',
  infer: ([d]) => [d],
  vjp: ({ inputs: [d], attrs: { beta } }, [grad]) => [mul(grad as Tensor, mul(clip(d, -beta, beta), 1 / beta))],
  lower: ({ attrs: { beta } }, [d], emit) => {
    const size = call(emit, 'Abs', d);
    const inner = call(emit, 'Min', size, beta);
    const value = call(emit, 'Mul', inner, call(emit, 'Sub', size, call(emit, 'Mul', inner, 0.5)));
    return [beta === 1 ? value : call(emit, 'Div', value, beta)];
  },
};

function smoothL1(name: string, x: Tensor, target: Tensor, beta: number): Tensor {
  requireSame(name, x, target);
  if (!(beta > 0)) throw operatorError(name, `the threshold must be positive, not ${beta}`, x, target);
  return apply1(smoothL1Operator, [sub(x, target)], { beta });
}

/** d = x - target: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2. */
export const smoothL1Loss = (x: Tensor, target: Tensor, beta = 1, reduction: Reduction = 'mean'): Tensor =>
  reduce(smoothL1('smooth_l1_loss', x, target, beta), reduction);

/** d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2). */
export const huberLoss = (x: Tensor, target: Tensor, delta = 1, reduction: Reduction = 'mean'): Tensor =>
  reduce(mul(smoothL1('huber_loss', x, target, delta), delta), reduction);

export interface CrossEntropyOptions {
  readonly labelSmoothing?: number;
  /** Rows with this label give 0 and do not count. */
  readonly ignoreIndex?: number | null;
  /** Weight of each class [C]; no gradient. */
  readonly classWeights?: Tensor;
  readonly reduction?: Reduction;
}

/**
 * Cross entropy of logits [B, C, ...] with int32 labels [B, ...]. Smoothing e: (1 - e) of -log p[label] + e times the
 * mean over classes. With class weights every class term has its weight and the mean divides by the sum of the
 * labels' weights.
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  { labelSmoothing = 0, ignoreIndex = null, classWeights, reduction = 'mean' }: CrossEntropyOptions = {},
): Tensor {
  const name = 'cross_entropy';
  const [batch, classes, ...positions] = logits.shape;
  if (logits.shape.length < 2 || !sameShape(labels.shape, [batch, ...positions])) {
    throw operatorError(name, 'needs logits [B, C, ...] and one label for each row', logits, labels);
  }
  if (labels.dtype !== 'int32') throw operatorError(name, `labels must be int32, not ${labels.dtype}`, logits, labels);
  if (classWeights && !sameShape(classWeights.shape, [classes])) {
    throw operatorError(name, 'needs one weight for each class', logits, labels, classWeights);
  }
  const allow = ignoreIndex === null ? undefined : ignoreIndex;
  const checked = checkRange(labels, { operator: name, min: 0, max: classes, allow }, logits, labels);
  const column = (t: Tensor): Tensor => reshape(t, [classes, ...positions.map((): Dim => 1)]);
  const weights = classWeights && column(classWeights);
  const counted = ignoreIndex === null ? undefined : cast(notEqual(checked, ignoreIndex), 'float32');

  const hit = cast(equal(expandDims(checked, 1), column(iota(classes))), 'float32');
  const labelled = counted ? mul(hit, expandDims(counted, 1)) : hit;
  const picked = weights ? mul(labelled, weights) : labelled;
  const surprise = neg(logSoftmax(logits, 1));
  let loss = sum(mul(surprise, picked), 1);
  if (labelSmoothing > 0) {
    const all = sum(weights ? mul(surprise, weights) : surprise, 1);
    const spread = mul(div(all, sizeTensor(classes)), labelSmoothing);
    loss = add(mul(loss, 1 - labelSmoothing), counted ? mul(spread, counted) : spread);
  }
  if (reduction !== 'mean') return reduce(loss, reduction);
  return counted || weights ? div(sum(loss), sum(picked)) : mean(loss);
}

/** -sum over classes of target' * log softmax with target' = (1 - e) target + e / C; the mean is over rows. Shapes: [B, C]. */
export function softCrossEntropy(
  logits: Tensor,
  target: Tensor,
  { labelSmoothing = 0, reduction = 'mean' }: { readonly labelSmoothing?: number; readonly reduction?: Reduction } = {},
): Tensor {
  requireSame('soft_cross_entropy', logits, target);
  if (logits.shape.length < 2) throw operatorError('soft_cross_entropy', 'needs [B, C]', logits, target);
  const uniform = div(labelSmoothing, sizeTensor(logits.shape[1]));
  const smoothed = labelSmoothing > 0 ? add(mul(target, 1 - labelSmoothing), uniform) : target;
  return reduce(neg(sum(mul(logSoftmax(logits, 1), smoothed), 1)), reduction);
}

/**
 * -(posWeight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), computed as (1 - t) x + (1 + (posWeight - 1) t)
 * softplus(-x), which does not overflow. posWeight broadcasts over the last axis and has no gradient.
 */
export function bceWithLogits(
  logits: Tensor,
  target: Tensor,
  { posWeight, reduction = 'mean' }: { readonly posWeight?: Tensor; readonly reduction?: Reduction } = {},
): Tensor {
  requireSame('bce_with_logits', logits, target);
  const below = softplus(neg(logits));
  const weighted = posWeight ? mul(add(mul(sub(posWeight, 1), target), 1), below) : below;
  return reduce(add(mul(sub(1, target), logits), weighted), reduction);
}

/**
 * Focal loss of independent yes / no decisions (Lin et al. 2017): cross entropy times (1 - p of the truth) ^ gamma, targets 1
 * weighted by alpha and targets 0 by 1 - alpha; no weights where alpha is undefined. Logits and targets of one shape.
 */
export function sigmoidFocalLoss(
  logits: Tensor,
  target: Tensor,
  {
    alpha,
    gamma = 2,
    reduction = 'mean',
  }: { readonly alpha?: number; readonly gamma?: number; readonly reduction?: Reduction } = {},
): Tensor {
  requireSame('sigmoid_focal_loss', logits, target);
  const doubt = sigmoid(mul(logits, sub(1, mul(target, 2))));
  // The root in a broken exponent has no slope at zero itself.
  const factor = powScalar(Number.isInteger(gamma) ? doubt : add(doubt, 1e-30), gamma);
  const loss = mul(bceWithLogits(logits, target, { reduction: 'none' }), factor);
  const weights = alpha === undefined ? undefined : add(mul(target, 2 * alpha - 1), 1 - alpha);
  return reduce(weights ? mul(loss, weights) : loss, reduction);
}

/** a . b / (max(norm a, eps) max(norm b, eps)) along an axis; a and b broadcast. */
export function cosineSimilarity(a: Tensor, b: Tensor, axis = -1, eps = 1e-8): Tensor {
  const product = mul(a, b);
  const at = axis < 0 ? axis : axis - product.shape.length;
  const size = (t: Tensor): Tensor => maximum(norm(t, 2, at, true), eps);
  const cosine = div(sum(product, at, true), mul(size(a), size(b)));
  return reshape(
    cosine,
    cosine.shape.filter((_, i) => i !== cosine.shape.length + at),
  );
}

/**
 * target (log target - logInput), or exp(t) (t - logInput) where the target is given as a logarithm; 0 where the target
 * is 0. `batchmean` divides the sum by B.
 */
export function klDiv(
  logInput: Tensor,
  target: Tensor,
  {
    reduction = 'batchmean',
    logTarget = false,
  }: { readonly reduction?: Reduction | 'batchmean'; readonly logTarget?: boolean } = {},
): Tensor {
  requireSame('kl_div', logInput, target);
  const SMALLEST = 1e-38;
  const loss = logTarget
    ? mul(exp(target), sub(target, logInput))
    : mul(target, sub(log(maximum(target, SMALLEST)), logInput));
  if (reduction !== 'batchmean') return reduce(loss, reduction);
  return div(sum(loss), sizeTensor(productOf(logInput.shape.slice(0, 1))));
}
