import { meanPower } from '../energy/distance.js';
import { mulDims } from '../graph/dims.js';
import { add } from '../graph/ops/elementwise.js';
import { broadcastTo, concat, expandDims, narrow, reshape, transpose } from '../graph/ops/move.js';
import { scope, stopGradient, type Tensor } from '../graph/tensor.js';
import { type AcConditions, type AcPredictorConfig, acPredictor } from '../nn/ac-predictor.js';
import { gridOf, type VitConfig, vit } from '../nn/vit.js';
import type { Weights } from '../nn/weights.js';
import { plainNorm } from './vjepa.js';

/**
 * V-JEPA 2-AC (Assran et al. 2025, section 3): an action-conditioned predictor on a frozen V-JEPA 2 encoder, trained by
 * teacher forcing and by rolling out its own predictions.
 */

/** The released predictor. Actions and states: position (3), Euler angles (3), gripper (1). */
export const acPredictorConfig = (encoder: VitConfig, width = 1024, depth = 24, heads = 16): AcPredictorConfig => ({
  width,
  depth,
  heads,
  mlpWidth: 4 * width,
  qkvBias: true,
  eps: 1e-6,
  encoderWidth: encoder.width,
  grid: gridOf(encoder),
  actionWidth: 7,
  extrinsics: false,
});

/**
 * Normalised representations of single frames: clips [batch, channels, frames, height, width] ->
 * [batch, frames * tokens, width]. Each frame fills a tubelet and is encoded alone. No gradient flows into the encoder.
 */
export function frameRepresentations(clips: Tensor, w: Weights, config: VitConfig): Tensor {
  const [batch, channels, frames, height, width] = clips.shape;
  const tubelet = config.tubeletSize ?? 1;
  const apart = transpose(clips, [0, 2, 1, 3, 4]);
  const filled = broadcastTo(expandDims(apart, 3), [batch, frames, channels, tubelet, height, width]);
  const tokens = vit(reshape(filled, [mulDims(batch, frames), channels, tubelet, height, width]), w, config);
  const [rows, columns] = gridOf(config);
  return stopGradient(plainNorm(reshape(tokens, [batch, mulDims(frames, rows * columns), config.width])));
}

/** The first `count` frames of conditions. */
const firstFrames = ({ actions, states, extrinsics }: AcConditions, count: number): AcConditions => ({
  actions: narrow(actions, 1, 0, count),
  states: narrow(states, 1, 0, count),
  ...(extrinsics ? { extrinsics: narrow(extrinsics, 1, 0, count) } : {}),
});

/** Normalised predictions for every frame of `features` [batch, frames * tokens, width]: those of the frames that follow. */
export const predictFrames = (
  features: Tensor,
  conditions: AcConditions,
  w: Weights,
  config: AcPredictorConfig,
): Tensor => plainNorm(acPredictor(features, conditions, w, config));

/**
 * Predicts `steps` frames one after the other, each from `start` [batch, frames * tokens, width] and all predictions so far:
 * [batch, steps * tokens, width]. Actions and states are given for every frame from the first of `start` on. `first`: the
 * first prediction, where it is known.
 */
export function rollOut(
  start: Tensor,
  conditions: AcConditions,
  steps: number,
  w: Weights,
  config: AcPredictorConfig,
  first?: Tensor,
): Tensor {
  const each = config.grid[0] * config.grid[1];
  const given = (start.shape[1] as number) / each;
  let frames = start;
  for (let step = 0; step < steps; step++) {
    const known = step === 0 ? first : undefined;
    const next =
      known ??
      scope(`step ${step}`, () => {
        const count = given + step;
        const predicted = predictFrames(frames, firstFrames(conditions, count), w, config);
        return narrow(predicted, 1, (count - 1) * each, each);
      });
    frames = concat([frames, next], 1);
  }
  return narrow(frames, 1, given * each, steps * each);
}

export interface AcForward {
  /** Predictions of frames 1, 2, ... from the true frames before each, [batch, (frames - 1) * tokens, width]. */
  readonly teacherForced: Tensor;
  /** Predictions of frames 1 .. `steps` from frame 0 and earlier predictions, [batch, steps * tokens, width]. */
  readonly rollout: Tensor;
}

/** `targets` [batch, frames * tokens, width] of `frameRepresentations`; actions [batch, frames - 1, 7]; states [batch, frames, 7]. */
export function ac(
  targets: Tensor,
  conditions: AcConditions,
  steps: number,
  w: Weights,
  config: AcPredictorConfig,
): AcForward {
  const each = config.grid[0] * config.grid[1];
  const moves = conditions.actions.shape[1] as number;
  const known = firstFrames(conditions, moves);
  const teacherForced = scope('teacher forcing', () =>
    predictFrames(narrow(targets, 1, 0, moves * each), known, w, config),
  );
  const start = narrow(targets, 1, 0, each);
  const rollout = scope('rollout', () => rollOut(start, known, steps, w, config, narrow(teacherForced, 1, 0, each)));
  return { teacherForced, rollout };
}

/** Both terms and their sum; the targets of prediction t are frame t + 1. */
export function acLoss(
  { teacherForced, rollout }: AcForward,
  targets: Tensor,
  exponent = 1,
): { readonly loss: Tensor; readonly teacherForcing: Tensor; readonly rollout: Tensor } {
  const each = (targets.shape[1] as number) - (teacherForced.shape[1] as number);
  const from = (prediction: Tensor): Tensor => narrow(targets, 1, each, prediction.shape[1]);
  const terms = [teacherForced, rollout].map((prediction) => meanPower(prediction, from(prediction), exponent));
  return { loss: add(terms[0], terms[1]), teacherForcing: terms[0], rollout: terms[1] };
}
