import fs from 'node:fs';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import type { PredictorConfig } from '../nn/predictor.js';
import { gridOf, VIT_SIZES, type VitConfig } from '../nn/vit.js';
import { withFile } from './files.js';
import { readHuggingFaceFolder } from './hf-ijepa.js';
import {
  checkNames,
  type EncoderWeights,
  encoderShapes,
  type LinearWeights,
  type LoadedEncoder,
  predictorShapes,
  stripPrefixes,
} from './ijepa-names.js';
import { describeTorchValue, isTorchTensor, openTorchFile, type TorchValue } from './pth.js';
import { loadFloat32, type StoredTensor } from './raw.js';
import { openWeights } from './weights.js';

/** To be shown whenever official checkpoints are converted or used. */
export const OFFICIAL_LICENCE = 'The weights that Meta released for I-JEPA are licensed CC BY-NC 4.0 (non-commercial).';

export interface CheckpointOptions {
  /** Entry of a training checkpoint. The papers evaluate the target encoder; Hugging Face's conversions hold `encoder`. */
  readonly entry?: 'target_encoder' | 'encoder';
  /** Attention heads, where the width is not one of the published ones. */
  readonly heads?: number;
}

/**
 * Reads an encoder from any of the files that exist: a Hugging Face folder, a training checkpoint of the official code
 * (`.pth.tar`, nothing in it is executed), a plain state dict of PyTorch, or safetensors with official or timm names.
 * Throws JepaError when names or shapes do not make an I-JEPA encoder.
 */
export function loadEncoder(path: string, options: CheckpointOptions = {}): LoadedEncoder {
  if (withFileErrors('open', path, () => fs.statSync(path)).isDirectory()) return readHuggingFaceFolder(path);
  if (path.endsWith('.safetensors') || path.endsWith('.index.json')) {
    const file = openWeights(path);
    try {
      return { ...encoderFromState(file.tensors, path, options.heads) };
    } finally {
      file.close();
    }
  }
  return readTorchCheckpoint(path, options);
}

/**
 * Reads a checkpoint of the official I-JEPA code (keys `encoder`, `predictor`, `target_encoder`, `opt`, ...; prefixes
 * `module.` removed), or a file whose top level is itself a state dict. See `OFFICIAL_LICENCE`.
 */
export function readTorchCheckpoint(
  path: string,
  { entry = 'target_encoder', heads }: CheckpointOptions = {},
): LoadedEncoder {
  return withFile(path, (source) => {
    const { root } = openTorchFile(source);
    if (!(root instanceof Map)) throw new JepaError(`${path}: a dictionary was expected at its top level`);
    const isState = [...root.values()].some(isTorchTensor);
    if (isState) return encoderFromState(stateDict(root, path), path, heads);
    if (!root.has(entry)) {
      throw new JepaError(`${path}: there is no ${quoted(entry)}; it holds ${[...root.keys()].map(quoted).join(', ')}`);
    }
    const encoder = encoderFromState(stateDict(root.get(entry)!, path), `${path}: ${entry}`, heads);
    const predictor = root.has('predictor')
      ? predictorFromState(stateDict(root.get('predictor')!, path), encoder.config, path)
      : undefined;
    const facts = Object.fromEntries(
      ['epoch', 'loss', 'lr', 'batch_size', 'world_size', 'scaler']
        .filter((key) => root.has(key))
        .map((key) => [key, describeTorchValue(root.get(key)!)]),
    );
    return { ...encoder, predictor, facts };
  });
}

function stateDict(value: TorchValue, path: string): Map<string, StoredTensor> {
  if (!(value instanceof Map)) throw new JepaError(`${path}: a state dict was expected`);
  return new Map(
    Array.from(value, ([name, tensor]): [string, StoredTensor] => {
      if (typeof name !== 'string' || !isTorchTensor(tensor))
        throw new JepaError(`${path}: entry ${quoted(String(name))} of the state dict is not a tensor`);
      return [name, tensor];
    }),
  );
}

