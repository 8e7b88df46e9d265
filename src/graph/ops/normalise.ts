import { type Dim, productOf } from '../dims.js';
import {
  apply,
  apply1,
  axesOf,
  axisOf,
  broadcastShapes,
  type Operator,
  operatorError,
  requireType,
  sameShape,
  sizeTensor,
  type Tensor,
} from '../tensor.js';
import { add, call, div, exp, maximum, mul, neg, rsqrt, square, sub, where } from './elementwise.js';
import { reshape } from './move.js';
import { mean, norm, sum } from './reduce.js';

/** Softmaxes and normalisations. */

// Softmax ------------------------------------------------------------------------------------------------------------

function softmaxOperator(
  name: string,
  opType: string,
  vjp: (grad: Tensor, out: Tensor, axis: number) => Tensor,
): (x: Tensor, axis?: number) => Tensor {
  const op: Operator<{ axis: number }> = {
    name,
    infer: ([x]) => {
      requireType(name, 'float32', x);
      return [x];
    },
    vjp: ({ outputs: [out], attrs: { axis } }, [grad]) => [vjp(grad as Tensor, out, axis)],
    lower: ({ attrs: { axis } }, [x], emit) => [emit.node(opType, [x], { axis })],
  };
  return (x, axis = -1) => apply1(op, [x], { axis: axisOf(name, axis, x.shape.length, x) });
}

/** exp(x - max) / sum along an axis. */
export const softmax = softmaxOperator('softmax', 'Softmax', (g, y, axis) =>
  mul(y, sub(g, sum(mul(g, y), axis, true))),
);
/** x - logsumexp(x) along an axis. */
export const logSoftmax = softmaxOperator('log_softmax', 'LogSoftmax', (g, y, axis) =>
  sub(g, mul(exp(y), sum(g, axis, true))),
);

/** So low that the exponential is exactly 0 beside any score, and finite. */
const MASKED = -1e30;

/** Scores with those that the mask leaves out set so low that a softmax makes them exactly 0. */
export const maskScores = (scores: Tensor, mask: Tensor): Tensor => where(mask, scores, MASKED);

/** Softmax over the entries where the mask holds, exactly 0 elsewhere (uniform in a row without any). */
export function maskedSoftmax(x: Tensor, mask: Tensor, axis = -1): Tensor {
  const at = axisOf('masked_softmax', axis, x.shape.length, x, mask);
  requireType('masked_softmax', 'bool', mask);
  if (!sameShape(broadcastShapes('masked_softmax', x, mask), x.shape)) {
    throw operatorError('masked_softmax', 'the mask does not broadcast to x', x, mask);
  }
  return softmax(maskScores(x, mask), at);
}

// Standardising ------------------------------------------------------------------------------------------------------

interface StandardizeAttrs {
  readonly axes: readonly number[];
  readonly eps: number;
  /** Whether the mean is subtracted (otherwise: root mean square). */
  readonly centred: boolean;
}

/**
 * Outputs: y = d / sqrt(mean(d^2) + eps) with d = x - mean(x) (or x), and the inverse root, over `axes` (kept).
 * The mean is subtracted before squares are taken: E[x^2] - E[x]^2 loses all digits where the mean is large.
 */
const standardizeOperator: Operator<StandardizeAttrs> = {
  name: 'standardize',
  infer: ([x], { axes }) => {
    requireType('standardize', 'float32', x);
    return [x, { dtype: 'float32', shape: x.shape.map((dim, i) => (axes.includes(i) ? 1 : dim)) }];
  },
  vjp: ({ inputs: [x], outputs: [y, inverse], attrs: { axes, centred } }, [gy, gInverse]) => {
    // d inverse / dx = -inverse^2 y / n.
    const count = productOf(axes.map((axis) => x.shape[axis]));
    const scale = gInverse && neg(div(mul(gInverse, square(inverse)), sizeTensor(count)));
    if (!gy) return [scale && mul(y, scale)];
    const along = mean(mul(gy, y), axes, true);
    const inner = sub(centred ? sub(gy, mean(gy, axes, true)) : gy, mul(y, along));
    const dx = mul(inner, inverse);
    return [scale ? add(dx, mul(y, scale)) : dx];
  },
  lower: ({ attrs: { axes, eps, centred } }, [x], emit) => {
    const average = (value: string): string => {
      // The last axis first: one reduction over very many values loses digits.
      const groups = axes.length > 1 ? [axes.slice(-1), axes.slice(0, -1)] : [axes];
      return groups.reduce((v, group) => emit.node('ReduceMean', [v, emit.ints(group)], { keepdims: 1 }), value);
    };
    const d = centred ? call(emit, 'Sub', x, average(x)) : x;
    const power = call(emit, 'Add', average(call(emit, 'Mul', d, d)), eps);
    const inverse = call(emit, 'Reciprocal', call(emit, 'Sqrt', power));
    return [call(emit, 'Mul', d, inverse), inverse];
  },
};

