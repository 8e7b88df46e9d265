import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { isCount, isJsonObject, type JsonObject, parseJson, quoted } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import { type EpisodeDataset, type EpisodeReading, episodeArrays } from '../data/episodes/dataset.js';
import { fileSource } from './files.js';
import { type Hdf5Dataset, openHdf5, writeHdf5 } from './hdf5-node.js';
import { encodeNpz, openNpz } from './npy.js';
import { PRODUCER } from './own.js';
import { loadTensor } from './raw.js';

/** Episodes back to back in one file: every column runs over all steps (layout of stable-worldmodel). */
export interface EpisodeColumns {
  readonly steps: number;
  /** Steps of each episode, and the step at which it starts. */
  readonly lengths: readonly number[];
  readonly offsets: readonly number[];
  /** `pixels`, `action`, ... with `steps` rows each. */
  readonly columns: ReadonlyMap<string, Hdf5Dataset>;
  close(): void;
}

/**
 * Opens an HDF5 file of flat columns with `ep_len` and `ep_offset`. Throws a `JepaError` if columns differ in length or an
 * episode reaches beyond them.
 */
export async function openEpisodeColumns(path: string): Promise<EpisodeColumns> {
  const file = await openHdf5(path);
  try {
    const integers = (name: string): number[] => {
      const column = file.datasets.get(name);
      if (column?.shape.length !== 1) throw new JepaError(`${path}: no column "${name}" with a number an episode`);
      return Array.from(column.read().data as ArrayLike<number | bigint>, Number);
    };
    const [lengths, offsets] = [integers('ep_len'), integers('ep_offset')];
    const columns = new Map([...file.datasets].filter(([name]) => name !== 'ep_len' && name !== 'ep_offset'));
    const steps = checkEpisodes(path, lengths, offsets, columns);
    return { steps, lengths, offsets, columns, close: file.close };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The steps of a file. Throws a `JepaError` if columns differ in length or an episode reaches beyond them. */
function checkEpisodes(
  path: string,
  lengths: readonly number[],
  offsets: readonly number[],
  columns: ReadonlyMap<string, { readonly shape: readonly number[] }>,
): number {
  const [first, ...rest] = columns;
  if (!first) throw new JepaError(`${path}: no columns beside ep_len and ep_offset`);
  const [name, { shape }] = first;
  const [steps = 0] = shape;
  const odd = rest.find(([, column]) => column.shape[0] !== steps);
  if (odd) {
    throw new JepaError(
      `${path}: columns of different length: ${quoted(name)} has ${steps} steps, ${quoted(odd[0])} ${odd[1].shape[0] ?? 0}`,
    );
  }
  if (lengths.length !== offsets.length) {
    throw new JepaError(`${path}: ${lengths.length} lengths of episodes and ${offsets.length} offsets`);
  }
  lengths.forEach((length, i) => {
    if (!(isCount(length) && isCount(offsets[i]) && offsets[i] + length <= steps)) {
      throw new JepaError(
        `${path}: episode ${i} is said to have ${length} steps from ${offsets[i]} on, beyond the ${steps} of the file`,
      );
    }
  });
  return steps;
}

/** Episodes in memory, back to back: every column has one row a step. */
export interface EpisodeTable {
  readonly lengths: readonly number[];
  readonly offsets: readonly number[];
  readonly columns: ReadonlyMap<string, HostTensor<'float32'> | HostTensor<'uint8'>>;
}

/**
 * Writes episodes with `ep_len` and `ep_offset` to an .npz archive, or to an HDF5 file (.h5, .hdf5) that `openEpisodeColumns`
 * reads. Throws a `JepaError` for other endings. The file appears when it is whole.
 */
export async function writeEpisodes(path: string, { lengths, offsets, columns }: EpisodeTable): Promise<void> {
  const counts = (values: readonly number[]): HostTensor<'int32'> => ({
    dtype: 'int32',
    shape: [values.length],
    data: Int32Array.from(values),
  });
  const all = new Map<string, HostTensor<'float32' | 'uint8' | 'int32'>>([
    ...columns,
    ['ep_len', counts(lengths)],
    ['ep_offset', counts(offsets)],
  ]);
  if (path.endsWith('.npz')) return writeFileAtomic(path, encodeNpz(all, { comment: PRODUCER }));
  if (!/\.(h5|hdf5)$/.test(path)) throw new JepaError(`${path}: episodes are written to .npz, .h5 or .hdf5`);
  await writeHdf5(path, all, { producer: PRODUCER });
}

/** Reads episodes from an .npz archive that `writeEpisodes` made. */
export function readEpisodesNpz(path: string): EpisodeTable {
  const source = fileSource(path);
  try {
    const { arrays } = openNpz(source);
    const load = (name: string): HostTensor => {
      const array = arrays.get(name)?.tensor;
      if (!array) throw new JepaError(`${path}: no array "${name}"; is this an archive of episodes?`);
      return loadTensor(array, `${path}: ${name}`);
    };
    const integers = (name: string): number[] => Array.from(load(name).data as Int32Array, Number);
    const columns = new Map<string, HostTensor<'float32'> | HostTensor<'uint8'>>();
    for (const name of arrays.keys()) {
      if (name === 'ep_len' || name === 'ep_offset') continue;
      const tensor = load(name);
      if (tensor.dtype !== 'float32' && tensor.dtype !== 'uint8')
        throw new JepaError(`${path}: "${name}" is ${tensor.dtype}; columns are float32 or uint8`);
      columns.set(name, tensor as HostTensor<'float32'> | HostTensor<'uint8'>);
    }
    const [lengths, offsets] = [integers('ep_len'), integers('ep_offset')];
    checkEpisodes(path, lengths, offsets, columns);
    return { lengths, offsets, columns };
  } finally {
    source.close();
  }
}

/**
 * Opens a file of episodes (`.npz`, `.h5`, `.hdf5`: what `jepa collect` writes, and files of that layout) as a data set in memory.
 * Wants the columns `action` and (for pictures) `pixels`; `state` and `factors` are used where they are. Throws a `JepaError`
 * that names the file.
 */
export async function openEpisodes(path: string, reading: EpisodeReading): Promise<EpisodeDataset> {
  withFileErrors('open', path, () => statSync(path));
  if (path.endsWith('.npz')) return episodeArrays(path, readEpisodesNpz(path), reading);
  const { lengths, offsets, columns: stored, close } = await openEpisodeColumns(path);
  try {
    const wanted = ['action', 'state', 'factors', ...(reading.observe === 'pictures' ? ['pixels'] : [])];
    const columns = new Map<string, HostTensor<'float32'> | HostTensor<'uint8'>>();
    for (const name of wanted) {
      const column = stored.get(name)?.read();
      if (!column) continue;
      columns.set(name, name === 'pixels' ? channelsFirst(column, path) : floats(column, `${path}: "${name}"`));
    }
    return episodeArrays(path, { lengths, offsets, columns }, reading);
  } finally {
    close();
  }
}

function floats({ dtype, shape, data }: HostTensor, where: string): HostTensor<'float32'> {
  if (dtype === 'float32') return { dtype, shape, data: data as Float32Array };
  if (dtype === 'bool') throw new JepaError(`${where} is ${dtype}; numbers are needed`);
  return { dtype: 'float32', shape, data: Float32Array.from(data as ArrayLike<number>, Number) };
}

/** Pictures [steps, height, width, channels] or [steps, channels, height, width] -> the latter. */
function channelsFirst(column: HostTensor, path: string): HostTensor<'uint8'> {
  const { dtype, shape, data } = column;
  if (dtype !== 'uint8' || shape.length !== 4)
    throw new JepaError(
      `${path}: "pixels" is ${dtype} [${shape.join(', ')}]; bytes [steps, channels, height, width] are needed`,
    );
  const bytes = data as Uint8Array;
  if (!channelsLast(shape)) return { dtype, shape, data: bytes };
  const [steps, height, width, channels] = shape;
  const pixels = height * width;
  const turned = new Uint8Array(bytes.length);
  for (let step = 0, at = 0; step < steps; step++) {
    for (let p = 0; p < pixels; p++)
      for (let c = 0; c < channels; c++) turned[(step * channels + c) * pixels + p] = bytes[at++];
  }
  return { dtype, shape: [steps, channels, height, width], data: turned };
}

/**
 * Steps of an episode (counted from its start) at which a sample may start that takes every `frameskip`-th of
 * `numSteps * frameskip` steps: all that leave room for it.
 */
export function sampleStarts(length: number, numSteps: number, frameskip: number): number[] {
  return Array.from({ length: Math.max(0, length - numSteps * frameskip + 1) }, (_, start) => start);
}

/** Whether an image column [steps, H, W, C] or [steps, C, H, W] has its channels last: they are where 1 or 3 stands last. */
export function channelsLast(shape: readonly number[]): boolean {
  return [1, 3].includes(shape[shape.length - 1]);
}

/** One episode of a Minari data set. */
export interface MinariEpisode {
  readonly id: number;
  readonly steps: number;
  readonly seed?: number;
  /** `actions`, `rewards`, `terminations`, `truncations` (a row a step), `observations` or `observations/<part>` (one more). */
  readonly arrays: ReadonlyMap<string, Hdf5Dataset>;
}

export interface MinariDataset {
  readonly metadata: JsonObject;
  readonly episodes: readonly MinariEpisode[];
  close(): void;
}

/**
 * Opens a Minari data set: the folder `.../<name>-v<k>/data` with `main_data.hdf5` and `metadata.json`. Throws a `JepaError`
 * if the two disagree or an array has a wrong number of rows.
 */
export async function openMinari(folder: string): Promise<MinariDataset> {
  const about = join(folder, 'metadata.json');
  const metadata = parseJson(
    withFileErrors('read', about, () => readFileSync(about, 'utf8')),
    about,
  );
  if (!isJsonObject(metadata)) throw new JepaError(`${about}: an object was expected`);
  if (metadata.data_format !== undefined && metadata.data_format !== 'hdf5') {
    throw new JepaError(
      `${about}: the data are in the format ${JSON.stringify(metadata.data_format)}, only hdf5 is read`,
    );
  }
  const path = join(folder, 'main_data.hdf5');
  const file = await openHdf5(path);
  try {
    const arrays = new Map<number, Map<string, Hdf5Dataset>>();
    for (const [name, dataset] of file.datasets) {
      const found = /^episode_(\d{1,9})\/(.+)$/.exec(name);
      if (!found) continue;
      const own = arrays.get(Number(found[1])) ?? new Map();
      arrays.set(Number(found[1]), own.set(found[2], dataset));
    }
    const episodes = [...arrays]
      .sort(([a], [b]) => a - b)
      .map(([id, own]) => {
        const facts = file.attributes.get(`episode_${id}`);
        const steps = Number(facts?.get('total_steps') ?? own.get('actions')?.shape[0] ?? 0);
        for (const [name, { shape }] of own) {
          const rows = /^(observations|infos)(\/|$)/.test(name) ? steps + 1 : steps;
          if (shape[0] !== rows) {
            throw new JepaError(`${path}: "${name}" of episode ${id} has ${shape[0] ?? 0} rows instead of ${rows}`);
          }
        }
        const seed = facts?.get('seed');
        return { id, steps, arrays: own, ...(seed !== undefined && { seed: Number(seed) }) };
      });
    if (episodes.length !== metadata.total_episodes) {
      throw new JepaError(`${path}: ${episodes.length} episodes, metadata.json says ${metadata.total_episodes}`);
    }
    return { metadata, episodes, close: file.close };
  } catch (error) {
    file.close();
    throw error;
  }
}
