import { mulDims } from '../graph/dims.js';
import { add, gelu, zeros } from '../graph/ops/elementwise.js';
import { batchedGather } from '../graph/ops/index.js';
import { broadcastTo, concat, expandDims, narrow, reshape } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { gridRotary, type Rotary } from './rope.js';
import {
  blocks,
  blocksSpec,
  fillInit,
  joinLeading,
  linearSpec,
  norm,
  normalInit,
  normSpec,
  type Select,
  type TransformerConfig,
} from './transformer.js';
import { modalitySpec, type Positions, positionSpec, positionsAt } from './vit.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/** The narrow ViT that predicts the representation of hidden patches from visible ones (I-JEPA, section 3; V-JEPA). */
export interface PredictorConfig extends TransformerConfig {
  /** Width of what the encoder gives. */
  readonly encoderWidth: number;
  /**
   * Rows and columns of tokens, for clips with the tubelets before them. Rotary positions have no parameters: their grid
   * may reach beyond the clip, for targets in the future.
   */
  readonly grid: readonly number[];
  /** As the encoder's; `column-first` by default. */
  readonly positions?: Positions;
  /** Learned mask tokens `mask_tokens.0`, ..., zero at first (V-JEPA); where absent there is one, `mask_token` (I-JEPA). */
  readonly maskTokens?: number;
  /** Contexts begin with a class token, which has no index and no position. Not with rotary positions. */
  readonly classToken?: boolean;
  /** What V-JEPA 2.1 has besides. */
  readonly dense?: DensePredictor;
}

/** V-JEPA 2.1: context tokens are predicted too, through a projection of their own; images and clips have their vectors. */
export interface DensePredictor {
  /** Hidden width of the two-layer embedding of several levels; one layer where absent (distilled models). */
  readonly embedWidth?: number;
  /** Width of the predictions. */
  readonly outputWidth: number;
}

/** Parameters under their published names. A position table is fixed; mask tokens learn. */
export function predictorSpec(config: PredictorConfig, rescale = false): ModuleSpec {
  const { width, encoderWidth, grid, positions = 'column-first', maskTokens, dense } = config;
  const embedWidth = dense?.embedWidth;
  const outputWidth = dense?.outputWidth ?? encoderWidth;
  return new Map<string, ParameterSpec>([
    ...(maskTokens === undefined
      ? [['mask_token', normalInit([1, 1, width])] as [string, ParameterSpec]]
      : Array.from({ length: maskTokens }, (_, i): [string, ParameterSpec] => [
          `mask_tokens.${i}`,
          fillInit([1, 1, width], 0),
        ])),
    ...(typeof positions === 'string' ? [positionSpec('predictor_pos_embed', grid, width, positions)] : []),
    ...(dense ? modalitySpec(width) : []),
    ...(embedWidth === undefined
      ? linearSpec('predictor_embed', width, encoderWidth)
      : [
          ...linearSpec('predictor_embed.0', embedWidth, encoderWidth),
          ...linearSpec('predictor_embed.2', width, embedWidth),
        ]),
    ...blocksSpec('predictor_blocks', config, rescale),
    ...normSpec('predictor_norm', width),
    ...linearSpec('predictor_proj', outputWidth, width),
    ...(dense ? linearSpec('predictor_proj_context', outputWidth, width) : []),
  ]);
}

export interface PredictorOptions {
  /** Which mask token stands for hidden patches, modulo their number; 0 by default. */
  readonly maskIndex?: number;
  /** The tokens are an image's (V-JEPA 2.1); a clip's by default. */
  readonly still?: boolean;
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
  options: PredictorOptions = {},
): Tensor {
  const { tokens, rotary, kept, hidden, sequence } = predictorInput(context, visible, targets, w, config, options);
  const out = predictorBlocks(tokens, rotary, w, config, (x) => narrow(x, 1, kept, hidden));
  const projected = project(out, w, 'predictor_proj');
  return reshape(projected, [...sequence, hidden, projected.shape[2]]);
}

/**
 * The predictor for one context and one set of targets (V-JEPA): context tokens [batch, Kc, encoderWidth], `visible`
 * [batch, Kc], `targets` [batch, Kt] -> [batch, Kt, encoderWidth].
 */
export function predictPair(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  w: Weights,
  config: PredictorConfig,
  options: PredictorOptions = {},
): Tensor {
  const { tokens, rotary, kept, hidden } = pairInput(context, visible, targets, w, config, options);
  const out = predictorBlocks(tokens, rotary, w, config, (x) => narrow(x, 1, kept, hidden));
  return project(out, w, 'predictor_proj');
}

/**
 * Runs only some tokens of the sequence (context, then targets), those at `keep` [batch, kept], and returns all of them:
 * [batch, kept, encoderWidth] (options `return_all_tokens` and `chop_last_n_tokens` of V-JEPA 2, with `keep` in the order
 * of the tokens' indices).
 */
