import { type ModalityWords, wordsOf } from '../data/modality.js';
import { modalityOf } from '../data/plans.js';
import { formatFixed } from '../report/format.js';
import { openEncoder } from '../train/frozen.js';
import { probe as measure, type ProbeResult, probePercents, type SourceScores } from '../train/probe.js';
import { type ClipOptions, dataFor } from './encoder-data.js';
import { bold, dim, print, printJson, stages, table } from './output.js';

export interface ProbeCommandOptions extends ClipOptions {
  readonly seed?: number;
  readonly draws?: number;
  readonly json?: boolean;
}

/** `jepa probe <encoder> [data]` */
export async function probe(
  path: string,
  named: string | undefined,
  { seed, draws, frames, frameStep, json = false }: ProbeCommandOptions,
): Promise<void> {
  const encoder = openEncoder(path, { frames });
  const { train, test } = await dataFor(path, encoder, named, frameStep);
  const attentive = modalityOf(encoder.preparation) === 'video';
  const stage = stages();
  let result: ProbeResult;
  try {
    result = await measure({ encoder, train, test, seed, draws, attributes: true, attentive, onStage: stage.show });
  } finally {
    stage.end();
  }
  if (json) printJson(plain(path, result));
  else show(path, result, wordsOf(train));
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
function plain(path: string, result: ProbeResult): unknown {
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
