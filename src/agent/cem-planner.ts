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

/**
 * Mode 2 by the cross-entropy method of `world/`, on the host: an agent ranks plans by functions that are no graphs (guardrails
 * before cost, needs that somebody writes down), while the planners of `world/planning` want their whole cost as one. A model
 * whose roll-outs are a graph still runs them in the engine (`WorldModel.rollOut`). Plans of all deliberations are drawn from one
 * generator.
 */
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
