import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import type { EpisodeDataset } from '../data/episodes/dataset.js';
import { OBSERVATIONS } from '../data/episodes/preparation.js';
import { fitRidge, type LinearModel, predictLinear, regressionScores } from '../eval/ridge.js';
import { mulDims } from '../graph/dims.js';
import { concat, expandDims, narrow, reshape, stack } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { constant, type Tensor } from '../graph/tensor.js';
import { type AcMethod, rollOut } from '../methods/vjepa2-ac.js';
import type { LatentModel, LatentOutline, PoseScale } from './latent.js';
import { goalDistances, overTime, pathsOfRows } from './planning/objectives.js';

/**
 * V-JEPA 2-AC as planners want it (section 3.2). A state is all tokens of one frame, normalised, token after token, and behind them
 * the pose that the predictor is told, standardised as in its training. Plans are judged by the mean absolute difference between
 * the tokens of predicted frames and those of the goal.
 */

export function acOutline({ config, encoder }: AcMethod): LatentOutline {
  const { predictor, frames } = config;
  const { stateWidth: told = predictor.actionWidth, grid, encoderWidth, mlpWidth } = predictor;
  const tokens = grid[0] * grid[1];
  return {
    title: 'V-JEPA 2-AC',
    observation: encoder.inputs[0].shape,
    actions: predictor.actionWidth,
    width: tokens * encoderWidth + told,
    told,
    footprint: tokens * mlpWidth,
    // The predictor never saw more frames than those of a window.
    furthest: frames - 1,
    objective: { distance: 'latent', time: 'last' },
    isDistanceLearned: false,
  };
}

/** `poses` for a model that is told any: how they follow from actions, for plans of any length that the model knows. */
export function acStates(
  method: AcMethod,
  poses?: { readonly scale: PoseScale; readonly after: PosesAfter },
): LatentModel {
  const outline = acOutline(method);
  const { width, title } = outline;
  const { predictor } = method.config;
  const { grid, encoderWidth } = predictor;
  const tokens = grid[0] * grid[1];
  const seen = width - outline.told;
  if (outline.told > 0 && !poses)
    throw new JepaError(`${title}: it is told poses; plans need to know how they follow from actions`);

  /** States [rows, width] and plans [rows, steps, numbers] -> [rows, steps + 1, width]. */
  const along = (states: Tensor, plans: Tensor): Tensor => {
    const [rows, length] = plans.shape;
    const steps = length as number;
    const now = narrow(states, 1, 0, seen);
    const told = poses && posesAlong(narrow(states, 1, seen, outline.told), plans, poses.after); // [rows, steps + 1, told]
    const conditions = { actions: plans, ...(told && { states: narrow(told, 1, 0, steps) }) };
    const frame = reshape(now, [rows, tokens, encoderWidth]);
    const predicted = rollOut(frame, conditions, steps, method.modules.predictor.weights, predictor);
    const frames = concat([expandDims(now, 1), reshape(predicted, [rows, steps, seen])], 1);
    return told ? concat([frames, told], 2) : frames;
  };
  return {
    ...outline,
    pose: poses && { ...poses.scale, r2: poses.after.r2 },
    encode: (observations) => {
      const all = method.encoder.tokens({ [OBSERVATIONS]: observations });
      return reshape(all, [all.shape[0], seen]);
    },
    futures: [pathsOfRows(along)],
    cost({ distance, time }) {
      if (distance === 'learned') throw new JepaError(`${title}: it learned no distance; plan with --distance latent`);
      const pictured = (x: Tensor): Tensor => narrow(x, 3, 0, seen);
      return (path, goal) => {
        const judged = time === 'last' ? narrow(path, 2, (path.shape[2] as number) - 1, 1) : path;
        return overTime(goalDistances(pictured(judged), pictured(goal), 3, 'absolute'), 2, time);
      };
    },
    features: (states) => moments(states, grid, encoderWidth),
  };
}

/**
 * Sums over a frame's tokens, of the tokens and of their products with row and column (-1 .. 1): [rows, 3 * width]. Linear in the
 * tokens, and enough to tell where something is from tokens that tell whether it is there, with few numbers.
 */
