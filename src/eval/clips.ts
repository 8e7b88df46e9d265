import { float32, type HostTensor } from '../base/tensor.js';
import { mulDims } from '../graph/dims.js';
import { add } from '../graph/ops/elementwise.js';
import { concat, expandDims, narrow, reshape, transpose } from '../graph/ops/move.js';
import { constant, operatorError, type Tensor } from '../graph/tensor.js';
import { sineCosine } from '../nn/positions.js';
import { positionsAt, type VitConfig, vit, vitLayers } from '../nn/vit.js';
import type { Weights } from '../nn/weights.js';

/** Evaluation of videos in several clips and views (V-JEPA, `evals/video_classification_frozen`). */

export interface ClipOptions {
  /** Blocks (0, 1, ...) whose normed outputs follow one another in each clip; the last one's alone by default. */
  readonly layers?: readonly number[];
  /**
   * Adds a code of when a token was: `index` [batch, clips, frames] holds the numbers of the frames in the video, all below
   * `maxFrames`. As in the reference, the table is cut to maxFrames / tubelet rows but looked up by the frame's own number.
   */
  readonly times?: { readonly index: Tensor; readonly maxFrames: number };
}

/**
 * Tokens of videos, each seen in several clips that are encoded alone: clips [batch, clips, channels, frames, height, width]
 * -> [batch, clips * tokens, width], clip after clip. An encoder of images encodes every frame alone.
 */
export function clipTokens(clips: Tensor, w: Weights, config: VitConfig, { layers, times }: ClipOptions = {}): Tensor {
  const [batch, count, channels, frames, ...size] = clips.shape;
  if (clips.shape.length !== 6 || typeof frames !== 'number') {
    throw operatorError('clip_tokens', 'needs clips [batch, clips, channels, frames, height, width]', clips);
  }
  const rows = mulDims(batch, count);
  const apart =
    config.frames === undefined
      ? reshape(transpose(clips, [0, 1, 3, 2, 4, 5]), [mulDims(rows, frames), channels, ...size])
      : reshape(clips, [rows, channels, frames, ...size]);
  const encoded = layers ? concat(vitLayers(apart, w, config, layers), 1) : vit(apart, w, config);
  const tubelet = config.tubeletSize ?? 1;
  const steps = frames / tubelet;
  const [, tokens, width] = encoded.shape;
  const timed = times
    ? addTimes(reshape(encoded, [batch, mulDims(count, steps), -1, width]), times, steps, tubelet)
    : encoded;
  const perClip = config.frames === undefined ? mulDims(tokens, frames) : tokens;
  return reshape(timed, [batch, mulDims(count, perClip), width]);
}

/** Codes of the steps' first frames, added to tokens [batch, clips * steps, tokens, width]. */
function addTimes(
  tokens: Tensor,
  { index, maxFrames }: NonNullable<ClipOptions['times']>,
  steps: number,
  tubelet: number,
): Tensor {
  const [batch, all, , width] = tokens.shape;
  const rows = Math.floor(maxFrames / tubelet);
  const table = sineCosine(
    Array.from({ length: rows }, (_, i) => i),
    width as number,
  );
  const first = reshape(narrow(index, 2, 0, steps, tubelet), [batch, all]);
  const codes = positionsAt(constant(float32([1, rows, width as number], Float32Array.from(table))), first);
  return add(tokens, expandDims(codes, 2));
}

/** Probabilities of classes from logits [batch, classes] of several clips and views: the mean of their softmaxes. */
export function averageScores(logits: readonly HostTensor<'float32'>[]): HostTensor<'float32'> {
  const [batch, classes] = logits[0].shape;
  const scores = new Float64Array(batch * classes);
  for (const { data } of logits) {
    for (let row = 0; row < batch; row++) {
      const values = data.subarray(row * classes, (row + 1) * classes);
      const top = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const total = values.reduce((sum, v) => sum + Math.exp(v - top), 0);
      for (let c = 0; c < classes; c++) scores[row * classes + c] += Math.exp(values[c] - top) / total / logits.length;
    }
  }
  return float32([batch, classes], Float32Array.from(scores));
}
