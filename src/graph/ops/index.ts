import { JepaError } from '../../base/errors.js';
import type { HostTensor } from '../../base/tensor.js';
import { type Dim, dimText, evaluateDim, mulDims, productOf, shapeText } from '../dims.js';
import type { Emitter } from '../lower.js';
import {
  apply,
  apply1,
  axisOf,
  type ConstantAttrs,
  constantOperator,
  type InputAttrs,
  inputOperator,
  type Node,
  type Operator,
  operatorError,
  sameShape,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { cast, equal, zeros } from './elementwise.js';
import {
  broadcastToOperator,
  concatOperator,
  expandDims,
  reshape,
  reshapeOperator,
  transpose,
  transposeOperator,
} from './move.js';

/** Operators that read or make int32 indices. Indices that come from outside are checked on the host before each run. */

// Range checks -------------------------------------------------------------------------------------------------------

export interface RangeLimits {
  /** Name of the operator that needs the range. */
  readonly operator: string;
  readonly min: Dim;
  /** First value that is too large. */
  readonly max: Dim;
  /** One value outside of the range that is allowed too. */
  readonly allow?: number;
}

interface CheckAttrs extends RangeLimits {
  readonly shapes: readonly TensorType[];
}

const checkRangeOperator: Operator<CheckAttrs> = {
  name: 'check_range',
  infer: ([x]) => [x],
  vjp: () => [undefined],
  lower: (_, [x]) => [x],
};

/** The same indices, marked so that the runtime checks them; `tensors` are the operator's inputs, for the message. */
export function checkRange(index: Tensor, limits: RangeLimits, ...tensors: readonly TensorType[]): Tensor {
  const shapes = (tensors.length === 0 ? [index] : tensors).map(({ dtype, shape }) => ({ dtype, shape }));
  const checked = apply1(checkRangeOperator, [index], { ...limits, shapes });
  for (const source of sourcesOf(index)) {
    if (source.node.op !== (constantOperator as Operator)) continue;
    const { value } = source.node.attrs as ConstantAttrs;
    if (typeof limits.min === 'number' && typeof limits.max === 'number') {
      checkValues(value, { ...limits, min: limits.min, max: limits.max }, checked.node.scope, shapes, new Map());
    }
  }
  return checked;
}

export interface RangeCheck extends RangeLimits {
  /** The graph input whose values are checked. */
  readonly input: Tensor;
  readonly scope: string;
  /** Types of the operator's inputs, for the message. */
  readonly shapes: readonly TensorType[];
}

/** The leaves whose values `t` holds, possibly rearranged; none where it is computed in another way. */
function sourcesOf(t: Tensor): Tensor[] {
  const moves: readonly unknown[] = [
    reshapeOperator,
    transposeOperator,
    broadcastToOperator,
    concatOperator,
    checkRangeOperator,
  ];
  if (moves.includes(t.node.op)) return t.node.inputs.flatMap(sourcesOf);
  return t.node.inputs.length === 0 ? [t] : [];
}

/** The range checks of a graph that concern its inputs. */
export function collectRangeChecks(nodes: readonly Node[]): RangeCheck[] {
  return nodes.flatMap((node) => {
    if (node.op !== (checkRangeOperator as Operator)) return [];
    const attrs = node.attrs as CheckAttrs;
    return sourcesOf(node.inputs[0])
      .filter((source) => source.node.op === (inputOperator as Operator))
      .map((input) => ({ ...attrs, input, scope: node.scope }));
  });
}

/** Checks the values of a run's inputs; throws JepaError for the first that is outside of its range. */
export function checkRanges(
  checks: readonly RangeCheck[],
  feeds: ReadonlyMap<string, HostTensor>,
  symbols: ReadonlyMap<string, number>,
): void {
  for (const check of checks) {
    const value = feeds.get((check.input.node.attrs as InputAttrs).name);
    const min = evaluateDim(check.min, symbols);
    const max = evaluateDim(check.max, symbols);
    if (!value || min === undefined || max === undefined) continue;
    checkValues(value, { ...check, min, max }, check.scope, check.shapes, symbols);
  }
}

function checkValues(
  value: HostTensor,
  { operator, min, max, allow }: { operator: string; min: number; max: number; allow?: number },
  scope: string,
  shapes: readonly TensorType[],
  symbols: ReadonlyMap<string, number>,
): void {
  for (const item of value.data) {
    if ((item >= min && item < max) || Number(item) === allow) continue;
    const where = scope === '' ? '' : ` (in ${scope})`;
    const inputs = shapes
      .map(({ shape }) => shapeText(shape.map((dim) => evaluateDim(dim, symbols) ?? dim)))
      .join(' and ');
    throw new JepaError(`${operator}${where}: index ${item} is outside of ${min} .. ${max - 1}; got ${inputs}`);
  }
}

function requireIndex(name: string, index: Tensor, ...all: readonly Tensor[]): void {
  if (index.dtype !== 'int32') throw operatorError(name, `the index must be int32, not ${index.dtype}`, ...all);
}

// Counting -----------------------------------------------------------------------------------------------------------

const countOperator: Operator<{ count: Dim; stride: Dim }> = {
  name: 'iota',
  infer: (_, { count }) => [{ dtype: 'int32', shape: [count] }],
  vjp: () => [],
  lower: ({ attrs: { count, stride } }, _, emit) => {
    if (typeof count === 'number' && typeof stride === 'number') {
      const data = Int32Array.from({ length: count }, (_, i) => i * stride);
      return [emit.constant({ dtype: 'int32', shape: [count], data })];
    }
    return [emitCount(count, stride, emit)];
  },
};

function emitCount(count: Dim, stride: Dim, emit: Emitter): string {
  const scalar = (dim: Dim): string => emit.node('Reshape', [emit.shape([dim]), emit.ints([])]);
  return emit.cast(emit.node('Range', [scalar(0), scalar(mulDims(count, stride)), scalar(stride)]), 'int32');
}

/** int32 0, stride, 2 stride, ... (`count` of them). */
export const iota = (count: Dim, stride: Dim = 1): Tensor => apply1(countOperator, [], { count, stride });

/** 1 at the index along a new last axis, else 0. */
export function oneHot(index: Tensor, depth: Dim): Tensor {
  requireIndex('one_hot', index, index);
  if (typeof depth === 'number' && !(depth > 0))
    throw operatorError('one_hot', `depth must be positive, not ${depth}`, index);
  const checked = checkRange(index, { operator: 'one_hot', min: 0, max: depth });
  return cast(equal(expandDims(checked, -1), iota(depth)), 'float32');
}

// Rows ---------------------------------------------------------------------------------------------------------------

/** x[.., index[k], ..] at position k of an axis, for an index vector. */
const gatherOperator: Operator<{ axis: number }> = {
  name: 'gather',
  infer: ([x, index], { axis }) => [{ dtype: x.dtype, shape: x.shape.with(axis, index.shape[0]) }],
  vjp: ({ inputs: [x, index], attrs: { axis } }, [grad]) => {
    const order = [axis, ...x.shape.map((_, i) => i).filter((i) => i !== axis)];
    const rows = apply1(scatterRowsOperator, [index, transpose(grad as Tensor, order)], { rows: x.shape[axis] });
    const back = order.map((_, i) => order.indexOf(i));
    return [transpose(rows, back), undefined];
  },
  lower: ({ attrs: { axis } }, inputs, emit) => [emit.node('Gather', inputs, { axis })],
};

/** out[i, ...] = sum of src[k, ...] over the k with index[k] = i: the adjoint of gathering. */
const scatterRowsOperator: Operator<{ rows: Dim }> = {
  name: 'scatter_rows',
  infer: ([, src], { rows }) => [{ dtype: src.dtype, shape: [rows, ...src.shape.slice(1)] }],
  vjp: ({ inputs: [index] }, [grad]) => [undefined, apply1(gatherOperator, [grad as Tensor, index], { axis: 0 })],
  lower: ({ inputs: [type, srcType], attrs: { rows } }, [index, src], emit) => {
    const blank = emit.node('Expand', [emit.floats([0], []), emit.shape([rows, ...srcType.shape.slice(1)])]);
    const places = emit.node('Cast', [emit.reshape(index, [...type.shape, 1])], { to: INT64 });
    return [emit.node('ScatterND', [blank, places, src], { reduction: 'add' })];
  },
};
const INT64 = 7;

/** Rows of a table. Shapes: weight [V, D], index any. */
export function embedding(weight: Tensor, index: Tensor): Tensor {
  if (weight.shape.length !== 2) throw operatorError('embedding', 'the weight must be [entries, width]', weight, index);
  requireIndex('embedding', index, weight, index);
  const checked = checkRange(index, { operator: 'embedding', min: 0, max: weight.shape[0] }, weight, index);
  const rows = apply1(gatherOperator, [weight, reshape(checked, [productOf(index.shape)])], { axis: 0 });
  return reshape(rows, [...index.shape, weight.shape[1]]);
}

/** Slices of x along an axis in the order of the index vector. */
export function indexSelect(x: Tensor, index: Tensor, axis: number): Tensor {
  requireIndex('index_select', index, x, index);
  if (index.shape.length !== 1) throw operatorError('index_select', 'the index must be a vector', x, index);
  const at = axisOf('index_select', axis, x.shape.length, x, index);
  const checked = checkRange(index, { operator: 'index_select', min: 0, max: x.shape[at] }, x, index);
  return apply1(gatherOperator, [x, checked], { axis: at });
}

/**
 * out[b, k, ...] = x[b, index[b, k], ...]: token selection. Shapes: x [B, N, ...], index [B, K]. One gather of rows,
 * whose gradient adds rows back.
 */
export function batchedGather(x: Tensor, index: Tensor): Tensor {
  requireIndex('batched_gather', index, x, index);
  if (x.shape.length < 2 || index.shape.length !== 2) {
    throw operatorError('batched_gather', 'needs x [B, N, ...] and an index [B, K]', x, index);
  }
  if (x.shape[0] !== index.shape[0]) throw operatorError('batched_gather', 'batch sizes differ', x, index);
  const checked = checkRange(index, { operator: 'batched_gather', min: 0, max: x.shape[1] }, x, index);
  return gatherComputed(x, checked);
}

/** batchedGather at indices that the graph computed itself, in range by construction. */
export const gatherComputed = (x: Tensor, index: Tensor): Tensor => apply1(batchedGatherOperator, [x, index], null);

/** Operators of their own, so that a slice of a batch is selected from and added to without the others. */
const batchedGatherOperator: Operator<null> = {
  name: 'batched_gather',
  infer: ([x, index]) => [{ dtype: x.dtype, shape: [...index.shape, ...x.shape.slice(2)] }],
  vjp: ({ inputs: [x, index] }, [grad]) => [
    apply1(batchedScatterAddOperator, [grad as Tensor, index], { count: x.shape[1] }),
    undefined,
  ],
  lower: ({ inputs: [x, index] }, [data, places], emit) => {
    const [batch, count, ...rest] = x.shape;
    const rows = emit.reshape(data, [mulDims(batch, count), ...rest]);
    const picked = emit.node('Gather', [rows, flatRows(places, index, count, emit)], { axis: 0 });
    return [emit.reshape(picked, [...index.shape, ...rest])];
  },
};

/** out[b, i, ...] = sum of src[b, k, ...] over the k with index[b, k] = i. Shapes: src [B, K, ...], out [B, count, ...]. */
const batchedScatterAddOperator: Operator<{ count: Dim }> = {
  name: 'batched_scatter_add',
  infer: ([src], { count }) => [{ dtype: src.dtype, shape: [src.shape[0], count, ...src.shape.slice(2)] }],
  vjp: ({ inputs: [, index] }, [grad]) => [apply1(batchedGatherOperator, [grad as Tensor, index], null), undefined],
  lower: ({ inputs: [src, index], attrs: { count } }, [data, places], emit) => {
    const [batch, tokens, ...rest] = src.shape;
    const blank = emit.node('Expand', [emit.floats([0], []), emit.shape([mulDims(batch, count), ...rest])]);
    const column = emit.reshape(flatRows(places, index, count, emit), [mulDims(batch, tokens), 1]);
    const rows = emit.reshape(data, [mulDims(batch, tokens), ...rest]);
    const added = emit.node('ScatterND', [blank, emit.node('Cast', [column], { to: INT64 }), rows], {
      reduction: 'add',
    });
    return [emit.reshape(added, [batch, count, ...rest])];
  },
};

/** Positions index[b, k] + b * count among the rows of all samples, as a vector. */
function flatRows(index: string, { shape }: Tensor, count: Dim, emit: Emitter): string {
  const offsets = emit.reshape(emitCount(shape[0], count, emit), [shape[0], 1]);
  return emit.reshape(emit.node('Add', [index, offsets]), [productOf(shape)]);
}

// Elements -----------------------------------------------------------------------------------------------------------

function requireElements(name: string, x: Tensor, index: Tensor, axis: number, ...all: readonly Tensor[]): number {
  requireIndex(name, index, ...all);
  if (x.shape.length !== index.shape.length) throw operatorError(name, 'the ranks of x and index differ', ...all);
  const at = axisOf(name, axis, x.shape.length, ...all);
  const larger = x.shape.some(
    (dim, i) => i !== at && dim !== index.shape[i] && !(Number(index.shape[i]) < Number(dim)),
  );
  if (larger) throw operatorError(name, `the index exceeds x on an axis other than ${at}`, ...all);
  return at;
}

const takeOperator: Operator<{ axis: number }> = {
  name: 'take_along_axis',
  infer: ([x, index]) => [{ dtype: x.dtype, shape: index.shape }],
  vjp: ({ inputs: [x, index], attrs }, [grad]) => [
    apply1(scatterAddOperator, [zeros(x.shape), index, grad as Tensor], attrs),
    undefined,
  ],
  lower: ({ attrs }, inputs, emit) => [emit.node('GatherElements', inputs, { axis: attrs.axis })],
};

const scatterAddOperator: Operator<{ axis: number }> = {
  name: 'scatter_add',
  infer: ([x]) => [x],
  vjp: ({ inputs: [, index], attrs }, [grad]) => [
    grad,
    undefined,
    apply1(takeOperator, [grad as Tensor, index], attrs),
  ],
  lower: ({ attrs: { axis } }, inputs, emit) => [emit.node('ScatterElements', inputs, { axis, reduction: 'add' })],
};

const scatterOperator: Operator<{ axis: number }> = {
  name: 'scatter',
  infer: ([x]) => [x],
  vjp: ({ inputs: [, index, src], attrs }, [grad]) => [
    apply1(scatterOperator, [grad as Tensor, index, zeros(src.shape)], attrs),
    undefined,
    apply1(takeOperator, [grad as Tensor, index], attrs),
  ],
  lower: ({ attrs: { axis } }, inputs, emit) => [emit.node('ScatterElements', inputs, { axis })],
};

/** out[.., i, ..] = x[.., index[.., i, ..], ..] along an axis; the index has the rank of x. */
export function takeAlongAxis(x: Tensor, index: Tensor, axis: number): Tensor {
  const name = 'take_along_axis';
  const at = requireElements(name, x, index, axis, x, index);
  return apply1(takeOperator, [x, checkRange(index, { operator: name, min: 0, max: x.shape[at] }, x, index)], {
    axis: at,
  });
}

function scatterWith(
  name: string,
  op: Operator<{ axis: number }>,
): (x: Tensor, index: Tensor, src: Tensor, axis: number) => Tensor {
  return (x, index, src, axis) => {
    if (!sameShape(src.shape, index.shape)) throw operatorError(name, 'src and index differ in shape', x, index, src);
    if (src.dtype !== x.dtype) throw operatorError(name, 'x and src differ in type', x, index, src);
    const at = requireElements(name, x, index, axis, x, index, src);
    const checked = checkRange(index, { operator: name, min: 0, max: x.shape[at] }, x, index, src);
    return apply1(op, [x, checked, src], { axis: at });
  };
}

/** x with src added at the index along an axis; repeated indices add up. */
export const scatterAdd = scatterWith('scatter_add', scatterAddOperator);
/** x with src written at the index along an axis; indices must not repeat. */
export const scatter = scatterWith('scatter', scatterOperator);

// Order --------------------------------------------------------------------------------------------------------------

const topkOperator: Operator<{ k: Dim; axis: number; largest: boolean }> = {
  name: 'topk',
  infer: ([x], { k, axis }) => {
    const shape = x.shape.with(axis, k);
    return [
      { dtype: x.dtype, shape },
      { dtype: 'int32', shape },
    ];
  },
  vjp: ({ inputs: [x], outputs: [, indices], attrs: { axis } }, [grad]) => [
    grad && apply1(scatterAddOperator, [zeros(x.shape), indices, grad], { axis }),
  ],
  lower: ({ attrs: { k, axis, largest } }, [x], emit) => {
    const [values, indices] = emit.nodes('TopK', [x, emit.shape([k])], 2, {
      axis,
      largest: largest ? 1 : 0,
      sorted: 1,
    });
    return [values, emit.cast(indices, 'int32')];
  },
};

export interface Ordered {
  readonly values: Tensor;
  /** int32 */
  readonly indices: Tensor;
}

/** The k largest (or smallest) values along an axis, best first. */
export function topk(x: Tensor, k: number, axis = -1, largest = true): Ordered {
  const at = axisOf('topk', axis, x.shape.length, x);
  const size = x.shape[at];
  if (k < 1 || !Number.isInteger(k) || (typeof size === 'number' && k > size)) {
    throw operatorError('topk', `k = ${k} must lie between 1 and the size ${dimText(size)} of axis ${at}`, x);
  }
  const [values, indices] = apply(topkOperator, [x], { k, axis: at, largest });
  return { values, indices };
}

/** Values in order along an axis, with their indices. */
export function sort(x: Tensor, axis = -1, descending = false): Ordered {
  const at = axisOf('sort', axis, x.shape.length, x);
  const [values, indices] = apply(topkOperator, [x], { k: x.shape[at], axis: at, largest: descending });
  return { values, indices };
}
