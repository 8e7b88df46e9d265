import { float32, type HostTensor } from '../base/tensor.js';
import { abs, sub } from '../graph/ops/elementwise.js';
import { broadcastTo, expandDims, narrow } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input } from '../graph/tensor.js';
import { rollOut } from '../methods/vjepa2-ac.js';
import type { AcPredictorConfig } from '../nn/ac-predictor.js';
import type { Module } from '../nn/weights.js';
import type { Engine, State } from '../runtime/index.js';
import { type CemIteration, crossEntropyMethod, type LimitAction } from './cem.js';
import { nextPose, POSE_WIDTH } from './pose.js';

/** Planning for a robot arm with V-JEPA 2-AC's predictor (section 3.2; `notebooks/utils`). */

/** Where a plan starts and what it shall reach. */
export interface ArmTask {
  /** Normalised representation of the frame seen now, [tokens, width], and of the goal. */
  readonly now: HostTensor<'float32'>;
  readonly goal: HostTensor<'float32'>;
  /** Pose now [7]. */
  readonly pose: ArrayLike<number>;
}

/** Energies of plans under the predictor, for plans of one length. */
export interface ArmModel {
  /** Plans [plans, horizon, 7] -> mean absolute difference between the last predicted frame and the goal. */
  costs(task: ArmTask, plans: HostTensor<'float32'>): Promise<Float32Array>;
  close(): Promise<void>;
}

/** `state` holds the values of `predictor`. */
export async function armModel(
  engine: Engine,
  state: State,
  predictor: Module,
  config: AcPredictorConfig,
  horizon: number,
): Promise<ArmModel> {
  const each = config.grid[0] * config.grid[1];
  const frame = [each, config.encoderWidth];
  const actions = input('actions', ['batch', horizon, POSE_WIDTH]);
  const states = input('states', ['batch', horizon, POSE_WIDTH]);
  const now = broadcastTo(expandDims(input('now', frame), 0), ['batch', ...frame]);
  const rolled = rollOut(now, { actions, states }, horizon, predictor.weights, config);
  const last = narrow(rolled, 1, (horizon - 1) * each, each);
  const energies = mean(abs(sub(last, input('goal', frame))), [1, 2]);
  const program = await engine.compile({ name: 'energy of plans', outputs: { energies } }, state);
  return {
    costs: async ({ now: seen, goal, pose }, plans) => {
      const { outputs } = await program.run({ actions: plans, states: posesBefore(pose, plans), now: seen, goal });
      return outputs.energies.data as Float32Array;
    },
    close: () => program.close(),
  };
}

/** Poses after plans [plans, horizon, 7] that start at `pose`, [plans, 7]. */
export function finalPoses(pose: ArrayLike<number>, plans: HostTensor<'float32'>): HostTensor<'float32'> {
  const [count, steps] = plans.shape;
  const poses = posesAlong(pose, plans).filter((_, i) => i % (steps + 1) === steps);
  return float32([count, POSE_WIDTH], Float32Array.from(poses.flat()));
}

/** Poses of every plan from the first to the one after its last action, plan by plan. */
function posesAlong(start: ArrayLike<number>, { shape: [count, steps], data }: HostTensor<'float32'>): number[][] {
  return Array.from({ length: count }, (_, plan) => {
    const poses = [Array.from(start)];
    for (let step = 0; step < steps; step++) {
      const at = (plan * steps + step) * POSE_WIDTH;
      poses.push(nextPose(poses[step], data.subarray(at, at + POSE_WIDTH)));
    }
    return poses;
  }).flat();
}

/** The pose before each action, [plans, horizon, 7]: what the predictor is told. */
function posesBefore(start: ArrayLike<number>, plans: HostTensor<'float32'>): HostTensor<'float32'> {
  const [count, steps] = plans.shape;
  const poses = posesAlong(start, plans).filter((_, i) => i % (steps + 1) !== steps);
  return float32([count, steps, POSE_WIDTH], Float32Array.from(poses.flat()));
}

