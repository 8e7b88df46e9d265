import { type Dim, productOf, symbolsOf } from '../dims.js';
import type { Node, Tensor } from '../tensor.js';

/**
 * How one of several workers, each with its own rows of a batch, holds a tensor: its slice along an axis (a number), the
 * whole value, or a part of a sum over workers.
 */
export type Placement = number | 'replicated' | 'partial';

export interface Held {
  readonly tensor: Tensor;
  readonly placement: Placement;
}

type Rule = (node: Node, held: readonly Held[], batch: string) => Placement | undefined;

/**
 * Placement of a node's outputs if it is applied to what a worker holds; undefined when that would be wrong. Operators
 * without a rule work on whole values only.
 */
export function placementOf(node: Node, held: readonly Held[], batch: string): Placement | undefined {
  const rule = RULES[node.op.name] ?? (POINTWISE.has(node.op.name) ? pointwise : undefined);
  if (held.some((h) => h.placement !== 'replicated')) return rule?.(node, held, batch);
  // Rows that are all alike are made where they are needed.
  return node.op.name === 'broadcast_to' ? (rule?.(node, held, batch) ?? 'replicated') : 'replicated';
}

const isSliced = (p: Placement): p is number => typeof p === 'number';

export const batchAxis = (shape: readonly Dim[], batch: string): number =>
  shape.findIndex((dim) => symbolsOf(dim).includes(batch));

const POINTWISE = new Set(
  (
    'neg abs sign exp log sqrt reciprocal erf erfinv tanh sigmoid sin cos floor ceil round relu gelu log1p expm1 softplus ' +
    'pow_scalar clip leaky_relu elu hardtanh smooth_l1 add sub mul div pow atan2 maximum minimum equal less less_equal ' +
    'greater greater_equal logical_and logical_or logical_not cast where stop_gradient check_range'
  ).split(' '),
);
/** f(a + b) = f(a) + f(b), in one input. */
const LINEAR = new Set(['neg', 'stop_gradient']);

const pointwise: Rule = (node, held) => {
  const placements = held.map((h) => h.placement);
  const partial = placements.filter((p) => p === 'partial').length;
  if (partial > 0) {
    const name = node.op.name;
    if (LINEAR.has(name) || ((name === 'add' || name === 'sub') && partial === 2)) return 'partial';
    if (name === 'mul' && partial === 1 && placements.includes('replicated')) return 'partial';
    if (name === 'div' && placements[0] === 'partial' && placements[1] === 'replicated') return 'partial';
    return undefined;
  }
  const rank = node.outputs[0].shape.length;
  let axis: number | undefined;
  for (const { tensor, placement } of held) {
    if (!isSliced(placement)) continue;
    const aligned = placement + rank - tensor.shape.length;
    if (axis !== undefined && axis !== aligned) return undefined;
    axis = aligned;
  }
  if (axis === undefined) return undefined;
  // A whole value that has rows of its own there does not fit to a slice.
  for (const { tensor, placement } of held) {
    if (placement !== 'replicated') continue;
    const dim = tensor.shape[axis - rank + tensor.shape.length] ?? 1;
    if (dim !== 1) return undefined;
  }
  return axis;
};

/** Operators that work along one axis and treat the others as independent. */
const along =
  (axisOf: (attrs: never) => number): Rule =>
  (node, held) => {
    const [first] = held;
    if (!isSliced(first.placement)) return undefined;
    if (held.some((h) => h.placement !== first.placement)) return undefined;
    const rank = first.tensor.shape.length;
    const axis = axisOf(node.attrs as never);
    return (axis < 0 ? axis + rank : axis) === first.placement ? undefined : first.placement;
  };

const reduction =
  (linear: boolean): Rule =>
  (node, [x]) => {
    if (x.placement === 'partial') return linear ? 'partial' : undefined;
    const { axes, keepdims } = node.attrs as { axes: readonly number[]; keepdims: boolean };
    const placement = x.placement as number;
    if (axes.includes(placement)) return linear ? 'partial' : undefined;
    return keepdims ? placement : placement - axes.filter((axis) => axis < placement).length;
  };

/** The batch stays the slowest part of one output dimension. */
const reshape: Rule = (node, [x], batch) => {
  if (x.placement === 'partial') return 'partial';
  const from = x.tensor.shape;
  const to = node.outputs[0].shape;
  const axis = x.placement as number;
  const target = batchAxis(to, batch);
  if (target < 0 || productOf(from.slice(0, axis)) !== productOf(to.slice(0, target))) return undefined;
  return target;
};

