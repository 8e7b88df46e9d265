import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { labelShare } from '../data/split.js';
import { mean } from '../graph/ops/reduce.js';
import type { FutureConfig } from '../masking/future.js';
import type { Forecast } from '../methods/forecast.js';
import { type Method, modulesOf, startingValues } from '../methods/method.js';
import type { Engine, Program } from '../runtime/index.js';
import { buildMethod, evaluationPreparation } from './build.js';
import type { Checkpoint } from './checkpoint.js';
import { type FeatureOptions, sampleBatches } from './features.js';
import { labelledParts } from './labelled.js';
import { linearProbe } from './linear.js';
import { type Score, scoreOf } from './score.js';

/**
 * How well a run predicts what comes: the energy of its predictions and linear probes of them, by horizon, beside persistence
 * (what the target encoder makes of the last moment seen, repeated) and the same networks with random weights. Probes of what the
 * target encoder makes of the future itself say what there is to be predicted.
 */
export interface ForecastScores {
  /** In moments of the encoder's grid: tubelets of a clip, columns of patches of a spectrogram. */
  readonly future: FutureConfig;
  readonly trained: readonly HorizonScores[];
  readonly random: readonly HorizonScores[];
}

export interface HorizonScores {
  /** Moments from the end of the context to the end of the segment. */
  readonly moments: number;
  /** Mean energies over the test samples. */
  readonly predicted: number;
  readonly persisted: number;
  /** Linear probes of the class from the mean of the tokens, where there are labels. */
  readonly classes?: Readonly<Record<Kind, Score>>;
}

const KINDS = ['prediction', 'persistence', 'target'] as const;
type Kind = (typeof KINDS)[number];

export interface ForecastOptions {
  readonly engine: Engine;
  readonly run: Pick<Checkpoint, 'meta' | 'weights'>;
  readonly train: Dataset;
  readonly test: Dataset;
  /** By default what the method was trained on, else half of a sample and the rest moment by moment. */
  readonly future?: FutureConfig;
  /** Of random weights and of the held-out part. Default: 0. */
  readonly seed?: number;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onStage?: (what: string) => void;
}

/** Measures the forecasts of a run; undefined where its method makes none. */
export async function forecastScores(options: ForecastOptions): Promise<ForecastScores | undefined> {
  const { run, seed = 0, onStage } = options;
  const method = buildMethod(run.meta.config, run.meta.facts);
  const made = method.forecast?.(options.future);
  if (!made) return undefined;
  const future = futureOf(method, made);
  onStage?.('forecasts');
  const trained = await scoresOf(method, made, run.weights, future, options);
  onStage?.('forecasts with random weights');
  const random = await scoresOf(
    method,
    made,
    startingValues(method, createRandom(seed, 'random forecast')),
    future,
    options,
  );
  return { future, trained, random };
}

/** What a forecast predicts, in moments. */
export function futureOf({ encoder }: Method, { prediction, inputs }: Forecast): FutureConfig {
  const [, horizons, tokens] = prediction.shape as readonly number[];
  const each = encoder.grid.slice(1).reduce((a, b) => a * b, 1);
  const [, , seen] = inputs.context.shape as readonly number[];
  return { context: seen / each, segment: tokens / each, horizons };
}

/** What is known of the samples of a data set, by horizon. */
interface Rows {
  /** Mean energies. */
  readonly predicted: readonly number[];
  readonly persisted: readonly number[];
  /** Means of the tokens of each segment, [samples, width] for each horizon. */
  readonly pooled: Readonly<Record<Kind, readonly HostTensor<'float32'>[]>>;
  readonly indices: Int32Array;
}

