import { DOCUMENTS, IDS } from '../data/text/preparation.js';
import { type Distance, tokenEnergy } from '../energy/distance.js';
import { add, div, gelu, mul } from '../graph/ops/elementwise.js';
import { batchedGather } from '../graph/ops/index.js';
import { expandDims } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { sum } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { type SpanMasks, sampleSpans } from '../masking/spans.js';
import {
  type TextConfig,
  type TextPredictorConfig,
  textMean,
  textPredictor,
  textPredictorSpec,
  textSpec,
  textTokens,
} from '../nn/text.js';
import { INIT_STD, joinLeading, linearSpec, withSpread } from '../nn/transformer.js';
import { type Module, type ModuleSpec, makeModule } from '../nn/weights.js';
import { lastLayers } from './backbone.js';
import {
  type MaskedForward,
  type MaskedInputs,
  type MaskedOptions,
  type MaskedParts,
  masked,
  maskInputs,
  predictInPlace,
} from './masked.js';
import { type Encoder, type Method, maskedSamples, type Regularizer } from './method.js';
import { regularize } from './regularize.js';

/**
 * Masked spans of text (the recipe of data2vec's text model, Baevski et al. 2022, and of text JEPAs after it): from a text
 * with spans left out, predict what the target encoder makes of these in the whole text.
 */
export interface TextJepaConfig {
  /** Bidirectional. */
  readonly encoder: TextConfig;
  /** Tokens of a row. */
  readonly tokens: number;
  /** Layers over visible tokens and mask tokens, where hidden tokens are dropped; a head of two layers where they are replaced. */
  readonly predictor: TextPredictorConfig | { readonly hidden: number };
  readonly options: MaskedOptions;
  readonly distance: Distance;
  /** Standard deviation of first weights, .02 by default. */
  readonly spread?: number;
}

export interface TextJepaTraining extends TextJepaConfig {
  readonly masks: SpanMasks;
  /** On the pooled context: keeps targets from telling nothing but positions. */
  readonly regularizer: Regularizer;
}

/** Hidden spans are dropped; targets are the mean of the last layers, each normalised (`layers`: all but a few). */
export const textJepaOptions = (layers: number): MaskedOptions => ({
  hiding: 'drop',
  sight: 'everything',
  layers,
  normalisation: 'none',
});

/** 35 % of the tokens in spans of 4, compared by smooth L1 that is quadratic up to 4 (data2vec). */
export const TEXT_MASKS: SpanMasks = { length: 4, ratio: 0.35 };
export const TEXT_DISTANCE: Distance = { kind: 'smooth-l1', beta: 4 };

/** A predictor of an encoder's shape but for its size. */
export const textJepaPredictor = (encoder: TextConfig, width: number, depth: number): TextPredictorConfig => ({
  width,
  depth,
  heads: encoder.heads,
  keyHeads: encoder.heads,
  mlpWidth: 8 * Math.ceil(width / 3),
  maxTokens: encoder.maxTokens,
  causal: false,
  eps: encoder.eps,
  theta: encoder.theta,
  encoderWidth: encoder.width,
});

export interface TextJepaModules {
  readonly encoder: Module;
  readonly predictor: Module;
  /** Moving average of the encoder; no gradient reaches it. */
  readonly target: Module;
}

export function textJepaModules({ encoder, predictor, options, spread = INIT_STD }: TextJepaConfig): TextJepaModules {
  const maskToken = options.hiding === 'replace';
  const make = (prefix: string, spec: ModuleSpec): Module => makeModule(prefix, withSpread(spec, spread));
  const head = (hidden: number): ModuleSpec =>
    new Map([...linearSpec('head.0', hidden, encoder.width), ...linearSpec('head.2', encoder.width, hidden)]);
  return {
    encoder: make('encoder.', textSpec(encoder, { maskToken })),
    predictor: make('predictor.', 'hidden' in predictor ? head(predictor.hidden) : textPredictorSpec(predictor)),
    target: make('target_encoder.', textSpec(encoder, { maskToken })),
  };
}

export interface TextJepaInputs extends MaskedInputs {
  /** Token numbers and documents [batch, tokens], int32 (`TextForward`). */
  readonly ids: Tensor;
  readonly documents: Tensor;
  /** [batch, 1, hidden]: 1 for targets that count, 0 for padding. */
  readonly counted: Tensor;
}

