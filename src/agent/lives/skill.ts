import { createRandom, type Random } from '../../base/random.js';
import { type Layout, SUCCESS_DISTANCE } from '../../world/envs/two-rooms.js';
import { createActor, type Policy, recallPolicy } from '../actor.js';
import { type Agent, createAgent, type Learning } from '../agent.js';
import { type Configurator, fixedConfigurator, habitConfigurator } from '../configurator.js';
import { costModule, createCritic, criticExamples, intrinsicCost } from '../cost.js';
import { anywhereIn, moveIn, roomsPlane, wallPlaces, withoutWall } from '../envs/rooms.js';
import { radialFeatures } from '../features.js';
import { frameOf, type HabitSettings, type Life, type Lived, type PlannerSettings, type Stage } from '../life.js';
import { associativeMemory, episodicLog } from '../memory.js';
import { type Deed, EPISODE, openForesight, rollOutError } from './foresight.js';
import { glance, learnToSee, SIDE, type SightSettings } from './sight.js';
import { distance, EFFORT, effortCounter, limited, randomPolicy, sure, thinker, type Way } from './ways.js';

/**
 * From watching to a skill, in six parts. It watches a dot that moves by itself: an encoder learns to see, and to foretell,
 * without labels. It moves: a model of what its own acts do is learned. It acts in two rooms with a wall between: the model
 * learns the wall. It practises going home, with thought: a critic and habits are learned. It rehearses: habit acts, thought
 * corrects. In the end it goes home by habit.
 * Everything but the world itself sees pictures and representations only; places are for people, by a linear probe.
 */
export interface SkillSettings {
  readonly rooms: { readonly wall: number; readonly door: number; readonly home: readonly [number, number] };
  readonly watch: SightSettings;
  /** Own moves in an empty room, and in the two rooms; updates of the model after each. */
  readonly move: { readonly steps: number; readonly updates: number };
  readonly act: { readonly steps: number; readonly updates: number };
  readonly practice: { readonly episodes: number };
  readonly rehearsal: { readonly episodes: number };
  readonly exam: { readonly episodes: number };
  /** Steps of an episode. */
  readonly steps: number;
  readonly planner: PlannerSettings;
  readonly critic: {
    readonly gamma: number;
    readonly steps: number;
    readonly every: number;
    /** Moments that it learns from at a time. */
    readonly memory: number;
    readonly centres: number;
  };
  readonly habit: HabitSettings;
}

type Row = ArrayLike<number>;

/** An action is held for so many steps of the world, each of at most so many pixels a side. */
const [HELD, REACH] = [2, 2.45];

