import { JepaError } from '../base/errors.js';
import { ACTIONS, OBSERVATIONS, STATES } from '../data/episodes/preparation.js';
import { meanPower } from '../energy/distance.js';
import { mulDims } from '../graph/dims.js';
import { add } from '../graph/ops/elementwise.js';
import { broadcastTo, concat, expandDims, narrow, reshape, transpose } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import {
  type AcConditions,
  type AcPast,
  type AcPredictorConfig,
  acPast,
  acPredictor,
  acPredictorSpec,
} from '../nn/ac-predictor.js';
import { gridOf, type VitConfig, vit, vitSpec } from '../nn/vit.js';
import { type Module, makeModule, type Weights } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import type { Encoder, Inputs, Method, MethodBatch } from './method.js';
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

/** `count` frames of conditions, from frame `first` on. */
const someFrames = ({ actions, states, extrinsics }: AcConditions, first: number, count: number): AcConditions => ({
  actions: narrow(actions, 1, first, count),
  ...(states ? { states: narrow(states, 1, first, count) } : {}),
  ...(extrinsics ? { extrinsics: narrow(extrinsics, 1, first, count) } : {}),
});

/** Normalised predictions for every frame of `features` [batch, frames * tokens, width]: those of the frames that follow. */
export const predictFrames = (
  features: Tensor,
  conditions: AcConditions,
  w: Weights,
  config: AcPredictorConfig,
  past?: AcPast,
): Tensor => plainNorm(acPredictor(features, conditions, w, config, past));

/**
 * Predicts `steps` frames one after the other, each from `start` [batch, frames * tokens, width] and all predictions so far:
 * [batch, steps * tokens, width]. Every frame goes through the predictor once. Actions and states are given for every frame from the
 * first of `start` on. `first`: the first prediction, where it is known.
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
  const past = acPast(config);
  const predictions: Tensor[] = [];
  let fresh = start; // Frames that the predictor has not been given yet.
  for (let step = 0; step < steps; step++) {
    const known = step === 0 ? first : undefined;
    const next =
      known ??
      scope(`step ${step}`, () => {
        const count = (fresh.shape[1] as number) / each;
        const predicted = predictFrames(fresh, someFrames(conditions, past.frames, count), w, config, past);
        return narrow(predicted, 1, (count - 1) * each, each);
      });
    predictions.push(next);
    fresh = known ? concat([start, next], 1) : next;
  }
  return concat(predictions, 1);
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
  const known = someFrames(conditions, 0, moves);
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

// --- as a trainer runs it -----------------------------------------------------------------------------------------------------

export interface AcTraining {
  /** Of frames by themselves: positions are rotary, `frames` is the tubelet. Its weights are given and stay. */
  readonly encoder: VitConfig;
  readonly predictor: AcPredictorConfig;
  /** Observations of a window. */
  readonly frames: number;
  /** Frames that are rolled out from the first; 2 in the paper. */
  readonly steps: number;
  readonly exponent: number;
}

/** A method whose frozen encoder and whose predictor evaluations use too. */
export interface AcMethod extends Method {
  readonly config: AcTraining;
  readonly modules: { readonly encoder: Module; readonly predictor: Module };
}

export const isActionConditioned = (method: Method): method is AcMethod =>
  'modules' in method && method.name === 'vjepa2-ac';

export interface AcInputs {
  /** Pictures [batch, frames, channels, height, width]. */
  readonly observations: Tensor;
  /** What the predictor is told: actions and states of all frames but the last. */
  readonly conditions: AcConditions;
}

/** Graph inputs: windows of episodes as they are prepared. */
export function acInputs({ encoder, predictor, frames }: AcTraining): AcInputs {
  const { actionWidth, stateWidth = actionWidth } = predictor;
  const known = (name: string, numbers: number): Tensor =>
    narrow(input(name, ['batch', frames, numbers]), 1, 0, frames - 1);
  return {
    observations: input(OBSERVATIONS, ['batch', frames, encoder.channels, ...encoder.imageSize]),
    conditions: {
      actions: known(ACTIONS, actionWidth),
      ...(stateWidth > 0 && { states: known(STATES, stateWidth) }),
    },
  };
}

/** Those inputs of a batch of windows. */
export function acFeeds({ views: [fields] }: MethodBatch, { predictor }: AcTraining): Feeds {
  const told = [OBSERVATIONS, ACTIONS, ...(predictor.stateWidth === 0 ? [] : [STATES])];
  return Object.fromEntries(told.map((name) => [name, { ...fields[name], shape: fields[name].shape.toSpliced(1, 1) }]));
}

/** V-JEPA 2-AC on windows of episodes. Throws a `JepaError` for windows that are too short. */
export function acMethod(config: AcTraining): AcMethod {
  const { encoder, predictor, frames, steps, exponent } = config;
  if (!(steps >= 1 && steps < frames))
    throw new JepaError(
      `vjepa2-ac: windows of ${frames} observations have ${frames - 1} steps; set method.steps between 1 and that, not ${steps}`,
    );
  const modules = {
    encoder: makeModule('encoder.', vitSpec(encoder)),
    predictor: makeModule('predictor.', acPredictorSpec(predictor)),
  };
  const { observations, conditions } = acInputs(config);
  const targets = scope('encoder', () => observedFrames(observations, modules.encoder.weights, encoder));
  const forward = scope('predictor', () => ac(targets, conditions, steps, modules.predictor.weights, predictor));
  const { loss, teacherForcing, rollout } = scope('energy', () => acLoss(forward, targets, exponent));
  const each = predictor.grid[0] * predictor.grid[1];
  const later = narrow(targets, 1, each, (frames - 1) * each);
  return {
    name: 'vjepa2-ac',
    config,
    modules,
    trained: [modules.predictor],
    frozen: [modules.encoder],
    followers: [],
    loss,
    scalars: {
      'teacher forcing': teacherForcing,
      rollout,
      // What is right where nothing happens: to be beaten.
      'standing still': meanPower(narrow(targets, 1, 0, (frames - 1) * each), later, exponent),
    },
    pair: { prediction: forward.teacherForced, target: later },
    views: [1],
    feeds: (batch) => acFeeds(batch, config),
    encoder: frameEncoder(modules.encoder, encoder),
  };
}

/** Windows [batch, frames, channels, height, width] -> normalised representations [batch, frames * tokens, width]. */
export const observedFrames = (observations: Tensor, w: Weights, encoder: VitConfig): Tensor =>
  frameRepresentations(transpose(observations, [0, 2, 1, 3, 4]), w, encoder);

/** The frozen encoder of single pictures; probes see the mean of its tokens. */
function frameEncoder(module: Module, config: VitConfig): Encoder {
  const tokens = (inputs: Inputs): Tensor =>
    frameRepresentations(expandDims(inputs[OBSERVATIONS], 2), module.weights, config);
  return {
    module,
    architecture: { kind: 'state', of: 'vit' },
    inputs: [{ name: OBSERVATIONS, dtype: 'float32', shape: [config.channels, ...config.imageSize] }],
    grid: gridOf(config),
    features: config.width,
    width: config.width,
    represent: (inputs) => mean(tokens(inputs), 1),
    tokens,
  };
}
