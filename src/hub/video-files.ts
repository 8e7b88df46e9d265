import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { VJEPA2_ROPE, VJEPA2_SIZES } from '../methods/vjepa2.js';
import { VJEPA21_LEVELS, VJEPA21_ROPE } from '../methods/vjepa21.js';
import { type AcPredictorConfig, acPredictorSpec } from '../nn/ac-predictor.js';
import { classifierSpec, poolerConfig } from '../nn/attentive.js';
import { type PredictorConfig, predictorSpec } from '../nn/predictor.js';
import { checkVit, gridOf, tokenGrid, VIT_SIZES, type VitConfig, vitSpec } from '../nn/vit.js';
import {
  type AttentiveClassifier,
  checkNames,
  type EncoderWeights,
  type Family,
  type LoadedEncoder,
  shapesOf,
} from './ijepa-names.js';
import { lateWeights } from './raw.js';
import { countIn, headsOf, type State, shapeIn } from './torch-files.js';

/**
 * Models of clips from Meta's state dicts: V-JEPA, V-JEPA 2, 2-AC and 2.1 (specs/vjepa.md 6, specs/vjepa2.md 6.1). Weights
 * show nearly all of a configuration; what they do not show is that of the released models unless it is given.
 */
export interface VideoOptions {
  /** `vjepa2` and later ignore the position tables that some of their files still hold. Told by the predictor otherwise. */
  readonly family?: Family;
  /** Attention heads of the encoder and of the predictor (or of the pooler), where widths are not the published ones. */
  readonly heads?: number;
  readonly predictorHeads?: number;
  /** Side of the clips in pixels, and frames in a clip; 256 and 64 where positions are rotary, and so show neither. */
  readonly imageSize?: number;
  readonly frames?: number;
}

/** Whether a state dict is an encoder of clips: its patches have three sides. */
export const isVideoEncoder = (state: State): boolean => state.get('patch_embed.proj.weight')?.shape.length === 5;

/** An encoder and, where there is one, its predictor. `what` is for messages. */
export function readVideoModel(
  encoder: State,
  predictor: State | undefined,
  what: string,
  options: VideoOptions,
): Pick<LoadedEncoder, 'config' | 'weights' | 'family' | 'predictor' | 'actionPredictor'> {
  const family = options.family ?? familyOf(encoder, predictor);
  const config = encoderConfig(encoder, family, what, options);
  const expected = shapesOf(vitSpec(config));
  // Old files of V-JEPA 2 still hold the table that its rotary positions replaced.
  const own = new Map([...encoder].filter(([name]) => name !== 'pos_embed' || expected.has(name)));
  const ofEncoder = loadChecked(expected, own, what);
  const whatPredictor = `${what}: predictor`;
  return {
    family,
    config,
    weights: ofEncoder,
    ...(predictor &&
      (family === 'vjepa2-ac'
        ? { actionPredictor: readActionPredictor(predictor, config, whatPredictor, options) }
        : { predictor: readPredictor(predictor, config, family, whatPredictor, options) })),
  };
}

function familyOf(encoder: State, predictor: State | undefined): Family {
  if (encoder.has('norms_block.0.weight')) return 'vjepa2.1';
  if (predictor?.has('action_encoder.weight')) return 'vjepa2-ac';
  const table = predictor ? predictor.has('predictor_pos_embed') : encoder.has('pos_embed');
  return table ? 'vjepa' : 'vjepa2';
}

function loadChecked(expected: ReturnType<typeof shapesOf>, state: State, what: string): EncoderWeights {
  checkNames(what, expected, state);
  return lateWeights(state);
}

function encoderConfig(state: State, family: Family, what: string, options: VideoOptions): VitConfig {
  const [width, channels, tubeletSize, patchSize] = shapeIn(state, 'patch_embed.proj.weight', 5, what);
  const [mlpWidth] = shapeIn(state, 'blocks.0.mlp.fc1.weight', 2, what);
  const depth = countIn(state, 'blocks');
  const rotary = family !== 'vjepa';
  const frames = options.frames ?? (rotary ? 64 : 16);
  const side = options.imageSize ?? (rotary ? 256 : tableSide(state, frames / tubeletSize, what) * patchSize);
  const sizes: readonly { width: number; heads: number }[] = Object.values(rotary ? VJEPA2_SIZES : VIT_SIZES);
  const heads = headsOf(width, options.heads ?? sizes.find((size) => size.width === width)?.heads, what);
  const config: VitConfig = {
    imageSize: [side, side],
    patchSize,
    channels,
    frames,
    tubeletSize,
    width,
    depth,
    heads,
    mlpWidth,
    qkvBias: state.has('blocks.0.attn.qkv.bias'),
    eps: 1e-6,
    positions: family === 'vjepa' ? 'uniform' : family === 'vjepa2.1' ? VJEPA21_ROPE : VJEPA2_ROPE,
    ...(family === 'vjepa2.1' && { levels: levelsOf(state, depth, what), modalities: true }),
  };
  checkVit(config);
  return config;
}

