import { createRandom } from '../../base/random.js';
import { createActor, type Policy, recallPolicy } from '../actor.js';
import { type Agent, createAgent, type Learning } from '../agent.js';
import { type Configurator, fixedConfigurator, habitConfigurator, needsConfigurator } from '../configurator.js';
import { type CriticTarget, costModule, createCritic, homeostasis, intrinsicCost } from '../cost.js';
import { type Homeostasis, type HomeostasisOptions, homeostasisWorld, REACH } from '../envs/homeostasis.js';
import type { Guardrail } from '../guardrails.js';
import {
  frameOf,
  type HabitSettings,
  type Life,
  type LifeRun,
  type Lived,
  type PlannerSettings,
  type Stage,
} from '../life.js';
import { associativeMemory, episodicLog } from '../memory.js';
import { away, createSenses, fieldModel, modelError, type Readings, type Senses, sense } from './field.js';
import { acting, byHabit, EFFORT, effortCounter, randomPolicy, sure, thinker, type Way } from './ways.js';

/**
 * Days in the world of two needs: food circles round the field, the pit in its middle is dangerous at night, every sensor is
 * silent now and then. The agent plays (its world model learns), practises with thought (critic and habits are learned), and
 * is then measured over days and nights, beside others with the same body, senses and shield.
 */
export interface DaySettings {
  readonly world: HomeostasisOptions;
  readonly senses: Senses;
  /** Steps of each part of the life. */
  readonly parts: { readonly play: number; readonly practice: number; readonly steps: number };
  /** Level below which a need hurts. */
  readonly content: number;
  readonly planner: PlannerSettings;
  readonly critic: { readonly gamma: number; readonly steps: number; readonly every: number };
  readonly needs: { readonly margin: number; readonly pull: number };
  readonly habit: HabitSettings;
}

type Row = ArrayLike<number>;

/** Progress out of the pit with a move to the best of 12 sides. */
const SURE = Math.cos(Math.PI / 12);

/** Aims of the day: no step in the pit at night, at most half of the reactive agent's hurt. */
const HALF = 0.5;

