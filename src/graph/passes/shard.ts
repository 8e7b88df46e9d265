import { type Dim, dimText, mapDims, productOf, type SymbolicDim, subDims, substituteDim, symbolsOf, toDim } from '../dims.js';
import { reachable } from '../lower.js';
import { mul, reciprocal, sub } from '../ops/elementwise.js';
import { sum } from '../ops/reduce.js';
import { apply, apply1, input, inScope, type Node, type Operator, sizeOperator, sizeTensor, type Tensor } from '../tensor.js';
import { shareCommon } from './cse.js';
import { batchAxis, type Held, type Placement, placementOf } from './placement.js';

/**
 * Splits a graph over slices of a batch. A method is written for the whole batch; this pass finds how a worker that has
 * only some of the rows holds every tensor (see `Placement`) and puts in the exchanges without which a value would be
 * wrong. Losses over batch statistics (VICReg, SIGReg, InfoNCE, batch norm) come out as in one session, because the
 * statistics are summed over workers before anything that is not linear uses them. An operator without a rule has its
 * inputs gathered first, which is always right.
 */
export interface ShardedGraph {
  /** The outputs, rewritten for one worker. */
  readonly outputs: readonly Tensor[];
  readonly placements: readonly Placement[];
  /** Values that workers must exchange, in an order in which that can be done. */
  readonly exchanges: readonly Tensor[];
  /** Scalar inputs that the host fills from the whole batch's dimensions. */
  readonly sizes: ReadonlyMap<string, Dim>;
}

export interface ExchangeAttrs {
  readonly kind: 'sum' | 'gather';
  /** Axis along which slices are joined. */
  readonly axis: number;
  readonly shape: readonly Dim[];
}

/** A value that workers make together: the sum of their parts, or their slices joined. Sessions are cut here. */
export const exchangeOperator: Operator<ExchangeAttrs> = {
  name: 'exchange',
  infer: ([x], { shape }) => [{ dtype: x.dtype, shape }],
  lower: () => {
    throw new Error('an exchange lies between two sessions and is never lowered');
  },
};

/** Scalar input: a worker's rows / rows of the whole batch. */
export const SHARE_INPUT = 'share of the batch';

export function shardGraph(outputs: readonly Tensor[], batch: string): ShardedGraph {
  const whole = toDim(`whole ${batch}`) as SymbolicDim;
  const toWhole = (dim: Dim): Dim => substituteDim(dim, batch, whole);
  const exchanged = new Map<Tensor, Tensor>();
  const sizes = new Map<string, Dim>();
  const scalars = new Map<string, Tensor>();
  const held = new Map<Tensor, Held>();

  const scalar = (name: string): Tensor => {
    let tensor = scalars.get(name);
    if (!tensor) {
      tensor = input(name, []);
      scalars.set(name, tensor);
    }
    return tensor;
  };

  function replicate({ tensor, placement }: Held): Held {
    if (placement === 'replicated') return { tensor, placement };
    let result = exchanged.get(tensor);
    if (!result) {
      const kind = placement === 'partial' ? 'sum' : 'gather';
      const axis = placement === 'partial' ? 0 : placement;
      const shape = tensor.shape.map((dim, i) => (kind === 'gather' && i === axis ? toWhole(dim) : dim));
      result = apply1(exchangeOperator, [tensor], { kind, axis, shape });
      exchanged.set(tensor, result);
    }
    return { tensor: result, placement: 'replicated' };
  }

  /** A dimension of the whole batch as a scalar, given by the host. */
  function sizeOf(dim: Dim): Tensor {
    if (!symbolsOf(dim).includes(batch)) return sizeTensor(dim);
    const name = `size of ${dimText(dim)}`;
    sizes.set(name, dim);
    return scalar(name);
  }

  function leaf(node: Node): Held {
    if (node.op === (sizeOperator as Operator)) {
      return { tensor: sizeOf((node.attrs as { dim: Dim }).dim), placement: 'replicated' };
    }
    if (node.op.name === 'iota') {
      // Rows are numbered over the whole batch.
      return { tensor: apply1(node.op, [], mapDims(node.attrs, toWhole)), placement: 'replicated' };
    }
    const axis = batchAxis(node.outputs[0].shape, batch);
    return { tensor: node.outputs[0], placement: axis < 0 ? 'replicated' : axis };
  }

  function place(node: Node, inputs: readonly Held[]): Held[] {
    const statistic = batchStatistic(node, inputs);
    if (statistic) return [statistic];
    const attempt = (candidate: readonly Held[]): Held[] | undefined => {
      const placement = placementOf(node, candidate, batch);
      if (placement === undefined) return undefined;
      const results = apply(node.op, candidate.map((h) => h.tensor), node.attrs);
      return results.map((tensor) => ({ tensor, placement }));
    };
    const shared = sharePartOfWhole(node, inputs);
    return (
      attempt(shared) ??
      attempt(inputs.map((h) => (h.placement === 'partial' ? replicate(h) : h))) ??
      apply(node.op, inputs.map((h) => replicate(h).tensor), mapDims(node.attrs, toWhole)).map((tensor) => ({
        tensor,
        placement: 'replicated' as const,
      }))
    );
  }

  /** Means and variances over the batch: sums of parts over the size of the whole. */
  function batchStatistic(node: Node, [x]: readonly Held[]): Held | undefined {
    if (node.op.name !== 'mean' && node.op.name !== 'var') return undefined;
    const { axes, keepdims, correction = 0 } = node.attrs as { axes: readonly number[]; keepdims: boolean; correction?: number };
    if (typeof x.placement !== 'number' || !axes.includes(x.placement)) return undefined;
    const over = axes.map((axis) => node.inputs[0].shape[axis]);
    const meanOf = (t: Tensor, kept: boolean, less: number): Tensor =>
      mul(sum(t, axes, kept), reciprocal(sizeOf(subDims(productOf(over), less))));
    if (node.op.name === 'mean') return { tensor: meanOf(x.tensor, keepdims, 0), placement: 'partial' };
    const centre = replicate({ tensor: meanOf(x.tensor, true, 0), placement: 'partial' }).tensor;
    const deviation = sub(x.tensor, centre);
    return { tensor: meanOf(mul(deviation, deviation), keepdims, correction), placement: 'partial' };
  }

  /** In the sum of a part and a whole value, each worker adds its share of the whole: no exchange is needed. */
  function sharePartOfWhole(node: Node, inputs: readonly Held[]): readonly Held[] {
    if (node.op.name !== 'add' && node.op.name !== 'sub') return inputs;
    if (!inputs.some((h) => h.placement === 'partial') || !inputs.some((h) => h.placement === 'replicated')) return inputs;
    return inputs.map((h) =>
      h.placement === 'replicated' ? { tensor: mul(h.tensor, scalar(SHARE_INPUT)), placement: 'partial' } : h,
    );
  }

  for (const node of reachable(outputs)) {
    inScope(node.scope, () => {
      if (node.inputs.length === 0) {
        held.set(node.outputs[0], leaf(node));
        return;
      }
      const results = place(node, node.inputs.map((t) => held.get(t) as Held));
      node.outputs.forEach((t, i) => {
        held.set(t, results[i]);
      });
    });
  }
  const results = outputs.map((t) => held.get(t) as Held);
  // The same statistic may have been asked for twice.
  const shared = shareCommon(results.map((r) => r.tensor));
  const exchanges = reachable(shared).flatMap((node) => (node.op === (exchangeOperator as Operator) ? node.outputs : []));
  return { outputs: shared, placements: results.map((r) => r.placement), exchanges, sizes };
}
