import { UsageError } from '../base/errors.js';
import { type ModalityWords, wordsOf } from '../data/modality.js';
import { modalityOf } from '../data/plans.js';
import { isActionConditioned } from '../methods/vjepa2-ac.js';
import { formatFixed } from '../report/format.js';
import { createEngine } from '../runtime/index.js';
import { actionScores } from '../train/actions.js';
import { type Anticipated, type AnticipationScores, anticipationScores } from '../train/anticipate.js';
import { buildMethod } from '../train/build.js';
import { type Checkpoint, loadCheckpoint } from '../train/checkpoint.js';
import { type ForecastScores, forecastScores } from '../train/forecast.js';
import { installMethod, openEncoder } from '../train/frozen.js';
import { type LocationResult, type LocationScores, locate as located } from '../train/locate.js';
import { knownBoxes, tubeletOf } from '../train/moments.js';
import { probe as measure, type ProbeResult, probePercents, type SourceScores } from '../train/probe.js';
import type { Score } from '../train/score.js';
import { openConfiguredData } from './data.js';
import { type ClipOptions, dataFor, episodesFor, runOf, severalClips } from './encoder-data.js';
import { showActions } from './finish.js';
import { bold, dim, print, printJson, stages, table } from './output.js';

export interface ProbeCommandOptions extends ClipOptions {
  readonly seed?: number;
  readonly draws?: number;
  /** Clips of each video that the attentive probe sees, and crops of test clips that it averages over. */
  readonly clips?: number;
  readonly views?: number;
  readonly locate?: boolean;
  readonly anticipate?: boolean;
  readonly json?: boolean;
}

/** `jepa probe <encoder> [data]` */
export async function probe(
  path: string,
  named: string | undefined,
  { seed, draws, frames, frameStep, clips: count, views, locate, anticipate, json = false }: ProbeCommandOptions,
): Promise<void> {
  const encoder = openEncoder(path, { frames });
  const folder = runOf(path);
  const run = folder === undefined ? undefined : loadCheckpoint(folder);
  const attentive = modalityOf(encoder.preparation) === 'video';
  if (!attentive && (count ?? views) !== undefined) throw new UsageError('--clips and --views are for videos');
  if (!attentive && (locate || anticipate)) throw new UsageError('--locate and --anticipate are for videos');
  if (anticipate && !run) throw new UsageError(`${path}: --anticipate needs a run, with its predictor`);
  if (run && (await probeActions(path, run, named, json))) return;
  const { train, test } = await dataFor(path, encoder, named, frameStep);
  // Said before everything else is measured.
  if (locate || anticipate) await knownBoxes(train, tubeletOf(encoder.encoder))([0]);
  const clips = count === undefined ? undefined : await severalClips(path, encoder, named, count, frameStep);
  const stage = stages();
  const engine = await createEngine();
  let result: ProbeResult;
  let forecasts: ForecastScores | undefined;
  let places: LocationResult | undefined;
  let anticipated: AnticipationScores | undefined;
  try {
    const asked = { engine, train, test, seed, onStage: stage.show };
    result = await measure({ ...asked, encoder, draws, clips, views, attributes: true, attentive });
    if (run) forecasts = await forecastScores({ ...asked, run });
    if (locate) places = await located({ ...asked, encoder });
    if (run && anticipate) anticipated = await anticipationScores({ ...asked, run });
  } finally {
    stage.end();
    await engine.close();
  }
  if (json) {
    const more = { ...(forecasts && { forecasts }), ...(places && { places }), ...(anticipated && { anticipated }) };
    printJson({ ...plain(path, result), ...more });
    return;
  }
  show(path, result, wordsOf(train));
  if (forecasts) showForecasts(forecasts);
  if (places) showPlaces(places);
  if (anticipated) showAnticipated(anticipated);
}

/** Where the object is, by source. */
function showPlaces({ moments, testSamples, encoder, raw, random, constant }: LocationResult): void {
  const percent = (share: number): string => formatFixed(100 * share, 1);
  const row = (name: string, { iou, found, map }: Partial<LocationScores> & typeof constant): string[] => [
    name,
    percent(iou),
    percent(found),
    map === undefined ? '-' : percent(map),
  ];
  print(`\nWhere the object is at ${moments} moments of ${formatFixed(testSamples, 0)} held-out clips`);
  const head = ['%', 'mean IoU', 'clips with 50 % IoU', 'mAP with the class'];
  const rows = [
    row('this encoder, frozen', encoder),
    row('raw patches', raw),
    row('random weights', random),
    row('always the mean box', constant),
  ];
  print(table([head, ...rows], [1, 2, 3]));
}

/** Where the object will be, by source and horizon. */
function showAnticipated(scores: AnticipationScores): void {
  const { moments, chance } = scores;
  const cell = ({ first, amongFive }: Anticipated): string => `${formatFixed(first, 1)} / ${formatFixed(amongFive, 1)}`;
  const row = (name: string, at: readonly Anticipated[]): string[] => [name, ...at.map(cell)];
  print(
    `\nIn which of 16 fields it will be, from ${scores.future.context} moments: mean-class recall, first / among five, %`,
  );
  const rows = [
    ['moments ahead', ...moments.map(String)],
    row('seen and predicted', scores.predicted),
    row('seen alone', scores.seen),
    row('the future itself', scores.coming),
    row('random weights', scores.random),
    row('raw patches', scores.raw),
    row('persistence: where it is now', scores.persistence),
    row(
      'chance',
      moments.map(() => chance),
    ),
  ];
  print(table(rows, Array.from(rows[0].keys()).slice(1)));
}

