import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import type { PredictorConfig } from '../nn/predictor.js';
import { gridOf, VIT_SIZES, type VitConfig } from '../nn/vit.js';
import { contextIn, factsIn, isDescribed, readDescribed } from './checkpoint-layout.js';
import { PACKAGE_TYPE } from './description.js';
import { withFile } from './files.js';
import { readHuggingFaceFolder } from './hf-ijepa.js';
import { readVjepa2Folder } from './hf-vjepa2.js';
import {
  type AttentiveClassifier,
  checkNames,
  encoderShapes,
  type Family,
  type LinearWeights,
  type LoadedEncoder,
  predictorShapes,
  stripPrefixes,
} from './ijepa-names.js';
import { readModelFolder } from './model-folder.js';
import { isTorchTensor, openTorchFile, type TorchValue } from './pth.js';
import { lateWeights, loadFloat32 } from './raw.js';
import { countIn, headsOf, type State, shapeIn, stateOf } from './torch-files.js';
import { isVideoEncoder, readClassifierState, readVideoModel, type VideoOptions } from './video-files.js';
import { openWeights, readJsonFile } from './weights.js';

/** To be shown whenever official checkpoints are converted or used. */
export const OFFICIAL_LICENCE = 'The weights that Meta released for I-JEPA are licensed CC BY-NC 4.0 (non-commercial).';

/** The licence of the weights that Meta released for each project. */
export const LICENCES: Readonly<Record<Family, string>> = {
  ijepa: OFFICIAL_LICENCE,
  vjepa: 'The weights that Meta released for V-JEPA are licensed CC BY-NC 4.0 (non-commercial).',
  vjepa2: 'The weights that Meta released for V-JEPA 2 are licensed MIT and Apache 2.0.',
  'vjepa2-ac': 'The weights that Meta released for V-JEPA 2-AC are licensed MIT and Apache 2.0.',
  'vjepa2.1': 'The weights that Meta released for V-JEPA 2.1 are licensed MIT and Apache 2.0.',
};

export interface CheckpointOptions extends VideoOptions {
  /**
   * Entry of a training checkpoint. The papers evaluate the target encoder, which is the default where there is one;
   * Hugging Face's conversions hold `encoder`.
   */
  readonly entry?: 'target_encoder' | 'encoder' | 'ema_encoder';
}

/** The licence of the checkpoints of this layout that Meta released, by the encoder's weights. */
export function officialLicence(names: ReadonlyMap<string, { readonly shape: readonly number[] }>): string {
  const find = (end: string) => Array.from(names).find(([name]) => name.endsWith(end))?.[1];
  if (find('patch_embed.proj.weight')?.shape.length !== 5) return LICENCES.ijepa;
  // V-JEPA's predictor adds a table of positions, those after it turn tokens.
  return find('predictor_pos_embed') ? LICENCES.vjepa : LICENCES.vjepa2;
}

/**
 * Reads an encoder from any of the files that exist: a Hugging Face folder (I-JEPA or V-JEPA 2), a training checkpoint of
 * the official codes (`.pth.tar`, `.pt`; nothing in it is executed), a plain state dict of PyTorch, or safetensors with
 * official or timm names. Throws JepaError when names or shapes do not make an encoder of I-JEPA or V-JEPA.
 */
export function loadEncoder(path: string, options: CheckpointOptions = {}): LoadedEncoder {
  if (withFileErrors('open', path, () => fs.statSync(path)).isDirectory()) {
    const { model_type: type } = readJsonFile(join(path, 'config.json'));
    if (type === PACKAGE_TYPE) return readModelFolder(path);
    return type === 'vjepa2' ? readVjepa2Folder(path) : readHuggingFaceFolder(path);
  }
  if (path.endsWith('.safetensors') || path.endsWith('.index.json')) {
    const file = openWeights(path);
    try {
      return encoderFromState(stripPrefixes(file.tensors, path), path, options);
    } finally {
      file.close();
    }
  }
  return readTorchCheckpoint(path, options);
}

/** Entries of a training checkpoint that may hold the encoder, the first that does counts. */
const ENTRIES = ['target_encoder', 'ema_encoder', 'encoder'] as const;

/**
 * Reads a checkpoint of an official code (keys `encoder`, `predictor`, `target_encoder`, `opt`, ...; prefixes `module.` and
 * `backbone.` removed), or a file whose top level is itself a state dict. Where `writeTorchCheckpoint` wrote it, its description
 * counts and options are not needed. See `LICENCES`.
 */
