import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type Dim, mulDims } from '../graph/dims.js';
import { attention } from '../graph/ops/attention.js';
import {
  abs,
  add,
  cast,
  div,
  equal,
  greater,
  greaterEqual,
  logicalAnd,
  mul,
  silu,
  sub,
} from '../graph/ops/elementwise.js';
import { batchedGather, embedding, iota } from '../graph/ops/index.js';
import {
  broadcastTo,
  concat,
  expandDims,
  narrow,
  repeatInterleave,
  reshape,
  split,
  transpose,
} from '../graph/ops/move.js';
import { rmsNorm } from '../graph/ops/normalise.js';
import { linear } from '../graph/ops/product.js';
import { sum } from '../graph/ops/reduce.js';
import { constant, operatorError, scope, type Tensor } from '../graph/tensor.js';
import type { Tokens } from './tokens.js';
import { type DropPath, fillInit, joinLeading, linearSpec, normalInit } from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * A transformer over tokens of text as Llama has it (Touvron et al. 2023): root-mean-square norms before each part, rotary
 * positions, gated MLP, queries in groups that share keys and values. Causal for language models, bidirectional for encoders.
 */
export interface TextConfig extends TextLayers {
  readonly vocabulary: number;
}

/** Its layers. */
export interface TextLayers {
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  /** Heads of keys and values; each serves heads / keyHeads queries. */
  readonly keyHeads: number;
  readonly mlpWidth: number;
  /** Longest sequence. */
  readonly maxTokens: number;
  /** A token sees those before it and itself only. */
  readonly causal: boolean;
  readonly eps: number;
  /** Base of the rotary frequencies. */
  readonly theta: number;
}

export interface TextOptions {
  readonly vocabulary: number;
  readonly width?: number;
  readonly depth?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly mlpWidth?: number;
  readonly maxTokens?: number;
  readonly causal: boolean;
}

/** A checked configuration; the MLP is 8/3 as wide by default, in whole multiples of 8. */
export function textConfig(options: TextOptions): TextConfig {
  const { vocabulary, width = 128, depth = 4, heads = 4, maxTokens = 512, causal } = options;
  const config: TextConfig = {
    vocabulary,
    width,
    depth,
    heads,
    keyHeads: options.keyHeads ?? heads,
    mlpWidth: options.mlpWidth ?? 8 * Math.ceil(width / 3),
    maxTokens,
    causal,
    eps: 1e-5,
    theta: 10_000,
  };
  checkText(config);
  return config;
}

function checkText(config: TextConfig): void {
  for (const what of ['vocabulary', 'width', 'depth', 'heads', 'keyHeads', 'mlpWidth', 'maxTokens'] as const) {
    if (!Number.isInteger(config[what]) || config[what] < 1)
      throw new JepaError(`text transformer: ${what} must be a positive whole number, not ${config[what]}`);
  }
  const { width, heads, keyHeads } = config;
  if (width % (2 * heads) !== 0)
    throw new JepaError(`text transformer: a width of ${width} does not divide into ${heads} heads of even width`);
  if (heads % keyHeads !== 0)
    throw new JepaError(`text transformer: ${heads} heads do not divide into groups for ${keyHeads} heads of keys`);
}

export interface TextParts {
  /** The projection to logits. */
  readonly head?: boolean;
  /** The vector that stands for hidden tokens, where these are replaced. */
  readonly maskToken?: boolean;
}

/** Parameters under their published names (`mask_token` has none). */
export function textSpec(config: TextConfig, { head = false, maskToken = false }: TextParts = {}): ModuleSpec {
  const { vocabulary, width } = config;
  return new Map<string, ParameterSpec>([
    ['model.embed_tokens.weight', normalInit([vocabulary, width])],
    ...(maskToken ? [['mask_token', normalInit([1, 1, width])] as [string, ParameterSpec]] : []),
    ...layersSpec(config),
    ...(head ? [['lm_head.weight', normalInit([vocabulary, width])] as [string, ParameterSpec]] : []),
  ]);
}

function layersSpec({ width, depth, heads, keyHeads, mlpWidth }: TextLayers): [string, ParameterSpec][] {
  const keyWidth = (width / heads) * keyHeads;
  const layer = (i: number): [string, ParameterSpec][] => {
    const name = `model.layers.${i}`;
    return [
      [`${name}.input_layernorm.weight`, fillInit([width], 1)],
      [`${name}.self_attn.q_proj.weight`, normalInit([width, width])],
      [`${name}.self_attn.k_proj.weight`, normalInit([keyWidth, width])],
      [`${name}.self_attn.v_proj.weight`, normalInit([keyWidth, width])],
      [`${name}.self_attn.o_proj.weight`, normalInit([width, width])],
      [`${name}.post_attention_layernorm.weight`, fillInit([width], 1)],
      [`${name}.mlp.gate_proj.weight`, normalInit([mlpWidth, width])],
      [`${name}.mlp.up_proj.weight`, normalInit([mlpWidth, width])],
      [`${name}.mlp.down_proj.weight`, normalInit([width, mlpWidth])],
    ];
  };
  return [...Array.from({ length: depth }, (_, i) => layer(i)).flat(), ['model.norm.weight', fillInit([width], 1)]];
}

