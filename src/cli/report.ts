import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { evenly } from '../base/evenly.js';
import { createRandom } from '../base/random.js';
import { float32, sizeOf } from '../base/tensor.js';
import { type Dataset, type ImageDataset, sampleName, subset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { type ModalityWords, wordsOf } from '../data/modality.js';
import { type JsonlLog, readJsonl } from '../hub/jsonl.js';
import type { Architecture } from '../methods/method.js';
import { formatDuration, formatFixed, formatNumber } from '../report/format.js';
import {
  type ClassResults,
  type EmbeddedImages,
  embeddingMap,
  type Fact,
  type Headline,
  type NextStep,
  neighbourRows,
  type ProbeTable,
  type ReportData,
  type Timings,
  type Trace,
  trainingCurves,
  type WrittenFile,
} from '../report/index.js';
import type { Engine, UpdateValues } from '../runtime/index.js';
import { buildMethod, trainingPreparations } from '../train/build.js';
import type { Config } from '../train/config.js';
import { extractFeatures } from '../train/features.js';
import { type FrozenEncoder, installEncoder } from '../train/frozen.js';
import { prepare } from '../train/loop.js';
import type { ProbeResult, SourceScores } from '../train/probe.js';
import { measureProducts } from './machine.js';
import { packageVersion, versionOf } from './package-files.js';
import { insideViews, maskFigure, thumbnails, viewRows } from './pictures.js';
import { METHOD_TITLES, type TrainedRun, titleOf } from './run.js';
import { configText } from './settings.js';

export interface ReportParts {
  readonly run: TrainedRun;
  readonly encoder: FrozenEncoder;
  /** Absent without labels. */
  readonly probes?: ProbeResult;
  readonly files: readonly WrittenFile[];
  readonly next: readonly NextStep[];
  /** Told what is done next. */
  readonly onStage: (what: string) => void;
}

/** Images on the map of embeddings. */
const MAP_IMAGES = 3000;

/** Everything that the report of a finished run shows. */
export async function runReport({ run, encoder, probes, files, next, onStage }: ReportParts): Promise<ReportData> {
  const { config, data, trained } = run;
  const { engine, method } = trained;
  const log = readJsonl(join(run.folder, 'metrics.jsonl'));

  const words = wordsOf(data.train);
  onStage('report: embeddings');
  const chosen = subset(data.test, evenly(data.test.length, MAP_IMAGES));
  const { threads, maxCorrupt } = config.data;
  const { rows, indices } = await extractFeatures(engine, encoder, chosen, { threads, maxCorrupt });
  const shown = subset(chosen, indices);
  const set: EmbeddedImages = {
    embeddings: rows,
    images: await thumbnails(shown, evenly(shown.length, shown.length), encoder),
    labels: shown.labels,
    classNames: shown.classNames,
  };
  onStage('report: map');
  const map = embeddingMap(set, {
    attributes: shown.attributes,
    names: Array.from({ length: shown.length }, (_, i) => {
      const picture = set.images[i];
      return typeof picture === 'string' ? picture : sampleName(shown, i);
    }),
    samples: words.many,
  });
  onStage('report: pictures');
  const state = await installEncoder(engine, encoder);
  const inside = await insideViews(engine, state, encoder, data.test);
  const masks = await maskFigure(config, trained, data.train);
  const views = await viewRows(config, trained, data.train, encoder);
  onStage('report: time by scope');
  const timings = await stepTimings(run, log);
  const last = trained.last;
  return {
    title: `${METHOD_TITLES[config.method.name]} on ${titleOf(data.train)}`,
    method: describeMethod(config),
    samples: words,
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    summary: summary(run, encoder, probes),
    verdict: last && { verdict: last.verdict, message: last.message },
    headline: headline(run, timings, probes),
    probes: probes && probeTable(probes, words),
    map,
    neighbours: neighbourRows(set, queries(shown)),
    ...inside,
    masks,
    views,
    curves: trainingCurves({ ...history(log), width: method.encoder.features, samples: words.many }),
    classes: probes && classResults(probes, words.raw),
    timings,
    next,
    files,
    configuration: configText(config),
    environment: environment(run, engine),
  };
}

// --- words ------------------------------------------------------------------------------------------------------------

function describeMethod(config: Config): string {
  const { method } = config;
  const regularizer = 'regularizer' in method ? method.regularizer.kind : 'none';
  const terms = { none: '', vicreg: ' with variance-covariance terms', sigreg: ' with SIGReg' }[regularizer];
  return `${METHOD_TITLES[method.name]}${terms}`;
}

function summary(
  { config, data, trained, seconds }: TrainedRun,
  { encoder }: FrozenEncoder,
  probes?: ProbeResult,
): string {
  const isFrozen = trained.method.frozen !== undefined;
  const learning = isFrozen ? trained.method.trained : [encoder.module];
  const millions =
    learning.flatMap(({ spec }) => [...spec.values()]).reduce((sum, { shape }) => sum + sizeOf(shape), 0) / 1e6;
  const { many, raw: rawName } = wordsOf(data.train);
  const kind = isFrozen ? 'predictor on a frozen encoder' : ARCHITECTURES[encoder.architecture.kind];
  const seen = Math.min(data.train.length, trained.steps * config.train.batchSize * config.train.accumulate);
  const threads =
    trained.engine.workers > 1 ? `${trained.engine.workers} threads` : `one ${trained.engine.backend} session`;
  const learned = `A ${kind} of ${formatNumber(millions)} million parameters learned from ${formatFixed(seen, 0)} ${many} without their labels in ${formatDuration(seconds)} on ${threads}.`;
  if (!probes) return learned;
  const [own, raw, random] = [probes.encoder, probes.raw, probes.random].map(({ linear }) =>
    percentText(linear.accuracy),
  );
  return `${learned} Frozen, it lets a linear classifier name ${own} of ${formatFixed(probes.testSamples, 0)} held-out ${many} correctly, against ${raw} from ${rawName} and ${random} from the same network with random weights.`;
}

const ARCHITECTURES: Readonly<Record<Architecture['kind'], string>> = {
  vit: 'vision transformer',
  conv: 'convolutional network',
  skeleton: 'skeleton transformer',
  text: 'text transformer',
  llm: 'language model',
  state: 'encoder of observations',
};

const percentText = (share: number): string => `${formatFixed(100 * share, 1)} %`;

function headline({ trained, seconds, config, data }: TrainedRun, timings: Timings, probes?: ProbeResult): Headline[] {
  const { many, raw: rawName } = wordsOf(data.train);
  const over = (of: (scores: SourceScores) => number): Omit<Headline, 'name'> => {
    const points = probes ? 100 * (of(probes.encoder) - of(probes.raw)) : 0;
    const value = probes ? formatFixed(100 * of(probes.encoder), 1) : '';
    return { value, unit: '%', note: `${points < 0 ? '' : '+'}${formatFixed(points, 1)} on ${rawName}` };
  };
  const { last } = trained;
  const share =
    timings.peakFlops && timings.flopsPerStep && timings.stepSeconds
      ? timings.flopsPerStep / timings.stepSeconds / timings.peakFlops
      : undefined;
  return [
    ...(probes
      ? [
          { name: 'Linear probe', ...over(({ linear }) => linear.accuracy) },
          { name: '20-NN', ...over(({ knn }) => knn.accuracy) },
        ]
      : []),
    ...(last ? [{ name: 'RankMe', value: formatNumber(last.rankme), unit: `of ${last.width}` }] : []),
    {
      name: 'Training',
      value: formatDuration(seconds),
      note: `${formatFixed(trained.steps, 0)} steps of ${formatFixed(config.train.batchSize * config.train.accumulate, 0)}`,
    },
    ...(timings.samplesPerSecond
      ? [
          {
            name: 'Speed',
            value: formatFixed(timings.samplesPerSecond, 0),
            unit: `${many}/s`,
            note: share && `${formatFixed(100 * share, 0)} % of the matrix peak`,
          },
        ]
      : []),
  ].map((one) => ({ ...one, note: one.note || undefined }));
}

// --- tables -----------------------------------------------------------------------------------------------------------

function probeTable(
  { encoder, raw, random, classes, testSamples, trainSamples, notes }: ProbeResult,
  { many, raw: rawName }: ModalityWords,
): ProbeTable {
  const names = { own: 'this encoder', raw: rawName, random: 'random weights' };
  const rows = (of: (scores: SourceScores) => { accuracy: number; interval?: readonly [number, number] }) =>
    (
      [
        ['own', encoder],
        ['raw', raw],
        ['random', random],
      ] as const
    ).map(([key, scores]) => {
      const { accuracy, interval } = of(scores);
      return {
        encoder: names[key],
        value: 100 * accuracy,
        interval: interval && ([100 * interval[0], 100 * interval[1]] as const),
      };
    });
  const few = encoder.fewLabels.map(({ labels, samples, accuracies }, i) => ({
    name: labels.endsWith('%') ? `${labels} of the labels` : `${labels.replace(' a class', '')} labels a class`,
    note: `A linear classifier that sees ${formatFixed(samples, 0)} labels; mean of ${accuracies.length} draws, whiskers from the lowest to the highest.`,
    results: rows(({ fewLabels }) => ({
      accuracy: fewLabels[i].mean,
      interval: [Math.min(...fewLabels[i].accuracies), Math.max(...fewLabels[i].accuracies)] as const,
    })),
  }));
  const attributes = Object.entries(encoder.attributes).map(([name, { majority }]) => ({
    name: `Linear: ${name}`,
    note: `Another thing known of the ${many}; always guessing the commoner answer is right for ${percentText(majority)}.`,
    results: rows((scores) => scores.attributes[name]),
  }));
  const { form } = encoder.linear;
  const read = form === 'representation' ? 'the encoder’s representation' : `its ${form}, side by side`;
  return {
    note: `Accuracy in naming ${classes.length} classes in ${formatFixed(testSamples, 0)} held-out ${many}; the encoder is frozen, labels of ${formatFixed(trainSamples, 0)} training ${many} are used by the probes alone.${notes.length > 0 ? ` Not measured: ${notes.join('; ')}.` : ''}`,
    probes: [
      { name: 'Linear', note: `A linear classifier on ${read}.`, results: rows(({ linear }) => linear) },
      {
        name: '20 nearest neighbours',
        note: `No training at all: a vote of the most similar training ${many}.`,
        results: rows(({ knn }) => knn),
      },
      ...(encoder.attentive
        ? [
            {
              name: 'Attentive',
              note: 'A learned query attends to all tokens; beside it the same on patches of the input and on random weights.',
              results: rows(({ attentive, linear }) => attentive ?? linear),
            },
          ]
        : []),
      ...few,
      ...attributes,
    ],
  };
}

function classResults({ classes, encoder, raw }: ProbeResult, rawName: string): ClassResults {
  const n = classes.length;
  const confusion = Array.from({ length: n }, (_, i) =>
    Array.from(encoder.linear.confusion.subarray(i * n, (i + 1) * n)),
  );
  return {
    names: classes,
    confusion,
    baseline: { name: rawName, accuracy: Array.from(raw.linear.perClass, (share) => 100 * share) },
  };
}

/** Images whose neighbours are shown: of different classes, where there are classes. */
function queries({ length, labels }: Pick<Dataset, 'length' | 'labels'>, count = 6): number[] {
  const seen = new Set<number>();
  const chosen: number[] = [];
  // A step without a common divisor with most lengths: neither the first classes only nor always the same kind of file.
  for (let i = 0, at = 0; i < length && chosen.length < count; i++, at = (at + 1009) % length) {
    const label = labels?.[at] ?? i;
    if (seen.has(label) || chosen.includes(at)) continue;
    seen.add(label);
    chosen.push(at);
  }
  return chosen;
}

// --- numbers ----------------------------------------------------------------------------------------------------------

const TRACES = {
  loss: 'loss',
  lr: 'learningRate',
  featureStd: 'featureStd',
  rankme: 'rankme',
  meanCosine: 'meanCosine',
  energyMatched: 'energyMatched',
  energyShuffled: 'energyShuffled',
  knn: 'knn',
  samplesPerSecond: 'samplesPerSecond',
} as const;

/** Curves of everything that was logged. */
function history({ records }: JsonlLog): Partial<Record<(typeof TRACES)[keyof typeof TRACES], Trace>> {
  const traces: Partial<Record<string, { x: number[]; y: number[] }>> = {};
  for (const { step, ...values } of records) {
    for (const [key, name] of Object.entries(TRACES)) {
      if (typeof values[key] !== 'number') continue;
      traces[name] ??= { x: [], y: [] };
      traces[name].x.push(Number(step));
      traces[name].y.push(values[key]);
    }
  }
  return traces;
}

/** Runs of the profiled step. */
const PROFILED = 3;

/** What a step costs, and where the time goes: a step on a real batch, profiled on a copy of the weights' memory. */
async function stepTimings({ config, data, trained, peakBytes }: TrainedRun, { records }: JsonlLog): Promise<Timings> {
  const { engine } = trained;
  const method = buildMethod(config, trained.facts);
  const { state, program, pair, initial } = await prepare(method, config, engine);
  await state.write(initial);
  const preparations = trainingPreparations(config, trained.facts, method.views.length);
  const loader = await createLoader(data.train, {
    batchSize: config.train.batchSize,
    views: method.views.map((count, kind) => ({ count, ...preparations[kind] })),
    threads: 0,
    maxCorrupt: config.data.maxCorrupt,
  });
  const batch = await loader.next();
  await loader.close();
  const remembered = Object.entries(method.memory ?? {}).map(([name, { input }]) => {
    const shape = input.shape as readonly number[];
    return [name, float32(shape, new Float32Array(sizeOf(shape)))] as const;
  });
  const own = method.feeds(batch ?? { views: [] }, createRandom(config.train.seed, 'profile'));
  const feeds = { ...own, ...Object.fromEntries(remembered) };
  const hyper = { lr: 0, weightDecay: 0 };
  const update: UpdateValues = { step: 1, groups: [hyper, hyper], momentum: 1 };
  const { scopes } = await program.profile(feeds, PROFILED, update);
  const flops = program.flops(feeds) * config.train.accumulate;
  await program.close();
  await pair.close();
  const speeds = records
    .flatMap(({ samplesPerSecond }) => (typeof samplesPerSecond === 'number' ? [samplesPerSecond] : []))
    .sort((a, b) => a - b);
  const samplesPerSecond = speeds.length > 0 ? speeds[speeds.length >> 1] : undefined;
  return {
    scopes: joinBlocks(scopes),
    of: 'one training step, by the kernels',
    samplesPerSecond,
    stepSeconds: samplesPerSecond && (config.train.batchSize * config.train.accumulate) / samplesPerSecond,
    flopsPerStep: flops,
    peakFlops: await measureProducts(engine),
    peakBytes,
  };
}

/** `encoder/blocks.0`, `encoder/blocks.1`, ... as one. */
function joinBlocks(scopes: readonly { readonly name: string; readonly milliseconds: number }[]): Timings['scopes'] {
  const sums = new Map<string, number>();
  for (const { name, milliseconds } of scopes) {
    const joined = name.replace(/\.\d+(?=\/|$)/g, '');
    sums.set(joined, (sums.get(joined) ?? 0) + milliseconds / 1000);
  }
  return Array.from(sums, ([name, seconds]) => ({ name, seconds })).sort((a, b) => b.seconds - a.seconds);
}

function environment({ config, data, trained }: TrainedRun, { backend, workers }: Engine): Fact[] {
  const { train, test, origin } = data;
  const runtime = backend === 'wasm' ? 'onnxruntime-web' : 'onnxruntime-node';
  const { size: sides, channels } = train as Partial<ImageDataset>;
  const size = sides ? ` of ${sides.width} × ${sides.height}` : '';
  const depth = channels === undefined ? '' : `, ${channels} channel${channels > 1 ? 's' : ''}`;
  return [
    {
      name: 'Data',
      value: `${titleOf(train)}: ${formatFixed(train.length, 0)} ${wordsOf(train).many}${size}${depth}; ${formatFixed(test.length, 0)} held out${origin === 'made' ? ' by a hash of their names' : ''}`,
    },
    {
      name: 'Machine',
      value: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} threads, ${formatNumber(totalmem() / 2 ** 30)} GiB, ${process.platform} ${process.arch}`,
    },
    {
      name: 'Software',
      value: `jepa ${packageVersion()}, Node ${process.versions.node}, ${runtime} ${versionOf(runtime)}`,
    },
    { name: 'Execution', value: `${backend}, ${workers} worker${workers > 1 ? 's' : ''}` },
    { name: 'Length', value: `${formatFixed(trained.steps, 0)} steps` },
    { name: 'Seed', value: String(config.train.seed) },
  ];
}
