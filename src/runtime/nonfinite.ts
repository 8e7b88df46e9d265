import type { HostTensor } from '../base/tensor.js';
import { type Backend, reachable } from '../graph/lower.js';
import { mul, sub } from '../graph/ops/elementwise.js';
import { sum } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { evaluate } from './evaluate.js';
import type { Plan } from './plan.js';
import type { Feeds } from './program.js';

/** Values looked at in one go. */
const AT_ONCE = 64;

/**
 * Computes the whole graph again, value by value in its order, and names the first operator that makes something that is
 * not finite from finite inputs: "encoder/blocks.3/mlp: exp". Slow; for the one step that failed.
 */
export async function locateNonFinite(
  plan: Plan,
  feeds: Feeds,
  parameters: ReadonlyMap<string, HostTensor<'float32'>>,
  backend: Backend,
): Promise<string> {
  const given = new Map<Tensor, HostTensor>();
  for (const { name, tensor } of plan.inputs) given.set(tensor, feeds[name]);
  const order = reachable([...plan.whole.outputs, ...plan.whole.gradients]);
  for (const node of order) {
    if (node.op.name !== 'parameter') continue;
    const { name } = node.attrs as { name: string };
    const value = parameters.get(name);
    if (!value) continue;
    given.set(node.outputs[0], value);
    if (!value.data.every(Number.isFinite)) return `parameter ${name}`;
  }
  for (const { name } of plan.inputs) {
    const { data, dtype } = feeds[name];
    if (dtype === 'float32' && !(data as Float32Array).every(Number.isFinite)) return `input ${name}`;
  }
  const suspects = order.flatMap((node) =>
    node.inputs.length === 0 ? [] : node.outputs.filter((t) => t.dtype === 'float32'),
  );
  for (let at = 0; at < suspects.length; at += AT_ONCE) {
    const part = suspects.slice(at, at + AT_ONCE);
    // x - x is 0 for finite x and NaN otherwise; so is the sum of its squares.
    const probes = Object.fromEntries(
      part.map((t, i) => {
        const difference = sub(t, t);
        return [`probe${i}`, sum(mul(difference, difference))];
      }),
    );
    const results = await evaluate(probes, given, { backend });
    const bad = part.findIndex((_, i) => !Number.isFinite(Number(results[`probe${i}`].data[0])));
    if (bad >= 0) {
      const { node } = part[bad];
      return `${node.scope === '' ? 'the graph' : node.scope}: ${node.op.name}`;
    }
  }
  return 'the sum over the batch (each value by itself is finite)';
}
