import {
  type Dim,
  dimText,
  divDims,
  mapDims,
  mulDims,
  productOf,
  type SymbolicDim,
  subDims,
  substituteDim,
  symbolsOf,
  toDim,
} from '../dims.js';
import { reachable } from '../lower.js';
import { add, mul, reciprocal, rsqrt, square, sub } from '../ops/elementwise.js';
import { indexSelect } from '../ops/index.js';
import { reshape } from '../ops/move.js';
import { sum } from '../ops/reduce.js';
import {
  apply,
  apply1,
  input,
  inScope,
  type Node,
  type Operator,
  operatorError,
  sameShape,
  sizeOperator,
  sizeTensor,
  type Tensor,
} from '../tensor.js';
import { shareCommon } from './cse.js';
import { batchAxis, type Held, type Placement, placementOf } from './placement.js';

/**
 * Splits a graph over slices of a batch. A method is written for the whole batch; this pass finds how a worker that has
 * only some of the rows holds every tensor (see `Placement`) and puts in the exchanges without which a value would be
 * wrong. Losses over batch statistics (VICReg, SIGReg, InfoNCE, batch norm) come out as in one session, because the
 * statistics are summed over workers before anything that is not linear uses them. An operator without a rule has its
 * inputs gathered first, which is always right. Of a whole value that meets slices, a worker takes its own rows.
 */
export interface ShardedGraph {
  /** The outputs, rewritten for one worker. */
  readonly outputs: readonly Tensor[];
  readonly placements: readonly Placement[];
  /** Values that workers must exchange, in an order in which that can be done. */
  readonly exchanges: readonly Tensor[];
  /** Scalar inputs that the host fills from the whole batch's dimensions. */
  readonly sizes: ReadonlyMap<string, Dim>;
  /** A worker's rows / rows of the whole batch: the scalar input `SHARE_INPUT`. */
  readonly share: Tensor;
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
/** int32 input: which rows of the batch a worker has. */
export const ROWS_INPUT = 'rows of the worker';

/** The symbol of the whole batch in a worker's graph, where the batch's own symbol means the worker's rows. */
export const wholeBatch = (batch: string): SymbolicDim => toDim(`whole ${batch}`) as SymbolicDim;

/** Operators that stay linear if both of their inputs are the same. */
const LINEAR_TWICE = new Set(['add', 'sub', 'concat']);

interface StatisticAttrs {
  readonly axes: readonly number[];
  readonly keepdims?: boolean;
  readonly correction?: number;
  readonly eps?: number;
  readonly centred?: boolean;
}

export function shardGraph(outputs: readonly Tensor[], batch: string): ShardedGraph {
  const whole = wholeBatch(batch);
  const toWhole = (dim: Dim): Dim => substituteDim(dim, batch, whole);
  const exchanged = new Map<Tensor, Tensor>();
  const sizes = new Map<string, Dim>();
  const scalars = new Map<string, Tensor>();
  const held = new Map<Tensor, Held>();
  const rowNumbers = input(ROWS_INPUT, [batch], 'int32');

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
    const [tensor] = node.outputs;
    const axis = batchAxis(tensor.shape, batch);
    if (axis < 0) return { tensor, placement: 'replicated' };
    const shape = tensor.shape.map((dim, i) => (i === axis ? dim : toWhole(dim)));
    if (sameShape(shape, tensor.shape)) return { tensor, placement: axis };
    return { tensor: apply1(node.op, [], { ...(node.attrs as object), shape }), placement: axis };
  }

  function place(node: Node, parts: readonly Held[]): readonly Held[] {
    // Once a sum over workers is made, nothing is gained by going on with its parts.
    const twice = (h: Held): boolean => parts.filter(({ tensor }) => tensor === h.tensor).length > 1;
    const inputs = parts.map((h) =>
      h.placement === 'partial' && (exchanged.has(h.tensor) || (twice(h) && !LINEAR_TWICE.has(node.op.name)))
        ? replicate(h)
        : h,
    );
    const statistic = batchStatistic(node, inputs);
    if (statistic) return statistic;
    for (const candidate of candidates(sharePartOfWhole(node, inputs), node)) {
      const held = candidate();
      const results = held && attempt(node, held);
      if (results) return results;
    }
    throw operatorError(node.op.name, 'cannot be computed from slices of the batch (a defect)', ...node.inputs);
  }

  /** The operator applied to what a worker holds, if that gives what it shall. */
  function attempt(node: Node, held: readonly Held[]): Held[] | undefined {
    const placement = placementOf(node, held, batch);
    if (placement === undefined) return undefined;
    // Along one axis a worker has its rows; wherever else the batch occurs, all of it.
    const shapes = node.outputs.map((t) => t.shape.map((dim, axis) => (axis === placement ? dim : toWhole(dim))));
    const attrs = mapDims(node.attrs, toWhole) as object | null;
    const fitting = attrs && 'shape' in attrs ? { ...attrs, shape: shapes[0] } : attrs;
    const results = apply(
      node.op,
      held.map((h) => h.tensor),
      fitting,
    );
    return results.every((t, i) => sameShape(t.shape, shapes[i]))
      ? results.map((tensor) => ({ tensor, placement }))
      : undefined;
  }