export interface ArmPlannerOptions {
  readonly horizon: number;
  readonly samples: number;
  readonly elites: number;
  readonly iterations: number;
  /** Farthest move along each axis in one action, in the units of the poses (metres). */
  readonly maxMove: number;
  /** Share of the old mean and deviation that stays at each iteration, of positions and of the gripper. */
  readonly keep: {
    readonly mean: number;
    readonly std: number;
    readonly meanGripper: number;
    readonly stdGripper: number;
  };
  /** Axes (0, 1, 2) whose move is given. */
  readonly fixed?: Readonly<Record<number, number>>;
  /** From this action on the gripper closes. */
  readonly closeFrom?: number;
}

/** Farthest change of the gripper that is drawn, and the change below which it stays as it is. */
const MAX_GRIPPER = 0.75;
const SMALL_GRIPPER = 0.25;
/** Numbers that are searched: x, y, z, gripper. Rotations stay 0. */
const SEARCHED = 4;

/** Actions [n, 4] -> [n, 7]. */
function withoutRotation(shape: readonly number[], data: ArrayLike<number>): HostTensor<'float32'> {
  const rows = Array.from({ length: data.length / SEARCHED }, (_, i) => {
    const [x, y, z, gripper] = [0, 1, 2, 3].map((j) => data[i * SEARCHED + j]);
    return [x, y, z, 0, 0, 0, gripper];
  });
  return float32([...shape, POSE_WIDTH], Float32Array.from(rows.flat()));
}

/** An iteration of the search, with whole actions. */
export type ArmIteration = Omit<CemIteration, 'mean' | 'std'>;

/**
 * The best plan found, [horizon, 7]: the mean of the last distribution (the cross-entropy method on four numbers an action).
 * Plan again after each action that was taken. `noise(iteration)` gives normal numbers [samples, horizon, 4].
 */
export async function planArm(
  model: ArmModel,
  task: ArmTask,
  options: ArmPlannerOptions,
  noise: (iteration: number) => ArrayLike<number>,
  onIteration?: (iteration: ArmIteration) => void,
): Promise<HostTensor<'float32'>> {
  const { horizon, samples, elites, iterations, maxMove, keep, fixed = {}, closeFrom } = options;
  const limit: LimitAction = (action, step) => {
    for (let axis = 0; axis < 3; axis++)
      action[axis] = fixed[axis] ?? Math.min(maxMove, Math.max(-maxMove, action[axis]));
    action[3] = Math.min(MAX_GRIPPER, Math.max(-MAX_GRIPPER, action[3]));
    if (closeFrom !== undefined && step >= closeFrom) action[3] = 1;
  };
  const whole = (plans: HostTensor<'float32'>): HostTensor<'float32'> =>
    withoutRotation(plans.shape.slice(0, 2), plans.data);
  const { mean: found } = await crossEntropyMethod(
    (plans) => model.costs(task, whole(plans)),
    {
      horizon,
      width: SEARCHED,
      samples,
      elites,
      iterations,
      mean: Float64Array.from({ length: horizon * SEARCHED }, (_, i) => fixed[i % SEARCHED] ?? 0),
      std: [maxMove, maxMove, maxMove, 1],
      keepMean: [keep.mean, keep.mean, keep.mean, keep.meanGripper],
      keepStd: [keep.std, keep.std, keep.std, keep.stdGripper],
      limit,
    },
    noise,
    onIteration && (({ plans, costs, elites: best }) => onIteration({ plans: whole(plans), costs, elites: best })),
  );
  const answer = found.map((value, i) => (i % SEARCHED === 3 && Math.abs(value) < SMALL_GRIPPER ? 0 : value));
  return withoutRotation([horizon], answer);
}

/**
 * Plans that move the hand by every point of a cube of side 2 `reach` with `count` points an axis (x slowest), the same action
 * `repeat` times: [count ^ 3, repeat, 7]. Their costs are an energy landscape.
 */
export function moveGrid(reach: number, count: number, repeat = 1): HostTensor<'float32'> {
  const along = Array.from({ length: count }, (_, i) => (count === 1 ? 0 : -reach + (2 * reach * i) / (count - 1)));
  const rows = along.flatMap((x) =>
    along.flatMap((y) => along.map((z) => Array.from({ length: repeat }, () => [x, y, z, 0, 0, 0, 0]))),
  );
  return float32([count ** 3, repeat, POSE_WIDTH], Float32Array.from(rows.flat(2)));
}