export const textJepaInputs = ({ tokens }: Pick<TextJepaConfig, 'tokens'>): TextJepaInputs => ({
  ids: input(IDS, ['batch', tokens], 'int32'),
  documents: input(DOCUMENTS, ['batch', tokens], 'int32'),
  counted: input('counted', ['batch', 1, 'hidden']),
  ...maskInputs(1, 1),
});

export function textJepa(inputs: TextJepaInputs, modules: TextJepaModules, config: TextJepaConfig): MaskedForward {
  const w = modules.predictor.weights;
  const { predictor } = config;
  const layer = (x: Tensor, name: string): Tensor => linear(x, w(`${name}.weight`), w(`${name}.bias`));
  const predict: MaskedParts['predict'] = (context, visible, targets) =>
    'hidden' in predictor
      ? predictInPlace(context, targets, (x) => layer(gelu(layer(x, 'head.0')), 'head.2'))
      : textPredictor(context, visible as Tensor, targets, inputs.documents, w, predictor);
  return masked(
    {
      tokens: textTokens(inputs.ids, inputs.documents, config.encoder),
      encoder: modules.encoder.weights,
      target: modules.target.weights,
      predict,
    },
    inputs,
    config.options,
  );
}

/** Mean energy of the targets that count. */
export function countedEnergy({ prediction, target }: MaskedForward, counted: Tensor, distance: Distance): Tensor {
  const energies = tokenEnergy(prediction, target, distance); // [batch, 1, 1, hidden]
  return div(sum(mul(energies, expandDims(counted, 2))), sum(counted));
}

/** A text encoder as evaluation sees it. */
export interface TextEncoder extends Omit<Encoder, 'architecture'> {
  readonly architecture: { readonly kind: 'text'; readonly tokens: number } & TextConfig;
}

/** Probes see the mean of the tokens that are text. */
export function textBackbone(module: Module, config: TextConfig, tokens: number): TextEncoder {
  const encode = (ids: Tensor, documents: Tensor): Tensor => textTokens(ids, documents, config).encode(module.weights);
  return {
    module,
    architecture: { ...config, kind: 'text', tokens },
    inputs: [IDS, DOCUMENTS].map((name) => ({ name, dtype: 'int32' as const, shape: [tokens] })),
    grid: [tokens],
    features: config.width,
    width: config.width,
    represent: (inputs) => textMean(encode(inputs[IDS], inputs[DOCUMENTS]), inputs[DOCUMENTS]),
    tokens: (inputs) => encode(inputs[IDS], inputs[DOCUMENTS]),
    wide: lastLayers(
      (inputs) => textTokens(inputs[IDS], inputs[DOCUMENTS], config),
      module.weights,
      config.depth,
      (states, inputs) => textMean(states, inputs[DOCUMENTS]),
    ),
  };
}

/** Masked-span JEPA as a trainer runs it. */
export interface TextJepaMethod extends Omit<Method, 'encoder'> {
  readonly encoder: TextEncoder;
}

export function textJepaMethod(config: TextJepaTraining): TextJepaMethod {
  const modules = textJepaModules(config);
  const inputs = textJepaInputs(config);
  const forward = textJepa(inputs, modules, config);
  const { context, prediction, target } = forward;
  const energy = scope('energy', () => countedEnergy(forward, inputs.counted, config.distance));
  const seen =
    config.options.hiding === 'drop' ? batchedGather(inputs.documents, joinLeading(inputs.context)) : inputs.documents;
  const regular = regularize([textMean(context, seen)], config.regularizer);
  return {
    name: 'text-jepa',
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: regular.loss ? add(energy, regular.loss) : energy,
    scalars: { prediction: energy, ...regular.scalars },
    pair: { prediction, target },
    views: [1],
    feeds: ({ views: [fields] }, random) => {
      const rows = (name: string) => {
        const { shape, data } = fields[name];
        return { dtype: 'int32' as const, shape: shape.toSpliced(1, 1), data: data as Int32Array };
      };
      const documents = rows(DOCUMENTS);
      return {
        [IDS]: rows(IDS),
        [DOCUMENTS]: documents,
        ...sampleSpans(config.masks, documents, random.split('masks')),
        ...regular.feeds(random),
      };
    },
    encoder: textBackbone(modules.target, config.encoder, config.tokens),
    masks: maskedSamples,
  };
}
