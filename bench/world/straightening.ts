import type { EpisodeDataset } from '../../src/data/episodes/dataset.js';
import { mean } from '../../src/eval/samples.js';
import type { Engine } from '../../src/runtime/index.js';
import { type Behaviour, greedyBehaviour, randomBehaviour, walkBehaviour } from '../../src/world/collect.js';
import { pointMaze } from '../../src/world/envs/point-maze.js';
import { twoRooms } from '../../src/world/envs/two-rooms.js';
import type { World } from '../../src/world/envs/world.js';
import type { LatentWorld } from '../../src/world/latent.js';
import { rolloutErrors } from '../../src/world/measure.js';
import { boxLimit, normLimit } from '../../src/world/planning/sampling.js';
import { behaviourActor, planningActor, play, type SuccessRate, successOf } from '../../src/world/play.js';
import { collected, inUnits, learn } from './learn.js';

/**
 * Plans made once, by the gradient of the distance of states, and carried out to their end: with states whose paths were straightened
 * in training beside states whose paths were not (arXiv 2603.12231). Goals are where the behaviour of the data got to.
 */

const HORIZON = 24;
const STEPS = 8;
const READING = { observe: 'states', frames: STEPS + 1, moments: 0 } as const;

interface Place {
  readonly world: World;
  readonly behaviour: Behaviour;
  readonly limit: ReturnType<typeof boxLimit>;
  /** Rate of the descent, and spread of the starts. */
  readonly scale: number;
}

export type PlaceName = 'u-maze' | 'two-rooms';

const PLACES: Readonly<Record<PlaceName, () => Place>> = {
  'u-maze': () => ({
    world: inUnits(pointMaze('u')),
    behaviour: randomBehaviour(8),
    limit: boxLimit([-1, -1], [1, 1]),
    scale: 0.5,
  }),
  'two-rooms': () => ({
    world: twoRooms('stay'),
    behaviour: walkBehaviour(HORIZON),
    limit: normLimit(1.8),
    scale: 1,
  }),
};

/** The same world with goals that the behaviour reached, `HORIZON` steps from where it began. */
function goalsAhead({ world, behaviour }: Pick<Place, 'world' | 'behaviour'>): World {
  return {
    ...world,
    begin(state, goal, factors, random) {
      world.begin(state, goal, factors, random);
      const situation = { state, goal, factors, random, time: 0 };
      const act = behaviour.begin(situation, world);
      const at = state.slice();
      for (let time = 0; time < HORIZON; time++) {
        const action = Float64Array.from(act({ ...situation, state: at, time }));
        world.advance(at, action, factors, random);
      }
      goal.set(at.subarray(0, goal.length));
    },
  };
}

const still: Behaviour = { name: 'still', begin: (_, world) => () => world.action.map(() => 0) };

/** Mean cosine of neighbouring changes of states along held-out windows (where something moves): 1 is straight. */
async function straightness(model: LatentWorld, dataset: EpisodeDataset): Promise<number> {
  const cosines: number[] = [];
  const { width } = model.model;
  for (let i = 0; i < 128; i++) {
    const { data } = await model.encode((await dataset.read(i)).observations);
    const change = (t: number) =>
      Float64Array.from({ length: width }, (_, j) => data[(t + 1) * width + j] - data[t * width + j]);
    for (let t = 0; t + 1 < STEPS; t++) {
      const [a, b] = [change(t), change(t + 1)];
      const lengths = Math.hypot(...a) * Math.hypot(...b);
      if (lengths > 1e-9) cosines.push(a.reduce((sum, value, j) => sum + value * b[j], 0) / lengths);
    }
  }
  return mean(cosines);
}

export interface StraighteningScores {
  readonly success: SuccessRate;
  /** Mean distance from the goal at the end, in units of the world. */
  readonly distance: number;
  readonly straightness: number;
  /** Error of states 8 steps ahead, in shares of their variance. */
  readonly rollout: number;
  readonly seconds: number;
}

export interface StraighteningRun {
  readonly place: PlaceName;
  readonly with: StraighteningScores;
  readonly without: StraighteningScores;
  readonly floors: Readonly<Record<'greedy' | 'random' | 'still', SuccessRate & { readonly distance: number }>>;
}

export interface StraighteningOptions {
  readonly steps: number;
  readonly seed?: number;
  readonly weight?: number;
  readonly episodes?: number;
}

export async function straighteningScores(
  engine: Engine,
  place: PlaceName,
  { steps, seed = 0, weight = 8, episodes = 200 }: StraighteningOptions,
): Promise<StraighteningRun> {
  const { world, behaviour, limit, scale } = PLACES[place]();
  const data = collected(world, behaviour, [2048, 256], { steps: HORIZON, seed, ...READING });
  const asked = { episodes, seed: seed + 1, steps: HORIZON };
  const goals = goalsAhead({ world, behaviour });
  const of = async (straightening: number): Promise<StraighteningScores> => {
    const { model, seconds } = await learn(engine, data, READING, {
      method: {
        name: 'world-model',
        encoder: { kind: 'mlp', hidden: [128], width: 32 },
        predictor: { kind: 'mlp', hidden: [128] },
        steps: STEPS,
        prediction: 8,
        similarity: 1,
        inverse: 10,
        straightening,
      },
      ...{ steps, seed, batch: 128, lr: 2e-3 },
    });
    const actor = await planningActor(model, {
      method: 'gradient',
      horizon: HORIZON,
      samples: 4,
      elites: 1,
      iterations: 60,
      iterationsPerRun: 4,
      std: scale / 2,
      lr: scale / 5,
      limit,
      objective: { distance: 'latent', time: 'last' },
      replan: HORIZON,
      warmStart: false,
      seed,
    });
    try {
      const played = (await play(goals, actor, asked)).episodes;
      const { latent } = await rolloutErrors(model, data.test);
      return {
        success: successOf(played),
        distance: mean(played.map(({ distance }) => distance)),
        straightness: await straightness(model, data.test),
        rollout: latent.model[STEPS - 1],
        seconds,
      };
    } finally {
      await actor.close();
      await model.close();
    }
  };
  const floor = async (by: Behaviour) => {
    const played = (await play(goals, behaviourActor(by, seed), asked)).episodes;
    return { ...successOf(played), distance: mean(played.map(({ distance }) => distance)) };
  };
  const floors = {
    greedy: await floor(greedyBehaviour(place === 'two-rooms' ? 1.8 : 1)),
    random: await floor(randomBehaviour()),
    still: await floor(still),
  };
  return { place, floors, without: await of(0), with: await of(weight) };
}
