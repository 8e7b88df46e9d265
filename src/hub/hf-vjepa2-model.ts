import { int32 } from '../base/tensor.js';
import { batchedGather } from '../graph/ops/index.js';
import { broadcastTo, concat, reshape, transpose } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { constant, scope, type Tensor } from '../graph/tensor.js';
import { type ClassifierConfig, pooler } from '../nn/attentive.js';
import { type PredictorConfig, predictPair } from '../nn/predictor.js';
import { gridRotary, type Rope } from '../nn/rope.js';
import { blocks, norm } from '../nn/transformer.js';
import { embedPatches, gridOf, type VitConfig } from '../nn/vit.js';
import { under, type Weights } from '../nn/weights.js';

/** What Hugging Face's V-JEPA 2 classes return. */
export interface Vjepa2Outputs {
  /** All tokens after the final norm [batch, tokens, width]. */
  readonly lastHiddenState: Tensor;
  /** Where there is a predictor: the tokens it saw, what it made of them, and the tokens that it predicts. */
  readonly prediction?: { readonly context: Tensor; readonly predicted: Tensor; readonly target: Tensor };
  /** Where there is a classifier: pooled tokens [batch, width] and logits [batch, classes]. */
  readonly classification?: { readonly pooled: Tensor; readonly logits: Tensor };
}

export interface Vjepa2Parts {
  readonly predictor?: { readonly weights: Weights; readonly config: PredictorConfig };
  /** Tokens [batch, kept] that the predictor sees and predicts, int32; all by default. */
  readonly masks?: { readonly context: Tensor; readonly target: Tensor };
  readonly classifier?: { readonly weights: Weights; readonly config: ClassifierConfig };
}

/**
 * VJEPA2Model and VJEPA2ForVideoClassification of Hugging Face. Videos [batch, frames, channels, height, width]; fewer frames
 * than a tubelet has are repeated. The whole clip is encoded, also where masks are given. Positions are counted on
 * the grid of the configuration, also for clips of another size: that is what the library computes, not what V-JEPA 2 means.
 */
export function huggingFaceVjepa2(
  videos: Tensor,
  w: Weights,
  config: VitConfig,
  parts: Vjepa2Parts = {},
): Vjepa2Outputs {
  const lastHiddenState = encode(videos, w, config);
  const [batch, count, width] = lastHiddenState.shape;
  const { predictor, masks, classifier } = parts;
  const predict = ({ weights, config }: NonNullable<Vjepa2Parts['predictor']>) => {
    const all = broadcastTo(tokenNumbers(count as number), [batch, count]);
    const { context, target } = masks ?? { context: all, target: all };
    const seen = batchedGather(lastHiddenState, context);
    return {
      context: seen,
      // The library asks with the second mask token.
      predicted: scope('predictor', () => predictPair(seen, context, target, weights, config, { maskIndex: 1 })),
      target: batchedGather(lastHiddenState, target),
    };
  };
  const classify = ({ weights, config }: NonNullable<Vjepa2Parts['classifier']>) => {
    const row = scope('pooler', () => pooler(lastHiddenState, under(weights, 'pooler.'), config.pooler));
    const pooled = reshape(row, [batch, width]);
    return {
      pooled,
      logits: scope('classifier', () => linear(pooled, weights('linear.weight'), weights('linear.bias'))),
    };
  };
  return {
    lastHiddenState,
    ...(predictor && { prediction: predict(predictor) }),
    ...(classifier && { classification: classify(classifier) }),
  };
}

function encode(videos: Tensor, w: Weights, config: VitConfig): Tensor {
  const { heads, width, eps } = config;
  const tubelet = config.tubeletSize as number;
  const short = (videos.shape[1] as number) < tubelet;
  const filled = short ? concat(Array<Tensor>(tubelet).fill(videos), 1) : videos;
  const clips = transpose(filled, [0, 2, 1, 3, 4]);
  const tokens = scope('patch_embed', () => embedPatches(clips, w, config));
  const count = tokens.shape[1] as number;
  const [rows, columns] = gridOf(config);
  const rotary = scope('positions', () => {
    const frames = Math.ceil(count / (rows * columns));
    return gridRotary([frames, rows, columns], width / heads, config.positions as Rope, tokenNumbers(count));
  });
  return scope('norm', () => norm(blocks(tokens, w, 'blocks', config, { rotary }), under(w, 'norm.'), eps));
}

/** 0, 1, 2, ... [1, count] */
const tokenNumbers = (count: number): Tensor =>
  constant(
    int32(
      [1, count],
      Array.from({ length: count }, (_, i) => i),
    ),
  );
