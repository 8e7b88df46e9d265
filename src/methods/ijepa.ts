import { type Distance, meanEnergy } from '../energy/distance.js';
import { mulDims } from '../graph/dims.js';
import { add } from '../graph/ops/elementwise.js';
import { batchedGather } from '../graph/ops/index.js';
import { broadcastTo, expandDims, reshape } from '../graph/ops/move.js';
import { layerNorm } from '../graph/ops/normalise.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import { checkMultiBlock2d, type MultiBlock2dConfig, sampleMultiBlock2d } from '../masking/multiblock2d.js';
import { dropPath } from '../nn/drop-path.js';
import { type PredictorConfig, predictor, predictorSpec } from '../nn/predictor.js';
import type { DropPath } from '../nn/transformer.js';
import { gridOf, type VitConfig, type VitForward, vit, vitSpec } from '../nn/vit.js';
import { type Module, makeModule, type Weights } from '../nn/weights.js';
import { vitBackbone } from './backbone.js';
import type { Method, Regularizer } from './method.js';
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

export interface IjepaInputs {
  /** [batch, channels, height, width] */
  readonly images: Tensor;
  /** Patches that the context encoder sees [batch, contexts, visible], int32. */
  readonly context: Tensor;
  /** Patches to predict [batch, blocks, hidden], int32. */
  readonly targets: Tensor;
}

/** Graph inputs; the numbers of visible and hidden patches change from batch to batch. */
export const ijepaInputs = ({ encoder }: IjepaConfig, contexts: number, blocks: number): IjepaInputs => ({
  images: input('images', ['batch', encoder.channels, ...encoder.imageSize]),
  context: input('context', ['batch', contexts, 'visible'], 'int32'),
  targets: input('targets', ['batch', blocks, 'hidden'], 'int32'),
});

export interface IjepaForward {
  /** Context encoder's tokens [batch * contexts, visible, width]. */
  readonly context: Tensor;
  /** [batch, blocks, contexts, hidden, width] */
  readonly prediction: Tensor;
  /** Same shape; no gradient flows into it. */
  readonly target: Tensor;
}

export function ijepa(inputs: IjepaInputs, modules: IjepaModules, config: IjepaConfig, drop?: DropPath): IjepaForward {
  const { images, context: visible, targets } = inputs;
  const context = scope('encoder', () =>
    contextEncoder(images, visible, modules.encoder.weights, config.encoder, { drop }),
  );
  const [batch, contexts, kept] = visible.shape;
  const tokens = reshape(context, [batch, contexts, kept, config.encoder.width]);
  const prediction = scope('predictor', () =>
    predictor(tokens, visible, targets, modules.predictor.weights, config.predictor),
  );
  const target = scope('target_encoder', () =>
    targetsOf(images, targets, contexts as number, modules.target.weights, config.encoder),
  );
  return { context, prediction, target };
}

/** Encodes the visible patches of each context: [batch * contexts, visible, width]. */
export function contextEncoder(
  images: Tensor,
  visible: Tensor,
  w: Weights,
  config: VitConfig,
  options: Pick<VitForward, 'onState' | 'drop'> = {},
): Tensor {
  const [batch, contexts, kept] = visible.shape;
  if (contexts === 1) return vit(images, w, config, { visible: reshape(visible, [batch, kept]), ...options });
  const [, channels, height, width] = images.shape;
  const rows = mulDims(batch, contexts);
  const repeated = broadcastTo(expandDims(images, 1), [batch, contexts, channels, height, width]);
  return vit(reshape(repeated, [rows, channels, height, width]), w, config, {
    visible: reshape(visible, [rows, kept]),
    ...options,
  });
}

/** Normalised representations of the hidden patches, computed from the whole image: [batch, blocks, contexts, hidden, width]. */
function targetsOf(images: Tensor, targets: Tensor, contexts: number, w: Weights, config: VitConfig): Tensor {
  const [batch, blocks, hidden] = targets.shape;
  const index = reshape(targets, [batch, mulDims(blocks, hidden)]);
  const tokens = vit(images, w, config, { select: (all) => batchedGather(all, index) });
  // A plain layer norm on top of the encoder's own (I-JEPA, `train.py`); its epsilon is the library's default.
  const normalised = stopGradient(layerNorm(tokens, { eps: 1e-5 }));
  const apart = reshape(normalised, [batch, blocks, hidden, config.width]);
  return broadcastTo(expandDims(apart, 2), [batch, blocks, contexts, hidden, config.width]);
}

/** I-JEPA as a trainer runs it. */
export function ijepaMethod(config: IjepaTraining): Method {
  const modules = ijepaModules(config, config.rescale);
  const grid = gridOf(config.encoder);
  const masks: MultiBlock2dConfig = { ...config.masks, grid };
  checkMultiBlock2d(masks);
  const inputs = ijepaInputs(config, masks.contexts, masks.targets);
  const drop = dropPath(config.dropPath, config.encoder.depth, masks.contexts);
  const { context, prediction, target } = ijepa(inputs, modules, config, drop?.factors);
  const energy = scope('energy', () => meanEnergy(prediction, target, config.distance));
  const regular = regularize([mean(context, 1)], config.regularizer);
  return {
    name: 'ijepa',
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: regular.loss ? add(energy, regular.loss) : energy,
    scalars: { prediction: energy, ...regular.scalars },
    pair: { prediction, target },
    views: [1],
    feeds: ({ images: [views] }, random) => {
      const [batch, , ...image] = views.shape;
      const draws = random.split('masks');
      const { context: visible, target: hidden } = sampleMultiBlock2d(masks, batch, {
        sizes: draws.split('sizes'),
        places: draws.split('places'),
      });
      return {
        images: { ...views, shape: [batch, ...image] },
        context: visible,
        targets: hidden,
        ...regular.feeds(random),
        ...drop?.feeds(batch, random),
      };
    },
    encoder: vitBackbone(modules.target, config.encoder),
  };
}
