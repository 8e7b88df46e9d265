import { numpyPermutation } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import {
  acrobot,
  cartPole,
  classicObservation,
  classicReward,
  mountainCar,
  pendulum,
} from '../../src/world/envs/classic.js';
import {
  truncatedNormalCdf,
  truncatedNormalMoments,
  vonMisesCdf,
  vonMisesCosine,
} from '../../src/world/envs/distributions.js';
import { digitCorner, reflectedAtEnd } from '../../src/world/envs/passive.js';
import { pointMaze } from '../../src/world/envs/point-maze.js';
import { BLOCK_BODY, BLOCK_VERTICES, pushBlock } from '../../src/world/envs/push-block.js';
import {
  BORDERS,
  blocked,
  bounce,
  crossingMoves,
  episodeEnds,
  follow,
  layouts,
  nearGoal,
  normalizePictures,
  normalizePlaces,
  paintDot,
  paintWalls,
  placeErrorInPixels,
  plainStart,
  SIZE,
  STEP_LENGTHS,
  TURN_KAPPA,
  twoRooms,
  unnormalizePictures,
  walkMoves,
} from '../../src/world/envs/two-rooms.js';
import { twoRoomsLarge } from '../../src/world/envs/two-rooms-large.js';
import { factorIndex, openBatch, type World } from '../../src/world/envs/world.js';
import { attempt, type Harness, readCases } from './harness.js';
import {
  compareAll,
  compareWorld,
  type Failures,
  outTolerance,
  rolesOf,
  type Values,
  type WorldCase,
} from './world-case.js';

type Roles = ReturnType<typeof rolesOf>;
type Numbers = ArrayLike<number>;
type Shaped = { shape: readonly number[]; data: Numbers };

const numbers = (tensor: HostTensor): Numbers => tensor.data as Float32Array;
const shaped = (shape: readonly number[], data: Numbers): Shaped => ({ shape, data });
const pair = (data: Numbers, i: number): [number, number] => [data[2 * i], data[2 * i + 1]];
const range = (code: string): [number, number] => {
  const [first, last = first] = code.split('-').map(Number);
  return [first, last];
};
const layoutOf = (data: Numbers, i: number) => ({ wall: data[2 * i], door: data[2 * i + 1] });

function dots({ in: given, out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const [count] = given.position.shape;
  const [whole] = out.images.shape;
  const side = out.patch.shape[1];
  const [origins, patches, sums, images]: number[][] = [[], [], [], []];
  for (let i = 0; i < count; i++) {
    const image = new Uint8Array(config.img_size ** 2);
    paintDot(...pair(numbers(given.position), i), image, config.dot_std, config.img_size);
    const origin = pair(numbers(out.patch_origin), i);
    origins.push(...origin);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) patches.push(image[(origin[1] + y) * config.img_size + origin[0] + x] ?? 0);
    }
    sums.push(image.reduce((a, b) => a + b, 0));
    if (i < whole) images.push(...image);
  }
  return {
    images: shaped(out.images.shape, images),
    patch: shaped(out.patch.shape, patches),
    patch_origin: shaped(out.patch_origin.shape, origins),
    sum: shaped(out.sum.shape, sums),
  };
}

