import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, isJsonObject, type JsonObject, parseJson, quoted } from '../base/json.js';
import { fileSource } from './files.js';
import { PRODUCER } from './own.js';
import type { StoredTensor } from './raw.js';
import { byCodePoint, openSafetensors, safetensorsPieces, toStored, type Writable } from './safetensors.js';

/** Weights on disk, open for reading: one safetensors file or a sharded set. `close` it after use. */
export interface Weights {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The files that hold them. */
  readonly files: readonly string[];
  close(): void;
}

export const WEIGHTS_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';
/** Name of a shard. */
export const SHARD = /^model-\d+-of-\d+\.safetensors$/;

/**
 * Opens a safetensors file, an index of shards (`*.index.json`), or a folder that holds `model.safetensors` or
 * `model.safetensors.index.json`. Only headers are read. Throws JepaError when there is nothing of the kind, a shard is
 * missing, does not hold what the index says or holds more, or the index names a file outside of its folder.
 */
export function openWeights(path: string): Weights {
  const isFolder = withFileErrors('open', path, () => fs.statSync(path)).isDirectory();
  if (!isFolder) return path.endsWith('.index.json') ? openShards(path) : openSingle(path);
  if (fs.existsSync(join(path, WEIGHTS_FILE))) return openSingle(join(path, WEIGHTS_FILE));
  if (fs.existsSync(join(path, INDEX_FILE))) return openShards(join(path, INDEX_FILE));
  throw new JepaError(`${path}: no weights here; looked for ${WEIGHTS_FILE} and ${INDEX_FILE}`);
}

function openSingle(path: string): Weights {
  const source = fileSource(path);
  try {
    return { ...openSafetensors(source), files: [path], close: source.close };
  } catch (error) {
    source.close();
    throw error;
  }
}

function openShards(indexPath: string): Weights {
  const shardOf = readIndex(indexPath);
  const shards = new Map<string, Weights>();
  const close = () => {
    for (const shard of shards.values()) shard.close();
  };
  try {
    const tensors = new Map<string, StoredTensor>();
    let metadata: Record<string, string> = {};
    for (const [name, file] of shardOf) {
      let shard = shards.get(file);
      if (!shard) {
        const path = join(dirname(indexPath), file);
        if (!fs.existsSync(path))
          throw new JepaError(`${indexPath}: the shard ${quoted(file)} is missing from the folder`);
        shard = openSingle(path);
        shards.set(file, shard);
        metadata = Object.fromEntries([...Object.entries(metadata), ...Object.entries(shard.metadata)]);
      }
      const tensor = shard.tensors.get(name);
      if (!tensor) throw new JepaError(`${indexPath}: tensor ${quoted(name)} is not in ${file}, where the index says`);
      tensors.set(name, tensor);
    }
    for (const [file, shard] of shards) {
      for (const name of shard.tensors.keys()) {
        if (shardOf.get(name) !== file)
          throw new JepaError(`${indexPath}: ${file} holds tensor ${quoted(name)}, which the index does not say`);
      }
    }
    return { metadata, tensors, files: [...shards.values()].flatMap((shard) => shard.files), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The map from tensor to shard of an index file. Shards must be plain file names: an index cannot point out of its folder. */
function readIndex(path: string): Map<string, string> {
  const index = readJsonFile(path);
  const map = index.weight_map;
  if (!isJsonObject(map)) throw new JepaError(`${path}: "weight_map" is missing or not an object`);
  return new Map(
    Object.entries(map).map(([name, file]): [string, string] => {
      if (typeof file !== 'string')
        throw new JepaError(`${path}: the shard of tensor ${quoted(name)} is not a file name`);
      if (!/^[^/\\:\p{Cc}]+$/u.test(file) || file === '.' || file === '..') {
        throw new JepaError(
          `${path}: the shard ${quoted(file)} of tensor ${quoted(name)} leaves the folder; only plain file names are allowed`,
        );
      }
      return [name, file];
    }),
  );
}

/** Largest JSON file (configuration, index) that is read: 100 MB, as a safetensors header. */
const LARGEST_JSON = 100_000_000;

/** Reads a JSON file that holds an object. */
export function readJsonFile(path: string): JsonObject {
  const source = fileSource(path);
  try {
    if (source.size > LARGEST_JSON) throw new JepaError(`${path}: ${source.size} bytes are too many for a JSON file`);
    const value = parseJson(decodeUtf8(source.read(0, source.size), path), path);
    if (!isJsonObject(value)) throw new JepaError(`${path}: an object was expected`);
    return value;
  } finally {
    source.close();
  }
}

/** Writes a safetensors file atomically, holding one tensor at a time in memory. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Writable>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  writeFileAtomic(path, safetensorsPieces(tensors, metadata));
}

/**
 * Writes weights into an existing folder under the names that Hugging Face libraries look for: `model.safetensors`, or,
 * above `maxShardBytes`, `model-0000i-of-0000k.safetensors` with an index that is written last. Weights that were there
 * before are removed. Each file is written atomically; for several at once, write a new folder and replace the old one.
 */
export function writeWeights(
  folder: string,
  tensors: ReadonlyMap<string, Writable>,
  {
    maxShardBytes = 5e9,
    metadata = { format: 'pt', producer: PRODUCER },
  }: { maxShardBytes?: number; metadata?: Record<string, string> } = {},
): void {
  const shards: Map<string, StoredTensor>[] = [];
  let room = -1;
  let totalSize = 0;
  let parameters = 0;
  for (const name of [...tensors.keys()].sort(byCodePoint)) {
    const tensor = toStored(tensors.get(name)!);
    if (tensor.byteLength > room || shards.length === 0) {
      shards.push(new Map());
      room = maxShardBytes;
    }
    shards.at(-1)!.set(name, tensor);
    room -= tensor.byteLength;
    totalSize += tensor.byteLength;
    parameters += tensor.shape.reduce((product, size) => product * size, 1);
  }
  if (shards.length <= 1) {
    writeSafetensors(join(folder, WEIGHTS_FILE), shards[0] ?? new Map(), metadata);
    removeWeights(folder, new Set([WEIGHTS_FILE]));
    return;
  }
  const weightMap: [string, string][] = [];
  shards.forEach((shard, i) => {
    const file = `model-${number5(i + 1)}-of-${number5(shards.length)}.safetensors`;
    writeSafetensors(join(folder, file), shard, metadata);
    for (const name of shard.keys()) weightMap.push([name, file]);
  });
  const index = {
    metadata: { total_parameters: parameters, total_size: totalSize },
    weight_map: Object.fromEntries(weightMap),
  };
  writeFileAtomic(join(folder, INDEX_FILE), `${JSON.stringify(index, null, 2)}\n`);
  removeWeights(folder, new Set([INDEX_FILE, ...weightMap.map(([, file]) => file)]));
}

/** Removes the weights of a folder except those just written; an index goes before its shards. */
function removeWeights(folder: string, kept: ReadonlySet<string>): void {
  const shards = withFileErrors('open', folder, () => fs.readdirSync(folder)).filter((name) => SHARD.test(name));
  for (const name of [INDEX_FILE, WEIGHTS_FILE, ...shards]) {
    if (!kept.has(name))
      withFileErrors('remove', join(folder, name), () => fs.rmSync(join(folder, name), { force: true }));
  }
}

function number5(value: number): string {
  return String(value).padStart(5, '0');
}
