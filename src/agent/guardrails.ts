import { JepaError } from '../base/errors.js';

/**
 * Guardrails: objectives that hold at every step of a plan, and of what is done, whatever the task is (agent after LeCun's
 * talks on objective-driven AI). How strictly they hold depends on how they are enforced, from a soft penalty to a shield.
 */

type Row = ArrayLike<number>;

export interface Guardrail {
  readonly name: string;
  /** How far a state (and the action that led there) is outside what is allowed: at most 0 is safe. */
  readonly excess: (state: Row, action?: Row) => number;
  /** Distance kept from the border beyond that, for models that err. */
  readonly margin?: number;
}

/** Excess with the margin, at its worst over guardrails: at most 0 is safe. -Infinity without any. */
export const worstExcess = (guardrails: readonly Guardrail[], state: Row, action?: Row): number =>
  guardrails.reduce(
    (worst, { excess, margin = 0 }) => Math.max(worst, excess(state, action) + margin),
    Number.NEGATIVE_INFINITY,
  );

/** Violations of a course of states: how many steps are outside, and by how much in all. */
export function violations(
  guardrails: readonly Guardrail[],
  states: readonly Row[],
  actions: readonly Row[] = [],
): { readonly steps: number; readonly size: number } {
  let [steps, size] = [0, 0];
  for (const [k, state] of states.entries()) {
    const excess = worstExcess(guardrails, state, actions[k]);
    // What cannot be judged is not safe.
    if (Number.isNaN(excess)) [steps, size] = [steps + 1, Number.POSITIVE_INFINITY];
    else if (excess > 0) [steps, size] = [steps + 1, size + excess];
  }
  return { steps, size };
}

export type Enforcement =
  | { readonly kind: 'none' }
  /** cost + weight * excess: a trade, no promise. */
  | { readonly kind: 'soft'; readonly weight: number }
  /** Fewer violations first, then smaller ones, then less cost: no weight to be outbid. */
  | { readonly kind: 'lexicographic' };

/**
 * Costs by which planners rank plans. Lexicographic ones come out as ranks 0, 1, ...: any planner that compares costs then
 * prefers safe plans, whatever the scale of the task.
 */
export function guardedCosts(
  costs: ArrayLike<number>,
  outside: readonly { readonly steps: number; readonly size: number }[],
  enforcement: Enforcement,
): Float64Array {
  if (costs.length !== outside.length)
    throw new JepaError(`guardrails: ${outside.length} verdicts for ${costs.length} plans; give one each`);
  if (enforcement.kind === 'none') return Float64Array.from(costs);
  if (enforcement.kind === 'soft')
    return Float64Array.from(costs, (cost, i) => cost + enforcement.weight * outside[i].size);
  const order = Array.from(outside.keys()).sort(
    (a, b) => outside[a].steps - outside[b].steps || outside[a].size - outside[b].size || costs[a] - costs[b] || a - b,
  );
  const ranks = new Float64Array(costs.length);
  for (const [rank, i] of order.entries()) ranks[i] = rank;
  return ranks;
}

export interface ShieldVerdict {
  readonly action: Float64Array;
  /** What was done with the wish: kept, moved to the nearest safe action, or given up for the fallback. */
  readonly verdict: 'kept' | 'moved' | 'fallback';
  /** Names of the guardrails that the wish would have broken. */
  readonly broken: readonly string[];
}

/**
 * The last word before acting: the wish if the state it leads to is safe, else the nearest safe action of `others`, else the
 * fallback (stop, retreat), which must be known to be safe by itself. `predict` gives every state that may follow, e.g. of an
 * ensemble: all of them must be safe.
 */
export function shield(
  guardrails: readonly Guardrail[],
  predict: (action: Row) => readonly Row[],
  wish: Row,
  others: readonly Row[],
  fallback: Row,
): ShieldVerdict {
  const safe = (action: Row): boolean => predict(action).every((s) => worstExcess(guardrails, s, action) <= 0);
  if (safe(wish)) return { action: Float64Array.from(wish), verdict: 'kept', broken: [] };
  const outcomes = predict(wish);
  const broken = guardrails
    .filter((guardrail) => outcomes.some((s) => !(worstExcess([guardrail], s, wish) <= 0)))
    .map(({ name }) => name);
  const distance = (action: Row): number => Array.from(action).reduce((d, v, i) => d + (v - wish[i]) ** 2, 0);
  const nearest = [...others].filter(safe).sort((a, b) => distance(a) - distance(b))[0];
  return nearest
    ? { action: Float64Array.from(nearest), verdict: 'moved', broken }
    : { action: Float64Array.from(fallback), verdict: 'fallback', broken };
}

export interface Constrained {
  readonly x: Float64Array;
  readonly multipliers: Float64Array;
  readonly worst: number;
  readonly rounds: number;
}

/**
 * Minimises f(x) subject to g(x) <= 0 by the augmented Lagrangian: rounds of minimising f + sum max(0, lambda + rho g)^2 /
 * (2 rho), then lambda <- max(0, lambda + rho g), with rho doubled while the violation does not shrink.
 * `minimise(lambda, rho, x)` solves the inner problem from x; `constraints(x)` gives g.
 */
export async function augmentedLagrangian(
  minimise: (multipliers: Float64Array, rho: number, x: Float64Array) => Promise<Float64Array> | Float64Array,
  constraints: (x: Float64Array) => ArrayLike<number>,
  start: Float64Array,
  { rounds = 30, rho: first = 1, tolerance = 1e-4 } = {},
): Promise<Constrained> {
  let x = start;
  let multipliers = new Float64Array(constraints(x).length);
  let [rho, before] = [first, Number.POSITIVE_INFINITY];
  for (let round = 1; ; round++) {
    x = await minimise(multipliers, rho, x);
    const g = constraints(x);
    const worst = Array.from(g).reduce((w, v) => Math.max(w, v), 0);
    multipliers = multipliers.map((lambda, i) => Math.max(0, lambda + rho * g[i]));
    if (round === rounds || (worst < tolerance && before < tolerance)) return { x, multipliers, worst, rounds: round };
    if (worst > 0.5 * before) rho *= 2;
    before = worst;
  }
}
