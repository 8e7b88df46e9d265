import type { Random } from '../../base/random.js';
import type { Planner, Policy } from '../actor.js';
import type { AgentStep, Learning } from '../agent.js';
import { cemPlanner } from '../cem-planner.js';
import { type Configurator, fixedConfigurator } from '../configurator.js';
import type { CostModule } from '../cost.js';
import type { Lived, Measure, PlannerSettings } from '../life.js';

/** What lives share: the ways in which somebody can act with what was learned, and what each of them cost in thought. */

type Row = ArrayLike<number>;

/** How somebody acts; everything else is as with the agent. */
export interface Way {
  readonly configurator: Configurator;
  readonly policy?: Policy;
  readonly cost?: CostModule;
  readonly learning?: Learning;
}

/** Thought as all lives have it: plans of two numbers a step, each -1 to 1. */
export const thinker = (settings: PlannerSettings, random: Random): Planner =>
  cemPlanner({ ...settings, std: [0.7, 0.7], low: -1, high: 1, random });

/** A number of an action in its range. */
export const limited = (v: number): number => Math.min(1, Math.max(-1, v));

export const sure = (action: Float64Array): ReturnType<Policy['act']> => ({ action, confidence: 1 });

export const randomPolicy = (random: Random): Policy => ({
  act: () => sure(Float64Array.from({ length: 2 }, () => 2 * random.uniform() - 1)),
});

/** Acts without thought. */
export const acting = (reason: string): Configurator => fixedConfigurator({ mode: 1, reason });

/** The same wishes, but always from habit. */
export const byHabit = (inner: Configurator): Configurator => ({
  configure: (situation) => ({ ...inner.configure(situation), mode: 1 }),
});

export const distance = (a: Row, b: Row): number => {
  let squares = 0;
  for (let i = 0; i < b.length; i++) squares += (a[i] - b[i]) ** 2;
  return Math.sqrt(squares);
};

/** Columns of what thought cost. */
export const EFFORT: readonly Measure[] = [
  { name: 'thought', about: 'steps in Mode 2', better: 'neither', share: true },
  { name: 'imagined', about: 'states that were imagined for a step', better: 'neither' },
  { name: 'ms', about: 'milliseconds of a step on this machine', better: 'neither' },
];

/** Counts what steps cost, in the columns of `EFFORT`. */
export function effortCounter() {
  let [steps, thought, imagined, ms] = [0, 0, 0, 0];
  return {
    /** Makes a step and counts it. */
    async step(make: () => Promise<AgentStep>): Promise<AgentStep> {
      const began = performance.now();
      const done = await make();
      ms += performance.now() - began;
      steps++;
      if (done.mode === 2) thought++;
      imagined += (done.deliberation?.tried ?? 0) * done.configuration.horizon;
      return done;
    },
    values: (): Lived['values'] => ({ thought: thought / steps, imagined: imagined / steps, ms: ms / steps }),
  };
}
