import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { meanPower } from '../energy/distance.js';
import { mulDims } from '../graph/dims.js';
import { add, div, maximum, mul, relu, sqrt, sub } from '../graph/ops/elementwise.js';
import { batchedGather, oneHot } from '../graph/ops/index.js';
import { concat, expandDims, reshape, split } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { mean, sum, variance } from '../graph/ops/reduce.js';
import { constant, input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import { type ClipMask, checkClipMasks, sampleClipMasks } from '../masking/clips.js';
import { type FutureConfig, futureRoom, sampleFuture } from '../masking/future.js';
import { type Grid3d, RELEASED_MULTIBLOCK_3D } from '../masking/multiblock3d.js';
import { type PredictorConfig, predictor, predictorSpec, predictPair } from '../nn/predictor.js';
import { INIT_STD, withSpread } from '../nn/transformer.js';
import { tokenGrid, type VitConfig, vitRepresentation, vitSpec } from '../nn/vit.js';
import { type Module, makeModule } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import { vitBackbone } from './backbone.js';
import { forecast, plainFuture, timesOf } from './forecast.js';
import { ijepaPredictor } from './ijepa.js';
import { IJEPA_OPTIONS, type MaskedInputs, maskInputs, normaliseTargets } from './masked.js';
import { type MaskedSample, type Method, maskedSamples, type Regularizer } from './method.js';
import { regularize } from './regularize.js';

/**
 * V-JEPA: Bardes et al., Revisiting Feature Prediction for Learning Visual Representations from Video (2024). From the
 * visible tubelets of a clip, predict the representation of the hidden ones; several masks share one pass of the target
 * encoder.
 */
export interface VjepaConfig {
  /** With `frames`, `tubeletSize` and `uniform` positions. */
  readonly encoder: VitConfig;
  readonly predictor: PredictorConfig;
}

/** The published shape of the predictor: heads as the encoder's, a mask token for each kind of mask. */
export const vjepaPredictor = (encoder: VitConfig, masks = 2, width = 384, depth = 12): PredictorConfig => ({
  ...ijepaPredictor(encoder, width, depth),
  grid: tokenGrid(encoder),
  positions: encoder.positions,
  maskTokens: masks,
});

export interface VjepaModules {
  readonly encoder: Module;
  readonly predictor: Module;
  /** Moving average of the encoder; no gradient reaches it. */
  readonly target: Module;
}

/**
 * `rescale`: divide output projections by sqrt(2 i) at the start, which V-JEPA's training undoes and V-JEPA 2's keeps. `spread`:
 * standard deviation of first weights.
 */
export function vjepaModules(
  { encoder, predictor: predicting }: VjepaConfig,
  rescale = false,
  spread = INIT_STD,
): VjepaModules {
  const vit = withSpread(vitSpec(encoder, rescale), spread);
  return {
    encoder: makeModule('encoder.', vit),
    predictor: makeModule('predictor.', withSpread(predictorSpec(predicting, rescale), spread)),
    target: makeModule('target_encoder.', vit),
  };
}

/** One kind of mask over the clips of a batch: tokens of the flat grid, columns fastest. */
export interface MaskPair {
  /** Tokens that the context encoder sees [batch, visible], int32. */
  readonly context: Tensor;
  /** Tokens to predict [batch, hidden], int32. */
  readonly target: Tensor;
}

export interface VjepaInputs {
  /** [batch, channels, frames, height, width] */
  readonly clips: Tensor;
  readonly masks: readonly MaskPair[];
}

/** Graph inputs `clips`, `context.0`, `target.0`, ...; how many tokens they hide changes from batch to batch. */
export const vjepaInputs = ({ encoder }: VjepaConfig, masks: number): VjepaInputs => ({
  clips: input('clips', ['batch', encoder.channels, encoder.frames as number, ...encoder.imageSize]),
  masks: Array.from({ length: masks }, (_, i) => ({
    context: input(`context.${i}`, ['batch', `visible ${i}`], 'int32'),
    target: input(`target.${i}`, ['batch', `hidden ${i}`], 'int32'),
  })),
});

/** Masks of a batch for those inputs. */
export function vjepaMasks(
  grid: Grid3d,
  entries: readonly ClipMask[],
  batch: number,
  random: Random,
): Record<string, HostTensor<'int32'>> {
  const draws = random.split('masks');
  const masks = sampleClipMasks(grid, entries, batch, {
    sizes: (entry) => draws.split(`sizes ${entry}`),
    places: draws.split('places'),
    orders: (entry) => draws.split(`orders ${entry}`),
  });
  return Object.fromEntries(
    masks.flatMap(({ context, target }, i) => [
      [`context.${i}`, context],
      [`target.${i}`, target],
    ]),
  );
}

export interface VjepaForward {
  /** Normalised representation of all tokens by the target encoder [batch, tokens, width]. */
  readonly representation: Tensor;
  /** For each mask the prediction and its target, [batch, hidden, width] each; no gradient flows into the target. */
  readonly pairs: readonly { readonly prediction: Tensor; readonly target: Tensor }[];
  /** For each mask the context encoder's tokens [batch, visible, width]. */
  readonly contexts: readonly Tensor[];
}

/**
 * The plain layer norm, without gain and bias, on top of the encoder's own; levels side by side in x [batch, tokens, width]
 * are normalised one by one (V-JEPA 2.1).
 */
export function plainNorm(x: Tensor, levels = 1): Tensor {
  const each = (x.shape[2] as number) / levels;
  const parts = levels === 1 ? [x] : split(x, 2, Array<number>(levels).fill(each));
  const normed = parts.map((part) => normaliseTargets(part, 'layer'));
  return levels === 1 ? normed[0] : concat(normed, 2);
}

/** `maskToken`: which mask token a mask's predictions start from; its own by default. */
export function vjepa(
  { clips, masks }: VjepaInputs,
  modules: VjepaModules,
  config: VjepaConfig,
  maskToken: (mask: number) => number = (mask) => mask,
): VjepaForward {
  const representation = scope('target_encoder', () => targetRepresentation(clips, modules.target, config.encoder));
  const pairs = masks.map(({ context, target }, i) => {
    const tokens = scope(`encoder ${i}`, () =>
      vitRepresentation(clips, modules.encoder.weights, config.encoder, { visible: context }),
    );
    const prediction = scope(`predictor ${i}`, () =>
      predictPair(tokens, context, target, modules.predictor.weights, config.predictor, { maskIndex: maskToken(i) }),
    );
    return { context: tokens, prediction, target: batchedGather(representation, target) };
  });
  return { representation, pairs, contexts: pairs.map(({ context }) => context) };
}

/** What predictions are compared with: the normalised representation of whole clips; no gradient flows into it. */
export const targetRepresentation = (clips: Tensor, target: Module, config: VitConfig): Tensor =>
  stopGradient(plainNorm(vitRepresentation(clips, target.weights, config), config.levels?.length));

export const average = (terms: readonly Tensor[]): Tensor =>
  mul(
    terms.reduce((a, b) => add(a, b)),
    1 / terms.length,
  );

/** Mean over masks of the mean of |prediction - target|^exponent / exponent (section 3.1; exponent 1 in all released models). */
export const vjepaLoss = (pairs: VjepaForward['pairs'], exponent = 1): Tensor =>
  scope('energy', () => average(pairs.map(({ prediction, target }) => meanPower(prediction, target, exponent))));

/**
 * Spread of predictions over the tokens of a clip: the deviation of each channel, averaged over masks, [batch, width]
 * (`train.py`, logged in all released runs).
 */
export const predictionStd = (predictions: readonly Tensor[]): Tensor =>
  average(predictions.map((z) => sqrt(add(variance(z, 1), 1e-4))));

/** Mean of relu(1 - std): a regulariser of weight 0 in all released runs. */
export const varianceRegularizer = (predictions: readonly Tensor[]): Tensor =>
  mean(relu(sub(1, predictionStd(predictions))));

/**
 * Prediction of the future beside that of hidden places: from the first part of a clip, each of the segments that follow, at
 * its distance. One pass of the encoder serves them all. Prediction and target [batch, segments, tokens, width] each.
 */
export function vjepaAhead(
  clips: Tensor,
  { context, targets }: MaskedInputs,
  representation: Tensor,
  modules: VjepaModules,
  config: VjepaConfig,
  maskIndex: number,
): { readonly prediction: Tensor; readonly target: Tensor; readonly context: Tensor } {
  const [batch, one, kept] = context.shape;
  const [, segments, hidden] = targets.shape;
  const seen = scope('encoder of the past', () =>
    vitRepresentation(clips, modules.encoder.weights, config.encoder, { visible: reshape(context, [batch, kept]) }),
  );
  const [, , width] = representation.shape;
  const shape = [batch, segments, hidden, width];
  const prediction = scope('predictor of the future', () =>
    predictor(reshape(seen, [batch, one, kept, width]), context, targets, modules.predictor.weights, config.predictor, {
      maskIndex,
    }),
  ); // [batch, segments, 1, hidden, width]
  const target = batchedGather(representation, reshape(targets, [batch, mulDims(segments, hidden)]));
  return { prediction: reshape(prediction, shape), target: reshape(target, shape), context: seen };
}

/**
 * How tokens [batch, visible, width] at `index` [batch, visible] of the flat grid change: less their mean over time at their place
 * in their clip, and less what is left on average of all clips at that place and time, [batch * visible, width]. What stays
 * and where a token lies is thus nothing to them; only what moves makes them vary.
 */
export function changes(tokens: Tensor, index: Tensor, [frames, rows, columns]: Grid3d): Tensor {
  const [batch, visible, width] = tokens.shape;
  const cells = rows * columns;
  const count = frames * cells;
  const cellOf = float32([count, cells], new Float32Array(count * cells));
  for (let token = 0; token < count; token++) cellOf.data[token * cells + (token % cells)] = 1;
  /** Each row less the mean of the rows of its group; `groups` has a 1 for it [.., rows, groups]. */
  const lessMeans = (x: Tensor, groups: Tensor): Tensor => {
    const sizes = maximum(expandDims(sum(groups, -2), -1), 1);
    return sub(x, matmul(groups, div(matmul(groups, x, { transposeA: true }), sizes)));
  };
  const places = oneHot(index, count);
  const moved = lessMeans(tokens, matmul(places, constant(cellOf)));
  const all = mulDims(batch, visible);
  return lessMeans(reshape(moved, [all, width]), reshape(places, [all, count]));
}

export interface VjepaTraining extends VjepaConfig {
  /** Those of the released models by default; none where only the future is predicted. */
  readonly masks?: readonly ClipMask[];
  /** Segments of what follows a part of the clip, in tubelets; they weigh as much as one kind of masks. */
  readonly future?: FutureConfig;
  readonly exponent: number;
  /** Beside the moving average, on the pooled context of each mask or on its `changes`; `none` in the paper. */
  readonly regularizer: Regularizer;
  /** Pooled contexts by default. */
  readonly regularized?: 'clips' | 'changes';
  /** Standard deviation of first weights, .02 by default. */
  readonly spread?: number;
}

/** How V-JEPA's successors differ for a trainer. */
export interface VjepaVariant {
  readonly name: string;
  /** See `vjepaModules`. */
  readonly rescale: boolean;
  /** Which mask token a kind of masks starts from; the future comes after the masks. */
  maskToken(mask: number): number;
}

const VJEPA: VjepaVariant = { name: 'vjepa', rescale: false, maskToken: (mask) => mask };

/** Mask tokens that a configuration needs: one for each kind of masks, and one for the future. */
export const maskKinds = ({
  masks = RELEASED_MULTIBLOCK_3D,
  future,
}: Pick<VjepaTraining, 'masks' | 'future'>): number => masks.length + (future ? 1 : 0);

/** V-JEPA as a trainer runs it. */
export function vjepaMethod(config: VjepaTraining, { name, rescale, maskToken }: VjepaVariant = VJEPA): Method {
  const { masks: entries = RELEASED_MULTIBLOCK_3D, future, exponent, regularizer, regularized, encoder } = config;
  const modules = vjepaModules(config, rescale, config.spread);
  const grid = tokenGrid(encoder) as Grid3d;
  checkClipMasks(grid, entries);
  if (maskKinds(config) === 0) throw new JepaError(`${name}: there is nothing to predict; give masks or future`);
  const inputs = vjepaInputs(config, entries.length);
  const { pairs, contexts, representation } = vjepa(inputs, modules, config, maskToken);
  const past = maskInputs(1);
  const ahead = future && vjepaAhead(inputs.clips, past, representation, modules, config, maskToken(entries.length));
  if (future) futureRoom(future, timesOf(encoder));
  const all = ahead ? [...pairs, ahead] : pairs;
  const energy = vjepaLoss(all, exponent);
  const seen = contexts.map((tokens, i) => ({ tokens, index: inputs.masks[i].context }));
  if (ahead) seen.push({ tokens: ahead.context, index: reshape(past.context, ahead.context.shape.slice(0, 2)) });
  const regular = regularize(
    seen.map(({ tokens, index }) => (regularized === 'changes' ? changes(tokens, index, grid) : mean(tokens, 1))),
    regularizer,
  );
  return {
    name,
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: regular.loss ? add(energy, regular.loss) : energy,
    scalars: {
      prediction: energy,
      ...(ahead && { ahead: scope('ahead', () => meanPower(ahead.prediction, ahead.target, exponent)) }),
      ...regular.scalars,
    },
    pair: all[0],
    views: [1],
    feeds: ({ views: [{ clips }] }, random) => {
      const [batch] = clips.shape;
      const { context, target } = future
        ? sampleFuture(future, timesOf(encoder), batch, random.split('future'))
        : { context: undefined, target: undefined };
      return {
        clips: { ...clips, shape: clips.shape.toSpliced(1, 1) },
        ...vjepaMasks(grid, entries, batch, random),
        ...(context && { context, targets: target }),
        ...regular.feeds(random),
      };
    },
    encoder: vitBackbone(modules.target, encoder),
    predictor: { module: modules.predictor, config: config.predictor },
    masks: entries.length > 0 ? firstMasks : maskedSamples,
    forecast: (wanted = future ?? plainFuture(encoder)) =>
      forecast(
        {
          ...modules,
          config,
          options: IJEPA_OPTIONS,
          distance: 'l1',
          maskIndex: maskToken(future ? entries.length : 0),
        },
        wanted,
      ),
  };
}

/** What the first kind of masks hides. */
export const firstMasks = (feeds: Feeds): MaskedSample[] =>
  maskedSamples({ context: oneSet(feeds['context.0']), targets: oneSet(feeds['target.0']) });

/** [batch, tokens] -> [batch, 1, tokens] */
const oneSet = <T extends { readonly shape: readonly number[] }>(indices: T): T => ({
  ...indices,
  shape: [indices.shape[0], 1, indices.shape[1]],
});
