import * as host from '../../base/linalg.js';
import { type HostTensor, sizeOf } from '../../base/tensor.js';
import { productOf } from '../dims.js';
import {
  apply1,
  type Operator,
  operatorError,
  staticDim,
  stopGradient,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { abs, add, cast, div, equal, log, mul, neg, sub } from './elementwise.js';
import { iota } from './index.js';
import { broadcastTo, concat, expandDims, narrow, reshape, stack, swapLast } from './move.js';
import { matmul } from './product.js';
import { argmax, sum } from './reduce.js';

/** Linear algebra: inverse and log determinant in the graph, eigenvalues and singular values on the host in double. */

interface Elimination {
  readonly inverse: Tensor;
  /** Absolute values of the pivots, [B, N]. */
  readonly pivots: Tensor;
}

/**
 * Gauss-Jordan elimination of [x | 1] with pivoting, unrolled over the N columns; x is [B, N, N]. Instead of swapping
 * rows, each step picks the largest entry among the rows that were no pivot yet.
 */
function eliminate(x: Tensor, size: number): Elimination {
  const [batch] = x.shape;
  const unit = (index: Tensor): Tensor => cast(equal(expandDims(index, -1), iota(size)), 'float32');
  const identity = unit(iota(size));
  let rows = concat([x, broadcastTo(identity, [batch, size, size])], 2);
  const picks: Tensor[] = [];
  const pivots: Tensor[] = [];
  let used: Tensor | undefined;
  for (let j = 0; j < size; j++) {
    const column = reshape(narrow(rows, 2, j, 1), [batch, size]);
    const candidates = used ? sub(mul(abs(column), sub(1, used)), used) : abs(column);
    const pick = unit(argmax(candidates, 1));
    const pivotRow = matmul(expandDims(pick, 1), rows);
    const pivot = narrow(pivotRow, 2, j, 1);
    // Takes the multiple of the pivot row from every other row, and leaves the scaled pivot row in its place.
    rows = sub(rows, mul(expandDims(sub(column, pick), 2), div(pivotRow, pivot)));
    used = used ? add(used, pick) : pick;
    picks.push(pick);
    pivots.push(reshape(abs(pivot), [batch]));
  }
  return { inverse: matmul(stack(picks, 1), narrow(rows, 2, size, size)), pivots: stack(pivots, 1) };
}

function square(name: string, x: Tensor): { flat: Tensor; size: number } {
  const rank = x.shape.length;
  if (rank < 2 || x.shape[rank - 1] !== x.shape[rank - 2]) throw operatorError(name, 'the matrix is not square', x);
  const size = staticDim(name, x.shape[rank - 1], 'the size of the matrix', x);
  if (size === 0) throw operatorError(name, 'the matrix is empty', x);
  return { flat: reshape(stopGradient(x), [productOf(x.shape.slice(0, -2)), size, size]), size };
}

/** Gives a value that elimination computed (first input) the closed form of its gradient with respect to the second. */
function closedForm(name: string, vjp: (grad: Tensor, x: Tensor, out: Tensor) => Tensor): Operator<null> {
  return {
    name,
    infer: ([value]) => [value],
    vjp: ({ inputs: [, x], outputs: [out] }, [grad]) => [undefined, vjp(grad as Tensor, x, out)],
    lower: (_, [value]) => [value],
  };
}

const inverseOperator = closedForm('inverse', (g, _, y) =>
  neg(matmul(matmul(y, g, { transposeA: true }), y, { transposeB: true })),
);
const logdetOperator = closedForm('logdet', (g, x) => mul(expandDims(g, [-2, -1]), swapLast(inverse(x))));

/** Matrix inverse over the last two axes, of static size. */
export function inverse(x: Tensor): Tensor {
  const { flat, size } = square('inverse', x);
  return apply1(inverseOperator, [reshape(eliminate(flat, size).inverse, x.shape), x], null);
}

/** Log determinant of positive definite matrices over the last two axes, of static size. */
export function logdet(x: Tensor): Tensor {
  const { flat, size } = square('logdet', x);
  const value = reshape(sum(log(eliminate(flat, size).pivots), 1), x.shape.slice(0, -2));
  return apply1(logdetOperator, [value, x], null);
}

// Host functions -----------------------------------------------------------------------------------------------------

/** What an error message needs of a host tensor. */
const shapeOf = ({ shape }: HostTensor): TensorType => ({ dtype: 'float32', shape });

/** Applies a function to each matrix of the last two axes. */
function eachMatrix(
  name: string,
  x: HostTensor,
  length: (rows: number, columns: number) => number,
  values: (m: host.Matrix) => Float64Array,
): HostTensor<'float64'> {
  if ('node' in x) throw operatorError(name, 'is computed on the host and cannot be part of a graph', shapeOf(x));
  if (x.shape.length < 2) throw operatorError(name, 'needs at least two axes', shapeOf(x));
  const lead = x.shape.slice(0, -2);
  const [rows, columns] = x.shape.slice(-2);
  const count = length(rows, columns);
  const out = new Float64Array(sizeOf(lead) * count);
  for (let b = 0; b < sizeOf(lead); b++) {
    const data = Float64Array.from(x.data.slice(b * rows * columns, (b + 1) * rows * columns), Number);
    out.set(values(host.matrix(rows, columns, data)), b * count);
  }
  return { dtype: 'float64', shape: [...lead, count], data: out };
}

/** Eigenvalues of symmetric matrices [.., N, N], ascending, in double. */
export function eigvalsh(x: HostTensor): HostTensor<'float64'> {
  if (x.shape.length >= 2 && x.shape.at(-1) !== x.shape.at(-2)) {
    throw operatorError('eigvalsh', 'the matrix is not square', shapeOf(x));
  }
  return eachMatrix('eigvalsh', x, (n) => n, host.eigvalsh);
}

/** Singular values of matrices [.., M, N], descending, in double. */
export const svdvals = (x: HostTensor): HostTensor<'float64'> => eachMatrix('svdvals', x, Math.min, host.svdvals);