export interface TextForward {
  /**
   * Document of each token [batch, tokens], int32, from 1 on; tokens see their own document only. Nobody sees padding: 0
   * sees nothing either, -n sees document n. One document by default.
   */
  readonly documents?: Tensor;
  /** Places of the tokens in the text [batch, tokens], int32; 0, 1, 2, ... by default. */
  readonly places?: Tensor;
  readonly drop?: DropPath;
  /** Sees the embeddings (0) and the output of each layer (1, 2, ...), before the final norm. */
  readonly onState?: (state: Tensor, index: number) => void;
}

/** Token numbers [batch, tokens], int32 -> hidden states [batch, tokens, width] after the final norm. */
export function textTransformer(ids: Tensor, w: Weights, config: TextConfig, options: TextForward = {}): Tensor {
  return textBlocks(
    scope('embed', () => embedding(w('model.embed_tokens.weight'), ids)),
    w,
    config,
    options,
  );
}

/** The layers and the final norm, from embeddings [batch, tokens, width]. */
export function textBlocks(
  embedded: Tensor,
  w: Weights,
  config: TextLayers,
  { documents, places, drop, onState }: TextForward = {},
): Tensor {
  const [, tokens] = embedded.shape;
  const turn = scope('positions', () => rotary(config, tokens, places));
  const mask = scope('mask', () => attentionMask(documents, tokens, config.causal));
  onState?.(embedded, 0);
  let state = embedded;
  for (let i = 0; i < config.depth; i++) {
    const factors = drop && { attention: drop.attention(i), mlp: drop.mlp(i) };
    state = scope(`layers.${i}`, () => layer(state, under(w, `model.layers.${i}.`), config, turn, mask, factors));
    onState?.(state, i + 1);
  }
  return scope('norm', () => rmsNorm(state, { weight: w('model.norm.weight'), eps: config.eps }));
}

/** Hidden states [..., width] -> logits [..., vocabulary]. */
export const textLogits = (hidden: Tensor, w: Weights): Tensor => linear(hidden, w('lm_head.weight'));

/** Where queries may look, bool: [batch, 1, tokens, tokens], or [tokens, tokens] without documents; undefined for everywhere. */
export function attentionMask(documents: Tensor | undefined, tokens: Dim, causal: boolean): Tensor | undefined {
  const past = causal ? greaterEqual(expandDims(iota(tokens), 1), iota(tokens)) : undefined;
  if (!documents) return past;
  const own = expandDims(documents, [1, 3]); // [batch, 1, tokens, 1]
  const other = expandDims(documents, [1, 2]); // [batch, 1, 1, tokens]
  const seen = logicalAnd(equal(abs(own), other), greater(other, 0));
  return past ? logicalAnd(seen, past) : seen;
}

/** Rotates [batch, heads, tokens, headWidth]: pairs are element i of the first and of the second half. */
type Turn = (x: Tensor) => Tensor;

function rotary({ width, heads, maxTokens, theta }: TextLayers, tokens: Dim, places?: Tensor): Turn {
  const half = width / heads / 2;
  const table = (of: (angle: number) => number): HostTensor<'float32'> =>
    float32(
      [maxTokens, half],
      Float32Array.from({ length: maxTokens * half }, (_, i) => {
        const [place, pair] = [Math.floor(i / half), i % half];
        return of(place * theta ** (-pair / half));
      }),
    );
  const at = (of: (angle: number) => number): Tensor => {
    const rows = constant(table(of));
    return places ? expandDims(embedding(rows, places), 1) : narrow(rows, 0, 0, tokens);
  };
  const [cos, sin] = [at(Math.cos), at(Math.sin)]; // [tokens, half] or [batch, 1, tokens, half]
  return (x) => {
    const [a, b] = split(x, 3, [half, half]);
    return concat([sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin))], 3);
  };
}

function layer(
  x: Tensor,
  w: Weights,
  config: TextLayers,
  turn: Turn,
  mask: Tensor | undefined,
  drop?: { readonly attention: Tensor; readonly mlp: Tensor },
): Tensor {
  const { eps } = config;
  const branch = (y: Tensor, factor?: Tensor): Tensor => (factor ? mul(y, factor) : y);
  const attended = scope('self_attn', () =>
    attend(rmsNorm(x, { weight: w('input_layernorm.weight'), eps }), under(w, 'self_attn.'), config, turn, mask),
  );
  const middle = add(x, branch(attended, drop?.attention));
  return scope('mlp', () => {
    const y = rmsNorm(middle, { weight: w('post_attention_layernorm.weight'), eps });
    const gated = mul(silu(linear(y, w('mlp.gate_proj.weight'))), linear(y, w('mlp.up_proj.weight')));
    return add(middle, branch(linear(gated, w('mlp.down_proj.weight')), drop?.mlp));
  });
}

