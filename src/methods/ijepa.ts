import { batchedGather } from '../graph/ops/index.js';
import { broadcastTo, expandDims, reshape } from '../graph/ops/move.js';
import { layerNorm } from '../graph/ops/normalise.js';
import { mulDims } from '../graph/dims.js';
import { input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import { predictor, type PredictorConfig, predictorSpec } from '../nn/predictor.js';
import { gridOf, vit, type VitConfig, type VitForward, vitSpec } from '../nn/vit.js';
import { makeModule, type Module, type Weights } from '../nn/weights.js';

/**
 * I-JEPA: Assran et al., Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (CVPR 2023).
 * From the visible patches of an image, predict the representation of hidden blocks of patches.
 */
export interface IjepaConfig {
  readonly encoder: VitConfig;
  readonly predictor: PredictorConfig;
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

export function ijepa(inputs: IjepaInputs, modules: IjepaModules, config: IjepaConfig): IjepaForward {
  const { images, context: visible, targets } = inputs;
  const context = scope('encoder', () => contextEncoder(images, visible, modules.encoder.weights, config.encoder));
  const [batch, contexts, kept] = visible.shape;
  const tokens = reshape(context, [batch, contexts, kept, config.encoder.width]);
  const prediction = scope('predictor', () => predictor(tokens, visible, targets, modules.predictor.weights, config.predictor));
  const target = scope('target_encoder', () => targetsOf(images, targets, contexts as number, modules.target.weights, config.encoder));
  return { context, prediction, target };
}

/** Encodes the visible patches of each context: [batch * contexts, visible, width]. */
export function contextEncoder(images: Tensor, visible: Tensor, w: Weights, config: VitConfig, onState?: VitForward['onState']): Tensor {
  const [batch, contexts, kept] = visible.shape;
  if (contexts === 1) return vit(images, w, config, { visible: reshape(visible, [batch, kept]), onState });
  const [, channels, height, width] = images.shape;
  const rows = mulDims(batch, contexts);
  const repeated = broadcastTo(expandDims(images, 1), [batch, contexts, channels, height, width]);
  return vit(reshape(repeated, [rows, channels, height, width]), w, config, { visible: reshape(visible, [rows, kept]), onState });
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
