import fs from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import { lateWeights } from '../hub/raw.js';
import { parseSafetensors, safetensorsPieces } from '../hub/safetensors.js';
import { openWeights } from '../hub/weights.js';
import { type Config, parseConfig } from './config.js';
import type { DataFacts } from './facts.js';

/**
 * Checkpoints: `state-<step>.safetensors` (weights by name, optimizer state as `slot/<name>/<parameter>`, `memory/<name>`) and
 * `state-<step>.json`, written after it. A step counts once its JSON file is there, so that a run killed at any moment
 * leaves the last complete one. Older steps, and what a killed process left half written, are removed afterwards.
 */
export interface CheckpointMeta {
  readonly format: 1;
  readonly step: number;
  /** Steps of the whole run. */
  readonly totalSteps: number;
  /** Where the loader goes on. */
  readonly position: { readonly epoch: number; readonly step: number };
  /** Length of the training data, which their order follows from. */
  readonly samples?: number;
  /** Worker threads: another number sums in another order. */
  readonly workers: number;
  readonly backend: string;
  /** Seconds of training so far. */
  readonly seconds: number;
  readonly config: Config;
  /** What was learned of the data before training. */
  readonly facts: DataFacts;
}

export interface Checkpoint {
  readonly meta: CheckpointMeta;
  readonly weights: Map<string, HostTensor<'float32'>>;
  readonly slots: Map<string, HostTensor<'float32'>>;
  /** What lives from step to step beside them (`Method.memory`). */
  readonly memory: Map<string, HostTensor<'float32'>>;
}

const count = z.number().int().min(0);
/** What is read of a file; the configuration has a schema of its own. */
const metaSchema = z.looseObject({
  step: count,
  totalSteps: count,
  position: z.looseObject({ epoch: count, step: count }),
  samples: count.optional(),
  workers: count,
  backend: z.string(),
  seconds: z.number().min(0),
  facts: z.looseObject({}).optional(),
});

const SLOT = 'slot/';
const MEMORY = 'memory/';
const name = (step: number): string => `state-${String(step).padStart(8, '0')}`;

/** Writes a checkpoint into a folder, in the place of earlier ones. Throws a `JepaError` (full disk, no permission). */
export function saveCheckpoint(folder: string, { meta, weights, slots, memory }: Checkpoint): void {
  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  const tensors = new Map<string, HostTensor>(weights);
  for (const [key, value] of slots) tensors.set(`${SLOT}${key}`, value);
  for (const [key, value] of memory) tensors.set(`${MEMORY}${key}`, value);
  writeFileAtomic(
    join(folder, `${name(meta.step)}.safetensors`),
    safetensorsPieces(tensors, { format: 'jepa', step: String(meta.step) }),
  );
  writeFileAtomic(join(folder, `${name(meta.step)}.json`), `${JSON.stringify(meta, null, 2)}\n`);
  for (const file of fs.readdirSync(folder)) {
    // Files of earlier steps, and those that a killed process was writing.
    const match = /^state-(\d+)\.(json|safetensors)$|^\.state-\d+\..*\.tmp$/.exec(file);
    if (match && Number(match[1]) !== meta.step) fs.rmSync(join(folder, file), { force: true });
  }
}

/** The newest complete checkpoint of a folder; undefined where there is none. */
export function latestCheckpoint(folder: string): number | undefined {
  if (!fs.existsSync(folder) || !fs.statSync(folder).isDirectory()) return undefined;
  const steps = withFileErrors('list', folder, () => fs.readdirSync(folder))
    .flatMap((file) => /^state-(\d+)\.json$/.exec(file)?.[1] ?? [])
    .filter((step) => fs.existsSync(join(folder, `state-${step}.safetensors`)))
    .map(Number);
  return steps.length === 0 ? undefined : Math.max(...steps);
}

/** What is known of the newest checkpoint of a folder, without its weights. Throws `JepaError` where there is none. */
export function readCheckpointMeta(folder: string): CheckpointMeta {
  const step = latestCheckpoint(folder);
  if (step === undefined)
    throw new JepaError(`${folder}: there is no checkpoint (looked for state-<step>.json and .safetensors)`);
  const path = `${join(folder, name(step))}.json`;
  const text = withFileErrors('read', path, () => fs.readFileSync(path, 'utf8'));
  const damaged = (what: string): never => {
    throw new JepaError(`${path}: ${what} (damaged?); put back a copy of this folder, or remove it and train again`);
  };
  let meta: CheckpointMeta;
  try {
    meta = JSON.parse(text) as CheckpointMeta;
  } catch {
    return damaged('it is not JSON');
  }
  if (meta?.format === undefined || meta.config === undefined) return damaged('it is no checkpoint');
  if (meta.format !== 1)
    throw new JepaError(`${path}: checkpoint format ${meta.format} is not known; use the version that wrote it`);
  const { success, error } = metaSchema.safeParse(meta);
  if (!success) return damaged(`${error.issues[0].path.join('.')}: ${error.issues[0].message}`);
  // Runs of before the first modality beside images know nothing of kinds of data.
  return { ...meta, config: configOf(meta, path), facts: meta.facts ?? {} };
}

/** The configuration of a checkpoint, which nobody edits: of what is wrong with it the first is enough. */
function configOf({ config }: CheckpointMeta, path: string): Config {
  try {
    return parseConfig(config, () => `${path}:`);
  } catch (error) {
    if (error instanceof JepaError) throw new JepaError(error.message.split('\n', 1)[0]);
    throw error;
  }
}

/** Its weights alone, each read when its numbers are asked for. Throws a `JepaError` as `loadCheckpoint` does. */
export function openCheckpoint(folder: string): Pick<Checkpoint, 'meta' | 'weights'> {
  const meta = readCheckpointMeta(folder);
  const file = openWeights(`${join(folder, name(meta.step))}.safetensors`);
  try {
    const own = [...file.tensors].filter(([key]) => !key.startsWith(SLOT) && !key.startsWith(MEMORY));
    return { meta, weights: lateWeights(own) };
  } finally {
    file.close();
  }
}

/** Reads the newest complete checkpoint of a folder. Throws a `JepaError` where there is none or it is damaged. */
export function loadCheckpoint(folder: string): Checkpoint {
  const meta = readCheckpointMeta(folder);
  const path = join(folder, name(meta.step));
  const bytes = withFileErrors('read', `${path}.safetensors`, () => fs.readFileSync(`${path}.safetensors`));
  const weights = new Map<string, HostTensor<'float32'>>();
  const slots = new Map<string, HostTensor<'float32'>>();
  const memory = new Map<string, HostTensor<'float32'>>();
  for (const [key, value] of parseSafetensors(bytes, `${path}.safetensors`)) {
    if (value.dtype !== 'float32') throw new JepaError(`${path}.safetensors: ${key} is ${value.dtype}, not float32`);
    const tensor = value as HostTensor<'float32'>;
    if (key.startsWith(SLOT)) slots.set(key.slice(SLOT.length), tensor);
    else if (key.startsWith(MEMORY)) memory.set(key.slice(MEMORY.length), tensor);
    else weights.set(key, tensor);
  }
  return { meta, weights, slots, memory };
}