/** Of V-JEPA 2-AC: how far ahead it sees. False for other runs. */
async function probeActions(
  path: string,
  { meta: { config, facts }, weights }: Checkpoint,
  named: string | undefined,
  json: boolean,
): Promise<boolean> {
  const method = buildMethod(config, facts);
  if (!isActionConditioned(method)) return false;
  const { test } = await openConfiguredData(episodesFor(config, named));
  const engine = await createEngine();
  try {
    const state = await installMethod(engine, method, weights);
    const scores = await actionScores({ engine, method, state, config, facts, test });
    if (json) printJson({ encoder: path, ...scores });
    else showActions(scores);
  } finally {
    await engine.close();
  }
  return true;
}

/** Errors by distance in time, and what probes find in predictions, beside persistence and the future itself. */
function showForecasts({ future, trained, random }: ForecastScores): void {
  const number = (value: number): string => value.toPrecision(3);
  const percent = (score: Score | undefined): string[] => (score ? [formatFixed(100 * score.accuracy, 1)] : []);
  const classes = trained[0].classes !== undefined;
  const head = ['moments ahead', 'error', 'error of persistence'];
  if (classes) head.push('% right from the prediction', 'from persistence', 'from random weights', 'from the future');
  const rows = trained.map(({ moments, predicted, persisted, classes: found }, h) => [
    String(moments),
    number(predicted),
    number(persisted),
    ...percent(found?.prediction),
    ...percent(found?.persistence),
    ...percent(random[h].classes?.prediction),
    ...percent(found?.target),
  ]);
  print(`\nForecasts from ${future.context} moments, ${future.segment} at a time`);
  print(table([head, ...rows], Array.from(head.keys())));
}

function show(path: string, result: ProbeResult, { many, raw: rawName }: ModalityWords): void {
  const { encoder, raw, random, testSamples, trainSamples, classes, notes } = result;
  const percent = (share: number): string => formatFixed(100 * share, 1);
  const row = (name: string, { linear, knn, attentive, fewLabels, attributes }: SourceScores): string[] => [
    name,
    percent(linear.accuracy),
    percent(knn.accuracy),
    ...(attentive ? [percent(attentive.accuracy)] : []),
    ...fewLabels.map(({ mean }) => percent(mean)),
    ...Object.values(attributes).map(({ accuracy }) => percent(accuracy)),
  ];
  const head = [
    '% correct',
    'linear',
    '20-NN',
    ...(encoder.attentive ? ['attentive'] : []),
    ...encoder.fewLabels.map(({ labels }) => labels),
    ...Object.keys(encoder.attributes),
  ];
  print(
    `${bold(path)}  ${classes.length} classes, ${formatFixed(trainSamples, 0)} training and ${formatFixed(testSamples, 0)} held-out ${many}\n`,
  );
  const rows = [head, row('this encoder, frozen', encoder), row(rawName, raw), row('random weights', random)];
  print(table(rows, Array.from(head.keys()).slice(1)));
  const [low, high] = encoder.linear.interval;
  print(dim(`\n95 % interval of the linear probe: ${percent(low)} to ${percent(high)}`));
  const { measures } = encoder;
  if (measures) {
    const numbers: [string, number | undefined][] = [
      ['RankMe', measures.rankme],
      ['effective rank', measures.effectiveRank],
      ['alpha-ReQ', measures.alphaReq],
      ['LiDAR', measures.lidar],
      ['mean cosine', measures.meanCosine],
    ];
    print(`\n${measures.diagnosis.message}`);
    print(
      numbers.flatMap(([name, value]) => (value === undefined ? [] : `${name} ${value.toPrecision(3)}`)).join('  '),
    );
  }
  for (const note of notes) print(`! not measured: ${note}`);
}

/** Everything as values that JSON can hold; accuracies at the top are per cent, shares inside. */
function plain(path: string, result: ProbeResult): object {
  const { testFeatures: _, encoder, raw, random, ...rest } = result;
  const scores = ({ linear, knn, attentive, ...more }: SourceScores): unknown => {
    const { predictions: _, confusion: __, perClass, ...of } = linear;
    const { predictions: ___, confusion: ____, perClass: _____, ...neighbours } = knn;
    return {
      ...more,
      linear: { ...of, perClass: Array.from(perClass, (share) => (Number.isNaN(share) ? null : share)) },
      knn: neighbours,
      ...(attentive && { attentive: { accuracy: attentive.accuracy, interval: attentive.interval } }),
    };
  };
  return {
    encoder: path,
    ...probePercents(result),
    ...rest,
    scores: { encoder: scores(encoder), raw: scores(raw), random: scores(random) },
  };
}
