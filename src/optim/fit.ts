import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import type { Tensor } from '../graph/tensor.js';
import { initialValues, type Module, tensorsOf } from '../nn/weights.js';
import type { Engine, Feeds, Program, State } from '../runtime/program.js';
import type { UpdateRule } from '../runtime/update.js';
import { adam } from './adam.js';

/** A small network with its training program: what critics, policies and examples of energies are learned with. */
export interface Fit {
  readonly state: State;
  /** One update; its outputs. Throws a `JepaError` where the loss is not finite. */
  step(feeds: Feeds): Promise<Readonly<Record<string, HostTensor>>>;
  /** Compiles what else the same parameters should compute. */
  program(name: string, outputs: Readonly<Record<string, Tensor>>): Promise<Program>;
  close(): Promise<void>;
}

export interface FitOptions {
  readonly name: string;
  readonly modules: readonly Module[];
  readonly loss: Tensor;
  /** Returned by `step` beside `loss`. */
  readonly outputs?: Readonly<Record<string, Tensor>>;
  readonly seed: number;
  readonly lr: number;
  readonly weightDecay?: number;
  /** Default: Adam. */
  readonly rule?: UpdateRule;
  /** Parameters that learn; default: the trainable ones of all modules. */
  readonly learn?: readonly Tensor[];
  readonly followers?: readonly { readonly target: Tensor; readonly online: Tensor }[];
  /** Momentum of the followers. */
  readonly momentum?: number;
  readonly clipNorm?: number;
}

/** Starts parameters from the seed and compiles the training program; followers start as copies. */
export async function createFit(engine: Engine, options: FitOptions): Promise<Fit> {
  const { name, modules, loss, outputs = {}, seed, lr, weightDecay = 0, rule = adam(), momentum = 1 } = options;
  const followers = options.followers ?? [];
  const learn =
    options.learn ??
    modules.flatMap(({ spec, tensors }) => [...tensors].filter(([key]) => spec.get(key)?.trainable).map(([, t]) => t));
  const state = await engine.createState(tensorsOf(modules));
  const random = createRandom(seed, name);
  const values = new Map(modules.flatMap((module) => [...initialValues(module, random)]));
  const nameOf = (t: Tensor): string => (t.node.attrs as { readonly name: string }).name;
  for (const { target, online } of followers) {
    const value = values.get(nameOf(online));
    if (!value) throw new JepaError(`${name}: ${nameOf(target)} follows ${nameOf(online)}, which is no parameter here`);
    values.set(nameOf(target), value);
  }
  await state.write(values);
  const training = await engine.compile(
    { name, outputs: { loss, ...outputs }, update: { loss, rule, groups: [learn], followers } },
    state,
  );
  const programs: Program[] = [training];
  let steps = 0;
  return {
    state,
    async step(feeds) {
      steps++;
      const result = await training.run(feeds, {
        step: steps,
        groups: [{ lr, weightDecay }],
        momentum,
        clipNorm: options.clipNorm,
      });
      if (!result.finite)
        throw new JepaError(`${name}: the loss of step ${steps} is not finite; lower the rate ${lr} or scale the data`);
      return result.outputs;
    },
    async program(label, wanted) {
      const program = await engine.compile({ name: `${name}-${label}`, outputs: wanted }, state);
      programs.push(program);
      return program;
    },
    async close() {
      for (const program of programs) await program.close();
    },
  };
}
