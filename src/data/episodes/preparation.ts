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
  /** Windows have the first numbers of their states too, so many as there are statistics here, standardised by these. */
  readonly told?: { readonly mean: readonly number[]; readonly std: readonly number[] };
}

/** A checked `EpisodeInput` with what the data say: plain data. */
export interface EpisodePlan extends EpisodeInput {
  readonly shape: EpisodeShape;
}

/**
 * Fields: observations [frames, ...], actions [frames, numbers], moments [2, moments, ...], times [moments], states [frames, numbers
 * told].
 */
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
  if (input.told && input.told.mean.length > shape.state)
    throw new JepaError(`${where}: ${input.told.mean.length} numbers of states that have ${shape.state}`);
  return { ...input, shape };
}

export function episodePreparation({ part, scaling, shape, told }: EpisodePlan): Preparation<EpisodeWindow> {
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
      ...(moments > 0 ? [field(MOMENTS, 2, moments, ...observation), field(TIMES, moments)] : []),
      ...(told ? [field(STATES, frames, told.mean.length)] : []),
    ],
    prepare(window, _, [seen, actions, ...more]) {
      scale(window.observations, size, scaling, seen as Float32Array);
      actions.set(window.actions);
      if (moments > 0) {
        scale(window.moments, size, scaling, more[0] as Float32Array);
        more[1].set(window.times);
      }
      if (!told) return;
      const { mean, std } = told;
      const states = more[more.length - 1];
      for (let frame = 0; frame < frames; frame++) {
        for (let i = 0; i < mean.length; i++)
          states[frame * mean.length + i] = (window.states[frame * state + i] - mean[i]) / std[i];
      }
    },
  };
}
