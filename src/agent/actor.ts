import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import type { Configuration } from './configurator.js';
import type { CostModule } from './cost.js';
import { type Enforcement, guardedCosts, violations } from './guardrails.js';
import type { AssociativeMemory } from './memory.js';
import type { WorldModel } from './world-model.js';

/**
 * The actor (LeCun 2022, section 4.1.1 and figures 3 to 5): Mode 1 acts at once by a policy; Mode 2 plans through the world
 * model and the cost; what Mode 2 found out is distilled into Mode 1.
 */

type Row = ArrayLike<number>;
/** Plans as rows of actions. */
type Plans = readonly (readonly Float64Array[])[];

/** Mode 1: an action at once, on the way to a subgoal, with how sure the policy is of it (0 to 1). */
export interface Policy {
  act(state: Row, subgoal?: Row): { readonly action: Float64Array; readonly confidence: number };
}

/** Energies of plans [plans, horizon, width]; the lowest is the best. */
export type PlanEnergies = (plans: HostTensor<'float32'>) => Promise<Float64Array>;

export interface PlanProblem {
  readonly energies: PlanEnergies;
  readonly horizon: number;
  readonly width: number;
  /** Where to begin, [horizon * width]. */
  readonly proposal: Float64Array;
}

/** Improves a proposal; any planner that works on energies of plans fits. */
export type Planner = (problem: PlanProblem) => Promise<Float64Array>;

export interface Imagined {
  readonly actions: readonly Float64Array[];
  readonly states: readonly Float64Array[];
  readonly energy: number;
  /** Steps of the plan that break a guardrail, and by how much. */
  readonly violations: { readonly steps: number; readonly size: number };
}

/** One deliberation, step by step as in the paper, to be looked at. */
export interface Deliberation {
  readonly proposal: Imagined;
  readonly plan: Imagined;
  /** False if even the best plan breaks a guardrail. */
  readonly feasible: boolean;
  /** Plans that were imagined. */
  readonly tried: number;
}

export interface ActorOptions {
  readonly width: number;
  readonly model: WorldModel;
  readonly planner: Planner;
  readonly policy?: Policy;
  readonly enforcement: Enforcement;
  readonly critics: 'each' | 'last';
  /**
   * Latents of the futures that a plan is judged by, the same for all plans: its energy is the mean over them, plus `risk`
   * times their deviation; its violations are those of the worst.
   */
  readonly latents?: readonly Row[];
  readonly risk?: number;
}

export interface Actor {
  /** Mode 1. Throws without a policy. */
  react(state: Row, subgoal?: Row): { readonly action: Float64Array; readonly confidence: number };
  /** By how much an act of Mode 1 would lower the energy below that of staying, as far as the world model knows. */
  promise(state: Row, cost: CostModule, configuration: Configuration): number;
  /** Mode 2: proposes, simulates, evaluates and plans; acting is the agent's. */
  deliberate(state: Row, cost: CostModule, configuration: Configuration): Promise<Deliberation>;
  /** What is left of the last plan is forgotten (after a reset). */
  forget(): void;
  readonly hasPolicy: boolean;
  readonly model: WorldModel;
}

