import { add } from '../graph/ops/elementwise.js';
import { narrow, reshape, split, transpose } from '../graph/ops/move.js';
import { softmax } from '../graph/ops/normalise.js';
import { linear, matmul } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import {
  blocks,
  blocksSpec,
  feedForwardSpec,
  INIT_STD,
  linearSpec,
  mlp,
  norm,
  normalInit,
  normSpec,
  type TransformerConfig,
} from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * Attentive pooling: learned queries attend to an encoder's tokens (V-JEPA, `src/models/attentive_pooler.py`; V-JEPA 2).
 * `depth` counts the self-attention blocks beside the cross-attention: V-JEPA has them after it, on the queries, V-JEPA 2
 * before it, on the tokens.
 */
export interface PoolerConfig extends TransformerConfig {
  readonly queries: number;
  readonly blocks: 'after' | 'before';
  /** Only the cross-attention: no norms, no residual, no MLP. */
  readonly bare?: boolean;
}

/** The published shapes: an MLP four times as wide, norms with the library's own epsilon. */
export const poolerConfig = (
  width: number,
  heads: number,
  own: Partial<Omit<PoolerConfig, 'width' | 'heads'>> = {},
): PoolerConfig => ({
  width,
  heads,
  depth: 0,
  mlpWidth: 4 * width,
  qkvBias: true,
  eps: 1e-5,
  queries: 1,
  blocks: 'before',
  ...own,
});

/**
 * Parameters under their published names. V-JEPA's cross-attention has an output projection that takes no part in anything:
 * it is stored and never learns.
 */
export function poolerSpec(config: PoolerConfig): ModuleSpec {
  const { width, queries, depth, bare } = config;
  const name = 'cross_attention_block';
  const attention = bare ? name : `${name}.xattn`;
  const unused = linearSpec(`${attention}.proj`, width, width).map(([key, spec]): [string, ParameterSpec] => [
    key,
    { ...spec, trainable: false },
  ]);
  // The last layer's branch is divided like the blocks' own: V-JEPA counts it as the first layer, V-JEPA 2 as the last.
  const layer = config.blocks === 'before' && depth > 0 ? depth : 1;
  const outStd = INIT_STD / Math.sqrt(2 * layer);
  return new Map<string, ParameterSpec>([
    ['query_tokens', normalInit([1, queries, width])],
    ...(bare ? [] : normSpec(`${name}.norm1`, width)),
    ...linearSpec(`${attention}.q`, width, width),
    ...linearSpec(`${attention}.kv`, 2 * width, width),
    ...(config.blocks === 'after' ? unused : []),
    ...(bare ? [] : [...normSpec(`${name}.norm2`, width), ...feedForwardSpec(`${name}.mlp`, config, outStd)]),
    ...blocksSpec('blocks', config, true),
  ]);
}

/** Tokens [batch, tokens, width] -> [batch, queries, width]. */
export function pooler(tokens: Tensor, w: Weights, config: PoolerConfig): Tensor {
  const x = config.blocks === 'before' ? blocks(tokens, w, 'blocks', config) : tokens;
  const pooled = scope('cross_attention_block', () => crossAttentionBlock(x, w('query_tokens'), w, config));
  return config.blocks === 'after' ? blocks(pooled, w, 'blocks', config) : pooled;
}

function crossAttentionBlock(x: Tensor, queries: Tensor, weights: Weights, config: PoolerConfig): Tensor {
  const { eps, bare } = config;
  const w = under(weights, 'cross_attention_block.');
  if (bare) return askTokens(queries, x, w, config);
  const asked = add(queries, askTokens(queries, norm(x, under(w, 'norm1.'), eps), under(w, 'xattn.'), config));
  return add(asked, mlp(norm(asked, under(w, 'norm2.'), eps), under(w, 'mlp.'), config));
}

/**
 * Multi-head attention of a few queries [1, queries, width] to x [batch, tokens, width], without output projection. Keys
 * and values of all tokens are never made: their matrices go to the side of the queries, where there is little to multiply.
 * The bias of the keys adds the same to every score of a query and drops out.
 */
function askTokens(queries: Tensor, x: Tensor, w: Weights, { heads, width }: PoolerConfig): Tensor {
  const headWidth = width / heads;
  const [batch] = x.shape;
  const count = queries.shape[1] as number;
  const [keys, values] = split(reshape(w('kv.weight'), [2, heads, headWidth, width]), 0, [1, 1]).map((t) =>
    reshape(t, [heads, headWidth, width]),
  );
  const [, valueBias] = split(w('kv.bias'), 0, [width, width]);
  const q = linear(reshape(queries, [count, width]), w('q.weight'), w('q.bias'));
  const perHead = transpose(reshape(q, [count, heads, headWidth]), [1, 0, 2]);
  const asked = matmul(perHead, keys, { alpha: 1 / Math.sqrt(headWidth) }); // [heads, queries, width]
  const scores = transpose(linear(x, reshape(asked, [heads * count, width])), [0, 2, 1]);
  const seen = matmul(softmax(scores), x); // [batch, heads * queries, width]
  const apart = reshape(seen, [batch, heads, count, width]);
  const mixed = matmul(apart, values, { transposeB: true }); // [batch, heads, queries, headWidth]
  return add(reshape(transpose(mixed, [0, 2, 1, 3]), [batch, count, width]), valueBias);
}

export interface ClassifierConfig {
  readonly pooler: PoolerConfig;
  /** Linear classifiers by name, each with its number of classes; the k-th reads the k-th query. */
  readonly heads: Readonly<Record<string, number>>;
}

/** A classifier of one set of classes (`linear`). */
export const classifierConfig = (pooler: PoolerConfig, classes: number): ClassifierConfig => ({
  pooler,
  heads: { linear: classes },
});

export const classifierSpec = ({ pooler, heads }: ClassifierConfig): ModuleSpec =>
  new Map<string, ParameterSpec>([
    ...[...poolerSpec(pooler)].map(([name, spec]): [string, ParameterSpec] => [`pooler.${name}`, spec]),
    ...Object.entries(heads).flatMap(([name, classes]) => linearSpec(name, classes, pooler.width)),
  ]);

/** Tokens [batch, tokens, width] -> logits [batch, classes] of every head. */
export function classifiers(tokens: Tensor, w: Weights, config: ClassifierConfig): Readonly<Record<string, Tensor>> {
  const pooled = scope('pooler', () => pooler(tokens, under(w, 'pooler.'), config.pooler));
  const { width } = config.pooler;
  return Object.fromEntries(
    Object.keys(config.heads).map((name, query) => {
      const row = reshape(narrow(pooled, 1, query, 1), [pooled.shape[0], width]);
      return [name, scope(name, () => linear(row, w(`${name}.weight`), w(`${name}.bias`)))];
    }),
  );
}

/** Logits [batch, classes] of a classifier with one head. */
export const classify = (tokens: Tensor, w: Weights, config: ClassifierConfig): Tensor =>
  Object.values(classifiers(tokens, w, config))[0];
