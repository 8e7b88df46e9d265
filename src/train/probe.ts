import { evenly } from '../base/evenly.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { wordsOf } from '../data/modality.js';
import { fewShots, labelShare } from '../data/split.js';
import { type Diagnosis, diagnose } from '../eval/collapse.js';
import { knnVote } from '../eval/knn.js';
import { accuracy } from '../eval/logistic.js';
import { mean, variance } from '../eval/samples.js';
import { alphaReq, lidar, rankme, spectrum } from '../eval/spectrum.js';
import { alignmentUniformity, featureStd } from '../eval/spread.js';
import { createEngine, type Engine } from '../runtime/index.js';
import { type AttentiveOptions, attentiveProbe, hasPatches, type TokenSource } from './attentive.js';
import { extractFeatures, type FeatureOptions, type FeatureSource, pick, rawSource } from './features.js';
import { augmentationOf, type FrozenEncoder, randomEncoder } from './frozen.js';
import { type LabelledDataset, labelledParts, largestLabel } from './labelled.js';
import { type LinearProbe, linearClassifiers, linearProbe, sweepPenalty } from './linear.js';
import { neighboursOnEngine } from './neighbours.js';
import { type Score, scoreOf } from './score.js';

/** The protocol of the k-NN probe (Wu et al. 2018, as DINO reports it). */
const NEIGHBOURS = 20;
const TEMPERATURE = 0.07;
/** Share of the training images on which penalty and form of the linear probe are chosen. */
const HELD_OUT = 0.2;
const SHOTS = 10;
const SHARE = 0.01;

/** A score with what is behind it. */
export interface ClassScores extends Score {
  /** Class given to each test sample. */
  readonly predictions: Int32Array;
  /** Share of each class's test samples that were right; NaN for a class without any. */
  readonly perClass: Float64Array;
  /** [class, given class] counts. */
  readonly confusion: Int32Array;
}

export interface LinearScores extends ClassScores {
  /** What was read: `representation`, or the encoder's wide form by its name (`last 4 layers`). */
  readonly form: string;
  readonly penalty: number;
  /** Accuracy on held-out training images, by which form and penalty were chosen. */
  readonly heldOut: number;
}

/** Accuracy with few labels, over several draws of them. */
export interface FewLabelScores {
  /** `1 %` or `10 a class`. */
  readonly labels: string;
  /** Labelled samples. */
  readonly samples: number;
  readonly mean: number;
  /** Over draws, divisor one less. */
  readonly std: number;
  readonly accuracies: readonly number[];
}

export interface Measures {
  readonly rankme: number;
  readonly width: number;
  /** Of the covariance's eigenvalues (Roy and Vetterli 2007). */
  readonly effectiveRank: number;
  /** Absent where the spectrum is too short for the fit. */
  readonly alphaReq?: number;
  readonly lidar: number;
  readonly featureStd: number;
  readonly meanCosine: number;
  readonly alignment: number;
  readonly uniformity: number;
  readonly diagnosis: Diagnosis;
}

/** Everything measured of one source of features. */
export interface SourceScores {
  readonly name: string;
  readonly features: number;
  readonly linear: LinearScores;
  readonly knn: ClassScores;
  /** Of encoders and of their patches, where it was asked for. */
  readonly attentive?: ClassScores;
  readonly fewLabels: readonly FewLabelScores[];
  /** Linear probes of other things known of the samples, by name. */
  readonly attributes: Readonly<Record<string, Score & { readonly majority: number }>>;
  /** Of encoders only. */
  readonly measures?: Measures;
  readonly seconds: number;
}

export interface ProbeResult {
  readonly classes: readonly string[];
  /** Samples that have a label and could be read. */
  readonly trainSamples: number;
  readonly testSamples: number;
  readonly encoder: SourceScores;
  readonly raw: SourceScores;
  readonly random: SourceScores;
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
  /** Features of the encoder on the test samples, for pictures. */
  readonly testFeatures: HostTensor<'float32'>;
  readonly seconds: number;
}

