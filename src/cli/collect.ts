import { statSync } from 'node:fs';
import { JepaError, UsageError } from '../base/errors.js';
import { turn } from '../base/turn.js';
import { writeEpisodes } from '../hub/episodes-node.js';
import { formatBytes, formatFixed } from '../report/format.js';
import { collecting, openCollection, usualBehaviour } from '../world/collect.js';
import type { FactorSettings, World } from '../world/envs/world.js';
import { bold, print, printJson, stages } from './output.js';
import { checkOutputs } from './outputs.js';

export interface CollectCommandOptions {
  readonly out: string;
  readonly episodes: number;
  readonly steps: number;
  readonly behaviour?: string;
  readonly seed: number;
  readonly factor?: readonly string[];
  /** False leaves pictures out. */
  readonly pixels: boolean;
  readonly json?: boolean;
}

/** Most bytes that are held before they are written. */
const MOST_BYTES = 2 ** 31;

/** `jepa collect <env>` */
export async function collect(env: string, options: CollectCommandOptions): Promise<void> {
  const { out, episodes, steps, seed, pixels, json = false } = options;
  if (!/\.(npz|h5|hdf5)$/.test(out)) throw new UsageError(`${out}: episodes are written to .npz, .h5 or .hdf5`);
  if (episodes < 1 || steps < 1) throw new UsageError('--episodes and --steps must be 1 or more');
  const behaviour = options.behaviour ?? usualBehaviour(env);
  const { world, behaviour: acting } = usage(() => openCollection(env, behaviour));
  const { state, action, goal, picture } = world;
  const numbers = state.length + action.length + world.factors.length + goal;
  const bytes = episodes * (steps + 1) * (4 * numbers + (pixels ? picture.reduce((a, b) => a * b) : 0));
  if (bytes > MOST_BYTES)
    throw new UsageError(
      `${formatBytes(bytes)} are more than one file may hold (${formatBytes(MOST_BYTES)}); collect fewer episodes${pixels ? ', or use --no-pixels' : ' or steps'}`,
    );
  await checkOutputs([out]);
  const factors = factorsOf(world, options.factor);
  const stage = stages();
  const started = performance.now();
  try {
    stage.show(`collecting ${formatFixed(episodes, 0)} episodes of ${env}`);
    const work = collecting(world, acting, { episodes, steps, seed, factors, pixels });
    let made = usage(() => work.next());
    while (!made.done) {
      stage.update(`collecting ${formatFixed(episodes, 0)} episodes of ${env}: ${formatFixed(made.value, 0)}`);
      await turn();
      made = usage(() => work.next());
    }
    const table = made.value;
    stage.show(`writing ${out}`);
    await writeEpisodes(out, table);
    const seconds = (performance.now() - started) / 1000;
    const { size } = statSync(out);
    const columns = Object.fromEntries([...table.columns].map(([name, { dtype, shape }]) => [name, { dtype, shape }]));
    stage.end();
    if (json) {
      printJson({ file: out, env, behaviour, episodes, steps, seed, factors, bytes: size, seconds, columns });
      return;
    }
    const rows = formatFixed(episodes * (steps + 1), 0);
    print(
      `${bold(out)}  ${formatFixed(episodes, 0)} episodes of ${formatFixed(steps, 0)} steps in ${env} (${behaviour}), ${rows} rows, ${formatBytes(size)}`,
    );
    for (const [name, { dtype, shape }] of Object.entries(columns)) print(`  ${name}  ${dtype} [${shape.join(', ')}]`);
    print(
      `\nTrain on them: jepa train ${env.startsWith('two-rooms') ? 'two-rooms' : 'two-rooms data.scaling=null'} data.source=${out} data.options=null`,
    );
  } finally {
    stage.end();
  }
}

/** Names that do not exist are mistakes of the command line. */
export function usage<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof JepaError && !(error instanceof UsageError)) throw new UsageError(error.message);
    throw error;
  }
}

/** Factors of a world from `name=value`; `name=draw` draws it anew for every episode. */
export function factorsOf(world: World, given: readonly string[] = []): FactorSettings {
  const settable = world.factors.filter(({ own }) => !own);
  return Object.fromEntries(
    given.map((text) => {
      const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
      const number = Number(value);
      if (name === undefined || (value !== 'draw' && !Number.isFinite(number)))
        throw new UsageError(
          `--factor ${text}: factors are written name=value, as in "door half=2" or "wall half=draw"`,
        );
      if (!settable.some((factor) => factor.name === name))
        throw new UsageError(
          `--factor ${text}: ${world.name} has no factor "${name}" to be set; it has ${settable.map((factor) => `"${factor.name}"`).join(', ') || 'none'}`,
        );
      return [name, value === 'draw' ? null : number];
    }),
  );
}
