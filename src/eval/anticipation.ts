import { JepaError } from '../base/errors.js';
import { type HostTensor, int32 } from '../base/tensor.js';
import { concat, narrow } from '../graph/ops/move.js';
import { scope, type Tensor } from '../graph/tensor.js';
import type { ClassifierConfig, PoolerConfig } from '../nn/attentive.js';
import { type PredictorConfig, predictPair } from '../nn/predictor.js';
import type { Weights } from '../nn/weights.js';

/**
 * Action anticipation (V-JEPA 2, section 4.2; `evals/action_anticipation_frozen`): a frozen encoder sees a clip, its frozen
 * predictor guesses the tokens of a moment after it, and a probe with one query for each kind of class reads both.
 */
export interface AnticipationClip {
  /** Tubelets, rows and columns of the clip's tokens. */
  readonly grid: readonly [number, number, number];
  readonly tubeletSize: number;
  readonly framesPerSecond: number;
  /** Frames to predict; two in the published evaluation. */
  readonly outputFrames: number;
}

/** Indices of all tokens of the clip and of those `seconds` later, for every sample: [batch, N] and [batch, predicted]. */
export function anticipatedTokens(
  { grid: [frames, rows, columns], tubeletSize, framesPerSecond, outputFrames }: AnticipationClip,
  seconds: ArrayLike<number>,
): { readonly context: HostTensor<'int32'>; readonly targets: HostTensor<'int32'> } {
  const each = rows * columns;
  const tokens = frames * each;
  const predicted = each * Math.floor(outputFrames / tubeletSize);
  if (predicted === 0)
    throw new JepaError(`anticipation: ${outputFrames} frames do not fill a tubelet of ${tubeletSize}`);
  const batch = seconds.length;
  const context = Int32Array.from({ length: batch * tokens }, (_, i) => i % tokens);
  const targets = Int32Array.from({ length: batch * predicted }, (_, i) => {
    // In single precision, as the reference: a time that just reaches a tubelet must fall into the same one.
    const time = Math.fround(Math.fround(seconds[Math.floor(i / predicted)]) * framesPerSecond);
    return tokens + each * Math.trunc(Math.fround(time / tubeletSize)) + (i % predicted);
  });
  return { context: int32([batch, tokens], context), targets: int32([batch, predicted], targets) };
}

export interface AnticipationOptions {
  /** Predictions made one after the other; each pushes the oldest tokens out of what the next sees, indices stay. */
  readonly steps?: number;
  /** Leave the encoder's own tokens out of the result. */
  readonly predictionsOnly?: boolean;
  /** Which mask token the predictor starts from; 1 in the reference, though training uses 0. */
  readonly maskIndex?: number;
}

/**
 * Tokens for the probe: the encoder's [batch, N, width], then the predictions of every step. `predictor`'s grid must reach
 * as far into the future as the targets do.
 */
export function anticipate(
  tokens: Tensor,
  context: Tensor,
  targets: Tensor,
  w: Weights,
  predictor: PredictorConfig,
  { steps = 1, predictionsOnly = false, maskIndex = 1 }: AnticipationOptions = {},
): Tensor {
  const predicted = targets.shape[1] as number;
  const count = tokens.shape[1] as number;
  const parts = predictionsOnly ? [] : [tokens];
  let seen = tokens;
  for (let step = 0; step < steps; step++) {
    const next = scope(`anticipate ${step}`, () => predictPair(seen, context, targets, w, predictor, { maskIndex }));
    parts.push(next);
    if (step + 1 < steps) seen = concat([narrow(seen, 1, predicted, count - predicted), next], 1);
  }
  return concat(parts, 1);
}

/** Verb, noun and action of EPIC-KITCHENS-100, with the published names; `pooler` needs three queries. */
export const actionHead = (
  pooler: PoolerConfig,
  [verbs, nouns, actions]: readonly [number, number, number],
): ClassifierConfig => ({
  pooler,
  heads: { verb_classifier: verbs, noun_classifier: nouns, action_classifier: actions },
});
