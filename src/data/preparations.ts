import { type SoundPlan, soundPreparation } from './audio/preparation.js';
import { type EpisodePlan, episodePreparation } from './episodes/preparation.js';
import { type ImagePlan, imagePreparation } from './pipeline.js';
import type { Preparation } from './preparation.js';
import { type SkeletonPlan, skeletonPreparation } from './skeleton/preparation.js';
import { type BagPlan, bagPreparation } from './text/plan.js';
import { type TextPlan, textPreparation } from './text/preparation.js';
import { clipPreparation, type VideoPlan } from './video/clips.js';

/** A preparation as plain data: what is sent to loader threads. */
export type PreparationPlan = ImagePlan | VideoPlan | SoundPlan | SkeletonPlan | TextPlan | BagPlan | EpisodePlan;

/** Makes the preparation of a plan, in the thread that uses it. */
export function makePreparation(plan: PreparationPlan): Preparation {
  switch (plan.kind) {
    case 'image':
      return imagePreparation(plan) as Preparation;
    case 'video':
      return clipPreparation(plan) as Preparation;
    case 'sound':
      return soundPreparation(plan) as Preparation;
    case 'skeleton':
      return skeletonPreparation(plan) as Preparation;
    case 'text':
      return textPreparation(plan) as Preparation;
    case 'bag':
      return bagPreparation(plan) as Preparation;
    case 'episodes':
      return episodePreparation(plan) as Preparation;
  }
}
