import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';

/**
 * A world model that predicts changes and learns while it acts (LeCun 2022, section 4.5): s' = s + W features(s, a). Every
 * observed step corrects W by recursive least squares; old steps fade, so that a world that has changed is learned anew.
 */

type Row = ArrayLike<number>;

/** What the world does next, as far as the agent knows. A latent tells apart what may happen. */
export interface WorldModel {
  predict(state: Row, action: Row, latent?: Row): Float64Array;
  /** The same for many plans [plans, horizon, width] at once, where that is faster: states [plans, horizon, state]. */
  rollOut?(state: Row, plans: HostTensor<'float32'>, latent?: Row): Promise<ArrayLike<number>>;
}

export interface AdaptiveOptions {
  readonly features: (state: Row, action: Row) => ArrayLike<number>;
  /** Share of what is known that is kept at each step: 1 forgets nothing. */
  readonly keep?: number;
  /** Variance of the weights before anything was seen. */
  readonly prior?: number;
}

export interface AdaptiveModel extends WorldModel {
  /** Corrects the model by what happened; returns the error that it had made, a distance. */
  learn(state: Row, action: Row, next: Row): number;
  /** How unsure a prediction is: f' P f, with P the covariance of the weights in units of the noise. */
  uncertainty(state: Row, action: Row): number;
  /** Weights [state, features]. */
  readonly weights: Float64Array;
}

export function adaptiveModel({ features, keep = 0.98, prior = 100 }: AdaptiveOptions): AdaptiveModel {
  if (!(keep > 0 && keep <= 1))
    throw new JepaError(`world model: it keeps ${keep} of what it knows; use 0 < keep <= 1`);
  let [size, width] = [0, 0];
  let weights = new Float64Array();
  let p = new Float64Array();
  const begin = (f: ArrayLike<number>, state: Row): void => {
    if (width > 0) return;
    [size, width] = [state.length, f.length];
    weights = new Float64Array(size * width);
    p = new Float64Array(width * width);
    for (let i = 0; i < width; i++) p[i * width + i] = prior;
  };
  const spread = (f: ArrayLike<number>): Float64Array =>
    Float64Array.from({ length: width }, (_, i) => {
      let total = 0;
      for (let j = 0; j < width; j++) total += p[i * width + j] * f[j];
      return total;
    });
  const inner = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
    let total = 0;
    for (let i = 0; i < width; i++) total += a[i] * b[i];
    return total;
  };
  const model: AdaptiveModel = {
    get weights() {
      return weights;
    },
    predict(state, action) {
      const f = features(state, action);
      begin(f, state);
      return Float64Array.from(
        { length: size },
        (_, o) => state[o] + inner(weights.subarray(o * width, (o + 1) * width), f),
      );
    },
    uncertainty(state, action) {
      const f = features(state, action);
      begin(f, state);
      return inner(f, spread(f));
    },
    learn(state, action, next) {
      const expected = model.predict(state, action);
      const f = features(state, action);
      const pf = spread(f);
      const scale = keep + inner(f, pf);
      let squares = 0;
      for (let o = 0; o < size; o++) {
        const rest = next[o] - expected[o];
        squares += rest * rest;
        for (let i = 0; i < width; i++) weights[o * width + i] += (pf[i] / scale) * rest;
      }
      for (let i = 0; i < width; i++) {
        for (let j = 0; j < width; j++) p[i * width + j] = (p[i * width + j] - (pf[i] * pf[j]) / scale) / keep;
      }
      // Directions that are never seen would be forgotten without end: they go back to the prior at most. A feature's row and
      // column shrink together, so that P stays a covariance.
      const shrink = Float64Array.from({ length: width }, (_, i) => Math.sqrt(Math.min(1, prior / p[i * width + i])));
      for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) p[i * width + j] *= shrink[i] * shrink[j];
      return Math.sqrt(squares);
    },
  };
  return model;
}