export interface ProbeOptions {
  readonly encoder: FrozenEncoder;
  readonly train: Dataset;
  readonly test: Dataset;
  /** Default: one of its own, closed at the end. */
  readonly engine?: Engine;
  /** Decides the held-out part, the draws of few labels, augmented views and random weights. Default: 0. */
  readonly seed?: number;
  /** Draws of few labels; 0 leaves that part out. Default: 3. */
  readonly draws?: number;
  /** Also the attentive probe, where tokens can be had without the encoder too. Default: false. */
  readonly attentive?: boolean;
  /** More of each video for the attentive probe (see `AttentiveOptions`). */
  readonly clips?: AttentiveOptions['clips'];
  readonly views?: number;
  /** Also probe the data's attributes. Default: false. */
  readonly attributes?: boolean;
  /** Also RankMe, alpha-ReQ, LiDAR and so on. Default: true. */
  readonly measures?: boolean;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  /** Told what is done next. */
  readonly onStage?: (what: string) => void;
}

/**
 * Measures a frozen encoder on labelled samples: linear probe, k-NN and few labels, beside raw numbers and the same
 * architecture with random weights. Nothing is chosen on the test images. Throws a `JepaError` without labels.
 */
export function probe(options: ProbeOptions): Promise<ProbeResult> {
  return inContext(options, async (context) => {
    const started = performance.now();
    const { encoder, seed, notes, classes } = context;
    const fresh = randomEncoder(encoder, seed);
    const own = await scoresOf(encoder, encoder, 'tokens', context);
    const raw = await scoresOf(rawSource(encoder), encoder, 'patches', context);
    const random = await scoresOf(fresh, fresh, 'tokens', context);
    return {
      classes,
      trainSamples: own.trainSamples,
      testSamples: own.testFeatures.shape[0],
      encoder: own.scores,
      raw: raw.scores,
      random: random.scores,
      notes: [...new Set(notes)],
      testFeatures: own.testFeatures,
      seconds: (performance.now() - started) / 1000,
    };
  });
}

/** The encoder alone, for studies over seeds that have the baselines already. */
export const probeEncoder = (options: ProbeOptions): Promise<SourceScores> =>
  inContext(options, async (context) => (await scoresOf(context.encoder, context.encoder, 'tokens', context)).scores);

/** Opens what probes of labelled samples share, and closes the engine if it is one of theirs. */
async function inContext<T>(options: ProbeOptions, body: (context: Context) => Promise<T>): Promise<T> {
  const { train, test, classes } = labelledParts(options.train, options.test);
  const engine = options.engine ?? (await createEngine());
  try {
    const { seed = 0 } = options;
    // All clips of a video have its label, so that the same samples are left.
    const clips = options.clips?.map((parts) => labelledParts(parts.train, parts.test));
    return await body({ ...options, clips, engine, train, test, seed, notes: [], classes, count: classes.length });
  } finally {
    if (!options.engine) await engine.close();
  }
}

interface Context extends ProbeOptions {
  readonly train: LabelledDataset;
  readonly test: LabelledDataset;
  readonly engine: Engine;
  readonly seed: number;
  readonly notes: string[];
  readonly classes: readonly string[];
  /** Number of classes. */
  readonly count: number;
}

async function scoresOf(
  source: FeatureSource,
  pooled: FrozenEncoder,
  tokens: TokenSource,
  context: Context,
): Promise<{
  readonly scores: SourceScores;
  readonly testFeatures: HostTensor<'float32'>;
  readonly trainSamples: number;
}> {
  const started = performance.now();
  const { engine, count, seed, loading, onStage = () => undefined } = context;
  onStage(`${source.name}: features`);
  const reading = { ...loading, wide: true };
  const trainFeatures = await extractFeatures(engine, source, context.train, reading);
  const testFeatures = await extractFeatures(engine, source, context.test, reading);
  // What of the data sets could be read.
  const train = readable(context.train, trainFeatures.indices);
  const test = readable(context.test, testFeatures.indices);
  const [trainLabels, testLabels] = [train.labels as Int32Array, test.labels as Int32Array];

  onStage(`${source.name}: nearest neighbours`);
  const k = Math.min(NEIGHBOURS, train.length);
  const neighbours = await neighboursOnEngine(engine, trainFeatures.rows, testFeatures.rows, k);
  const knn = classScores(knnVote(neighbours, trainLabels, count, TEMPERATURE).predictions, testLabels, count);

  onStage(`${source.name}: linear probe`);
  const held = labelShare(train, HELD_OUT, seed);
  const plain = await linearProbe(engine, trainFeatures.rows, testFeatures.rows, trainLabels, held, count);
  let linear: Omit<LinearScores, keyof ClassScores> & { readonly predictions: Int32Array };
  let fewLabels: FewLabelScores[];
  let attributes: SourceScores['attributes'];
  try {
    linear = { ...(await plain.scores()), form: 'representation' };
    const form = pooled.encoder.wide?.name;
    if (form && trainFeatures.wide && testFeatures.wide) {
      const wide = await linearProbe(engine, trainFeatures.wide, testFeatures.wide, trainLabels, held, count);
      try {
        if (wide.sweep.accuracy > plain.sweep.accuracy) linear = { ...(await wide.scores()), form };
      } finally {
        await wide.close();
      }
    }
    onStage(`${source.name}: few labels`);
    fewLabels = await fewLabelScores(plain, train, testLabels, context);
    attributes = context.attributes ? await attributeScores(plain, train, test, engine) : {};
  } finally {
    await plain.close();
  }

  const attentive = await attentiveScores(pooled, tokens, context);
  const encoder = 'encoder' in source && context.measures !== false ? source : undefined;
  if (encoder) onStage(`${source.name}: measures`);
  const measures = encoder && (await measure(encoder, testFeatures.rows, test, context));
  const scores = {
    name: source.name,
    features: trainFeatures.rows.shape[1],
    linear: { ...linear, ...classScores(linear.predictions, testLabels, count) },
    knn,
    ...(attentive && { attentive }),
    fewLabels,
    attributes,
    ...(measures && { measures }),
    seconds: (performance.now() - started) / 1000,
  };
  return { scores, testFeatures: testFeatures.rows, trainSamples: train.length };
}

