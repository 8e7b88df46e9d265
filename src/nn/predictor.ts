import { mulDims } from '../graph/dims.js';
import { add } from '../graph/ops/elementwise.js';
import { broadcastTo, concat, expandDims, narrow, reshape } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { gridPositions } from './positions.js';
import {
  blocks,
  blocksSpec,
  joinLeading,
  linearSpec,
  norm,
  normalInit,
  normSpec,
  type TransformerConfig,
} from './transformer.js';
import { positionsAt } from './vit.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/** The narrow ViT that predicts the representation of hidden patches from visible ones (I-JEPA, section 3). */
export interface PredictorConfig extends TransformerConfig {
  /** Width of the encoder's tokens. */
  readonly encoderWidth: number;
  readonly grid: readonly [number, number];
}

/** Parameters under their published names. The position table is fixed; the mask token learns. */
export function predictorSpec(config: PredictorConfig, rescale = false): ModuleSpec {
  const { width, encoderWidth, grid } = config;
  return new Map<string, ParameterSpec>([
    ['mask_token', normalInit([1, 1, width])],
    [
      'predictor_pos_embed',
      {
        shape: [1, grid[0] * grid[1], width],
        init: { kind: 'table', data: gridPositions(grid, width) },
        trainable: false,
      },
    ],
    ...linearSpec('predictor_embed', width, encoderWidth),
    ...blocksSpec('predictor_blocks', config, rescale),
    ...normSpec('predictor_norm', width),
    ...linearSpec('predictor_proj', encoderWidth, width),
  ]);
}

/**
 * Predicts each target block by itself from each context. Shapes: context tokens [batch, contexts, Kc, encoderWidth],
 * `visible` [batch, contexts, Kc], `targets` [batch, blocks, Kt] -> [batch, blocks, contexts, Kt, encoderWidth].
 * The reference orders rows by block, context, image; here the image comes first, so that a batch can be sliced.
 */
export function predictor(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  w: Weights,
  config: PredictorConfig,
): Tensor {
  const { width, encoderWidth, eps } = config;
  const [batch, contexts, kept] = visible.shape;
  const [, count, hidden] = targets.shape;
  const table = w('predictor_pos_embed');

  const embedded = scope('embed', () =>
    add(linear(context, w('predictor_embed.weight'), w('predictor_embed.bias')), positionsOf(table, visible)),
  ); // [batch, contexts, Kc, width]
  const asked = scope('mask_tokens', () => add(positionsOf(table, targets), w('mask_token'))); // [batch, blocks, Kt, width]

  const sequence = [batch, count, contexts] as const;
  const tokens = concat(
    [
      broadcastTo(expandDims(embedded, 1), [...sequence, kept, width]),
      broadcastTo(expandDims(asked, 2), [...sequence, hidden, width]),
    ],
    3,
  ); // [batch, blocks, contexts, Kc + Kt, width]
  const rows = joinLeading(joinLeading(tokens));
  const predicted = blocks(rows, w, 'predictor_blocks', config, { select: (x) => narrow(x, 1, kept, hidden) });
  const out = scope('out', () =>
    linear(norm(predicted, under(w, 'predictor_norm.'), eps), w('predictor_proj.weight'), w('predictor_proj.bias')),
  );
  return reshape(out, [...sequence, hidden, encoderWidth]);
}

/** Positions of indices [batch, lists, kept] -> [batch, lists, kept, width]. */
function positionsOf(table: Tensor, index: Tensor): Tensor {
  const [batch, lists, kept] = index.shape;
  const flat = positionsAt(table, reshape(index, [batch, mulDims(lists, kept)]));
  return reshape(flat, [batch, lists, kept, table.shape[2]]);
}