export function predictAll(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  keep: Tensor,
  w: Weights,
  config: PredictorConfig,
  options: PredictorOptions = {},
): Tensor {
  const { tokens, rotary } = pairInput(context, visible, targets, w, config, options);
  const kept = rotary && { cos: batchedGather(rotary.cos, keep), sin: batchedGather(rotary.sin, keep) };
  return project(predictorBlocks(batchedGather(tokens, keep), kept, w, config), w, 'predictor_proj');
}

/** V-JEPA 2.1: predictions of the targets [batch, Kt, outputWidth] and of the context itself [batch, Kc, outputWidth]. */
export function predictDense(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  w: Weights,
  config: PredictorConfig,
  options: PredictorOptions = {},
): { readonly targets: Tensor; readonly context: Tensor } {
  const { tokens, rotary, kept, hidden } = pairInput(context, visible, targets, w, config, options);
  const out = predictorBlocks(tokens, rotary, w, config);
  return {
    targets: project(narrow(out, 1, kept, hidden), w, 'predictor_proj'),
    context: project(narrow(out, 1, 0, kept), w, 'predictor_proj_context'),
  };
}

const pairInput = (
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  w: Weights,
  config: PredictorConfig,
  options: PredictorOptions,
) => predictorInput(expandDims(context, 1), expandDims(visible, 1), expandDims(targets, 1), w, config, options);

/** Embedded context and mask tokens of every sequence, [batch * blocks * contexts, Kc + Kt, width], and their angles. */
function predictorInput(
  context: Tensor,
  visible: Tensor,
  targets: Tensor,
  w: Weights,
  config: PredictorConfig,
  { maskIndex = 0, still = false }: PredictorOptions,
) {
  const { width, grid, positions = 'column-first', maskTokens, classToken, dense } = config;
  const [batch, contexts, kept] = context.shape;
  const [, count, hidden] = targets.shape;
  const table = typeof positions === 'string' ? w('predictor_pos_embed') : undefined;

  const embedded = scope('embed', () => {
    const tokens = embedContext(context, w, config);
    if (!table) return tokens;
    const places = positionsOf(table, visible);
    return add(tokens, classToken ? concat([zeros([batch, contexts, 1, width]), places], 2) : places);
  }); // [batch, contexts, Kc, width]
  const asked = scope('mask_tokens', () => {
    const token = w(maskTokens === undefined ? 'mask_token' : `mask_tokens.${maskIndex % maskTokens}`);
    return table ? add(positionsOf(table, targets), token) : broadcastTo(token, [batch, count, hidden, width]);
  }); // [batch, blocks, Kt, width]

  const sequence = [batch, count, contexts] as const;
  const join = (ofContext: Tensor, ofTargets: Tensor): Tensor => {
    const rest = ofContext.shape.slice(3);
    const all = concat(
      [
        broadcastTo(expandDims(ofContext, 1), [...sequence, ofContext.shape[2], ...rest]),
        broadcastTo(expandDims(ofTargets, 2), [...sequence, hidden, ...rest]),
      ],
      3,
    ); // [batch, blocks, contexts, Kc + Kt, ...]
    return joinLeading(joinLeading(all));
  };
  const tokens = join(embedded, asked);
  const rotary = table
    ? undefined
    : scope('positions', () =>
        gridRotary(grid, width / config.heads, positions as Exclude<Positions, string>, join(visible, targets)),
      );
  const shown = dense ? add(tokens, w(still ? 'img_mod_embed' : 'video_mod_embed')) : tokens;
  return { tokens: shown, rotary, kept, hidden, sequence };
}

function embedContext(context: Tensor, w: Weights, { dense }: PredictorConfig): Tensor {
  if (dense?.embedWidth === undefined) return project(context, w, 'predictor_embed');
  return project(gelu(project(context, w, 'predictor_embed.0')), w, 'predictor_embed.2');
}

function predictorBlocks(
  tokens: Tensor,
  rotary: Rotary | undefined,
  w: Weights,
  config: PredictorConfig,
  select?: Select,
): Tensor {
  const predicted = blocks(tokens, w, 'predictor_blocks', config, { rotary, select });
  return scope('norm', () => norm(predicted, under(w, 'predictor_norm.'), config.eps));
}

const project = (x: Tensor, w: Weights, name: string): Tensor =>
  scope(name, () => linear(x, w(`${name}.weight`), w(`${name}.bias`)));

/** Positions of indices [batch, lists, kept] -> [batch, lists, kept, width]. */
function positionsOf(table: Tensor, index: Tensor): Tensor {
  const [batch, lists, kept] = index.shape;
  const flat = positionsAt(table, reshape(index, [batch, mulDims(lists, kept)]));
  return reshape(flat, [batch, lists, kept, table.shape[2]]);
}
