import { add, div, mul, notEqual, sub } from '../graph/ops/elementwise.js';
import { iota } from '../graph/ops/index.js';
import { concat, expandDims } from '../graph/ops/move.js';
import { l2Normalize, maskScores } from '../graph/ops/normalise.js';
import { matmul } from '../graph/ops/product.js';
import { logsumexp, mean, sum } from '../graph/ops/reduce.js';
import { operatorError, sameShape, type Tensor, type TensorLike } from '../graph/tensor.js';

/**
 * Contrastive losses of paired embeddings a, b [batch, width]; row i of each is one pair. Rows are L2-normalised here. A
 * temperature may be a tensor, to be learned.
 */

function unitRows(name: string, a: Tensor, b: Tensor): [Tensor, Tensor] {
  if (a.shape.length !== 2 || !sameShape(a.shape, b.shape)) throw operatorError(name, 'needs two [batch, width]', a, b);
  return [l2Normalize(a), l2Normalize(b)];
}

const scores = (a: Tensor, b: Tensor, temperature: TensorLike): Tensor =>
  typeof temperature === 'number'
    ? matmul(a, b, { transposeB: true, alpha: 1 / temperature })
    : div(matmul(a, b, { transposeB: true }), temperature);

const matched = (a: Tensor, b: Tensor, temperature: TensorLike): Tensor => div(sum(mul(a, b), 1), temperature);

/** Cosines of every a with every b, over the temperature: [batch, batch]. */
export const similarities = (a: Tensor, b: Tensor, temperature: TensorLike = 1): Tensor =>
  scores(...unitRows('similarities', a, b), temperature);

/** -log softmax over all b of the similarity of each a with its own b (van den Oord et al. 2018), a mean over a. */
export function infoNce(a: Tensor, b: Tensor, temperature: TensorLike = 0.07): Tensor {
  const [x, y] = unitRows('infonce', a, b);
  return mean(sub(logsumexp(scores(x, y, temperature), 1), matched(x, y, temperature)));
}

/** Mean of InfoNCE in both directions (CLIP). */
export const symmetricInfoNce = (a: Tensor, b: Tensor, temperature: TensorLike = 0.07): Tensor =>
  mul(add(infoNce(a, b, temperature), infoNce(b, a, temperature)), 0.5);

/** NT-Xent (SimCLR): the other view against all other rows of both views, a mean over the 2 batch rows. */
export function ntXent(a: Tensor, b: Tensor, temperature: TensorLike = 0.1): Tensor {
  const [x, y] = unitRows('nt_xent', a, b);
  const rows = iota(x.shape[0]);
  const others = notEqual(expandDims(rows, 1), rows);
  const direction = (own: Tensor, other: Tensor): Tensor => {
    const itself = maskScores(scores(own, own, temperature), others);
    return mean(logsumexp(concat([scores(own, other, temperature), itself], 1), 1));
  };
  return sub(mul(add(direction(x, y), direction(y, x)), 0.5), mean(matched(x, y, temperature)));
}
