import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { type Json, type JsonObject, quoted } from '../base/json.js';
import type { VitConfig } from '../nn/vit.js';
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
import { checkNames, encoderShapes, huggingFaceNames, type LinearWeights, type LoadedEncoder } from './ijepa-names.js';
import { imageProcessorConfig } from './image-processor.js';
import { loadFloat32 } from './raw.js';
import type { Writable } from './safetensors.js';
import { writeWeights } from './weights.js';

export type { HuggingFaceOptions } from './hf-folder.js';

/**
 * Reads a Hugging Face I-JEPA folder: `config.json`, `model.safetensors` (or shards; F32, F16 or BF16, widened to float32)
 * and, where there is one, `preprocessor_config.json`. Names may carry the prefix `ijepa.`; pooler and classifier are
 * optional. Throws JepaError when files are missing or names and shapes do not fit the configuration.
 */
export function readHuggingFaceFolder(folder: string): LoadedEncoder {
  return withFolder(folder, 'ijepa.', 'preprocessor_config.json', ({ json, path, stored, transforms }) => {
    const config = parseConfig(json, path);
    const pooler = takeLinear('pooler.dense');
    const classifier = takeLinear('classifier');

    checkNames(folder, renamedShapes(encoderShapes(config), huggingFaceNames), stored);
    const weights = readRenamed(encoderShapes(config), huggingFaceNames, stored);
    return { config, weights, family: 'ijepa', pooler, classifier, labels: parseLabels(json), transforms };

    function takeLinear(name: string): LinearWeights | undefined {
      const [weight, bias] = [stored.get(`${name}.weight`), stored.get(`${name}.bias`)];
      if (!weight || !bias) return undefined; // one alone stays among the unexpected names
      const [outputs] = weight.shape;
      checkNames(
        folder,
        new Map([
          ['weight', [outputs, config.width]],
          ['bias', [outputs]],
        ]),
        new Map([
          ['weight', weight],
          ['bias', bias],
        ]),
      );
      stored.delete(`${name}.weight`);
      stored.delete(`${name}.bias`);
      return { weight: loadFloat32(weight, `${name}.weight`), bias: loadFloat32(bias, `${name}.bias`) };
    }
  });
}

function parseConfig(json: JsonObject, path: string): VitConfig {
  const { refuse, isCount, count, layers, positive, only } = configReader(json, path);
  if (json.model_type !== 'ijepa') return refuse(`"model_type" is ${quoted(json.model_type)} instead of "ijepa"`);
  only('hidden_act', 'gelu');
  only('pooler_act', 'tanh');
  const width = count('hidden_size');
  const heads = count('num_attention_heads');
  if (width % heads !== 0) return refuse(`"hidden_size" ${width} does not divide into ${heads} heads`);
  const size: Json = json.image_size ?? 224;
  const sides = typeof size === 'number' ? [size, size] : size;
  const patchSize = count('patch_size');
  const fits = (side: Json) => isCount(side) && side % patchSize === 0;
  if (!Array.isArray(sides) || sides.length !== 2 || !sides.every(fits)) {
    return refuse(`"image_size" ${quoted(size)} is not one or two integers that divide into patches of ${patchSize}`);
  }
  // The class's own default is 1e-12; every released model was trained with, and says, 1e-6.
  const eps = positive('layer_norm_eps', 1e-6);
  return {
    imageSize: sides as [number, number],
    patchSize,
    channels: count('num_channels', 3),
    width,
    depth: layers('num_hidden_layers'),
    heads,
    mlpWidth: count('intermediate_size'),
    qkvBias: json.qkv_bias !== false,
    eps,
  };
}

/**
 * Writes an encoder as a folder that Python `transformers` loads (IJepaModel, or IJepaForImageClassification with a
 * classifier): weights, `config.json` and, where transforms are given, `preprocessor_config.json`. Each file is written
 * atomically, the configuration last; other files in the folder are left alone.
 */
export function writeHuggingFaceFolder(
  folder: string,
  encoder: Pick<LoadedEncoder, 'config' | 'weights' | 'pooler' | 'classifier' | 'labels' | 'transforms'>,
  options: HuggingFaceOptions = {},
): void {
  const { dtype = 'F32', maxShardBytes, extra = {} } = options;
  const { config, weights, pooler, classifier, transforms } = encoder;
  checkNames('encoder to be written', encoderShapes(config), weights);
  const prefix = classifier ? 'ijepa.' : '';
  const tensors = new Map<string, Writable>(
    writeRenamed(weights, (name) => huggingFaceNames(name)?.map((found) => prefix + found), options),
  );
  for (const [name, linear] of [
    [`${prefix}pooler.dense`, pooler],
    ['classifier', classifier],
  ] as const) {
    if (linear) {
      tensors.set(`${name}.weight`, narrowed(linear.weight, dtype));
      tensors.set(`${name}.bias`, narrowed(linear.bias, dtype));
    }
  }

  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  writeWeights(folder, tensors, { maxShardBytes });
  if (transforms)
    writeJson(join(folder, 'preprocessor_config.json'), imageProcessorConfig(transforms, config.channels));
  writeJson(join(folder, 'config.json'), { ...configJson(encoder, dtype), ...extra });
}

function configJson(
  { config, pooler, classifier, labels }: Parameters<typeof writeHuggingFaceFolder>[1],
  dtype: keyof typeof DTYPE_NAMES,
): JsonObject {
  const [height, width] = config.imageSize;
  return {
    architectures: [classifier ? 'IJepaForImageClassification' : 'IJepaModel'],
    attention_probs_dropout_prob: 0,
    dtype: DTYPE_NAMES[dtype],
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    hidden_size: config.width,
    ...(classifier && labelsJson(classifier.bias.data.length, labels)),
    image_size: height === width ? height : [height, width],
    initializer_range: 0.02,
    intermediate_size: config.mlpWidth,
    layer_norm_eps: config.eps,
    model_type: 'ijepa',
    num_attention_heads: config.heads,
    num_channels: config.channels,
    num_hidden_layers: config.depth,
    patch_size: config.patchSize,
    pooler_act: 'tanh',
    pooler_output_size: pooler ? pooler.bias.data.length : config.width,
    qkv_bias: config.qkvBias,
  };
}
