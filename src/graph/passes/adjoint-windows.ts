import { gatherSum, gatherSumOperator, type Places } from '../ops/gather-sum.js';
import { broadcastTo, concat, reshape, reshapeOperator, transpose } from '../ops/move.js';
import { type MatmulAttrs, matmul, matmulOperator } from '../ops/product.js';
import { constant, type Node, type Operator, type Tensor } from '../tensor.js';
import { transform } from './transform.js';

/**
 * The gradient of a channels-last convolution with respect to its input, as differentiation gives it, is a product that makes
 * a window's worth of columns of every output, and a sum of those columns where windows overlap. Two cheaper forms:
 * - where nearly every window position is used (stride 1), gather windows of the gradient and make one product: the sum
 *   over overlaps happens inside of the product;
 * - else give the gradient one more token, zero, so that the columns that stand for "nothing" come out of the product and
 *   need not be appended to the columns, which are a window's size times larger.
 */
export function adjointWindows(outputs: readonly Tensor[]): Tensor[] {
  return transform(outputs, (node, inputs) => {
    if (node.op !== (gatherSumOperator as Operator)) return undefined;
    const { places } = (node as Node<{ places: Places }>).attrs;
    const product = columnsOf(inputs[0], places);
    if (!product) return undefined;
    const { gradient, weight, taps } = product; // [batch, positions, out], [taps * in, out]
    const windows = windowsOf(places, taps);
    if (windows) return [throughWindows(gradient, weight, windows, taps)];
    return places.index.includes(-1) ? [withZeroToken(gradient, weight, places, taps)] : undefined;
  });
}

interface Columns {
  readonly gradient: Tensor;
  readonly weight: Tensor;
  /** Places in a window. */
  readonly taps: number;
}

/** Recognises gradient [batch, positions, out] times weight^T [out, taps * in], cut into [batch, positions * taps, in]. */
function columnsOf(columns: Tensor, { from }: Places): Columns | undefined {
  if (columns.node.op !== (reshapeOperator as Operator)) return undefined;
  const [product] = columns.node.inputs;
  if (product.node.op !== (matmulOperator as Operator)) return undefined;
  const { transA, transB, alpha } = product.node.attrs as MatmulAttrs;
  const [gradient, weight] = product.node.inputs;
  if (transA || !transB || alpha !== 1 || gradient.shape.length !== 3 || weight.shape.length !== 2) return undefined;
  const [, positions] = gradient.shape;
  const [rows] = weight.shape;
  const [batch, , width] = columns.shape;
  if (typeof positions !== 'number' || typeof rows !== 'number' || typeof width !== 'number') return undefined;
  const taps = rows / width;
  if (batch !== gradient.shape[0] || positions * taps !== from) return undefined;
  return { gradient, weight, taps };
}

/** Share of window positions that must be in use: the products of the others are wasted. */
const DENSE = 0.6;

/** Where each result finds the output of each tap, as places over positions; undefined where that is wasteful or ambiguous. */
function windowsOf({ from, to, terms, index }: Places, taps: number): Places | undefined {
  if (index.reduce((sum, at) => sum + (at >= 0 ? 1 : 0), 0) < DENSE * to * taps) return undefined;
  const turned = new Int32Array(to * taps).fill(-1);
  for (let i = 0; i < to; i++) {
    for (let j = 0; j < terms; j++) {
      const at = index[i * terms + j];
      if (at < 0) continue;
      const slot = i * taps + (at % taps);
      if (turned[slot] >= 0) return undefined;
      turned[slot] = Math.floor(at / taps);
    }
  }
  return { from: from / taps, to: to * taps, terms: 1, index: turned };
}

function throughWindows(gradient: Tensor, weight: Tensor, windows: Places, taps: number): Tensor {
  const [batch, , out] = gradient.shape;
  const [rows] = weight.shape as readonly number[];
  const width = rows / taps;
  const outs = out as number;
  const gathered = reshape(gatherSum(gradient, windows), [batch, windows.to / taps, taps * outs]);
  const turned = transpose(reshape(weight, [taps, width, outs]), [0, 2, 1]);
  return matmul(gathered, reshape(turned, [taps * outs, width]));
}

function withZeroToken(gradient: Tensor, weight: Tensor, places: Places, taps: number): Tensor {
  const [batch, positions, out] = gradient.shape;
  const zero = broadcastTo(constant(0), [batch, 1, out]);
  const columns = matmul(concat([gradient, zero], 1), weight, { transposeB: true });
  const { from, index } = places;
  const padded = { ...places, from: from + taps, index: index.map((at) => (at < 0 ? from : at)) };
  const width = (weight.shape[0] as number) / taps;
  return gatherSum(reshape(columns, [batch, ((positions as number) + 1) * taps, width]), padded);
}
