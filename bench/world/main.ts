import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { table } from '../table.js';
import { forkScores } from './fork.js';
import { shown } from './learn.js';
import { type StraighteningRun, type StraighteningScores, straighteningScores } from './straightening.js';
import { type Scored, type SurpriseScores, surpriseOfRun, surpriseOfStates } from './surprise.js';

/** What world models know besides the way to a goal: several futures, straight paths, what cannot be. */

const HELP = `node dist/bench/world/main.js fork | straightening | surprise [what] [--run folder] [--steps n] [--seeds 0,1,2] [--json]

fork            a cart at a fork in the road: one future beside two
straightening   plans by gradient, carried out to the end: with straightened states and without; [u-maze | two-rooms]
surprise        teleports, passed walls and vanishing dots in Two Rooms; [states | pictures], pictures of a trained run: --run <folder>`;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

type Print = (line: string) => void;

interface Asked {
  readonly steps: number | undefined;
  readonly seeds: readonly number[];
  readonly what: string | undefined;
  readonly run: string | undefined;
}

async function fork(engine: Engine, { steps, seeds }: Asked, print: Print) {
  const runs = [];
  for (const seed of seeds) runs.push({ seed, ...(await forkScores(engine, { steps, seed })) });
  print(
    table(
      [
        'seed',
        'predictor',
        'error / gap',
        'with that along the road',
        'from the middle / half gap',
        'both branches',
        'first future fits',
        'probe / gap',
      ],
      runs.flatMap(({ seed, deterministic, latent }) =>
        Object.entries({ 'one future': deterministic, 'two futures': latent }).map(([name, s]) => [
          seed,
          name,
          percent(s.error),
          percent(s.distance),
          shown(s.fromMiddle),
          percent(s.covered),
          percent(s.first),
          percent(s.probeError),
        ]),
      ),
    ),
  );
  return runs;
}

async function straightening(engine: Engine, { steps = 1500, seeds, what }: Asked, print: Print) {
  const runs: (StraighteningRun & { readonly seed: number })[] = [];
  for (const place of ['u-maze', 'two-rooms'] as const) {
    if (what !== undefined && what !== place) continue;
    for (const seed of seeds) runs.push({ seed, ...(await straighteningScores(engine, place, { steps, seed })) });
  }
  const of = (s: StraighteningScores) => [
    percent(s.success.rate),
    shown(s.distance),
    shown(s.straightness),
    shown(s.rollout, 3),
  ];
  print(
    table(
      ['world', 'seed', 'who', 'success', 'distance at the end', 'straightness', 'error 8 steps ahead'],
      runs.flatMap(({ place, seed, floors, without, ...run }) => [
        [place, seed, 'straightened', ...of(run.with)],
        [place, seed, 'not straightened', ...of(without)],
        ...Object.entries(floors).map(([name, floor]) => [
          ...[place, seed, `floor: ${name}`, percent(floor.rate), shown(floor.distance), '-', '-'],
        ]),
      ]),
    ),
  );
  return runs;
}

async function surprise(engine: Engine, { steps = 1500, seeds, what, run }: Asked, print: Print) {
  const runs: (SurpriseScores & { readonly seed: number })[] = [];
  for (const seed of seeds) {
    if (what !== 'pictures') runs.push({ seed, ...(await surpriseOfStates(engine, { steps, seed })) });
    if (what !== 'states' && run !== undefined) runs.push({ seed, ...(await surpriseOfRun(engine, run, { seed })) });
  }
  const lines = runs.flatMap(({ observe, seed, trained, random, change }) => {
    const of = (who: string, scored: Scored) =>
      Object.entries(scored).map(([event, { auroc, balanced }]) => [
        observe,
        seed,
        event,
        who,
        shown(auroc, 3),
        percent(balanced),
      ]);
    const depths = (who: string, all: Readonly<Record<number, Scored>>) =>
      Object.entries(all).flatMap(([depth, scored]) => of(`${who}, ${depth} ahead`, scored));
    return [...depths('trained', trained), ...depths('random weights', random), ...of('change of frames', change)];
  });
  print(table(['observes', 'seed', 'event', 'surprise of', 'AUROC', 'balanced quadruplets'], lines));
  return runs;
}

const COMMANDS = { fork, straightening, surprise };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    run: { type: 'string' },
    steps: { type: 'string' },
    seeds: { type: 'string', default: '0' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const [name, what] = positionals;
const command =
  name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name as keyof typeof COMMANDS] : undefined;
if (values.help || !command) {
  console.log(HELP);
  process.exit(values.help ? 0 : 2);
}
if (name === 'surprise' && what === 'pictures' && values.run === undefined) {
  console.error('surprise pictures: give the folder of a trained run of two-rooms: --run runs/two-rooms-...');
  process.exit(2);
}
const engine = await createEngine({ workers: availableParallelism() });
const asked = {
  what,
  run: values.run,
  steps: values.steps ? Number(values.steps) : undefined,
  seeds: values.seeds.split(',').map(Number),
};
const result = await command(engine, asked, (text) => values.json || console.log(text));
if (values.json) console.log(JSON.stringify(result, null, 2));
await engine.close();
process.exit(0);
