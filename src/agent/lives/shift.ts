import { createRandom, type Random } from '../../base/random.js';
import { type Layout, SUCCESS_DISTANCE } from '../../world/envs/two-rooms.js';
import { createActor, type Policy, recallPolicy } from '../actor.js';
import { type Agent, createAgent, type Learning } from '../agent.js';
import { type Configurator, habitConfigurator } from '../configurator.js';
import { costModule, intrinsicCost } from '../cost.js';
import { anywhereIn, clearOf, moveIn, roomsPlane, wallPlaces, wayLength } from '../envs/rooms.js';
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
import { type RoomsModel, roomsModel } from './rooms-model.js';
import { acting, byHabit, distance, effortCounter, limited, randomPolicy, sure, thinker, type Way } from './ways.js';

/**
 * A world that shifts: errands through two rooms, until the wall and its door are elsewhere and every action does the opposite.
 * The agent is surprised, thinks again, learns anew what its acts do and where walls are, and makes new habits. Places are seen
 * as they are; nothing tells of the shift.
 */
export interface ShiftSettings {
  readonly rooms: { readonly before: Layout; readonly after: Layout };
  /** What an action does after the shift, of what it did before: -1 is the opposite. */
  readonly gain: number;
  /** Deviation of a move, in pixels. */
  readonly slip: number;
  /** Steps of each part of the life. */
  readonly parts: {
    readonly play: number;
    readonly practice: number;
    readonly before: number;
    readonly after: number;
  };
  readonly planner: PlannerSettings;
  readonly habit: HabitSettings & {
    /** Pixels that an act of habit must promise to come nearer, as far as the world model knows. */
    readonly promise: number;
  };
}

type Row = ArrayLike<number>;

const [PLAY, PRACTICE, BEFORE, AFTER] = ['play', 'practice', 'before the shift', 'after the shift'];
/** Pixels of a move in each direction, at most. */
const REACH = 3.5;
/** Steps after which an errand is given up. */
const PATIENCE = 150;
/** The agent has recovered when so many errands in a row are done at this share of the pace before: other rooms, other ways. */
const [IN_A_ROW, AS_FAST] = [5, 0.8];
/** Pixels of a step below which there was no pace that could come back. */
const IDLE = 0.1;
/** Steps that a share of thought is of; steps at the end of the life that show what it came to. */
const [WINDOW, LAST] = [50, 300];
/** Aims: steps until it has recovered; thought rises to twice what it was, and falls to half of that peak. */
const [RECOVERY, RISE, FALL] = [300, 2, 0.5];

interface Errand {
  /** Step of its part in which it ended, and steps that it took. */
  readonly end: number;
  readonly steps: number;
  /** Pixels of the shortest way; 0 if it was given up. */
  readonly way: number;
}

/** What happened in a part of a life. */
interface Part {
  readonly errands: readonly Errand[];
  /** Whether each step was one of Mode 2. */
  readonly thought: readonly boolean[];
  readonly ms: number;
}

