import { open, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileError, fileErrorOf } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { type CacheOptions, checkIndex, type DecodeOptions, type ImageDataset, type TarSource } from './dataset.js';
import { byCodePoint } from './image-folder-node.js';
import { IMAGE_EXTENSIONS } from './image-format.js';
import { gunzip } from './inflate.js';
import { openImageSource } from './sources-node.js';
import type { RandomAccess, TarMember } from './tar.js';
import { classField, jsonField, webSamples } from './webdataset.js';

/** Gzipped shards are inflated into memory, at most so many bytes each. */
const MAX_INFLATED = 1 << 30;
/** A label or description of more bytes is not one. */
const MAX_FIELD = 1 << 24;

/**
 * A data set from WebDataset shards (`.tar`, or gzipped). The headers are read once; images are then read where they lie.
 * A sample's image is its `jpg`, `jpeg`, `png`, ... field; its label the integer of `cls`, or else `label` of `json` (an
 * integer, or a class name). Throws a `JepaError` naming shard and sample for anything damaged, or a sample without image.
 */
export async function openWebDataset(
  paths: readonly string[],
  decode: DecodeOptions,
  cache?: CacheOptions,
): Promise<ImageDataset> {
  const shard: number[] = [];
  const offset: number[] = [];
  const bytes: number[] = [];
  const names: string[] = [];
  const found: (number | string | undefined)[] = [];
  const inflated: (RandomAccess | undefined)[] = [];
  for (const [i, path] of paths.entries()) {
    const { file, close, gzipped } = await openShard(path);
    try {
      for await (const { key, fields } of webSamples(file, path)) {
        const where = `${path}:${key}`;
        const image = imageField(fields);
        if (!image) {
          throw new JepaError(`${where}: the sample has no image; its fields are ${[...fields.keys()].join(', ')}`);
        }
        shard.push(i);
        offset.push(image.offset);
        bytes.push(image.size);
        names.push(where);
        found.push(await labelOf(fields, file, where));
      }
    } finally {
      await close();
    }
    inflated.push(gzipped ? file : undefined);
  }
  const name = paths.length === 1 ? paths[0] : `${paths[0]} and ${paths.length - 1} more`;
  if (names.length === 0) throw new JepaError(`${name}: the shards hold no sample`);
  const source: TarSource = {
    kind: 'tar',
    shards: paths,
    shard: Int32Array.from(shard),
    offset: Float64Array.from(offset),
    bytes: Float64Array.from(bytes),
    names,
    decode,
    cache,
  };
  const reader = await openImageSource({ ...source, cache: undefined }, () => undefined);
  return {
    name,
    length: names.length,
    channels: decode.channels,
    ...numberLabels(found, name),
    async read(index) {
      checkIndex({ name, length: names.length }, index);
      const memory = inflated[shard[index]];
      if (!memory) return reader.read(index);
      const { decodeImage } = await import('./decode-node.js');
      return decodeImage(await memory.read(offset[index], bytes[index]), names[index], decode);
    },
    nameOf: (index) => names[index],
    source: inflated.some(Boolean) ? undefined : source,
  };
}

/** Opens one shard for reading anywhere; `close` it when done. */
export async function openShard(
  path: string,
): Promise<{ file: RandomAccess; gzipped: boolean; close: () => Promise<void> }> {
  if (/\.(tgz|gz)$/.test(basename(path))) {
    const compressed = await readFile(path).catch(fileErrorOf('read', path));
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of gunzip(compressed, path)) {
      size += part.length;
      if (size > MAX_INFLATED)
        throw new JepaError(`${path}: inflates to more than ${MAX_INFLATED} bytes; gunzip it first`);
      parts.push(part);
    }
    const bytes = Buffer.concat(parts);
    const file = { size, read: async (offset: number, length: number) => bytes.subarray(offset, offset + length) };
    return { file, gzipped: true, close: async () => undefined };
  }
  try {
    const handle = await open(path, 'r');
    const { size } = await handle.stat();
    // Headers and labels of neighbours lie close together: a page serves several of them.
    const page = Buffer.alloc(4096);
    let start = 0;
    let held = 0;
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      if (offset >= start && offset + length <= start + held)
        return page.subarray(offset - start, offset - start + length);
      const into = length <= page.length ? page : Buffer.alloc(Math.min(length, Math.max(0, size - offset)));
      const { bytesRead } = await handle.read(into, 0, into.length, offset);
      if (into !== page) return into.subarray(0, bytesRead);
      start = offset;
      held = bytesRead;
      return page.subarray(0, Math.min(length, held));
    };
    return { file: { size, read }, gzipped: false, close: () => handle.close() };
  } catch (error) {
    throw fileError('open', path, error);
  }
}

function imageField(fields: ReadonlyMap<string, TarMember>): TarMember | undefined {
  for (const extension of IMAGE_EXTENSIONS) {
    const member = fields.get(extension);
    if (member) return member;
  }
  return undefined;
}

async function labelOf(
  fields: ReadonlyMap<string, TarMember>,
  file: RandomAccess,
  where: string,
): Promise<number | string | undefined> {
  const read = async (member: TarMember) => {
    if (member.size > MAX_FIELD) throw new JepaError(`${where}: a field of ${member.size} bytes is no label`);
    return file.read(member.offset, member.size);
  };
  const json = fields.get('json');
  // The description is parsed even where `cls` decides: a damaged one is never passed over.
  const described = json && (jsonField(await read(json), where) as { label?: unknown } | null)?.label;
  const cls = fields.get('cls');
  if (cls) return classField(await read(cls), where);
  return typeof described === 'string' || Number.isInteger(described) ? (described as string | number) : undefined;
}

function numberLabels(
  found: readonly (number | string | undefined)[],
  where: string,
): Pick<ImageDataset, 'labels' | 'classNames'> {
  const kinds = new Set(found.map((label) => typeof label));
  if (kinds.has('number') && kinds.has('string')) {
    throw new JepaError(`${where}: some labels are numbers, some are names; use one or the other`);
  }
  if (kinds.has('number'))
    return { labels: Int32Array.from(found, (label) => (label === undefined ? -1 : Number(label))) };
  if (!kinds.has('string')) return {};
  const classNames = [...new Set(found.filter((label) => typeof label === 'string'))].sort(byCodePoint);
  const numbers = new Map(classNames.map((name, i) => [name, i]));
  return { labels: Int32Array.from(found, (label) => numbers.get(label as string) ?? -1), classNames };
}
