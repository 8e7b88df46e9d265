import { addDims, type Dim, mulDims } from '../dims.js';
import { broadcastShapes, operatorError, sameShape, staticDim, type Tensor } from '../tensor.js';
import { add, greaterEqual } from './elementwise.js';
import { iota } from './index.js';
import { expandDims, reshape, split, transpose } from './move.js';
import { maskScores, softmax } from './normalise.js';
import { linear, matmul } from './product.js';

/** Scaled dot product attention. */

export interface AttentionOptions {
  /** Where a query may look: broadcasts to [B, H, N, M]. */
  readonly mask?: Tensor;
  /** Added to the scaled scores: broadcasts to [B, H, N, M]. */
  readonly bias?: Tensor;
  /** Default 1 / sqrt(d). */
  readonly scale?: number | null;
  /** Query i sees keys j <= i (aligned at the top left also where N != M). */
  readonly causal?: boolean;
}

/** softmax(scale q k^T) v. Shapes: q [B, H, N, d], k [B, H, M, d], v [B, H, M, e]. */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { mask, bias, scale, causal = false }: AttentionOptions = {},
): Tensor {
  const fail = (problem: string): never => {
    throw operatorError('attention', problem, q, k, v, ...(mask ? [mask] : []), ...(bias ? [bias] : []));
  };
  if ([q, k, v].some((t) => t.shape.length !== 4)) fail('q, k and v must be [batch, heads, tokens, width]');
  if (q.shape[3] !== k.shape[3]) fail('the head sizes of q and k differ');
  if (k.shape[2] !== v.shape[2]) fail('k and v have different lengths');
  for (const axis of [0, 1]) {
    if (q.shape[axis] !== k.shape[axis] || k.shape[axis] !== v.shape[axis]) fail('batch or heads differ');
  }
  const width = staticDim('attention', q.shape[3], 'the head size', q);
  let scores = matmul(q, k, { transposeB: true, alpha: scale ?? 1 / Math.sqrt(width) });
  const fits = (t: Tensor): boolean => {
    try {
      return sameShape(broadcastShapes('attention', scores, t), scores.shape);
    } catch {
      return false;
    }
  };
  if (bias) {
    if (!fits(bias)) fail('the bias does not broadcast to the scores');
    scores = add(scores, bias);
  }
  if (mask) {
    if (mask.dtype !== 'bool') fail('the mask must be bool');
    if (!fits(mask)) fail('the mask does not broadcast to the scores');
    scores = maskScores(scores, mask);
  }
  if (causal) scores = maskScores(scores, greaterEqual(expandDims(iota(q.shape[2]), 1), iota(k.shape[2])));
  return matmul(softmax(scores), v);
}

/** [B, N, parts * D] as `parts` tensors [B, H, N, D / H]: one transposition, then a split. */
function heads(name: string, x: Tensor, parts: number, count: number, ...all: readonly Tensor[]): readonly Tensor[] {
  const [batch, tokens, total] = x.shape;
  const width = staticDim(name, total, 'the width', x) / parts;
  if (width % count !== 0) throw operatorError(name, `the width ${width} does not divide into ${count} heads`, ...all);
  const apart = transpose(reshape(x, [batch, tokens, parts, count, width / count]), [2, 0, 3, 1, 4]);
  const pieces = split(
    apart,
    0,
    Array.from({ length: parts }, () => 1),
  );
  return pieces.map((piece) => reshape(piece, apart.shape.slice(1)));
}

/** [B, H, N, d] as [B, N, H d]. */
function joinHeads(x: Tensor): Tensor {
  const [batch, count, tokens, width] = x.shape;
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, tokens, mulDims(count, width)]);
}

export interface MhaOptions {
  readonly heads: number;
  readonly causal?: boolean;
  readonly qkvBias?: Tensor;
  readonly projBias?: Tensor;
}

/**
 * Self-attention of x [B, N, D]. Rows of qkvWeight [3D, D] are queries, keys, values, each split head by head; the heads
 * are concatenated and projected by projWeight [D, D].
 */
export function mha(x: Tensor, qkvWeight: Tensor, projWeight: Tensor, options: MhaOptions): Tensor {
  const all = [x, qkvWeight, projWeight];
  if (x.shape.length !== 3) throw operatorError('mha', 'x must be [batch, tokens, width]', ...all);
  const width = staticDim('mha', x.shape[2], 'the width', ...all);
  if (width % options.heads !== 0) {
    throw operatorError('mha', `the width ${width} does not divide into ${options.heads} heads`, ...all);
  }
  if (qkvWeight.shape[0] !== 3 * width) throw operatorError('mha', 'the qkv weight must have 3 D rows', ...all);
  const [q, k, v] = heads('mha', linear(x, qkvWeight, options.qkvBias), 3, options.heads, ...all);
  return linear(joinHeads(attention(q, k, v, { causal: options.causal })), projWeight, options.projBias);
}

/**
 * Attention of x [B, N, D] to a context [B, M, E], without output projection. Weights: qWeight [D, D], kvWeight [2D, E]
 * (keys, then values).
 */
export function crossAttention(
  x: Tensor,
  context: Tensor,
  qWeight: Tensor,
  kvWeight: Tensor,
  options: { readonly heads: number; readonly qBias?: Tensor; readonly kvBias?: Tensor },
): Tensor {
  const name = 'cross_attention';
  const all = [x, context, qWeight, kvWeight];
  if (x.shape.length !== 3 || context.shape.length !== 3 || x.shape[0] !== context.shape[0]) {
    throw operatorError(name, 'x and the context must be [batch, tokens, width] with one batch size', ...all);
  }
  const twice: Dim = addDims(qWeight.shape[0], qWeight.shape[0]);
  if (kvWeight.shape[0] !== twice) throw operatorError(name, 'the kv weight must have 2 D rows', ...all);
  const [q] = heads(name, linear(x, qWeight, options.qBias), 1, options.heads, ...all);
  const [k, v] = heads(name, linear(context, kvWeight, options.kvBias), 2, options.heads, ...all);
  return joinHeads(attention(q, k, v));
}
