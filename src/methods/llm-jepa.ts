import type { Random } from '../base/random.js';
import { float32 } from '../base/tensor.js';
import {
  type DialogueTemplate,
  type DialogueTokens,
  dialogueRows,
  dialogueTokens,
  NO_LABEL,
  type ViewForm,
} from '../data/text/dialogue.js';
import { bareTokens, CODE, DOCUMENTS, IDS, TEXT } from '../data/text/preparation.js';
import { infoNce } from '../energy/infonce.js';
import { mulDims, subDims } from '../graph/dims.js';
import { add, cast, greater, mul, sub } from '../graph/ops/elementwise.js';
import { batchedGather, gatherComputed } from '../graph/ops/index.js';
import { cosineSimilarity, crossEntropy, mseLoss } from '../graph/ops/losses.js';
import { narrow, reshape } from '../graph/ops/move.js';
import { mean, norm, sum } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { type TextConfig, textLogits, textSpec, textTransformer } from '../nn/text.js';
import { type Module, makeModule, type Weights } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import type { Encoder, Inputs, Method } from './method.js';

/**
 * LLM-JEPA (Huang, LeCun, Balestriero 2025): a language model learns to continue text with code as usual, and to predict
 * the code's state from the text's. The predictor is the model itself, run on for a few extra tokens; no moving
 * average and no stopped gradient: the next-token loss keeps states from collapsing.
 */
export interface LlmJepaConfig {
  readonly model: TextConfig;
  readonly distance: ViewDistance;
  /** Weights of the next-token loss and of the distance of the views. */
  readonly gamma: number;
  readonly lambda: number;
  /** Share of the batches without views, which cost half as much; the others weigh 1 / (1 - dropout) as much (0: none). */
  readonly dropout: number;
  /** Both views in one row (cheaper), or a row each. The states are the same. */
  readonly form: Exclude<ViewForm, 'none'>;
}

/** cosine: 1 - mean cosine; l2: mean length of the difference; mse: mean square; infonce: text against all codes. */
export type ViewDistance = 'cosine' | 'l2' | 'mse' | 'infonce';

const TEMPERATURE = 0.07;

export const llmJepaModules = ({ model }: Pick<LlmJepaConfig, 'model'>): { readonly model: Module } => ({
  model: makeModule('', textSpec(model, { head: true })),
});

/** See `DialogueRows`; rows are 3 (separate), 2 (packed) or 1 (a batch without views). */
export interface LlmJepaInputs {
  readonly ids: Tensor;
  readonly documents: Tensor;
  readonly labels: Tensor;
  readonly last: Tensor;
  /** Weight of the distance in this step, [1]. */
  readonly weight: Tensor;
}

export const llmJepaInputs = (): LlmJepaInputs => ({
  ids: input('ids', ['batch', 'rows', 'tokens'], 'int32'),
  documents: input('documents', ['batch', 'rows', 'tokens'], 'int32'),
  labels: input('labels', ['batch', 'tokens'], 'int32'),
  last: input('last', ['batch', 2], 'int32'),
  weight: input('weight', [1]),
});

export interface LlmJepaForward {
  readonly loss: Tensor;
  readonly nextToken: Tensor;
  /** Distance of the views, before its weight. */
  readonly distance: Tensor;
  /** States of text and code [batch, width]. */
  readonly text: Tensor;
  readonly code: Tensor;
  /** Hidden states of the dialogues [batch, tokens, width]. */
  readonly hidden: Tensor;
}

export function llmJepa(
  inputs: LlmJepaInputs,
  { model }: { readonly model: Module },
  config: LlmJepaConfig,
): LlmJepaForward {
  const { ids, documents, labels, last, weight } = inputs;
  const [batch, rows, tokens] = ids.shape;
  const { width } = config.model;
  const flat = [mulDims(batch, rows), tokens] as const;
  const states = scope('model', () =>
    textTransformer(reshape(ids, flat), model.weights, config.model, { documents: reshape(documents, flat) }),
  );
  const hidden = reshape(narrow(reshape(states, [batch, rows, tokens, width]), 1, 0, 1), [batch, tokens, width]);
  const nextToken = scope('next token', () => nextTokenLoss(hidden, labels, model.weights));
  const views = batchedGather(reshape(states, [batch, mulDims(rows, tokens), width]), last); // [batch, 2, width]
  const [text, code] = [0, 1].map((view) => reshape(narrow(views, 1, view, 1), [batch, width]));
  const distance = scope('energy', () => viewDistance(text, code, config.distance));
  const loss = add(mul(nextToken, config.gamma), mul(distance, reshape(weight, [])));
  return { loss, nextToken, distance, text, code, hidden };
}

