import { type Dim, productOf, subDims } from '../dims.js';
import type { Emitter } from '../lower.js';
import {
  apply1,
  axesOf,
  axisOf,
  type Node,
  type Operator,
  operatorError,
  requireType,
  sameShape,
  sizeTensor,
  stopGradient,
  type Tensor,
} from '../tensor.js';
import { abs, add, call, cast, div, equal, exp, log, maximum, mul, sqrt, sub } from './elementwise.js';
import { broadcastTo, reshape } from './move.js';

/** Reductions. `axes` null means all; negative axes count from the end; `keepdims` keeps the reduced axes with size 1. */

export type Axes = readonly number[] | number | null;

interface ReduceAttrs {
  readonly axes: readonly number[];
  readonly keepdims: boolean;
}

function reducedShape(x: Tensor, { axes, keepdims }: ReduceAttrs): Dim[] {
  return keepdims ? x.shape.map((dim, i) => (axes.includes(i) ? 1 : dim)) : x.shape.filter((_, i) => !axes.includes(i));
}

const countOf = (x: Tensor, axes: readonly number[]): Dim => productOf(axes.map((axis) => x.shape[axis]));

/** `t`, an output of a reduction of `x`, with the shape it has with keepdims. */
const kept = (t: Tensor, x: Tensor, axes: readonly number[]): Tensor =>
  reshape(t, reducedShape(x, { axes, keepdims: true }));

const dividedBy = (x: Tensor, count: Dim): Tensor =>
  typeof count === 'number' ? mul(x, 1 / count) : div(x, sizeTensor(count));

const emitReduce = (emit: Emitter, opType: string, x: string, axes: readonly number[], keepdims: boolean): string =>
  emit.node(opType, [x, emit.ints(axes)], { keepdims: keepdims ? 1 : 0 });

/** One reduction over very many values loses digits in float32: the last axis goes first, the others after it. */
function emitSum(emit: Emitter, opType: string, x: string, t: Tensor, { axes, keepdims }: ReduceAttrs): string {
  const last = t.shape.length - 1;
  const count = countOf(t, axes);
  if (axes.length < 2 || !axes.includes(last) || (typeof count === 'number' && count <= 4096)) {
    return emitReduce(emit, opType, x, axes, keepdims);
  }
  return emitReduce(emit, opType, emitReduce(emit, opType, x, [last], keepdims), axes.slice(0, -1), keepdims);
}

function requireElements(name: string, x: Tensor, axes: readonly number[]): void {
  if (axes.some((axis) => x.shape[axis] === 0)) {
    throw operatorError(name, 'has no value over zero elements', x);
  }
}

function reduction(
  name: string,
  opType: string,
  vjp: (grad: Tensor, x: Tensor, out: Tensor, axes: readonly number[]) => Tensor,
  staged: boolean,
): (x: Tensor, axes?: Axes, keepdims?: boolean) => Tensor {
  const op: Operator<ReduceAttrs> = {
    name,
    infer: ([x], attrs) => {
      if (x.dtype === 'bool' || (x.dtype === 'int32' && name === 'mean')) {
        throw operatorError(name, `does not take ${x.dtype} inputs`, x);
      }
      if (name !== 'sum') requireElements(name, x, attrs.axes);
      return [{ dtype: x.dtype, shape: reducedShape(x, attrs) }];
    },
    vjp: ({ inputs: [x], outputs: [out], attrs: { axes } }, [grad]) => [
      vjp(kept(grad as Tensor, x, axes), x, kept(out, x, axes), axes),
    ],
    lower: ({ inputs: [t], attrs }, [x], emit) => [
      staged ? emitSum(emit, opType, x, t, attrs) : emitReduce(emit, opType, x, attrs.axes, attrs.keepdims),
    ],
  };
  return (x, axes = null, keepdims = false) => {
    const list = axesOf(name, axes, x);
    return list.length === 0 ? x : apply1(op, [x], { axes: list, keepdims });
  };
}

/** Sum over axes (null: all), in two steps where that keeps digits; `keepdims` leaves them with size 1. */
export const sum = reduction('sum', 'ReduceSum', (g, x) => broadcastTo(g, x.shape), true);
/** Mean over axes of float32, as `sum`. */
export const mean = reduction(
  'mean',
  'ReduceMean',
  (g, x, _, axes) => broadcastTo(dividedBy(g, countOf(x, axes)), x.shape),
  true,
);

/** The gradient goes to the extreme values, in equal shares where there are several. */
function toExtremes(g: Tensor, x: Tensor, out: Tensor, axes: readonly number[]): Tensor {
  const hit = cast(equal(x, out), 'float32');
  return mul(hit, div(g, sum(hit, axes, true)));
}

/** Largest value over axes; equal ones share the gradient. */
export const max = reduction('max', 'ReduceMax', toExtremes, false);
/** Smallest value over axes; equal ones share the gradient. */
export const min = reduction('min', 'ReduceMin', toExtremes, false);

/** Sums `x` over the axes along which `shape` was broadcast to the shape of `x`: the adjoint of broadcasting. */
export function sumTo(x: Tensor, shape: readonly Dim[]): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.shape.length - shape.length;
  const axes = x.shape.flatMap((dim, i) => (i < lead || (shape[i - lead] === 1 && dim !== 1) ? [i] : []));
  return reshape(sum(x, axes), shape);
}

/** log(sum(exp(x))), with the maximum subtracted first. */
export function logsumexp(x: Tensor, axes: Axes = null, keepdims = false): Tensor {
  const list = axesOf('logsumexp', axes, x);
  requireElements('logsumexp', x, list);
  const largest = stopGradient(max(x, list, true));
  const result = add(log(sum(exp(sub(x, largest)), list, true)), largest);
  return keepdims ? result : reshape(result, reducedShape(x, { axes: list, keepdims }));
}

