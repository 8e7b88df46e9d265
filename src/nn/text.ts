import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import type { Dim } from '../graph/dims.js';
import { attention } from '../graph/ops/attention.js';
import { abs, add, equal, greater, greaterEqual, logicalAnd, mul, silu, sub } from '../graph/ops/elementwise.js';
import { embedding, iota } from '../graph/ops/index.js';
import { concat, expandDims, narrow, repeatInterleave, reshape, split, transpose } from '../graph/ops/move.js';
import { rmsNorm } from '../graph/ops/normalise.js';
import { linear } from '../graph/ops/product.js';
import { constant, scope, type Tensor } from '../graph/tensor.js';
import { fillInit, normalInit } from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * A transformer over tokens of text as Llama has it (Touvron et al. 2023): root-mean-square norms before each part, rotary
 * positions, gated MLP, queries in groups that share keys and values. Causal for language models, bidirectional for encoders.
 */
export interface TextConfig {
  readonly vocabulary: number;
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

export function checkText(config: TextConfig): void {
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

/** Parameters under their published names; `head` adds the projection to logits. */
export function textSpec(config: TextConfig, head = false): ModuleSpec {
  const { vocabulary, width, depth, heads, keyHeads, mlpWidth } = config;
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
  return new Map<string, ParameterSpec>([
    ['model.embed_tokens.weight', normalInit([vocabulary, width])],
    ...Array.from({ length: depth }, (_, i) => layer(i)).flat(),
    ['model.norm.weight', fillInit([width], 1)],
    ...(head ? [['lm_head.weight', normalInit([vocabulary, width])] as [string, ParameterSpec]] : []),
  ]);
}

export interface TextForward {
  /**
   * Document of each token [batch, tokens], int32, from 1 on; tokens see their own document only. Nobody sees padding: 0
   * sees nothing either, -n sees document n. One document by default.
   */
  readonly documents?: Tensor;
  /** Places of the tokens in the text [batch, tokens], int32; 0, 1, 2, ... by default. */
  readonly places?: Tensor;
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
  config: TextConfig,
  { documents, places, onState }: TextForward = {},
): Tensor {
  const [, tokens] = embedded.shape;
  const turn = scope('positions', () => rotary(config, tokens, places));
  const mask = scope('mask', () => attentionMask(documents, tokens, config.causal));
  onState?.(embedded, 0);
  let state = embedded;
  for (let i = 0; i < config.depth; i++) {
    state = scope(`layers.${i}`, () => layer(state, under(w, `model.layers.${i}.`), config, turn, mask));
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

function rotary({ width, heads, maxTokens, theta }: TextConfig, tokens: Dim, places?: Tensor): Turn {
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

function layer(x: Tensor, w: Weights, config: TextConfig, turn: Turn, mask: Tensor | undefined): Tensor {
  const { eps } = config;
  const attended = scope('self_attn', () =>
    attend(rmsNorm(x, { weight: w('input_layernorm.weight'), eps }), under(w, 'self_attn.'), config, turn, mask),
  );
  const middle = add(x, attended);
  return scope('mlp', () => {
    const y = rmsNorm(middle, { weight: w('post_attention_layernorm.weight'), eps });
    const gate = silu(linear(y, w('mlp.gate_proj.weight')));
    return add(middle, linear(mul(gate, linear(y, w('mlp.up_proj.weight'))), w('mlp.down_proj.weight')));
  });
}

function attend(x: Tensor, w: Weights, config: TextConfig, turn: Turn, mask: Tensor | undefined): Tensor {
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