function walls({ in: given, out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  if (config.img_size !== SIZE || config.border_lines.join() !== BORDERS.join()) throw new Error('another room');
  const [count] = given.layout.shape;
  const images = Array.from({ length: count }, (_, i) => {
    const image = new Uint8Array(SIZE * SIZE);
    const half = Math.floor(config.wall_width / 2);
    paintWalls({ ...layoutOf(numbers(given.layout), i), wallHalf: half, doorHalf: config.door_space }, image);
    return Array.from(image);
  });
  return { images: shaped(out.images.shape, images.flat()) };
}

function normalizer({ in: given, out }: Roles): Record<string, Shaped> {
  const small = normalizePictures(given.small.data as Uint8Array, given.small.shape[2] * given.small.shape[3]);
  const [channels, side] = given.real.shape;
  const real = normalizePictures(given.real.data as Uint8Array, side * side);
  const rows = Array.from({ length: channels }, (_, c) =>
    Array.from({ length: out.real_rows.shape[1] }, (_, r) => {
      const from = (c * side + 8 * r) * side;
      return Array.from(real.subarray(from, from + side));
    }),
  );
  const each = Array.from({ length: channels }, (_, c) =>
    Array.from(real.subarray(c * side * side, (c + 1) * side * side)),
  );
  const total = (of: (v: number) => number) => each.map((values) => values.reduce((sum, v) => sum + of(v), 0));
  return {
    small: shaped(out.small.shape, small),
    unnormalized_small: shaped(
      out.small.shape,
      unnormalizePictures(small, given.small.shape[2] * given.small.shape[3]),
    ),
    real_rows: shaped(out.real_rows.shape, rows.flat(2)),
    real_sum: shaped(
      [channels],
      total((v) => v),
    ),
    real_sumsq: shaped(
      [channels],
      total((v) => v * v),
    ),
    location: shaped(given.location.shape, normalizePlaces(numbers(given.location))),
    mse: shaped(given.mse.shape, Array.from(numbers(given.mse), placeErrorInPixels)),
  };
}

function layoutTable(_: Roles, { config }: WorldCase): Record<string, Shaped> {
  const exclude = config.exclude_wall_train && {
    walls: range(config.exclude_wall_train),
    doors: range(config.exclude_door_train),
  };
  const fixed = config.fix_wall
    ? { wall: config.fix_wall_location ?? 32, door: config.fix_door_location ?? 18 }
    : undefined;
  const table = layouts({ fixed, exclude, only: !config.train && exclude !== undefined });
  const column = (of: (row: (typeof table)[number]) => number) => shaped([table.length], table.map(of));
  return {
    wall: column(({ wall }) => wall),
    door: column(({ door }) => door),
    horizontal: column(({ horizontal }) => Number(horizontal)),
  };
}

function episodes({ in: given, 'f64.in': draws, out }: Roles): Record<string, Shaped> {
  const table = layouts();
  const count = out.start.shape[0];
  const rows = Array.from({ length: count }, (_, i) => {
    const layout = table[numbers(given.layout_index)[i]];
    const uniform = Array.from(numbers(draws.uniform)).slice(5 * i, 5 * i + 5);
    return { layout: [layout.wall, layout.door], ...episodeEnds(layout, uniform) };
  });
  return {
    layout: shaped(
      [count, 2],
      rows.flatMap(({ layout }) => layout),
    ),
    start: shaped(
      [count, 2],
      rows.flatMap(({ start }) => start),
    ),
    goal: shaped(
      [count, 2],
      rows.flatMap(({ goal }) => goal),
    ),
  };
}

function success({ in: given }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const world = twoRooms();
  const count = given.position.shape[0];
  const rows = Array.from({ length: count }, (_, i) => {
    const [position, goal] = [given.position, given.goal].map((t) => Float64Array.from(pair(numbers(t), i)));
    const { distance, success } = world.reached(position, goal, new Float64Array());
    if (success !== distance < config.threshold) throw new Error('another threshold');
    return { distance, success: Number(success), done: Number(nearGoal(position, goal)) };
  });
  const column = (of: (row: (typeof rows)[number]) => number) => shaped([count], rows.map(of));
  return { distance: column((r) => r.distance), success: column((r) => r.success), done: column((r) => r.done) };
}

function requireRoom({ wall_width, door_space, borders }: WorldCase['config']): void {
  if (wall_width !== 3 || door_space !== 4 || borders.join() !== BORDERS.join()) throw new Error('another room');
}

function contactTrajectories({ in: given }: Roles, { config }: WorldCase): Record<string, Shaped> {
  requireRoom(config);
  const [count, steps] = given.actions.shape;
  const [positions, flags]: number[][] = [[], []];
  for (let i = 0; i < count; i++) {
    const layout = layoutOf(numbers(given.layout), i);
    let [x, y] = pair(numbers(given.start), i);
    positions.push(x, y);
    for (let t = 0; t < steps; t++) {
      const [dx, dy] = pair(numbers(given.actions), i * steps + t);
      if (config.rule === 'data') {
        const stays = blocked(x, y, dx, dy, layout);
        if (!stays) [x, y] = [x + dx, y + dy];
        flags.push(Number(stays));
      } else {
        let drawn = 0;
        const from = 4 * (i * steps + t);
        [x, y] = bounce(x, y, dx, dy, layout, () => numbers(given.noise)[from + drawn++]);
        flags.push(drawn / 2);
      }
      positions.push(x, y);
    }
  }
  return {
    positions: shaped([count, steps + 1, 2], positions),
    [config.rule === 'data' ? 'blocked' : 'draws']: shaped([count, steps], flags),
  };
}

function singleMoves({ in: given }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const layout = { wall: config.wall_x, door: config.door_y };
  const count = given.position.shape[0];
  const rows = Array.from({ length: count }, (_, i) => {
    const [x, y] = pair(numbers(given.position), i);
    const [dx, dy] = pair(numbers(given.action), i);
    const stays = blocked(x, y, dx, dy, layout);
    let drawn = 0;
    const after = bounce(x, y, dx, dy, layout, () => {
      drawn++;
      return 0;
    });
    return { after, stays, draws: drawn / 2, moved: stays ? [x, y] : [x + dx, y + dy] };
  });
  return {
    bounce: shaped(
      [count, 2],
      rows.flatMap(({ after }) => after),
    ),
    bounce_draws: shaped(
      [count],
      rows.map(({ draws }) => draws),
    ),
    data: shaped(
      [count, 2],
      rows.flatMap(({ moved }) => moved),
    ),
    data_blocked: shaped(
      [count],
      rows.map(({ stays }) => Number(stays)),
    ),
  };
}

function dataTrajectories({ in: given, out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const { action_step_mean, action_step_std, action_lower_bd, action_upper_bd, action_angle_noise } = config.config;
  const expected = [action_step_mean, action_step_std, action_lower_bd, action_upper_bd, 1 / action_angle_noise];
  const ours = [STEP_LENGTHS.mean, STEP_LENGTHS.std, STEP_LENGTHS.low, STEP_LENGTHS.high, TURN_KAPPA];
  if (ours.some((value, i) => value !== expected[i])) throw new Error('other moves');
  const count = given.layout.shape[0];
  const row = (name: string, i: number): Numbers => {
    const width = given[name].data.length / count;
    return Array.from(numbers(given[name])).slice(i * width, (i + 1) * width);
  };
  const rows = Array.from({ length: count }, (_, i) => {
    const layout = layoutOf(numbers(given.layout), i);
    const flag = (name: string): boolean => row(name, i)[0] === 1;
    const { start: plain, moved } = plainStart(layout, pair(numbers(given.start_uniform), i), () => {
      const [left, right] = pair(numbers(given.new_x), i);
      return flag('moved_left') ? left : right;
    });
    if (!flag('cross') && moved !== flag('moved')) throw new Error(`trajectory ${i}: moved out of the wall: ${moved}`);
    const left = { heading: row('left_heading', i)[0], turns: row('left_turns', i), lengths: row('left_lengths', i) };
    const { start, moves } = flag('cross')
      ? crossingMoves({
          point: pair(numbers(given.door_point), i),
          step: row('door_step', i)[0],
          left,
          right: { heading: left.heading + Math.PI, turns: row('right_turns', i), lengths: row('right_lengths', i) },
          mirrored: flag('mirror'),
        })
      : {
          start: plain,
          moves: walkMoves({ heading: row('heading', i)[0], turns: row('turns', i), lengths: row('lengths', i) }),
        };
    return { start, moves: Array.from(moves), places: Array.from(follow(start, moves, layout)) };
  });
  return {
    start: shaped(
      out.start.shape,
      rows.flatMap(({ start }) => start),
    ),
    actions: shaped(
      out.actions.shape,
      rows.flatMap(({ moves }) => moves),
    ),
    positions: shaped(
      out.positions.shape,
      rows.flatMap(({ places }) => places),
    ),
  };
}

function distributions({ 'f64.in': given }: Roles): Record<string, Shaped> {
  const cdf = (name: string, of: (x: number) => number) =>
    shaped(given[name].shape, Array.from(numbers(given[name]), of));
  return {
    length_cdf: cdf('length', (x) => truncatedNormalCdf(x, STEP_LENGTHS)),
    turn_cdf: cdf('turn', (x) => vonMisesCdf(x, TURN_KAPPA)),
    moments: shaped([3], [...truncatedNormalMoments(STEP_LENGTHS), vonMisesCosine(TURN_KAPPA)]),
  };
}

function digits({ 'f64.in': given, out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const { image_size: size, digit_size: digit, step_length: step, frames } = config;
  const count = given.uniform.shape[1];
  const [top, left]: number[][] = [[], []];
  const draw = (row: number) => Array.from(numbers(given.uniform)).slice(row * count, (row + 1) * count);
  const [ys, xs] = [draw(0), draw(1)];
  const angles = draw(2).map((share) => 2 * Math.PI * share);
  const [vy, vx] = [angles.map(Math.sin), angles.map(Math.cos)];
  for (let t = 0; t < frames; t++) {
    for (let i = 0; i < count; i++) {
      [ys[i], vy[i]] = reflectedAtEnd(ys[i], vy[i], step);
      [xs[i], vx[i]] = reflectedAtEnd(xs[i], vx[i], step);
      const corner = digitCorner(ys[i], xs[i], size, digit, digit);
      top.push(corner[0]);
      left.push(corner[1]);
    }
  }
  return { top: shaped(out.top.shape, top), left: shaped(out.left.shape, left) };
}

function split({ out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const order = numpyPermutation(config.seed, config.n);
  return {
    first: shaped(out.first.shape, order.subarray(0, out.first.shape[0])),
    index1000: shaped(out.index1000.shape, order.subarray(1000, 1000 + out.index1000.shape[0])),
  };
}

const CLASSIC: Record<string, { world: () => World; push: (action: number) => number }> = {
  'CartPole-v1': { world: cartPole, push: (a) => 2 * a - 1 },
  'Pendulum-v1': { world: pendulum, push: (a) => a },
  'MountainCar-v0': { world: () => mountainCar('discrete'), push: (a) => a - 1 },
  'MountainCarContinuous-v0': { world: () => mountainCar('continuous'), push: (a) => a },
  'Acrobot-v1': { world: acrobot, push: (a) => a - 1 },
};

function classic(name: string, { 'f64.in': given, 'f64.out': exact, out }: Roles, each: WorldCase): Failures {
  const { world: make, push } = CLASSIC[name];
  const world = make();
  const { episodes: count, steps } = each.config;
  const batch = openBatch(world, { count, seed: 0 });
  batch.states.set(numbers(given.state0));
  const width = world.state.length;
  const [states, seen, rewards, ended]: number[][][] = [0, 1, 2, 3].map(() => Array.from({ length: count }, () => []));
  const over = new Uint8Array(count);
  for (let t = 0; t < steps; t++) {
    const before = batch.states.slice();
    const actions = Array.from({ length: count }, (_, i) => push(numbers(given.actions)[i * steps + t]));
    const { terminated } = batch.step(actions);
    for (let i = 0; i < count; i++) {
      const state = batch.states.subarray(i * width, (i + 1) * width);
      states[i].push(...state);
      seen[i].push(...classicObservation(world, state));
      const old = before.subarray(i * width, (i + 1) * width);
      rewards[i].push(classicReward(world, old, actions[i], terminated[i] === 1, over[i] === 1));
      ended[i].push(terminated[i]);
      if (terminated[i]) over[i] = 1;
    }
  }
  const flat = (rows: number[][], ...shape: number[]) => shaped([count, steps, ...shape], rows.flat());
  const tolerance = outTolerance(each);

  return [
    ...compareAll('f64.out', { states: flat(states, width) }, exact, tolerance),
    ...compareAll(
      'out',
      { obs: flat(seen, out.obs.shape[2]), rewards: flat(rewards), terminated: flat(ended) },
      out,
      tolerance,
    ),
  ];
}

function largeRooms({ in: given, out }: Roles): Record<string, Shaped> {
  const world = twoRoomsLarge();
  const [count, steps] = given.actions.shape;
  const batch = openBatch(world, { count, seed: 0 });
  batch.states.set(numbers(given.start));
  batch.goals.set(numbers(given.target));
  const fields: Record<string, string> = {
    axis: 'vertical',
    thickness: 'thickness',
    doors: 'doors',
    radius: 'radius',
    speed: 'speed',
  };
  const width = world.factors.length;
  for (let i = 0; i < count; i++) {
    for (const [key, name] of Object.entries(fields))
      batch.factors[i * width + factorIndex(world, name)] = numbers(given[key])[i];
    const most = given.door_pos.shape[1];
    for (let d = 0; d < most; d++) {
      batch.factors[i * width + factorIndex(world, `door ${d}`)] = numbers(given.door_pos)[i * most + d];
      batch.factors[i * width + factorIndex(world, `door half ${d}`)] = numbers(given.door_size)[i * most + d];
    }
  }
  const { positions, ended } = drive(batch, numbers(given.actions), steps);
  const pictures = batch.render();
  const side = out.images.shape[2];
  const images: number[] = [];
  for (let i = 0; i < out.images.shape[0]; i++) {
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < side; y++)
        for (let x = 0; x < side; x++) images.push(pictures[((i * 3 + c) * 224 + 7 * y) * 224 + 7 * x]);
    }
  }
  return {
    positions: shaped(out.positions.shape, positions),
    terminated: shaped(out.terminated.shape, ended),
    images: shaped(out.images.shape, images),
  };
}

/** Places and successes of all environments along actions [count, steps, 2]. */
function drive(
  batch: ReturnType<typeof openBatch>,
  actions: Numbers,
  steps: number,
): { positions: number[]; ended: number[] } {
  const { count, states } = batch;
  const places: number[][] = Array.from({ length: count }, (_, i) => [states[2 * i], states[2 * i + 1]]);
  const ended: number[][] = Array.from({ length: count }, () => []);
  for (let t = 0; t < steps; t++) {
    batch.step(Array.from({ length: count }, (_, i) => pair(actions, i * steps + t)).flat());
    const { successes } = batch.outcome();
    for (let i = 0; i < count; i++) {
      places[i].push(states[2 * i], states[2 * i + 1]);
      ended[i].push(successes[i]);
    }
  }
  return { positions: places.flat(), ended: ended.flat() };
}

function maze({ in: given, out }: Roles, { config }: WorldCase): Record<string, Shaped> {
  const world = pointMaze('boxes');
  const [count, steps] = given.actions.shape;
  const batch = openBatch(world, { count, seed: 0, factors: { radius: config.agent_radius, speed: config.speed } });
  batch.states.set(numbers(given.start));
  batch.goals.set(numbers(given.goal));
  const boxes = given.walls.shape[1];
  const width = world.factors.length;
  for (let i = 0; i < count; i++) {
    batch.factors[i * width + factorIndex(world, 'walls')] = boxes;
    const own = Array.from(numbers(given.walls)).slice(4 * boxes * i, 4 * boxes * (i + 1));
    batch.factors.set(own, i * width + factorIndex(world, 'wall 0 left'));
  }
  const { positions, ended } = drive(batch, numbers(given.actions), steps);
  return {
    positions: shaped(out.positions.shape, positions),
    terminated: shaped(out.terminated.shape, ended),
    rewards: shaped(
      out.rewards.shape,
      ended.map((reached) => (reached ? 1 : -0.01)),
    ),
  };
}

const median = (values: number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};
const turnBetween = (a: number, b: number): number => {
  const turn = Math.abs(a - b) % (2 * Math.PI);
  return Math.min(turn, 2 * Math.PI - turn);
};

/** The rules of the README's section on Push-T. */
function pushT({ 'f64.in': given, out }: Roles, { config }: WorldCase): Failures {
  const [count, steps] = given.actions.shape;
  if (steps !== config.steps) return ['another number of steps'];
  const world = pushBlock();
  const batch = openBatch(world, { count, seed: 0 });
  const width = world.state.length;
  for (let i = 0; i < count; i++)
    batch.states.set(Array.from(numbers(given.state0)).slice(7 * i, 7 * i + 7), i * width);
  const path: Float64Array[] = [batch.states.slice()];
  for (let t = 0; t < steps; t++) {
    batch.step(Array.from({ length: count }, (_, i) => pair(numbers(given.actions), i * steps + t)).flat());
    path.push(batch.states.slice());
  }
  const ours = (i: number, t: number, k: number) => path[t][i * width + k];
  const theirs = (i: number, t: number, k: number) => numbers(out.states)[(i * (steps + 1) + t) * 7 + k];
  const failures: Failures = [
    compareWorld('block_vertices', shaped([8, 2], BLOCK_VERTICES.flat()), out.block_vertices, {
      rtol: 1e-6,
      atol: 1e-5,
    }),
    compareWorld('body', shaped([5], [...BLOCK_BODY, -1]), out.body, { rtol: 1e-6, atol: 1e-5 }),
  ];
  const [close, later]: [boolean[], number[]] = [[], []];
  for (let i = 0; i < count; i++) {
    const agent = [0, 1, 5, 6].flatMap((k) =>
      Array.from({ length: steps + 1 }, (_, t) => [ours(i, t, k), theirs(i, t, k)]),
    );
    const off = agent.find(([a, b]) => !(Math.abs(a - b) <= 1e-3 + 1e-4 * Math.abs(b)));
    if (off) failures.push(`trace ${i}: the disc is at ${off[0]} instead of ${off[1]}`);
    const moves = (t: number) =>
      Math.max(
        Math.abs(ours(i, t + 1, 2) - ours(i, t, 2)),
        Math.abs(ours(i, t + 1, 3) - ours(i, t, 3)),
        100 * turnBetween(ours(i, t + 1, 4), ours(i, t, 4)),
      );
    const first = numbers(out.first_contact)[i];
    const contacts = (t: number) => numbers(out.contacts)[i * steps + t];
    for (let t = 0; t < steps; t++) {
      const still = first < 0 || t < first || (t > 0 && contacts(t) === 0 && contacts(t - 1) === 0);
      if (still && !(moves(t) <= 1e-3)) failures.push(`trace ${i}: the block moves by ${moves(t)} in action ${t}`);
    }
    if (first < 0) continue;
    const begun = Array.from({ length: steps }, (_, t) => t).find((t) => moves(t) > 1e-3) ?? Number.POSITIVE_INFINITY;
    if (!(Math.abs(begun - first) <= 1))
      failures.push(`trace ${i}: first contact in action ${begun} instead of ${first}`);
    const error = (t: number) => Math.hypot(ours(i, t, 2) - theirs(i, t, 2), ours(i, t, 3) - theirs(i, t, 3));
    close.push(error(first + 1) < 4 && turnBetween(ours(i, first + 1, 4), theirs(i, first + 1, 4)) < 0.05);
    if (first + 9 <= steps) later.push(error(first + 9));
  }
  if (close.filter(Boolean).length < 0.8 * close.length)
    failures.push(`only ${close.filter(Boolean).length} traces are close after contact`);
  if (!(median(later) <= 3)) failures.push(`median error ${median(later)} px eight actions later`);
  return failures;
}

/** By the whole name, or the part before the first slash. */
const FAMILIES: Record<string, (roles: Roles, each: WorldCase) => Record<string, Shaped>> = {
  dots,
  walls,
  normalizer: (r) => normalizer(r),
  layouts: layoutTable,
  evaluation_episodes: (r) => episodes(r),
  success,
  'trajectories/data': contactTrajectories,
  'trajectories/bounce': contactTrajectories,
  single_moves: singleMoves,
  vertical_moves: singleMoves,
  trajectories: dataTrajectories,
  distributions: (r) => distributions(r),
  trajectory: digits,
  split,
  two_room: (r) => largeRooms(r),
  point_maze: maze,
};

async function check(folder: string, name: string, each: WorldCase): Promise<Failures> {
  const own = rolesOf(folder, name, each.file);
  if (name in CLASSIC) return classic(name, own, each);
  if (name === 'push_t') return pushT(own, each);
  const family = FAMILIES[name] ?? FAMILIES[name.split('/')[0]];
  if (!family) return [`unknown case ${name}`];
  const expected: Values = { ...own.out, ...own['f64.out'] };
  if (Object.keys(expected).length === 0) return ['nothing is expected'];
  return compareAll('out', family(own, each), expected, outTolerance(each));
}

const harness: Harness = async function* (folder) {
  for (const [name, each] of Object.entries(readCases<{ cases: Record<string, WorldCase> }>(folder).cases)) {
    yield await attempt(name, () => check(folder, name, each));
  }
};

export default harness;
