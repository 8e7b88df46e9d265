import { createActor, type Planner } from '../src/agent/actor.js';
import { type AgentStep, createAgent } from '../src/agent/agent.js';
import { cemPlanner } from '../src/agent/cem-planner.js';
import { type Configurator, needsConfigurator } from '../src/agent/configurator.js';
import { costModule, homeostasis, intrinsicCost } from '../src/agent/cost.js';
import { homeostasisWorld } from '../src/agent/envs/homeostasis.js';
import { associativeMemory, episodicLog } from '../src/agent/memory.js';
import { createRandom } from '../src/base/random.js';

/** Lives in the world of two needs: what the tests and the benchmark of a day share. */

const world = homeostasisWorld({ slip: 0.1 });
const { food, water, pit } = world.options;
export const intrinsic = intrinsicCost([homeostasis('hunger', 2, 0.5), homeostasis('thirst', 3, 0.5)]);
const others = Array.from({ length: 12 }, (_, i) => [Math.cos((i * Math.PI) / 6), Math.sin((i * Math.PI) / 6)]);

/** Lives for `steps` and returns the mean violation of needs, visits to the pit, and the last step. */
export async function live(configurator: Configurator, planner: Planner, steps: number, seed = 1) {
  const random = createRandom(seed, 'world');
  const log = episodicLog(5000);
  const agent = createAgent({
    perceive: (percept: ArrayLike<number>) => ({ state: Float64Array.from(percept) }),
    cost: costModule(intrinsic),
    actor: createActor({
      width: 2,
      model: { predict: (s, a) => world.next(s, a) },
      planner,
      enforcement: { kind: 'lexicographic' },
      critics: 'last',
    }),
    log,
    memory: associativeMemory({ keys: 7, values: 2, capacity: 10, width: 0.5, unknown: 0.1 }),
    configurator,
    limits: {
      guardrails: [
        {
          name: 'pit',
          excess: (s) => pit.radius - Math.hypot(s[0] - pit.at[0], s[1] - pit.at[1]),
          // Three deviations of the slip.
          margin: 0.45,
        },
      ],
      longestHorizon: 4,
    },
    otherActions: others,
    fallback: () => [0, 0],
  });
  let state = world.start(random);
  let [violation, fallen] = [0, 0];
  const history: AgentStep[] = [];
  for (let t = 0; t < steps; t++) {
    const step = await agent.step(state);
    history.push(step);
    state = world.next(state, step.action, random);
    violation += intrinsic.evaluate(state).total / steps;
    if (world.inPit(state)) fallen++;
  }
  return { violation, fallen, history, log };
}

/** Mode 2 of modest size. */
export const planner = (seed: number): Planner =>
  cemPlanner({ samples: 32, elites: 5, iterations: 3, std: [0.7, 0.7], low: -1, high: 1, random: createRandom(seed) });
/** No planning at all: random moves. */
export const drift = (seed: number): Planner => {
  const random = createRandom(seed);
  return async ({ proposal }) => proposal.map(() => 2 * random.uniform() - 1);
};

/** Follows the stronger need, towards the place where it is fed. */
export const followNeeds = (): Configurator =>
  needsConfigurator(
    [
      { term: 'hunger', urgency: ({ state }) => 1 - state[2], subgoal: Float64Array.from(food) },
      { term: 'thirst', urgency: ({ state }) => 1 - state[3], subgoal: Float64Array.from(water) },
    ],
    { margin: 0.2 },
  );
