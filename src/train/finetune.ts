import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { int32 } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { wordsOf } from '../data/modality.js';
import type { PreparationInput } from '../data/plans.js';
import { fewShots, labelShare } from '../data/split.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { linear } from '../graph/ops/product.js';
import { argmax, mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { encoderInputs, type Inputs } from '../methods/method.js';
import { dropPath } from '../nn/drop-path.js';
import { fillInit, normalInit } from '../nn/transformer.js';
import { vit } from '../nn/vit.js';
import { initialValues, type Module, makeModule } from '../nn/weights.js';
import { adamw } from '../optim/adam.js';
import { decayGroups } from '../optim/groups.js';
import { warmupCosine } from '../optim/schedules.js';
import { createEngine, type Engine, type Feeds } from '../runtime/index.js';
import { extractFeatures, type FeatureOptions, feedsOf, sampleBatches, samplesPerRun } from './features.js';
import { augmentationOf, type FrozenEncoder, randomEncoder } from './frozen.js';
import { type LabelledDataset, labelledParts } from './labelled.js';
import { linearProbe } from './linear.js';
import { type Score, scoreOf } from './score.js';

/** How an encoder and a linear classifier on it are trained with labels (I-JEPA, appendix A.1: AdamW, cosine, layer decay). */
export interface FinetuneSettings {
  readonly epochs: number;
  /** Where there are few labels, go on for so many steps. */
  readonly leastSteps: number;
  readonly batchSize: number;
  readonly lr: number;
  /** Share of the steps over which the rate rises from 0. */
  readonly warmup: number;
  readonly weightDecay: number;
  /** Rate of a layer, relative to the layer after it; the classifier has `lr`. From scratch all layers have `lr`. */
  readonly layerDecay: number;
  readonly labelSmoothing: number;
  /** Largest rate at which residual branches are dropped; ViTs only. */
  readonly dropPath: number;
  /** Bound on the norm of the gradient; 0: none. */
  readonly clip: number;
  /**
   * Where the classifier of the pretrained encoder begins: as the linear probe of the frozen one, so that features are not
   * spoilt while it finds its way (Kumar et al., ICLR 2022), or at random, as in the paper.
   */
  readonly classifier: 'probe' | 'random';
}

export const FINETUNE_DEFAULTS: FinetuneSettings = {
  epochs: 10,
  leastSteps: 300,
  batchSize: 128,
  lr: 1e-3,
  warmup: 0.1,
  weightDecay: 0.05,
  layerDecay: 0.75,
  labelSmoothing: 0.1,
  dropPath: 0,
  clip: 1,
  classifier: 'probe',
};

export interface FinetuneOptions {
  readonly encoder: FrozenEncoder;
  readonly train: Dataset;
  readonly test: Dataset;
  /** Use the labels of a share of the samples (0.01), or of so many of each class. Default: all. */
  readonly labels?: { readonly share: number } | { readonly shots: number };
  readonly settings?: Partial<FinetuneSettings>;
  /** How training samples are augmented. Default: as the encoder was trained. */
  readonly augmentation?: PreparationInput;
  readonly seed?: number;
  readonly engine?: Engine;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onStep?: (info: FinetuneStep) => void;
}

export type Beginning = 'pretrained' | 'scratch';

export interface FinetuneStep {
  readonly from: Beginning;
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  readonly lr: number;
}

/** One training with labels. */
export interface TrainedClassifier extends Score {
  /** Loss of every step. */
  readonly losses: readonly number[];
  readonly encoder: FrozenEncoder;
  /** weight [classes, features], bias [classes]. */
  readonly classifier: { readonly weight: HostTensor<'float32'>; readonly bias: HostTensor<'float32'> };
  readonly seconds: number;
}

export interface FinetuneResult {
  readonly classes: readonly string[];
  /** Labelled samples that were used. */
  readonly trainSamples: number;
  readonly testSamples: number;
  readonly steps: number;
  readonly finetuned: TrainedClassifier;
  /** A linear probe of the encoder as it was, with the same labels. */
  readonly frozen: Score;
  /** The same training from random weights. */
  readonly scratch: TrainedClassifier;
}

/**
 * Trains an encoder further with labels, and beside it what that must be compared with: a linear probe of the frozen
 * encoder on the same labels, and the same architecture from random weights with the same steps. Nothing is chosen by the
 * test samples.
 */
export async function finetune(options: FinetuneOptions): Promise<FinetuneResult> {
  const { encoder, seed = 0, loading } = options;
  const settings = { ...FINETUNE_DEFAULTS, ...options.settings };
  const { train: all, test, classes } = labelledParts(options.train, options.test);
  const train = chosen(all, options.labels, seed);
  const batchSize = Math.min(settings.batchSize, train.length);
  const steps = Math.max(1, settings.leastSteps, Math.round((settings.epochs * train.length) / batchSize));
  const engine = options.engine ?? (await createEngine());
  try {
    const rows = await extractFeatures(engine, encoder, train, loading);
    const testRows = await extractFeatures(engine, encoder, test, loading);
    const labels = rows.indices.map((i) => train.labels[i]);
    const held = labelShare({ ...train, length: labels.length, labels }, HELD_OUT, seed);
    const probe = await linearProbe(engine, rows.rows, testRows.rows, labels, held, classes.length);
    const { predictions, model } = await probe.scores();
    await probe.close();
    const frozen = scoreOf(
      predictions,
      testRows.indices.map((i) => test.labels[i]),
    );

    const task = { ...options, engine, settings, train, test, classes: classes.length, batchSize, steps, seed };
    const first = settings.classifier === 'probe' ? { weight: model.weights, bias: model.intercepts } : undefined;
    const finetuned = await trainClassifier('pretrained', encoder, task, first);
    const plain = { ...task, settings: { ...settings, layerDecay: 1 } };
    const scratch = await trainClassifier('scratch', randomEncoder(encoder, seed), plain);
    return { classes, trainSamples: train.length, testSamples: test.length, steps, finetuned, frozen, scratch };
  } finally {
    if (!options.engine) await engine.close();
  }
}

/** Share of the labelled samples on which the penalty of the frozen probe is chosen. */
const HELD_OUT = 0.2;

function chosen(train: LabelledDataset, labels: FinetuneOptions['labels'], seed: number): LabelledDataset {
  if (!labels) return train;
  const indices = 'share' in labels ? labelShare(train, labels.share, seed) : fewShots(train, labels.shots, seed);
  return subset(train, indices) as LabelledDataset;
}

interface Task extends Omit<FinetuneOptions, 'settings'> {
  readonly engine: Engine;
  readonly settings: FinetuneSettings;
  readonly train: LabelledDataset;
  readonly test: LabelledDataset;
  readonly classes: number;
  readonly batchSize: number;
  readonly steps: number;
  readonly seed: number;
}

async function trainClassifier(
  from: Beginning,
  start: FrozenEncoder,
  task: Task,
  first?: TrainedClassifier['classifier'],
): Promise<TrainedClassifier> {
  const started = performance.now();
  const { engine, settings, train, test, classes, steps, seed, loading = {} } = task;
  const { encoder } = start;
  const head = makeModule(
    'classifier.',
    new Map([
      ['weight', normalInit([classes, encoder.features], 0.01)],
      ['bias', fillInit([classes], 0)],
    ]),
  );
  const { groups, scales, decays } = layerGroups(start, head, settings);
  const ordered = groups.flat();
  const rest = [...encoder.module.tensors.values()].filter((tensor) => !ordered.includes(tensor));
  const state = await engine.createState([...ordered, ...rest]);
  await state.write(start.weights);
  await state.write(
    first
      ? new Map(Object.entries(first).map(([name, value]) => [`${head.prefix}${name}`, value]))
      : initialValues(head, createRandom(seed, 'classifier')),
  );

  const inputs = encoderInputs(encoder);
  const labels = input('labels', ['batch'], 'int32');
  const logitsOf = (features: Tensor): Tensor =>
    scope('classifier', () => linear(features, head.weights('weight'), head.weights('bias')));
  const { features, drop } = trainingFeatures(start, inputs, settings.dropPath);
  const loss = crossEntropy(logitsOf(features), labels, { labelSmoothing: settings.labelSmoothing });
  const program = await engine.compile(
    { name: 'fine-tuning step', outputs: { loss }, update: { loss, rule: adamw(), groups, followers: [] } },
    state,
  );
  const schedule = warmupCosine({
    startLr: 0,
    refLr: settings.lr,
    finalLr: settings.lr / 1000,
    warmupSteps: Math.trunc(settings.warmup * steps),
    totalSteps: steps,
  });
  const loader = await createLoader(train, {
    ...loading,
    batchSize: task.batchSize,
    seed,
    views: [task.augmentation ?? augmentationOf(start)],
  });
  const random = createRandom(seed, 'fine-tuning');
  const losses: number[] = [];
  try {
    for (let step = 1; step <= steps; step++) {
      const batch = await loader.next();
      if (!batch?.labels) throw new JepaError(`${train.name}: the loader gave no labels`);
      const count = batch.labels.length;
      const feeds = {
        ...singleViews(feedsOf(start, batch.views[0])),
        labels: int32([count], batch.labels),
        ...drop?.feeds(count, random.split(step)),
      };
      const lr = schedule(step);
      const hyper = scales.map((scale, i) => ({ lr: lr * scale, weightDecay: decays[i] ? settings.weightDecay : 0 }));
      const clip = settings.clip > 0 ? { clipNorm: settings.clip } : {};
      const { outputs, finite } = await program.run(feeds, { step, groups: hyper, momentum: 1, ...clip });
      const value = Number(outputs.loss.data[0]);
      if (!finite || !Number.isFinite(value)) {
        const where = await program.locateNonFinite(feeds);
        throw new JepaError(
          `fine-tuning stopped at step ${step}: a value is not finite, first in ${where}. Try a lower lr`,
        );
      }
      losses.push(value);
      task.onStep?.({ from, step, steps, loss: value, lr });
      loader.recycle(batch);
    }
  } finally {
    await loader.close();
    await program.close();
  }

  const classify = await engine.compile(
    { name: 'classifier', outputs: { classes: argmax(logitsOf(encoder.represent(inputs)), 1) } },
    state,
  );
  const predictions: number[] = [];
  const wanted: number[] = [];
  for await (const batch of sampleBatches(test, start.preparation, samplesPerRun(start), loading)) {
    if (batch.indices.length === 0) continue;
    const { outputs } = await classify.run(feedsOf(start, batch.fields));
    predictions.push(...(outputs.classes.data as Int32Array));
    wanted.push(...batch.indices.map((i) => test.labels[i]));
  }
  await classify.close();

  const values = await state.read();
  const trained = (name: string): HostTensor<'float32'> => values.get(name) as HostTensor<'float32'>;
  const facts = { ...start.facts, 'fine-tuned': `${train.length} labelled ${wordsOf(train).many}, ${steps} steps` };
  const weights = new Map([...start.weights.keys()].map((name) => [name, trained(name)]));
  return {
    ...scoreOf(Int32Array.from(predictions), Int32Array.from(wanted)),
    losses,
    encoder: { ...start, name: `${start.name}, fine-tuned`, weights, facts },
    classifier: { weight: trained('classifier.weight'), bias: trained('classifier.bias') },
    seconds: (performance.now() - started) / 1000,
  };
}

/** Views of a batch, one a sample: [batch, 1, ...] -> [batch, ...]. */
const singleViews = (views: Feeds): Feeds =>
  Object.fromEntries(
    Object.entries(views).map(
      ([
        name,
        {
          shape: [batch, , ...shape],
          ...rest
        },
      ]) => [name, { ...rest, shape: [batch, ...shape] }],
    ),
  );

/** What the classifier reads while it is trained: as in use, with branches dropped where that is asked for. */
function trainingFeatures({ name, encoder }: FrozenEncoder, inputs: Inputs, rate: number) {
  const { architecture, module } = encoder;
  if (rate === 0) return { features: scope('encoder', () => encoder.represent(inputs)), drop: undefined };
  if (architecture.kind !== 'vit') {
    throw new JepaError(`${name}: drop path needs residual blocks of a ViT; set it to 0 for this encoder`);
  }
  const drop = dropPath(rate, architecture.depth, 1);
  const tokens = scope('encoder', () =>
    vit(inputs[encoder.inputs[0].name], module.weights, architecture, { drop: drop?.factors }),
  );
  return { features: mean(tokens, 1), drop };
}

/** Parameters by layer, with and without weight decay, and the factor on the rate of each group. */
function layerGroups({ encoder }: FrozenEncoder, head: Module, { layerDecay }: FinetuneSettings) {
  const { module } = encoder;
  const blockOf = (name: string): number => Number(/^(?:blocks|stages|model\.layers)\.(\d+)\./.exec(name)?.[1] ?? -1);
  const layers = Math.max(...Array.from(module.tensors.keys(), blockOf)) + 2;
  const layerOf = (name: string): number => {
    if (blockOf(name) >= 0) return blockOf(name) + 1;
    // First what meets the input; the last norm goes with the classifier.
    return /^(patch_embed|stem|model\.embed_tokens)\./.test(name) ? 0 : layers;
  };
  const groups: Tensor[][] = [];
  const scales: number[] = [];
  const decays: boolean[] = [];
  for (let layer = 0; layer <= layers; layer++) {
    const tensors = new Map([...module.tensors].filter(([name]) => layerOf(name) === layer));
    const modules = [{ ...module, tensors }, ...(layer === layers ? [head] : [])];
    const { decay, noDecay } = decayGroups(modules);
    for (const [group, decayed] of [
      [decay, true],
      [noDecay, false],
    ] as const) {
      if (group.length === 0) continue;
      groups.push(group);
      scales.push(layerDecay ** (layers - layer));
      decays.push(decayed);
    }
  }
  return { groups, scales, decays };
}
