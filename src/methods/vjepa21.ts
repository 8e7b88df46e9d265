import { float32 } from '../base/tensor.js';
import { meanPower } from '../energy/distance.js';
import { abs, add, div, mul, sub } from '../graph/ops/elementwise.js';
import { batchedGather } from '../graph/ops/index.js';
import { expandDims } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { checkClipMasks } from '../masking/clips.js';
import { contextDistance } from '../masking/context-distance.js';
import { type Grid3d, RELEASED_MULTIBLOCK_3D } from '../masking/multiblock3d.js';
import { type PredictorConfig, predictDense } from '../nn/predictor.js';
import type { Rope } from '../nn/rope.js';
import { tokenGrid, type VitConfig, vitRepresentation } from '../nn/vit.js';
import { ramp } from '../optim/schedules.js';
import { vitBackbone } from './backbone.js';
import type { Method } from './method.js';
import {
  average,
  firstMasks,
  type MaskPair,
  targetRepresentation,
  type VjepaConfig,
  type VjepaForward,
  type VjepaInputs,
  type VjepaModules,
  type VjepaTraining,
  vjepaInputs,
  vjepaMasks,
  vjepaModules,
} from './vjepa.js';
import { vjepa2Predictor } from './vjepa2.js';

/**
 * V-JEPA 2.1 (arXiv 2603.14482): V-JEPA 2 with a loss on the visible tokens too, on four levels of the encoder side by side,
 * and images as clips of one frame with their own embedding. Modules are V-JEPA's (`vjepaModules`, with `rescale`).
 */
export const VJEPA21_ROPE: Rope = { frequencies: 'interleaved', referenceGrid: 16 };

/** Blocks whose outputs are predicted, by the depth of the encoder. */
export const VJEPA21_LEVELS: Readonly<Record<number, readonly number[]>> = {
  12: [2, 5, 8, 11],
  24: [5, 11, 17, 23],
  40: [9, 19, 29, 39],
  48: [11, 23, 37, 47],
};

/** The published levels of a depth, else four at equal distances (fewer where there are fewer blocks). */
export function vjepa21Levels(depth: number): readonly number[] {
  const count = Math.min(4, depth);
  return VJEPA21_LEVELS[depth] ?? Array.from({ length: count }, (_, i) => Math.round(((i + 1) * depth) / count) - 1);
}

/** The released predictor: all levels in and out, positions as the encoder's. */
export const vjepa21Predictor = (encoder: VitConfig, maskTokens = 10, width = 384, depth = 24): PredictorConfig => {
  const all = encoder.width * (encoder.levels?.length ?? 1);
  return {
    ...vjepa2Predictor(encoder, maskTokens, width, depth),
    encoderWidth: all,
    positions: encoder.positions,
    dense: { embedWidth: encoder.width, outputWidth: all },
  };
};

export interface DenseMaskPair extends MaskPair {
  /** Root of each context token's distance to what is predicted [batch, visible]: `contextDistance` of `src/masking`. */
  readonly distance: Tensor;
}

export interface Vjepa21Inputs extends VjepaInputs {
  readonly masks: readonly DenseMaskPair[];
}

/** V-JEPA's inputs with `distance.0`, `distance.1`, ... */
export function vjepa21Inputs(config: VjepaConfig, masks: number): Vjepa21Inputs {
  const inputs = vjepaInputs(config, masks);
  return {
    ...inputs,
    masks: inputs.masks.map((pair, i) => ({ ...pair, distance: input(`distance.${i}`, pair.context.shape) })),
  };
}

export interface Vjepa21Forward {
  /** For each mask the prediction of the hidden tokens and its target, [batch, hidden, levels * width] each. */
  readonly pairs: VjepaForward['pairs'];
  /** Representation of all tokens by the target encoder, each level normalised, [batch, tokens, levels * width]. */
  readonly representation: Tensor;
  /** Mean of |prediction - target| over hidden tokens and masks. */
  readonly prediction: Tensor;
  /** The same over visible tokens, each divided by the root of its distance. */
  readonly context: Tensor;
}

