import type { HostTensor } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import { zeros } from '../../src/graph/ops/elementwise.js';
import { constant, type DType, input, type Tensor } from '../../src/graph/tensor.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { goldenBackend } from './target.js';

export interface LossValues {
  /** What `build` returned, by name. */
  readonly outputs: Readonly<Record<string, HostTensor>>;
  /** Gradients of `loss`, or of the sum of outputs times cotangents, by input. */
  readonly gradients: Readonly<Record<string, HostTensor>>;
}

/** Evaluates a loss built from named inputs, with its gradient for each of `wrt`. */
export async function evaluateLoss(
  inputs: Readonly<Record<string, HostTensor>>,
  build: (inputs: Readonly<Record<string, Tensor>>) => Readonly<Record<string, Tensor>>,
  wrt: readonly string[],
  cotangents?: Readonly<Record<string, HostTensor>>,
): Promise<LossValues> {
  const leaves = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape }]) => [name, input(`input ${name}`, shape, dtype as DType)]),
  );
  const outputs = build(leaves);
  const seeds = cotangents
    ? Object.entries(cotangents).map(([name, ct]) => ({
        output: outputs[name],
        upstream: constant(ct as HostTensor<DType>),
      }))
    : outputs.loss;
  const grads =
    wrt.length === 0
      ? []
      : gradients(
          seeds,
          wrt.map((name) => leaves[name]),
        );
  const named = Object.fromEntries([
    ...Object.entries(outputs).map(([name, t]) => [`out ${name}`, t]),
    ...wrt.map((name, i) => [`grad ${name}`, grads[i] ?? zeros(leaves[name].shape)]),
  ]);
  const feeds = new Map(Object.entries(inputs).map(([name, value]) => [leaves[name], value]));
  const values = await evaluate(named, feeds, { backend: goldenBackend });
  const pick = (prefix: string): Record<string, HostTensor> =>
    Object.fromEntries(
      Object.entries(values).flatMap(([name, v]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), v]] : [])),
    );
  return { outputs: pick('out '), gradients: pick('grad ') };
}