function attend(x: Tensor, w: Weights, config: TextLayers, turn: Turn, mask: Tensor | undefined): Tensor {
  const { heads, keyHeads, width } = config;
  const headWidth = width / heads;
  const [batch, tokens] = x.shape;
  const apart = (name: string, count: number): Tensor =>
    transpose(reshape(linear(x, w(name)), [batch, tokens, count, headWidth]), [0, 2, 1, 3]);
  const shared = (y: Tensor): Tensor => (keyHeads === heads ? y : repeatInterleave(y, heads / keyHeads, 1));
  const q = turn(apart('q_proj.weight', heads));
  const k = shared(turn(apart('k_proj.weight', keyHeads)));
  const v = shared(apart('v_proj.weight', keyHeads));
  const mixed = transpose(attention(q, k, v, { mask }), [0, 2, 1, 3]);
  return linear(reshape(mixed, [batch, tokens, width]), w('o_proj.weight'));
}

// Masked tokens ------------------------------------------------------------------------------------------------------

/** Rows of text as tokens that a method hides: ids and documents [batch, tokens], int32 (see `TextForward`). */
export function textTokens(ids: Tensor, documents: Tensor, config: TextConfig): Tokens {
  return {
    count: ids.shape[1] as number,
    encode(w, { visible, replaced, select, drop, onState } = {}) {
      const table = w('model.embed_tokens.weight');
      const at = (rows: Tensor): Tensor => (visible ? pickTokens(rows, visible) : rows);
      const seen = embedding(table, at(ids));
      const embedded = replaced ? add(mul(seen, sub(1, replaced)), mul(w('mask_token'), replaced)) : seen;
      const places = visible && joinLeading(visible);
      const out = textBlocks(embedded, w, config, { documents: at(documents), places, drop, onState });
      return select ? select(out) : out;
    },
  };
}

/** Rows [batch, tokens, ...] at sets of tokens [batch, sets, kept] -> [batch * sets, kept, ...]. */
function pickTokens(rows: Tensor, sets: Tensor): Tensor {
  const [batch, count, kept] = sets.shape;
  const picked = batchedGather(rows, reshape(sets, [batch, mulDims(count, kept)]));
  return reshape(picked, [mulDims(batch, count), kept, ...rows.shape.slice(2)]);
}

/** A narrow stack of layers that predicts hidden tokens from visible ones. */
export interface TextPredictorConfig extends TextLayers {
  readonly encoderWidth: number;
}

export const textPredictorSpec = (config: TextPredictorConfig): ModuleSpec =>
  new Map<string, ParameterSpec>([
    ['mask_token', normalInit([1, 1, config.width])],
    ...linearSpec('predictor_embed', config.width, config.encoderWidth),
    ...layersSpec(config),
    ...linearSpec('predictor_proj', config.encoderWidth, config.width),
  ]);

/**
 * Predicts hidden tokens from visible ones of the same document. Shapes: context [batch, 1, visible, encoderWidth] at `visible` [batch,
 * 1, visible], `targets` [batch, 1, hidden], documents [batch, tokens] -> [batch, 1, 1, hidden, encoderWidth].
 */
export function textPredictor(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  documents: Tensor,
  w: Weights,
  config: TextPredictorConfig,
): Tensor {
  const [batch, contexts, kept, encoderWidth] = context.shape;
  const [, blocks, hidden] = targets.shape;
  if (contexts !== 1 || blocks !== 1)
    throw operatorError('text predictor', 'needs one context and one block of targets', visible, targets);
  const places = concat([joinLeading(visible), joinLeading(targets)], 1);
  const seen = linear(joinLeading(context), w('predictor_embed.weight'), w('predictor_embed.bias'));
  const asked = broadcastTo(w('mask_token'), [batch, hidden, config.width]);
  const own = batchedGather(documents, places);
  const out = textBlocks(concat([seen, asked], 1), w, config, { documents: own, places });
  const predicted = linear(narrow(out, 1, kept, hidden), w('predictor_proj.weight'), w('predictor_proj.bias'));
  return reshape(predicted, [batch, 1, 1, hidden, encoderWidth]);
}

/** Mean of the tokens that are text: [batch, tokens, width] -> [batch, width]. */
export function textMean(tokens: Tensor, documents: Tensor): Tensor {
  const isText = cast(greater(documents, 0), 'float32');
  return div(sum(mul(tokens, expandDims(isText, 2)), 1), sum(isText, 1, true));
}
