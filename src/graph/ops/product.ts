import { type Dim, productOf } from '../dims.js';
import {
  apply1,
  broadcastShapes,
  type Node,
  type Operator,
  operatorError,
  requireType,
  staticDim,
  type Tensor,
} from '../tensor.js';
import { add, mul } from './elementwise.js';
import { expandDims, narrow, reshape, transpose } from './move.js';
import { sum, sumTo } from './reduce.js';

/** Products. */

export interface MatmulAttrs {
  readonly transA: boolean;
  readonly transB: boolean;
  /** Factor of the result. */
  readonly alpha: number;
}

const last = (x: Tensor, back: number): Dim => x.shape[x.shape.length - back];

/** A product of the last two axes; the others broadcast. Both inputs have rank 2 or more. */
export const matmulOperator: Operator<MatmulAttrs> = {
  name: 'matmul',
  infer: ([a, b], { transA, transB }) => {
    requireType('matmul', 'float32', a, b);
    if (last(a, transA ? 2 : 1) !== last(b, transB ? 1 : 2)) {
      throw operatorError('matmul', 'inner sizes differ', a, b);
    }
    const batch = (t: Tensor) => ({ dtype: t.dtype, shape: t.shape.slice(0, -2) });
    let lead: Dim[];
    try {
      lead = broadcastShapes('matmul', batch(a), batch(b));
    } catch {
      throw operatorError('matmul', 'batch axes do not broadcast', a, b);
    }
    return [{ dtype: 'float32', shape: [...lead, last(a, transA ? 1 : 2), last(b, transB ? 2 : 1)] }];
  },
  vjp: ({ inputs: [a, b], attrs: { transA, transB, alpha } }: Node<MatmulAttrs>, [grad]) => {
    const g = grad as Tensor;
    const product = (x: Tensor, y: Tensor, tx: boolean, ty: boolean): Tensor =>
      apply1(matmulOperator, [x, y], { transA: tx, transB: ty, alpha });
    const da = transA ? product(b, g, transB, true) : product(g, b, false, !transB);
    let db: Tensor;
    if (b.shape.length === 2 && a.shape.length > 2 && !transA) {
      // A weight: one product over all rows instead of one for each batch entry and a sum.
      const rows = (t: Tensor): Tensor => reshape(t, [productOf(t.shape.slice(0, -1)), last(t, 1)]);
      db = transB ? product(rows(g), rows(a), true, false) : product(rows(a), rows(g), true, false);
    } else {
      db = transB ? product(g, a, true, transA) : product(a, g, !transA, false);
    }
    return [sumTo(da, a.shape), sumTo(db, b.shape)];
  },
  lower: ({ inputs, attrs: { transA, transB, alpha } }, [a, b], emit) => {
    if (!transA && !transB && alpha === 1) return [emit.node('MatMul', [a, b])];
    if (emit.backend === 'cpu' && transA && !transB && alpha === 1 && isWide(inputs)) {
      const turned = (x: string): string => emit.node('Transpose', [x], { perm: [1, 0] });
      const [m, n] = [last(inputs[0], 1), last(inputs[1], 1)];
      return [m <= n ? emit.node('MatMul', [turned(a), b]) : turned(emit.node('MatMul', [turned(b), a]))];
    }
    if (emit.backend !== 'webgpu') {
      const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
      return [emit.node('FusedMatMul', [a, b], attributes, 'com.microsoft')];
    }
    const turned = (name: string, { shape }: Tensor): string =>
      emit.node('Transpose', [name], { perm: [...Array(shape.length - 2).keys(), shape.length - 1, shape.length - 2] });
    const result = emit.node('MatMul', [transA ? turned(a, inputs[0]) : a, transB ? turned(b, inputs[1]) : b]);
    return [alpha === 1 ? result : emit.node('Mul', [result, emit.floats([alpha], [])])];
  },
};