export function dayLife(settings: DaySettings): Life {
  const world = homeostasisWorld(settings.world);
  const { size, water, pit, slip, day } = world.options;
  const intrinsic = intrinsicCost([
    homeostasis('hunger', 2, settings.content),
    homeostasis('thirst', 3, settings.content),
  ]);
  const stage: Stage = {
    width: size,
    height: size,
    places: [
      { name: 'pit', kind: 'danger', at: pit.at, radius: pit.radius },
      { name: 'water', kind: 'goal', at: water, radius: REACH },
    ],
    movers: ['food'],
    terms: ['hunger', 'thirst', 'later'],
    levels: ['energy', 'water'],
  };

  /**
   * One must be out of the pit by night: its depth may be no more than what can surely be walked until then. A state that keeps
   * this has an action that keeps it again, which is what makes the shield's promise hold.
   */
  const outByNight: Guardrail = {
    name: 'pit',
    excess: (s) => pit.radius - away(s, pit.at) - SURE * (1 - 3 * slip) * world.untilNight(s),
    margin: 0.1,
  };
  const directions = Array.from({ length: 12 }, (_, i) => [Math.cos((i * Math.PI) / 6), Math.sin((i * Math.PI) / 6)]);
  const otherActions = [[0, 0], ...directions, ...directions.map((d) => d.map((v) => v / 2))];
  /** Straight out of the pit, or still where it is far. */
  const retreat = (s: Row): Row => {
    const distance = away(s, pit.at);
    if (distance > pit.radius + 1) return [0, 0];
    return distance > 0 ? [(s[0] - pit.at[0]) / distance, (s[1] - pit.at[1]) / distance] : [1, 0];
  };

  /** Everything that one learns in its life, at its beginning. */
  function newborn(seed: number) {
    const memory = associativeMemory({
      keys: 5,
      values: 2,
      capacity: settings.habit.capacity,
      width: settings.habit.width,
      unknown: 0.3,
    });
    const critic = createCritic({ features: (s) => needFeatures(s, settings.content, water), penalty: 1, least: 0 });
    return {
      model: fieldModel(world),
      memory,
      cost: costModule(intrinsic, { later: critic }),
      log: episodicLog(4000),
      random: createRandom(seed, 'planner'),
    };
  }
  type Mind = ReturnType<typeof newborn>;

  /** An agent with a mind, which acts in one of several ways. */
  function embody(mind: Mind, way: Way, guardrails: readonly Guardrail[] = [outByNight]): Agent<Readings> {
    const perception = createSenses(mind.model, settings.senses, size);
    // The last percept's deviation: the shield looks at where the agent may be, not only at where it thinks it is.
    let unsure = 0;
    return createAgent<Readings>({
      perceive: ({ readings, hour }, action) => {
        const { mean, covariance, heard } = perception.perceive(readings, action);
        const deviation = mean.map((_, i) => Math.sqrt(covariance.data[i * (mean.length + 1)]));
        unsure = Math.hypot(Math.max(deviation[0], deviation[1]), slip);
        return { state: Float64Array.of(...mean, hour), deviation, heard };
      },
      cost: way.cost ?? mind.cost,
      actor: createActor({
        width: 2,
        model: mind.model,
        planner: thinker(settings.planner, mind.random),
        policy: way.policy,
        enforcement: { kind: 'lexicographic' },
        critics: 'last',
      }),
      // Only who learns keeps a diary.
      log: way.learning?.critics ? mind.log : episodicLog(1),
      memory: mind.memory,
      key: wayTo,
      configurator: way.configurator,
      limits: { guardrails, longestHorizon: settings.planner.horizon },
      otherActions,
      fallback: retreat,
      outcomes: (state, action) => {
        const mean = mind.model.predict(state, action);
        const reach = 3 * unsure;
        return [
          [0, 0],
          [reach, 0],
          [-reach, 0],
          [0, reach],
          [0, -reach],
        ].map(([dx, dy]) => mean.map((v, i) => (i === 0 ? v + dx : i === 1 ? v + dy : v)));
      },
      learning: way.learning,
    });
  }

  const followNeeds = (): Configurator =>
    needsConfigurator(
      [
        {
          term: 'hunger',
          urgency: ({ state }) => 1 - state[2],
          subgoal: ({ state }) => Float64Array.of(state[4], state[5]),
        },
        { term: 'thirst', urgency: ({ state }) => 1 - state[3], subgoal: Float64Array.from(water) },
      ],
      settings.needs,
    );
  /** What habits go by: the way to the subgoal, less so where one is, and whether it is night. */
  const wayTo = (s: Row, subgoal: Row = s): number[] => [
    subgoal[0] - s[0],
    subgoal[1] - s[1],
    s[0] / 4,
    s[1] / 4,
    world.isNight(s) ? 1 : 0,
  ];
  const target: CriticTarget = { kind: 'discounted', gamma: settings.critic.gamma, steps: settings.critic.steps };

  /** Lives for so many steps; the world's chance depends on the seed only, whoever lives in it. */
  async function through(
    run: LifeRun,
    name: string,
    agent: Agent<Readings>,
    steps: number,
    field: Homeostasis,
    own: boolean,
  ): Promise<Lived['values']> {
    run.phase(name, steps);
    const chance = createRandom(run.seed, 'world');
    const noise = createRandom(run.seed, 'senses');
    let state = field.start(chance);
    const effort = effortCounter();
    let [hurt, fallen, vetoes] = [0, 0, 0];
    for (let t = 0; t < steps; t++) {
      run.signal.throwIfAborted();
      const readings = sense(state, noise, settings.senses);
      const step = await effort.step(() => agent.step(readings));
      const frame = frameOf(step, viewOf(state, t, name, own));
      state = field.next(state, step.action, chance);
      hurt += intrinsic.evaluate(state).total;
      if (field.inPit(state)) fallen++;
      if (step.shield.verdict !== 'kept') vetoes++;
      await run.step(frame);
    }
    return { hurt: hurt / steps, fallen, vetoes: vetoes / steps, ...effort.values() };
  }

  const viewOf = (state: Float64Array, t: number, phase: string, own: boolean) => ({
    own,
    episode: 0,
    phase,
    clock: clockOf(state, Math.floor(t / day.steps), world.isNight(state)),
    place: [state[0], state[1]] as const,
    movers: [[state[4], state[5]] as const],
    danger: world.isNight(state),
    levels: [state[2], state[3]],
    capacity: settings.habit.capacity,
    at: (s: Row) => [s[0], s[1]] as const,
    stage,
  });

  return {
    title: 'A day in the world of two needs',
    about:
      'Food circles round the field, water stays where it is, and the pit in the middle must be left before night. Every sensor is silent now and then. Everybody below has the same body, the same senses and the same shield.',
    stage,
    measures: [
      {
        name: 'hurt',
        about: 'hunger and thirst of a step, on average: how far needs are below contentment',
        better: 'less',
      },
      { name: 'fallen', about: 'steps in the pit at night', better: 'less' },
      { name: 'vetoes', about: 'steps in which the shield took another action', better: 'neither', share: true },
      ...EFFORT,
    ],
    async live(run) {
      const { parts, habit, critic } = settings;
      const mind = newborn(run.seed);
      const learnModel: Learning['model'] = (s, a, next) => void mind.model.learn(s, a, next);
      // Play: random moves where nothing is dangerous. What is learned of the world is all that Mode 2 has later.
      const playPen = homeostasisWorld({ ...settings.world, day: { ...day, night: 2 } });
      const wander = randomPolicy(createRandom(run.seed, 'play'));
      const before = modelError(mind.model, world, run.seed);
      const playing = { configurator: acting('play'), policy: wander, learning: { model: learnModel } };
      const player = embody(mind, playing, []);
      await through(run, 'play', player, parts.play, playPen, true);
      const after = modelError(mind.model, world, run.seed);
      // Practice: Mode 2 throughout.
      const learning: Learning = { model: learnModel, critics: { every: critic.every, target }, distil: true };
      await through(
        run,
        'practice',
        embody(mind, { configurator: followNeeds(), learning }),
        parts.practice,
        world,
        true,
      );

      const recall = recallPolicy(mind.memory, wayTo);
      const ways: [name: string, kind: Lived['kind'], way: Way][] = [
        ['always thinks (Mode 2)', 'variant', { configurator: followNeeds() }],
        ['thinks without a critic', 'variant', { configurator: followNeeds(), cost: costModule(intrinsic) }],
        ['only habit (Mode 1)', 'variant', { configurator: byHabit(followNeeds()), policy: recall }],
        [
          'straight to the stronger need',
          'floor',
          { configurator: byHabit(followNeeds()), policy: { act: (s, subgoal) => straight(s, subgoal ?? s) } },
        ],
        [
          'reactive: goes where it hurts',
          'floor',
          { configurator: acting('reactive'), policy: reactive(settings.content, water) },
        ],
        [
          'greedy: best next state',
          'floor',
          { configurator: fixedConfigurator({ reason: 'greedy', horizon: 1 }), cost: costModule(intrinsic) },
        ],
        [
          'random moves',
          'floor',
          { configurator: acting('random'), policy: randomPolicy(createRandom(run.seed, 'random')) },
        ],
        // Last, because it goes on learning, and the others share what was learned before.
        [
          'agent: habit, thought where it is new',
          'agent',
          { configurator: habitConfigurator(followNeeds(), habit), policy: recall, learning },
        ],
      ];
      const lived: Lived[] = [];
      for (const [name, kind, way] of ways) {
        lived.push({
          name,
          kind,
          values: await through(run, name, embody(mind, way), parts.steps, world, kind === 'agent'),
        });
      }
      lived.unshift(lived.pop() as Lived);
      const [own] = lived;
      const floor = lived.find(({ name }) => name.startsWith('reactive')) as Lived;
      return {
        lived,
        learned: [
          {
            part: 'world model: error of a step after play, in cells and levels',
            value: after,
            beside: `${before.toFixed(3)} before`,
          },
          { part: 'memory: situations with an action', value: mind.memory.size, beside: 'none before practice' },
          {
            part: 'critic: error of its last fit',
            value: Math.sqrt(mind.cost.critics.later.fit.error),
            beside: 'in units of the cost it foretells',
          },
        ],
        checks: [
          { claim: 'never in the pit at night', value: own.values.fallen, passed: own.values.fallen === 0 },
          {
            claim: 'at most half as hurt as the reactive one',
            value: own.values.hurt / floor.values.hurt,
            passed: own.values.hurt <= HALF * floor.values.hurt,
          },
        ],
      };
    },
  };
}