function moments(
  { shape, data }: HostTensor<'float32'>,
  [rows, columns]: readonly [number, number],
  width: number,
): HostTensor<'float32'> {
  const numbers = shape[shape.length - 1];
  const count = data.length / numbers;
  const share = 1 / Math.sqrt(rows * columns);
  const place = (at: number, of: number): number => (of > 1 ? (2 * at) / (of - 1) - 1 : 0);
  const out = new Float32Array(count * 3 * width);
  for (let i = 0; i < count; i++) {
    for (let token = 0; token < rows * columns; token++) {
      const weights = [1, place(Math.floor(token / columns), rows), place(token % columns, columns)];
      for (const [m, weight] of weights.entries()) {
        const [to, from] = [(3 * i + m) * width, i * numbers + token * width];
        for (let j = 0; j < width; j++) out[to + j] += share * weight * data[from + j];
      }
    }
  }
  return float32([count, 3 * width], out);
}

// Poses -----------------------------------------------------------------------------------------------------------------------

/**
 * How poses follow from actions, as a person knows of their own arm: map t tells the standardised pose after t + 1 actions from the
 * standardised pose now and these actions. Walls and things that are pushed are unknown to it.
 */
export interface PosesAfter {
  readonly maps: readonly LinearModel[];
  /** Share of the variance explained on held-out windows, after 1, 2, ... actions. */
  readonly r2: readonly number[];
}

/** Ridge penalty for each window: actions that never vary must not matter. */
const PENALTY = 1e-8;

/** Learns from windows of episodes how poses follow from actions; as many steps as windows have. */
export async function learnPoses(train: EpisodeDataset, test: EpisodeDataset, scale: PoseScale): Promise<PosesAfter> {
  const [learned, held] = [await poseWindows(train, scale), await poseWindows(test, scale)];
  const steps = train.shape.frames - 1;
  const maps = Array.from({ length: steps }, (_, t) => {
    const { now, after } = learned(t);
    return fitRidge(now, after, PENALTY * now.shape[0]);
  });
  const r2 = maps.map((map, t) => {
    const { now, after } = held(t);
    return regressionScores(predictLinear(map, now), after).r2;
  });
  return { maps, r2 };
}

/** One window of each episode: what map t is told [windows, told + (t + 1) * numbers], and the poses that it should tell. */
async function poseWindows(dataset: EpisodeDataset, { mean, std }: PoseScale) {
  const { frames, action, state } = dataset.shape;
  const told = mean.length;
  const count = dataset.length;
  const poses = new Float32Array(count * frames * told);
  const actions = new Float32Array(count * frames * action);
  for (let i = 0; i < count; i++) {
    const window = await dataset.read(i);
    actions.set(window.actions, i * frames * action);
    for (let t = 0; t < frames; t++)
      for (let j = 0; j < told; j++)
        poses[(i * frames + t) * told + j] = (window.states[t * state + j] - mean[j]) / std[j];
  }
  const poseAt = (i: number, t: number): Float32Array =>
    poses.subarray((i * frames + t) * told, (i * frames + t + 1) * told);
  return (t: number) => {
    const numbers = told + (t + 1) * action;
    const [now, after] = [new Float32Array(count * numbers), new Float32Array(count * told)];
    for (let i = 0; i < count; i++) {
      now.set(poseAt(i, 0), i * numbers);
      now.set(actions.subarray(i * frames * action, (i * frames + t + 1) * action), i * numbers + told);
      after.set(poseAt(i, t + 1), i * told);
    }
    return { now: float32([count, numbers], now), after: float32([count, told], after) };
  };
}

/** Poses [rows, told] along plans [rows, steps, numbers]: [rows, steps + 1, told], the given ones first. */
function posesAlong(now: Tensor, plans: Tensor, { maps }: PosesAfter): Tensor {
  const [rows, steps, numbers] = plans.shape;
  if ((steps as number) > maps.length)
    throw new JepaError(`plan: poses are known for ${maps.length} actions, not for ${steps}`);
  const later = maps.slice(0, steps as number).map(({ weights, intercept }, t) => {
    const done = reshape(narrow(plans, 1, 0, t + 1), [rows, mulDims(t + 1, numbers)]);
    const weight = constant(float32([weights.rows, weights.columns], Float32Array.from(weights.data)));
    return linear(concat([now, done], 1), weight, constant(float32([intercept.length], Float32Array.from(intercept))));
  });
  return stack([now, ...later], 1);
}
