import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { labelShare } from '../data/split.js';
import { mean } from '../graph/ops/reduce.js';
import type { FutureConfig } from '../masking/future.js';
import type { Forecast } from '../methods/forecast.js';
import { type Method, startingValues } from '../methods/method.js';
import type { Engine, Program } from '../runtime/index.js';
import { buildMethod, evaluationPreparation } from './build.js';
import type { Checkpoint } from './checkpoint.js';
import { type FeatureOptions, sampleBatches } from './features.js';
import { installMethod } from './frozen.js';
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
  /** Of random weights and of what probes draw. Default: 0. */
  readonly seed?: number;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onStage?: (what: string) => void;
}

/** Measures the forecasts of a run; undefined where its method makes none. */
export async function forecastScores(options: ForecastOptions): Promise<ForecastScores | undefined> {
  const { run, onStage } = options;
  const opened = openForecast(options);
  if (!opened) return undefined;
  onStage?.('forecasts');
  const trained = await scoresOf(opened, run.weights, options);
  onStage?.('forecasts with random weights');
  const random = await scoresOf(opened, opened.fresh, options);
  return { future: opened.future, trained, random };
}

/** What a run can say of the future. */
export interface OpenForecast {
  readonly method: Method;
  readonly made: Forecast;
  /** What it predicts, in moments. */
  readonly future: FutureConfig;
  /** Random weights to compare it with. */
  readonly fresh: ReadonlyMap<string, HostTensor<'float32'>>;
}

/** Undefined where the method of the run makes no forecasts. */
export function openForecast({ run: { meta }, future, seed = 0 }: ForecastOptions): OpenForecast | undefined {
  const method = buildMethod(meta.config, meta.facts);
  const made = method.forecast?.(future);
  if (!made) return undefined;
  const [, horizons, tokens] = made.prediction.shape as readonly number[];
  const each = sizeOf(method.encoder.grid.slice(1));
  const [, , seen] = made.inputs.context.shape as readonly number[];
  return {
    method,
    made,
    future: { context: seen / each, segment: tokens / each, horizons },
    fresh: startingValues(method, createRandom(seed, 'random forecast')),
  };
}

/** What a program makes of the readable samples of a data set, batch by batch, shown up to the present. */
export async function* forecastBatches(
  program: Program,
  made: Forecast,
  dataset: Dataset,
  { run: { meta }, loading }: ForecastOptions,
  preparation = evaluationPreparation(meta.config, meta.facts),
): AsyncGenerator<{ readonly outputs: Readonly<Record<string, HostTensor>>; readonly indices: Int32Array }> {
  const { batchSize } = meta.config.train;
  for await (const { fields, indices } of sampleBatches(dataset, preparation, batchSize, loading)) {
    if (indices.length === 0) continue;
    const { outputs } = await program.run({ [made.field]: fields[made.field], ...made.feeds(indices.length) });
    yield { outputs, indices };
  }
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
  { method, made, future: { segment, horizons } }: OpenForecast,
  weights: OpenForecast['fresh'],
  options: ForecastOptions,
): Promise<HorizonScores[]> {
  const { engine } = options;
  const state = await installMethod(engine, method, weights);
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

async function rowsOf(program: Program, made: Forecast, dataset: Dataset, options: ForecastOptions): Promise<Rows> {
  const [, horizons, , width] = made.prediction.shape as readonly number[];
  const pooled: Record<Kind, number[][]> = { prediction: [], persistence: [], target: [] };
  for (const kind of KINDS) for (let h = 0; h < horizons; h++) pooled[kind].push([]);
  const [predicted, persisted] = [0, 1].map(() => new Array<number>(horizons).fill(0));
  const indices: number[] = [];
  for await (const { outputs, indices: read } of forecastBatches(program, made, dataset, options)) {
    const rows = read.length;
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
