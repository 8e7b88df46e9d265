import fs from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { isJsonObject, type JsonObject, quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import type { EncoderWeights, LoadedEncoder, shapesOf } from './ijepa-names.js';
import { parseImageProcessor } from './image-processor.js';
import { lateFloat32, narrowFloat32, type StoredTensor } from './raw.js';
import type { Writable } from './safetensors.js';
import { openWeights, readJsonFile } from './weights.js';

/** What Hugging Face folders of all models have in common: how configurations are read and parameters renamed. */

export interface HuggingFaceOptions {
  /** How weights are stored. */
  readonly dtype?: 'F32' | 'F16' | 'BF16';
  /** Weights above this are split over several files. */
  readonly maxShardBytes?: number;
  /** More keys for `config.json` (`transformers.js_config`, for instance). */
  readonly extra?: JsonObject;
}

/** Names of the types in `config.json`. */
export const DTYPE_NAMES = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

/**
 * The Hugging Face names that hold an official parameter: one, or several whose rows follow each other (query, key and
 * value). Undefined for names that the model does not have.
 */
export type NamesOf = (official: string) => string[] | undefined;

/** No encoder has more of anything (heads, width), or more layers; keeps a damaged configuration from filling the memory. */
const LARGEST_COUNT = 100_000;
const LARGEST_DEPTH = 1000;

/** Reads the entries of a `config.json`, each with a message of its own. */
export function configReader(json: JsonObject, path: string) {
  const refuse = (what: string): never => {
    throw new JepaError(`${path}: ${what}`);
  };
  const isCount = (value: unknown): value is number =>
    Number.isSafeInteger(value) && (value as number) > 0 && (value as number) <= LARGEST_COUNT;
  const count = (key: string, fallback: number | undefined, largest: number): number => {
    const value = json[key] ?? fallback;
    if (isCount(value) && value <= largest) return value;
    return refuse(`"${key}" is missing or not an integer from 1 to ${largest}`);
  };
  return {
    refuse,
    isCount,
    count: (key: string, fallback?: number): number => count(key, fallback, LARGEST_COUNT),
    layers: (key: string, fallback?: number): number => count(key, fallback, LARGEST_DEPTH),
    positive(key: string, fallback: number): number {
      const value = json[key] ?? fallback;
      return typeof value === 'number' && value > 0 ? value : refuse(`"${key}" is not a positive number`);
    },
    /** Refuses any other value than the one that is computed with. */
    only(key: string, value: string): void {
      if ((json[key] ?? value) !== value) {
        refuse(`"${key}" ${quoted(json[key])} is not supported; only ${quoted(value)} is`);
      }
    },
  };
}

/** The class names of `id2label`. */
export function parseLabels(json: JsonObject): string[] | undefined {
  if (!isJsonObject(json.id2label)) return undefined;
  const labels: string[] = [];
  for (const [id, label] of Object.entries(json.id2label)) {
    if (/^\d{1,6}$/.test(id)) labels[Number(id)] = String(label);
  }
  return Array.from(labels, (label, i) => label ?? `LABEL_${i}`);
}

/** `id2label` and `label2id` of a classifier. */
export function labelsJson(classes: number, labels?: readonly string[]): JsonObject {
  const names = Array.from({ length: classes }, (_, i) => labels?.[i] ?? `LABEL_${i}`);
  return {
    id2label: Object.fromEntries(names.map((name, i) => [String(i), name])),
    label2id: Object.fromEntries(names.map((name, i) => [name, i])),
  };
}

/** The Hugging Face names of parameters with their shapes. */
export function renamedShapes(shapes: ReturnType<typeof shapesOf>, namesOf: NamesOf): Map<string, readonly number[]> {
  return new Map(
    Array.from(shapes).flatMap(([name, [rows, ...rest]]) => {
      const names = namesOf(name)!;
      return names.map((part): [string, number[]] => [part, [rows / names.length, ...rest]]);
    }),
  );
}

/** Reads the parameters of `shapes` from tensors under Hugging Face names, which must be there (`checkNames`). */
export function readRenamed(
  shapes: ReturnType<typeof shapesOf>,
  namesOf: NamesOf,
  stored: ReadonlyMap<string, StoredTensor>,
): EncoderWeights {
  return new Map(
    Array.from(shapes, ([name, shape]) => {
      const parts = namesOf(name)!.map((part) => ({ name: part, stored: stored.get(part)! }));
      return [name, lateFloat32(parts, shape)];
    }),
  );
}

/** Parameters under Hugging Face names, as they are stored. */
export function* writeRenamed(
  weights: LoadedEncoder['weights'],
  namesOf: NamesOf,
  { dtype = 'F32' }: HuggingFaceOptions,
): Generator<[string, Writable]> {
  for (const [name, tensor] of weights) {
    const names = namesOf(name)!;
    const parts = names.length === 1 ? [tensor] : splitRows(tensor, names.length);
    for (const [i, part] of parts.entries()) yield [names[i], narrowed(part, dtype)];
  }
}

export function narrowed(tensor: HostTensor<'float32'>, dtype: NonNullable<HuggingFaceOptions['dtype']>): Writable {
  return dtype === 'F32' ? tensor : narrowFloat32(tensor, dtype);
}

function splitRows({ shape: [rows, ...rest], data }: HostTensor<'float32'>, count: number): HostTensor<'float32'>[] {
  const length = data.length / count;
  return Array.from({ length: count }, (_, i) => ({
    dtype: 'float32' as const,
    shape: [rows / count, ...rest],
    data: data.subarray(i * length, (i + 1) * length),
  }));
}

export function writeJson(path: string, value: JsonObject): void {
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** A folder of a model as it lies there. */
export interface OpenFolder {
  /** `config.json`, and where it is. */
  readonly json: JsonObject;
  readonly path: string;
  /** Weights by their names, less the prefix that a class with a classifier puts before them. */
  readonly stored: Map<string, StoredTensor>;
  /** What the processor's configuration says, where there is one. */
  readonly transforms?: LoadedEncoder['transforms'];
}

/** Opens a folder, hands it to `use`, and closes it when `use` returns; `prefix` ends with a dot, `processor` is a file's name. */
export function withFolder<T>(folder: string, prefix: string, processor: string, use: (opened: OpenFolder) => T): T {
  const path = join(folder, 'config.json');
  const json = readJsonFile(path);
  const processorPath = join(folder, processor);
  const file = openWeights(folder);
  try {
    const bare = (name: string): string => (name.startsWith(prefix) ? name.slice(prefix.length) : name);
    const stored = new Map(Array.from(file.tensors, ([name, tensor]) => [bare(name), tensor]));
    if (stored.size !== file.tensors.size)
      throw new JepaError(`${folder}: some weights occur with and without the prefix ${prefix}`);
    const transforms = fs.existsSync(processorPath)
      ? parseImageProcessor(readJsonFile(processorPath), processorPath)
      : undefined;
    return use({ json, path, stored, transforms });
  } finally {
    file.close();
  }
}
