import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { type JsonObject, quoted } from '../base/json.js';
import { VJEPA2_ROPE } from '../methods/vjepa2.js';
import { classifierConfig, classifierSpec, poolerConfig } from '../nn/attentive.js';
import { type PredictorConfig, predictorSpec } from '../nn/predictor.js';
import { checkVit, tokenGrid, type VitConfig, vitSpec } from '../nn/vit.js';
import {
  configReader,
  DTYPE_NAMES,
  type HuggingFaceOptions,
  labelsJson,
  narrowed,
  parseLabels,
  readRenamed,
  renamedShapes,
  withFolder,
  writeJson,
  writeRenamed,
} from './hf-folder.js';
import {
  type AttentiveClassifier,
  checkNames,
  type EncoderWeights,
  type LoadedEncoder,
  shapesOf,
} from './ijepa-names.js';
import { imageProcessorConfig } from './image-processor.js';
import { loadFloat32, type StoredTensor } from './raw.js';
import type { Writable } from './safetensors.js';
import { classifierNames, encoderNames, isMaskToken, MASK_TOKENS, predictorNames } from './vjepa2-names.js';
import { writeWeights } from './weights.js';

const PROCESSOR_FILE = 'video_preprocessor_config.json';
/** Before the names of encoder and predictor where there is a classifier. */
const PREFIX = 'vjepa2.';

/**
 * Reads a Hugging Face V-JEPA 2 folder (VJEPA2Model or VJEPA2ForVideoClassification): `config.json`, `model.safetensors` or
 * shards (F32, F16 or BF16, widened to float32) and, where there is one, `video_preprocessor_config.json`. The predictor
 * may be missing. Throws JepaError when files are missing or names and shapes do not fit the configuration.
 */
export function readVjepa2Folder(folder: string): LoadedEncoder {
  return withFolder(folder, PREFIX, PROCESSOR_FILE, ({ json, path, stored, transforms }) => {
    const part = (prefix: RegExp) => new Map([...stored].filter(([name]) => prefix.test(name)));
    const config = parseConfig(json, path, stored);
    const encoder = shapesOf(vitSpec(config));
    const ofPredictor = part(/^predictor\./);
    const ofClassifier = part(/^(pooler|classifier)\./);
    const ofEncoder = new Map([...stored].filter(([name]) => !ofPredictor.has(name) && !ofClassifier.has(name)));
    checkNames(folder, renamedShapes(encoder, encoderNames), ofEncoder);
    return {
      family: 'vjepa2',
      config,
      weights: readRenamed(encoder, encoderNames, ofEncoder),
      ...(ofPredictor.size > 0 && { predictor: readPredictor(json, path, config, ofPredictor, folder) }),
      ...(ofClassifier.size > 0 && { attentive: readClassifier(json, path, config, ofClassifier, folder) }),
      labels: parseLabels(json),
      transforms,
    };
  });
}

type Stored = ReadonlyMap<string, StoredTensor>;

/** Hidden width of an MLP. The ratio in a configuration is rounded (4.363636), so that the weights are what counts. */
function mlpWidthOf(stored: Stored, name: string, width: number, ratio: number): number {
  return stored.get(`${name}.mlp.fc1.weight`)?.shape[0] ?? Math.round(width * ratio);
}

function parseConfig(json: JsonObject, path: string, stored: Stored): VitConfig {
  const { refuse, count, layers, positive, only } = configReader(json, path);
  if (json.model_type !== 'vjepa2') return refuse(`"model_type" is ${quoted(json.model_type)} instead of "vjepa2"`);
  only('hidden_act', 'gelu');
  const size = json.crop_size === undefined ? count('image_size') : count('crop_size');
  const width = count('hidden_size');
  const config: VitConfig = {
    imageSize: [size, size],
    patchSize: count('patch_size', 16),
    channels: count('in_chans', 3),
    frames: count('frames_per_clip', 64),
    tubeletSize: count('tubelet_size', 2),
    width,
    depth: layers('num_hidden_layers'),
    heads: count('num_attention_heads'),
    mlpWidth: mlpWidthOf(stored, 'encoder.layer.0', width, positive('mlp_ratio', 4)),
    qkvBias: json.qkv_bias !== false,
    eps: positive('layer_norm_eps', 1e-6),
    positions: VJEPA2_ROPE,
  };
  checkVit(config);
  return config;
}

