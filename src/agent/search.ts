import { JepaError } from '../base/errors.js';
import { binaryHeap } from '../base/heap.js';
import type { Random } from '../base/random.js';

/**
 * Mode 2 where actions are few: energies add up over time, so that the best course can be searched for without slopes (LeCun
 * 2022, section 4.1.1 names dynamic programming, beam and tree search). States are known by a key and are merged, and an
 * adversary may answer. The searches of `world/planning/discrete.ts` share a name but no step with these: they extend sequences
 * whose costs an engine gives for many at a time, where states have no key and nothing can be merged.
 */

export interface Choices<S> {
  /** Possible actions, as numbers. */
  readonly actions: (state: S) => readonly number[];
  readonly next: (state: S, action: number) => S;
  /** Energy of arriving somewhere; 0 or more. */
  readonly cost: (state: S, action: number, next: S) => number;
  /** The same text for states that need not be told apart. */
  readonly key: (state: S) => string;
  readonly reached: (state: S) => boolean;
  /** What is still to be paid at least (a critic). The best course is found for sure if it never says too much; default 0. */
  readonly ahead?: (state: S) => number;
}

export interface Course<S> {
  readonly actions: readonly number[];
  readonly states: readonly S[];
  readonly cost: number;
  /** States that were looked at. */
  readonly expanded: number;
}

interface Step<S> {
  readonly state: S;
  readonly key: string;
  readonly cost: number;
  readonly rank: number;
  readonly order: number;
  readonly action: number;
  readonly before?: Step<S>;
}

function courseOf<S>(end: Step<S>, expanded: number): Course<S> {
  const [actions, states]: [number[], S[]] = [[], []];
  for (let at = end; at.before; at = at.before) {
    actions.unshift(at.action);
    states.unshift(at.state);
  }
  return { actions, states, cost: end.cost, expanded };
}

/** A* (Hart, Nilsson and Raphael 1968): the cheapest course to a state that is reached; undefined if there is none. */
export function aStar<S>(choices: Choices<S>, start: S, { budget = 1e6 } = {}): Course<S> | undefined {
  const { ahead = () => 0 } = choices;
  const open = binaryHeap<Step<S>>((a, b) => a.rank < b.rank || (a.rank === b.rank && a.order > b.order));
  const best = new Map<string, number>();
  let [expanded, order] = [0, 0];
  const key = choices.key(start);
  open.push({ state: start, key, cost: 0, rank: ahead(start), order, action: -1 });
  best.set(key, 0);
  for (let at = open.pop(); at; at = open.pop()) {
    if (at.cost > (best.get(at.key) as number)) continue;
    if (choices.reached(at.state)) return courseOf(at, expanded);
    if (++expanded > budget)
      throw new JepaError(`search: ${budget} states were not enough; give a larger budget or a better bound ahead`);
    for (const step of following(choices, at)) {
      if (step.cost >= (best.get(step.key) ?? Number.POSITIVE_INFINITY)) continue;
      best.set(step.key, step.cost);
      open.push({ ...step, rank: step.cost + ahead(step.state), order: ++order });
    }
  }
  return undefined;
}

function following<S>({ actions, next, cost, key, ahead = () => 0 }: Choices<S>, at: Step<S>): Step<S>[] {
  return actions(at.state).map((action) => {
    const state = next(at.state, action);
    const total = at.cost + cost(at.state, action, state);
    return { state, key: key(state), cost: total, rank: total + ahead(state), order: 0, action, before: at };
  });
}

/** The `width` best courses at every depth; equal states are merged. Not sure to find the best, or any. */
export function beamSearch<S>(
  choices: Choices<S>,
  start: S,
  { width, depth }: { readonly width: number; readonly depth: number },
): Course<S> | undefined {
  let beam: Step<S>[] = [{ state: start, key: choices.key(start), cost: 0, rank: 0, order: 0, action: -1 }];
  const seen = new Set([beam[0].key]);
  let expanded = 0;
  for (let d = 0; d <= depth; d++) {
    const found = beam.filter(({ state }) => choices.reached(state)).sort((a, b) => a.cost - b.cost)[0];
    if (found) return courseOf(found, expanded);
    const fresh = new Map<string, Step<S>>();
    for (const at of beam) {
      expanded++;
      for (const step of following(choices, at)) {
        const known = fresh.get(step.key);
        if (!seen.has(step.key) && !(known && known.cost <= step.cost)) fresh.set(step.key, step);
      }
    }
    beam = [...fresh.values()].sort((a, b) => a.rank - b.rank).slice(0, width);
    for (const { key } of beam) seen.add(key);
  }
  return undefined;
}

/**
 * Dynamic programming: V(s) = min over actions of cost + gamma V(s'), for a closed set of states, to convergence. What is
 * reached costs nothing more. Values by key; Infinity where nothing can be reached (gamma 1).
 */
