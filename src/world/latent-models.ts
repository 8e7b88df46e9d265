import { sigreg } from '../energy/sigreg.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { mseLoss } from '../graph/ops/losses.js';
import { broadcastTo, concat, expandDims, narrow, reshape, split, transpose } from '../graph/ops/move.js';
import { stopGradient, type Tensor } from '../graph/tensor.js';

/** Losses and rollouts of published latent world models, over functions that encode and predict. */

// LeWorldModel -------------------------------------------------------------------------------------------------------

/** Predicts the next state after each of a window's: states and embedded actions [batch, time, width]. */
export type WindowPredictor = (states: Tensor, actions: Tensor) => Tensor;

export interface LewmLoss {
  readonly loss: Tensor;
  readonly prediction: Tensor;
  readonly sigreg: Tensor;
  /** Predicted states [batch, history, width]. */
  readonly predicted: Tensor;
}

/**
 * LeWorldModel's loss (stable-worldmodel, `scripts/train/lewm.py`): the next state from the first `history` ones, and SIGReg
 * over the batch for every time. States and embedded actions [batch, time, width]; targets are not detached.
 */
export function lewmLoss(
  states: Tensor,
  actions: Tensor,
  predict: WindowPredictor,
  directions: Tensor,
  { history, weight, ahead = 1 }: { readonly history: number; readonly weight: number; readonly ahead?: number },
): LewmLoss {
  const predicted = predict(narrow(states, 1, 0, history), narrow(actions, 1, 0, history));
  const time = states.shape[1] as number;
  const prediction = mseLoss(predicted, narrow(states, 1, ahead, time - ahead));
  const normal = sigreg(transpose(states, [1, 0, 2]), directions);
  return { loss: add(prediction, mul(normal, weight)), prediction, sigreg: normal, predicted };
}

/**
 * States after every action, one step at a time: of [batch, context, width] and embedded actions [batch, context - 1 + steps,
 * width] (action k leads out of state k), [batch, context + steps, width]. The predictor sees the last `history` pairs.
 */
export function windowRollout(
  states: Tensor,
  actions: Tensor,
  steps: number,
  history: number,
  predict: WindowPredictor,
): Tensor {
  const context = states.shape[1] as number;
  let all = states;
  for (let t = 0; t < steps; t++) {
    const from = Math.max(0, context + t - history);
    const count = context + t - from;
    const predicted = predict(narrow(all, 1, from, count), narrow(actions, 1, from, count));
    all = concat([all, narrow(predicted, 1, count - 1, 1)], 1);
  }
  return all;
}

// DINO-WM ------------------------------------------------------------------------------------------------------------

/**
 * Frames of DINO-WM [batch, frames, tokens, width]: patches with proprioception and action as more tokens, or as more channels
 * of each patch. All are embedded; visual [batch, frames, patches, width], the others [batch, frames, width].
 */
export interface FrameParts {
  readonly visual: Tensor;
  readonly proprio: Tensor;
  readonly action: Tensor;
}

export type Joining = 'tokens' | 'channels';

const tiled = (x: Tensor, patches: Tensor['shape'][number]): Tensor => {
  const [batch, frames, width] = x.shape;
  return broadcastTo(expandDims(x, 2), [batch, frames, patches, width]);
};

export function joinFrames({ visual, proprio, action }: FrameParts, how: Joining): Tensor {
  if (how === 'tokens') return concat([visual, expandDims(proprio, 2), expandDims(action, 2)], 2);
  const patches = visual.shape[2];
  return concat([visual, tiled(proprio, patches), tiled(action, patches)], 3);
}

export interface FrameShape {
  readonly how: Joining;
  /** Widths of the embedded proprioception and action. */
  readonly proprio: number;
  readonly action: number;
}

/** The parts that `joinFrames` joined; of tiled ones the first patch's. */
export function splitFrames(z: Tensor, { how, proprio, action }: FrameShape): FrameParts {
  const axis = how === 'tokens' ? 2 : 3;
  const sizes = how === 'tokens' ? [1, 1] : [proprio, action];
  const size = z.shape[axis] as number;
  const [visual, own, act] = split(z, axis, [size - sizes[0] - sizes[1], ...sizes]);
  const one = (x: Tensor): Tensor => {
    const [batch, frames, , width] = x.shape;
    return reshape(narrow(x, 2, 0, 1), [batch, frames, width]);
  };
  return { visual, proprio: one(own), action: one(act) };
}

/** Frames with another action. */
function withAction(z: Tensor, action: Tensor, { how, action: width }: FrameShape): Tensor {
  if (how === 'tokens') return concat([narrow(z, 2, 0, (z.shape[2] as number) - 1), expandDims(action, 2)], 2);
  return concat([narrow(z, 3, 0, (z.shape[3] as number) - width), tiled(action, z.shape[2])], 3);
}

/** Predicts frames from frames, [batch, frames, tokens, width]. */
export type FramesPredictor = (frames: Tensor) => Tensor;

export interface DinoWmLoss {
  readonly loss: Tensor;
  readonly visual: Tensor;
  readonly proprio: Tensor;
  readonly predicted: Tensor;
}

/** DINO-WM's loss: the next frame of each of the first `history`; actions are not part of it, targets are detached. */
export function dinoWmLoss(
  z: Tensor,
  predict: FramesPredictor,
  { history, ahead, ...shape }: FrameShape & { readonly history: number; readonly ahead: number },
): DinoWmLoss {
  const predicted = predict(narrow(z, 1, 0, history));
  const target = stopGradient(narrow(z, 1, ahead, (z.shape[1] as number) - ahead));
  const axis = shape.how === 'tokens' ? 2 : 3;
  const [own, action] = shape.how === 'tokens' ? [1, 1] : [shape.proprio, shape.action];
  const size = z.shape[axis] as number;
  const part = (from: number, length: number): Tensor =>
    mseLoss(narrow(predicted, axis, from, length), narrow(target, axis, from, length));
  const visual = size - own - action;
  return { loss: part(0, visual + own), visual: part(0, visual), proprio: part(visual, own), predicted };
}

/**
 * Frames along actions: the observed ones with their own action each, then one for every further action (embedded, [batch,
 * steps, width]) and one beyond.
 */
export function dinoWmRollout(
  observed: Tensor,
  actions: Tensor | undefined,
  predict: FramesPredictor,
  { history, ...shape }: FrameShape & { readonly history: number },
): Tensor {
  let z = observed;
  const steps = actions ? (actions.shape[1] as number) : 0;
  const next = (): Tensor => {
    const count = z.shape[1] as number;
    const seen = Math.min(history, count);
    return narrow(predict(narrow(z, 1, count - seen, seen)), 1, seen - 1, 1);
  };
  for (let t = 0; t < steps; t++) {
    z = concat([z, withAction(next(), narrow(actions as Tensor, 1, t, 1), shape)], 1);
  }
  return concat([z, next()], 1);
}
