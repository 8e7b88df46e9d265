import type { Dim } from '../dims.js';
import { gatherSum, gatherSumOperator, type Places } from '../ops/gather-sum.js';
import { indexSelect } from '../ops/index.js';
import { broadcastTo, concat, reshape, reshapeOperator, transpose } from '../ops/move.js';
import { type MatmulAttrs, matmul, matmulOperator } from '../ops/product.js';
import { constant, type Node, type Operator, type Tensor } from '../tensor.js';
import { transform } from './transform.js';

/**
 * The gradient of a channels-last convolution with respect to its input, as differentiation gives it, is a product that makes
 * a window's worth of columns of every output, and a sum of those columns where windows overlap. Two cheaper forms:
 * - gather windows of the gradient and make a product, in which the sum over overlaps happens: one product for all places
 *   that take part in the same taps of the kernel (stride 1: all of them; stride 2: those of even and odd rows and columns);
 * - where that would waste products, give the gradient one more token, zero, so that the columns that stand for "nothing"
 *   come out of the product and need not be appended to the columns, which are a window's size times larger.
 */
export function adjointWindows(outputs: readonly Tensor[]): Tensor[] {
  return transform(outputs, (node, inputs) => {
    if (node.op !== (gatherSumOperator as Operator)) return undefined;
    const { places } = (node as Node<{ places: Places }>).attrs;
    const product = columnsOf(inputs[0], places);
    if (!product) return undefined;
    const classes = classesOf(places, product.taps);
    if (classes) return [throughWindows(product, classes)];
    return places.index.includes(-1) ? [withZeroToken(product, places)] : undefined;
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

/** Results that take part in the same taps of the kernel. */
interface Class {
  readonly taps: readonly number[];
  /** Which results. */
  readonly results: readonly number[];
}

/** Where each result finds the output of each tap. */
interface Classes {
  readonly all: readonly Class[];
  /** [results, taps]: positions of the gradient, -1 for none. */
  readonly at: Int32Array;
}

/** Share of the products that must be of use: the others are with zeros. */
const DENSE = 0.6;

/** Results by the taps they need; undefined where windows of the gradient are wasteful or ambiguous. */
function classesOf({ to, terms, index }: Places, taps: number): Classes | undefined {
  const at = new Int32Array(to * taps).fill(-1);
  let used = 0;
  for (let i = 0; i < to; i++) {
    for (let j = 0; j < terms; j++) {
      const from = index[i * terms + j];
      if (from < 0) continue;
      const slot = i * taps + (from % taps);
      if (at[slot] >= 0) return undefined;
      at[slot] = Math.floor(from / taps);
      used++;
    }
  }
  const needs = Array.from({ length: to }, (_, i) =>
    Array.from({ length: taps }, (_, tap) => tap).filter((tap) => at[i * taps + tap] >= 0),
  );
  // At the border some taps are missing: such results belong to a class that has theirs and more.
  const largestFirst = [...new Map(needs.map((list) => [list.join(), list])).values()].sort(
    (a, b) => b.length - a.length,
  );
  const all: { taps: number[]; results: number[] }[] = [];
  const home = new Map<string, number>();
  for (const list of largestFirst) {
    const known = all.findIndex((c) => list.every((tap) => c.taps.includes(tap)));
    home.set(list.join(), known >= 0 ? known : all.push({ taps: list, results: [] }) - 1);
  }
  needs.forEach((list, i) => {
    all[home.get(list.join()) as number].results.push(i);
  });
  const done = all.reduce((sum, c) => sum + c.taps.length * c.results.length, 0);
  return used < DENSE * done ? undefined : { all, at };
}

function throughWindows({ gradient, weight, taps }: Columns, { all, at }: Classes): Tensor {
  const [batch, positions, outs] = gradient.shape as readonly [Dim, number, number];
  const width = (weight.shape[0] as number) / taps;
  const turned = transpose(reshape(weight, [taps, width, outs]), [0, 2, 1]);
  // One more token, zero, where any result lacks a tap.
  const missing = all.some((c) => c.results.some((i) => c.taps.some((tap) => at[i * taps + tap] < 0)));
  const source = missing ? withZero(gradient) : gradient;
  const parts = all.map((c) => {
    const count = c.taps.length;
    const index = Int32Array.from(
      c.results.flatMap((i) => c.taps.map((tap) => at[i * taps + tap])),
      (from) => (from < 0 ? positions : from),
    );
    const gathered = gatherSum(source, { from: positions + (missing ? 1 : 0), to: index.length, terms: 1, index });
    const rows =
      count === taps
        ? turned
        : indexSelect(turned, constant({ dtype: 'int32', shape: [count], data: Int32Array.from(c.taps) }), 0);
    const windows = reshape(gathered, [batch, c.results.length, count * outs]);
    return matmul(windows, reshape(rows, [count * outs, width]));
  });
  if (parts.length === 1) return parts[0];
  const order = all.flatMap((c) => c.results);
  const index = new Int32Array(order.length);
  order.forEach((result, i) => {
    index[result] = i;
  });
  return gatherSum(concat(parts, 1), { from: order.length, to: order.length, terms: 1, index });
}

function withZeroToken({ gradient, weight, taps }: Columns, places: Places): Tensor {
  const [batch, positions] = gradient.shape;
  const columns = matmul(withZero(gradient), weight, { transposeB: true });
  const { from, index } = places;
  const padded = { ...places, from: from + taps, index: index.map((at) => (at < 0 ? from : at)) };
  const width = (weight.shape[0] as number) / taps;
  return gatherSum(reshape(columns, [batch, ((positions as number) + 1) * taps, width]), padded);
}

/** With one more token, which is zero. */
function withZero(x: Tensor): Tensor {
  const [batch, , width] = x.shape;
  return concat([x, broadcastTo(constant(0), [batch, 1, width])], 1);
}
