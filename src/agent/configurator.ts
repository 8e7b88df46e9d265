import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { CostReport, IntrinsicCost, Weights } from './cost.js';
import type { Guardrail } from './guardrails.js';

/**
 * The configurator (LeCun 2022, section 4.2): sets the other modules up for the task at hand. It may weigh costs, set a
 * subgoal, prime perception, choose the mode and the planner's budget, and add guardrails. It can never take one away.
 */

export interface Configuration {
  /** Weights of intrinsic terms and of critics. */
  readonly u: Weights;
  readonly v: Weights;
  /** Numbers that the first of a state should have. */
  readonly subgoal?: Float64Array;
  /** What a step costs for each unit of distance from the subgoal. */
  readonly pull: number;
  /** Extra inputs of perception, by what they stand for. */
  readonly tokens: Readonly<Record<string, number>>;
  /** 1 acts at once, 2 plans first. */
  readonly mode: 1 | 2;
  readonly horizon: number;
  readonly guardrails: readonly Guardrail[];
  /** Why it was chosen, in words. */
  readonly reason: string;
}

/** What a configurator looks at. */
export interface Situation {
  readonly time: number;
  readonly state: ArrayLike<number>;
  readonly cost: CostReport;
  readonly surprise: number;
  /** How well memory knows the state (on the way to a subgoal), 0 to 1. */
  readonly known: (subgoal?: Float64Array) => number;
  /** By how much an act of Mode 1 would lower the energy, by the world model, under a wish. Throws without a policy. */
  readonly promise: (wish: Wish) => number;
}

/** What it wishes; what it does not say stays as it is by default. Guardrails are added to those in force. */
export type Wish = Partial<Omit<Configuration, 'reason'>> & { readonly reason: string };

export interface Configurator {
  configure(situation: Situation): Wish;
}

/** What holds whatever a configurator wishes. */
export interface Limits {
  readonly intrinsic: IntrinsicCost;
  readonly guardrails: readonly Guardrail[];
  readonly longestHorizon: number;
}

/**
 * Turns any wish into a configuration that keeps the invariants: guardrails in force stay, with at least their margins; added
 * ones come on top; weights are finite, not negative, at or above the least of their term, and not all zero.
 */
export function configurationOf(wish: Wish, { intrinsic, guardrails, longestHorizon }: Limits): Configuration {
  const tame = (weights: Weights): Weights =>
    Object.fromEntries(
      Object.entries(weights).map(([name, w]) => [name, Number.isFinite(w) ? Math.min(Math.max(w, 0), 1e6) : 1]),
    );
  const known = Object.fromEntries(
    Object.entries(tame(wish.u ?? {})).filter(([name]) => intrinsic.names.includes(name)),
  );
  let u = intrinsic.weights(known);
  // With nothing to want every plan is as good as any other.
  if (Object.values(u).every((w) => w === 0)) u = intrinsic.weights({});
  const added = (wish.guardrails ?? []).map(({ margin = 0, ...rest }) => ({
    ...rest,
    margin: Number.isFinite(margin) ? Math.max(margin, 0) : 0,
  }));
  const horizon = Math.round(wish.horizon ?? longestHorizon);
  return {
    u,
    v: tame(wish.v ?? {}),
    subgoal: wish.subgoal,
    pull: Number.isFinite(wish.pull) ? Math.max(wish.pull as number, 0) : 1,
    tokens: wish.tokens ?? {},
    mode: wish.mode === 1 ? 1 : 2,
    horizon: Number.isFinite(horizon) ? Math.min(Math.max(horizon, 1), longestHorizon) : longestHorizon,
    guardrails: [...guardrails, ...added],
    reason: wish.reason,
  };
}

/** Always the same wish. */
export const fixedConfigurator = (wish: Wish): Configurator => ({ configure: () => wish });

/** A term of the intrinsic cost that can be seen to, and where. */
export interface Need {
  readonly term: string;
  readonly urgency: (situation: Situation) => number;
  readonly subgoal?: Float64Array | ((situation: Situation) => Float64Array);
  /** Urgency below which there is no need to go there. */
  readonly from?: number;
}