/** Widths from which on the gradient of a weight, a^T b over many rows, is faster with the narrower of the two transposed before. */
const WIDE = 64;
const isWide = (inputs: readonly Tensor[]): boolean =>
  inputs.every((x) => x.shape.length === 2 && typeof x.shape[1] === 'number' && x.shape[1] >= WIDE);

export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly alpha?: number;
}

/**
 * alpha * a b over the last two axes; leading axes broadcast. A vector a is a row, a vector b a column, and that axis is
 * left out of the result.
 */
export function matmul(
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false, alpha = 1 }: MatmulOptions = {},
): Tensor {
  const [ra, rb] = [a.shape.length, b.shape.length];
  if (ra === 0 || rb === 0) throw operatorError('matmul', 'needs inputs of rank 1 or more', a, b);
  if ((transposeA && ra < 2) || (transposeB && rb < 2)) {
    throw operatorError('matmul', 'a vector cannot be transposed', a, b);
  }
  if ((ra === 1 ? a.shape[0] : last(a, transposeA ? 2 : 1)) !== (rb === 1 ? b.shape[0] : last(b, transposeB ? 1 : 2))) {
    throw operatorError('matmul', 'inner sizes differ', a, b);
  }
  const product = apply1(matmulOperator, [ra === 1 ? expandDims(a, 0) : a, rb === 1 ? expandDims(b, 1) : b], {
    transA: transposeA,
    transB: transposeB,
    alpha,
  });
  const shape = product.shape.filter(
    (_, i, all) => !(ra === 1 && i === all.length - 2) && !(rb === 1 && i === all.length - 1),
  );
  return reshape(product, shape);
}

/** x weight^T + bias over the last axis. Shapes: x [..., in], weight [out, in], bias [out]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const all = bias ? [x, weight, bias] : [x, weight];
  if (weight.shape.length !== 2) throw operatorError('linear', 'the weight must be [out, in]', ...all);
  if (x.shape.length === 0 || last(x, 1) !== weight.shape[1]) {
    throw operatorError('linear', "the input's last axis differs from the weight's", ...all);
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== weight.shape[0])) {
    throw operatorError('linear', 'the bias must have one value for each output', ...all);
  }
  const product = matmul(x, weight, { transposeB: true });
  return bias ? add(product, bias) : product;
}

/** a_i b_j of two vectors. */
export function outer(a: Tensor, b: Tensor): Tensor {
  if (a.shape.length !== 1 || b.shape.length !== 1) throw operatorError('outer', 'both inputs must be vectors', a, b);
  return mul(expandDims(a, 1), b);
}

/** `matrix` [out, in] applied along an axis of x, whose size is `in`. */
export function applyAlong(x: Tensor, axis: number, matrix: Tensor): Tensor {
  const rest = x.shape.slice(axis + 1);
  if (rest.length === 0) return matmul(x, matrix, { transposeB: true });
  const flat = reshape(x, [...x.shape.slice(0, axis + 1), productOf(rest)]);
  return reshape(matmul(matrix, flat), x.shape.with(axis, matrix.shape[0]));
}

// Einstein summation -------------------------------------------------------------------------------------------------

/** A tensor whose axes have labels. */
interface Labelled {
  readonly x: Tensor;
  readonly labels: readonly string[];
}

/** Einstein summation with an explicit output and no ellipsis: products over pairs of operands, left to right. */
export function einsum(equation: string, ...inputs: readonly Tensor[]): Tensor {
  const fail = (problem: string): never => {
    throw operatorError('einsum', `${problem} in '${equation}'`, ...inputs);
  };
  const [left, right] = equation.replaceAll(' ', '').split('->');
  if (right === undefined) fail("no '->'");
  const output = [...right];
  const terms = left.split(',').map((term) => [...term]);
  if (terms.length !== inputs.length) fail(`${terms.length} operands expected and ${inputs.length} given`);
  const sizes = new Map<string, Dim>();
  terms.forEach((labels, i) => {
    if (labels.length !== inputs[i].shape.length) fail(`rank of operand ${i} differs from its labels`);
    labels.forEach((label, axis) => {
      const size = inputs[i].shape[axis];
      if (sizes.has(label) && sizes.get(label) !== size) fail(`two sizes of label ${label}`);
      sizes.set(label, size);
    });
  });
  const unknown = output.find((label) => !sizes.has(label));
  if (unknown !== undefined) fail(`output label ${unknown} is in no operand`);
  if (new Set(output).size !== output.length) fail('repeated output label');

  const operands = terms.map((labels, i) => diagonals({ x: inputs[i], labels }));
  let result = summed(operands[0], [...output, ...operands.slice(1).flatMap((o) => o.labels)]);
  operands.slice(1).forEach((operand, i) => {
    const later = [...output, ...operands.slice(i + 2).flatMap((o) => o.labels)];
    result = contract(result, summed(operand, [...later, ...result.labels]), later);
  });
  return arranged(result, output);
}

