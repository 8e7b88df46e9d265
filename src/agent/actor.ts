import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import type { Configuration } from './configurator.js';
import type { CostModule } from './cost.js';
import { type Enforcement, guardedCosts, violations } from './guardrails.js';
import type { AssociativeMemory } from './memory.js';

/**
 * The actor (LeCun 2022, section 4.1.1 and figures 3 to 5): Mode 1 acts at once by a policy; Mode 2 plans through the world
 * model and the cost; what Mode 2 found out is distilled into Mode 1.
 */

type Row = ArrayLike<number>;

/** What the world does next, as far as the agent knows. A latent tells apart what may happen. */
export interface WorldModel {
  predict(state: Row, action: Row, latent?: Row): Float64Array;
}

/** Mode 1: an action at once, with how sure the policy is of it (0 to 1). */
export interface Policy {
  act(state: Row): { readonly action: Float64Array; readonly confidence: number };
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
  react(state: Row): { readonly action: Float64Array; readonly confidence: number };
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

  /** Steps 3 and 4: the course of a plan and its energy, for one latent. */
  function imagine(
    state: Row,
    actions: readonly Float64Array[],
    latent: Row,
    cost: CostModule,
    c: Configuration,
  ): Imagined {
    const states: Float64Array[] = [];
    for (const action of actions) states.push(model.predict(states.at(-1) ?? state, action, latent));
    return {
      actions,
      states,
      energy: cost.ofCourse(states, actions, c.u, c.v, critics) + towards(states, c.subgoal),
      violations: violations(c.guardrails, states, actions),
    };
  }

  /** Over all latents: mean energy and risk, the worst violations. States are those of the first latent. */
  function judge(state: Row, actions: readonly Float64Array[], cost: CostModule, c: Configuration): Imagined {
    const courses = latents.map((latent) => imagine(state, actions, latent, cost, c));
    const mean = courses.reduce((total, { energy }) => total + energy, 0) / courses.length;
    const spread = Math.sqrt(courses.reduce((total, { energy }) => total + (energy - mean) ** 2, 0) / courses.length);
    const worst = courses.reduce((a, b) =>
      b.violations.steps > a.violations.steps || b.violations.size > a.violations.size ? b : a,
    );
    return { ...courses[0], energy: mean + risk * spread, violations: worst.violations };
  }

  const rowsOf = (plan: ArrayLike<number>, horizon: number, from = 0): Float64Array[] =>
    Array.from({ length: horizon }, (_, k) =>
      Float64Array.from({ length: width }, (_, i) => plan[from + k * width + i]),
    );

  return {
    hasPolicy: policy !== undefined,
    model,
    react(state) {
      if (!policy) throw new JepaError('actor: there is no policy to act by at once; distil one, or use mode 2');
      return policy.act(state);
    },
    forget() {
      kept = [];
    },
    async deliberate(state, cost, configuration) {
      const { horizon } = configuration;
      // 2. Proposal: the rest of the last plan, else the policy's own course, else rest.
      const actions: Float64Array[] = [];
      let at: Row = state;
      for (let k = 0; k < horizon; k++) {
        const next = kept[k + 1] ?? policy?.act(at).action ?? new Float64Array(width);
        actions.push(next);
        if (policy && !kept[k + 1]) at = model.predict(at, next, latents[0]);
      }
      const proposal = judge(state, actions, cost, configuration);
      // 3. to 5. Simulation, evaluation and planning, which asks for the first two again and again.
      let [best, tried] = [proposal, 0];
      const found = await planner({
        horizon,
        width,
        proposal: Float64Array.from(actions.flatMap((a) => [...a])),
        energies: async (plans) => {
          const courses = Array.from({ length: plans.shape[0] }, (_, i) =>
            judge(state, rowsOf(plans.data, horizon, i * horizon * width), cost, configuration),
          );
          tried += courses.length;
          for (const course of courses) best = better(course, best, enforcement);
          return guardedCosts(courses.map(({ energy }) => energy), courses.map((c) => c.violations), enforcement); // biome-ignore format: short
        },
      });
      // The planner's answer was perhaps never tried itself; the best of all is kept.
      best = better(judge(state, rowsOf(found, horizon), cost, configuration), best, enforcement);
      kept = best.actions;
      return { proposal, plan: best, feasible: best.violations.steps === 0, tried: tried + 2 };
    },
  };
}

/** Distance of a course from a subgoal, which has as many numbers as are meant of a state, summed over its steps. */
function towards(states: readonly Float64Array[], subgoal: Float64Array | undefined): number {
  if (!subgoal) return 0;
  return states.reduce((sum, s) => sum + Math.sqrt(subgoal.reduce((d, g, i) => d + (s[i] - g) ** 2, 0)), 0);
}

function better(a: Imagined, b: Imagined, enforcement: Enforcement): Imagined {
  const [first, second] = guardedCosts([a.energy, b.energy], [a.violations, b.violations], enforcement);
  return first < second ? a : b;
}

/** Mode 1 by recall: the action of the states in memory that are like this one. */
export const recallPolicy = (memory: AssociativeMemory): Policy => ({
  act(state) {
    const { value, known } = memory.read(state);
    return { action: known > 0 ? value.map((v) => v / known) : value, confidence: known };
  },
});

/** Distillation: what Mode 2 did is written into the memory that Mode 1 recalls from. */
export function distil(memory: AssociativeMemory, state: Row, planned: Row): void {
  memory.allocate(state, planned);
}