/** `maskToken`: which mask token a mask's predictions start from; 0 by default, as in training on clips of one length. */
export function vjepa21(
  { clips, masks }: Vjepa21Inputs,
  modules: VjepaModules,
  config: VjepaConfig,
  maskToken: (mask: number) => number = () => 0,
): Vjepa21Forward {
  const representation = scope('target_encoder', () => targetRepresentation(clips, modules.target, config.encoder));
  const still = clips.shape[2] === 1;
  const losses = masks.map(({ context, target, distance }, i) => {
    const tokens = scope(`encoder ${i}`, () =>
      vitRepresentation(clips, modules.encoder.weights, config.encoder, { visible: context }),
    );
    const predicted = scope(`predictor ${i}`, () =>
      predictDense(tokens, context, target, modules.predictor.weights, config.predictor, {
        maskIndex: maskToken(i),
        still,
      }),
    );
    return scope('energy', () => {
      const pair = { prediction: predicted.targets, target: batchedGather(representation, target) };
      const away = abs(sub(predicted.context, batchedGather(representation, context)));
      return {
        pair,
        prediction: meanPower(pair.prediction, pair.target),
        context: mean(div(away, expandDims(distance, 2))),
      };
    });
  });
  return {
    representation,
    pairs: losses.map(({ pair }) => pair),
    prediction: average(losses.map((l) => l.prediction)),
    context: average(losses.map((l) => l.context)),
  };
}

/** `weight` of the context term changes over training: `contextWeight`. */
export const vjepa21Loss = ({ prediction, context }: Vjepa21Forward, weight: Tensor | number): Tensor =>
  add(prediction, mul(context, weight));

export interface Vjepa21Training extends Pick<VjepaTraining, 'encoder' | 'predictor' | 'masks' | 'spread'> {
  /** Weight of the context term; 0.5 for clips, 0.7 for images. */
  readonly contextWeight: number;
  /** Shares of the training between which that weight rises from 0; iterations 15,000 and 30,000 of 135,000 in the paper. */
  readonly contextRamp: readonly [number, number];
}

/** V-JEPA 2.1 on clips as a trainer runs it. */
export function vjepa21Method(config: Vjepa21Training): Method {
  const { masks: entries = RELEASED_MULTIBLOCK_3D, encoder, contextRamp } = config;
  const modules = vjepaModules(config, true, config.spread);
  const grid = tokenGrid(encoder) as Grid3d;
  checkClipMasks(grid, entries);
  const forward = vjepa21(vjepa21Inputs(config, entries.length), modules, config);
  const weightAt = ramp({ value: config.contextWeight, from: contextRamp[0], to: contextRamp[1] });
  const weight = input('context weight', [1]);
  return {
    name: 'vjepa21',
    trained: [modules.encoder, modules.predictor],
    followers: [{ module: modules.target, online: modules.encoder }],
    loss: scope('energy', () => mean(vjepa21Loss(forward, weight))),
    scalars: { prediction: forward.prediction, context: forward.context },
    pair: forward.pairs[0],
    views: [1],
    feeds: ({ views: [{ clips }] }, random, progress = 1) => {
      const masks = vjepaMasks(grid, entries, clips.shape[0], random);
      const distances = entries.map((_, i) => [
        `distance.${i}`,
        contextDistance(masks[`context.${i}`], masks[`target.${i}`], [grid[1], grid[2]]),
      ]);
      return {
        clips: { ...clips, shape: clips.shape.toSpliced(1, 1) },
        ...masks,
        ...Object.fromEntries(distances),
        'context weight': float32([1], [weightAt(progress)]),
      };
    },
    encoder: vitBackbone(modules.target, encoder),
    predictor: { module: modules.predictor, config: config.predictor },
    masks: firstMasks,
  };
}

/** Weight of the context term: 0 for the first 15,000 iterations, `value` from iteration 30,000 on (0, 1, 2, ...). */
export const contextWeight = (value: number) => ramp({ value, from: 15_000, to: 30_000 });
