import { addDims, type Dim, type DimLike, divDims, mulDims, productOf, shapeText, subDims, toDim } from '../dims.js';
import type { Emitter } from '../lower.js';
import {
  apply,
  apply1,
  axesOf,
  axisOf,
  type Operator,
  operatorError,
  sameShape,
  staticDim,
  type Tensor,
} from '../tensor.js';
import { zeros } from './elementwise.js';
import { sumTo } from './reduce.js';

/** Moves: operators that rearrange elements. All but the steps of slices work with symbolic dimensions. */

// Shapes -------------------------------------------------------------------------------------------------------------

export const reshapeOperator: Operator<{ shape: readonly Dim[] }> = {
  name: 'reshape',
  infer: ([x], { shape }) => [{ dtype: x.dtype, shape }],
  vjp: ({ inputs: [x] }, [grad]) => [reshape(grad as Tensor, x.shape)],
  lower: ({ attrs: { shape } }, [x], emit) => [emit.reshape(x, shape)],
};

/** Row-major reshape; one entry may be -1. */
export function reshape(x: Tensor, shape: readonly DimLike[]): Tensor {
  const target = shape.map(toDim);
  const total = productOf(x.shape);
  const open = target.indexOf(-1);
  if (open >= 0) {
    if (target.indexOf(-1, open + 1) >= 0)
      throw operatorError('reshape', `two unknown sizes in ${shapeText(target)}`, x);
    const rest = productOf(target.filter((_, i) => i !== open));
    const size = divDims(total, rest);
    if (size === undefined) throw operatorError('reshape', `the size does not divide into ${shapeText(target)}`, x);
    target[open] = size;
  }
  if (productOf(target) !== total) {
    throw operatorError('reshape', `${shapeText(target)} has another number of elements`, x);
  }
  if (sameShape(target, x.shape)) return x;
  const source = x.node.op === (reshapeOperator as Operator) ? x.node.inputs[0] : x;
  return sameShape(target, source.shape) ? source : apply1(reshapeOperator, [source], { shape: target });
}

export const broadcastToOperator: Operator<{ shape: readonly Dim[] }> = {
  name: 'broadcast_to',
  infer: ([x], { shape }) => {
    const lead = shape.length - x.shape.length;
    if (lead < 0 || x.shape.some((dim, i) => dim !== 1 && dim !== shape[i + lead])) {
      throw operatorError('broadcast_to', `cannot become ${shapeText(shape)}`, x);
    }
    return [{ dtype: x.dtype, shape }];
  },
  vjp: ({ inputs: [x] }, [grad]) => [sumTo(grad as Tensor, x.shape)],
  lower: ({ attrs: { shape } }, [x], emit) => [emit.node('Expand', [x, emit.shape(shape)])],
};

/** NumPy broadcasting to a given shape. Elementwise operators broadcast by themselves. */
export function broadcastTo(x: Tensor, shape: readonly DimLike[]): Tensor {
  const target = shape.map(toDim);
  return sameShape(target, x.shape) ? x : apply1(broadcastToOperator, [x], { shape: target });
}

/** Inserts axes of size 1; positions refer to the result. */
export function expandDims(x: Tensor, axes: readonly number[] | number): Tensor {
  const list = typeof axes === 'number' ? [axes] : axes;
  const rank = x.shape.length + list.length;
  const added = new Set(list.map((axis) => axisOf('expand_dims', axis, rank, x)));
  if (added.size !== list.length) throw operatorError('expand_dims', `axes [${axes}] repeat`, x);
  const rest = [...x.shape];
  return reshape(
    x,
    Array.from({ length: rank }, (_, i) => (added.has(i) ? 1 : (rest.shift() as Dim))),
  );
}

/** Removes axes of size 1 (null: all of them). */
export function squeeze(x: Tensor, axes: readonly number[] | number | null = null): Tensor {
  const removed = axes === null ? x.shape.flatMap((dim, i) => (dim === 1 ? [i] : [])) : axesOf('squeeze', axes, x);
  const wrong = removed.find((axis) => x.shape[axis] !== 1);
  if (wrong !== undefined) throw operatorError('squeeze', `axis ${wrong} is not of size 1`, x);
  return reshape(
    x,
    x.shape.filter((_, i) => !removed.includes(i)),
  );
}

export const transposeOperator: Operator<{ perm: readonly number[] }> = {
  name: 'transpose',
  infer: ([x], { perm }) => [{ dtype: x.dtype, shape: perm.map((axis) => x.shape[axis]) }],
  vjp: ({ attrs: { perm } }, [grad]) => [
    transpose(
      grad as Tensor,
      perm.map((_, axis) => perm.indexOf(axis)),
    ),
  ],
  lower: ({ attrs: { perm } }, [x], emit) => [emit.node('Transpose', [x], { perm })],
};

