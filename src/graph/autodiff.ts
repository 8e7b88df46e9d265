import { shapeText } from './dims.js';
import { reachable } from './lower.js';
import { add } from './ops/elementwise.js';
import { constant, inScope, type Node, operatorError, sameShape, type Tensor } from './tensor.js';

/**
 * Reverse-mode differentiation on the graph. Returns the gradients of sum over outputs of sum(output * upstream) with
 * respect to each tensor of `wrt` (undefined where nothing flows). The result is made of operators: it can be
 * differentiated again. Without upstream an output must be a scalar, with gradient 1.
 */
export function gradients(
  outputs: Tensor | readonly { output: Tensor; upstream: Tensor }[],
  wrt: readonly Tensor[],
): (Tensor | undefined)[] {
  const seeds = Array.isArray(outputs)
    ? (outputs as readonly { output: Tensor; upstream: Tensor }[])
    : [{ output: outputs as Tensor, upstream: unitUpstream(outputs as Tensor) }];

  const order = reachable(seeds.map((seed) => seed.output));
  // Only what lies between `wrt` and the outputs needs a gradient.
  const wanted = new Set<Tensor>(wrt);
  const onPath = new Set<Node>();
  for (const node of order) {
    if (node.outputs.some((t) => wanted.has(t)) || node.inputs.some((t) => onPath.has(t.node))) onPath.add(node);
  }

  const grads = new Map<Tensor, Tensor>();
  const accumulate = (t: Tensor, grad: Tensor): void => {
    const sum = grads.get(t);
    grads.set(t, sum ? add(sum, grad) : grad);
  };
  for (const { output, upstream } of seeds) {
    if (!sameShape(output.shape, upstream.shape)) {
      throw operatorError('gradients', 'the upstream gradient must have the shape of its output', output, upstream);
    }
    accumulate(output, upstream);
  }

  for (const node of order.reverse()) {
    if (!onPath.has(node) || node.inputs.length === 0) continue;
    const upstream = node.outputs.map((t) => grads.get(t));
    if (upstream.every((grad) => grad === undefined)) continue;
    if (!node.inputs.some((t) => onPath.has(t.node))) continue;
    if (!node.op.vjp) throw operatorError(node.op.name, 'has no gradient: it is forward only', ...node.inputs);
    const vjp = node.op.vjp;
    const flows = inScope(node.scope, () => vjp(node, upstream));
    node.inputs.forEach((t, i) => {
      const flow = flows[i];
      if (!flow || !onPath.has(t.node)) return;
      if (!sameShape(flow.shape, t.shape)) {
        throw operatorError(
          node.op.name,
          `its gradient has shape ${shapeText(flow.shape)} (a defect of the operator)`,
          t,
        );
      }
      inScope(node.scope, () => accumulate(t, flow));
    });
  }
  return wrt.map((t) => grads.get(t));
}

function unitUpstream(output: Tensor): Tensor {
  if (output.shape.length > 0) {
    throw operatorError('gradients', 'differentiate a scalar, or give the gradient of every output', output);
  }
  return constant(1);
}
