import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import { isImages, type PreparationInput } from '../data/plans.js';
import { parseTransforms } from '../data/transforms.js';
import { lowerGraph, reachable } from '../graph/lower.js';
import { ELEMENT_TYPES, EXTERNAL_LIMIT, encodeModel, type OnnxTensor } from '../graph/onnx.js';
import { linear } from '../graph/ops/product.js';
import { mean } from '../graph/ops/reduce.js';
import { optimize } from '../graph/passes/optimize.js';
import {
  type InputAttrs,
  input,
  type Operator,
  parameter,
  parameterOperator,
  scope,
  type Tensor,
} from '../graph/tensor.js';
import { type HuggingFaceOptions, writeHuggingFaceFolder } from '../hub/hf-ijepa.js';
import { type Encoder, encoderInputs, type Inputs } from '../methods/method.js';
import type { VitConfig } from '../nn/vit.js';
import { type FrozenEncoder, imageShape } from './frozen.js';

/** A linear classifier on what probes see, as `finetune` returns it. */
export interface Classification {
  /** [classes, features] */
  readonly weight: HostTensor<'float32'>;
  /** [classes] */
  readonly bias: HostTensor<'float32'>;
  readonly classes: readonly string[];
}

export interface ExportOptions {
  /** The model also gives `logits` [batch, classes]. */
  readonly classifier?: Classification;
}

export interface OnnxExportOptions extends ExportOptions {
  /** Bytes of weights above which they go to `<name>_data` beside the model; a message of ONNX cannot exceed 2 GB. */
  readonly externalAbove?: number;
}

export interface WeightsExportOptions extends ExportOptions, Pick<HuggingFaceOptions, 'dtype' | 'maxShardBytes'> {}

/**
 * Writes an encoder as an ONNX model of standard operators, for any runtime: its inputs (`images`
 * [batch, channels, height, width], after the transforms that its metadata name) to `last_hidden_state` [batch, tokens, width] and `embedding`
 * [batch, features], what probes see; with a classifier also `logits`. Returns the files, the model first.
 */
export function exportOnnx(frozen: FrozenEncoder, path: string, options: OnnxExportOptions = {}): string[] {
  const { encoder } = frozen;
  const inputs = encoderInputs(encoder);
  const embedding = encoder.represent(inputs);
  const outputs = { last_hidden_state: encoder.tokens(inputs), embedding };
  return writeOnnx(frozen, path, inputs, outputs, embedding, options);
}

/**
 * Writes a ViT as a folder that transformers.js (`pipeline('image-feature-extraction', './folder')`, with a classifier
 * `image-classification`) and, with its safetensors, Python's transformers load. `pooler_output` is the mean over tokens.
 * Returns the files.
 */
export function exportTransformers(
  frozen: FrozenEncoder,
  folder: string,
  options: OnnxExportOptions & WeightsExportOptions = {},
): string[] {
  const config = vitOf(frozen, 'a folder for transformers.js');
  withFileErrors('create', folder, () => fs.mkdirSync(join(folder, 'onnx'), { recursive: true }));
  const { channels, size } = imageShape(frozen);
  const pixels = input('pixel_values', ['batch', channels, ...size]);
  const tokens = frozen.encoder.tokens({ images: pixels });
  const pooled = mean(tokens, 1);
  const outputs = { last_hidden_state: tokens, pooler_output: pooled };
  const model = join(folder, 'onnx', 'model.onnx');
  const files = writeOnnx(frozen, model, { pixel_values: pixels }, outputs, pooled, options);
  // Browsers would ask for a quantised model otherwise, and would not look for external data.
  const settings = { dtype: 'fp32', ...(files.length > 1 && { use_external_data_format: true }) };
  return [...files, ...writeFolder(frozen, config, folder, options, { 'transformers.js_config': settings })];
}

/** Writes a ViT as safetensors with Hugging Face's names and configuration, for Python's transformers. Returns the files. */
export function exportSafetensors(frozen: FrozenEncoder, folder: string, options: WeightsExportOptions = {}): string[] {
  return writeFolder(frozen, vitOf(frozen, 'a Hugging Face folder'), folder, options);
}

function vitOf(frozen: FrozenEncoder, what: string): VitConfig {
  const { name, encoder } = frozen;
  imageShape(frozen);
  if (encoder.architecture.kind === 'vit') return encoder.architecture;
  throw new JepaError(
    `${name}: ${what} needs a ViT, which those libraries know as I-JEPA; this encoder is a conv net: export it as ONNX (a path that ends in .onnx)`,
  );
}

