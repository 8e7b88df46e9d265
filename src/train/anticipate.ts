import { UsageError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import { float32, type HostTensor, int32, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { createClassRecall } from '../eval/class-recall.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { narrow, reshape } from '../graph/ops/move.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import type { FutureConfig } from '../masking/future.js';
import { type ClassifierConfig, classifierSpec, classifiers, poolerConfig } from '../nn/attentive.js';
import { makeModule } from '../nn/weights.js';
import { headsOf, MOST_NUMBERS, sideBySide, tokensFrom } from './attentive.js';
import { evaluationPreparation } from './build.js';
import { type ForecastOptions, forecastBatches, type OpenForecast, openForecast } from './forecast.js';
import { installMethod } from './frozen.js';
import { type HeadSettings, trainHead } from './head.js';
import { knownBoxes, tubeletOf, wholeFrames } from './moments.js';

/**
 * Action anticipation (V-JEPA 2, section 4.2; EPIC-KITCHENS' measure) on videos that are made: a clip is shown up to some moment,
 * and an attentive probe, with a query for each horizon, tells in which field of the frame the moving object will be. It reads
 * the frozen encoder's tokens of what was seen, and what the frozen predictor makes of the moments to come.
 */

/** Fields along each side of a frame: classes are their squares. */
const SIDE = 4;
const FIELDS = SIDE * SIDE;
/** Best guesses that count. */
const BEST = 5;

/** Mean-class recalls, per cent. */
export interface Anticipated {
  readonly first: number;
  readonly amongFive: number;
}

export interface AnticipationScores {
  readonly future: FutureConfig;
  readonly testSamples: number;
  /** Moments from the end of what was seen to what is told. */
  readonly moments: readonly number[];
  /** By horizon: from what was seen and predicted, from what was seen alone, from the future itself; */
  readonly predicted: readonly Anticipated[];
  readonly seen: readonly Anticipated[];
  readonly coming: readonly Anticipated[];
  /** from the same networks with random weights, and from the patches of what was seen. */
  readonly random: readonly Anticipated[];
  readonly raw: readonly Anticipated[];
  /** Where it is now; the nearest fields where five may be named. */
  readonly persistence: readonly Anticipated[];
  /** Fields at random. */
  readonly chance: Anticipated;
}

export interface AnticipateOptions extends ForecastOptions {
  readonly settings?: Partial<HeadSettings>;
}

/** Measures a run. Throws a `UsageError` where its method predicts no clips, or where it is not known where things are. */
export async function anticipationScores(options: AnticipateOptions): Promise<AnticipationScores> {
  const { run } = options;
  const opened = openForecast(options);
  if (opened?.method.encoder.grid.length !== 3)
    throw new UsageError(
      `${run.meta.config.method.name}: it predicts nothing of clips; anticipation needs a run of V-JEPA or V-JEPA 2`,
    );
  const { method, made, future, fresh } = opened;
  const tokens = tokensOf(opened);
  const tubelet = tubeletOf(method.encoder);
  const boxes = { train: knownBoxes(options.train, tubelet), test: knownBoxes(options.test, tubelet) };
  const own = await rowsOf(opened, run.weights, tokens, boxes, options);
  const { seen, predicted } = tokens;
  const random = await rowsOf(opened, fresh, { seen, predicted }, boxes, options);
  const last = made.start + future.context - 1;
  const moments = Array.from({ length: future.horizons }, (_, h) => (h + 1) * future.segment);
  const at = (rows: Rows, moment: number): Int32Array => fieldsAt(rows, last + moment);
  const truth = moments.map((moment) => ({ train: at(own.train, moment), test: at(own.test, moment) }));
  const told = async (name: string, from: Taken, kinds: readonly string[]): Promise<Anticipated[]> => {
    options.onStage?.(`what comes next, from ${name}`);
    return probes(name, from, kinds, truth, options);
  };
  return {
    future,
    testSamples: own.test.indices.length,
    moments,
    predicted: await told('what was seen and predicted', own, ['seen', 'predicted']),
    seen: await told('what was seen', own, ['seen']),
    coming: await told('the future itself', own, ['coming']),
    random: await told('random weights', random, ['seen', 'predicted']),
    raw: await told('patches', own, ['patches']),
    persistence: truth.map(({ test }) => recalls(nearness(own.test, last), test)),
    chance: { first: 100 / FIELDS, amongFive: (100 * BEST) / FIELDS },
  };
}

type Kinds = Readonly<Record<string, Tensor>>;

/** What probes may read, [batch, tokens, width] each. */
function tokensOf({ method, made, future: { context, segment, horizons } }: OpenForecast) {
  const each = method.encoder.grid[1] * method.encoder.grid[2];
  const joined = (x: Tensor): Tensor => reshape(x, [x.shape[0], horizons * segment * each, x.shape[3]]);
  const patches = tokensFrom(method.encoder, 'patches')({ [made.field]: made.inputs.samples });
  return {
    seen: made.seen,
    predicted: joined(made.prediction),
    coming: joined(made.target),
    patches: narrow(patches, 1, made.start * each, context * each),
  } satisfies Kinds;
}

/** What was read of the samples of a data set. */
interface Rows {
  /** By kind, [samples, tokens, width]. */
  readonly tokens: Readonly<Record<string, HostTensor<'float32'>>>;
  readonly indices: Int32Array;
  /** [samples, moments, 4] */
  readonly boxes: Float32Array;
  readonly moments: number;
}

interface Taken {
  readonly train: Rows;
  readonly test: Rows;
}

async function rowsOf(
  { method, made }: OpenForecast,
  weights: OpenForecast['fresh'],
  kinds: Kinds,
  boxes: Readonly<Record<'train' | 'test', ReturnType<typeof knownBoxes>>>,
  options: AnticipateOptions,
): Promise<Taken> {
  const { engine, run, train, test, onStage } = options;
  onStage?.('clips up to the present');
  const preparation = wholeFrames(evaluationPreparation(run.meta.config, run.meta.facts));
  const state = await installMethod(engine, method, weights);
  const program = await engine.compile({ name: `${method.name} anticipation`, outputs: kinds }, state);
  const sizes = Object.entries(kinds).map(([kind, { shape }]) => [kind, shape.slice(1) as number[]] as const);
  const most = Math.floor(MOST_NUMBERS / sizes.reduce((all, [, shape]) => all + sizeOf(shape), 0));
  const read = async (dataset: Dataset, boxesOf: ReturnType<typeof knownBoxes>): Promise<Rows> => {
    const chosen = evenly(dataset.length, Math.max(1, most));
    const some = subset(dataset, chosen);
    const kept = new Map(sizes.map(([kind, shape]) => [kind, new Float32Array(chosen.length * sizeOf(shape))]));
    const indices: number[] = [];
    for await (const { outputs, indices: own } of forecastBatches(program, made, some, options, preparation)) {
      for (const [kind, shape] of sizes) {
        kept.get(kind)?.set(outputs[kind].data as Float32Array, indices.length * sizeOf(shape));
      }
      indices.push(...own);
    }
    const tokens = sizes.map(([kind, shape]) => {
      const data = kept.get(kind) as Float32Array;
      return [kind, float32([indices.length, ...shape], data.subarray(0, indices.length * sizeOf(shape)))] as const;
    });
    const where = await boxesOf(indices.map((i) => chosen[i]));
    return { tokens: Object.fromEntries(tokens), indices: Int32Array.from(indices), ...where };
  };
  try {
    return { train: await read(train, boxes.train), test: await read(test, boxes.test) };
  } finally {
    await program.close();
  }
}

/** The field in which the middle of each box is at a moment. */
function fieldsAt({ boxes, moments }: Rows, moment: number): Int32Array {
  const along = (value: number): number => Math.min(SIDE - 1, Math.max(0, Math.floor(value * SIDE)));
  return Int32Array.from({ length: boxes.length / 4 / moments }, (_, i) => {
    const at = 4 * (i * moments + moment);
    return SIDE * along(boxes[at + 1]) + along(boxes[at]);
  });
}

/** How near each field is to where the object is at a moment, [samples, fields]; its own field comes first. */
function nearness(rows: Rows, moment: number): HostTensor<'float32'> {
  const { boxes, moments } = rows;
  const now = fieldsAt(rows, moment);
  const data = Float32Array.from({ length: now.length * FIELDS }, (_, i) => {
    const [row, field] = [Math.floor(i / FIELDS), i % FIELDS];
    if (now[row] === field) return 1;
    const at = 4 * (row * moments + moment);
    return -Math.hypot((field % SIDE) + 0.5 - SIDE * boxes[at], Math.floor(field / SIDE) + 0.5 - SIDE * boxes[at + 1]);
  });
  return float32([now.length, FIELDS], data);
}

function recalls(scores: HostTensor<'float32'>, labels: Int32Array): Anticipated {
  const recall = (k: number): number => {
    const measure = createClassRecall(FIELDS, k);
    measure.add(scores, labels);
    return measure.value().recall;
  };
  return { first: recall(1), amongFive: recall(BEST) };
}

/** Trains one probe with a query for each horizon, and tells the fields of the test samples. */
async function probes(
  name: string,
  { train, test }: Taken,
  kinds: readonly string[],
  truth: readonly { readonly train: Int32Array; readonly test: Int32Array }[],
  { engine, seed = 0, settings }: AnticipateOptions,
): Promise<Anticipated[]> {
  const [learned, held] = [train, test].map(({ tokens }) => sideBySide(kinds.map((kind) => tokens[kind])));
  const width = learned.shape[2];
  const config: ClassifierConfig = {
    pooler: poolerConfig(width, headsOf(width), { blocks: 'after', queries: truth.length }),
    heads: Object.fromEntries(truth.map((_, h) => [`horizon ${h}`, FIELDS])),
  };
  const module = makeModule('anticipate.', classifierSpec(config));
  const told = (tokens: Tensor) => scope('probe', () => classifiers(tokens, module.weights, config));
  const labels = truth.map((at, h) => [`fields ${h}`, int32([at.train.length], at.train)] as const);
  const head = await trainHead(engine, {
    name: `anticipation from ${name}`,
    module,
    tokens: learned,
    truth: Object.fromEntries(labels),
    loss: (tokens) => {
      const scores = told(tokens);
      const losses = truth.map((_, h) =>
        crossEntropy(scores[`horizon ${h}`], input(`fields ${h}`, ['batch'], 'int32')),
      );
      return mul(losses.reduce(add), 1 / losses.length);
    },
    seed,
    settings,
  });
  const scores = truth.map((): number[] => []);
  for await (const outputs of head.tell(told, held)) {
    for (const [h, all] of scores.entries()) all.push(...(outputs[`horizon ${h}`].data as Float32Array));
  }
  return scores.map((all, h) => recalls(float32([held.shape[0], FIELDS], all), truth[h].test));
}
