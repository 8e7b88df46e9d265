import type { HostTensor } from '../base/tensor.js';
import { float32 } from '../base/tensor.js';
import { greaterEqual } from '../graph/ops/elementwise.js';
import { concat, expandDims, narrow, reshape } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { constant, operatorError, scope, type Tensor } from '../graph/tensor.js';
import { type Rotary, ropePlaces, ropeTable, rotaryOf } from './rope.js';
import {
  blocks,
  blocksSpec,
  linearSpec,
  norm,
  normSpec,
  type SeenTokens,
  type TransformerConfig,
} from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * The action-conditioned predictor of V-JEPA 2-AC (`src/models/ac_predictor.py`): from the representations of frames so far,
 * the actions and the states, those of the next frames. Each frame's tokens come after its action, its state and, where
 * used, the camera's extrinsics; a token sees its own frame and earlier ones.
 */
export interface AcPredictorConfig extends TransformerConfig {
  /** Width of what the encoder gives. */
  readonly encoderWidth: number;
  /** Rows and columns of a frame's tokens. */
  readonly grid: readonly [number, number];
  /** Numbers in an action; extrinsics have one less. */
  readonly actionWidth: number;
  /** Numbers in a state: as many as in an action by default, 0 where the predictor is told no states. */
  readonly stateWidth?: number;
  readonly extrinsics: boolean;
}

/** Parameters under their published names; the encoder of unused extrinsics exists, but never learns. */
export function acPredictorSpec(config: AcPredictorConfig): ModuleSpec {
  const { width, encoderWidth, actionWidth, stateWidth = actionWidth, extrinsics } = config;
  const unusedUnless = ([name, spec]: [string, ParameterSpec]): [string, ParameterSpec] => [
    name,
    { ...spec, trainable: extrinsics },
  ];
  return new Map<string, ParameterSpec>([
    ...linearSpec('predictor_embed', width, encoderWidth),
    ...linearSpec('action_encoder', width, actionWidth),
    ...(stateWidth > 0 ? linearSpec('state_encoder', width, stateWidth) : []),
    ...linearSpec('extrinsics_encoder', width, actionWidth - 1).map(unusedUnless),
    ...blocksSpec('predictor_blocks', config, true),
    ...normSpec('predictor_norm', width),
    ...linearSpec('predictor_proj', encoderWidth, width),
  ]);
}

/** What a frame is conditioned on, [batch, frames, numbers] each; the number of frames is known when the graph is built. */
export interface AcConditions {
  readonly actions: Tensor;
  readonly states?: Tensor;
  readonly extrinsics?: Tensor;
}

/** Frames that a predictor was given before those of a call, with what it keeps of them; grows with every call. */
export interface AcPast {
  frames: number;
  readonly blocks: readonly SeenTokens[];
}

/** A past without frames. */
export const acPast = ({ depth }: AcPredictorConfig): AcPast => ({
  frames: 0,
  blocks: Array.from({ length: depth }, () => ({})),
});

/**
 * Features [batch, frames * tokens, encoderWidth] -> the same shape: at frame f the prediction of frame f + 1. With a `past` the
 * frames and their conditions are those that follow it.
 */
export function acPredictor(
  features: Tensor,
  conditions: AcConditions,
  w: Weights,
  config: AcPredictorConfig,
  past: AcPast = acPast(config),
): Tensor {
  const { actions, states, extrinsics } = conditions;
  const [batch, frames] = actions.shape;
  const { width, grid } = config;
  const each = grid[0] * grid[1];
  if (typeof frames !== 'number' || features.shape[1] !== frames * each) {
    throw operatorError('ac_predictor', `needs ${each} tokens of every frame that has an action`, features, actions);
  }
  if (config.extrinsics !== (extrinsics !== undefined)) {
    const problem = config.extrinsics ? 'needs extrinsics' : 'was built without extrinsics';
    throw operatorError('ac_predictor', problem, features);
  }
  if ((config.stateWidth === 0) !== (states === undefined)) {
    throw operatorError('ac_predictor', states ? 'was built without states' : 'needs states', features);
  }
  const layer = (x: Tensor, name: string): Tensor =>
    scope(name, () => linear(x, w(`${name}.weight`), w(`${name}.bias`)));
  const conditioned = [
    layer(actions, 'action_encoder'),
    ...(states ? [layer(states, 'state_encoder')] : []),
    ...(extrinsics ? [layer(extrinsics, 'extrinsics_encoder')] : []),
  ];
  const embedded = reshape(layer(features, 'predictor_embed'), [batch, frames, each, width]);
  const count = conditioned.length;
  const sequence = concat([...conditioned.map((t) => expandDims(t, 2)), embedded], 2);
  const tokens = reshape(sequence, [batch, frames * (count + each), width]);
  const all = past.frames + frames;
  const later = (x: Tensor, axis: number): Tensor =>
    narrow(x, axis, past.frames * (count + each), frames * (count + each));
  const { cos, sin } = acRotary([all, ...grid], count, width / config.heads);
  const out = blocks(tokens, w, 'predictor_blocks', config, {
    rotary: { cos: later(cos, 1), sin: later(sin, 1) },
    // A single frame sees everything there is.
    ...(frames > 1 && { mask: later(seesEarlierFrames(all, count + each), 0) }),
    seen: past.blocks,
  });
  past.frames = all;
  const patches = narrow(reshape(out, [batch, frames, count + each, width]), 2, count, each);
  const normed = norm(reshape(patches, [batch, frames * each, width]), under(w, 'predictor_norm.'), config.eps);
  return layer(normed, 'predictor_proj');
}

/**
 * Angles of a sequence: conditions turn by their frame only. Rows and columns are stretched to `size` of each; by default
 * the grid's rows.
 */
export function acRotary(
  [frames, rows, columns]: readonly [number, number, number],
  conditions: number,
  headWidth: number,
  size = rows,
): Rotary {
  const patches = ropeTable(ropePlaces([frames, rows, columns], [size / rows, size / columns]), headWidth, 'tiled');
  const condition = ropeTable([Float64Array.from({ length: frames }, (_, i) => i)], headWidth, 'tiled');
  const row = 2 * headWidth;
  const each = rows * columns;
  const data = new Float32Array(frames * (conditions + each) * row);
  for (let frame = 0; frame < frames; frame++) {
    const at = frame * (conditions + each) * row;
    for (let c = 0; c < conditions; c++)
      data.set(condition.data.subarray(frame * row, (frame + 1) * row), at + c * row);
    data.set(patches.data.subarray(frame * each * row, (frame + 1) * each * row), at + conditions * row);
  }
  return rotaryOf(float32([frames * (conditions + each), row], data));
}

/** bool [tokens, tokens]: true where the key's frame is not later than the query's. Only the frame numbers are stored. */
export function seesEarlierFrames(frames: number, tokensOfFrame: number): Tensor {
  const numbers: HostTensor<'int32'> = {
    dtype: 'int32',
    shape: [frames * tokensOfFrame],
    data: Int32Array.from({ length: frames * tokensOfFrame }, (_, i) => Math.floor(i / tokensOfFrame)),
  };
  const frame = constant(numbers);
  return greaterEqual(expandDims(frame, 1), frame);
}
