import { JepaError } from '../../base/errors.js';

/** Searches over sequences of choices 0 .. choices - 1, with a model that is asked for many at a time. */

/** Costs of `count` sequences of `length` choices, row by row. */
export type SequenceCosts = (sequences: Int32Array, count: number, length: number) => Promise<ArrayLike<number>>;

export interface BeamOptions {
  readonly choices: number;
  readonly horizon: number;
  /** Sequences that are kept at every depth. */
  readonly width: number;
}

/** The cheapest sequence found by extending the best `width` ones by every choice, depth after depth. */
export async function beamSearch(
  costs: SequenceCosts,
  { choices, horizon, width }: BeamOptions,
): Promise<{ readonly sequence: Int32Array; readonly cost: number }> {
  if (!(choices >= 1 && horizon >= 1 && width >= 1))
    throw new JepaError(`beam search: ${choices} choices, horizon ${horizon}, width ${width}; all must be 1 or more`);
  let kept: { sequence: Int32Array; cost: number }[] = [{ sequence: new Int32Array(0), cost: 0 }];
  for (let length = 1; length <= horizon; length++) {
    const extended = kept.flatMap(({ sequence }) =>
      Array.from({ length: choices }, (_, choice) => Int32Array.of(...sequence, choice)),
    );
    const flat = new Int32Array(extended.length * length);
    for (const [i, sequence] of extended.entries()) flat.set(sequence, i * length);
    const found = await costs(flat, extended.length, length);
    kept = extended
      .map((sequence, i) => ({ sequence, cost: found[i] }))
      .sort((a, b) => a.cost - b.cost)
      .slice(0, width);
  }
  return kept[0];
}

/** A model of choices: the states that follow each choice, and their costs (the lower the better). */
export interface ChoiceModel<S> {
  expand(state: S): Promise<{ readonly states: readonly S[]; readonly costs: ArrayLike<number> }>;
}

export interface TreeOptions {
  readonly simulations: number;
  /** How deep the tree may be. */
  readonly depth: number;
  /** Weight of curiosity against value; values are scaled to 0 .. 1 by what has been seen. */
  readonly exploration?: number;
}

interface TreeNode<S> {
  readonly state: S;
  readonly cost: number;
  children?: TreeNode<S>[];
  visits: number;
  total: number;
  /** Lowest cost at or below this node. */
  best: number;
}

/**
 * Monte Carlo tree search with upper confidence bounds (UCT, Kocsis and Szepesvari 2006): every simulation expands one leaf, whose
 * value is the lowest cost among what follows it. Returns the visits of the root's choices, the choices that lead to the lowest
 * cost seen, and that cost.
 */
export async function treeSearch<S>(
  root: S,
  model: ChoiceModel<S>,
  { simulations, depth, exploration = Math.SQRT2 }: TreeOptions,
): Promise<{ readonly visits: readonly number[]; readonly path: readonly number[]; readonly cost: number }> {
  if (!(simulations >= 1 && depth >= 1))
    throw new JepaError(`tree search: ${simulations} simulations of depth ${depth}; both must be 1 or more`);
  const node = (state: S, cost: number): TreeNode<S> => ({ state, cost, visits: 0, total: 0, best: cost });
  const top = node(root, Number.POSITIVE_INFINITY);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const value = ({ visits, total }: TreeNode<S>): number => (high > low ? (high - total / visits) / (high - low) : 0.5);
  for (let i = 0; i < simulations; i++) {
    const way = [top];
    for (let at = top; at.children && way.length <= depth; ) {
      const weight = exploration * Math.sqrt(Math.log(at.visits + 1));
      let next = at.children[0];
      let most = Number.NEGATIVE_INFINITY;
      for (const child of at.children) {
        // Untried choices come first, the cheapest of them before others.
        const score = child.visits === 0 ? 1e9 - child.cost : value(child) + weight / Math.sqrt(child.visits);
        if (score > most) [next, most] = [child, score];
      }
      way.push(next);
      at = next;
    }
    const leaf = way[way.length - 1];
    if (!leaf.children && way.length <= depth) {
      const { states, costs } = await model.expand(leaf.state);
      leaf.children = states.map((state, choice) => node(state, costs[choice]));
    }
    const found = Math.min(leaf.cost, ...(leaf.children ?? []).map(({ cost }) => cost));
    low = Math.min(low, found);
    high = Math.max(high, found);
    for (const passed of way) {
      passed.visits++;
      passed.total += found;
      passed.best = Math.min(passed.best, found);
    }
  }
  const path: number[] = [];
  for (let at = top; at.children; ) {
    const bests = at.children.map(({ best }) => best);
    const choice = bests.indexOf(Math.min(...bests));
    path.push(choice);
    if (at.children[choice].cost <= top.best) break;
    at = at.children[choice];
  }
  return { visits: (top.children ?? []).map(({ visits }) => visits), path, cost: top.best };
}