/** Output axis i is input axis perm[i]. */
export function transpose(x: Tensor, perm: readonly number[]): Tensor {
  const rank = x.shape.length;
  const axes = perm.map((axis) => axisOf('transpose', axis, rank, x));
  if (axes.length !== rank || new Set(axes).size !== rank) {
    throw operatorError('transpose', `[${perm}] is not a permutation of the axes`, x);
  }
  if (axes.every((axis, i) => axis === i)) return x;
  if (x.node.op !== (transposeOperator as Operator)) return apply1(transposeOperator, [x], { perm: axes });
  const inner = (x.node.attrs as { perm: readonly number[] }).perm;
  return transpose(
    x.node.inputs[0],
    axes.map((axis) => inner[axis]),
  );
}

/** Swaps the last two axes. */
export function swapLast(x: Tensor): Tensor {
  const rank = x.shape.length;
  return transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

// Joining and cutting ------------------------------------------------------------------------------------------------

export const concatOperator: Operator<{ axis: number }> = {
  name: 'concat',
  infer: (inputs, { axis }) => {
    const [first] = inputs;
    for (const t of inputs) {
      if (t.dtype !== first.dtype) throw operatorError('concat', 'element types differ', ...inputs);
      if (t.shape.length !== first.shape.length) throw operatorError('concat', 'ranks differ', ...inputs);
      if (t.shape.some((dim, i) => i !== axis && dim !== first.shape[i])) {
        throw operatorError('concat', `axes other than ${axis} differ`, ...inputs);
      }
    }
    const size = inputs.map((t) => t.shape[axis]).reduce(addDims);
    return [{ dtype: first.dtype, shape: first.shape.with(axis, size) }];
  },
  vjp: ({ inputs, attrs: { axis } }, [grad]) =>
    split(
      grad as Tensor,
      axis,
      inputs.map((t) => t.shape[axis]),
    ),
  lower: ({ attrs: { axis } }, inputs, emit) => [emit.node('Concat', inputs, { axis })],
};

/** Joins along an existing axis. */
export function concat(inputs: readonly Tensor[], axis: number): Tensor {
  if (inputs.length === 0) throw operatorError('concat', 'needs at least one input');
  const at = axisOf('concat', axis, inputs[0].shape.length, ...inputs);
  return inputs.length === 1 ? inputs[0] : apply1(concatOperator, inputs, { axis: at });
}

/** Joins along a new axis; its position refers to the result. */
export function stack(inputs: readonly Tensor[], axis: number): Tensor {
  if (inputs.some((t) => !sameShape(t.shape, inputs[0].shape))) {
    throw operatorError('stack', 'shapes differ', ...inputs);
  }
  const at = axisOf('stack', axis, inputs[0].shape.length + 1, ...inputs);
  return concat(
    inputs.map((t) => expandDims(t, at)),
    at,
  );
}

const splitOperator: Operator<{ axis: number; sizes: readonly Dim[] }> = {
  name: 'split',
  infer: ([x], { axis, sizes }) => {
    if (sizes.reduce<Dim>(addDims, 0) !== x.shape[axis]) {
      throw operatorError('split', `sizes ${shapeText(sizes)} do not sum to axis ${axis}`, x);
    }
    return sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.with(axis, size) }));
  },
  vjp: ({ outputs, attrs: { axis } }, grads) => [
    concat(
      outputs.map((t, i) => grads[i] ?? zeros(t.shape)),
      axis,
    ),
  ],
  lower: ({ attrs: { axis, sizes } }, [x], emit) => emitSplit(emit, x, axis, sizes),
};

/** A WebGPU shader takes few buffers: many pieces are cut in two steps there. */
const MAX_PIECES = 8;

export function emitSplit(emit: Emitter, x: string, axis: number, sizes: readonly Dim[]): readonly string[] {
  if (emit.backend !== 'webgpu' || sizes.length <= MAX_PIECES) {
    return emit.nodes('Split', [x, emit.shape(sizes)], sizes.length, { axis });
  }
  const each = Math.ceil(sizes.length / MAX_PIECES);
  const groups = Array.from({ length: Math.ceil(sizes.length / each) }, (_, i) =>
    sizes.slice(i * each, (i + 1) * each),
  );
  const pieces = emitSplit(
    emit,
    x,
    axis,
    groups.map((group) => group.reduce<Dim>(addDims, 0)),
  );
  return groups.flatMap((group, i) => (group.length === 1 ? [pieces[i]] : emitSplit(emit, pieces[i], axis, group)));
}