const readable = (dataset: Dataset, indices: Int32Array): Dataset =>
  indices.length === dataset.length ? dataset : subset(dataset, indices);

/** The attentive probe on an encoder's tokens, or on the patches of its input. */
async function attentiveScores(
  frozen: FrozenEncoder,
  source: TokenSource,
  { engine, train, test, count, seed, loading, notes, onStage, attentive = false, clips, views }: Context,
): Promise<ClassScores | undefined> {
  if (!attentive || !hasPatches(frozen.encoder)) return undefined;
  onStage?.(`${source === 'tokens' ? frozen.name : 'patches'}: attentive probe`);
  const note = (line: string): number => notes.push(line);
  const own = { source, classes: count, seed, loading, note, clips, views };
  const { predictions, indices } = await attentiveProbe(engine, frozen, train, test, own);
  return classScores(
    predictions,
    indices.map((i) => test.labels[i]),
    count,
  );
}

function classScores(predictions: Int32Array, labels: Int32Array, count: number): ClassScores {
  const confusion = new Int32Array(count * count);
  for (let i = 0; i < labels.length; i++) confusion[labels[i] * count + predictions[i]]++;
  const perClass = Float64Array.from({ length: count }, (_, c) => {
    const row = confusion.subarray(c * count, (c + 1) * count);
    return row[c] / row.reduce((a, b) => a + b, 0);
  });
  return { ...scoreOf(predictions, labels), predictions, perClass, confusion };
}

/** Linear probes on few labels; the axes are those of all training images, which needs no labels. */
async function fewLabelScores(
  { classifiers, train: rows, test }: LinearProbe,
  train: Dataset,
  testLabels: Int32Array,
  { draws = 3, seed, notes }: Context,
): Promise<FewLabelScores[]> {
  const labels = train.labels as Int32Array;
  const smallest = Math.min(...counts(labels).filter((size) => size > 0));
  const kinds: [string, (draw: number) => Int32Array][] = [
    [`${100 * SHARE} %`, (draw) => labelShare(train, SHARE, seed + draw)],
  ];
  if (smallest >= SHOTS) kinds.push([`${SHOTS} a class`, (draw) => fewShots(train, SHOTS, seed + draw)]);
  else notes.push(`${SHOTS} labels a class: the smallest class has ${smallest} ${wordsOf(train).many}`);
  const results: FewLabelScores[] = [];
  if (draws === 0) return results;
  for (const [name, choose] of kinds) {
    const accuracies: number[] = [];
    let samples = 0;
    for (let draw = 0; draw < draws; draw++) {
      const chosen = choose(draw);
      samples = chosen.length;
      const part = subset(train, chosen);
      const some = pick(rows, chosen);
      const known = part.labels as Int32Array;
      const { classifier } = await sweepPenalty(classifiers, some, known, labelShare(part, HELD_OUT, seed));
      const fitted = await classifiers.fit(some, known, classifier.penalty, { start: classifier.parameters });
      accuracies.push(accuracy(await classifiers.predict(fitted, test), testLabels));
    }
    const std = draws > 1 ? Math.sqrt(variance(accuracies)) : 0;
    results.push({ labels: name, samples, mean: mean(accuracies), std, accuracies });
  }
  return results;
}

