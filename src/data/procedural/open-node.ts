import { JepaError } from '../../base/errors.js';
import { withTurns } from '../../base/turn.js';
import type { Dataset } from '../dataset.js';
import { openDataset } from '../open-node.js';
import type { VideoDataset } from '../video/dataset.js';
import { type BallOptions, ballVideos } from './balls.js';
import { type DigitOptions, digitPictures, digitVideos } from './digits.js';
import { type GrammarOptions, grammarTexts } from './grammar.js';
import { interactionVideos, type MotionOptions, motionVideos } from './motions.js';
import { type PhysicsOptions, physicsVideos } from './physics.js';
import { type StickFigureOptions, stickFigures } from './stick-figures.js';
import { type TonesOptions, tones } from './tones.js';

/** How a configuration names procedural sets: `procedural:motions`. */
export const PROCEDURAL = 'procedural:';

type Options = Readonly<Record<string, unknown>>;
type Part = 'train' | 'test';

/** A part of a set of the same kind that shares nothing but its seed with the other: other seeds, other people. */
const seedOf = ({ seed = 0 }: { readonly seed?: number }, part: Part): number =>
  part === 'test' ? seed + 1_000_003 : seed;

const VIDEOS: Readonly<Record<string, (options: Options, split: Part) => VideoDataset | Promise<VideoDataset>>> = {
  motions: (options, split) => motionVideos({ count: 4096, ...(options as Partial<MotionOptions>), split }),
  interactions: (options, split) => interactionVideos({ count: 4096, ...(options as Partial<MotionOptions>), split }),
  balls: (options, split) => ballVideos({ count: 4096, ...(options as Partial<BallOptions>), split }),
  physics: (options, split) => physicsVideos({ count: 4096, ...(options as Partial<PhysicsOptions>), split }),
  digits: async (options, split) =>
    digitVideos(await digitPictures(await openDataset({ path: 'glyphs', split })), {
      count: 4096,
      ...(options as Partial<DigitOptions>),
      split,
    }),
};

const SOUNDS: Readonly<Record<string, (options: Options, part: Part) => Dataset>> = {
  tones: (options, part) => {
    const own = options as Partial<TonesOptions>;
    return tones({ count: 4096, ...own, seed: seedOf(own, part) });
  },
};

const SKELETONS: Readonly<Record<string, (options: Options, part: Part) => Dataset>> = {
  'stick-figures': (options, part) => {
    const own = options as Partial<StickFigureOptions>;
    // Held out are other people than those who were learned from.
    return stickFigures({
      count: 4096,
      ...own,
      ...(part === 'test' && { subjects: [40, 60] as const }),
      seed: seedOf(own, part),
    });
  },
};

const TEXTS: Readonly<Record<string, (options: Options, part: Part) => Dataset>> = {
  grammar: (options, part) => {
    const own = options as Partial<GrammarOptions>;
    return grammarTexts({ count: 4096, ...own, seed: seedOf(own, part) });
  },
};

const ALL = { video: VIDEOS, sound: SOUNDS, skeleton: SKELETONS, text: TEXTS } as const;

/** What a procedural set holds. Throws a `JepaError` where there is no such set. */
export function proceduralModality(source: string): keyof typeof ALL {
  const name = source.slice(PROCEDURAL.length);
  const found = Object.entries(ALL).find(([, sets]) => Object.hasOwn(sets, name));
  if (!found) {
    const known = Object.values(ALL).flatMap((sets) => Object.keys(sets));
    throw new JepaError(
      `${source}: there is no such set; there are ${known.map((one) => `${PROCEDURAL}${one}`).join(', ')}`,
    );
  }
  return found[0] as keyof typeof ALL;
}

/** Opens one part of a procedural set of videos; a test part has a quarter of the training part's number unless `testCount` says. */
export const proceduralVideos = (source: string, options: Options, part: Part): Promise<VideoDataset> =>
  open(VIDEOS, source, options, part);

export const proceduralSounds = (source: string, options: Options, part: Part): Promise<Dataset> =>
  open(SOUNDS, source, options, part);

export const proceduralSkeletons = (source: string, options: Options, part: Part): Promise<Dataset> =>
  open(SKELETONS, source, options, part);

export const proceduralTexts = (source: string, options: Options, part: Part): Promise<Dataset> =>
  open(TEXTS, source, options, part);

async function open<D extends Dataset | VideoDataset>(
  sets: Readonly<Record<string, (options: Options, part: Part) => D | Promise<D>>>,
  source: string,
  { testCount, ...options }: Options,
  part: Part,
): Promise<D> {
  const name = source.slice(PROCEDURAL.length);
  const make = Object.hasOwn(sets, name) ? sets[name] : undefined;
  if (!make) {
    const known = Object.keys(sets).map((name) => `${PROCEDURAL}${name}`);
    throw new JepaError(`${source}: there is no such set; there are ${known.join(', ')}`);
  }
  const { count = 4096 } = options as { count?: number };
  const own = part === 'test' ? (testCount ?? Math.ceil(count / 16) * 4) : count;
  const made = await make({ ...options, count: own }, part);
  return { ...withTurns(made), name: `${made.name} (${part})` };
}