/** What the critic sees: levels, ways to go, and what will be missing on arrival. */
function needFeatures(s: Row, content: number, water: readonly [number, number]): number[] {
  const [food, spring] = [Math.hypot(s[0] - s[4], s[1] - s[5]) / 10, away(s, water) / 10];
  const [hunger, thirst] = [Math.max(0, content - s[2]), Math.max(0, content - s[3])];
  const [late, dry] = [Math.max(0, content - s[2] + 0.2 * food), Math.max(0, content - s[3] + 0.3 * spring)];
  return [s[2], s[3], food, spring, hunger, thirst, late, dry, late * late, dry * dry, hunger * food, thirst * spring];
}

// Floors ---------------------------------------------------------------------------------------------------------------

function straight(s: Row, to: Row) {
  const [dx, dy] = [to[0] - s[0], to[1] - s[1]];
  const length = Math.max(1, Math.hypot(dx, dy));
  return sure(Float64Array.of(dx / length, dy / length));
}

/** Goes to the place of what hurts more, and rests while nothing does. */
const reactive = (content: number, water: readonly [number, number]): Policy => ({
  act(s) {
    const [hunger, thirst] = [content - s[2], content - s[3]];
    if (Math.max(hunger, thirst) <= 0) return sure(Float64Array.of(0, 0));
    return straight(s, hunger > thirst ? [s[4], s[5]] : water);
  },
});

/** "day 2, 14:24, night" */
function clockOf(state: Float64Array, days: number, night: boolean): string {
  const minutes = Math.floor(state[6] * 24 * 60 + 6 * 60 + 1e-6) % (24 * 60);
  const two = (n: number): string => String(n).padStart(2, '0');
  return `day ${days + 1}, ${two(Math.floor(minutes / 60))}:${two(minutes % 60)}${night ? ', night' : ''}`;
}