  /** Ways to hold a node's inputs, the cheapest first: as they are, own rows of whole values, exchanged. */
  function candidates(inputs: readonly Held[], { inputs: original }: Node): (() => readonly Held[] | undefined)[] {
    const ways = inputs.map((h, i) => {
      const { placement } = h;
      const axis = batchAxis(original[i].shape, batch);
      const same = { cost: 0, make: (): Held | undefined => h };
      const whole = { cost: placement === 'partial' ? 2 : 4, make: (): Held | undefined => replicate(h) };
      const rows = { cost: placement === 'partial' ? 3 : 1, make: () => ownRows(replicate(h).tensor, axis) };
      return [
        same,
        ...(placement === 'replicated' ? [] : [whole]),
        ...(axis >= 0 && typeof placement !== 'number' ? [rows] : []),
      ];
    });
    let combined: { cost: number; makes: (() => Held | undefined)[] }[] = [{ cost: 0, makes: [] }];
    if (ways.length <= 3) {
      for (const options of ways) {
        combined = combined.flatMap(({ cost, makes }) =>
          options.map((o) => ({ cost: cost + o.cost, makes: [...makes, o.make] })),
        );
      }
    } else {
      combined = [inputs, inputs.map(replicate)].map((held, cost) => ({ cost, makes: held.map((h) => () => h) }));
    }
    return combined
      .sort((a, b) => a.cost - b.cost)
      .map(({ makes }) => () => {
        const held = makes.map((make) => make());
        return held.every((h) => h !== undefined) ? held : undefined;
      });
  }

  /** A worker's rows of a whole value, if its rows lie one after the other along an axis. */
  function ownRows(tensor: Tensor, axis: number): Held | undefined {
    const each = divDims(tensor.shape[axis], whole);
    if (each === undefined) return undefined;
    const [before, after] = [tensor.shape.slice(0, axis), tensor.shape.slice(axis + 1)];
    const rows = indexSelect(reshape(tensor, [...before, whole, each, ...after]), rowNumbers, axis);
    return { tensor: reshape(rows, [...before, mulDims(toDim(batch), each), ...after]), placement: axis };
  }

  /** Means, variances and normalisation over the batch: sums of parts over the size of the whole. */
  function batchStatistic(node: Node, [x]: readonly Held[]): Held[] | undefined {
    if (node.op.name !== 'mean' && node.op.name !== 'var' && node.op.name !== 'standardize') return undefined;
    const { axes, keepdims = true, correction = 0, eps = 0, centred = true } = node.attrs as StatisticAttrs;
    if (typeof x.placement !== 'number' || !axes.includes(x.placement)) return undefined;
    const over = axes.map((axis) => node.inputs[0].shape[axis]);
    const meanOf = (t: Tensor, kept: boolean, less: number): Held => ({
      tensor: mul(sum(t, axes, kept), reciprocal(sizeOf(subDims(productOf(over), less)))),
      placement: 'partial',
    });
    if (node.op.name === 'mean') return [meanOf(x.tensor, keepdims, 0)];
    const deviation = centred ? sub(x.tensor, replicate(meanOf(x.tensor, true, 0)).tensor) : x.tensor;
    const squares = meanOf(square(deviation), keepdims, correction);
    if (node.op.name === 'var') return [squares];
    const inverse = rsqrt(add(replicate(squares).tensor, eps));
    return [
      { tensor: mul(deviation, inverse), placement: x.placement },
      { tensor: inverse, placement: 'replicated' },
    ];
  }

  /** In the sum of a part and a whole value, each worker adds its share of the whole: no exchange is needed. */
  function sharePartOfWhole(node: Node, inputs: readonly Held[]): readonly Held[] {
    if (node.op.name !== 'add' && node.op.name !== 'sub') return inputs;
    if (!inputs.some((h) => h.placement === 'partial') || !inputs.some((h) => h.placement === 'replicated'))
      return inputs;
    if (node.outputs[0].dtype !== 'float32') return inputs;
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
      const results = place(
        node,
        node.inputs.map((t) => held.get(t) as Held),
      );
      node.outputs.forEach((t, i) => {
        held.set(t, results[i]);
      });
    });
  }
  const results = outputs.map((t) => held.get(t) as Held);
  // The same statistic may have been asked for twice.
  const shared = shareCommon(results.map((r) => r.tensor));
  const exchanges = reachable(shared).flatMap((node) =>
    node.op === (exchangeOperator as Operator) ? node.outputs : [],
  );
  return { outputs: shared, placements: results.map((r) => r.placement), exchanges, sizes, share: scalar(SHARE_INPUT) };
}
