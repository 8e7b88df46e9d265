import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import type { Transform } from '../data/transforms.js';
import type { AcPredictorConfig } from '../nn/ac-predictor.js';
import type { ClassifierConfig } from '../nn/attentive.js';
import type { PredictorConfig } from '../nn/predictor.js';
import { blocksSpec, linearSpec, normSpec } from '../nn/transformer.js';
import { gridOf, type VitConfig } from '../nn/vit.js';
import type { ModuleSpec, ParameterSpec } from '../nn/weights.js';

/** Parameters by official name. */
export type EncoderWeights = Map<string, HostTensor<'float32'>>;

/** A linear layer, weight [out, in]. */
export interface LinearWeights {
  readonly weight: HostTensor<'float32'>;
  readonly bias: HostTensor<'float32'>;
}

/** An encoder read from a file or folder. */
export interface LoadedEncoder {
  readonly config: VitConfig;
  /** Weights under their official names (`blocks.0.attn.qkv.weight`, ...). */
  readonly weights: EncoderWeights;
  /** tanh(dense(first token)); absent from the released files. */
  readonly pooler?: LinearWeights;
  /** Applied to the mean over tokens of the normalised output. */
  readonly classifier?: LinearWeights;
  /** An attentive classifier on all tokens (V-JEPA 2). */
  readonly attentive?: AttentiveClassifier;
  readonly labels?: readonly string[];
  /** What images, or the frames of a clip, go through before the encoder, where the files say it. */
  readonly transforms?: readonly Transform[];
  /** Whose way of resizing the frames of a clip that is; where it is not said, that of the processor which says the rest. */
  readonly resizing?: 'papers' | 'Hugging Face';
  /** The encoder that learned, where `weights` are its moving average: both are in a training checkpoint. */
  readonly context?: EncoderWeights;
  /** The predictor of a training checkpoint, official names, and its shape. */
  readonly predictor?: { readonly config: PredictorConfig; readonly weights: EncoderWeights };
  /** The predictor that follows actions, of V-JEPA 2-AC. */
  readonly actionPredictor?: { readonly config: AcPredictorConfig; readonly weights: EncoderWeights };
  /** Which project the weights are of, where the file shows it. */
  readonly family?: Family;
  /** Scalars of a training checkpoint: epoch, loss, lr, ... */
  readonly facts?: Readonly<Record<string, unknown>>;
  /** What the file says of the right to use the weights. */
  readonly licence?: string;
  /** Entries of a checkpoint that are no part of the model that was read: the optimizer, the other encoder, ... */
  readonly ignored?: readonly string[];
}

/** Attentive pooling and the linear classifiers behind it, official names (`pooler.query_tokens`, `linear.weight`, ...). */
export interface AttentiveClassifier {
  readonly config: ClassifierConfig;
  readonly weights: EncoderWeights;
}

export const FAMILIES = ['ijepa', 'vjepa', 'vjepa2', 'vjepa2-ac', 'vjepa2.1'] as const;
export type Family = (typeof FAMILIES)[number];

/** Inside a block and outside: official name and Hugging Face's, without `.weight` or `.bias`. */
const BLOCK_NAMES: readonly (readonly [string, readonly string[]])[] = [
  ['norm1', ['layernorm_before']],
  ['attn.qkv', ['attention.attention.query', 'attention.attention.key', 'attention.attention.value']],
  ['attn.proj', ['attention.output.dense']],
  ['norm2', ['layernorm_after']],
  ['mlp.fc1', ['intermediate.dense']],
  ['mlp.fc2', ['output.dense']],
];
const OUTER_NAMES: readonly (readonly [string, string])[] = [
  ['patch_embed.proj', 'embeddings.patch_embeddings.projection'],
  ['norm', 'layernorm'],
];

/**
 * The Hugging Face names (on disk, without the prefix `ijepa.`) that hold an official parameter: one, or for `attn.qkv`
 * three, whose rows follow each other: query, key, value. Undefined for names that an I-JEPA encoder does not have.
 */
export function huggingFaceNames(official: string): string[] | undefined {
  if (official === 'pos_embed') return ['embeddings.position_embeddings'];
  const [, stem, kind] = /^(.+)\.(weight|bias)$/.exec(official) ?? [];
  const outer = OUTER_NAMES.find(([name]) => name === stem);
  if (outer) return [`${outer[1]}.${kind}`];
  const [, block, inner] = /^blocks\.(0|[1-9]\d*)\.(.+)$/.exec(stem ?? '') ?? [];
  const found = BLOCK_NAMES.find(([name]) => name === inner);
  return found?.[1].map((name) => `encoder.layer.${block}.${name}.${kind}`);
}

