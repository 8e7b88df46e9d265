import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import type { Fields } from '../data/preparation.js';
import { mul, sub } from '../graph/ops/elementwise.js';
import { constant, input, type Tensor } from '../graph/tensor.js';
import { initialValues, type Module } from '../nn/weights.js';
import { adamw } from '../optim/adam.js';
import { decayGroups } from '../optim/groups.js';
import { warmupCosine } from '../optim/schedules.js';
import type { Engine, Program } from '../runtime/index.js';
import { pick } from './features.js';

export interface HeadSettings {
  readonly epochs: number;
  /** Where there are few samples, go on for so many steps. */
  readonly leastSteps: number;
  readonly batchSize: number;
  /** At the start; falls to 0 as a cosine. */
  readonly lr: number;
  readonly weightDecay: number;
  /** Bound on the norm of the gradient. */
  readonly clip: number;
}

/** As V-JEPA's attentive probe is published, but for the batch. */
const HEAD_DEFAULTS: HeadSettings = {
  epochs: 20,
  leastSteps: 300,
  batchSize: 64,
  lr: 1e-3,
  weightDecay: 0.01,
  clip: 1,
};

/** A small network to be trained on the tokens of a frozen encoder, which lie in memory. */
export interface HeadTask {
  /** For messages. */
  readonly name: string;
  readonly module: Module;
  /** [samples, tokens, width] */
  readonly tokens: HostTensor<'float32'>;
  /** What is known of the samples, [samples, ...] each: inputs of `loss` by these names. */
  readonly truth: Fields;
  /** Of standardised tokens [batch, tokens, width]. */
  readonly loss: (tokens: Tensor) => Tensor;
  readonly seed: number;
  readonly settings?: Partial<HeadSettings>;
}

export interface TrainedHead {
  /** Compiles what is wanted of other tokens [samples, tokens, width], given as `tokens`; `outputs` sees them standardised. */
  compile(outputs: Wanted): Promise<Program>;
  /** The same of tokens that lie in memory, some samples after the others. */
  tell(outputs: Wanted, tokens: HostTensor<'float32'>): AsyncGenerator<Readonly<Record<string, HostTensor>>>;
}

type Wanted = (tokens: Tensor) => Readonly<Record<string, Tensor>>;

/** Samples that are told of at a time. */
const CHUNK = 64;

/** Trains a head with AdamW. Throws a `JepaError` where a value is not finite. */
export async function trainHead(engine: Engine, task: HeadTask): Promise<TrainedHead> {
  const { name, module, tokens, truth, seed } = task;
  const settings = { ...HEAD_DEFAULTS, ...task.settings };
  const [n, count, width] = tokens.shape;
  const { decay, noDecay } = decayGroups([module]);
  const state = await engine.createState([...new Set([...decay, ...noDecay, ...module.tensors.values()])]);
  await state.write(initialValues(module, createRandom(seed, name)));
  const { mean, inverse } = statistics(tokens);
  const given = input('tokens', ['batch', count, width]);
  const standard = mul(sub(given, constant(float32([width], mean))), constant(float32([width], inverse)));
  const loss = task.loss(standard);
  const program = await engine.compile(
    { name, outputs: { loss }, update: { loss, rule: adamw(), groups: [decay, noDecay], followers: [] } },
    state,
  );
  try {
    const batch = Math.min(settings.batchSize, n);
    const perEpoch = Math.floor(n / batch);
    const steps = Math.max(settings.leastSteps, settings.epochs * perEpoch);
    const falling = (from: number, to: number) =>
      warmupCosine({ startLr: from, refLr: from, finalLr: to, warmupSteps: 0, totalSteps: steps });
    const [rate, decaying] = [falling(settings.lr, 0), falling(settings.weightDecay, 1e-6)];
    let order: Int32Array = new Int32Array(0);
    for (let step = 0; step < steps; step++) {
      const at = step % perEpoch;
      if (at === 0) order = createRandom(seed, name, 'order', step).permutation(n);
      const chosen = order.subarray(at * batch, (at + 1) * batch);
      const known = Object.entries(truth).map(([key, values]) => [key, pick(values, chosen)]);
      const feeds = { tokens: pick(tokens, chosen), ...Object.fromEntries(known) };
      const lr = rate(step + 1);
      const groups = [
        { lr, weightDecay: decaying(step + 1) },
        { lr, weightDecay: 0 },
      ];
      const { finite } = await program.run(feeds, { step: step + 1, groups, momentum: 1, clipNorm: settings.clip });
      if (!finite)
        throw new JepaError(`${name}: a value is not finite, first in ${await program.locateNonFinite(feeds)}`);
    }
  } finally {
    await program.close();
  }
  const compile = (outputs: Wanted): Promise<Program> =>
    engine.compile({ name: `${name}: outputs`, outputs: outputs(standard) }, state);
  return {
    compile,
    async *tell(outputs, { shape: [all, ...shape], data }) {
      const size = sizeOf(shape);
      const told = await compile(outputs);
      try {
        for (let from = 0; from < all; from += CHUNK) {
          const to = Math.min(all, from + CHUNK);
          const some = float32([to - from, ...shape], data.subarray(from * size, to * size));
          yield (await told.run({ tokens: some })).outputs;
        }
      } finally {
        await told.close();
      }
    },
  };
}

/** Mean and inverse deviation of each number of the tokens. */
function statistics({ shape: [n, count, width], data }: HostTensor<'float32'>): {
  mean: Float32Array;
  inverse: Float32Array;
} {
  const rows = n * count;
  const mean = new Float64Array(width);
  const squares = new Float64Array(width);
  for (let i = 0; i < data.length; i++) mean[i % width] += data[i] / rows;
  for (let i = 0; i < data.length; i++) squares[i % width] += (data[i] - mean[i % width]) ** 2 / rows;
  return {
    mean: Float32Array.from(mean),
    inverse: Float32Array.from(squares, (value) => (value > 1e-12 ? 1 / Math.sqrt(value) : 1)),
  };
}