export function createActor(options: ActorOptions): Actor {
  const { width, model, planner, policy, enforcement, critics, latents = [[]], risk = 0 } = options;
  let kept: readonly Float64Array[] = [];

  /** Step 3: the states of each plan, for one latent. */
  async function simulate(state: Row, plans: Plans, latent: Row): Promise<Float64Array[][]> {
    const horizon = plans[0].length;
    if (model.rollOut && plans.length > 1) {
      const actions = Float32Array.from(plans.flatMap((plan) => plan.flatMap((a) => [...a])));
      const found = await model.rollOut(state, float32([plans.length, horizon, width], actions), latent);
      return plans.map((_, i) => rows(found, horizon, state.length, i * horizon * state.length));
    }
    return plans.map((plan) => {
      const states: Float64Array[] = [];
      for (const action of plan) states.push(model.predict(states.at(-1) ?? state, action, latent));
      return states;
    });
  }

  const energyOf = (
    states: readonly Float64Array[],
    actions: readonly Float64Array[],
    cost: CostModule,
    c: Configuration,
  ) => cost.ofCourse(states, actions, c.u, c.v, critics) + c.pull * towards(states, c.subgoal);

  /** Step 4: energy and violations of plans, over all latents: mean energy and risk, the worst violations. */
  async function judge(state: Row, plans: Plans, cost: CostModule, c: Configuration): Promise<Imagined[]> {
    const futures: Float64Array[][][] = [];
    for (const latent of latents) futures.push(await simulate(state, plans, latent));
    return plans.map((actions, i) => {
      const energies = futures.map((of) => energyOf(of[i], actions, cost, c));
      const mean = energies.reduce((a, b) => a + b, 0) / energies.length;
      const spread = Math.sqrt(energies.reduce((total, e) => total + (e - mean) ** 2, 0) / energies.length);
      const worst = futures
        .map((of) => violations(c.guardrails, of[i], actions))
        .reduce((a, b) => (b.steps > a.steps || b.size > a.size ? b : a));
      return { actions, states: futures[0][i], energy: mean + risk * spread, violations: worst };
    });
  }

  function react(state: Row, subgoal?: Row): ReturnType<Policy['act']> {
    if (!policy) throw new JepaError('actor: there is no policy to act by at once; distil one, or use mode 2');
    return policy.act(state, subgoal);
  }

  return {
    hasPolicy: policy !== undefined,
    model,
    react,
    promise(state, cost, configuration) {
      const { action } = react(state, configuration.subgoal);
      const energyAt = (s: Float64Array): number => energyOf([s], [action], cost, configuration);
      return energyAt(Float64Array.from(state)) - energyAt(model.predict(state, action, latents[0]));
    },
    forget() {
      kept = [];
    },
    async deliberate(state, cost, configuration) {
      const { horizon, subgoal } = configuration;
      // 2. Proposal: the rest of the last plan, else the policy's own course, else rest.
      const actions: Float64Array[] = [];
      let at: Row = state;
      for (let k = 0; k < horizon; k++) {
        const next = kept[k + 1] ?? policy?.act(at, subgoal).action ?? new Float64Array(width);
        actions.push(next);
        if (policy && !kept[k + 1]) at = model.predict(at, next, latents[0]);
      }
      const [proposal] = await judge(state, [actions], cost, configuration);
      // 3. to 5. Simulation, evaluation and planning, which asks for the first two again and again.
      let [best, tried] = [proposal, 0];
      const found = await planner({
        horizon,
        width,
        proposal: Float64Array.from(actions.flatMap((a) => [...a])),
        energies: async (plans) => {
          const each = Array.from({ length: plans.shape[0] }, (_, i) =>
            rows(plans.data, horizon, width, i * horizon * width),
          );
          const courses = await judge(state, each, cost, configuration);
          tried += courses.length;
          for (const course of courses) best = better(course, best, enforcement);
          return guardedCosts(
            courses.map(({ energy }) => energy),
            courses.map((c) => c.violations),
            enforcement,
          );
        },
      });
      // The planner's answer was perhaps never tried itself; the best of all is kept.
      const [last] = await judge(state, [rows(found, horizon, width)], cost, configuration);
      best = better(last, best, enforcement);
      kept = best.actions;
      return { proposal, plan: best, feasible: best.violations.steps === 0, tried: tried + 2 };
    },
  };
}

/** `count` rows of `width` numbers. */
const rows = (table: ArrayLike<number>, count: number, width: number, from = 0): Float64Array[] =>
  Array.from({ length: count }, (_, k) => {
    const row = new Float64Array(width);
    for (let i = 0; i < width; i++) row[i] = table[from + k * width + i];
    return row;
  });

/** Distance of a course from a subgoal, which has as many numbers as are meant of a state, summed over its steps. */
function towards(states: readonly Float64Array[], subgoal: Float64Array | undefined): number {
  if (!subgoal) return 0;
  return states.reduce((sum, s) => sum + Math.sqrt(subgoal.reduce((d, g, i) => d + (s[i] - g) ** 2, 0)), 0);
}

function better(a: Imagined, b: Imagined, enforcement: Enforcement): Imagined {
  const [first, second] = guardedCosts([a.energy, b.energy], [a.violations, b.violations], enforcement);
  return first < second ? a : b;
}

/**
 * Mode 1 by recall: the action of the situations in memory that are like this one. `key` is the agent's. By default it is their
 * mean, which says little where they disagree (left or right of an obstacle) and can get stuck there; with `random` one of them
 * is drawn, by how alike its situation is.
 */
export const recallPolicy = (
  memory: AssociativeMemory,
  key: (state: Row, subgoal?: Row) => Row = (state) => state,
  random?: Random,
): Policy => ({
  act(state, subgoal) {
    const { value, weights, known } = memory.read(key(state, subgoal));
    if (known === 0) return { action: value, confidence: 0 };
    if (!random) return { action: value.map((v) => v / known), confidence: known };
    let [drawn, left] = [0, random.uniform() * known - weights[0]];
    while (left >= 0 && drawn < weights.length - 1) left -= weights[++drawn];
    return { action: memory.slots()[drawn].value.slice(), confidence: known };
  },
});

/** Distillation: what Mode 2 did in a situation is written into the memory that Mode 1 recalls from. */
export function distil(memory: AssociativeMemory, situation: Row, planned: Row): void {
  memory.allocate(situation, planned);
}
