import { add, mul, notEqual, sub } from '../graph/ops/elementwise.js';
import { iota } from '../graph/ops/index.js';
import { concat, expandDims } from '../graph/ops/move.js';
import { l2Normalize, maskScores } from '../graph/ops/normalise.js';
import { matmul } from '../graph/ops/product.js';
import { logsumexp, mean, sum } from '../graph/ops/reduce.js';
import { operatorError, sameShape, type Tensor } from '../graph/tensor.js';

/** Contrastive losses of paired embeddings a, b [batch, width]; row i of each is one pair. Rows are L2-normalised here. */

function unitRows(name: string, a: Tensor, b: Tensor): [Tensor, Tensor] {
  if (a.shape.length !== 2 || !sameShape(a.shape, b.shape)) throw operatorError(name, 'needs two [batch, width]', a, b);
  return [l2Normalize(a), l2Normalize(b)];
}

const similarities = (a: Tensor, b: Tensor, temperature: number): Tensor =>
  matmul(a, b, { transposeB: true, alpha: 1 / temperature });

const matched = (a: Tensor, b: Tensor, temperature: number): Tensor => mul(sum(mul(a, b), 1), 1 / temperature);

/** -log softmax over all b of the similarity of each a with its own b (van den Oord et al. 2018), a mean over a. */
export function infoNce(a: Tensor, b: Tensor, temperature = 0.07): Tensor {
  const [x, y] = unitRows('infonce', a, b);
  return mean(sub(logsumexp(similarities(x, y, temperature), 1), matched(x, y, temperature)));
}

/** Mean of InfoNCE in both directions (CLIP). */
export const symmetricInfoNce = (a: Tensor, b: Tensor, temperature = 0.07): Tensor =>
  mul(add(infoNce(a, b, temperature), infoNce(b, a, temperature)), 0.5);

/** NT-Xent (SimCLR): the other view against all other rows of both views, a mean over the 2 batch rows. */
export function ntXent(a: Tensor, b: Tensor, temperature = 0.1): Tensor {
  const [x, y] = unitRows('nt_xent', a, b);
  const rows = iota(x.shape[0]);
  const others = notEqual(expandDims(rows, 1), rows);
  const direction = (own: Tensor, other: Tensor): Tensor => {
    const itself = maskScores(similarities(own, own, temperature), others);
    return mean(logsumexp(concat([similarities(own, other, temperature), itself], 1), 1));
  };
  return sub(mul(add(direction(x, y), direction(y, x)), 0.5), mean(matched(x, y, temperature)));
}