/** Consecutive pieces along an axis. */
export function split(x: Tensor, axis: number, sizes: readonly DimLike[]): readonly Tensor[] {
  const at = axisOf('split', axis, x.shape.length, x);
  const dims = sizes.map(toDim);
  return dims.length === 1 && dims[0] === x.shape[at] ? [x] : apply(splitOperator, [x], { axis: at, sizes: dims });
}

interface Cut {
  readonly axis: number;
  readonly start: Dim;
  readonly length: Dim;
  /** Positive; 1 where the length is symbolic. */
  readonly step: number;
}

const sliceOperator: Operator<{ cuts: readonly Cut[] }> = {
  name: 'slice',
  infer: ([x], { cuts }) => {
    const shape = [...x.shape];
    for (const { axis, length } of cuts) shape[axis] = length;
    return [{ dtype: x.dtype, shape }];
  },
  vjp: ({ inputs: [x], attrs: { cuts } }, [grad]) => {
    let g = grad as Tensor;
    const pads = x.shape.map((): [Dim, Dim] => [0, 0]);
    for (const { axis, start, length, step } of cuts) {
      const span = typeof length === 'number' ? (length === 0 ? 0 : (length - 1) * step + 1) : length;
      g = spread(g, axis, step);
      pads[axis] = [start, subDims(subDims(x.shape[axis], start), span)];
    }
    return [padZeros(g, pads)];
  },
  lower: ({ attrs: { cuts } }, [x], emit) => {
    const ends = cuts.map(({ start, length, step }) =>
      typeof length === 'number' ? addDims(start, length === 0 ? 0 : (length - 1) * step + 1) : addDims(start, length),
    );
    return [
      emit.node('Slice', [
        x,
        emit.shape(cuts.map((cut) => cut.start)),
        emit.shape(ends),
        emit.ints(cuts.map((cut) => cut.axis)),
        emit.ints(cuts.map((cut) => cut.step)),
      ]),
    ];
  },
};

/** Puts `step - 1` zeros between the elements along an axis. */
function spread(x: Tensor, axis: number, step: number): Tensor {
  const size = x.shape[axis];
  if (step === 1 || size === 0 || size === 1) return x;
  const length = staticDim('slice', size, 'the size of an axis cut with a step', x);
  const apart = reshape(x, x.shape.toSpliced(axis, 1, length, 1));
  const pads = apart.shape.map((_, i): [Dim, Dim] => (i === axis + 1 ? [0, step - 1] : [0, 0]));
  const wide = reshape(padZeros(apart, pads), x.shape.with(axis, length * step));
  return narrow(wide, axis, 0, (length - 1) * step + 1);
}

/** `length` elements along an axis from `start` on, both possibly symbolic. */
export function narrow(x: Tensor, axis: number, start: DimLike, length: DimLike, step = 1): Tensor {
  const at = axisOf('slice', axis, x.shape.length, x);
  const cut = { axis: at, start: toDim(start), length: toDim(length), step };
  const size = x.shape[at];
  if (typeof size === 'number' && typeof cut.start === 'number' && typeof cut.length === 'number') {
    const end = cut.length === 0 ? cut.start : cut.start + (cut.length - 1) * step + 1;
    if (cut.start < 0 || cut.length < 0 || end > size) {
      throw operatorError('slice', `${cut.start} .. ${end - 1} is not inside of axis ${at}`, x);
    }
  }
  if (step === 1 && cut.start === 0 && cut.length === x.shape[at]) return x;
  return apply1(sliceOperator, [x], { cuts: [cut] });
}

export interface SliceRange {
  readonly axis: number;
  /** Negative values count from the end; null or absent is open; bounds are clamped. */
  readonly start?: number | null;
  readonly end?: number | null;
  /** A negative step walks backwards. */
  readonly step?: number | null;
}

/** Python slicing along the listed axes. An axis of symbolic size takes non-negative starts and open or negative ends. */
export function slice(x: Tensor, ranges: readonly SliceRange[]): Tensor {
  const cuts: Cut[] = [];
  const reversed: number[] = [];
  axesOf(
    'slice',
    ranges.map((range) => range.axis),
    x,
  );
  for (const range of ranges) {
    const axis = axisOf('slice', range.axis, x.shape.length, x);
    const step = range.step ?? 1;
    if (step === 0 || !Number.isInteger(step)) throw operatorError('slice', `step ${step} along axis ${axis}`, x);
    const size = x.shape[axis];
    const { start, length } =
      typeof size === 'number' ? staticCut(size, range, step) : symbolicCut(size, range, step, axis, x);
    if (step < 0) reversed.push(axis);
    if (start !== 0 || length !== size || Math.abs(step) !== 1)
      cuts.push({ axis, start, length, step: Math.abs(step) });
  }
  return flip(cuts.length === 0 ? x : apply1(sliceOperator, [x], { cuts }), reversed);
}

