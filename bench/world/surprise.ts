import { createRandom } from '../../src/base/random.js';
import type { EpisodeDataset, EpisodeReading } from '../../src/data/episodes/dataset.js';
import { auroc } from '../../src/eval/ranking.js';
import type { Engine } from '../../src/runtime/index.js';
import { walkBehaviour } from '../../src/world/collect.js';
import { twoRooms } from '../../src/world/envs/two-rooms.js';
import type { LatentWorld } from '../../src/world/latent.js';
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
import { collected, type Lesson, learn, type Splits } from './learn.js';

/**
 * Surprise of models of Two Rooms that know actions: teleports and passed walls beside matched possible clips, vanishing dots in
 * balanced quadruplets. Floors: the same model with random weights, and how much changes from frame to frame.
 */

const world = twoRooms('stay');
const STEPS = 8;
const FRAMES = 13;
/** Every so many episodes of pictures one has no dot. */
const EMPTY = 4;

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
  /** Of the trained model: error of places told by a probe, in pixels. */
  readonly probe: number;
  readonly seconds: number;
}

const most = (values: Float64Array): number => values.reduce((a, b) => Math.max(a, b));

/** The curve is of the first `each` clips of every quadruplet, of which two are possible. */
function eventScores(all: readonly QuadrupletSurprises[], each: 3 | 4): EventScores {
  const clips = all.flatMap((four) => four.slice(0, each));
  const labels = clips.map((_, i) => Number(i % each > 1));
  return { auroc: auroc(clips.map(most), labels), balanced: balancedAccuracy(all) };
}

function scored(events: Readonly<Record<string, readonly QuadrupletSurprises[]>>): Scored {
  return Object.fromEntries(
    Object.entries(events).map(([name, all]) => [
      name,
      // Of passed walls the course through the wall alone, without the dot that nothing stops.
      eventScores(all, name === 'through a wall' ? 3 : 4),
    ]),
  );
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

function episodes(
  observe: EpisodeReading['observe'],
  seed: number,
  count: number,
): { data: Splits; reading: EpisodeReading } {
  const reading = { observe, frames: STEPS + 1, moments: 0 };
  const behaviour = walkBehaviour(40);
  const of = (episodes: number, brightness: number) =>
    collected(world, behaviour, [episodes, 256], {
      steps: 40,
      seed,
      factors: { 'dot brightness': brightness },
      ...reading,
    });
  const full = of(count, 1);
  if (observe === 'states') return { data: full, reading };
  const empty = of(count / EMPTY, 0);
  return { data: { train: mixed(full.train, empty.train), test: full.test }, reading };
}

/** Every fourth episode is one without a dot. */
function mixed(full: EpisodeDataset, empty: EpisodeDataset): EpisodeDataset {
  return {
    ...full,
    source: undefined,
    read: (index, random) =>
      index % EMPTY === EMPTY - 1 ? empty.read(Math.floor(index / EMPTY), random) : full.read(index, random),
  };
}

const method = (observe: EpisodeReading['observe']): Lesson['method'] => ({
  name: 'world-model',
  encoder:
    observe === 'pictures'
      ? { kind: 'patches', patchSize: 5, widths: [64, 64, 16], hidden: [256], width: 128 }
      : { kind: 'mlp', hidden: [128, 128], width: 64 },
  predictor: observe === 'pictures' ? { kind: 'gru' } : { kind: 'mlp', hidden: [256] },
  steps: STEPS,
});

export async function surpriseScores(
  engine: Engine,
  observe: EpisodeReading['observe'],
  { steps, seed = 0, clips = 200 }: { readonly steps: number; readonly seed?: number; readonly clips?: number },
): Promise<SurpriseScores> {
  const pictures = observe === 'pictures';
  const { data, reading } = episodes(observe, seed, pictures ? 1024 : 4096);
  const random = createRandom(seed, 'events');
  const draw = { count: clips, frames: FRAMES };
  const events: Record<string, readonly Quadruplet[]> = {
    teleport: teleports({ ...draw, random: random.split('teleports') }),
    'through a wall': wallsPassed({ ...draw, random: random.split('walls') }),
    // A state is always somewhere: only pictures can be without a dot.
    ...(pictures && { vanish: vanishings({ ...draw, random: random.split('vanishings') }) }),
  };
  const measured = async (model: LatentWorld): Promise<Readonly<Record<number, Scored>>> => {
    const depths: Record<number, Scored> = {};
    for (const depth of [1, STEPS / 2]) {
      const all: Record<string, QuadrupletSurprises[]> = {};
      for (const [name, clips] of Object.entries(events))
        all[name] = await quadrupletSurprises(model, world, clips, depth);
      depths[depth] = scored(all);
    }
    return depths;
  };
  const lesson = { method: method(observe), seed, batch: pictures ? 64 : 128, lr: pictures ? 1e-3 : 2e-3 };
  const scaling = { range: 'own', mean: [0.0026, 0.0989], std: [0.0369, 0.2986] } as const;
  const input = { ...reading, ...(pictures && { scaling }) };
  // One step at a rate of next to nothing leaves the weights as they were drawn.
  const untrained = await learn(engine, data, input, { ...lesson, steps: 1, lr: 1e-12 });
  const floor = await measured(untrained.model);
  await untrained.model.close();
  const { model, seconds } = await learn(engine, data, input, { ...lesson, steps });
  try {
    return {
      observe,
      trained: await measured(model),
      random: floor,
      change: scored(Object.fromEntries(Object.entries(events).map(([name, all]) => [name, changes(all, observe)]))),
      probe: (await probeStates(model, data.train, data.test)).rmse,
      seconds,
    };
  } finally {
    await model.close();
  }
}
