import { add, mul, silu } from '../graph/ops/elementwise.js';
import { concat, repeatInterleave, reshape, split } from '../graph/ops/move.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { acRotary, seesEarlierFrames } from './ac-predictor.js';
import { modulate } from './causal.js';
import { dense } from './stacks.js';
import { attend, mlp, norm, type TransformerConfig } from './transformer.js';
import { under, type Weights } from './weights.js';

/**
 * The predictor of JEPA-WMs (`AdaLN_vit.py`): patch tokens of every frame, modulated in every block by the frame's action, with
 * rotary positions; a frame sees itself and earlier ones. Proprioception comes already embedded, as channels of every patch.
 */
export interface AdaLnConfig extends TransformerConfig {
  /** Patches along height and width. */
  readonly grid: readonly [number, number];
  readonly rotary: boolean;
  /** Frames see only earlier ones; otherwise all see all. */
  readonly causal: boolean;
  /** Channels of the proprioception among `width`; 0 for none. */
  readonly proprioWidth: number;
}

export interface AdaLnOutput {
  /** [batch, frames, patches, channels] */
  readonly patches: Tensor;
  /** [batch, frames, patches, proprioWidth] */
  readonly proprio?: Tensor;
}

/** Shapes: x [batch, frames, patches, channels], actions [batch, frames, numbers], proprio [batch, frames, patches, proprioWidth]. */
export function adaLnPredictor(
  x: Tensor,
  actions: Tensor,
  w: Weights,
  config: AdaLnConfig,
  proprio?: Tensor,
): AdaLnOutput {
  const { grid, width, heads, proprioWidth, eps } = config;
  const [batch, frames, patches] = x.shape as readonly [Tensor['shape'][number], number, number];
  const embedded = dense(x, under(w, 'predictor_embed.'));
  const joined = proprio ? concat([embedded, proprio], 3) : embedded;
  const condition = silu(dense(actions, under(w, 'action_encoder.')));
  const rotary = config.rotary ? acRotary([frames, ...grid], 0, width / heads, grid[0]) : undefined;
  const mask = config.causal ? seesEarlierFrames(frames, patches) : undefined;
  let tokens = reshape(joined, [batch, frames * patches, width]);
  for (let i = 0; i < config.depth; i++) {
    tokens = scope(`predictor_blocks.${i}`, () => {
      const own = under(w, `predictor_blocks.${i}.`);
      const perFrame = dense(condition, under(own, 'adaLN_modulation.1.'));
      const parts = split(repeatInterleave(perFrame, patches, 1), 2, Array(6).fill(width));
      const [shift1, scale1, gate1, shift2, scale2, gate2] = parts;
      const first = modulate(norm(tokens, under(own, 'norm1.'), eps), shift1, scale1);
      const middle = add(tokens, mul(attend(first, under(own, 'attn.'), config, { rotary, mask }).out, gate1));
      const second = modulate(norm(middle, under(own, 'norm2.'), eps), shift2, scale2);
      return add(middle, mul(gate2, mlp(second, under(own, 'mlp.'))));
    });
  }
  const normed = reshape(norm(tokens, under(w, 'predictor_norm.'), eps), [batch, frames, patches, width]);
  const project = (y: Tensor): Tensor => dense(y, under(w, 'predictor_proj.'));
  if (!proprio) return { patches: project(normed) };
  const [visual, own] = split(normed, 3, [width - proprioWidth, proprioWidth]);
  return { patches: project(visual), proprio: own };
}
