import { JepaError } from '../../base/errors.js';
import { sizeOf } from '../../base/tensor.js';
import type { Preparation } from '../preparation.js';
import type { EpisodeDataset, EpisodeShape, EpisodeWindow } from './dataset.js';
import { type Scaling, scale } from './scaling.js';

/** How windows of episodes are prepared, as it stands in a configuration. */
export interface EpisodeInput {
  readonly kind: 'episodes';
  /** `window`: all of it; `first`: its first observation alone, without an axis of time (for frozen encoders). */
  readonly part: 'window' | 'first';
  readonly scaling: Scaling;
}

/** A checked `EpisodeInput` with what the data say: plain data. */
export interface EpisodePlan extends EpisodeInput {
  readonly shape: EpisodeShape;
}

/** Fields: observations [frames, ...], actions [frames, numbers], moments [moments, ...], times [moments],
 * states [frames, numbers]. */
export const OBSERVATIONS = 'observations';
export const ACTIONS = 'actions';
export const MOMENTS = 'moments';
export const TIMES = 'times';
export const STATES = 'states';

/** Checks a preparation. Throws a `JepaError` beginning with `where`. */
export function planEpisodes(input: EpisodeInput, { shape }: EpisodeDataset, where: string): EpisodePlan {
  const [channels] = shape.observation;
  const { mean, std } = input.scaling;
  for (const [name, values] of Object.entries({ mean, std })) {
    if (values.length !== channels)
      throw new JepaError(
        `${where}.scaling.${name}: ${values.length} numbers for observations of ${channels} ${shape.observation.length > 1 ? 'channels' : 'numbers'}`,
      );
  }
  return { ...input, shape };
}

export function episodePreparation({ part, scaling, shape }: EpisodePlan): Preparation<EpisodeWindow> {
  const { frames, moments, observation, action, state } = shape;
  const [, ...plane] = observation;
  const size = sizeOf(plane);
  const field = (name: string, ...dims: readonly number[]) => ({ name, dtype: 'float32' as const, shape: dims });
  if (part === 'first') {
    return {
      fields: [field(OBSERVATIONS, ...observation), field(STATES, state)],
      prepare(window, _, [seen, states]) {
        scale(window.observations.subarray(0, seen.length), size, scaling, seen as Float32Array);
        states.set(window.states.subarray(0, state));
      },
    };
  }
  return {
    fields: [
      field(OBSERVATIONS, frames, ...observation),
      field(ACTIONS, frames, action),
      ...(moments > 0 ? [field(MOMENTS, moments, ...observation), field(TIMES, moments)] : []),
    ],
    prepare(window, _, [seen, actions, single, times]) {
      scale(window.observations, size, scaling, seen as Float32Array);
      actions.set(window.actions);
      if (moments > 0) {
        scale(window.moments, size, scaling, single as Float32Array);
        times.set(window.times);
      }
    },
  };
}
