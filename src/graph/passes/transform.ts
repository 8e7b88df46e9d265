import { reachable } from '../lower.js';
import { apply, inScope, type Node, type Tensor } from '../tensor.js';

/** Rewrites one node, given its rewritten inputs; undefined keeps it (applied to the new inputs). */
export type Visit = (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined;

/** Rebuilds a graph bottom-up. Nodes whose inputs did not change and which `visit` leaves alone are kept as they are. */
export function transform(outputs: readonly Tensor[], visit: Visit): Tensor[] {
  const replaced = new Map<Tensor, Tensor>();
  for (const node of reachable(outputs)) {
    const inputs = node.inputs.map((t) => replaced.get(t) as Tensor);
    const results = inScope(node.scope, () => visit(node, inputs)) ?? keep(node, inputs);
    node.outputs.forEach((t, i) => {
      replaced.set(t, results[i]);
    });
  }
  return outputs.map((t) => replaced.get(t) as Tensor);
}

/** The node itself, or its operator applied to other inputs, in its scope. */
export function keep(node: Node, inputs: readonly Tensor[]): readonly Tensor[] {
  if (inputs.every((t, i) => t === node.inputs[i])) return node.outputs;
  return inScope(node.scope, () => apply(node.op, inputs, node.attrs));
}
