import type { Random } from '../base/random.js';
import { type Distance, meanEnergy } from '../energy/distance.js';
import { add } from '../graph/ops/elementwise.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import {
  checkMultiBlock2d,
  type Masks2d,
  type MultiBlock2dConfig,
  sampleMultiBlock2d,
} from '../masking/multiblock2d.js';
import { dropPath } from '../nn/drop-path.js';
import { type PredictorConfig, predictor, predictorSpec } from '../nn/predictor.js';
import { vitTokens } from '../nn/tokens.js';
import type { DropPath } from '../nn/transformer.js';
import { gridOf, type VitConfig, vitSpec } from '../nn/vit.js';
import { type Module, makeModule } from '../nn/weights.js';
import { vitBackbone } from './backbone.js';
import { forecast, plainFuture } from './forecast.js';
import {
  IJEPA_OPTIONS,
  type MaskedForward,
  type MaskedInputs,
  type MaskedOptions,
  type MaskedParts,
  masked,
  maskInputs,
} from './masked.js';
import { type Method, maskedSamples, type Regularizer } from './method.js';
import { regularize } from './regularize.js';

/**
 * I-JEPA: Assran et al., Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (CVPR 2023).
 * From the visible patches of an image, predict the representation of hidden blocks of patches.
 */
export interface IjepaConfig {
  readonly encoder: VitConfig;
  readonly predictor: PredictorConfig;
}

export interface IjepaTraining extends IjepaConfig {
  readonly masks: Omit<MultiBlock2dConfig, 'grid'>;
  readonly distance: Distance;
  /** Beside the moving average, on the pooled tokens of each context (C-JEPA, Mo and Tong 2024); `none` in the paper. */
  readonly regularizer: Regularizer;
  /** Largest rate at which residual branches are dropped, rising from 0 over the blocks of the context encoder; 0 in the paper. */
  readonly dropPath: number;
  /** See `ijepaModules`. */
  readonly rescale: boolean;
}

/** The published shape of the predictor for an encoder: heads as the encoder's, an MLP four times as wide. */
export const ijepaPredictor = (encoder: VitConfig, width = 384, depth = 6): PredictorConfig => ({
  width,
  depth,
  heads: encoder.heads,
  mlpWidth: 4 * width,
  qkvBias: true,
  eps: 1e-6,
  encoderWidth: encoder.width,
  grid: gridOf(encoder),
});

export interface IjepaModules {
  readonly encoder: Module;
  readonly predictor: Module;
  /** Moving average of the encoder; no gradient reaches it. */
  readonly target: Module;
}

/** `rescale`: divide output projections by sqrt(2 i) at the start, which the released training undoes (off by default). */
export const ijepaModules = ({ encoder, predictor: predicting }: IjepaConfig, rescale = false): IjepaModules => ({
  encoder: makeModule('encoder.', vitSpec(encoder, rescale)),
  predictor: makeModule('predictor.', predictorSpec(predicting, rescale)),
  target: makeModule('target_encoder.', vitSpec(encoder, rescale)),
});

export interface IjepaInputs extends MaskedInputs {
  /** [batch, channels, height, width] */
  readonly images: Tensor;
}

/** Graph inputs; the numbers of visible and hidden patches change from batch to batch. */
export const ijepaInputs = ({ encoder }: IjepaConfig, contexts: number, blocks?: number): IjepaInputs => ({
  images: input('images', ['batch', encoder.channels, ...encoder.imageSize]),
  ...maskInputs(contexts, blocks),
});

/** By default hidden patches are dropped, targets come from the whole image and are layer-normed. */
export function ijepa(
  inputs: IjepaInputs,
  modules: IjepaModules,
  config: IjepaConfig,
  drop?: DropPath,
  options: MaskedOptions = IJEPA_OPTIONS,
): MaskedForward {
  const parts: MaskedParts = {
    tokens: vitTokens(inputs.images, config.encoder),
    encoder: modules.encoder.weights,
    target: modules.target.weights,
    predict: (context, visible, targets) =>
      predictor(context, visible as Tensor, targets, modules.predictor.weights, config.predictor),
    drop,
  };
  return masked(parts, inputs, options);
}

/** I-JEPA as a trainer runs it. */
export function ijepaMethod(config: IjepaTraining): Method {
  const masks: MultiBlock2dConfig = { ...config.masks, grid: gridOf(config.encoder) };
  checkMultiBlock2d(masks);
  const sample: PatchMasks['sample'] = (batch, draws) =>
    sampleMultiBlock2d(masks, batch, { sizes: draws.split('sizes'), places: draws.split('places') });
  return patchMethod({ ...config, name: 'ijepa', options: IJEPA_OPTIONS }, { ...masks, blocks: masks.targets, sample });
}

/** How the masks of a method over patches are drawn. */
export interface PatchMasks {
  readonly contexts: number;
  /** Blocks of targets; undefined where their number changes from batch to batch. */
  readonly blocks: number | undefined;
  sample(batch: number, draws: Random, progress: number): Masks2d;
}

export interface PatchMethodConfig extends Omit<IjepaTraining, 'masks'> {
  readonly name: string;
  readonly options: MaskedOptions;
  /** The first axis of the patches is time: what comes can be predicted. */
  readonly inTime?: boolean;
}

/** I-JEPA's procedure with other masks, targets and distances: what methods over patches are, whatever the patches show. */
export function patchMethod(config: PatchMethodConfig, masks: PatchMasks): Method {
  const modules = ijepaModules(config, config.rescale);
  const inputs = ijepaInputs(config, masks.contexts, masks.blocks);
  const drop = dropPath(config.dropPath, config.encoder.depth, masks.contexts);
  const forward = ijepa(inputs, modules, config, drop?.factors, config.options);
  const { context, prediction, target, memory } = forward;
  const energy = scope('energy', () => meanEnergy(prediction, target, config.distance));
  const regular = regularize([mean(context, 1)], config.regularizer, () =>
    mean(vitTokens(inputs.images, config.encoder).encode(modules.target.weights, {}), 1),
  );
  return {
    name: config.name,
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: regular.loss ? add(energy, regular.loss) : energy,
    scalars: { prediction: energy, ...regular.scalars },
    pair: { prediction, target },
    memory,
    views: [1],
    feeds: ({ views: [{ images }] }, random, progress = 1) => {
      const [batch, , ...image] = images.shape;
      const { context: visible, target: hidden } = masks.sample(batch, random.split('masks'), progress);
      return {
        images: { ...images, shape: [batch, ...image] },
        context: visible,
        targets: hidden,
        ...regular.feeds(random),
        ...drop?.feeds(batch, random),
      };
    },
    encoder: vitBackbone(modules.target, config.encoder),
    predictor: { module: modules.predictor, config: config.predictor },
    masks: maskedSamples,
    ...(config.inTime && {
      forecast: (future = plainFuture(config.encoder)) =>
        forecast({ ...modules, config, options: config.options, distance: config.distance }, future),
    }),
  };
}
