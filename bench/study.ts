import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/base/atomic.js';
import { openConfiguredData } from '../src/cli/data.js';
import { readSettings } from '../src/cli/settings.js';
import type { Dataset } from '../src/data/dataset.js';
import type { SampleSplits } from '../src/data/samples-node.js';
import type { VideoFrames } from '../src/data/video/dataset.js';
import type { Engine } from '../src/runtime/index.js';
import { latestCheckpoint, loadCheckpoint } from '../src/train/checkpoint.js';
import type { Config } from '../src/train/config.js';
import { forecastScores } from '../src/train/forecast.js';
import { trainedEncoder } from '../src/train/frozen.js';
import { probe, probeEncoder, type SourceScores } from '../src/train/probe.js';
import { train } from '../src/train/trainer.js';
import { table } from './table.js';

/**
 * What recipes learn, as a table: each is trained with several seeds, and its frozen encoder probed beside raw numbers and
 * random weights. A run that is done is not repeated and one that was interrupted goes on, so a long study can be made in
 * several sittings.
 */

const HELP = `npm run study -- [recipe or study ...] [--minutes 3 | --steps n] [--seeds 0,1,2] [--out runs/study] [--set key=value ...]

Trains each recipe with each seed and prints tables: linear probe, 20 nearest neighbours and, of videos, attentive probe of the
frozen encoder, per cent, beside raw numbers and random weights (and beside itself shown a single frame of each clip); and of
recipes that predict what comes, what probes find in the predictions. On a machine with other work say --steps: minutes would buy
fewer of them. Studies are lists of recipes with settings: modalities, masks, ahead.`;

/** A recipe with settings of its own. */
interface Variant {
  /** In the table, and in names of folders. */
  readonly name: string;
  readonly recipe: string;
  readonly settings: readonly string[];
}

const plain = (recipe: string): Variant => ({ name: recipe, recipe, settings: [] });
const masked = (name: string, masks: string): Variant => ({
  name: `vjepa, ${name}`,
  recipe: 'vjepa',
  settings: [`method.masks=[${masks}]`],
});

const STUDIES: Readonly<Record<string, readonly Variant[]>> = {
  modalities: ['vjepa', 'vjepa2', 'audio-jepa', 's-jepa', 'text-jepa'].map(plain),
  /** One kind of masks each; a small context is a quarter of the tokens, a large one three quarters. */
  masks: [
    masked('blocks, small context', '{ blocks: 1, spatialScale: [0.75, 0.75] }'),
    masked('blocks, large context', '{ blocks: 1, spatialScale: [0.25, 0.25] }'),
    masked('tubes, small context', '{ kind: tubes, ratio: 0.75 }'),
    masked('tubes, large context', '{ kind: tubes, ratio: 0.25 }'),
    masked('random a frame, small context', '{ kind: random, ratio: 0.75 }'),
    masked('random a frame, large context', '{ kind: random, ratio: 0.25 }'),
  ],
  ahead: [
    plain('vjepa-ahead'),
    {
      name: 'audio-jepa, future',
      recipe: 'audio-jepa',
      settings: ['method.masks={ kind: future, context: 3, segment: 1, horizons: 3 }'],
    },
  ],
};

interface Percent {
  readonly linear: number;
  readonly knn: number;
  readonly attentive?: number;
}

/** Classes told from the mean of the tokens of what comes, per cent, and mean energies. */
interface Ahead {
  readonly moments: number;
  readonly predicted: number;
  readonly persisted: number;
  readonly prediction?: number;
  readonly persistence?: number;
  readonly random?: number;
  readonly target?: number;
}

interface StudyRun {
  readonly recipe: string;
  readonly seed: number;
  readonly steps: number;
  readonly seconds: number;
  readonly own: Percent;
  /** With the first seed of a recipe; `single`: the encoder itself, shown one frame of each clip in the place of all. */
  readonly raw?: Percent;
  readonly random?: Percent;
  readonly single?: Percent;
  readonly ahead?: readonly Ahead[];
  readonly rankme?: number;
  readonly width?: number;
  readonly verdict?: string;
}

const percentOf = ({ linear, knn, attentive }: SourceScores): Percent => ({
  linear: 100 * linear.accuracy,
  knn: 100 * knn.accuracy,
  ...(attentive && { attentive: 100 * attentive.accuracy }),
});

