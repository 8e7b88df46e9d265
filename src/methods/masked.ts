import { JepaError } from '../base/errors.js';
import { mulDims } from '../graph/dims.js';
import { add, div, full, mul, sqrt, sub, zeros } from '../graph/ops/elementwise.js';
import { batchedGather, scatter } from '../graph/ops/index.js';
import { broadcastTo, expandDims, reshape } from '../graph/ops/move.js';
import { l2Normalize, layerNorm, softmax } from '../graph/ops/normalise.js';
import { mean, variance } from '../graph/ops/reduce.js';
import { input, operatorError, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import type { EncodeOptions, Tokens } from '../nn/tokens.js';
import { type Module, makeModule, type Weights } from '../nn/weights.js';
import type { Memory } from './method.js';

/**
 * What all methods over masked tokens share: a context encoder sees some tokens of a sample, a predictor guesses what a target
 * encoder makes of others, and the target encoder follows the context encoder. The methods differ in five places: how tokens
 * are hidden, what the target encoder sees, how its outputs are normalised (`MaskedOptions`), how far a prediction is from
 * them (`Distance`) and which parameters follow (`followingModule`). A method brings its tokens, predictor and masks.
 */
export interface MaskedOptions {
  /** `drop`: hidden tokens do not exist for the context encoder; `replace`: they hold a learned vector instead (data2vec). */
  readonly hiding: 'drop' | 'replace';
  /** The target encoder sees the whole sample, or of each block of targets nothing else (M2D; Riou et al. 2024). */
  readonly sight: 'everything' | 'targets';
  /** Targets are the mean of the outputs of so many last blocks, each layer-normed, instead of the output of the final norm (data2vec). */
  readonly layers?: number;
  readonly normalisation: Normalisation;
}

/**
 * Normalisation of target representations, per token over its features: `layer` (mean 0 and variance 1, I-JEPA), `standardised`
 * (the same with the unbiased variance, Audio-JEPA), `centred` (mean 0), `l2` (length 1); `batch`: each feature over all
 * targets of the batch; softmax: features as a distribution, sharpened and less a running centre (DINO, S-JEPA).
 */
export type Normalisation = 'layer' | 'standardised' | 'centred' | 'batch' | 'l2' | 'none' | SoftmaxNormalisation;

export interface SoftmaxNormalisation {
  readonly kind: 'softmax';
  readonly temperature: number;
  /** centre <- momentum centre + (1 - momentum) mean of all the target encoder's tokens of the batch, before it is used. */
  readonly momentum: number;
}

/** I-JEPA's choices. */
export const IJEPA_OPTIONS: MaskedOptions = { hiding: 'drop', sight: 'everything', normalisation: 'layer' };

export interface MaskedInputs {
  /** Tokens that the context encoder sees [batch, contexts, visible], int32. */
  readonly context: Tensor;
  /** Tokens to predict, in blocks that are predicted one by one, [batch, blocks, hidden], int32. */
  readonly targets: Tensor;
}

/** Graph inputs; the numbers of visible and hidden tokens change from batch to batch, that of blocks where none is given. */
export const maskInputs = (contexts: number, blocks?: number): MaskedInputs => ({
  context: input('context', ['batch', contexts, 'visible'], 'int32'),
  targets: input('targets', ['batch', blocks ?? 'blocks', 'hidden'], 'int32'),
});

export interface MaskedForward {
  /** Context encoder's tokens [batch * contexts, visible, width]; all tokens where hidden ones are replaced. */
  readonly context: Tensor;
  /** [batch, blocks, contexts, hidden, width] */
  readonly prediction: Tensor;
  /** Same shape; no gradient flows into it. */
  readonly target: Tensor;
  readonly memory: Memory;
}

export interface MaskedParts {
  readonly tokens: Tokens;
  /** What the target encoder is shown, where it differs from the context encoder's view; tokens in the same order. */
  readonly targetTokens?: Tokens;
  readonly encoder: Weights;
  readonly target: Weights;
  /**
   * Context tokens [batch, contexts, seen, width] at `visible` [batch, contexts, seen] (undefined: all tokens, in order) and
   * `targets` [batch, blocks, hidden] -> [batch, blocks, contexts, hidden, width].
   */
  predict(context: Tensor, visible: Tensor | undefined, targets: Tensor): Tensor;
  readonly drop?: EncodeOptions['drop'];
}

/** One forward pass of a method over masked tokens. */
export function masked(
  parts: MaskedParts,
  { context: visible, targets }: MaskedInputs,
  options: MaskedOptions,
): MaskedForward {
  const { tokens, targetTokens = tokens, drop } = parts;
  const context = scope('encoder', () => encodeContext(tokens, parts.encoder, visible, options.hiding, { drop }));
  const [batch, contexts] = visible.shape;
  const [, seen, width] = context.shape;
  const prediction = scope('predictor', () =>
    parts.predict(
      reshape(context, [batch, contexts, seen, width]),
      options.hiding === 'drop' ? visible : undefined,
      targets,
    ),
  );
  const { target, memory } = scope('target_encoder', () => encodeTargets(targetTokens, parts.target, targets, options));
  // Every context predicts the same targets.
  return { context, prediction, target: broadcastTo(expandDims(target, 2), prediction.shape), memory };
}

/** Context tokens [batch * contexts, seen, width] of `visible` [batch, contexts, kept]: those, or all where others are replaced. */
export function encodeContext(
  tokens: Tokens,
  w: Weights,
  visible: Tensor,
  hiding: MaskedOptions['hiding'],
  options: Pick<EncodeOptions, 'drop' | 'onState'> = {},
): Tensor {
  if (hiding === 'drop') return tokens.encode(w, { visible, ...options });
  const [batch, contexts, kept] = visible.shape;
  if (contexts !== 1) throw operatorError('masked', 'replaces hidden tokens for one context only', visible);
  const shown = scatter(zeros([batch, tokens.count]), reshape(visible, [batch, kept]), full([batch, kept], 1), 1);
  return tokens.encode(w, { replaced: expandDims(sub(1, shown), 2), ...options });
}

/** Normalised representations of `targets` [batch, blocks, hidden]: [batch, blocks, hidden, width], no gradient. */
export function encodeTargets(
  tokens: Tokens,
  w: Weights,
  targets: Tensor,
  { sight, layers, normalisation }: Pick<MaskedOptions, 'sight' | 'layers' | 'normalisation'>,
): { readonly target: Tensor; readonly memory: Memory } {
  const [batch, blocks, hidden] = targets.shape;
  const index = reshape(targets, [batch, mulDims(blocks, hidden)]);
  const pick = (all: Tensor): Tensor => batchedGather(all, index);
  const distribution = typeof normalisation === 'object';
  let all: Tensor | undefined;
  if (sight === 'targets') all = represent(tokens, w, { visible: targets }, layers);
  else if (distribution || layers !== undefined) all = represent(tokens, w, {}, layers);
  // Where nothing else is needed, the last block is asked about the targets only.
  const raw = all === undefined ? tokens.encode(w, { select: pick }) : sight === 'targets' ? all : pick(all);
  const width = raw.shape[2];
  const memory = distribution ? runningCentre(all as Tensor, normalisation.momentum) : {};
  const normalised = stopGradient(normaliseTargets(raw, normalisation, memory.centre?.next));
  return { target: reshape(normalised, [batch, blocks, hidden, width]), memory };
}

/** The encoder's output, or the mean of the outputs of its last `layers` blocks, each layer-normed. */
function represent(tokens: Tokens, w: Weights, options: EncodeOptions, layers: number | undefined): Tensor {
  if (layers === undefined) return tokens.encode(w, options);
  const states: Tensor[] = [];
  tokens.encode(w, { ...options, onState: (state) => states.push(state) });
  const last = states.slice(1).slice(-layers);
  if (last.length < layers || layers < 1) {
    throw new JepaError(
      `masked: targets of the last ${layers} blocks need as many; the encoder has ${states.length - 1}`,
    );
  }
  const sum = last.map((state) => layerNorm(state, { eps: EPS })).reduce((a, b) => add(a, b));
  return mul(sum, 1 / layers);
}

/** The mean of `all` [batch, tokens, width] joins a running one, an input called `centre` that starts at zero. */
function runningCentre(all: Tensor, momentum: number): Memory {
  const width = all.shape[2] as number;
  const before = input('centre', [width]);
  const next = add(mul(before, momentum), mul(mean(all, [0, 1]), 1 - momentum));
  return { centre: { input: before, next } };
}

/** The epsilon of PyTorch's layer norm, which the released code calls without one. */
const EPS = 1e-5;
/** Added to variances by Audio-JEPA. */
const STANDARD_EPS = 1e-6;

/** Normalises representations [rows, tokens, width]; `centre` [width] is what a softmax subtracts. */
export function normaliseTargets(x: Tensor, normalisation: Normalisation, centre?: Tensor): Tensor {
  if (typeof normalisation === 'object') {
    return softmax(div(centre ? sub(x, centre) : x, normalisation.temperature), 2);
  }
  const standardise = (axes: readonly number[]): Tensor =>
    div(sub(x, mean(x, axes, true)), sqrt(add(variance(x, axes, true), STANDARD_EPS)));
  switch (normalisation) {
    case 'layer':
      return layerNorm(x, { eps: EPS });
    case 'standardised':
      return standardise([2]);
    case 'centred':
      return sub(x, mean(x, 2, true));
    case 'batch':
      return standardise([0, 1]);
    case 'l2':
      return l2Normalize(x);
    case 'none':
      return x;
  }
}

/** Where hidden tokens are replaced, their outputs are the predictions: `head` on those of `targets`. A `predict` of `MaskedParts`. */
export function predictInPlace(context: Tensor, targets: Tensor, head: (x: Tensor) => Tensor): Tensor {
  const [batch, , seen, width] = context.shape;
  const [, blocks, hidden] = targets.shape;
  const picked = batchedGather(
    reshape(context, [batch, seen, width]),
    reshape(targets, [batch, mulDims(blocks, hidden)]),
  );
  const out = head(picked);
  return reshape(out, [batch, blocks, 1, hidden, out.shape[2]]);
}

/** A target encoder: the module that a trainer keeps, and the weights that it computes with. */
export interface Following {
  readonly module: Module;
  readonly weights: Weights;
}

/**
 * The moving average of an encoder, `module`, where all parameters follow or those that `follows` names (Point-JEPA: all but
 * the tokenizer). The others are the encoder's own; then the encoder, not the incomplete average, is what one evaluates.
 */
export function followingModule(
  prefix: string,
  online: Module,
  follows: (name: string) => boolean = () => true,
): Following {
  const module = makeModule(prefix, new Map([...online.spec].filter(([name]) => follows(name))));
  return { module, weights: (name) => (follows(name) ? module.weights(name) : online.weights(name)) };
}
