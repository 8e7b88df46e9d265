import type { Random } from '../base/random.js';
import { crossEntropyMethod } from '../world/cem.js';
import type { Planner } from './actor.js';

export interface CemPlannerOptions {
  readonly samples: number;
  readonly elites: number;
  readonly iterations: number;
  /** First deviation of every number of an action. */
  readonly std: readonly number[];
  /** Bounds of every number of an action. */
  readonly low: number;
  readonly high: number;
  readonly random: Random;
}

/** Mode 2 by the cross-entropy method. Plans of one deliberation and of the next are drawn from the same generator. */
export const cemPlanner =
  ({ samples, elites, iterations, std, low, high, random }: CemPlannerOptions): Planner =>
  async ({ energies, horizon, width, proposal }) => {
    const clamp = (action: Float64Array): void => {
      for (let i = 0; i < action.length; i++) action[i] = Math.min(Math.max(action[i], low), high);
    };
    const { mean } = await crossEntropyMethod(
      energies,
      { horizon, width, samples, elites, iterations, mean: proposal, std, limit: clamp },
      () => Float64Array.from({ length: samples * horizon * width }, () => random.normal()),
    );
    return mean;
  };