export function valueIteration<S>(choices: Choices<S>, states: readonly S[], gamma = 1): Map<string, number> {
  const values = new Map(
    states.map((s) => [choices.key(s), choices.reached(s) ? 0 : gamma === 1 ? Number.POSITIVE_INFINITY : 0]),
  );
  for (let sweep = 0; sweep <= 10 * states.length + 1000; sweep++) {
    let change = 0;
    for (const state of states) {
      if (choices.reached(state)) continue;
      const value = Math.min(
        ...choices.actions(state).map((action) => {
          const next = choices.next(state, action);
          const there = values.get(choices.key(next));
          if (there === undefined)
            throw new JepaError(
              `search: the state ${choices.key(next)} is not among those given; the set must be closed`,
            );
          return choices.cost(state, action, next) + gamma * there;
        }),
      );
      const old = values.get(choices.key(state)) as number;
      if (value !== old) change = Math.max(change, Math.abs(value - old));
      values.set(choices.key(state), value);
    }
    if (change < 1e-9) return values;
  }
  throw new JepaError('search: values do not settle; are there costs below 0 on a circle?');
}

// Against a world that may choose the worst --------------------------------------------------------------------------

/** Choices that are answered by a latent: what the world, or another agent, does next. */
export interface Contest<S> {
  readonly actions: (state: S) => readonly number[];
  /** After the own action: latents that the world may choose; none where it is over. */
  readonly answers: (state: S) => readonly number[];
  readonly act: (state: S, action: number) => S;
  readonly answer: (state: S, latent: number) => S;
  /** Energy at the end of the contest; undefined while it goes on. */
  readonly final: (state: S) => number | undefined;
  readonly key: (state: S) => string;
}

/** min over actions of max over latents of the final energy: the plan against a latent chosen to increase the cost. */
export function worstCase<S>(contest: Contest<S>): (state: S) => { readonly action: number; readonly value: number } {
  const known = new Map<string, { action: number; value: number }>();
  const answered = (state: S): number => {
    const end = contest.final(state);
    if (end !== undefined) return end;
    return Math.max(...contest.answers(state).map((latent) => decide(contest.answer(state, latent)).value));
  };
  function decide(state: S): { action: number; value: number } {
    const end = contest.final(state);
    if (end !== undefined) return { action: -1, value: end };
    const key = contest.key(state);
    const old = known.get(key);
    if (old) return old;
    let best = { action: -1, value: Number.POSITIVE_INFINITY };
    for (const action of contest.actions(state)) {
      const value = answered(contest.act(state, action));
      if (value < best.value) best = { action, value };
    }
    known.set(key, best);
    return best;
  }
  return decide;
}

interface TreeNode<S> {
  readonly state: S;
  readonly own: boolean;
  readonly children: Map<number, TreeNode<S>>;
  visits: number;
  total: number;
}

/**
 * Monte Carlo tree search with upper confidence bounds (Kocsis and Szepesvari 2006): own nodes go where energy may be low,
 * answers where it may be high. New leaves are judged by random play to the end. Energies should lie between 0 and 1.
 */
export function treeSearch<S>(
  contest: Contest<S>,
  start: S,
  {
    simulations,
    exploration = 1,
    random,
  }: { readonly simulations: number; readonly exploration?: number; readonly random: Random },
): { readonly action: number; readonly visits: ReadonlyMap<number, number> } {
  const node = (state: S, own: boolean): TreeNode<S> => ({ state, own, children: new Map(), visits: 0, total: 0 });
  const options = ({ state, own }: TreeNode<S>): readonly number[] =>
    own ? contest.actions(state) : contest.answers(state);
  const move = (state: S, own: boolean, choice: number): S =>
    own ? contest.act(state, choice) : contest.answer(state, choice);
  const play = (from: S, mine: boolean): number => {
    let [state, own] = [from, mine];
    for (;;) {
      const end = contest.final(state);
      if (end !== undefined) return end;
      const all = own ? contest.actions(state) : contest.answers(state);
      state = move(state, own, all[random.integer(all.length)]);
      own = !own;
    }
  };
  const root = node(start, true);
  for (let simulation = 0; simulation < simulations; simulation++) {
    const path = [root];
    for (;;) {
      const at = path[path.length - 1];
      if (contest.final(at.state) !== undefined) break;
      const all = options(at);
      const untried = all.filter((choice) => !at.children.has(choice));
      if (untried.length > 0) {
        const choice = untried[random.integer(untried.length)];
        const child = node(move(at.state, at.own, choice), !at.own);
        at.children.set(choice, child);
        path.push(child);
        break;
      }
      const sign = at.own ? -1 : 1;
      const bound = (child: TreeNode<S>): number =>
        (sign * child.total) / child.visits + exploration * Math.sqrt(Math.log(at.visits) / child.visits);
      path.push([...at.children.values()].reduce((a, b) => (bound(b) > bound(a) ? b : a)));
    }
    const leaf = path[path.length - 1];
    const value = play(leaf.state, leaf.own);
    for (const at of path) {
      at.visits++;
      at.total += value;
    }
  }
  const visits = new Map([...root.children].map(([choice, { visits }]) => [choice, visits]));
  return { action: [...visits].reduce((a, b) => (b[1] > a[1] ? b : a))[0], visits };
}
