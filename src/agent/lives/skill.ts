import { createRandom, type Random } from '../../base/random.js';
import { float32 } from '../../base/tensor.js';
import { varianceCovariance } from '../../energy/vicreg.js';
import { fitRidge, predictLinear, regressionScores } from '../../eval/ridge.js';
import { add } from '../../graph/ops/elementwise.js';
import { mseLoss } from '../../graph/ops/losses.js';
import { broadcastTo, concat, expandDims, narrow, reshape } from '../../graph/ops/move.js';
import { input, type Tensor } from '../../graph/tensor.js';
import { mlpForward, mlpOnHost, mlpSpec } from '../../nn/mlp.js';
import { makeModule } from '../../nn/weights.js';
import { createFit } from '../../optim/fit.js';
import { BORDERS, paintDot, SIZE, SUCCESS_DISTANCE, twoRooms } from '../../world/envs/two-rooms.js';
import { rollOutPlans } from '../../world/planning/objectives.js';
import { createActor, type Policy, recallPolicy, type WorldModel } from '../actor.js';
import { type Agent, createAgent, type Learning } from '../agent.js';
import { cemPlanner } from '../cem-planner.js';
import { type Configurator, fixedConfigurator, habitConfigurator } from '../configurator.js';
import { type CostModule, costModule, createCritic, criticExamples, intrinsicCost } from '../cost.js';
import { radialFeatures } from '../features.js';
import {
  frameOf,
  type HabitSettings,
  type Life,
  type LifeRun,
  type Lived,
  type PlannerSettings,
  type Point,
  type Stage,
} from '../life.js';
import { associativeMemory, episodicLog } from '../memory.js';

/**
 * From watching to a skill, in six parts. It watches a dot that moves by itself: an encoder learns to see, and to foretell,
 * without labels. It moves: a model of what its own acts do is learned. It acts in two rooms with a wall between: the model
 * learns the wall. It practises going home, with thought: a critic and habits are learned. It rehearses: habit acts, thought
 * corrects. In the end it goes home by habit.
 * Everything but the world itself sees pictures and representations only; places are for people, by a linear probe.
 */