/** The middle frame of every clip, in the place of all its frames. */
function singleFrames(clips: Dataset): Dataset {
  return {
    ...clips,
    source: undefined,
    read: async (index, random) => {
      const clip = (await clips.read(index, random)) as VideoFrames;
      const size = clip.data.length / clip.frames;
      const middle = Math.floor(clip.frames / 2);
      const data = new Uint8Array(clip.data.length);
      for (let frame = 0; frame < clip.frames; frame++)
        data.set(clip.data.subarray(middle * size, (middle + 1) * size), frame * size);
      return { ...clip, data };
    },
  };
}

/** Whether a recipe is trained to predict what comes. */
const looksAhead = ({ method }: Config): boolean =>
  ('future' in method && method.future !== undefined) ||
  (method.name === 'audio-jepa' && method.masks.kind === 'future');

async function studyRun(
  { name, recipe, settings: own }: Variant,
  seed: number,
  settings: readonly string[],
  folder: string,
  baselines: boolean,
): Promise<StudyRun> {
  const file = join(folder, 'study.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as StudyRun;
  const { config } = readSettings(recipe, [...own, ...settings, `train.seed=${seed}`]);
  const data = await openConfiguredData(config);
  const resume = latestCheckpoint(join(folder, 'checkpoint')) !== undefined;
  if (!resume) rmSync(folder, { recursive: true, force: true });
  const trained = await train({ config, dataset: data.train, heldOut: data.test, folder, resume });
  try {
    const options = {
      encoder: await trainedEncoder(trained, config, recipe),
      ...{ train: data.train, test: data.test, engine: trained.engine, seed, draws: 0, measures: false },
      attentive: config.data.kind === 'video',
    };
    const all = baselines ? await probe(options) : undefined;
    const [first, held] = [singleFrames(data.train), singleFrames(data.test)];
    const single =
      all && config.data.kind === 'video' ? await probeEncoder({ ...options, train: first, test: held }) : undefined;
    const { last, steps, seconds } = trained;
    const result: StudyRun = {
      recipe: name,
      seed,
      steps,
      seconds: Math.round(seconds),
      own: percentOf(all ? all.encoder : await probeEncoder(options)),
      ...(all && { raw: percentOf(all.raw), random: percentOf(all.random) }),
      ...(single && { single: percentOf(single) }),
      ...(looksAhead(config) && { ahead: await aheadOf(folder, data, trained.engine, seed) }),
      ...(last && { rankme: last.rankme, width: last.width, verdict: last.verdict }),
    };
    writeFileAtomic(file, `${JSON.stringify(result, null, 2)}\n`);
    return result;
  } finally {
    await trained.close();
  }
}

async function aheadOf(folder: string, data: SampleSplits, engine: Engine, seed: number): Promise<Ahead[]> {
  const run = loadCheckpoint(join(folder, 'checkpoint'));
  const scores = await forecastScores({ engine, run, train: data.train, test: data.test, seed });
  return (scores?.trained ?? []).map(({ moments, predicted, persisted, classes }, h) => ({
    moments,
    predicted,
    persisted,
    ...(classes && {
      prediction: 100 * classes.prediction.accuracy,
      persistence: 100 * classes.persistence.accuracy,
      target: 100 * classes.target.accuracy,
    }),
    ...(scores?.random[h].classes && { random: 100 * scores.random[h].classes.prediction.accuracy }),
  }));
}

/** Mean of some runs and how far the others lie from it: `80.9 (80.4 to 81.3)`. */
function spread(values: readonly number[]): string {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return values.length === 1 ? mean.toFixed(1) : `${mean.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)})`;
}

function resultTable(runs: readonly StudyRun[]): string {
  const head = [
    'recipe',
    'seeds',
    'steps',
    'linear',
    '20-NN',
    'attentive',
    'RankMe',
    'verdict',
    'raw',
    'random',
    'one frame',
  ];
  const rows: string[][] = [];
  const of = (values: readonly (number | undefined)[]): string => {
    const known = values.filter((value) => value !== undefined);
    return known.length > 0 ? spread(known) : '-';
  };
  const all = (p: Percent | undefined): string =>
    p
      ? [p.linear, p.knn, p.attentive].flatMap((value) => (value === undefined ? [] : value.toFixed(1))).join(' / ')
      : '-';
  for (const recipe of new Set(runs.map((run) => run.recipe))) {
    const own = runs.filter((run) => run.recipe === recipe);
    const [first] = own;
    const ranks = own.map(({ rankme, width }) => (rankme === undefined ? '-' : `${rankme.toFixed(0)}/${width}`));
    rows.push([
      recipe,
      String(own.length),
      [...new Set(own.map(({ steps }) => steps))].join(', '),
      of(own.map((run) => run.own.linear)),
      of(own.map((run) => run.own.knn)),
      of(own.map((run) => run.own.attentive)),
      ranks.join(', '),
      [...new Set(own.map(({ verdict }) => verdict ?? '-'))].join(', '),
      all(first.raw),
      all(first.random),
      all(first.single),
    ]);
  }
  return table(head, rows);
}

/** What probes find in predictions, by distance in time. */
function aheadTable(runs: readonly StudyRun[]): string {
  const head = [
    'recipe',
    'moments ahead',
    'error / of persistence',
    'prediction',
    'persistence',
    'random weights',
    'the future itself',
  ];
  const rows: string[][] = [];
  for (const recipe of new Set(runs.map((run) => run.recipe))) {
    const own = runs.flatMap((run) => (run.recipe === recipe && run.ahead ? [run.ahead] : []));
    for (const [h, { moments }] of (own[0] ?? []).entries()) {
      const of = (value: (at: Ahead) => number | undefined): string => {
        const known = own.flatMap((ahead) => value(ahead[h]) ?? []);
        return known.length > 0 ? spread(known) : '-';
      };
      const ratio = own.map((ahead) => ahead[h].predicted / ahead[h].persisted);
      rows.push([
        recipe,
        String(moments),
        ratio.map((value) => value.toFixed(2)).join(', '),
        of((at) => at.prediction),
        of((at) => at.persistence),
        of((at) => at.random),
        of((at) => at.target),
      ]);
    }
  }
  return table(head, rows);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      minutes: { type: 'string' },
      steps: { type: 'string' },
      seeds: { type: 'string', default: '0,1,2' },
      out: { type: 'string', default: 'runs/study' },
      set: { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    process.exit(0);
  }
  const wanted = positionals.length > 0 ? positionals : ['quickstart', 'ijepa', 'ijepa-vicreg', 'lejepa'];
  const variants = wanted.flatMap((name) => (Object.hasOwn(STUDIES, name) ? STUDIES[name] : [plain(name)]));
  const seeds = values.seeds.split(',').map(Number);
  const length = values.steps ? `train.steps=${values.steps}` : `train.minutes=${values.minutes ?? 3}`;
  const unset = values.steps ? ['train.minutes=null'] : [];
  // Other settings are other runs.
  const changed =
    values.set.length > 0 ? `-${createHash('sha256').update(values.set.join('\n')).digest('hex').slice(0, 8)}` : '';
  const lasting = values.steps ? `${values.steps}-steps` : `${values.minutes ?? 3}-minutes`;
  const runs: StudyRun[] = [];
  /** Recipes whose raw numbers and random weights are known: they are those of all its variants. */
  const known = new Set<string>();
  for (const variant of variants) {
    for (const seed of seeds) {
      const file = variant.name.replace(/[^a-z0-9-]+/g, '-');
      const folder = join(values.out, `${file}-${lasting}${changed}-${seed}`);
      const run = await studyRun(variant, seed, [...unset, length, ...values.set], folder, !known.has(variant.recipe));
      runs.push(run);
      known.add(variant.recipe);
      const { own, steps, seconds } = run;
      const found = [own.linear, own.knn, own.attentive].flatMap((value) =>
        value === undefined ? [] : value.toFixed(1),
      );
      console.error(`${variant.name} seed ${seed}: ${found.join(' / ')}, ${steps} steps in ${seconds} s`);
    }
  }
  console.log(resultTable(runs));
  if (runs.some(({ ahead }) => ahead)) console.log(`\n${aheadTable(runs)}`);
  process.exit(0);
}