async function scoresOf(
  method: Method,
  made: Forecast,
  weights: ReadonlyMap<string, HostTensor<'float32'>>,
  { segment, horizons }: FutureConfig,
  options: ForecastOptions,
): Promise<HorizonScores[]> {
  const { engine } = options;
  const tensors = modulesOf(method).flatMap(({ tensors }) => [...tensors.values()]);
  const state = await engine.createState([...new Set(tensors)], weights);
  const outputs = Object.fromEntries([
    ...KINDS.map((kind) => [kind, mean(made[kind], 2)] as const),
    ...made.predicted.map((energy, h) => [`predicted ${h}`, energy] as const),
    ...made.persisted.map((energy, h) => [`persisted ${h}`, energy] as const),
  ]);
  const program = await engine.compile({ name: `${method.name} forecast`, outputs }, state);
  try {
    const labelled = options.train.labels && options.test.labels && labelledParts(options.train, options.test);
    const test = await rowsOf(program, made, labelled ? labelled.test : options.test, options);
    const classes = labelled && (await probes(program, made, labelled, test, options));
    return Array.from({ length: horizons }, (_, h) => ({
      moments: (h + 1) * segment,
      predicted: test.predicted[h],
      persisted: test.persisted[h],
      ...(classes && { classes: classes[h] }),
    }));
  } finally {
    await program.close();
  }
}

async function rowsOf(
  program: Program,
  made: Forecast,
  dataset: Dataset,
  { run: { meta }, loading }: ForecastOptions,
): Promise<Rows> {
  const preparation = evaluationPreparation(meta.config, meta.facts);
  const [, horizons, , width] = made.prediction.shape as readonly number[];
  const pooled: Record<Kind, number[][]> = { prediction: [], persistence: [], target: [] };
  for (const kind of KINDS) for (let h = 0; h < horizons; h++) pooled[kind].push([]);
  const [predicted, persisted] = [0, 1].map(() => new Array<number>(horizons).fill(0));
  const indices: number[] = [];
  for await (const { fields, indices: read } of sampleBatches(
    dataset,
    preparation,
    meta.config.train.batchSize,
    loading,
  )) {
    const rows = read.length;
    if (rows === 0) continue;
    const { outputs } = await program.run({ [made.field]: fields[made.field], ...made.feeds(rows) });
    for (const kind of KINDS) {
      const { data } = outputs[kind] as HostTensor<'float32'>; // [rows, horizons, width]
      for (let at = 0; at < rows * horizons; at++) {
        for (let k = 0; k < width; k++) pooled[kind][at % horizons].push(data[at * width + k]);
      }
    }
    for (let h = 0; h < horizons; h++) {
      predicted[h] += rows * Number(outputs[`predicted ${h}`].data[0]);
      persisted[h] += rows * Number(outputs[`persisted ${h}`].data[0]);
    }
    indices.push(...read);
  }
  const count = indices.length;
  if (count === 0) throw new JepaError(`${dataset.name}: nothing of it can be read`);
  const tensors = (kind: Kind) => pooled[kind].map((values) => float32([count, width], values));
  return {
    predicted: predicted.map((sum) => sum / count),
    persisted: persisted.map((sum) => sum / count),
    pooled: { prediction: tensors('prediction'), persistence: tensors('persistence'), target: tensors('target') },
    indices: Int32Array.from(indices),
  };
}

/** Share of the training samples on which the penalty of a probe is chosen. */
const HELD_OUT = 0.2;

async function probes(
  program: Program,
  made: Forecast,
  { train, test, classes }: ReturnType<typeof labelledParts>,
  seen: Rows,
  options: ForecastOptions,
): Promise<NonNullable<HorizonScores['classes']>[]> {
  const own = await rowsOf(program, made, train, options);
  const readable = subset(train, own.indices);
  const labels = readable.labels as Int32Array;
  const held = labelShare(readable, HELD_OUT, options.seed ?? 0);
  const wanted = seen.indices.map((i) => test.labels[i]);
  const results: NonNullable<HorizonScores['classes']>[] = [];
  for (let h = 0; h < seen.predicted.length; h++) {
    const scores: [Kind, Score][] = [];
    for (const kind of KINDS) {
      const rows = own.pooled[kind][h];
      const probe = await linearProbe(options.engine, rows, seen.pooled[kind][h], labels, held, classes.length);
      try {
        scores.push([kind, scoreOf((await probe.scores()).predictions, wanted)]);
      } finally {
        await probe.close();
      }
    }
    results.push(Object.fromEntries(scores) as Record<Kind, Score>);
  }
  return results;
}
