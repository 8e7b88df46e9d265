import { input, scope, type Tensor } from '../graph/tensor.js';
import type { PredictorConfig } from '../nn/predictor.js';
import type { Rope } from '../nn/rope.js';
import { VIT_SIZES, type VitConfig } from '../nn/vit.js';
import type { Method } from './method.js';
import {
  type VjepaConfig,
  type VjepaForward,
  type VjepaInputs,
  type VjepaModules,
  type VjepaTraining,
  vjepa,
  vjepaLoss,
  vjepaMethod,
  vjepaPredictor,
} from './vjepa.js';

/**
 * V-JEPA 2: Assran et al., Self-Supervised Video Models Enable Understanding, Prediction and Planning (2025). V-JEPA with
 * rotary positions, a moving average of fixed momentum, and batches that mix clips of several lengths: each length is a
 * group with masks and a mask token of its own. Modules are V-JEPA's, with `rescale`.
 */
export const VJEPA2_ROPE: Rope = { frequencies: 'tiled' };

/** The released encoders. */
export const VJEPA2_SIZES = {
  large: VIT_SIZES.large,
  huge: VIT_SIZES.huge,
  giant: { ...VIT_SIZES.giant, heads: 22 },
  gigantic: { width: 1664, depth: 48, heads: 26, mlpWidth: 6656 },
} as const;

/** The released predictor: heads of width 32; ten mask tokens, of which training uses one for each length of clips. */
export const vjepa2Predictor = (encoder: VitConfig, maskTokens = 10, width = 384, depth = 12): PredictorConfig => ({
  ...vjepaPredictor(encoder, maskTokens, width, depth),
  heads: Math.max(1, Math.round(width / 32)),
  positions: VJEPA2_ROPE,
});

/**
 * Inputs of groups of clips of `frames` frames: `clips.0`, `context.0.0` (group, mask), `target.0.0`, ... Workers
 * take slices of the first group and each the whole of the others: put the largest first.
 */
export const vjepa2Inputs = (
  { encoder }: VjepaConfig,
  frames: readonly number[],
  masks: number,
): readonly VjepaInputs[] =>
  frames.map((count, group) => {
    const batch = group === 0 ? 'batch' : `batch ${group}`;
    return {
      clips: input(`clips.${group}`, [batch, encoder.channels, count, ...encoder.imageSize]),
      masks: Array.from({ length: masks }, (_, i) => ({
        context: input(`context.${group}.${i}`, [batch, `visible ${group} ${i}`], 'int32'),
        target: input(`target.${group}.${i}`, [batch, `hidden ${group} ${i}`], 'int32'),
      })),
    };
  });

/** Each group as V-JEPA; all masks of a group share the mask token of its number. */
export const vjepa2 = (
  groups: readonly VjepaInputs[],
  modules: VjepaModules,
  config: VjepaConfig,
): readonly VjepaForward[] =>
  groups.map((inputs, group) => scope(`group ${group}`, () => vjepa(inputs, modules, config, () => group)));

/** Mean over all pairs of group and mask. */
export const vjepa2Loss = (groups: readonly VjepaForward[], exponent = 1): Tensor =>
  vjepaLoss(
    groups.flatMap(({ pairs }) => pairs),
    exponent,
  );

/** V-JEPA 2 on clips of one length as a trainer runs it: all kinds of masks share the mask token of the length. */
export const vjepa2Method = (config: VjepaTraining): Method =>
  vjepaMethod(config, { name: 'vjepa2', rescale: true, maskToken: () => 0 });