/**
 * The official parameter that a Hugging Face name (with or without the prefix `ijepa.`) holds, and which part of it
 * (`of` 3 for query, key and value). Undefined for names that are no part of the encoder.
 */
export function officialName(huggingFace: string): { name: string; part: number; of: number } | undefined {
  const bare = huggingFace.startsWith('ijepa.') ? huggingFace.slice('ijepa.'.length) : huggingFace;
  if (bare === 'embeddings.position_embeddings') return { name: 'pos_embed', part: 0, of: 1 };
  const [, stem, kind] = /^(.+)\.(weight|bias)$/.exec(bare) ?? [];
  const outer = OUTER_NAMES.find(([, name]) => name === stem);
  if (outer) return { name: `${outer[0]}.${kind}`, part: 0, of: 1 };
  const [, block, inner] = /^encoder\.layer\.(0|[1-9]\d*)\.(.+)$/.exec(stem ?? '') ?? [];
  const found = BLOCK_NAMES.find(([, names]) => names.includes(inner));
  return found && { name: `blocks.${block}.${found[0]}.${kind}`, part: found[1].indexOf(inner), of: found[1].length };
}

/** Shapes of all parameters of an encoder by official name. */
export function encoderShapes(config: VitConfig): Map<string, readonly number[]> {
  const { width, patchSize, channels } = config;
  const [rows, columns] = gridOf(config);
  return new Map([
    ['pos_embed', [1, rows * columns, width]],
    ['patch_embed.proj.weight', [width, channels, patchSize, patchSize]],
    ['patch_embed.proj.bias', [width]],
    ...shapes(blocksSpec('blocks', config)),
    ...shapes(normSpec('norm', width)),
  ]);
}

/** Shapes of all parameters of the official predictor by name (specs/ijepa.md 7.2; Hugging Face has none). */
export function predictorShapes(config: PredictorConfig): Map<string, readonly number[]> {
  const { width, encoderWidth, grid } = config;
  return new Map([
    ['mask_token', [1, 1, width]],
    ['predictor_pos_embed', [1, grid[0] * grid[1], width]],
    ...shapes(linearSpec('predictor_embed', width, encoderWidth)),
    ...shapes(blocksSpec('predictor_blocks', config)),
    ...shapes(normSpec('predictor_norm', width)),
    ...shapes(linearSpec('predictor_proj', encoderWidth, width)),
  ]);
}

function shapes(spec: readonly (readonly [string, ParameterSpec])[]): [string, readonly number[]][] {
  return spec.map(([name, { shape }]) => [name, shape]);
}

/** Shapes of all parameters of a module by name. */
export function shapesOf(spec: ModuleSpec): Map<string, readonly number[]> {
  return new Map(shapes([...spec]));
}

/** Throws one line that lists what is missing, unexpected or of another shape; nothing when all fits. */
export function checkNames(
  what: string,
  expected: ReadonlyMap<string, readonly number[]>,
  found: ReadonlyMap<string, { readonly shape: readonly number[] }>,
): void {
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const unexpected = [...found.keys()].filter((name) => !expected.has(name));
  const misshapen = [...expected].filter(
    ([name, shape]) => found.has(name) && found.get(name)!.shape.join() !== shape.join(),
  );
  const list = (label: string, lines: string[]) =>
    lines.length === 0
      ? []
      : [`${lines.length} ${label}: ${lines.slice(0, 8).join(', ')}${lines.length > 8 ? ', ...' : ''}`];
  const problems = [
    ...list('missing', missing.map(quoted)),
    ...list(
      'unexpected',
      unexpected.map((name) => `${quoted(name)} ${quoted(found.get(name)!.shape)}`),
    ),
    ...list(
      'of another shape',
      misshapen.map(([name, shape]) => `${quoted(name)} is ${quoted(found.get(name)!.shape)} instead of [${shape}]`),
    ),
  ];
  if (problems.length > 0)
    throw new JepaError(`${what}: the names of the weights do not fit the model; ${problems.join('; ')}`);
}

/** Removes the prefixes that wrappers put in front of every name: `module.`, `backbone.`, `_orig_mod.`. */
export function stripPrefixes<T>(state: ReadonlyMap<string, T>, what: string): Map<string, T> {
  const bare = new Map(
    Array.from(state, ([name, value]) => [name.replace(/^(?:module\.|backbone\.|_orig_mod\.)+/, ''), value]),
  );
  if (bare.size !== state.size)
    throw new JepaError(`${what}: names that differ only in their prefix (module., backbone., _orig_mod.)`);
  return bare;
}
