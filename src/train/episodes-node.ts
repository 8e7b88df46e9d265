import { JepaError } from '../base/errors.js';
import { isCount } from '../base/json.js';
import { withTurns } from '../base/turn.js';
import type { EpisodeReading } from '../data/episodes/dataset.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import type { SampleSplits } from '../data/samples-node.js';
import { splitByHash } from '../data/split.js';
import type { VideoDataset } from '../data/video/dataset.js';
import { openEpisodes } from '../hub/episodes-node.js';
import { WORLDS } from '../world/envs/index.js';
import type { FactorSettings } from '../world/envs/world.js';
import { type WorldEpisodeOptions, worldEpisodes } from '../world/episodes.js';
import { worldVideos } from '../world/videos.js';

/** Episodes to open, as they stand in a configuration. */
export interface EpisodeSpec extends EpisodeReading {
  /** `procedural:<world>`, or a file that `jepa collect` wrote. */
  readonly source: string;
  readonly test?: string;
  readonly options?: Readonly<Record<string, unknown>>;
}

/** Episodes of a procedural set unless it is said. */
const COUNT = 16384;
const VIDEOS = 4096;
/** Held-out episodes have other seeds: so far from those of training that no set reaches them. */
export const TEST_SEED = 1_000_000_007;
/** And so far are those that a trained model is measured with: that probes and maps are fitted on, and held out from them. */
export const [FITTED_SEED, HELD_SEED] = [2_000_000_011, 3_000_000_019];

/** Opens the training and the held-out episodes. Throws a `JepaError` that names what is wrong. */
export async function openEpisodeSplits({
  source,
  test,
  options = {},
  ...reading
}: EpisodeSpec): Promise<SampleSplits> {
  if (source.startsWith(PROCEDURAL)) {
    const of = (part: 'train' | 'test') => {
      const made = worldEpisodes({ ...partOf(source, options, part, COUNT), ...reading });
      return { ...withTurns(made), name: `${made.name} (${part})` };
    };
    return { train: of('train'), test: of('test'), origin: 'own' };
  }
  const train = await openEpisodes(source, reading);
  if (test !== undefined) return { train, test: await openEpisodes(test, reading), origin: 'own' };
  return { ...splitByHash(train, 0.1), origin: 'made' };
}

/** Whether a source of videos names a world. */
export const isWorldSource = (source: string): boolean =>
  source.startsWith(PROCEDURAL) && Object.hasOwn(WORLDS, source.slice(PROCEDURAL.length));

/** Videos of a world of `channels` channels. */
export function openWorldVideos(
  source: string,
  channels: number | undefined,
  options: Readonly<Record<string, unknown>>,
  part: 'train' | 'test',
): VideoDataset {
  const { steps, ...own } = partOf(source, options, part, VIDEOS);
  const made = worldVideos({ ...own, frames: steps === undefined ? undefined : steps + 1 });
  if (channels !== undefined && made.channels !== channels)
    throw new JepaError(`${source}: its pictures have ${made.channels} channels; set data.channels=${made.channels}`);
  return { ...withTurns(made), name: `${made.name} (${part})` };
}

/** What a part of a procedural set is made of; a test part has a sixteenth of the training part's number unless it is said. */
function partOf(source: string, options: Readonly<Record<string, unknown>>, part: 'train' | 'test', usual: number) {
  const { count = usual, testCount = Math.ceil(count / 16), seed = 0, ...own } = checkOptions(source, options);
  return {
    ...own,
    world: source.slice(PROCEDURAL.length),
    count: part === 'train' ? count : testCount,
    seed: part === 'train' ? seed : seed + TEST_SEED,
  };
}

type Options = Partial<Pick<WorldEpisodeOptions, 'count' | 'steps' | 'seed' | 'behaviour'>> & {
  readonly testCount?: number;
  readonly factors?: FactorSettings;
};

const KNOWN: Readonly<Record<keyof Options, string>> = {
  count: 'number',
  testCount: 'number',
  steps: 'number',
  seed: 'number',
  behaviour: 'string',
  factors: 'object',
};

function checkOptions(source: string, options: Readonly<Record<string, unknown>>): Options {
  for (const [key, value] of Object.entries(options)) {
    const wanted = Object.hasOwn(KNOWN, key) ? KNOWN[key as keyof Options] : undefined;
    if (!wanted)
      throw new JepaError(`${source}: there is no option "${key}"; there are ${Object.keys(KNOWN).join(', ')}`);
    const whole = wanted !== 'number' || isCount(value);
    if (typeof value !== wanted || !whole)
      throw new JepaError(`${source}: data.options.${key} must be a ${wanted === 'number' ? 'whole number' : wanted}`);
  }
  return options as Options;
}