function writeFolder(
  frozen: FrozenEncoder,
  config: VitConfig,
  folder: string,
  { classifier, dtype, maxShardBytes }: WeightsExportOptions,
  extra?: HuggingFaceOptions['extra'],
): string[] {
  const { prefix } = frozen.encoder.module;
  const weights = new Map(Array.from(frozen.weights, ([name, value]) => [name.slice(prefix.length), value]));
  const transforms = isImages(frozen.preparation) ? parseTransforms(frozen.preparation.transforms) : [];
  const model = { config, weights, transforms, ...(classifier && { classifier, labels: classifier.classes }) };
  writeHuggingFaceFolder(folder, model, { dtype, maxShardBytes, extra });
  return fs
    .readdirSync(folder)
    .filter((name) => /^(config|preprocessor_config|model.*)\.(json|safetensors)$/.test(name))
    .sort()
    .map((name) => join(folder, name));
}

function writeOnnx(
  frozen: FrozenEncoder,
  path: string,
  inputs: Inputs,
  encoded: Readonly<Record<string, Tensor>>,
  features: Tensor,
  { classifier, externalAbove = EXTERNAL_LIMIT }: OnnxExportOptions,
): string[] {
  const values = new Map(frozen.weights);
  const outputs = { ...encoded };
  if (classifier) {
    const leaf = (name: 'weight' | 'bias'): Tensor => {
      values.set(`classifier.${name}`, classifier[name]);
      return parameter(`classifier.${name}`, classifier[name].shape);
    };
    outputs.logits = scope('classifier', () => linear(features, leaf('weight'), leaf('bias')));
  }
  const names = Object.keys(outputs);
  const optimised = optimize(Object.values(outputs));
  const order = reachable(optimised);
  const parameters = order
    .filter((node) => node.op === (parameterOperator as Operator))
    .map((node) => ({ name: (node.attrs as InputAttrs).name, tensor: node.outputs[0] }));
  const given = Object.entries(inputs).map(([name, tensor]) => ({ name, tensor }));
  // The lowering for WebGPU uses operators of the standard only, which every runtime has.
  const graph = lowerGraph(
    [...given, ...parameters],
    optimised.map((tensor, i) => ({ name: names[i], tensor })),
    order,
    'webgpu',
  );
  const foreign = graph.nodes.find(({ domain }) => domain !== '');
  if (foreign) throw new JepaError(`${path}: ${foreign.opType} (${foreign.name}) is no standard operator of ONNX`);

  const weights = parameters.map(({ name }): OnnxTensor => {
    const value = values.get(name);
    if (!value) throw new JepaError(`${frozen.name}: the weights lack ${name}`);
    const data = new Uint8Array(value.data.buffer, value.data.byteOffset, value.data.byteLength);
    return { name, elementType: ELEMENT_TYPES.float32, shape: value.shape, data };
  });
  const model = { ...graph, inputs: graph.inputs.slice(0, given.length), constants: [...weights, ...graph.constants] };
  const bytes = weights.reduce((sum, { data }) => sum + data.length, 0);
  const dataFile = bytes > externalAbove ? `${basename(path)}_data` : undefined;
  const files = encodeModel(model, { metadata: metadataOf(frozen, classifier), externalFile: dataFile });

  // The data first: a model that is there is complete.
  const dataPath = join(dirname(path), `${basename(path)}_data`);
  if (dataFile) writeFileAtomic(dataPath, files.external);
  writeFileAtomic(path, files.model);
  return dataFile ? [path, dataPath] : [path];
}

function metadataOf(
  { name, encoder, preparation, facts }: FrozenEncoder,
  classifier: Classification | undefined,
): Record<string, string> {
  return {
    source: name,
    ...facts,
    architecture: JSON.stringify(encoder.architecture),
    ...preparationFacts(encoder, preparation),
    ...(classifier && { classes: JSON.stringify(classifier.classes) }),
  };
}

function preparationFacts({ inputs }: Encoder, preparation: PreparationInput): Record<string, string> {
  if (!isImages(preparation)) return { preparation: JSON.stringify(preparation) };
  const size = inputs[0].shape.join(' x ');
  return {
    image: `${size}, values 0 to 1 before the transforms' normalisation`,
    transforms: JSON.stringify(parseTransforms(preparation.transforms)),
  };
}
