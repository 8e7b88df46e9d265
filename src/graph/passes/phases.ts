import { reachable } from '../lower.js';
import { gatherSumOperator, type Places } from '../ops/gather-sum.js';
import { reshapeOperator } from '../ops/move.js';
import {
  constantOperator,
  inputOperator,
  type Node,
  type Operator,
  parameterOperator,
  type Tensor,
} from '../tensor.js';
import { type ExchangeAttrs, exchangeOperator } from './shard.js';

/** One session's part of a graph that is cut at exchanges. */
export interface Phase {
  readonly nodes: readonly Node[];
  /** What earlier phases (or exchanges) made and this one reads. */
  readonly carriedIn: readonly Tensor[];
  /** What this phase must hand on: values for exchanges, later phases, and the graph's outputs. */
  readonly produced: readonly Tensor[];
  /** Exchanges to do after this phase. */
  readonly exchanges: readonly { readonly value: Tensor; readonly result: Tensor; readonly attrs: ExchangeAttrs }[];
}

/**
 * Views, and tokens at other places: every phase that reads such a value makes it again, as handing it on would take memory
 * and more time.
 */
const isCopy = (node: Node): boolean =>
  node.op === (reshapeOperator as Operator) ||
  (node.op === (gatherSumOperator as Operator) && (node as Node<{ places: Places }>).attrs.places.terms === 1);

/**
 * Cuts a graph at its exchanges. What an exchange needs is computed as early as it can be, everything else in the last
 * phase, so that little has to be carried over.
 */
export function cutPhases(outputs: readonly Tensor[], exchanges: readonly Tensor[]): Phase[] {
  const isExchange = (node: Node): boolean => node.op === (exchangeOperator as Operator);
  const order = reachable(outputs);
  const live = new Set(order);
  const used = exchanges.filter((t) => live.has(t.node));
  const earliest = new Map<Node, number>();
  for (const node of order) {
    let phase = 0;
    for (const t of node.inputs) {
      phase = Math.max(phase, (earliest.get(t.node) as number) + (isExchange(t.node) ? 1 : 0));
    }
    earliest.set(node, phase);
  }
  const count = 1 + Math.max(0, ...order.map((node) => earliest.get(node) as number));
  const early = new Set(reachable(used));
  const phaseOf = (node: Node): number => (early.has(node) ? (earliest.get(node) as number) : count - 1);

  // Leaves cost nothing, and what is made of parameters alone is little work: every phase has its own.
  const leaf = (node: Node): boolean =>
    node.op === (constantOperator as Operator) ||
    node.op === (inputOperator as Operator) ||
    node.op === (parameterOperator as Operator) ||
    node.op.name === 'size';
  const weights = new Set<Node>();
  for (const node of order) {
    const made = node.inputs.length > 0 && !isExchange(node) && node.inputs.every((t) => weights.has(t.node));
    if (made || (leaf(node) && node.op !== (inputOperator as Operator))) weights.add(node);
  }
  const free = (node: Node): boolean => leaf(node) || weights.has(node);

  const carriedIn = Array.from({ length: count }, () => new Set<Tensor>());
  const produced = Array.from({ length: count }, () => new Set<Tensor>());
  const need = (t: Tensor, at: number): void => {
    if (free(t.node)) return;
    if (isCopy(t.node)) {
      need(t.node.inputs[0], at);
      return;
    }
    if (isExchange(t.node)) {
      carriedIn[at].add(t);
      return;
    }
    const made = phaseOf(t.node);
    if (made === at) return;
    carriedIn[at].add(t);
    produced[made].add(t);
  };
  for (const node of order) {
    if (isExchange(node)) produced[phaseOf(node.inputs[0].node)].add(node.inputs[0]);
    else for (const t of node.inputs) need(t, phaseOf(node));
  }
  for (const t of outputs) {
    if (isExchange(t.node)) carriedIn[count - 1].add(t);
    else produced[free(t.node) ? count - 1 : phaseOf(t.node)].add(t);
  }

  return Array.from({ length: count }, (_, phase) => ({
    nodes: order.filter((node) => !isExchange(node) && (free(node) || isCopy(node) || phaseOf(node) === phase)),
    carriedIn: [...carriedIn[phase]],
    produced: [...produced[phase]],
    exchanges: used
      .filter((t) => phaseOf(t.node.inputs[0].node) === phase)
      .map((t) => ({ value: t.node.inputs[0], result: t, attrs: t.node.attrs as ExchangeAttrs })),
  }));
}
