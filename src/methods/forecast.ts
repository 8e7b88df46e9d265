import { type Distance, tokenEnergy } from '../energy/distance.js';
import { broadcastTo, expandDims, narrow, reshape, tile } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { type FutureConfig, futureAt, futureRoom } from '../masking/future.js';
import { type PredictorConfig, predictor } from '../nn/predictor.js';
import { vitTokens } from '../nn/tokens.js';
import { tokenGrid, type VitConfig } from '../nn/vit.js';
import type { Module } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import { CLIPS, IMAGES } from './backbone.js';
import { encodeContext, type MaskedInputs, type MaskedOptions, masked, normaliseTargets } from './masked.js';

/** Prediction of what comes, measured: from the first part of a sound or a clip, the representation of what follows it. */

export interface ForecastInputs extends MaskedInputs {
  /** Spectrograms [batch, 1, times, bands], or clips [batch, channels, frames, height, width]. */
  readonly samples: Tensor;
}

export interface Forecast {
  readonly inputs: ForecastInputs;
  /** Field of a prepared sample that is shown: `images` or `clips`. */
  readonly field: string;
  /** The target encoder's tokens of the context, which is all that it is shown [batch, seen, width]. */
  readonly seen: Tensor;
  /** Moment of a sample at which the context begins. */
  readonly start: number;
  /** Representations of the coming segments [batch, horizons, tokens, width], as predicted from the context. */
  readonly prediction: Tensor;
  /** What the target encoder, which sees them, makes of them. */
  readonly target: Tensor;
  /** What persistence predicts: the target encoder's representation of the last moment of the context, of nothing later. */
  readonly persistence: Tensor;
  /** Mean energy of the predictions and of persistence, one scalar for each horizon. */
  readonly predicted: readonly Tensor[];
  readonly persisted: readonly Tensor[];
  /** Where context and segments lie in a batch: in the middle of what there is. */
  feeds(batch: number): Feeds;
}

/** What is predicted with. */
export interface Forecaster {
  readonly encoder: Module;
  readonly predictor: Module;
  readonly target: Module;
  readonly config: { readonly encoder: VitConfig; readonly predictor: PredictorConfig };
  readonly options: MaskedOptions;
  readonly distance: Distance;
  /** Which mask token stands for the future; 0 by default. */
  readonly maskIndex?: number;
}

/** Times of a grid and the tokens of one: what `FutureConfig` counts in. */
export function timesOf(encoder: VitConfig): readonly [times: number, each: number] {
  const [times, ...rest] = tokenGrid(encoder);
  return [times, rest.reduce((a, b) => a * b, 1)];
}

/** Half of a sample as context, and the rest moment by moment. */
export function plainFuture(encoder: VitConfig): FutureConfig {
  const [times] = timesOf(encoder);
  const context = Math.ceil(times / 2);
  return { context, segment: 1, horizons: times - context };
}

/**
 * Probes of `prediction` against those of `persistence`, and their energies against each other, say whether the predictor knows
 * how things go on.
 */
export function forecast(who: Forecaster, future: FutureConfig): Forecast {
  const { config, options, distance, maskIndex } = who;
  const { context, segment, horizons } = future;
  const { encoder } = config;
  const grid = timesOf(encoder);
  const room = futureRoom(future, grid);
  const each = grid[1];
  const { channels, frames, imageSize } = encoder;
  const [field, clip] = frames === undefined ? [IMAGES, []] : [CLIPS, [frames]];
  const inputs: ForecastInputs = {
    samples: input(field, ['batch', channels, ...clip, ...imageSize]),
    context: input('context', ['batch', 1, context * each], 'int32'),
    targets: input('targets', ['batch', horizons, segment * each], 'int32'),
  };
  const tokens = vitTokens(inputs.samples, encoder);
  const forward = masked(
    {
      tokens,
      encoder: who.encoder.weights,
      target: who.target.weights,
      predict: (seen, visible, targets) =>
        predictor(seen, visible as Tensor, targets, who.predictor.weights, config.predictor, { maskIndex }),
    },
    inputs,
    options,
  );
  const [batch] = forward.context.shape;
  const shape = [batch, horizons, segment * each, encoder.width];
  const [prediction, target] = [forward.prediction, forward.target].map((x) => reshape(x, shape)); // One context.
  const seen = scope('present', () => encodeContext(tokens, who.target.weights, inputs.context, 'drop'));
  const persistence = scope('persistence', () => {
    // Tokens ascend: the last ones are those of the last moment, which is repeated for every moment of every segment.
    const last = normaliseTargets(narrow(seen, 1, (context - 1) * each, each), options.normalisation);
    return broadcastTo(expandDims(tile(last, [1, segment, 1]), 1), shape);
  });
  const byHorizon = (x: Tensor): Tensor[] => {
    const energies = tokenEnergy(x, target, distance); // [batch, horizons, tokens]
    return Array.from({ length: horizons }, (_, h) => mean(narrow(energies, 1, h, 1)));
  };
  const start = Math.floor(room / 2);
  return {
    inputs,
    field,
    seen,
    start,
    prediction,
    target,
    persistence,
    predicted: byHorizon(prediction),
    persisted: byHorizon(persistence),
    feeds(rows) {
      const masks = futureAt(future, grid, rows, start);
      return { context: masks.context, targets: masks.target };
    },
  };
}
