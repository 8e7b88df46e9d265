import { JepaError } from '../base/errors.js';
import { cholesky, choleskySolve, type Matrix, matrix, multiply } from '../base/linalg.js';
import type { LinearModel } from '../eval/ridge.js';
import type { Moment } from './memory.js';

/**
 * The cost module (LeCun 2022, section 4.7): C(s) = sum u_i IC_i(s) + sum v_j TC_j(s). The intrinsic cost IC is fixed for
 * good: it is not trained, and nothing outside can change it. The critic TC learns to expect future intrinsic cost.
 */

type Row = ArrayLike<number>;

/** One need or discomfort: 0 is contentment, more is worse. */
export interface IntrinsicTerm {
  readonly name: string;
  /** Energy of being in this state, and of the action taken in it. */
  readonly energy: (state: Row, action?: Row) => number;
  /** Smallest weight that this term may be given, 0 by default; a safety term has one above 0. */
  readonly leastWeight?: number;
}

export interface CostReport {
  readonly total: number;
  /** Each term's energy before its weight. */
  readonly terms: Readonly<Record<string, number>>;
}

/** Weights by the name of a term; 1 where nothing is said. */
export type Weights = Readonly<Record<string, number>>;

export interface IntrinsicCost {
  readonly names: readonly string[];
  /** Weights that the terms take: never below their least weight. */
  weights(wanted: Weights): Weights;
  evaluate(state: Row, action?: Row, weights?: Weights): CostReport;
}

/** Makes the intrinsic cost; it cannot be changed afterwards. */
export function intrinsicCost(given: readonly IntrinsicTerm[]): IntrinsicCost {
  // Own frozen copies: an outer hand on the list or on a term must change nothing.
  const terms = Object.freeze(given.map((term) => Object.freeze({ ...term })));
  const names = Object.freeze(terms.map(({ name }) => name));
  if (new Set(names).size !== names.length)
    throw new JepaError(`cost: two intrinsic terms have one name (${names.join(', ')}); names must differ`);
  const weights = (wanted: Weights): Weights => {
    const unknown = Object.keys(wanted).find((name) => !names.includes(name));
    if (unknown !== undefined)
      throw new JepaError(`cost: there is no intrinsic term "${unknown}"; there are ${names.join(', ')}`);
    return Object.fromEntries(
      terms.map(({ name, leastWeight = 0 }) => {
        const weight = wanted[name] ?? 1;
        return [name, Number.isFinite(weight) ? Math.max(weight, leastWeight) : Math.max(1, leastWeight)];
      }),
    );
  };
  // Planners ask for the same weights many thousand times in a row.
  let [asked, answered]: [Weights | undefined, Weights] = [undefined, {}];
  return Object.freeze({
    names,
    weights,
    evaluate(state: Row, action?: Row, wanted: Weights = {}) {
      if (wanted !== asked) [asked, answered] = [wanted, weights(wanted)];
      const energies: Record<string, number> = {};
      let total = 0;
      for (const { name, energy } of terms) {
        energies[name] = energy(state, action);
        total += answered[name] * energies[name];
      }
      return { total, terms: energies };
    },
  });
}

// Terms --------------------------------------------------------------------------------------------------------------

/** log(1 + exp(sharpness x)) / sharpness: max(0, x) with a slope everywhere. */
export const smoothHinge = (x: number, sharpness: number): number =>
  Math.max(0, x) + Math.log1p(Math.exp(-sharpness * Math.abs(x))) / sharpness;

/** max(0, low - h) + max(0, h - high): what a living thing keeps within bounds. */
export const homeostasis = (
  name: string,
  index: number,
  low: number,
  high = Number.POSITIVE_INFINITY,
): IntrinsicTerm => ({
  name,
  energy: (s) => Math.max(0, low - s[index]) + Math.max(0, s[index] - high),
});

/** sum_i (s_i - target_i)^2 over the target's numbers. */
export const targetDistance = (name: string, target: Row): IntrinsicTerm => ({
  name,
  energy: (s) => Array.from(target).reduce((total, t, i) => total + (s[i] - t) ** 2, 0),
});

