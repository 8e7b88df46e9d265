import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor, int32, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { add, mul, sub } from '../graph/ops/elementwise.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { argmax } from '../graph/ops/reduce.js';
import { constant, input, scope, type Tensor } from '../graph/tensor.js';
import { type Encoder, encoderInputs, type Inputs } from '../methods/method.js';
import { classifierConfig, classifierSpec, classify, poolerConfig } from '../nn/attentive.js';
import { positionTable } from '../nn/positions.js';
import { patchify } from '../nn/vit.js';
import { initialValues, makeModule } from '../nn/weights.js';
import { adamw } from '../optim/adam.js';
import { decayGroups } from '../optim/groups.js';
import { warmupCosine } from '../optim/schedules.js';
import type { Engine } from '../runtime/index.js';
import { type FeatureOptions, feedsOf, pick, sampleBatches, samplesPerRun } from './features.js';
import { type FrozenEncoder, installEncoder } from './frozen.js';

/**
 * The attentive probe of V-JEPA (Bardes et al. 2024, section 4 and appendix): one cross-attention block with a learned query
 * on the tokens of the frozen encoder, and a linear classifier. What a clip shows may be told by a few of its tokens, which
 * their mean hides.
 */
export interface AttentiveSettings {
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

/** As published, but for the batch. */
export const ATTENTIVE_DEFAULTS: AttentiveSettings = {
  epochs: 20,
  leastSteps: 300,
  batchSize: 64,
  lr: 1e-3,
  weightDecay: 0.01,
  clip: 1,
};

/** What is pooled: the tokens of an encoder, or the patches that it would make them of. */
export type TokenSource = 'tokens' | 'patches';

export interface AttentiveOptions {
  readonly source: TokenSource;
  readonly classes: number;
  readonly seed: number;
  readonly settings?: Partial<AttentiveSettings>;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  /** Told of what is left out. */
  readonly note?: (line: string) => void;
}

/** Numbers of tokens kept in memory, at most: a gigabyte. */
const MOST_NUMBERS = 2 ** 28;

/** Whether an encoder's input can be cut into patches without it. */
export const hasPatches = ({ architecture }: Encoder): boolean => architecture.kind === 'vit';

/** Trains the probe on labelled samples; returns the class that it gives to each readable test sample, and which those are. */
export async function attentiveProbe(
  engine: Engine,
  frozen: FrozenEncoder,
  train: Dataset & { readonly labels: Int32Array },
  test: Dataset,
  { source, classes, seed, loading, note, ...options }: AttentiveOptions,
): Promise<{ readonly predictions: Int32Array; readonly indices: Int32Array }> {
  const settings = { ...ATTENTIVE_DEFAULTS, ...options.settings };
  const { encoder } = frozen;
  const tokensOf = (inputs: Inputs): Tensor =>
    source === 'tokens' ? encoder.tokens(inputs) : patchesOf(encoder, inputs);
  const each = sizeOf(tokensOf(encoderInputs(encoder)).shape.slice(1) as number[]);
  const kept = Math.max(1, Math.floor(MOST_NUMBERS / each));
  if (train.length > kept) note?.(`attentive probe: trained on ${kept} of ${train.length} samples, for want of memory`);
  const spread = Int32Array.from({ length: Math.min(kept, train.length) }, (_, i) =>
    Math.floor((i * train.length) / Math.min(kept, train.length)),
  );
  const own = subset(train, spread);
  const seen = await tokenRows(engine, frozen, own, tokensOf, loading);
  const labels = seen.indices.map((i) => own.labels[i]);
  const [n, count, width] = seen.tokens.shape;

  const config = classifierConfig(poolerConfig(width, headsOf(width), { blocks: 'after' }), classes);
  const head = makeModule('probe.', classifierSpec(config));
  const { decay, noDecay } = decayGroups([head]);
  const tensors = [...decay, ...noDecay];
  const state = await engine.createState([...new Set([...tensors, ...head.tensors.values()])]);
  await state.write(initialValues(head, createRandom(seed, 'attentive probe')));
  const { mean, inverse } = statistics(seen.tokens);
  const tokens = input('tokens', ['batch', count, width]);
  const standard = mul(sub(tokens, constant(float32([width], mean))), constant(float32([width], inverse)));
  const logits = scope('probe', () => classify(standard, head.weights, config));
  const loss = crossEntropy(logits, input('labels', ['batch'], 'int32'));
  const program = await engine.compile(
    {
      name: 'attentive probe',
      outputs: { loss },
      update: { loss, rule: adamw(), groups: [decay, noDecay], followers: [] },
    },
    state,
  );
  try {
    const batch = Math.min(settings.batchSize, n);
    const perEpoch = Math.floor(n / batch);
    const steps = Math.max(settings.leastSteps, settings.epochs * perEpoch);
    const rate = warmupCosine({
      startLr: settings.lr,
      refLr: settings.lr,
      finalLr: 0,
      warmupSteps: 0,
      totalSteps: steps,
    });
    const decaying = warmupCosine({
      startLr: settings.weightDecay,
      refLr: settings.weightDecay,
      finalLr: 1e-6,
      warmupSteps: 0,
      totalSteps: steps,
    });
    let order: Int32Array = new Int32Array(0);
    for (let step = 0; step < steps; step++) {
      const at = step % perEpoch;
      if (at === 0) order = createRandom(seed, 'attentive probe', 'order', step).permutation(n);
      const chosen = order.subarray(at * batch, (at + 1) * batch);
      const feeds = {
        tokens: pick(seen.tokens, chosen),
        labels: int32(
          [batch],
          chosen.map((i) => labels[i]),
        ),
      };
      const lr = rate(step + 1);
      const groups = [
        { lr, weightDecay: decaying(step + 1) },
        { lr, weightDecay: 0 },
      ];
      const { finite } = await program.run(feeds, { step: step + 1, groups, momentum: 1, clipNorm: settings.clip });
      if (!finite) {
        throw new JepaError(
          `attentive probe of ${frozen.name}: a value is not finite, first in ${await program.locateNonFinite(feeds)}`,
        );
      }
    }
  } finally {
    await program.close();
  }
  const decide = await engine.compile(
    { name: 'attentive probe: classes', outputs: { classes: argmax(logits, 1) } },
    state,
  );
  const asked = await tokenRows(engine, frozen, test, tokensOf, loading, async (some) => {
    return (await decide.run({ tokens: some })).outputs.classes as HostTensor<'int32'>;
  });
  await decide.close();
  return { predictions: asked.classes, indices: asked.indices };
}

interface TokenRows {
  /** [samples, tokens, width]; empty where they were handed on. */
  readonly tokens: HostTensor<'float32'>;
  readonly indices: Int32Array;
  readonly classes: Int32Array;
}

/** Tokens of a data set, kept or handed on batch by batch. */
async function tokenRows(
  engine: Engine,
  frozen: FrozenEncoder,
  dataset: Dataset,
  tokensOf: (inputs: Inputs) => Tensor,
  loading: AttentiveOptions['loading'],
  handOn?: (tokens: HostTensor<'float32'>) => Promise<HostTensor<'int32'>>,
): Promise<TokenRows> {
  const outputs = { tokens: tokensOf(encoderInputs(frozen.encoder)) };
  const [, ...shape] = outputs.tokens.shape as number[];
  const size = sizeOf(shape);
  const program = await engine.compile(
    { name: `tokens of ${frozen.name}`, outputs },
    await installEncoder(engine, frozen),
  );
  const data = new Float32Array(handOn ? 0 : dataset.length * size);
  const indices: number[] = [];
  const classes: number[] = [];
  try {
    for await (const { fields, indices: read } of sampleBatches(
      dataset,
      frozen.preparation,
      samplesPerRun(frozen),
      loading,
    )) {
      if (read.length === 0) continue;
      const tokens = (await program.run(feedsOf(frozen, fields))).outputs.tokens as HostTensor<'float32'>;
      if (handOn) classes.push(...(await handOn(tokens)).data);
      else data.set(tokens.data, indices.length * size);
      indices.push(...read);
    }
  } finally {
    await program.close();
  }
  const rows = handOn ? 0 : indices.length;
  return {
    tokens: float32([rows, ...shape], data.subarray(0, rows * size)),
    indices: Int32Array.from(indices),
    classes: Int32Array.from(classes),
  };
}

/** What an encoder would embed: its patches as they are, with the positions that it would add. */
function patchesOf({ architecture, inputs, grid }: Encoder, given: Inputs): Tensor {
  if (architecture.kind !== 'vit') throw new JepaError('attentive probe: only a ViT cuts its input into patches');
  const patches = patchify(given[inputs[0].name], architecture);
  const width = patches.shape[2] as number;
  const kind = grid.length === 3 ? 'uniform' : 'column-first';
  const places = width % 4 === 0 ? positionTable(grid, width, kind) : new Float32Array(sizeOf(grid) * width);
  return add(patches, constant(float32([1, sizeOf(grid), width], places)));
}

/** Heads of width 16 and more, as many as divide the width, at most 16. */
function headsOf(width: number): number {
  for (let heads = 16; heads > 1; heads--) if (width % heads === 0 && width / heads >= 16) return heads;
  return 1;
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
