import { type ImagePlan, imagePreparation } from './pipeline.js';
import type { Preparation } from './preparation.js';

/** A preparation as plain data: what is sent to loader threads. */
export type PreparationPlan = ImagePlan;

/** Makes the preparation of a plan, in the thread that uses it. */
export function makePreparation(plan: PreparationPlan): Preparation {
  return imagePreparation(plan) as Preparation;
}
