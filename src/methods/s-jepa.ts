import { SKELETONS, VIEWS } from '../data/skeleton/preparation.js';
import { type Distance, meanEnergy } from '../energy/distance.js';
import { add, log, maximum, mul, neg } from '../graph/ops/elementwise.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { type SkeletonHiding, sampleSkeletonMasks } from '../masking/skeleton.js';
import { type PredictorConfig, predictor, predictorSpec } from '../nn/predictor.js';
import { type SkeletonConfig, skeletonGrid, skeletonSpec, skeletonTokens } from '../nn/skeleton.js';
import { INIT_STD, normalInit, withSpread } from '../nn/transformer.js';
import { type Module, type ModuleSpec, makeModule } from '../nn/weights.js';
import { lastLayers } from './backbone.js';
import { type MaskedForward, type MaskedInputs, type MaskedOptions, masked, maskInputs } from './masked.js';
import { type Encoder, type Method, maskedSamples, type Regularizer } from './method.js';
import { regularize } from './regularize.js';

/**
 * S-JEPA: Abdelfattah and Alahi, S-JEPA: A Joint Embedding Predictive Architecture for Skeletal Action Recognition (ECCV
 * 2024). From a few joints of a turned and mirrored skeleton, predict what the target encoder makes of the hidden joints of the
 * skeleton itself. Targets are distributions: centred, sharpened, compared by cross-entropy.
 */
export interface SjepaConfig {
  readonly encoder: SkeletonConfig;
  readonly predictor: PredictorConfig;
  /** Whether the context encoder sees a changed view (`SkeletonInput.view`), or the skeleton as it is. */
  readonly views: boolean;
  readonly options: MaskedOptions;
  readonly distance: Distance;
  /** Standard deviation of first weights, .02 by default. */
  readonly spread?: number;
}

export interface SjepaTraining extends SjepaConfig {
  readonly masks: SkeletonHiding;
  /** Beside the moving average, on the pooled context; `none` in the paper. */
  readonly regularizer: Regularizer;
}

/** Temperatures .06 of targets and .1 of predictions, a centre with momentum .9 (public implementation; the paper gives none). */
export const SJEPA_OPTIONS: MaskedOptions = {
  hiding: 'drop',
  sight: 'everything',
  normalisation: { kind: 'softmax', temperature: 0.06, momentum: 0.9 },
};
export const SJEPA_DISTANCE: Distance = { kind: 'cross-entropy', temperature: 0.1 };

/** Features as they are in I-JEPA instead of distributions: layer-normed, compared by smooth L1. */
export const SJEPA_FEATURES: Pick<SjepaConfig, 'options' | 'distance'> = {
  options: { ...SJEPA_OPTIONS, normalisation: 'layer' },
  distance: 'smooth-l1',
};

/** A predictor for an encoder: five layers of its width in the paper. */
export const sjepaPredictor = (
  encoder: SkeletonConfig,
  { width = encoder.width, depth = 5, heads = encoder.heads, mlpWidth = 4 * width }: SjepaPredictorSize = {},
): PredictorConfig => ({
  width,
  depth,
  heads,
  mlpWidth,
  qkvBias: true,
  eps: encoder.eps,
  encoderWidth: encoder.width,
  grid: skeletonGrid(encoder),
  maskTokens: 1,
});

interface SjepaPredictorSize {
  readonly width?: number;
  readonly depth?: number;
  readonly heads?: number;
  readonly mlpWidth?: number;
}

export interface SjepaModules {
  readonly encoder: Module;
  readonly predictor: Module;
  /** Moving average of the encoder; no gradient reaches it. */
  readonly target: Module;
}

export const sjepaModules = ({
  encoder,
  predictor: predicting,
  spread = INIT_STD,
}: Pick<SjepaConfig, 'encoder' | 'predictor' | 'spread'>): SjepaModules => ({
  encoder: makeModule('encoder.', withSpread(skeletonSpec(encoder), spread)),
  predictor: makeModule('predictor.', withSpread(sjepaPredictorSpec(predicting), spread)),
  target: makeModule('target_encoder.', withSpread(skeletonSpec(encoder), spread)),
});

/** Unlike that of images, the predictor learns its positions. */
const sjepaPredictorSpec = (config: PredictorConfig): ModuleSpec =>
  new Map([
    ...predictorSpec(config),
    ['predictor_pos_embed', normalInit([1, config.grid.reduce((a, b) => a * b, 1), config.width])],
  ]);