/** Takes the diagonal of labels that occur twice. */
function diagonals({ x, labels }: Labelled): Labelled {
  const second = labels.findIndex((label, i) => labels.indexOf(label) < i);
  if (second < 0) return { x, labels };
  const first = labels.indexOf(labels[second]);
  const others = labels.map((_, i) => i).filter((i) => i !== first && i !== second);
  const size = staticDim('einsum', x.shape[first], 'a size whose diagonal is taken', x);
  const turned = transpose(x, [...others, first, second]);
  const lead = turned.shape.slice(0, -2);
  const line = narrow(reshape(turned, [...lead, size * size]), lead.length, 0, size, size + 1);
  return diagonals({ x: line, labels: [...others.map((i) => labels[i]), labels[first]] });
}

/** Sums over the labels that nothing else needs. */
function summed({ x, labels }: Labelled, needed: readonly string[]): Labelled {
  const axes = labels.flatMap((label, i) => (needed.includes(label) ? [] : [i]));
  return { x: sum(x, axes), labels: labels.filter((label) => needed.includes(label)) };
}

function arranged({ x, labels }: Labelled, order: readonly string[]): Tensor {
  return transpose(
    x,
    order.map((label) => labels.indexOf(label)),
  );
}

function contract(a: Labelled, b: Labelled, later: readonly string[]): Labelled {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const inner = shared.filter((label) => !later.includes(label));
  const batch = shared.filter((label) => later.includes(label));
  const freeA = a.labels.filter((label) => !shared.includes(label));
  const freeB = b.labels.filter((label) => !shared.includes(label));
  const labels = [...batch, ...freeA, ...freeB];
  if (inner.length === 0) {
    const x = arranged(a, [...batch, ...freeA]);
    const spread = expandDims(
      x,
      freeB.map((_, i) => x.shape.length + i),
    );
    const y = arranged(b, [...batch, ...freeB]);
    return {
      x: mul(
        spread,
        reshape(y, [...y.shape.slice(0, batch.length), ...freeA.map(() => 1), ...y.shape.slice(batch.length)]),
      ),
      labels,
    };
  }
  // Each side as [batch, free, inner] or [batch, inner, free], whichever needs no transposition.
  const side = (t: Labelled, free: readonly string[]): { x: Tensor; innerFirst: boolean; freeShape: Dim[] } => {
    const innerFirst = t.labels.join() === [...batch, ...inner, ...free].join();
    const x = arranged(t, innerFirst ? t.labels : [...batch, ...free, ...inner]);
    const lead = x.shape.slice(0, batch.length);
    const of = (group: readonly string[]): Dim[] => group.map((label) => t.x.shape[t.labels.indexOf(label)]);
    const sizes = [productOf(of(free)), productOf(of(inner))];
    return { x: reshape(x, [...lead, ...(innerFirst ? sizes.reverse() : sizes)]), innerFirst, freeShape: of(free) };
  };
  const l = side(a, freeA);
  const r = side(b, freeB);
  const product = matmul(l.x, r.x, { transposeA: l.innerFirst, transposeB: !r.innerFirst });
  return { x: reshape(product, [...product.shape.slice(0, batch.length), ...l.freeShape, ...r.freeShape]), labels };
}