const matmul: Rule = (node, [a, b]) => {
  const { transA, transB } = node.attrs as { transA: boolean; transB: boolean };
  const rank = node.outputs[0].shape.length;
  type Role = 'batch' | 'outer' | 'inner' | 'whole' | 'partial';
  const role = ({ tensor, placement }: Held, innerAxis: number): { role: Role; axis: number } => {
    if (placement === 'partial') return { role: 'partial', axis: -1 };
    if (placement === 'replicated') return { role: 'whole', axis: -1 };
    const fromEnd = tensor.shape.length - placement;
    if (fromEnd > 2) return { role: 'batch', axis: rank - fromEnd };
    return { role: tensor.shape.length - innerAxis === fromEnd ? 'inner' : 'outer', axis: -1 };
  };
  const left = role(a, a.tensor.shape.length - (transA ? 2 : 1));
  const right = role(b, b.tensor.shape.length - (transB ? 1 : 2));
  if (left.role === 'partial') return right.role === 'whole' ? 'partial' : undefined;
  if (right.role === 'partial') return left.role === 'whole' ? 'partial' : undefined;
  if (left.role === 'inner' && right.role === 'inner') return 'partial';
  if (left.role === 'batch' || right.role === 'batch') {
    const batchRole = left.role === 'batch' ? left : right;
    const [other, otherHeld] = left.role === 'batch' ? [right, b] : [left, a];
    if (other.role === 'batch') return other.axis === batchRole.axis ? batchRole.axis : undefined;
    if (other.role !== 'whole') return undefined;
    const dim = otherHeld.tensor.shape[batchRole.axis - rank + otherHeld.tensor.shape.length] ?? 1;
    return dim === 1 ? batchRole.axis : undefined;
  }
  if (left.role === 'outer' && right.role === 'whole') return rank - 2;
  if (right.role === 'outer' && left.role === 'whole') return rank - 1;
  return undefined;
};

const RULES: Readonly<Record<string, Rule>> = {
  sum: reduction(true),
  mean: reduction(false),
  var: reduction(false),
  norm: reduction(false),
  max: reduction(false),
  min: reduction(false),
  reshape,
  matmul,
  transpose: (node, [x]) => {
    if (x.placement === 'partial') return 'partial';
    return (node.attrs as { perm: readonly number[] }).perm.indexOf(x.placement as number);
  },
  broadcast_to: (node, [x], batch) => {
    const { shape } = node.outputs[0];
    const target = batchAxis(shape, batch);
    if (x.placement === 'partial') return target < 0 ? 'partial' : undefined;
    if (x.placement !== 'replicated') return x.placement + shape.length - x.tensor.shape.length;
    // Every worker makes its own rows.
    const own = x.tensor.shape[target - shape.length + x.tensor.shape.length] ?? 1;
    return target >= 0 && own === 1 ? target : undefined;
  },
  concat: (node, held) => {
    const first = held[0].placement;
    if (held.some((h) => h.placement !== first)) return undefined;
    return first === 'partial' || first !== (node.attrs as { axis: number }).axis ? first : undefined;
  },
  split: (node, [x]) =>
    x.placement === 'partial' || x.placement !== (node.attrs as { axis: number }).axis ? x.placement : undefined,
  slice: (node, [x]) => {
    if (x.placement === 'partial') return 'partial';
    const { cuts } = node.attrs as { cuts: readonly { axis: number }[] };
    return cuts.some(({ axis }) => axis === x.placement) ? undefined : x.placement;
  },
  flip: (node, [x]) =>
    (node.attrs as { axes: readonly number[] }).axes.includes(x.placement as number) ? undefined : x.placement,
  pad: (node, [x]) => {
    const { pads, value } = node.attrs as { pads: readonly (readonly Dim[])[]; value: number };
    if (x.placement === 'partial') return value === 0 ? 'partial' : undefined;
    return pads[x.placement as number].every((amount) => amount === 0) ? x.placement : undefined;
  },
  harmonic_sums: (node, held) => {
    const [{ placement }] = held;
    if (!isSliced(placement) || held.some((h) => h.placement !== placement)) return undefined;
    return placement === (node.attrs as { axis: number }).axis ? 'partial' : placement;
  },
  harmonic_series: (node, held) => {
    const angles = held.slice(0, 3).map((h) => h.placement);
    const [placement] = angles;
    if (!isSliced(placement) || angles.some((p) => p !== placement)) return undefined;
    const along = placement === (node.attrs as { axis: number }).axis;
    return held[3].placement === (along ? 'replicated' : placement) ? placement : undefined;
  },
  softmax: along(({ axis }: { axis: number }) => axis),
  log_softmax: along(({ axis }: { axis: number }) => axis),
  topk: along(({ axis }: { axis: number }) => axis),
  cumsum: along(({ axis }: { axis: number }) => axis),
  take_along_axis: along(({ axis }: { axis: number }) => axis),
  batched_gather: (_, [x, index]) => (x.placement === 0 && index.placement === 0 ? 0 : undefined),
  batched_scatter_add: (_, [grad, index]) => (grad.placement === 0 && index.placement === 0 ? 0 : undefined),
  transform_axis: (node, [x]) => (x.placement === (node.attrs as { axis: number }).axis ? undefined : x.placement),
  gather_sum: (_, [x]) => (x.placement === 'partial' ? 'partial' : x.placement === 1 ? undefined : x.placement),
  standardize: (node, [x]) =>
    isSliced(x.placement) && !(node.attrs as { axes: readonly number[] }).axes.includes(x.placement)
      ? x.placement
      : undefined,
  gather: (node, [x, index]) => {
    const { axis } = node.attrs as { axis: number };
    if (x.placement === 'replicated' && isSliced(index.placement)) return axis;
    if (index.placement !== 'replicated' || x.placement === axis) return undefined;
    return x.placement;
  },
  scatter_rows: (_, [index, src]) => (index.placement === 0 && src.placement === 0 ? 'partial' : undefined),
  conv: (_, [x, weight]) => (x.placement === 0 && weight.placement === 'replicated' ? 0 : undefined),
  conv_transpose: (_, [x, weight]) => (x.placement === 0 && weight.placement === 'replicated' ? 0 : undefined),
  max_pool: (_, [x]) => (x.placement === 0 ? 0 : undefined),
};