export function shiftLife(settings: ShiftSettings): Life {
  const { rooms, parts, habit, planner, slip, gain } = settings;
  const plane = roomsPlane();
  const stage: Stage = {
    ...plane,
    places: [
      ...plane.places,
      ...wallPlaces(rooms.before, [PLAY, PRACTICE, BEFORE]),
      ...wallPlaces(rooms.after, [AFTER]),
    ],
    movers: ['errand'],
    terms: ['away'],
    levels: [],
  };
  const cost = costModule(
    intrinsicCost([{ name: 'away', energy: (s) => Math.hypot(s[0] - s[2], s[1] - s[3]) / stage.width }]),
  );
  /** At neither wall: what is free now may not be later. */
  const errandFor = (random: Random): Float64Array => {
    for (;;) {
      const place = anywhereIn(rooms.before, random);
      if (clearOf(rooms.after, place)) return place;
    }
  };
  /** Habits go by the way to the next place, up to a move. */
  const wayTo = (s: Row, subgoal: Row = s): number[] => [0, 1].map((i) => limited((subgoal[i] - s[i]) / REACH));

  /** Everything that one learns in its life, at its beginning. */
  function newborn(seed: number) {
    const model = roomsModel();
    return {
      model,
      learning: { model: model.learn, distil: true } satisfies Learning,
      memory: associativeMemory({ keys: 2, values: 2, capacity: habit.capacity, width: habit.width, unknown: 0.1 }),
      random: createRandom(seed, 'planner'),
    };
  }
  type Mind = ReturnType<typeof newborn>;

  const embody = ({ model, memory, random }: Mind, way: Way): Agent<Float64Array> =>
    createAgent<Float64Array>({
      perceive: (state) => ({ state }),
      cost,
      actor: createActor({
        width: 2,
        model,
        planner: thinker(planner, random),
        policy: way.policy,
        enforcement: { kind: 'none' },
        critics: 'last',
      }),
      log: episodicLog(1),
      memory,
      key: wayTo,
      configurator: way.configurator,
      limits: { guardrails: [], longestHorizon: planner.horizon },
      otherActions: [],
      fallback: () => [0, 0],
      learning: way.learning,
    });

  /** Errand after errand, for so many steps; begins at a place and ends at one. */
  async function errands(
    run: LifeRun,
    agent: Agent<Float64Array>,
    { phase, steps, name }: { readonly phase: string; readonly steps: number; readonly name?: string },
    chance: { place: Float64Array; readonly moves: Random; readonly goals: Random },
  ): Promise<Part> {
    const [layout, worth] = phase === AFTER ? [rooms.after, gain] : [rooms.before, 1];
    run.phase(name ? `${name}, ${phase}` : phase, steps);
    const effort = effortCounter();
    const done: Errand[] = [];
    const thought: boolean[] = [];
    let errand: { readonly goal: Float64Array; readonly begun: number; readonly way: number } | undefined;
    for (let t = 0; t < steps; t++) {
      run.signal.throwIfAborted();
      if (!errand) {
        const goal = errandFor(chance.goals);
        errand = { goal, begun: t, way: wayLength(layout, chance.place, goal) };
        agent.reset();
      }
      const { goal, begun, way } = errand;
      const [x, y] = chance.place;
      const step = await effort.step(() => agent.step(Float64Array.of(x, y, goal[0], goal[1])));
      thought.push(step.mode === 2);
      await run.step(
        frameOf(step, {
          own: name === undefined,
          episode: done.length,
          phase,
          place: [x, y],
          movers: [[goal[0], goal[1]]],
          danger: false,
          levels: [],
          capacity: habit.capacity,
          at: (s) => [s[0], s[1]],
          stage,
        }),
      );
      const [right, down] = step.action.map((v) => worth * REACH * limited(v) + slip * chance.moves.normal());
      chance.place = moveIn(layout, chance.place, [right, down]);
      const there = distance(chance.place, goal) < SUCCESS_DISTANCE;
      if (!there && t + 1 - begun < PATIENCE) continue;
      done.push({ end: t + 1, steps: t + 1 - begun, way: there ? way : 0 });
      errand = undefined;
    }
    return { errands: done, thought, ms: effort.values().ms };
  }

  /** A whole life: play, practice, and then in one of several ways through the shift. */
  async function liveAs(run: LifeRun, name: string, kind: Lived['kind'], wayOf: (mind: Mind) => Way): Promise<Lived> {
    const mind = newborn(run.seed);
    const goals = createRandom(run.seed, 'errands');
    const chance = { place: errandFor(goals), moves: createRandom(run.seed, 'moves'), goals };
    const teller = kind === 'agent' ? undefined : name;
    const { learning } = mind;
    const play = { configurator: acting('play'), policy: randomPolicy(createRandom(run.seed, 'play')), learning };
    const practice = { configurator: followErrands(mind.model), learning };
    // Floors know what they do without having learned it.
    if (kind !== 'floor') {
      await errands(run, embody(mind, play), { phase: PLAY, steps: parts.play, name: teller }, chance);
      await errands(run, embody(mind, practice), { phase: PRACTICE, steps: parts.practice, name: teller }, chance);
    }
    const agent = embody(mind, wayOf(mind));
    const before = await errands(run, agent, { phase: BEFORE, steps: parts.before, name: teller }, chance);
    // Whoever stands where the new wall comes is pushed aside.
    const side = Math.sign(chance.place[0] - rooms.after.wall) || 1;
    if (!clearOf(rooms.after, chance.place)) chance.place[0] = rooms.after.wall + side * 2.6;
    const after = await errands(run, agent, { phase: AFTER, steps: parts.after, name: teller }, chance);
    return { name, kind, values: valuesOf(before, after) };
  }

  return {
    title: 'A world that shifts',
    about:
      'Errands through two rooms. In the middle of its life the wall and the door are elsewhere, and every action does the opposite. Nobody is told.',
    stage,
    measures: [
      {
        name: 'recovery',
        about: `steps from the shift to the first of ${IN_A_ROW} errands in a row that were done at ${100 * AS_FAST} % of the pace before it or faster; all steps if there are none`,
        better: 'less',
      },
      {
        name: 'pace before',
        about: 'pixels of the shortest way that are made good in a step, before the shift',
        better: 'more',
      },
      { name: 'pace', about: `the same in the last ${LAST} steps`, better: 'more' },
      {
        name: 'thought before',
        about: `most steps of Mode 2 in ${WINDOW}, before the shift`,
        better: 'neither',
        share: true,
      },
      { name: 'peak', about: 'the same after the shift', better: 'neither', share: true },
      { name: 'last', about: `the same in the last ${LAST} steps`, better: 'neither', share: true },
      { name: 'ms', about: 'milliseconds of a step on this machine', better: 'neither' },
    ],
    async live(run) {
      const straight: Policy = { act: (s) => sure(Float64Array.from(wayTo(s, [s[2], s[3]]))) };
      const habits = ({ model, memory, learning }: Mind, promise?: number): Way => ({
        configurator: habitConfigurator(followErrands(model), { ...habit, promise }),
        policy: recallPolicy(memory, wayTo),
        learning,
      });
      const ways: [name: string, kind: Lived['kind'], wayOf: (mind: Mind) => Way][] = [
        ['agent: habit, thought where it is new', 'agent', (mind) => habits(mind, habit.promise)],
        [
          'always thinks (Mode 2)',
          'variant',
          ({ model, learning }) => ({ configurator: followErrands(model), learning }),
        ],
        ['habit that is not imagined first', 'variant', (mind) => habits(mind)],
        ['learns nothing any more', 'variant', (mind) => ({ ...habits(mind, habit.promise), learning: undefined })],
        [
          'only habit (Mode 1)',
          'variant',
          (mind) => ({ ...habits(mind), configurator: byHabit(followErrands(mind.model)) }),
        ],
        ['straight to the errand', 'floor', () => ({ configurator: acting('straight'), policy: straight })],
        [
          'random moves',
          'floor',
          () => ({ configurator: acting('random'), policy: randomPolicy(createRandom(run.seed, 'random')) }),
        ],
      ];
      const lived: Lived[] = [];
      for (const [name, kind, wayOf] of ways) lived.push(await liveAs(run, name, kind, wayOf));
      const [{ values }] = lived;
      return {
        lived,
        learned: [],
        checks: [
          {
            claim: `at ${100 * AS_FAST} % of the old pace within ${RECOVERY} steps of the shift`,
            value: values.recovery,
            passed: values.recovery < RECOVERY,
          },
          {
            claim: 'thinks at least twice as much after the shift',
            value: values.peak / values['thought before'],
            passed: values.peak >= RISE * values['thought before'],
          },
          {
            claim: 'and at most half as much as that in the end',
            value: values.last / values.peak,
            passed: values.last <= FALL * values.peak,
          },
        ],
      };
    },
  };
}

