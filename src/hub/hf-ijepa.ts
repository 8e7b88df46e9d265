import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { isJsonObject, type Json, type JsonObject, quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import type { VitConfig } from '../nn/vit.js';
import {
  checkNames,
  type EncoderWeights,
  encoderShapes,
  huggingFaceNames,
  type LinearWeights,
  type LoadedEncoder,
} from './ijepa-names.js';
import { imageProcessorConfig, parseImageProcessor } from './image-processor.js';
import { loadFloat32, narrowFloat32 } from './raw.js';
import type { Writable } from './safetensors.js';
import { openWeights, readJsonFile, writeWeights } from './weights.js';

/**
 * Reads a Hugging Face I-JEPA folder: `config.json`, `model.safetensors` (or shards; F32, F16 or BF16, widened to float32)
 * and, where there is one, `preprocessor_config.json`. Names may carry the prefix `ijepa.`; pooler and classifier are
 * optional. Throws JepaError when files are missing or names and shapes do not fit the configuration.
 */
export function readHuggingFaceFolder(folder: string): LoadedEncoder {
  const configPath = join(folder, 'config.json');
  const json = readJsonFile(configPath);
  const config = parseConfig(json, configPath);
  const processorPath = join(folder, 'preprocessor_config.json');
  const transforms = fs.existsSync(processorPath)
    ? parseImageProcessor(readJsonFile(processorPath), processorPath)
    : undefined;

  const file = openWeights(folder);
  try {
    const stored = new Map(Array.from(file.tensors, ([name, tensor]) => [name.replace(/^ijepa\./, ''), tensor]));
    if (stored.size !== file.tensors.size)
      throw new JepaError(`${folder}: some weights occur with and without the prefix ijepa.`);
    const pooler = takeLinear('pooler.dense');
    const classifier = takeLinear('classifier');

    const expected = new Map(
      Array.from(encoderShapes(config)).flatMap(([name, shape]) => huggingFaceShapes(name, shape)),
    );
    checkNames(folder, expected, stored);
    const weights: EncoderWeights = new Map();
    for (const [name, shape] of encoderShapes(config)) {
      const parts = huggingFaceNames(name)!.map((part) => loadFloat32(stored.get(part)!, part));
      weights.set(name, parts.length === 1 ? parts[0] : joinRows(parts, shape));
    }
    return { config, weights, pooler, classifier, labels: parseLabels(json), transforms };

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
  } finally {
    file.close();
  }
}

/** The Hugging Face names of an official parameter with their shapes. */
function huggingFaceShapes(name: string, [rows, ...rest]: readonly number[]): [string, number[]][] {
  const names = huggingFaceNames(name)!;
  return names.map((part) => [part, [rows / names.length, ...rest]]);
}

function joinRows(parts: readonly HostTensor<'float32'>[], shape: readonly number[]): HostTensor<'float32'> {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let offset = 0;
  for (const part of parts) {
    data.set(part.data, offset);
    offset += part.data.length;
  }
  return { dtype: 'float32', shape, data };
}

function splitRows({ shape: [rows, ...rest], data }: HostTensor<'float32'>, count: number): HostTensor<'float32'>[] {
  const length = data.length / count;
  return Array.from({ length: count }, (_, i) => ({
    dtype: 'float32' as const,
    shape: [rows / count, ...rest],
    data: data.subarray(i * length, (i + 1) * length),
  }));
}

/** No encoder has more of anything (layers, heads, width); keeps a damaged configuration from filling the memory. */
const LARGEST_COUNT = 100_000;

function parseConfig(json: JsonObject, path: string): VitConfig {
  const refuse = (what: string): never => {
    throw new JepaError(`${path}: ${what}`);
  };
  const count = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    return Number.isSafeInteger(value) && (value as number) > 0 && (value as number) <= LARGEST_COUNT
      ? (value as number)
      : refuse(`"${key}" is missing or not an integer from 1 to ${LARGEST_COUNT}`);
  };
  if (json.model_type !== 'ijepa') return refuse(`"model_type" is ${quoted(json.model_type)} instead of "ijepa"`);
  if ((json.hidden_act ?? 'gelu') !== 'gelu')
    return refuse(`"hidden_act" ${quoted(json.hidden_act)} is not supported; only "gelu" is`);
  if ((json.pooler_act ?? 'tanh') !== 'tanh')
    return refuse(`"pooler_act" ${quoted(json.pooler_act)} is not supported; only "tanh" is`);
  const width = count('hidden_size');
  const heads = count('num_attention_heads');
  if (width % heads !== 0) return refuse(`"hidden_size" ${width} does not divide into ${heads} heads`);
  const size: Json = json.image_size ?? 224;
  const sides = typeof size === 'number' ? [size, size] : size;
  const patchSize = count('patch_size');
  const fits = (side: Json) =>
    Number.isSafeInteger(side) &&
    (side as number) > 0 &&
    (side as number) <= LARGEST_COUNT &&
    (side as number) % patchSize === 0;
  if (!Array.isArray(sides) || sides.length !== 2 || !sides.every(fits)) {
    return refuse(`"image_size" ${quoted(size)} is not one or two integers that divide into patches of ${patchSize}`);
  }
  // The class's own default is 1e-12; every released model was trained with, and says, 1e-6.
  const eps = json.layer_norm_eps ?? 1e-6;
  if (typeof eps !== 'number' || !(eps > 0)) return refuse('"layer_norm_eps" is not a positive number');
  return {
    imageSize: sides as [number, number],
    patchSize,
    channels: count('num_channels', 3),
    width,
    depth: count('num_hidden_layers'),
    heads,
    mlpWidth: count('intermediate_size'),
    qkvBias: json.qkv_bias !== false,
    eps,
  };
}