export function skillLife(settings: SkillSettings): Life {
  const { rooms, habit, steps } = settings;
  const plane = roomsPlane();
  const stage: Stage = {
    ...plane,
    places: [
      { name: 'home', kind: 'goal', at: rooms.home, radius: SUCCESS_DISTANCE },
      ...wallPlaces(rooms),
      ...plane.places,
    ],
    movers: [],
    terms: ['away', 'later'],
    levels: [],
  };

  /** Where one is after one action of the agent, each number -1 to 1. */
  function moved(place: Float64Array, action: Row, layout: Layout): Float64Array {
    const move = Float64Array.from(action, (v) => REACH * limited(v));
    let next = place;
    for (let i = 0; i < HELD; i++) next = moveIn(layout, next, move);
    return next;
  }
  const anywhere = (random: Random): Float64Array => anywhereIn(rooms, random);
  /** A place in the room without the home. */
  const elsewhere = (random: Random): Float64Array => {
    for (;;) {
      const place = anywhere(random);
      if (place[0] < rooms.wall !== rooms.home[0] < rooms.wall) return place;
    }
  };

  return {
    title: 'From watching to a skill',
    about:
      'An encoder learns by watching a dot that moves by itself, a model by moving, then by acting in two rooms; going home is first planned, then practised, then a habit. A dot in the other room must go through the door: straight ahead is a wall.',
    stage,
    measures: [
      { name: 'home', about: 'episodes that end at home', better: 'more', share: true },
      { name: 'distance', about: 'pixels from home in the end', better: 'less' },
      ...EFFORT,
    ],
    async live(run) {
      const { encode, at, seeing } = await learnToSee(run, settings.watch);
      const random = createRandom(run.seed, 'moves');
      // Moving and acting: one model, first of the own body, then of the walls.
      const { width } = settings.watch;
      const { horizon } = settings.planner;
      const foresight = await openForesight(run, width, horizon);
      const { model } = foresight;

      /** Own moves, each held for a while: states, actions and what followed, in episodes. */
      async function experience(name: string, count: number, layout: Layout): Promise<Deed[]> {
        run.phase(name, count);
        const rows: Deed[] = [];
        let [place, action, held] = [anywhere(random), new Float64Array(2), 0];
        for (let i = 0; i < count; i++) {
          run.signal.throwIfAborted();
          if (i % EPISODE === 0) place = anywhere(random);
          if (held-- <= 0) {
            const [angle, pace] = [2 * Math.PI * random.uniform(), Math.sqrt(random.uniform()) * Math.SQRT2];
            action = Float64Array.of(pace * Math.cos(angle), pace * Math.sin(angle)).map((v) => limited(v));
            held = random.integer(4);
          }
          const after = moved(place, action, layout);
          rows.push({
            s: encode(glance(place)),
            a: action,
            next: encode(glance(after)),
            episode: Math.floor(i / EPISODE),
            time: i % EPISODE,
          });
          place = after;
          await run.step();
        }
        return rows;
      }
      async function learn(name: string, deeds: readonly Deed[], updates: number): Promise<void> {
        run.phase(name, updates);
        await foresight.learn(deeds, updates, random);
      }
      await learn(
        'learns from moving',
        await experience('moves in an empty room', settings.move.steps, withoutWall(rooms)),
        settings.move.updates,
      );
      const acts = await experience('acts in two rooms', settings.act.steps, rooms);
      const bodyOnly = rollOutError(model, acts.slice(-600));
      await learn('learns from acting', acts.slice(0, -600), settings.act.updates);
      const withWalls = rollOutError(model, acts.slice(-600));

      // The cost: to be away from home, as the picture of home is away from what is seen; and a critic of what is still to come.
      const home = encode(glance(Float64Array.from(rooms.home)));
      const intrinsic = intrinsicCost([{ name: 'away', energy: (x) => distance(x, home) }]);
      const critic = createCritic({
        features: radialFeatures(
          acts.map((row) => row.s),
          settings.critic.centres,
        ),
        penalty: 1e-2,
        least: 0,
      });
      const cost = costModule(intrinsic, { later: critic });
      // What was done at random is forgotten as practice goes on: a critic foretells the costs of those who made its memories.
      const log = episodicLog(settings.critic.memory);
      const told = acts.map(({ s, a, episode, time }) => ({
        episode,
        time,
        state: s,
        action: a,
        intrinsic: intrinsic.evaluate(s).total,
        critic: 0,
        surprise: Number.NaN,
        real: true,
      }));
      const target = { kind: 'discounted', gamma: settings.critic.gamma, steps: settings.critic.steps } as const;
      critic.learn(criticExamples(told, target));
      for (const moment of told.slice(-settings.critic.memory)) log.append(moment);

      const memoryOf = (capacity: number) =>
        associativeMemory({ keys: width, values: 2, capacity, width: habit.width, unknown: 0.1 });
      const memory = memoryOf(habit.capacity);
      const recall = recallPolicy(memory, undefined, createRandom(run.seed, 'recall'));
      const planning = createRandom(run.seed, 'planner');
      const embody = (way: Way): Agent<Uint8Array> =>
        createAgent<Uint8Array>({
          perceive: (picture) => ({ state: encode(picture) }),
          cost: way.cost ?? cost,
          actor: createActor({
            width: 2,
            model,
            planner: thinker(settings.planner, planning),
            policy: way.policy,
            enforcement: { kind: 'none' },
            critics: 'last',
          }),
          log: way.learning ? log : episodicLog(1),
          memory,
          configurator: way.configurator,
          limits: { guardrails: [], longestHorizon: horizon },
          otherActions: [],
          fallback: () => [0, 0],
          learning: way.learning,
        });

      /** Episodes from places that depend on the seed and the part only, whoever acts. */
      async function through(
        name: string,
        agent: Agent<Uint8Array>,
        episodes: number,
        part: string,
        start: typeof anywhere,
        own: boolean,
      ): Promise<Lived['values']> {
        run.phase(name, episodes * steps);
        const effort = effortCounter();
        let [reached, apart] = [0, 0];
        for (let episode = 0; episode < episodes; episode++) {
          const chance = createRandom(run.seed, part, episode);
          agent.reset();
          let place = start(chance);
          for (let t = 0; t < steps; t++) {
            run.signal.throwIfAborted();
            const picture = glance(place);
            const done = await effort.step(() => agent.step(picture));
            const view = {
              own,
              episode,
              phase: name,
              place: [place[0], place[1]] as const,
              movers: [],
              danger: false,
              levels: [],
              capacity: habit.capacity,
              picture: { side: SIDE, values: picture },
              at,
              stage,
            };
            await run.step(frameOf(done, view));
            place = moved(place, done.action, rooms);
          }
          const left = Math.hypot(place[0] - rooms.home[0], place[1] - rooms.home[1]);
          apart += left / episodes;
          if (left < SUCCESS_DISTANCE) reached++;
        }
        return { home: reached / episodes, distance: apart, ...effort.values() };
      }
      /** Acts by habit while thought says at every step what it would do, which is what is remembered (DAgger, Ross et al. 2011). */
      async function rehearse(teacher: Agent<Uint8Array>): Promise<void> {
        const { episodes } = settings.rehearsal;
        const name = 'rehearses: acts by habit, thought corrects';
        run.phase(name, episodes * steps);
        for (let episode = 0; episode < episodes; episode++) {
          const chance = createRandom(run.seed, 'rehearsal', episode);
          teacher.reset();
          let place = anywhere(chance);
          for (let t = 0; t < steps; t++) {
            run.signal.throwIfAborted();
            const picture = glance(place);
            const { action } = recall.act(encode(picture));
            await teacher.step(picture);
            place = moved(place, action, rooms);
            await run.step();
          }
        }
      }
      const mode = (which: 1 | 2, reason: string, longest?: number): Configurator =>
        fixedConfigurator({ mode: which, horizon: longest, reason });
      const learning: Learning = { critics: { every: settings.critic.every, target }, distil: true };
      await through(
        'practises with thought',
        embody({ configurator: mode(2, 'practice'), learning }),
        settings.practice.episodes,
        'practice',
        anywhere,
        true,
      );

      await rehearse(embody({ configurator: mode(2, 'rehearsal'), learning }));

      const undirected = memoryOf(1000);
      for (const { s, a } of acts.slice(0, 1000)) undirected.allocate(s, a);
      const straight: Policy = {
        act(state) {
          const [x, y] = at(state);
          const [dx, dy] = [rooms.home[0] - x, rooms.home[1] - y];
          const full = Math.max(HELD * REACH, Math.abs(dx), Math.abs(dy));
          return sure(Float64Array.of(dx / full, dy / full));
        },
      };
      const anything = randomPolicy(createRandom(run.seed, 'random'));
      const alone = costModule(intrinsic);
      const ways: [name: string, kind: Lived['kind'], way: Way][] = [
        [
          'agent: habit, thought where it is new',
          'agent',
          { configurator: habitConfigurator(fixedConfigurator({ reason: 'go home' }), habit), policy: recall },
        ],
        ['only habit (Mode 1)', 'variant', { configurator: mode(1, 'habit'), policy: recall }],
        ['always thinks (Mode 2)', 'variant', { configurator: mode(2, 'thought') }],
        ['thinks without a critic', 'variant', { configurator: mode(2, 'no critic'), cost: alone }],
        ['reactive: straight home', 'floor', { configurator: mode(1, 'straight'), policy: straight }],
        ['greedy: best next state', 'floor', { configurator: mode(2, 'greedy', 1), cost: alone }],
        [
          'recalls what it did at random',
          'floor',
          { configurator: mode(1, 'random habit'), policy: recallPolicy(undirected) },
        ],
        ['random moves', 'floor', { configurator: mode(1, 'random'), policy: anything }],
      ];
      const lived: Lived[] = [];
      for (const [name, kind, way] of ways)
        lived.push({
          name,
          kind,
          values: await through(
            name,
            embody(way),
            settings.exam.episodes,
            'exam',
            elsewhere,
            kind === 'agent' || name.startsWith('only habit'),
          ),
        });
      await foresight.close();
      const [, byHabit, byThought] = lived;
      return {
        lived,
        learned: [
          {
            part: 'encoder: places from what it sees, by a linear probe (R²)',
            value: seeing.r2,
            beside: `${seeing.random.toFixed(3)} with random weights`,
          },
          {
            part: 'encoder: error of these places, pixels',
            value: seeing.rmse,
            beside: `${seeing.randomRmse.toFixed(1)} with random weights`,
          },
          {
            part: 'model: error 8 steps ahead, of that of standing still',
            value: withWalls,
            beside: `${bodyOnly.toFixed(3)} before it had met the wall`,
          },
          { part: 'memory: situations with an action', value: memory.size, beside: 'none before practice' },
        ],
        checks: [
          {
            claim: 'by habit at least 0.95 times as often home as by thought',
            value: byHabit.values.home / byThought.values.home,
            passed: byHabit.values.home >= 0.95 * byThought.values.home && byThought.values.home > 0,
          },
          { claim: 'the encoder tells places with R² above 0.98', value: seeing.r2, passed: seeing.r2 > 0.98 },
          {
            claim: 'eight steps ahead with at most a quarter of the error of standing still',
            value: withWalls,
            passed: withWalls <= 0.25,
          },
        ],
      };
    },
  };
}