export function readTorchCheckpoint(path: string, options: CheckpointOptions = {}): LoadedEncoder {
  return withFile(path, (source) => {
    const root = topLevel(openTorchFile(source).root, path);
    if (isDescribed(root)) return readDescribed(root, path, options.entry);
    if ([...root.values()].some(isTorchTensor)) return encoderFromState(stateOf(root, path), path, options);
    const entry = options.entry ?? ENTRIES.find((name) => root.get(name) instanceof Map) ?? 'encoder';
    if (!root.has(entry) && (root.has('classifier') || root.has('classifiers')))
      throw new JepaError(
        `${path}: an attentive classifier without its encoder; import the encoder and give this file with --classifier`,
      );
    if (!root.has(entry)) throw nothing(path, entry, root);
    const what = `${path}: ${entry}`;
    const state = stateOf(root.get(entry), what);
    const predictor = root.get('predictor') instanceof Map ? stateOf(root.get('predictor'), path) : undefined;
    const facts = factsIn(root);
    const used = new Set<TorchValue>([entry, ...(predictor ? ['predictor'] : []), ...Object.keys(facts)]);
    const ignored = [...root.keys()].filter((key) => !used.has(key)).map(String);
    if (isVideoEncoder(state)) {
      const model = readVideoModel(state, predictor, what, options);
      const replaced = state.has('pos_embed') && !model.weights.has('pos_embed');
      const context = entry === 'encoder' ? undefined : contextIn(root, model.weights, path);
      return { ...model, context, facts, ignored: [...ignored, ...(replaced ? [`${entry}.pos_embed`] : [])] };
    }
    const encoder = imageEncoder(state, what, options.heads);
    const context = entry === 'encoder' ? undefined : contextIn(root, encoder.weights, path);
    const predicting = predictor && predictorFromState(predictor, encoder.config, path);
    return { ...encoder, context, predictor: predicting, facts, ignored };
  });
}

/**
 * Reads an attentive classifier from the checkpoint of an evaluation of V-JEPA (`classifier`) or V-JEPA 2 (`classifiers`, of
 * which `index` says which; the released files hold one). The number of its heads is 16 unless given.
 */
export function readTorchClassifier(
  path: string,
  { heads, index = 0 }: { readonly heads?: number; readonly index?: number } = {},
): AttentiveClassifier {
  return withFile(path, (source) => {
    const root = topLevel(openTorchFile(source).root, path);
    const all = root.get('classifiers');
    const state = Array.isArray(all) ? all[index] : root.get('classifier');
    if (state === undefined) throw nothing(path, Array.isArray(all) ? `classifiers[${index}]` : 'classifier', root);
    const what = `${path}: classifier`;
    return readClassifierState(stateOf(state, what), what, { heads });
  });
}

function topLevel(root: TorchValue, path: string): Map<TorchValue, TorchValue> {
  if (!(root instanceof Map)) throw new JepaError(`${path}: a dictionary was expected at its top level`);
  return root;
}

function nothing(path: string, entry: string, root: Map<TorchValue, TorchValue>): JepaError {
  return new JepaError(`${path}: there is no ${quoted(entry)}; it holds ${[...root.keys()].map(quoted).join(', ')}`);
}

/** An encoder from a state dict without prefixes. */
function encoderFromState(state: State, what: string, options: CheckpointOptions): LoadedEncoder {
  return isVideoEncoder(state)
    ? readVideoModel(state, undefined, what, options)
    : imageEncoder(state, what, options.heads);
}

/** An encoder from weights under official names, which timm's VisionTransformer without class token shares. */
function imageEncoder(state: State, what: string, heads?: number): LoadedEncoder {
  const stored = new Map(state);
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
  return { family: 'ijepa', config, weights: lateWeights(stored), classifier };
}

function predictorFromState(stored: State, encoder: VitConfig, path: string): LoadedEncoder['predictor'] {
  const what = `${path}: predictor`;
  const [width, encoderWidth] = shapeIn(stored, 'predictor_embed.weight', 2, what);
  const [mlpWidth] = shapeIn(stored, 'predictor_blocks.0.mlp.fc1.weight', 2, what);
  const config: PredictorConfig = {
    width,
    depth: countIn(stored, 'predictor_blocks'),
    heads: encoder.heads, // as the official code has it
    mlpWidth,
    qkvBias: stored.has('predictor_blocks.0.attn.qkv.bias'),
    eps: encoder.eps,
    encoderWidth,
    grid: gridOf(encoder),
  };
  checkNames(what, predictorShapes(config), stored);
  return { config, weights: lateWeights(stored) };
}

/** Reads the shape of an encoder off its weights. The grid is square, as in all official models. */
function inferConfig(stored: State, what: string, heads?: number): VitConfig {
  const [width, channels, patchSize] = shapeIn(stored, 'patch_embed.proj.weight', 4, what);
  const [, patches] = shapeIn(stored, 'pos_embed', 3, what);
  const [mlpWidth] = shapeIn(stored, 'blocks.0.mlp.fc1.weight', 2, what);
  const grid = Math.round(Math.sqrt(patches));
  if (grid * grid !== patches)
    throw new JepaError(
      `${what}: a table of ${patches} positions is not square, so it does not tell the shape of the image`,
    );
  // The number of heads is the one thing that weights do not show.
  const known = headsOf(width, heads ?? Object.values(VIT_SIZES).find((size) => size.width === width)?.heads, what);
  return {
    imageSize: [grid * patchSize, grid * patchSize],
    patchSize,
    channels,
    width,
    depth: countIn(stored, 'blocks'),
    heads: known,
    mlpWidth,
    qkvBias: stored.has('blocks.0.attn.qkv.bias'),
    eps: 1e-6,
  };
}