/** scale |action|^2 */
export const effort = (name: string, scale: number): IntrinsicTerm => ({
  name,
  energy: (_, a) => (a ? scale * Array.from(a).reduce((total, v) => total + v * v, 0) : 0),
});

// Critic -------------------------------------------------------------------------------------------------------------

/** Which intrinsic cost, found later in memory, a state is to foretell. */
export type CriticTarget =
  /** IC(s_{t + delay}) */
  | { readonly kind: 'delay'; readonly delay: number }
  /** sum_{k = 1..steps} gamma^(k-1) IC(s_{t+k}), divided by the sum of its weights if `normalised`. */
  | { readonly kind: 'discounted'; readonly gamma: number; readonly steps: number; readonly normalised?: boolean }
  | { readonly kind: 'max' | 'mean'; readonly steps: number };

export interface CriticExample {
  readonly state: Float64Array;
  readonly target: number;
  readonly real: boolean;
}

/**
 * Pairs of a state and what it led to, from the log alone. A target is made of intrinsic costs only: what the critic said is
 * never read, so that it cannot feed its own targets. States whose window is not in the log are left out, and no window
 * crosses an episode's end.
 */
export function criticExamples(moments: readonly Moment[], target: CriticTarget): CriticExample[] {
  const steps = target.kind === 'delay' ? target.delay : target.steps;
  if (!(Number.isInteger(steps) && steps > 0))
    throw new JepaError(`critic: a window of ${steps} steps; it must be a positive whole number`);
  const examples: CriticExample[] = [];
  for (let i = 0; i + steps < moments.length; i++) {
    const [from, to] = [moments[i], moments[i + steps]];
    if (from.episode !== to.episode || from.real !== to.real || to.time - from.time !== steps) continue;
    const ahead = Array.from({ length: steps }, (_, k) => moments[i + 1 + k].intrinsic);
    examples.push({ state: from.state, target: windowed(ahead, target), real: from.real });
  }
  return examples;
}

/** The target of the intrinsic costs that follow a state, nearest first. */
export function windowed(ahead: readonly number[], target: CriticTarget): number {
  switch (target.kind) {
    case 'delay':
      return ahead[target.delay - 1];
    case 'max':
      return Math.max(...ahead);
    case 'mean':
      return ahead.reduce((a, b) => a + b, 0) / ahead.length;
    case 'discounted': {
      let [total, scale, weight] = [0, 0, 1];
      for (const cost of ahead) {
        total += weight * cost;
        scale += weight;
        weight *= target.gamma;
      }
      return target.normalised ? total / scale : total;
    }
  }
}

export interface Critic {
  /** Expected cost of a state; 0 before anything was learned. */
  evaluate(state: Row): number;
  /** Learns anew from all examples; imagined ones count with `imaginedWeight`. */
  learn(examples: readonly CriticExample[]): void;
  /** Examples of the last fit and its mean squared error. */
  readonly fit: { readonly examples: number; readonly error: number };
}

export interface CriticOptions {
  /** What the critic sees of a state; it is linear in these. */
  readonly features: (state: Row) => ArrayLike<number>;
  readonly penalty?: number;
  /** Weight of imagined examples beside 1 for real ones. */
  readonly imaginedWeight?: number;
  /** Learns this quantile of the cost instead of its mean: a critic that is afraid of rare losses. */
  readonly quantile?: number;
  /** What it says at least: 0 for costs that are never negative, so that planners do not look for what would be. */
  readonly least?: number;
}