const standardize = (x: Tensor, axes: readonly number[], eps: number, centred = true): Tensor =>
  apply(standardizeOperator, [x], { axes, eps, centred })[0];

/** y * weight + bias, either possibly absent. */
function affine(y: Tensor, weight?: Tensor, bias?: Tensor): Tensor {
  const scaled = weight ? mul(y, weight) : y;
  return bias ? add(scaled, bias) : scaled;
}

const given = (...tensors: readonly (Tensor | undefined)[]): Tensor[] => tensors.filter((t) => t !== undefined);

function trailingAxes(name: string, x: Tensor, axes: readonly number[] | number, ...all: readonly Tensor[]): number[] {
  const list = axesOf(name, axes, x);
  if (list.length === 0 || list.some((axis, i) => axis !== x.shape.length - list.length + i)) {
    throw operatorError(name, `axes [${axes}] are not the trailing ones`, ...all);
  }
  const expected = list.map((axis) => x.shape[axis]);
  for (const t of all.slice(1)) {
    if (!sameShape(t.shape, expected)) {
      throw operatorError(name, 'the shape of weight and bias must be that of the normalised axes', ...all);
    }
  }
  return list;
}

export interface AffineOptions {
  readonly weight?: Tensor;
  readonly bias?: Tensor;
  readonly eps?: number;
}

/** (x - mean) / sqrt(biased variance + eps) over trailing axes, then * weight + bias, which have the shape of those axes. */
export function layerNorm(
  x: Tensor,
  { axes = [-1], weight, bias, eps = 1e-5 }: AffineOptions & { readonly axes?: readonly number[] | number } = {},
): Tensor {
  const list = trailingAxes('layer_norm', x, axes, x, ...given(weight, bias));
  return affine(standardize(x, list, eps), weight, bias);
}

/** x / sqrt(mean of squares + eps) over trailing axes, then * weight. */
export function rmsNorm(
  x: Tensor,
  {
    axes = [-1],
    weight,
    eps = 1e-6,
  }: Omit<AffineOptions, 'bias'> & { readonly axes?: readonly number[] | number } = {},
): Tensor {
  const list = trailingAxes('rms_norm', x, axes, x, ...given(weight));
  return affine(standardize(x, list, eps, false), weight);
}

/** A vector over channels, shaped to broadcast against x [B, C, ...]. */
function overChannels(
  name: string,
  x: Tensor,
  vector: Tensor | undefined,
  ...all: readonly Tensor[]
): Tensor | undefined {
  if (!vector) return undefined;
  if (vector.shape.length !== 1 || vector.shape[0] !== x.shape[1]) {
    throw operatorError(name, 'weight, bias and statistics must have one value for each channel', ...all);
  }
  return reshape(vector, [x.shape[1], ...x.shape.slice(2).map((): Dim => 1)]);
}

function requireChannels(name: string, x: Tensor, rank: number, ...all: readonly Tensor[]): void {
  if (x.shape.length < rank) throw operatorError(name, `needs x [B, C, ...] of rank ${rank} or more`, ...all);
}

/** Normalises each sample over the channels of a group and all positions. Shapes: x [B, C, ...], weight and bias [C]. */
export function groupNorm(x: Tensor, groups: number, { weight, bias, eps = 1e-5 }: AffineOptions = {}): Tensor {
  const all = [x, ...given(weight, bias)];
  requireChannels('group_norm', x, 2, ...all);
  const [batch, channels, ...positions] = x.shape;
  if (typeof channels !== 'number' || channels % groups !== 0) {
    throw operatorError('group_norm', `the channels do not divide into ${groups} groups`, ...all);
  }
  const split = reshape(x, [batch, groups, channels / groups, productOf(positions)]);
  const y = reshape(standardize(split, [2, 3], eps), x.shape);
  return affine(y, overChannels('group_norm', x, weight, ...all), overChannels('group_norm', x, bias, ...all));
}

