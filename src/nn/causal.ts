import { add, gelu, mul, silu } from '../graph/ops/elementwise.js';
import { narrow, reshape, split, transpose } from '../graph/ops/move.js';
import { layerNorm, maskScores, softmax } from '../graph/ops/normalise.js';
import { linear, matmul } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { seesEarlierFrames } from './ac-predictor.js';
import { batchNorm, type NormMode } from './batch-norm.js';
import { dense } from './stacks.js';
import { norm } from './transformer.js';
import { under, type Weights } from './weights.js';

/**
 * Transformers whose attention and feed-forward parts begin with a layer norm of their own and whose inner width differs from
 * the width (lucidrains' vit-pytorch; LeWorldModel and DINO-WM are made of them).
 */

const NORM_EPS = 1e-5;
/** Of the norms without weights around the parts of LeWorldModel's blocks. */
const OUTER_EPS = 1e-6;

export interface AttentionShape {
  readonly heads: number;
  readonly headWidth: number;
}

/** Attention of x [batch, tokens, width] with its norm. `mask` bool [tokens, tokens]: where a query may look. */
export function normedAttention(x: Tensor, w: Weights, { heads, headWidth }: AttentionShape, mask: Tensor): Tensor {
  const [batch, tokens, width] = x.shape;
  const qkv = linear(norm(x, under(w, 'norm.'), NORM_EPS), w('to_qkv.weight'));
  const parts = transpose(reshape(qkv, [batch, tokens, 3, heads, headWidth]), [2, 0, 3, 1, 4]);
  const [q, k, v] = split(parts, 0, [1, 1, 1]).map((part) => reshape(part, part.shape.slice(1)));
  const scores = matmul(q, k, { transposeB: true, alpha: 1 / Math.sqrt(headWidth) });
  const mixed = transpose(matmul(softmax(maskScores(scores, mask)), v), [0, 2, 1, 3]);
  const joined = reshape(mixed, [batch, tokens, heads * headWidth]);
  // A single head of the full width has no output projection.
  return heads === 1 && headWidth === width ? joined : dense(joined, under(w, 'to_out.0.'));
}

/** Layer norm, linear, GELU, linear. */
const normedFeedForward = (x: Tensor, w: Weights): Tensor =>
  dense(gelu(dense(norm(x, under(w, 'net.0.'), NORM_EPS), under(w, 'net.1.'))), under(w, 'net.4.'));

/** x (1 + scale) + shift. */
export const modulate = (x: Tensor, shift: Tensor, scale: Tensor): Tensor => add(mul(x, add(scale, 1)), shift);

export interface CausalConfig extends AttentionShape {
  /** Width of states (and of what conditions them), inside, and of what comes out. */
  readonly into: number;
  readonly width: number;
  readonly out: number;
  readonly depth: number;
  readonly mlpWidth: number;
}

/**
 * A causal transformer over time, of blocks that a condition [batch, time, into] modulates (AdaLN-zero), or plain ones without
 * it (stable-worldmodel, `lewm/module.py`). Shapes: x [batch, time, into] -> [batch, time, out].
 */
export function causalTransformer(x: Tensor, w: Weights, config: CausalConfig, condition?: Tensor): Tensor {
  const { into, width, out, depth } = config;
  const projected = (y: Tensor, name: string, needed: boolean): Tensor => (needed ? dense(y, under(w, `${name}.`)) : y);
  const mask = seesEarlierFrames(x.shape[1] as number, 1);
  const c = condition && silu(projected(condition, 'cond_proj', into !== width));
  let y = projected(x, 'input_proj', into !== width);
  for (let i = 0; i < depth; i++) {
    y = scope(`layers.${i}`, () => {
      const own = under(w, `layers.${i}.`);
      const outer = (z: Tensor): Tensor => layerNorm(z, { eps: OUTER_EPS });
      const attention = (z: Tensor): Tensor => normedAttention(z, under(own, 'attn.'), config, mask);
      const feedForward = (z: Tensor): Tensor => normedFeedForward(z, under(own, 'mlp.'));
      if (!c) {
        const middle = add(y, attention(outer(y)));
        return add(middle, feedForward(outer(middle)));
      }
      const parts = split(dense(c, under(own, 'adaLN_modulation.1.')), 2, Array(6).fill(width));
      const [shift1, scale1, gate1, shift2, scale2, gate2] = parts;
      const middle = add(y, mul(gate1, attention(modulate(outer(y), shift1, scale1))));
      return add(middle, mul(gate2, feedForward(modulate(outer(middle), shift2, scale2))));
    });
  }
  return projected(norm(y, under(w, 'norm.'), NORM_EPS), 'output_proj', width !== out);
}

/** LeWorldModel's predictor: positions of at most `frames` frames are added, then a conditioned causal transformer. */
export function causalPredictor(x: Tensor, condition: Tensor, w: Weights, config: CausalConfig): Tensor {
  const positions = narrow(w('pos_embedding'), 1, 0, x.shape[1]);
  return causalTransformer(add(x, positions), under(w, 'transformer.'), config, condition);
}

/** Embeds actions [batch, time, numbers]: a map of each step, then linear, SiLU, linear (LeWorldModel, `Embedder`). */
export function actionEmbedder(x: Tensor, w: Weights): Tensor {
  const smoothed = stepMap(x, under(w, 'patch_embed.'));
  return dense(silu(dense(smoothed, under(w, 'embed.0.'))), under(w, 'embed.2.'));
}

/** A convolution of length 1 over time, [batch, time, in] -> [batch, time, out]; its weight is [out, in, 1]. */
export function stepMap(x: Tensor, w: Weights): Tensor {
  const weight = w('weight');
  return linear(x, reshape(weight, weight.shape.slice(0, 2)), w('bias'));
}

/** Linear, norm (layer norm, or batch norm where a mode is given), GELU, linear; rows [rows, width]. */
export function normedMlp(rows: Tensor, w: Weights, mode?: NormMode): Tensor {
  const hidden = dense(rows, under(w, 'net.0.'));
  const own = under(w, 'net.1.');
  const normed = mode ? batchNorm(hidden, own, mode) : norm(hidden, own, NORM_EPS);
  return dense(gelu(normed), under(w, 'net.3.'));
}

/**
 * DINO-WM's predictor: tokens [batch, frames * tokens of a frame, width], each frame seeing itself and earlier ones.
 */
export function framePredictor(
  x: Tensor,
  w: Weights,
  { tokens, depth, ...shape }: AttentionShape & { readonly tokens: number; readonly depth: number },
): Tensor {
  const count = x.shape[1] as number;
  const mask = seesEarlierFrames(count / tokens, tokens);
  let y = add(x, narrow(w('pos_embedding'), 1, 0, count));
  for (let i = 0; i < depth; i++) {
    const own = under(w, `transformer.layers.${i}.`);
    y = add(y, normedAttention(y, under(own, '0.'), shape, mask));
    y = add(y, normedFeedForward(y, under(own, '1.')));
  }
  return norm(y, under(w, 'transformer.norm.'), NORM_EPS);
}