/** Mean cross entropy of the next token, over the places with a label. Shapes: hidden [batch, tokens, width], labels [batch, tokens]. */
export function nextTokenLoss(hidden: Tensor, labels: Tensor, w: Weights): Tensor {
  const [batch, tokens, width] = hidden.shape;
  const steps = subDims(tokens, 1);
  const rows = mulDims(batch, steps);
  const before = reshape(narrow(hidden, 1, 0, steps), [rows, width]);
  const next = reshape(narrow(labels, 1, 1, steps), [rows]);
  return crossEntropy(textLogits(before, w), next, { ignoreIndex: NO_LABEL });
}

/** Distance of paired states [batch, width], a scalar. */
export function viewDistance(text: Tensor, code: Tensor, distance: ViewDistance): Tensor {
  switch (distance) {
    case 'cosine':
      return sub(1, mean(cosineSimilarity(text, code)));
    case 'l2':
      return mean(norm(sub(text, code), 2, -1));
    case 'mse':
      return mseLoss(text, code);
    case 'infonce':
      return infoNce(text, code, TEMPERATURE);
  }
}

/** A causal model as an encoder of texts: probes see the state of the last token, the prediction of the code. */
export interface LlmEncoder extends Omit<Encoder, 'architecture'> {
  readonly architecture: { readonly kind: 'llm'; readonly tokens: number } & TextConfig;
}

export function llmBackbone(module: Module, config: TextConfig, tokens: number): LlmEncoder {
  const encode = (inputs: Inputs): Tensor =>
    textTransformer(inputs[IDS], module.weights, config, { documents: inputs[DOCUMENTS] });
  return {
    module,
    architecture: { ...config, kind: 'llm', tokens },
    inputs: [IDS, DOCUMENTS].map((name) => ({ name, dtype: 'int32' as const, shape: [tokens] })),
    grid: [tokens],
    features: config.width,
    width: config.width,
    represent: (inputs) => {
      const length = sum(cast(greater(inputs[DOCUMENTS], 0), 'float32'), 1, true); // [batch, 1]
      const last = gatherComputed(encode(inputs), cast(sub(length, 1), 'int32'));
      return reshape(last, [last.shape[0], config.width]);
    },
    tokens: encode,
  };
}

/** LLM-JEPA as a trainer runs it. */
export interface LlmJepaMethod extends Omit<Method, 'encoder'> {
  readonly encoder: LlmEncoder;
}

/** `tokens` and `dialogue` are those with which the pairs were prepared (`TextPlan`). */
export function llmJepaMethod(
  config: LlmJepaConfig,
  { tokens, dialogue }: { readonly tokens: number; readonly dialogue: DialogueTemplate },
): LlmJepaMethod {
  const modules = llmJepaModules(config);
  const { loss, nextToken, distance, text, code } = llmJepa(llmJepaInputs(), modules, config);
  return {
    name: 'llm-jepa',
    trained: [modules.model],
    followers: [],
    loss,
    scalars: { 'next token': nextToken, distance },
    pair: { prediction: text, target: code },
    views: [1],
    feeds: ({ views: [fields] }, random) => {
      const [texts, codes] = [TEXT, CODE].map((name) => bareTokens(fields[name].data as Int32Array, tokens));
      const lists = texts.map((own, i) => dialogueTokens({ text: own, code: codes[i] }, dialogue));
      return llmJepaFeeds(lists, dialogue.pad, config, random);
    },
    encoder: llmBackbone(modules.model, config.model, tokens),
  };
}

/** Feeds of one step. Whether it has views is drawn from `random`. */
export function llmJepaFeeds(
  dialogues: readonly DialogueTokens[],
  pad: number,
  { model, form, lambda, dropout }: LlmJepaConfig,
  random: Random,
): Feeds {
  const dropped = dropout > 0 && random.split('views').uniform() < dropout;
  const rows = dialogueRows(dialogues, { form: dropped ? 'none' : form, pad, maxTokens: model.maxTokens });
  return { ...rows, weight: float32([1], [dropped ? 0 : lambda / (1 - dropout)]) };
}