function readPredictor(
  json: JsonObject,
  path: string,
  encoder: VitConfig,
  stored: Stored,
  folder: string,
): NonNullable<LoadedEncoder['predictor']> {
  const { count, layers, positive } = configReader(json, path);
  const width = count('pred_hidden_size', 384);
  const config: PredictorConfig = {
    width,
    depth: layers('pred_num_hidden_layers', 12),
    heads: count('pred_num_attention_heads', 12),
    mlpWidth: mlpWidthOf(stored, 'predictor.layer.0', width, positive('pred_mlp_ratio', 4)),
    qkvBias: encoder.qkvBias,
    eps: encoder.eps,
    encoderWidth: encoder.width,
    grid: tokenGrid(encoder),
    positions: VJEPA2_ROPE,
    maskTokens: count('pred_num_mask_tokens', 10),
  };
  const all = [...shapesOf(predictorSpec(config))];
  const shapes = new Map(all.filter(([name]) => !isMaskToken(name)));
  const expected = renamedShapes(shapes, predictorNames).set(MASK_TOKENS, [config.maskTokens!, 1, 1, width]);
  checkNames(folder, expected, stored);
  const tokens = loadFloat32(stored.get(MASK_TOKENS)!, MASK_TOKENS);
  const weights: EncoderWeights = readRenamed(shapes, predictorNames, stored);
  for (let k = 0; k < config.maskTokens!; k++) {
    const data = tokens.data.slice(k * width, (k + 1) * width);
    weights.set(`mask_tokens.${k}`, { dtype: 'float32', shape: [1, 1, width], data });
  }
  return { config, weights };
}

function readClassifier(
  json: JsonObject,
  path: string,
  { width, heads, eps }: VitConfig,
  stored: Stored,
  folder: string,
): AttentiveClassifier {
  const { layers } = configReader(json, path);
  const pooler = poolerConfig(width, heads, {
    depth: layers('num_pooler_layers', 3),
    mlpWidth: mlpWidthOf(stored, 'pooler.cross_attention_layer', width, 4),
    // The official probe has 1e-5.
    eps,
  });
  const config = classifierConfig(pooler, stored.get('classifier.weight')?.shape[0] ?? 1);
  const shapes = shapesOf(classifierSpec(config));
  checkNames(folder, renamedShapes(shapes, classifierNames), stored);
  return { config, weights: readRenamed(shapes, classifierNames, stored) };
}

/** Why the VJEPA2 classes of Hugging Face cannot hold a model; undefined where they can. */
export function vjepa2Refusal({ config, predictor, attentive }: LoadedEncoder): string | undefined {
  const rope = config.positions;
  if (typeof rope !== 'object' || rope.frequencies !== 'tiled' || rope.referenceGrid !== undefined)
    return 'its positions are not those of V-JEPA 2';
  if (config.imageSize[0] !== config.imageSize[1]) return 'its clips are not square';
  if (!predictor?.config.maskTokens) return 'it has no predictor with mask tokens';
  if (!attentive) return undefined;
  const { pooler, heads } = attentive.config;
  if (pooler.heads !== config.heads || pooler.eps !== config.eps || pooler.blocks !== 'before' || pooler.bare)
    return 'its pooler has other heads, another epsilon or another order than they compute with';
  return Object.keys(heads).join() === 'linear' ? undefined : 'it has several classifiers';
}

/**
 * Writes a V-JEPA 2 as a folder that Python `transformers` loads: VJEPA2Model, or VJEPA2ForVideoClassification with an
 * attentive classifier. Each file is written atomically, the configuration last. Throws JepaError for what that class
 * cannot hold: other positions than V-JEPA 2's, other heads than the encoder's in the pooler, no predictor.
 */
