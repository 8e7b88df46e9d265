import { type Dim, evaluateDim } from '../graph/dims.js';
import { reachable } from '../graph/lower.js';
import { type TransformAttrs, transformAxisOperator } from '../graph/ops/transform-axis.js';
import type { Node, Operator, Tensor } from '../graph/tensor.js';

const BYTES = { float32: 4, int32: 4, bool: 1 } as const;

/** Floating-point operations of the matrix products and convolutions of a graph; a multiply and an add count as two. */
export function countFlops(outputs: readonly Tensor[], symbols: ReadonlyMap<string, number>): number {
  return reachable(outputs).reduce((sum, node) => sum + nodeFlops(node, symbols), 0);
}

function nodeFlops(node: Node, symbols: ReadonlyMap<string, number>): number {
  const size = (shape: readonly Dim[]): number =>
    shape.reduce<number>((p, dim) => p * (evaluateDim(dim, symbols) ?? Number.NaN), 1);
  const [out] = node.outputs;
  if (node.op.name === 'matmul') {
    const [a] = node.inputs;
    const inner = a.shape[a.shape.length - ((node.attrs as { transA: boolean }).transA ? 2 : 1)];
    return 2 * size(out.shape) * size([inner]);
  }
  if (node.op.name === 'conv') return 2 * size(out.shape) * size(node.inputs[1].shape.slice(1));
  if (node.op === (transformAxisOperator as Operator)) {
    return 2 * size(out.shape) * (node.attrs as TransformAttrs).matrix.shape[1];
  }
  return 0;
}

/** Operators whose result is another view of their input, or nothing at all. */
const VIEWS = new Set(['reshape', 'expand_dims', 'squeeze', 'stop_gradient', 'check_range']);

/**
 * Bytes alive at the worst moment when the nodes run in their order and every value is freed after its last use; weights
 * are not counted. An estimate of what the best allocator would need, not of what the runtime takes.
 */
export function livePeak(outputs: readonly Tensor[], symbols: ReadonlyMap<string, number>): number {
  const order = reachable(outputs);
  const owner = (t: Tensor): Tensor => (VIEWS.has(t.node.op.name) ? owner(t.node.inputs[0]) : t);
  const lastUse = new Map<Tensor, number>();
  order.forEach((node, at) => {
    for (const t of node.inputs) lastUse.set(owner(t), at);
  });
  for (const t of outputs) lastUse.set(owner(t), order.length);
  const freedAt = new Map<number, Tensor[]>();
  for (const [t, at] of lastUse) freedAt.set(at, [...(freedAt.get(at) ?? []), t]);
  const bytes = (t: Tensor): number =>
    t.node.inputs.length === 0
      ? 0
      : t.shape.reduce<number>((p, dim) => p * (evaluateDim(dim, symbols) ?? 0), BYTES[t.dtype]);
  let alive = 0;
  let peak = 0;
  order.forEach((node, at) => {
    for (const t of node.outputs) if (owner(t) === t && lastUse.has(t)) alive += bytes(t);
    peak = Math.max(peak, alive);
    for (const t of freedAt.get(at) ?? []) alive -= bytes(t);
  });
  return peak;
}