/** A critic that is linear in features: it learns in one solve, or (quantiles) in a few reweighted ones. */
export function createCritic({
  features,
  penalty = 1e-3,
  imaginedWeight = 0.5,
  quantile,
  least = Number.NEGATIVE_INFINITY,
}: CriticOptions): Critic {
  if (quantile !== undefined && !(quantile > 0 && quantile < 1))
    throw new JepaError(`critic: the quantile is ${quantile}; it must lie between 0 and 1`);
  let model: LinearModel | undefined;
  let fit = { examples: 0, error: Number.NaN };
  const linearIn = (f: ArrayLike<number>, m: LinearModel): number => {
    let total = m.intercept[0];
    for (let i = 0; i < f.length; i++) total += f[i] * m.weights.data[i];
    return total;
  };
  return {
    get fit() {
      return fit;
    },
    evaluate: (state) => (model ? Math.max(least, linearIn(features(state), model)) : 0),
    learn(examples) {
      if (examples.length === 0) throw new JepaError('critic: there are no examples; act for longer than its window');
      const rows = examples.map(({ state }) => Float64Array.from(features(state)));
      const width = rows[0].length;
      const base = examples.map(({ real }) => (real ? 1 : imaginedWeight));
      const predict = (m: LinearModel): number[] => rows.map((row) => linearIn(row, m));
      const solve = (weights: readonly number[]): LinearModel => {
        const x = matrix(examples.length, width + 1);
        const y = matrix(examples.length, 1);
        for (const [i, row] of rows.entries()) {
          const root = Math.sqrt(weights[i]);
          for (let k = 0; k < width; k++) x.data[i * (width + 1) + k] = root * row[k];
          x.data[i * (width + 1) + width] = root;
          y.data[i] = root * examples[i].target;
        }
        return throughOrigin(x, y, penalty);
      };
      model = solve(base);
      if (quantile !== undefined) {
        // Pinball loss by iterated weights: |r| is r^2 / |r|.
        const scale = Math.sqrt(examples.reduce((a, e) => a + e.target ** 2, 0) / examples.length) + 1e-12;
        for (let iteration = 0; iteration < 40; iteration++) {
          const predictions: number[] = predict(model);
          model = solve(
            predictions.map((p, i) => {
              const rest = examples[i].target - p;
              return (base[i] * (rest > 0 ? quantile : 1 - quantile)) / Math.max(Math.abs(rest) / scale, 1e-4);
            }),
          );
        }
      }
      const predictions = predict(model);
      fit = {
        examples: examples.length,
        error: predictions.reduce((a, p, i) => a + (p - examples[i].target) ** 2, 0) / examples.length,
      };
    },
  };
}

/** Least squares y = x w with a penalty; the last column of x is the (weighted) constant. */
function throughOrigin(x: Matrix, y: Matrix, penalty: number): LinearModel {
  const normal = multiply(x, x, true);
  for (let i = 0; i < x.columns; i++) normal.data[i * x.columns + i] += penalty;
  const { data } = choleskySolve(cholesky(normal), multiply(x, y, true));
  const width = x.columns - 1;
  return { weights: matrix(1, width, data.subarray(0, width)), intercept: Float64Array.of(data[width]) };
}

// Both together ------------------------------------------------------------------------------------------------------

export interface CostModule {
  readonly intrinsic: IntrinsicCost;
  readonly critics: Readonly<Record<string, Critic>>;
  /** C(s) with the weights u of intrinsic terms and v of critics. */
  evaluate(
    state: Row,
    action: Row | undefined,
    u: Weights,
    v: Weights,
  ): CostReport & { readonly intrinsic: number; readonly critic: number };
  /**
   * Cost of an imagined course of states s_1 .. s_K. Where critics foretell a sum of future costs they are asked at the end
   * only: asked at every step, they would count each cost many times.
   */
  ofCourse(states: readonly Row[], actions: readonly Row[], u: Weights, v: Weights, critics: 'each' | 'last'): number;
}

export function costModule(intrinsic: IntrinsicCost, critics: Readonly<Record<string, Critic>> = {}): CostModule {
  const criticOf = (state: Row, v: Weights): number =>
    Object.entries(critics).reduce((total, [name, critic]) => total + (v[name] ?? 1) * critic.evaluate(state), 0);
  return {
    intrinsic,
    critics,
    evaluate(state, action, u, v) {
      const report = intrinsic.evaluate(state, action, u);
      const critic = criticOf(state, v);
      return { ...report, total: report.total + critic, intrinsic: report.total, critic };
    },
    ofCourse(states, actions, u, v, when) {
      let total = 0;
      for (const [k, state] of states.entries()) {
        total += intrinsic.evaluate(state, actions[k], u).total;
        if (when === 'each' || k === states.length - 1) total += criticOf(state, v);
      }
      return total;
    },
  };
}
