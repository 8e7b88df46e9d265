import { tanh } from '../graph/ops/elementwise.js';
import { narrow, reshape } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { mean } from '../graph/ops/reduce.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { interpolatePositions } from '../nn/interpolate.js';
import { gridOf, type VitConfig, vit } from '../nn/vit.js';
import type { Weights } from '../nn/weights.js';

/** What Hugging Face's I-JEPA classes return. */
export interface HuggingFaceOutputs {
  /** Tokens after the final norm [batch, patches, width]. */
  readonly lastHiddenState: Tensor;
  /** Embeddings (0) and the output of each block, before the final norm. */
  readonly hiddenStates: readonly Tensor[];
  /** tanh(dense(first token)) [batch, width], where there is a pooler. */
  readonly poolerOutput?: Tensor;
  /** classifier(mean over tokens) [batch, classes], where there is a classifier. */
  readonly logits?: Tensor;
}

/** A linear layer in the graph. */
export interface Head {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/**
 * IJepaModel and IJepaForImageClassification of Hugging Face. Images [batch, channels, height, width] of any size that
 * divides into patches: at another grid than the configuration's the position table is interpolated.
 */
export function huggingFaceIJepa(
  images: Tensor,
  weights: Weights,
  config: VitConfig,
  { pooler, classifier }: { pooler?: Head; classifier?: Head } = {},
): HuggingFaceOutputs {
  const [, , height, width] = images.shape as [unknown, unknown, number, number];
  const target = [height / config.patchSize, width / config.patchSize] as const;
  const positions = scope('positions', () => interpolatePositions(weights('pos_embed'), gridOf(config), target));
  const hiddenStates: Tensor[] = [];
  const lastHiddenState = vit(images, weights, config, { positions, onState: (state) => hiddenStates.push(state) });
  return {
    lastHiddenState,
    hiddenStates,
    ...(pooler && {
      poolerOutput: scope('pooler', () => tanh(linear(firstToken(lastHiddenState), pooler.weight, pooler.bias))),
    }),
    ...(classifier && {
      logits: scope('classifier', () => linear(mean(lastHiddenState, 1), classifier.weight, classifier.bias)),
    }),
  };
}

function firstToken(tokens: Tensor): Tensor {
  const [batch, , width] = tokens.shape;
  return reshape(narrow(tokens, 1, 0, 1), [batch, width]);
}