/** Normalises each channel of each sample over its positions. Shapes: x [B, C, ...], weight and bias [C]. */
export function instanceNorm(x: Tensor, { weight, bias, eps = 1e-5 }: AffineOptions = {}): Tensor {
  const all = [x, ...given(weight, bias)];
  requireChannels('instance_norm', x, 3, ...all);
  const positions = x.shape.slice(2).map((_, i) => i + 2);
  const y = standardize(x, positions, eps);
  return affine(y, overChannels('instance_norm', x, weight, ...all), overChannels('instance_norm', x, bias, ...all));
}

export interface BatchNormResult {
  readonly out: Tensor;
  readonly batchMean: Tensor;
  /** Biased. */
  readonly batchVar: Tensor;
  /** (1 - momentum) old + momentum * batch; the variance with the unbiased one of the batch. */
  readonly newRunningMean: Tensor;
  readonly newRunningVar: Tensor;
}

/**
 * Batch normalisation with the statistics of the batch over all axes but the channels, and the updated running
 * statistics. Shapes: x [B, C, ...], vectors [C].
 */
export function batchNormTrain(
  x: Tensor,
  runningMean: Tensor,
  runningVar: Tensor,
  { weight, bias, eps = 1e-5, momentum = 0.1 }: AffineOptions & { readonly momentum?: number } = {},
): BatchNormResult {
  const name = 'batch_norm_train';
  const all = [x, ...given(weight, bias), runningMean, runningVar];
  requireChannels(name, x, 2, ...all);
  const axes = x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
  const count = productOf(axes.map((axis) => x.shape[axis]));
  if (typeof count === 'number' && count < 2)
    throw operatorError(name, 'one value for each channel has no variance', ...all);
  overChannels(name, x, runningMean, ...all);
  overChannels(name, x, runningVar, ...all);
  const scale = overChannels(name, x, weight, ...all);
  const shift = overChannels(name, x, bias, ...all);
  const centre = mean(x, axes, true);
  const out = affine(standardize(x, axes, eps), scale, shift);
  const batchMean = reshape(centre, [x.shape[1]]);
  const batchVar = mean(square(sub(x, centre)), axes);
  const size = sizeTensor(count);
  const unbiased = mul(batchVar, div(size, sub(size, 1)));
  const moved = (old: Tensor, now: Tensor): Tensor => add(mul(old, 1 - momentum), mul(now, momentum));
  return {
    out,
    batchMean,
    batchVar,
    newRunningMean: moved(runningMean, batchMean),
    newRunningVar: moved(runningVar, unbiased),
  };
}

/** (x - runningMean) / sqrt(runningVar + eps) * weight + bias. Shapes: x [B, C, ...], vectors [C]. */
export function batchNormEval(
  x: Tensor,
  runningMean: Tensor,
  runningVar: Tensor,
  { weight, bias, eps = 1e-5 }: AffineOptions = {},
): Tensor {
  const name = 'batch_norm_eval';
  const all = [x, ...given(weight, bias), runningMean, runningVar];
  requireChannels(name, x, 2, ...all);
  const centre = overChannels(name, x, runningMean, ...all) as Tensor;
  const spread = overChannels(name, x, runningVar, ...all) as Tensor;
  const y = mul(sub(x, centre), rsqrt(add(spread, eps)));
  return affine(y, overChannels(name, x, weight, ...all), overChannels(name, x, bias, ...all));
}

/** x / max(norm, eps) along an axis. */
export function l2Normalize(x: Tensor, axis = -1, eps = 1e-12): Tensor {
  const at = axisOf('l2_normalize', axis, x.shape.length, x);
  return div(x, maximum(norm(x, 2, at, true), eps));
}

/** g * v / norm of each row of v. Shapes: v [out, in], g [out, 1]. */
export function weightNorm(v: Tensor, g: Tensor): Tensor {
  if (v.shape.length !== 2 || !sameShape(g.shape, [v.shape[0], 1])) {
    throw operatorError('weight_norm', 'needs v [out, in] and g [out, 1]', v, g);
  }
  return mul(v, div(g, norm(v, 2, 1, true)));
}
