import { transposeOperator } from '../ops/move.js';
import { type MatmulAttrs, matmulOperator } from '../ops/product.js';
import { apply, type Node, type Operator, type Tensor } from '../tensor.js';
import { transform } from './transform.js';

/** A product whose input is the transpose (of the last two axes) of something reads that something the other way round. */
export function absorbTransposes(outputs: readonly Tensor[]): Tensor[] {
  return transform(outputs, (node, [a, b]) => {
    if (node.op !== (matmulOperator as Operator)) return undefined;
    const { transA, transB, alpha } = (node as Node<MatmulAttrs>).attrs;
    const [left, right] = [untransposed(a), untransposed(b)];
    if (!left && !right) return undefined;
    const attrs = { transA: transA !== (left !== undefined), transB: transB !== (right !== undefined), alpha };
    return apply(matmulOperator, [left ?? a, right ?? b], attrs);
  });
}

/** What `x` is the transpose of, where only the last two axes were exchanged. */
function untransposed(x: Tensor): Tensor | undefined {
  if (x.node.op !== (transposeOperator as Operator)) return undefined;
  const { perm } = (x.node as Node<{ perm: readonly number[] }>).attrs;
  const last = perm.length - 1;
  const swaps = perm.every((axis, i) => axis === (i === last ? last - 1 : i === last - 1 ? last : i));
  return swaps ? x.node.inputs[0] : undefined;
}