export interface SkillSettings {
  readonly rooms: { readonly wall: number; readonly door: number; readonly home: readonly [number, number] };
  readonly watch: {
    readonly clips: number;
    readonly frames: number;
    readonly steps: number;
    /** Numbers of a representation. */
    readonly width: number;
  };
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
/** The eye is coarse and out of focus: squares of 5 pixels, and a dot of this deviation, in pixels. */
const [POOL, SIDE, BLUR] = [5, 13, 4];
const PIXELS = SIDE * SIDE;
/** Where the dot can be. */
const [LOW, HIGH] = [BORDERS[0] + 2, BORDERS[1] - 2];
const EPISODE = 40;
/** Steps that the model is trained to foretell. */
const AHEAD = 5;

export function skillLife(settings: SkillSettings): Life {
  const { rooms, habit, steps } = settings;
  const world = twoRooms('stay');
  const layout = (wall: number): Float64Array =>
    Float64Array.from(world.factors, ({ name, usual }) =>
      name === 'wall' ? wall : name === 'door' ? rooms.door : usual,
    );
  const [walled, empty] = [layout(rooms.wall), layout(-1000)];
  const stage: Stage = {
    width: SIZE,
    height: SIZE,
    places: [
      { name: 'home', kind: 'goal', at: rooms.home, radius: SUCCESS_DISTANCE },
      ...wallsOf(rooms.wall, rooms.door),
    ],
    movers: [],
    terms: ['away', 'later'],
    levels: [],
  };

  /** The state of the world after one action of the agent, each number -1 to 1. */
  function moved(place: Float64Array, action: Row, factors: Float64Array, random: Random): Float64Array {
    const next = place.slice();
    const move = Float64Array.from(action, (v) => REACH * Math.min(1, Math.max(-1, v)));
    for (let i = 0; i < HELD; i++) world.advance(next, move, factors, random);
    return next;
  }
  const anywhere = (random: Random): Float64Array => {
    for (;;) {
      const place = Float64Array.from({ length: 2 }, () => LOW + (HIGH - LOW) * random.uniform());
      if (Math.abs(place[0] - rooms.wall) > 2.5) return place;
    }
  };
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
      { name: 'thought', about: 'steps in Mode 2', better: 'neither', share: true },
      { name: 'imagined', about: 'states that were imagined for a step', better: 'neither' },
      { name: 'ms', about: 'milliseconds of a step on this machine', better: 'neither' },
    ],
    async live(run) {
      const engine = await run.engine();
      const { encode, at, seeing } = await watch(run, settings);
      const random = createRandom(run.seed, 'moves');

      // Moving and acting: one model, first of the own body, then of the walls.
      const { width } = settings.watch;
      const net = makeModule('model.', mlpSpec([width + 2, 96, 96, width]));
      const step = (s: Tensor, a: Tensor): Tensor => add(s, mlpForward(concat([s, a], 1), net.weights, 3));
      // It learns from stretches of what happened, along which it foretells from its own predictions.
      const [begin, deeds] = [input('begin', ['batch', width]), input('actions', ['batch', AHEAD, 2])];
      const truth = input('truth', ['batch', AHEAD, width]);
      const along = reshape(rollOutPlans(begin, expandDims(deeds, 1), step), [begin.shape[0], AHEAD + 1, width]);
      const fit = await createFit(engine, {
        name: 'model',
        modules: [net],
        loss: mseLoss(narrow(along, 1, 1, AHEAD), truth),
        seed: run.seed,
        lr: 1e-3,
      });
      const { horizon } = settings.planner;
      const now = broadcastTo(expandDims(input('now', [width]), 0), ['batch', width]);
      const plans = expandDims(input('plans', ['batch', horizon, 2]), 1);
      const courses = rollOutPlans(now, plans, step);
      const rolling = await fit.program('roll-out', {
        states: narrow(reshape(courses, [courses.shape[0], horizon + 1, width]), 1, 1, horizon),
      });
      let predictor = mlpOnHost(await fit.state.read(), 'model.', 3);
      const model: WorldModel = {
        predict: (state, action) => {
          const change = predictor(Float64Array.of(...Array.from(state), ...Array.from(action)));
          return change.map((v, i) => state[i] + v);
        },
        async rollOut(state, { shape: [count, length], data }) {
          // The graph has the longest horizon; what a shorter plan lacks is rest, and is cut off again.
          const padded = new Float32Array(count * horizon * 2);
          for (let i = 0; i < count; i++)
            padded.set(data.subarray(i * length * 2, (i + 1) * length * 2), i * horizon * 2);
          const { outputs } = await rolling.run({
            now: float32([width], Float32Array.from(state)),
            plans: float32([count, horizon, 2], padded),
          });
          const all = outputs.states.data as Float32Array;
          const states = new Float32Array(count * length * width);
          for (let i = 0; i < count; i++)
            states.set(all.subarray(i * horizon * width, (i * horizon + length) * width), i * length * width);
          return states;
        },
      };

      /** Own moves, each held for a while: states, actions and what followed, in episodes. */
      async function experience(name: string, count: number, factors: Float64Array) {
        run.phase(name, count);
        const rows: { s: Float64Array; a: Float64Array; next: Float64Array; episode: number; time: number }[] = [];
        let [place, action, held] = [anywhere(random), new Float64Array(2), 0];
        for (let i = 0; i < count; i++) {
          run.signal.throwIfAborted();
          if (i % EPISODE === 0) place = anywhere(random);
          if (held-- <= 0) {
            const [angle, pace] = [2 * Math.PI * random.uniform(), Math.sqrt(random.uniform()) * Math.SQRT2];
            action = Float64Array.of(pace * Math.cos(angle), pace * Math.sin(angle)).map((v) =>
              Math.min(1, Math.max(-1, v)),
            );
            held = random.integer(4);
          }
          const after = moved(place, action, factors, random);
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
      async function learn(name: string, rows: Awaited<ReturnType<typeof experience>>, updates: number): Promise<void> {
        run.phase(name, updates);
        const batch = 128;
        const begins = rows.flatMap(({ time }, i) => (time + AHEAD <= EPISODE && i + AHEAD <= rows.length ? [i] : []));
        for (let i = 0; i < updates; i++) {
          run.signal.throwIfAborted();
          const drawn = Array.from({ length: batch }, () => begins[random.integer(begins.length)]);
          const stretch = (of: (row: (typeof rows)[number]) => Float64Array): Float32Array =>
            Float32Array.from(drawn.flatMap((at) => rows.slice(at, at + AHEAD).flatMap((row) => [...of(row)])));
          await fit.step({
            begin: float32([batch, width], Float32Array.from(drawn.flatMap((at) => [...rows[at].s]))),
            actions: float32(
              [batch, AHEAD, 2],
              stretch((row) => row.a),
            ),
            truth: float32(
              [batch, AHEAD, width],
              stretch((row) => row.next),
            ),
          });
          await run.step();
        }
        predictor = mlpOnHost(await fit.state.read(), 'model.', 3);
      }
      await learn(
        'learns from moving',
        await experience('moves in an empty room', settings.move.steps, empty),
        settings.move.updates,
      );
      const acts = await experience('acts in two rooms', settings.act.steps, walled);
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
      const recall = recallPolicy(memory);
      const planning = createRandom(run.seed, 'planner');
      interface Way {
        readonly configurator: Configurator;
        readonly policy?: Policy;
        readonly cost?: CostModule;
        readonly learning?: Learning;
      }
      const embody = (way: Way): Agent<Uint8Array> =>
        createAgent<Uint8Array>({
          perceive: (picture) => ({ state: encode(picture) }),
          cost: way.cost ?? cost,
          actor: createActor({
            width: 2,
            model,
            planner: cemPlanner({ ...settings.planner, std: [0.7, 0.7], low: -1, high: 1, random: planning }),
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
        let [reached, apart, thought, imagined, seconds] = [0, 0, 0, 0, 0];
        for (let episode = 0; episode < episodes; episode++) {
          const chance = createRandom(run.seed, part, episode);
          agent.reset();
          let place = start(chance);
          for (let t = 0; t < steps; t++) {
            run.signal.throwIfAborted();
            const picture = glance(place);
            const began = performance.now();
            const done = await agent.step(picture);
            seconds += (performance.now() - began) / 1000;
            if (done.mode === 2) thought++;
            imagined += (done.deliberation?.tried ?? 0) * done.configuration.horizon;
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
            place = moved(place, done.action, walled, chance);
          }
          const left = Math.hypot(place[0] - rooms.home[0], place[1] - rooms.home[1]);
          apart += left / episodes;
          if (left < SUCCESS_DISTANCE) reached++;
        }
        const all = episodes * steps;
        return {
          home: reached / episodes,
          distance: apart,
          thought: thought / all,
          imagined: imagined / all,
          ms: (1000 * seconds) / all,
        };
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
            place = moved(place, action, walled, chance);
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
          return { action: Float64Array.of(dx / full, dy / full), confidence: 1 };
        },
      };
      const drifting = createRandom(run.seed, 'random');
      const anything: Policy = {
        act: () => ({ action: Float64Array.from({ length: 2 }, () => 2 * drifting.uniform() - 1), confidence: 1 }),
      };
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
      await rolling.close();
      await fit.close();
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

const distance = (a: Row, b: Row): number => {
  let squares = 0;
  for (let i = 0; i < b.length; i++) squares += (a[i] - b[i]) ** 2;
  return Math.sqrt(squares);
};

/** The wall above and below the door, and the border, as places of the stage. */
function wallsOf(wall: number, door: number): Stage['places'] {
  const [low, high] = BORDERS;
  const piece = (from: number, to: number) =>
    ({ name: 'wall', kind: 'wall', at: [wall, (from + to) / 2], half: [1, (to - from) / 2] }) as const;
  const border = (at: Point, half: Point) => ({ name: 'border', kind: 'wall', at, half }) as const;
  const [middle, reach] = [(low + high) / 2, (high - low) / 2];
  return [
    piece(low, door - 4),
    piece(door + 4, high),
    border([middle, low], [reach + 0.5, 0.5]),
    border([middle, high], [reach + 0.5, 0.5]),
    border([low, middle], [0.5, reach + 0.5]),
    border([high, middle], [0.5, reach + 0.5]),
  ];
}

const canvas = new Uint8Array(SIZE * SIZE);

/** What the eye sees of a dot: mean brightness of squares of 5 pixels, [13 * 13]. */
export function glance([x, y]: Row & Iterable<number>): Uint8Array {
  paintDot(x, y, canvas, BLUR);
  const seen = new Uint8Array(PIXELS);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      let total = 0;
      for (let i = 0; i < POOL; i++)
        for (let j = 0; j < POOL; j++) total += canvas[(row * POOL + i) * SIZE + column * POOL + j];
      seen[row * SIDE + column] = Math.round(total / (POOL * POOL));
    }
  }
  return seen;
}

/** Pictures as what the encoder takes: 0 to 4. */
const lit = (pictures: readonly Uint8Array[]): Float32Array => {
  const out = new Float32Array(pictures.length * PIXELS);
  for (const [i, picture] of pictures.entries()) for (let p = 0; p < PIXELS; p++) out[i * PIXELS + p] = picture[p] / 64;
  return out;
};

/**
 * Learns to see by watching: representations of three pictures in a row, of which the third is foretold from the first two, with
 * the variance and covariance terms of VICReg against collapse and temporal similarity. No label and no action is used. Places are fitted afterwards,
 * for people, by a linear probe.
 */
async function watch(run: LifeRun, { watch: { clips, frames, steps, width } }: SkillSettings) {
  const engine = await run.engine();
  const random = createRandom(run.seed, 'watch');
  run.phase('watches a dot', clips);
  const pictures: Uint8Array[] = [];
  const places: number[] = [];
  for (let clip = 0; clip < clips; clip++) {
    run.signal.throwIfAborted();
    const [angle, pace] = [2 * Math.PI * random.uniform(), 1 + 4 * random.uniform()];
    const at = [0, 1].map(() => LOW + (HIGH - LOW) * random.uniform());
    const speed = [pace * Math.cos(angle), pace * Math.sin(angle)];
    for (let t = 0; t < frames; t++) {
      pictures.push(glance(at));
      places.push(...at);
      for (const axis of [0, 1]) {
        at[axis] += speed[axis];
        if (at[axis] < LOW || at[axis] > HIGH) {
          speed[axis] = -speed[axis];
          at[axis] = 2 * (at[axis] < LOW ? LOW : HIGH) - at[axis];
        }
      }
    }
    await run.step();
  }
  const encoder = makeModule('encoder.', mlpSpec([PIXELS, 96, 64, width]));
  const predictor = makeModule('predictor.', mlpSpec([2 * width, 64, width]));
  const seen = input('pictures', ['batch', 3, PIXELS]);
  const s = mlpForward(seen, encoder.weights, 3);
  const of = (t: number): Tensor => reshape(narrow(s, 1, t, 1), [s.shape[0], width]);
  const foretold = mlpForward(concat([of(0), of(1)], 1), predictor.weights, 2);
  const alive = varianceCovariance(reshape(s, [-1, width]), { variance: 1, covariance: 0.2 }).loss;
  const fit = await createFit(engine, {
    name: 'watch',
    modules: [encoder, predictor],
    // What is seen changes little from one picture to the next: with it representations are smooth over places (EB-JEPA).
    loss: add(add(mseLoss(foretold, of(2)), alive), add(mseLoss(of(0), of(1)), mseLoss(of(1), of(2)))),
    seed: run.seed,
    lr: 1e-3,
  });
  const untrained = mlpOnHost(await fit.state.read(), 'encoder.', 3);
  run.phase('learns to see', steps);
  const batch = 64;
  for (let i = 0; i < steps; i++) {
    run.signal.throwIfAborted();
    const drawn = Array.from({ length: batch }, () => random.integer(clips) * frames + random.integer(frames - 2));
    await fit.step({
      pictures: float32([batch, 3, PIXELS], lit(drawn.flatMap((f) => [pictures[f], pictures[f + 1], pictures[f + 2]]))),
    });
    await run.step();
  }
  const trained = mlpOnHost(await fit.state.read(), 'encoder.', 3);
  await fit.close();
  const encode = (picture: Uint8Array): Float64Array => trained(lit([picture]));

  // A probe of places, fitted on one half of the pictures and measured on the other.
  const count = Math.min(2000, pictures.length);
  const probe = (see: typeof trained) => {
    const rows = {
      shape: [count, width],
      data: Float32Array.from(pictures.slice(0, count).flatMap((p) => [...see(lit([p]))])),
    };
    const half = (t: { shape: number[]; data: Float32Array }, from: number) => {
      const wide = t.shape[1];
      return {
        shape: [count / 2, wide],
        data: t.data.subarray((from * wide * count) / 2, ((from + 1) * wide * count) / 2),
      };
    };
    const truth = { shape: [count, 2], data: Float32Array.from(places.slice(0, 2 * count)) };
    const fitted = fitRidge(half(rows, 0), half(truth, 0), 1e-3);
    return { fitted, scores: regressionScores(predictLinear(fitted, half(rows, 1)), half(truth, 1)) };
  };
  const [{ fitted, scores }, blind] = [probe(trained), probe(untrained)];
  return {
    encode,
    at: (state: Row): Point => {
      const [x, y] = fitted.intercept.map((b, o) => {
        let total = b;
        for (let i = 0; i < width; i++) total += fitted.weights.data[o * width + i] * state[i];
        return total;
      });
      return [x, y];
    },
    seeing: { r2: scores.r2, rmse: scores.rmse, random: blind.scores.r2, randomRmse: blind.scores.rmse },
  };
}

/** Error of roll-outs of 8 steps along what was really done, as a share of that of standing still. */
function rollOutError(
  model: WorldModel,
  rows: readonly {
    readonly s: Float64Array;
    readonly a: Float64Array;
    readonly next: Float64Array;
    readonly time: number;
  }[],
): number {
  let [own, still] = [0, 0];
  for (let i = 0; i + 8 <= rows.length; i++) {
    if (rows[i].time + 8 > EPISODE) continue;
    let state = rows[i].s;
    for (let k = 0; k < 8; k++) state = model.predict(state, rows[i + k].a);
    own += distance(state, rows[i + 7].next) ** 2;
    still += distance(rows[i].s, rows[i + 7].next) ** 2;
  }
  return Math.sqrt(own / still);
}