/** Patches on a side of the frames of a position table. */
function tableSide(state: State, tubelets: number, what: string): number {
  const [, tokens] = shapeIn(state, 'pos_embed', 3, what);
  const side = Math.round(Math.sqrt(tokens / tubelets));
  if (side * side * tubelets !== tokens) {
    throw new JepaError(
      `${what}: a table of ${tokens} positions is not one of square frames of ${tubelets} tubelets; give the frames of a clip`,
    );
  }
  return side;
}

/** Blocks of V-JEPA 2.1 whose outputs have a norm: four, or in the distilled models the last. */
function levelsOf(state: State, depth: number, what: string): readonly number[] {
  const count = countIn(state, 'norms_block');
  const levels = count === 1 ? [depth - 1] : VJEPA21_LEVELS[depth];
  if (levels?.length !== count)
    throw new JepaError(`${what}: ${count} norms of levels in an encoder of ${depth} blocks`);
  return levels;
}

function readPredictor(
  state: State,
  encoder: VitConfig,
  family: Family,
  what: string,
  options: VideoOptions,
): NonNullable<LoadedEncoder['predictor']> {
  const dense = family === 'vjepa2.1';
  const deep = state.has('predictor_embed.0.weight');
  const first = shapeIn(state, deep ? 'predictor_embed.0.weight' : 'predictor_embed.weight', 2, what);
  const [outputWidth, width] = shapeIn(state, 'predictor_proj.weight', 2, what);
  const [mlpWidth] = shapeIn(state, 'predictor_blocks.0.mlp.fc1.weight', 2, what);
  // V-JEPA's predictor has the heads of its encoder, later ones heads of width 32.
  const published = family === 'vjepa' ? encoder.heads : width / 32;
  const config: PredictorConfig = {
    width,
    depth: countIn(state, 'predictor_blocks'),
    heads: headsOf(width, options.predictorHeads ?? published, what, '--predictor-heads'),
    mlpWidth,
    qkvBias: state.has('predictor_blocks.0.attn.qkv.bias'),
    eps: 1e-6,
    encoderWidth: first[1],
    grid: tokenGrid(encoder),
    positions: encoder.positions,
    maskTokens: countIn(state, 'mask_tokens'),
    ...(dense && { dense: { outputWidth, ...(deep && { embedWidth: first[0] }) } }),
  };
  return { config, weights: loadChecked(shapesOf(predictorSpec(config)), state, what) };
}

function readActionPredictor(
  state: State,
  encoder: VitConfig,
  what: string,
  options: VideoOptions,
): NonNullable<LoadedEncoder['actionPredictor']> {
  const [width, encoderWidth] = shapeIn(state, 'predictor_embed.weight', 2, what);
  const [, actionWidth] = shapeIn(state, 'action_encoder.weight', 2, what);
  const [mlpWidth] = shapeIn(state, 'predictor_blocks.0.mlp.fc1.weight', 2, what);
  const config: AcPredictorConfig = {
    width,
    depth: countIn(state, 'predictor_blocks'),
    heads: headsOf(width, options.predictorHeads ?? width / 64, what, '--predictor-heads'),
    mlpWidth,
    qkvBias: state.has('predictor_blocks.0.attn.qkv.bias'),
    eps: 1e-6,
    encoderWidth,
    grid: gridOf(encoder),
    actionWidth,
    extrinsics: false,
  };
  return { config, weights: loadChecked(shapesOf(acPredictorSpec(config)), state, what) };
}

/**
 * An attentive classifier from the state dict of an evaluation. That of V-JEPA has an output projection that it does not use
 * and its blocks after the cross-attention; that of V-JEPA 2 has them before.
 */
export function readClassifierState(
  state: State,
  what: string,
  { heads }: Pick<VideoOptions, 'heads'>,
): AttentiveClassifier {
  const [, queries, width] = shapeIn(state, 'pooler.query_tokens', 3, what);
  const [mlpWidth] = shapeIn(state, 'pooler.cross_attention_block.mlp.fc1.weight', 2, what);
  const outputs = [...state.keys()].filter((name) => /^[^.]+\.weight$/.test(name));
  if (outputs.length === 0)
    throw new JepaError(`${what}: no linear classifier; it holds ${quoted([...state.keys()].slice(0, 4))}`);
  const config = {
    pooler: poolerConfig(width, headsOf(width, heads ?? 16, what), {
      queries,
      depth: countIn(state, 'pooler.blocks'),
      mlpWidth,
      blocks: state.has('pooler.cross_attention_block.xattn.proj.weight') ? 'after' : 'before',
    }),
    heads: Object.fromEntries(
      outputs.map((name) => [name.slice(0, -'.weight'.length), shapeIn(state, name, 2, what)[0]]),
    ),
  };
  return { config, weights: loadChecked(shapesOf(classifierSpec(config)), state, what) };
}