function counts(labels: Int32Array): number[] {
  const sizes: number[] = [];
  for (const label of labels) sizes[label] = (sizes[label] ?? 0) + 1;
  return Array.from(sizes, (size) => size ?? 0);
}

/** Penalty of the probes of attributes: there is nothing to choose between encoders by it. */
const ATTRIBUTE_PENALTY = 1e-3;

async function attributeScores(
  { train: rows, test: testRows, variances }: LinearProbe,
  train: Dataset,
  test: Dataset,
  engine: Engine,
): Promise<SourceScores['attributes']> {
  const results: Record<string, Score & { majority: number }> = {};
  for (const [name, values] of Object.entries(train.attributes ?? {})) {
    const wanted = test.attributes?.[name];
    if (!wanted) continue;
    const count = Math.max(largestLabel(values), largestLabel(wanted)) + 1;
    if (count < 2) continue;
    const classifiers = await linearClassifiers(engine, variances, count);
    try {
      const fitted = await classifiers.fit(rows, values, ATTRIBUTE_PENALTY);
      const majority = Math.max(...counts(wanted)) / wanted.length;
      results[name] = { ...scoreOf(await classifiers.predict(fitted, testRows), wanted), majority };
    } finally {
      await classifiers.close();
    }
  }
  return results;
}

// --- measures ---------------------------------------------------------------------------------------------------------

/** Test images that spectra are computed from; more where features are wide. */
const SPECTRUM_ROWS = 2048;
/** Objects and views of LiDAR (the paper has 1000 and 50; what is needed is more of their product than features). */
const OBJECTS = 256;
const VIEWS = 8;

async function measure(
  source: FrozenEncoder,
  rows: HostTensor<'float32'>,
  test: Dataset,
  { engine, seed, loading = {}, notes }: Context,
): Promise<Measures | undefined> {
  const [n, width] = rows.shape;
  if (n < 2) {
    notes.push(`RankMe, LiDAR, cosines: there is one held-out ${wordsOf(test).one}`);
    return undefined;
  }
  const some = pick(rows, evenly(n, Math.max(SPECTRUM_ROWS, 2 * width)));
  const spreads = featureStd(some);
  const { eigenvalues, effectiveRank } = spectrum(some);
  const usable = eigenvalues.findIndex((value) => !(value > 1e-12 * eigenvalues[0]));
  const endIndex = Math.min(100, usable < 0 ? eigenvalues.length : usable);
  if (endIndex < 20) notes.push(`alpha-ReQ of ${source.name}: only ${endIndex} directions have any variance`);

  const objects = subset(test, evenly(test.length, OBJECTS));
  const augmented = { ...loading, preparation: augmentationOf(source), seed, views: VIEWS };
  const { rows: perObject } = await extractFeatures(engine, source, objects, augmented);
  const view = (v: number) =>
    pick(
      perObject,
      Int32Array.from({ length: objects.length }, (_, i) => i * VIEWS + v),
    );
  const signs = {
    featureStd: spreads.normalizedStdTimesSqrtD,
    rankme: rankme(some).value,
    width,
    meanCosine: spreads.meanCosine,
  };
  return {
    ...signs,
    effectiveRank,
    ...(endIndex >= 20 && { alphaReq: alphaReq(some, { endIndex }).alpha }),
    lidar: lidar(float32([objects.length, VIEWS, width], perObject.data)).value,
    ...alignmentUniformity(view(0), view(1)),
    diagnosis: diagnose({ ...signs, samples: some.shape[0] }, source.remedy),
  };
}

// --- result.json ------------------------------------------------------------------------------------------------------

/** Per cent, as `result.json` has them. */
export interface ProbePercent {
  readonly linear: number;
  readonly knn: number;
  readonly attentive?: number;
}

/** The part of `result.json` that a probe fills in. */
export function probePercents({ encoder, raw, random }: Pick<ProbeResult, 'encoder' | 'raw' | 'random'>): {
  readonly probe: ProbePercent;
  readonly raw: ProbePercent;
  readonly random: ProbePercent;
} {
  const percents = ({ linear, knn, attentive }: SourceScores): ProbePercent => ({
    linear: percent(linear.accuracy),
    knn: percent(knn.accuracy),
    ...(attentive && { attentive: percent(attentive.accuracy) }),
  });
  return { probe: percents(encoder), raw: percents(raw), random: percents(random) };
}

const percent = (share: number): number => Math.round(share * 1e4) / 100;