/**
 * Follows the strongest need: the term whose energy times its urgency is largest gets all the weight that needs share. It
 * changes its mind only when another is stronger by `margin`, so that it does not waver between two.
 */
export function needsConfigurator(
  needs: readonly Need[],
  {
    margin,
    focus = 3,
    rest = 0.3,
    pull = 1,
  }: { readonly margin: number; readonly focus?: number; readonly rest?: number; readonly pull?: number },
): Configurator {
  if (needs.length === 0) throw new JepaError('configurator: there are no needs to follow');
  let chosen = 0;
  return {
    configure(situation) {
      const urgencies = needs.map(({ urgency }) => urgency(situation));
      const strongest = urgencies.indexOf(Math.max(...urgencies));
      if (urgencies[strongest] > urgencies[chosen] + margin) chosen = strongest;
      const { subgoal, from = Number.NEGATIVE_INFINITY } = needs[chosen];
      return {
        u: Object.fromEntries(needs.map(({ term }, i) => [term, i === chosen ? focus : rest])),
        subgoal: urgencies[chosen] < from ? undefined : typeof subgoal === 'function' ? subgoal(situation) : subgoal,
        pull,
        reason: `${needs[chosen].term} (${urgencies[chosen].toFixed(2)})`,
      };
    },
  };
}

/**
 * Acts from habit where it can: Mode 1 while memory knows the state, the world does as expected, nothing hurts by more than
 * `cost` (the intrinsic cost felt), and an act of habit would lower the energy by at least `promise` (else it is not imagined
 * first); Mode 2 otherwise. Surprise is averaged over about `patience` steps. Everything else is left to `inner`.
 */
export function habitConfigurator(
  inner: Configurator,
  {
    known,
    surprise,
    cost = Number.POSITIVE_INFINITY,
    promise,
    patience = 5,
  }: {
    readonly known: number;
    readonly surprise: number;
    readonly cost?: number;
    readonly promise?: number;
    readonly patience?: number;
  },
): Configurator {
  let average = 0;
  return {
    configure(situation) {
      if (!Number.isNaN(situation.surprise)) average += (situation.surprise - average) / patience;
      const wish = inner.configure(situation);
      const familiar =
        situation.cost.total <= cost &&
        average <= surprise &&
        situation.known(wish.subgoal) >= known &&
        (promise === undefined || situation.promise(wish) >= promise);
      return { ...wish, mode: familiar ? 1 : 2, reason: `${wish.reason}, ${familiar ? 'from habit' : 'with thought'}` };
    },
  };
}

/**
 * A bandit over whole configurations: each arm is held for `hold` steps, its reward is minus the mean intrinsic cost that
 * followed, with the weights of no arm in it, so that no arm can win by caring for nothing (UCB1).
 */
export function banditConfigurator(
  arms: readonly Wish[],
  { hold, exploration = 1, random }: { readonly hold: number; readonly exploration?: number; readonly random: Random },
): Configurator & { readonly counts: readonly number[]; readonly means: readonly number[] } {
  const counts = arms.map(() => 0);
  const means = arms.map(() => 0);
  const order = random.permutation(arms.length);
  let [arm, left, total, steps] = [-1, 0, 0, 0];
  return {
    counts,
    means,
    configure({ cost }) {
      if (arm >= 0) {
        total -= Object.values(cost.terms).reduce((a, b) => a + b, 0);
        steps++;
      }
      if (left === 0) {
        if (arm >= 0) {
          counts[arm]++;
          means[arm] += (total / steps - means[arm]) / counts[arm];
        }
        const pulls = counts.reduce((a, b) => a + b, 0);
        const untried = order.find((i) => counts[i] === 0);
        const bound = (i: number): number => means[i] + exploration * Math.sqrt(Math.log(pulls) / counts[i]);
        arm = untried ?? counts.map((_, i) => i).reduce((a, b) => (bound(b) > bound(a) ? b : a));
        [left, total, steps] = [hold, 0, 0];
      }
      left--;
      return arms[arm];
    },
  };
}