/** An encoder from weights under official names, which timm's VisionTransformer without class token shares. */
function encoderFromState(
  state: ReadonlyMap<string, StoredTensor>,
  what: string,
  heads?: number,
): Pick<LoadedEncoder, 'config' | 'weights' | 'classifier'> {
  const stored = stripPrefixes(state, what);
  if (stored.has('fc_norm.weight')) {
    throw new JepaError(
      `${what}: it has fc_norm (timm with global_pool='avg'), which normalises after pooling: not the function of I-JEPA; save the model with global_pool=''`,
    );
  }
  if (stored.has('cls_token')) throw new JepaError(`${what}: it has a class token, which I-JEPA encoders do not have`);
  let classifier: LinearWeights | undefined;
  const [headWeight, headBias] = [stored.get('head.weight'), stored.get('head.bias')];
  if (headWeight && headBias) {
    classifier = { weight: loadFloat32(headWeight, 'head.weight'), bias: loadFloat32(headBias, 'head.bias') };
    stored.delete('head.weight');
    stored.delete('head.bias');
  }
  const config = inferConfig(stored, what, heads);
  checkNames(what, encoderShapes(config), stored);
  return { config, weights: loadAll(stored), classifier };
}

function predictorFromState(
  state: ReadonlyMap<string, StoredTensor>,
  encoder: VitConfig,
  path: string,
): LoadedEncoder['predictor'] {
  const what = `${path}: predictor`;
  const stored = stripPrefixes(state, what);
  const [width, encoderWidth] = shapeOf(stored, 'predictor_embed.weight', 2, what);
  const [mlpWidth] = shapeOf(stored, 'predictor_blocks.0.mlp.fc1.weight', 2, what);
  const config: PredictorConfig = {
    width,
    depth: countBlocks(stored, 'predictor_blocks'),
    heads: encoder.heads, // as the official code has it
    mlpWidth,
    qkvBias: stored.has('predictor_blocks.0.attn.qkv.bias'),
    eps: encoder.eps,
    encoderWidth,
    grid: gridOf(encoder),
  };
  checkNames(what, predictorShapes(config), stored);
  return { config, weights: loadAll(stored) };
}

function loadAll(stored: ReadonlyMap<string, StoredTensor>): EncoderWeights {
  return new Map(Array.from(stored, ([name, tensor]) => [name, loadFloat32(tensor, name)]));
}

function shapeOf(
  stored: ReadonlyMap<string, StoredTensor>,
  name: string,
  rank: number,
  what: string,
): readonly number[] {
  const shape = stored.get(name)?.shape;
  if (!shape)
    throw new JepaError(
      `${what}: no ${name}; the names start with ${[...stored.keys()].slice(0, 4).map(quoted).join(', ')}`,
    );
  if (shape.length !== rank)
    throw new JepaError(`${what}: ${name} is ${quoted(shape)}, ${rank} dimensions were expected`);
  return shape;
}

function countBlocks(stored: ReadonlyMap<string, unknown>, prefix: string): number {
  const pattern = new RegExp(`^${prefix}\\.(\\d+)\\.`);
  return new Set(Array.from(stored.keys(), (name) => pattern.exec(name)?.[1]).filter((i) => i !== undefined)).size;
}

/** Reads the shape of an encoder off its weights. The grid is square, as in all official models. */
function inferConfig(stored: ReadonlyMap<string, StoredTensor>, what: string, heads?: number): VitConfig {
  const [width, channels, patchSize] = shapeOf(stored, 'patch_embed.proj.weight', 4, what);
  const [, patches] = shapeOf(stored, 'pos_embed', 3, what);
  const [mlpWidth] = shapeOf(stored, 'blocks.0.mlp.fc1.weight', 2, what);
  const grid = Math.round(Math.sqrt(patches));
  if (grid * grid !== patches)
    throw new JepaError(
      `${what}: a table of ${patches} positions is not square, so it does not tell the shape of the image`,
    );
  // The number of heads is the one thing that weights do not show.
  const known = heads ?? Object.values(VIT_SIZES).find((size) => size.width === width)?.heads;
  if (known === undefined || width % known !== 0) {
    throw new JepaError(
      `${what}: weights of width ${width} do not tell the number of attention heads; give it (option heads)`,
    );
  }
  return {
    imageSize: [grid * patchSize, grid * patchSize],
    patchSize,
    channels,
    width,
    depth: countBlocks(stored, 'blocks'),
    heads: known,
    mlpWidth,
    qkvBias: stored.has('blocks.0.attn.qkv.bias'),
    eps: 1e-6,
  };
}