function staticCut(size: number, { start, end }: SliceRange, step: number): { start: number; length: number } {
  const clamp = (value: number, low: number, high: number): number =>
    Math.min(Math.max(value < 0 ? value + size : value, low), high);
  if (step > 0) {
    const from = clamp(start ?? 0, 0, size);
    const to = clamp(end ?? size, 0, size);
    return { start: from, length: Math.max(0, Math.ceil((to - from) / step)) };
  }
  const from = start === null || start === undefined ? size - 1 : clamp(start, -1, size - 1);
  const to = end === null || end === undefined ? -1 : clamp(end, -1, size - 1);
  const length = Math.max(0, Math.ceil((to - from) / step));
  return { start: length === 0 ? 0 : from + (length - 1) * step, length };
}

function symbolicCut(
  size: Dim,
  { start, end }: SliceRange,
  step: number,
  axis: number,
  x: Tensor,
): { start: Dim; length: Dim } {
  const open = (start ?? null) === null && (end ?? null) === null;
  if (step === -1 && open) return { start: 0, length: size };
  if (step !== 1) throw operatorError('slice', `step ${step} along axis ${axis}, whose size is symbolic`, x);
  const from = (start ?? 0) < 0 ? addDims(size, start as number) : (start ?? 0);
  const to = end === null || end === undefined ? size : end < 0 ? addDims(size, end) : end;
  return { start: from, length: subDims(to, from) };
}

const flipOperator: Operator<{ axes: readonly number[] }> = {
  name: 'flip',
  infer: ([x]) => [x],
  vjp: ({ attrs: { axes } }, [grad]) => [flip(grad as Tensor, axes)],
  lower: ({ attrs: { axes } }, [x], emit) => {
    const all = (value: number): string => emit.ints(axes.map(() => value));
    return [emit.node('Slice', [x, all(-1), all(-(2 ** 31)), emit.ints(axes), all(-1)])];
  },
};

/** Reverses the order along the axes. */
export function flip(x: Tensor, axes: readonly number[] | number): Tensor {
  const list = axesOf('flip', axes, x);
  return list.length === 0 ? x : apply1(flipOperator, [x], { axes: list });
}

interface PadAttrs {
  readonly pads: readonly (readonly [Dim, Dim])[];
  readonly value: number;
}

const padOperator: Operator<PadAttrs> = {
  name: 'pad',
  infer: ([x], { pads }) => [
    { dtype: x.dtype, shape: x.shape.map((dim, i) => addDims(dim, addDims(pads[i][0], pads[i][1]))) },
  ],
  vjp: ({ inputs: [x], attrs: { pads } }, [grad]) => {
    const cuts = x.shape.flatMap((length, axis) =>
      pads[axis].every((pad) => pad === 0) ? [] : [{ axis, start: pads[axis][0], length, step: 1 }],
    );
    return [apply1(sliceOperator, [grad as Tensor], { cuts })];
  },
  lower: ({ attrs: { pads, value } }, [x], emit) => {
    const amounts = emit.shape([...pads.map(([before]) => before), ...pads.map(([, after]) => after)]);
    return [emit.node('Pad', [x, amounts, emit.floats([value], [])], { mode: 'constant' })];
  },
};

function padZeros(x: Tensor, pads: readonly (readonly [Dim, Dim])[], value = 0): Tensor {
  return pads.every(([before, after]) => before === 0 && after === 0) ? x : apply1(padOperator, [x], { pads, value });
}

export type PadMode = 'constant' | 'reflect' | 'edge';