/** Goes from cell to cell of the map on the way to the errand, with thought. */
const followErrands = (model: RoomsModel): Configurator => ({
  configure({ state }) {
    const { next, cells } = model.route(state, [state[2], state[3]]);
    return { subgoal: next, reason: `errand, ${cells} cells away` };
  },
});

function valuesOf(before: Part, after: Part): Lived['values'] {
  const usual = paceOf(before.errands);
  const end = after.thought.length;
  return {
    recovery: (usual > IDLE ? recoveryOf(after.errands, AS_FAST * usual) : undefined) ?? end,
    'pace before': usual,
    pace: paceOf(after.errands.filter((errand) => errand.end > end - LAST)),
    'thought before': mostThought(before.thought),
    peak: mostThought(after.thought),
    last: mostThought(after.thought.slice(-LAST)),
    ms: after.ms,
  };
}

/** Pixels of ways that were made good in a step; 0 if nothing was done. */
function paceOf(errands: readonly Errand[]): number {
  const steps = errands.reduce((sum, errand) => sum + errand.steps, 0);
  return steps > 0 ? errands.reduce((sum, { way }) => sum + way, 0) / steps : 0;
}

/** Step at which the first of some errands in a row was begun, which together were fast enough. */
function recoveryOf(errands: readonly Errand[], pace: number): number | undefined {
  const first = errands.findIndex((_, i) => {
    const row = errands.slice(i, i + IN_A_ROW);
    return row.length === IN_A_ROW && paceOf(row) >= pace;
  });
  return first < 0 ? undefined : errands[first].end - errands[first].steps;
}

/** Largest share of Mode 2 in so many steps in a row. */
function mostThought(thought: readonly boolean[]): number {
  let [now, most] = [0, 0];
  for (const [t, deep] of thought.entries()) {
    now += Number(deep) - Number(thought[t - WINDOW] ?? false);
    if (t + 1 >= Math.min(WINDOW, thought.length)) most = Math.max(most, now);
  }
  return most / Math.min(WINDOW, thought.length);
}