export interface SjepaInputs extends MaskedInputs {
  /** What the target encoder sees, [batch, frames, joints, 3]. */
  readonly skeletons: Tensor;
  /** What the context encoder sees; the skeletons where it sees no changed view. */
  readonly views: Tensor;
}

export function sjepaInputs({ encoder, views }: Pick<SjepaConfig, 'encoder' | 'views'>): SjepaInputs {
  const shape = ['batch', encoder.frames, encoder.joints, encoder.coordinates];
  const skeletons = input(SKELETONS, shape);
  return { skeletons, views: views ? input(VIEWS, shape) : skeletons, ...maskInputs(1, 1) };
}

export function sjepa(inputs: SjepaInputs, modules: SjepaModules, config: SjepaConfig): MaskedForward {
  return masked(
    {
      tokens: skeletonTokens(inputs.views, config.encoder),
      targetTokens: skeletonTokens(inputs.skeletons, config.encoder),
      encoder: modules.encoder.weights,
      target: modules.target.weights,
      predict: (context, visible, targets) =>
        predictor(context, visible as Tensor, targets, modules.predictor.weights, config.predictor),
    },
    inputs,
    config.options,
  );
}

/** Mean entropy of distributions along the last axis: the floor of the cross-entropy. 0 for one-hot ones, log(width) for flat ones. */
export const meanEntropy = (distributions: Tensor): Tensor =>
  mean(neg(sum(mul(distributions, log(maximum(distributions, 1e-30))), -1)));

/** A skeleton encoder as evaluation sees it. */
export interface SkeletonEncoder extends Omit<Encoder, 'architecture'> {
  readonly architecture: { readonly kind: 'skeleton' } & SkeletonConfig;
}

/** Probes see the mean of the tokens. */
export function skeletonBackbone(module: Module, config: SkeletonConfig): SkeletonEncoder {
  const tokens = (skeletons: Tensor): Tensor => skeletonTokens(skeletons, config).encode(module.weights);
  return {
    module,
    architecture: { ...config, kind: 'skeleton' },
    inputs: [{ name: SKELETONS, dtype: 'float32', shape: [config.frames, config.joints, config.coordinates] }],
    grid: skeletonGrid(config),
    features: config.width,
    width: config.width,
    represent: (inputs) => mean(tokens(inputs[SKELETONS]), 1),
    tokens: (inputs) => tokens(inputs[SKELETONS]),
    wide: lastLayers(
      (inputs) => skeletonTokens(inputs[SKELETONS], config),
      module.weights,
      config.depth,
      (states) => mean(states, 1),
    ),
  };
}

/** S-JEPA as a trainer runs it. */
export interface SjepaMethod extends Omit<Method, 'encoder'> {
  readonly encoder: SkeletonEncoder;
}

export function sjepaMethod(config: SjepaTraining): SjepaMethod {
  const modules = sjepaModules(config);
  const inputs = sjepaInputs(config);
  const { context, prediction, target, memory } = sjepa(inputs, modules, config);
  const energy = scope('energy', () => meanEnergy(prediction, target, config.distance));
  const distributions = typeof config.options.normalisation === 'object';
  const masks = { ...config.masks, segment: config.encoder.segment };
  const regular = regularize([mean(context, 1)], config.regularizer, () =>
    mean(skeletonTokens(inputs.skeletons, config.encoder).encode(modules.target.weights), 1),
  );
  return {
    name: 's-jepa',
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: regular.loss ? add(energy, regular.loss) : energy,
    // The energy never falls below the entropy; flat and one-hot targets are both collapse.
    scalars: {
      prediction: energy,
      ...(distributions && { entropy: scope('entropy', () => meanEntropy(target)) }),
      ...regular.scalars,
    },
    pair: { prediction, target },
    memory,
    views: [1],
    feeds: ({ views: [fields] }, random) => {
      const one = (name: string) => {
        const { shape, data } = fields[name];
        return { dtype: 'float32' as const, shape: shape.toSpliced(1, 1), data: data as Float32Array };
      };
      const skeletons = one(SKELETONS);
      return {
        [SKELETONS]: skeletons,
        ...(config.views ? { [VIEWS]: one(VIEWS) } : {}),
        ...sampleSkeletonMasks(masks, skeletons, random.split('masks')),
        ...regular.feeds(random),
      };
    },
    encoder: skeletonBackbone(modules.target, config.encoder),
    masks: maskedSamples,
  };
}