/** Pads each axis by [before, after]. `reflect` does not repeat the border value, `edge` repeats it. */
export function pad(
  x: Tensor,
  pads: readonly (readonly [number, number])[],
  mode: PadMode = 'constant',
  value = 0,
): Tensor {
  if (pads.length !== x.shape.length) throw operatorError('pad', `needs one pair for each axis, not ${pads.length}`, x);
  if (pads.flat().some((amount) => amount < 0 || !Number.isInteger(amount))) {
    throw operatorError('pad', `amounts must be whole and not negative, not [${pads}]`, x);
  }
  if (mode === 'constant') return padZeros(x, pads, value);
  return pads.reduce((result, [before, after], axis) => {
    if (before === 0 && after === 0) return result;
    const size = staticDim('pad', x.shape[axis], 'the size of a padded axis', x);
    if (mode === 'reflect') {
      if (Math.max(before, after) >= size) {
        throw operatorError('pad', `reflect padding [${before}, ${after}] must be smaller than axis ${axis}`, x);
      }
      const left = flip(narrow(result, axis, 1, before), axis);
      const right = flip(narrow(result, axis, size - 1 - after, after), axis);
      return joined(left, result, right, axis);
    }
    if (size === 0) throw operatorError('pad', `axis ${axis} has no edge to repeat`, x);
    const border = (start: number, length: number): Tensor =>
      broadcastTo(narrow(result, axis, start, 1), result.shape.with(axis, length));
    return joined(border(0, before), result, border(size - 1, after), axis);
  }, x);
}

const joined = (left: Tensor, middle: Tensor, right: Tensor, axis: number): Tensor =>
  concat(
    [left, middle, right].filter((t) => t.shape[axis] !== 0),
    axis,
  );

// Triangles and repeats ----------------------------------------------------------------------------------------------

function triangle(name: string, upper: number): (x: Tensor, diagonal?: number) => Tensor {
  const op: Operator<{ diagonal: number }> = {
    name,
    infer: ([x]) => {
      if (x.shape.length < 2) throw operatorError(name, 'needs at least two axes', x);
      return [x];
    },
    vjp: ({ attrs }, [grad]) => [apply1(op, [grad as Tensor], attrs)],
    lower: ({ attrs: { diagonal } }, [x], emit) => [
      emit.node('Trilu', [x, emit.node('Reshape', [emit.ints([diagonal]), emit.ints([])])], { upper }),
    ],
  };
  return (x, diagonal = 0) => apply1(op, [x], { diagonal });
}

/** Keeps entries with column - row <= diagonal in the last two axes, else 0. */
export const tril = triangle('tril', 0);
/** Keeps entries with column - row >= diagonal in the last two axes, else 0. */
export const triu = triangle('triu', 1);

/** Element i moves to (i + shift) mod size. */
export function roll(x: Tensor, shifts: readonly number[] | number, axes: readonly number[] | number): Tensor {
  const amounts = typeof shifts === 'number' ? [shifts] : shifts;
  const list = typeof axes === 'number' ? [axes] : axes;
  if (amounts.length !== list.length) throw operatorError('roll', 'needs one shift for each axis', x);
  return list.reduce((result, axis, i) => {
    const at = axisOf('roll', axis, x.shape.length, x);
    const size = x.shape[at];
    const shift = typeof size === 'number' && size > 0 ? ((amounts[i] % size) + size) % size : amounts[i];
    if (shift === 0 || size === 0) return result;
    const tail = shift > 0 ? shift : addDims(size, shift);
    const [head, moved] = split(result, at, [subDims(size, tail), tail]);
    return concat([moved, head], at);
  }, x);
}

/** The whole array repeated along each axis: 'abc' -> 'abcabc'. More repeats than axes add leading axes. */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  if (repeats.some((n) => n < 1 || !Number.isInteger(n))) {
    throw operatorError('tile', `repeats must be positive whole numbers, not [${repeats}]`, x);
  }
  const rank = Math.max(repeats.length, x.shape.length);
  const shape = [...Array<Dim>(rank - x.shape.length).fill(1), ...x.shape];
  const counts = [...Array<number>(rank - repeats.length).fill(1), ...repeats];
  const apart = reshape(
    x,
    shape.flatMap((dim) => [1, dim]),
  );
  const repeated = broadcastTo(
    apart,
    shape.flatMap((dim, i) => [counts[i], dim]),
  );
  return reshape(
    repeated,
    shape.map((dim, i) => mulDims(dim, counts[i])),
  );
}

/** Each element repeated in place: 'abc' -> 'aabbcc'. */
export function repeatInterleave(x: Tensor, repeats: number, axis: number): Tensor {
  const at = axisOf('repeat_interleave', axis, x.shape.length, x);
  if (repeats < 1 || !Number.isInteger(repeats)) {
    throw operatorError('repeat_interleave', `repeats must be a positive whole number, not ${repeats}`, x);
  }
  const size = x.shape[at];
  const apart = reshape(x, x.shape.toSpliced(at, 1, size, 1));
  return reshape(broadcastTo(apart, x.shape.toSpliced(at, 1, size, repeats)), x.shape.with(at, mulDims(size, repeats)));
}