export function writeVjepa2Folder(folder: string, model: LoadedEncoder, options: HuggingFaceOptions = {}): void {
  const { config, weights, predictor, attentive, transforms } = model;
  const { dtype = 'F32', maxShardBytes, extra = {} } = options;
  const refusal = vjepa2Refusal(model);
  if (refusal !== undefined || !predictor?.config.maskTokens)
    throw new JepaError(`${folder}: the VJEPA2 classes of Hugging Face cannot hold this model: ${refusal}`);
  checkNames('encoder to be written', shapesOf(vitSpec(config)), weights);
  checkNames('predictor to be written', shapesOf(predictorSpec(predictor.config)), predictor.weights);
  if (attentive) checkNames('classifier to be written', shapesOf(classifierSpec(attentive.config)), attentive.weights);

  const prefix = attentive ? PREFIX : '';
  const masks = Array.from(
    { length: predictor.config.maskTokens },
    (_, k) => predictor.weights.get(`mask_tokens.${k}`)!,
  );
  const stacked = { shape: [masks.length, 1, 1, predictor.config.width], data: joined(masks.map(({ data }) => data)) };
  const others = new Map([...predictor.weights].filter(([name]) => !isMaskToken(name)));
  const tensors = new Map<string, Writable>([
    ...writeRenamed(weights, (name) => encoderNames(name)?.map((found) => prefix + found), options),
    ...writeRenamed(others, (name) => predictorNames(name)?.map((found) => prefix + found), options),
    [prefix + MASK_TOKENS, narrowed({ dtype: 'float32', ...stacked }, dtype)],
    ...(attentive ? writeRenamed(attentive.weights, classifierNames, options) : []),
  ]);
  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  writeWeights(folder, tensors, { maxShardBytes });
  if (transforms) {
    const { image_processor_type: _, do_convert_rgb: __, ...steps } = imageProcessorConfig(transforms, config.channels);
    writeJson(join(folder, PROCESSOR_FILE), { video_processor_type: 'VJEPA2VideoProcessor', ...steps });
  }
  writeJson(join(folder, 'config.json'), { ...configJson(model, predictor.config, dtype), ...extra });
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.forEach((part, i) => {
    data.set(part, i * part.length);
  });
  return data;
}

function configJson(
  { config, attentive, labels }: LoadedEncoder,
  predictor: PredictorConfig,
  dtype: keyof typeof DTYPE_NAMES,
): JsonObject {
  return {
    architectures: [attentive ? 'VJEPA2ForVideoClassification' : 'VJEPA2Model'],
    attention_dropout: 0,
    attention_probs_dropout_prob: 0,
    crop_size: config.imageSize[0],
    drop_path_rate: 0,
    dtype: DTYPE_NAMES[dtype],
    frames_per_clip: config.frames!,
    hidden_act: 'gelu',
    hidden_size: config.width,
    ...(attentive && labelsJson(attentive.config.heads.linear, labels)),
    in_chans: config.channels,
    initializer_range: 0.02,
    layer_norm_eps: config.eps,
    mlp_ratio: ratioFor(config),
    model_type: 'vjepa2',
    num_attention_heads: config.heads,
    num_hidden_layers: config.depth,
    num_pooler_layers: attentive?.config.pooler.depth ?? 3,
    patch_size: config.patchSize,
    pred_hidden_size: predictor.width,
    pred_mlp_ratio: ratioFor(predictor),
    pred_num_attention_heads: predictor.heads,
    pred_num_hidden_layers: predictor.depth,
    pred_num_mask_tokens: predictor.maskTokens!,
    pred_zero_init_mask_tokens: true,
    qkv_bias: config.qkvBias,
    tubelet_size: config.tubeletSize!,
  };
}

/** The ratio from which `int(width * ratio)` gives the hidden width of the MLP back: a rounded one may be one short. */
function ratioFor({ width, mlpWidth }: { width: number; mlpWidth: number }): number {
  const ratio = mlpWidth / width;
  return Math.trunc(width * ratio) === mlpWidth ? ratio : (mlpWidth + 0.5) / width;
}
