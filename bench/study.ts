import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/base/atomic.js';
import { openConfiguredData } from '../src/cli/data.js';
import { readSettings } from '../src/cli/settings.js';
import { latestCheckpoint } from '../src/train/checkpoint.js';
import { trainedEncoder } from '../src/train/frozen.js';
import { probe, probeEncoder, type SourceScores } from '../src/train/probe.js';
import { train } from '../src/train/trainer.js';

/**
 * What recipes learn, as a table: each is trained with several seeds, and its frozen encoder probed beside raw numbers and
 * random weights. A run that is done is not repeated and one that was interrupted goes on, so a long study can be made in
 * several sittings.
 */

const HELP = `npm run study -- [recipe ...] [--minutes 3 | --steps n] [--seeds 0,1,2] [--out runs/study] [--set key=value ...]

Trains each recipe with each seed and prints a table: linear probe and 20 nearest neighbours of the frozen encoder, per cent,
beside raw numbers and random weights. On a machine with other work say --steps: minutes would buy fewer of them.`;

interface Percent {
  readonly linear: number;
  readonly knn: number;
}

interface StudyRun {
  readonly recipe: string;
  readonly seed: number;
  readonly steps: number;
  readonly seconds: number;
  readonly own: Percent;
  /** With the first seed. */
  readonly raw?: Percent;
  readonly random?: Percent;
  readonly rankme?: number;
  readonly width?: number;
  readonly verdict?: string;
}

const percentOf = ({ linear, knn }: SourceScores): Percent => ({
  linear: 100 * linear.accuracy,
  knn: 100 * knn.accuracy,
});

async function studyRun(
  recipe: string,
  seed: number,
  settings: readonly string[],
  folder: string,
  baselines: boolean,
): Promise<StudyRun> {
  const file = join(folder, 'study.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as StudyRun;
  const { config } = readSettings(recipe, [...settings, `train.seed=${seed}`]);
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
    const { last, steps, seconds } = trained;
    const result: StudyRun = {
      recipe,
      seed,
      steps,
      seconds: Math.round(seconds),
      own: percentOf(all ? all.encoder : await probeEncoder(options)),
      ...(all && { raw: percentOf(all.raw), random: percentOf(all.random) }),
      ...(last && { rankme: last.rankme, width: last.width, verdict: last.verdict }),
    };
    writeFileAtomic(file, `${JSON.stringify(result, null, 2)}\n`);
    return result;
  } finally {
    await trained.close();
  }
}

/** Mean of some runs and how far the others lie from it: `80.9 (80.4 to 81.3)`. */
function spread(values: readonly number[]): string {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return values.length === 1 ? mean.toFixed(1) : `${mean.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)})`;
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function table(runs: readonly StudyRun[]): string {
  const lines = [
    row([
      'recipe',
      'seeds',
      'steps',
      'linear',
      '20-NN',
      'RankMe',
      'verdict',
      'raw: linear / 20-NN',
      'random: linear / 20-NN',
    ]),
    row(Array.from({ length: 9 }, () => '---')),
  ];
  const pair = (p: Percent | undefined): string => (p ? `${p.linear.toFixed(1)} / ${p.knn.toFixed(1)}` : '-');
  for (const recipe of new Set(runs.map((run) => run.recipe))) {
    const own = runs.filter((run) => run.recipe === recipe);
    const [first] = own;
    const ranks = own.map(({ rankme, width }) => (rankme === undefined ? '-' : `${rankme.toFixed(0)}/${width}`));
    lines.push(
      row([
        recipe,
        String(own.length),
        [...new Set(own.map(({ steps }) => steps))].join(', '),
        spread(own.map((run) => run.own.linear)),
        spread(own.map((run) => run.own.knn)),
        ranks.join(', '),
        [...new Set(own.map(({ verdict }) => verdict ?? '-'))].join(', '),
        pair(first.raw),
        pair(first.random),
      ]),
    );
  }
  return lines.join('\n');
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
  const recipes = positionals.length > 0 ? positionals : ['quickstart', 'ijepa', 'ijepa-vicreg', 'lejepa'];
  const seeds = values.seeds.split(',').map(Number);
  const length = values.steps ? `train.steps=${values.steps}` : `train.minutes=${values.minutes ?? 3}`;
  const unset = values.steps ? ['train.minutes=null'] : [];
  const name = values.steps ? `${values.steps}-steps` : `${values.minutes ?? 3}-minutes`;
  const runs: StudyRun[] = [];
  for (const recipe of recipes) {
    for (const seed of seeds) {
      const folder = join(values.out, `${recipe}-${name}-${seed}`);
      const run = await studyRun(recipe, seed, [...unset, length, ...values.set], folder, seed === seeds[0]);
      runs.push(run);
      const { own, steps, seconds } = run;
      console.error(
        `${recipe} seed ${seed}: ${own.linear.toFixed(1)} / ${own.knn.toFixed(1)}, ${steps} steps in ${seconds} s`,
      );
    }
  }
  console.log(table(runs));
  process.exit(0);
}