function parseLabels(json: JsonObject): string[] | undefined {
  if (!isJsonObject(json.id2label)) return undefined;
  const labels: string[] = [];
  for (const [id, label] of Object.entries(json.id2label)) {
    if (/^\d{1,6}$/.test(id)) labels[Number(id)] = String(label);
  }
  return Array.from(labels, (label, i) => label ?? `LABEL_${i}`);
}

export interface HuggingFaceOptions {
  /** How weights are stored. */
  readonly dtype?: 'F32' | 'F16' | 'BF16';
  /** Weights above this are split over several files. */
  readonly maxShardBytes?: number;
  /** More keys for `config.json` (`transformers.js_config`, for instance). */
  readonly extra?: JsonObject;
}

/**
 * Writes an encoder as a folder that Python `transformers` loads (IJepaModel, or IJepaForImageClassification with a
 * classifier): weights, `config.json` and, where transforms are given, `preprocessor_config.json`. Each file is written
 * atomically, the configuration last; other files in the folder are left alone.
 */
export function writeHuggingFaceFolder(
  folder: string,
  encoder: Pick<LoadedEncoder, 'config' | 'weights' | 'pooler' | 'classifier' | 'labels' | 'transforms'>,
  { dtype = 'F32', maxShardBytes, extra = {} }: HuggingFaceOptions = {},
): void {
  const { config, weights, pooler, classifier, transforms } = encoder;
  checkNames('encoder to be written', encoderShapes(config), weights);
  const prefix = classifier ? 'ijepa.' : '';
  const tensors = new Map<string, Writable>();
  const add = (name: string, tensor: HostTensor<'float32'>) =>
    tensors.set(name, dtype === 'F32' ? tensor : narrowFloat32(tensor, dtype));
  for (const [name, tensor] of weights) {
    const names = huggingFaceNames(name)!;
    splitRows(tensor, names.length).forEach((part, i) => {
      add(prefix + names[i], names.length === 1 ? tensor : part);
    });
  }
  for (const [name, linear] of [
    [`${prefix}pooler.dense`, pooler],
    ['classifier', classifier],
  ] as const) {
    if (linear) {
      add(`${name}.weight`, linear.weight);
      add(`${name}.bias`, linear.bias);
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
  dtype: string,
): JsonObject {
  const [height, width] = config.imageSize;
  const names =
    classifier && Array.from({ length: classifier.bias.data.length }, (_, i) => labels?.[i] ?? `LABEL_${i}`);
  return {
    architectures: [classifier ? 'IJepaForImageClassification' : 'IJepaModel'],
    attention_probs_dropout_prob: 0,
    dtype: { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[dtype]!,
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    hidden_size: config.width,
    ...(names && {
      id2label: Object.fromEntries(names.map((name, i) => [String(i), name])),
      label2id: Object.fromEntries(names.map((name, i) => [name, i])),
    }),
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

function writeJson(path: string, value: JsonObject): void {
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}
