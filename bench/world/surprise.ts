import { createRandom } from '../../src/base/random.js';
import type { EpisodeReading } from '../../src/data/episodes/dataset.js';
import { auroc } from '../../src/eval/ranking.js';
import type { Engine } from '../../src/runtime/index.js';
import { buildMethod } from '../../src/train/build.js';
import { openWorldRun } from '../../src/train/world-node.js';
import { walkBehaviour } from '../../src/world/collect.js';
import { twoRooms } from '../../src/world/envs/two-rooms.js';
import { type LatentWorld, observedBy } from '../../src/world/latent.js';
import { probeStates } from '../../src/world/measure.js';
import {
  balancedAccuracy,
  observeClips,
  type Quadruplet,
  type QuadrupletSurprises,
  quadrupletSurprises,
  teleports,
  vanishings,
  wallsPassed,
} from '../../src/world/surprise.js';
import { collected, type Lesson, learn, untrained } from './learn.js';

/**
 * Surprise of models of Two Rooms that know actions: teleports and passed walls beside matched possible clips, vanishing dots in
 * balanced quadruplets. Floors: the same model with random weights, and how much changes from frame to frame.
 */

const world = twoRooms('stay');
const STEPS = 8;
const FRAMES = 13;
const DEPTHS = [1, 2, 4, 8];

export interface EventScores {
  /** Area under the curve of the most surprising moment: impossible clips beside possible ones. */
  readonly auroc: number;
  /** Share of balanced quadruplets whose impossible half surprises more. */
  readonly balanced: number;
}

export type Scored = Readonly<Record<string, EventScores>>;

export interface SurpriseScores {
  readonly observe: EpisodeReading['observe'];
  readonly trained: Readonly<Record<number, Scored>>;
  readonly random: Readonly<Record<number, Scored>>;
  /** No model: squared differences of neighbouring frames. */
  readonly change: Scored;
}

/** The impossible clips of a quadruplet that are an event: 0 the first, 1 the second. */
type Kind = { readonly all: readonly Quadruplet[]; readonly impossible: readonly (0 | 1)[] };
type Events = Readonly<Record<string, Kind>>;

const most = (values: Float64Array): number => values.reduce((a, b) => Math.max(a, b));

/** Scores of what `surprise` says of quadruplets, event by event; it is asked once for quadruplets that several events share. */
async function scored(
  events: Events,
  surprise: (all: readonly Quadruplet[]) => Promise<readonly QuadrupletSurprises[]> | readonly QuadrupletSurprises[],
): Promise<Scored> {
  const known = new Map<readonly Quadruplet[], readonly QuadrupletSurprises[]>();
  const scores: Record<string, EventScores> = {};
  for (const [name, { all, impossible }] of Object.entries(events)) {
    const surprised = known.get(all) ?? (await surprise(all));
    known.set(all, surprised);
    const clips = surprised.flatMap((four) => [four[0], four[1], ...impossible.map((i) => four[2 + i])]);
    const labels = surprised.flatMap(() => [0, 0, ...impossible.map(() => 1)]);
    scores[name] = { auroc: auroc(clips.map(most), labels), balanced: balancedAccuracy(surprised) };
  }
  return scores;
}

/** Squared differences of neighbouring observations, as numbers between 0 and 1 or in pixels. */
function changes(quadruplets: readonly Quadruplet[], observe: EpisodeReading['observe']): QuadrupletSurprises[] {
  return quadruplets.map(({ possible, impossible }) => {
    const clips = [...possible, ...impossible].map((clip) => {
      const seen = observeClips(world, [clip], observe);
      const size = seen.length / FRAMES;
      return Float64Array.from({ length: FRAMES - 1 }, (_, t) => {
        let squares = 0;
        for (let i = t * size; i < (t + 1) * size; i++) squares += (seen[i + size] - seen[i]) ** 2;
        return squares;
      });
    });
    return clips as unknown as QuadrupletSurprises;
  });
}

async function measured(
  events: Events,
  observe: EpisodeReading['observe'],
  trained: LatentWorld,
  random: LatentWorld,
): Promise<SurpriseScores> {
  const byDepth = async (model: LatentWorld): Promise<Readonly<Record<number, Scored>>> => {
    const depths: Record<number, Scored> = {};
    for (const depth of DEPTHS)
      depths[depth] = await scored(events, (all) => quadrupletSurprises(model, world, all, depth));
    return depths;
  };
  return {
    observe,
    trained: await byDepth(trained),
    random: await byDepth(random),
    change: await scored(events, (all) => changes(all, observe)),
  };
}

function drawEvents(observe: EpisodeReading['observe'], seed: number, count: number): Events {
  const random = createRandom(seed, 'events');
  const draw = { count, frames: FRAMES };
  const walls = wallsPassed({ ...draw, random: random.split('walls') });
  return {
    teleport: { all: teleports({ ...draw, random: random.split('teleports') }), impossible: [0, 1] },
    'through a wall': { all: walls, impossible: [0] },
    'held up by nothing': { all: walls, impossible: [1] },
    // A state is always somewhere: only pictures can be without a dot.
    ...(observe === 'pictures' && {
      vanish: { all: vanishings({ ...draw, random: random.split('vanishings') }), impossible: [0, 1] },
    }),
  };
}

export interface SurpriseOptions {
  readonly seed?: number;
  /** Quadruplets of an event. */
  readonly count?: number;
}

/** Of a trained run of Two Rooms; `seed` is that of the events, and of the random weights beside it. */
export async function surpriseOfRun(
  engine: Engine,
  folder: string,
  { seed = 0, count = 200 }: SurpriseOptions = {},
): Promise<SurpriseScores> {
  const run = openWorldRun(folder);
  const trained = await run.open(engine, world.name);
  const random = await untrained(engine, buildMethod(run.config, run.facts), run.scaling, seed);
  const observe = observedBy(run.outline);
  try {
    return await measured(drawEvents(observe, seed, count), observe, trained, random);
  } finally {
    await trained.close();
    await random.close();
  }
}

/** As the recipe two-rooms, for numbers. */
const LESSON: Pick<Lesson, 'method' | 'batch' | 'lr'> = {
  method: {
    name: 'world-model',
    encoder: { kind: 'mlp', hidden: [256, 256], width: 64 },
    predictor: { kind: 'mlp', hidden: [256, 256] },
    steps: STEPS,
    prediction: 8,
    similarity: 1,
    inverse: 10,
    scene: 1,
    distance: {},
  },
  batch: 128,
  lr: 3e-3,
};
const EPISODE = 90;

/** Of a small model of numbers of states that learns on the spot; `probe`: error of places told by a linear probe, in pixels. */
export async function surpriseOfStates(
  engine: Engine,
  { steps, seed = 0, count = 200 }: SurpriseOptions & { readonly steps: number },
): Promise<SurpriseScores & { readonly probe: number; readonly seconds: number }> {
  const reading = { observe: 'states', frames: STEPS + 1, moments: 4 } as const;
  const data = collected(world, walkBehaviour(EPISODE), [4096, 256], { steps: EPISODE, seed, ...reading });
  const { model, method, scaling, seconds } = await learn(engine, data, reading, { ...LESSON, steps, seed });
  const random = await untrained(engine, method, scaling, seed);
  try {
    return {
      ...(await measured(drawEvents('states', seed, count), 'states', model, random)),
      probe: (await probeStates(model, data.train, data.test)).rmse,
      seconds,
    };
  } finally {
    await model.close();
    await random.close();
  }
}