interface VarianceAttrs extends ReduceAttrs {
  readonly correction: number;
}

const varianceOperator: Operator<VarianceAttrs> = {
  name: 'var',
  infer: ([x], attrs) => {
    requireType('var', 'float32', x);
    const count = countOf(x, attrs.axes);
    if (typeof count === 'number' && count <= attrs.correction) {
      const needed = `needs at least ${attrs.correction + 1} elements with correction ${attrs.correction}`;
      throw operatorError('var', needed, x);
    }
    requireElements('var', x, attrs.axes);
    return [{ dtype: 'float32', shape: reducedShape(x, attrs) }];
  },
  vjp: ({ inputs: [x], attrs: { axes, correction } }, [grad]) => {
    const scaled = dividedBy(mul(kept(grad as Tensor, x, axes), 2), subDims(countOf(x, axes), correction));
    return [mul(scaled, sub(x, mean(x, axes, true)))];
  },
  lower: ({ inputs: [t], attrs }, [x], emit) => {
    // Two passes: E[x^2] - E[x]^2 would lose all digits where the mean is large.
    const centred = call(emit, 'Sub', x, emitSum(emit, 'ReduceMean', x, t, { axes: attrs.axes, keepdims: true }));
    const total = emitSum(emit, 'ReduceSum', call(emit, 'Mul', centred, centred), t, attrs);
    const count = subDims(countOf(t, attrs.axes), attrs.correction);
    return [call(emit, 'Div', total, typeof count === 'number' ? count : emit.floatSize(count))];
  },
};

/** Sum of squared deviations / (count - correction); correction 1 unbiased, 0 biased. */
export const variance = (x: Tensor, axes: Axes = null, keepdims = false, correction = 1): Tensor =>
  apply1(varianceOperator, [x], { axes: axesOf('var', axes, x), keepdims, correction });

/** Square root of the variance (no epsilon: the gradient is infinite where it is 0). */
export const std = (x: Tensor, axes: Axes = null, keepdims = false, correction = 1): Tensor =>
  sqrt(variance(x, axes, keepdims, correction));

function argReduction(name: string, opType: string): (x: Tensor, axis: number, keepdims?: boolean) => Tensor {
  const op: Operator<{ axis: number; keepdims: boolean }> = {
    name,
    infer: ([x], { axis, keepdims }) => {
      requireElements(name, x, [axis]);
      return [{ dtype: 'int32', shape: reducedShape(x, { axes: [axis], keepdims }) }];
    },
    lower: ({ attrs: { axis, keepdims } }, [x], emit) => [
      emit.cast(emit.node(opType, [x], { axis, keepdims: keepdims ? 1 : 0 }), 'int32'),
    ],
  };
  return (x, axis, keepdims = false) => apply1(op, [x], { axis: axisOf(name, axis, x.shape.length, x), keepdims });
}

/** int32 index of the largest value along an axis (any of them where there are several). */
export const argmax = argReduction('argmax', 'ArgMax');
export const argmin = argReduction('argmin', 'ArgMin');

const normOperator: Operator<ReduceAttrs> = {
  name: 'norm',
  infer: ([x], attrs) => {
    requireType('norm', 'float32', x);
    return [{ dtype: 'float32', shape: reducedShape(x, attrs) }];
  },
  vjp: ({ inputs: [x], outputs: [out], attrs: { axes } }, [grad]) => {
    // The floor makes the gradient of the norm of a zero vector 0 instead of NaN.
    const divisor = maximum(kept(out, x, axes), 1e-30);
    return [mul(x, div(kept(grad as Tensor, x, axes), divisor))];
  },
  lower: ({ inputs: [t], attrs }, [x], emit) => [
    call(emit, 'Sqrt', emitSum(emit, 'ReduceSum', call(emit, 'Mul', x, x), t, attrs)),
  ],
};

/** p = 1: sum of |x|; p = 2: root of the sum of squares (no epsilon; gradient 0 for a zero vector). */
export function norm(x: Tensor, p: 1 | 2 = 2, axes: Axes = null, keepdims = false): Tensor {
  const list = axesOf('norm', axes, x);
  if (p === 1 || list.length === 0) return sum(abs(x), list, keepdims);
  if (p !== 2) throw operatorError('norm', `p must be 1 or 2, not ${p}`, x);
  return apply1(normOperator, [x], { axes: list, keepdims });
}

interface CumsumAttrs {
  readonly axis: number;
  readonly reverse: boolean;
  readonly exclusive: boolean;
}

const cumsumOperator: Operator<CumsumAttrs> = {
  name: 'cumsum',
  infer: ([x]) => [x],
  vjp: (node: Node<CumsumAttrs>, [grad]) => [
    apply1(cumsumOperator, [grad as Tensor], { ...node.attrs, reverse: !node.attrs.reverse }),
  ],
  lower: ({ attrs: { axis, reverse, exclusive } }, [x], emit) => [
    emit.node('CumSum', [x, emit.ints([axis])], { reverse: reverse ? 1 : 0, exclusive: exclusive ? 1 : 0 }),
  ],
};

/** Running sum along an axis; `reverse`: from the end; `exclusive`: without the element itself. */
export const cumsum = (x: Tensor, axis: number, { reverse = false, exclusive = false } = {}): Tensor =>
  apply1(cumsumOperator, [x], { axis: axisOf('cumsum', axis, x.shape.length, x), reverse, exclusive });
