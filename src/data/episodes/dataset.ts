import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';
import { float32, type HostTensor, sizeOf } from '../../base/tensor.js';
import { checkIndex, type Dataset, isShared, type SampleReader, sharedBytes } from '../dataset.js';

/** A stretch of an episode: what somebody saw, and what was done in between. */
export interface EpisodeWindow {
  /** [frames, ...observation]: pictures as bytes [channels, height, width], or numbers of states. */
  readonly observations: Uint8Array | Float32Array;
  /** [frames, numbers]; action t leads from observation t to observation t + 1, the last one out of the window. */
  readonly actions: Float32Array;
  /** [frames, numbers]: where things were, for probes alone. */
  readonly states: Float32Array;
  /**
   * [2, moments, ...observation]: at other times of the same episode, in their order, and of another episode of the same instance
   * of the world (the same layout), where there is one.
   */
  readonly moments: Uint8Array | Float32Array;
  /** [moments]: when the first of these were, in steps. */
  readonly times: Float32Array;
}

/** What windows look like. */
export interface EpisodeShape {
  /** Observations of a window, and single ones of the same episode beside it. */
  readonly frames: number;
  readonly moments: number;
  /** [channels, height, width], or [numbers]. */
  readonly observation: readonly number[];
  /** Numbers of an action, of a state. */
  readonly action: number;
  readonly state: number;
}

/** What is read of episodes, as it stands in a configuration. */
export interface EpisodeReading {
  readonly observe: 'pictures' | 'states';
  readonly frames: number;
  readonly moments: number;
}

/** A set of episodes of a world; each read gives a window of one. */
export interface EpisodeDataset extends Dataset<EpisodeWindow> {
  readonly modality: 'episodes';
  readonly shape: EpisodeShape;
}

/**
 * Where a window of `frames` observations starts in an episode of `length`: drawn, or (without `random`) by the episode's number,
 * spread over all places.
 */
export function windowStart(length: number, frames: number, index: number, random: Random | undefined): number {
  const places = length - frames + 1;
  if (places < 1) throw new JepaError(`an episode has ${length} observations, fewer than a window of ${frames}`);
  return random ? random.integer(places) : createRandom(index, 'window').integer(places);
}

/** `moments` different times of an episode of `length` observations, in their order: drawn, or by the episode's number. */
export function drawMoments(length: number, moments: number, index: number, random: Random | undefined): Int32Array {
  if (moments > length)
    throw new JepaError(`an episode has ${length} observations, fewer than ${moments} moments; set data.moments lower`);
  return (random ?? createRandom(index, 'moments')).permutation(length).subarray(0, moments).sort();
}

/** Episodes back to back in memory: every column has one row a state (`ep_len`, `ep_offset` of files). */
export interface EpisodeColumnsInMemory {
  readonly lengths: readonly number[];
  readonly offsets: readonly number[];
  /** `action` and `state` (float32), `pixels` (uint8), and `factors` where the world has any. */
  readonly columns: ReadonlyMap<string, HostTensor<'float32'> | HostTensor<'uint8'>>;
}

/** Plain data that loader threads open again. */
interface Options {
  readonly name: string;
  readonly shape: EpisodeShape;
  readonly lengths: readonly number[];
  readonly offsets: readonly number[];
  /** For each episode the episodes of the same instance of the world, itself among them. */
  readonly instances: readonly (readonly number[])[];
  readonly observations: Uint8Array | Float32Array;
  readonly actions: Float32Array;
  readonly states: Float32Array;
}

/**
 * A data set of episodes held in memory. Episodes with equal `factors` are of the same instance of the world; without that column
 * every episode is on its own. Throws a `JepaError` that names what is missing or too short.
 */
export function episodeArrays(
  name: string,
  { lengths, offsets, columns }: EpisodeColumnsInMemory,
  { observe, frames, moments }: EpisodeReading,
): EpisodeDataset {
  const column = (wanted: string, dtype: 'float32' | 'uint8'): HostTensor<'float32'> | HostTensor<'uint8'> => {
    const found = columns.get(wanted);
    if (found?.dtype !== dtype)
      throw new JepaError(`${name}: no column "${wanted}" of ${dtype} (columns: ${[...columns.keys()].join(', ')})`);
    return found;
  };
  const action = column('action', 'float32') as HostTensor<'float32'>;
  const rows = action.shape[0];
  // States are for probes alone, unless they are what is observed.
  const state =
    columns.has('state') || observe === 'states'
      ? (column('state', 'float32') as HostTensor<'float32'>)
      : float32([rows, 0], new Float32Array(0));
  const factors = columns.get('factors');
  const seen = observe === 'pictures' ? column('pixels', 'uint8') : withFactors(state, factors);
  const short = lengths.findIndex((length) => length < frames);
  if (short >= 0)
    throw new JepaError(
      `${name}: episode ${short} has ${lengths[short]} observations, a window needs ${frames}; set data.frames lower`,
    );
  const keys = offsets.map((offset, i) => {
    if (!factors) return String(i);
    const width = sizeOf(factors.shape.slice(1));
    return factors.data.slice(offset * width, (offset + 1) * width).join();
  });
  const groups = new Map<string, number[]>();
  for (const [i, key] of keys.entries()) groups.set(key, [...(groups.get(key) ?? []), i]);
  const shape: EpisodeShape = {
    frames,
    moments,
    observation: seen.shape.slice(1),
    action: sizeOf(action.shape.slice(1)),
    state: sizeOf(state.shape.slice(1)),
  };
  const options: Options = {
    name,
    shape,
    lengths,
    offsets,
    instances: keys.map((key) => groups.get(key) as number[]),
    observations: seen.dtype === 'uint8' ? shared(seen.data) : seen.data,
    actions: action.data,
    states: state.data,
  };
  return {
    name,
    modality: 'episodes',
    length: lengths.length,
    shape,
    async read(index, random) {
      checkIndex({ name, length: lengths.length, modality: 'episodes' }, index);
      return windowOf(options, index, random);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

/** Pictures of many episodes are large: threads share them where they can. */
function shared(bytes: Uint8Array): Uint8Array {
  if (isShared(bytes)) return bytes;
  const copy = sharedBytes(bytes.length);
  copy.set(bytes);
  return copy;
}

/** States with the factors of their world behind them: what a dot at (x, y) means depends on where the wall is. */
function withFactors(
  state: HostTensor<'float32'>,
  factors: HostTensor<'float32'> | HostTensor<'uint8'> | undefined,
): HostTensor<'float32'> {
  if (!factors) return state;
  const [rows, own] = state.shape;
  const more = sizeOf(factors.shape.slice(1));
  const data = new Float32Array(rows * (own + more));
  for (let row = 0; row < rows; row++) {
    data.set(state.data.subarray(row * own, (row + 1) * own), row * (own + more));
    data.set(factors.data.subarray(row * more, (row + 1) * more), row * (own + more) + own);
  }
  return { dtype: 'float32', shape: [rows, own + more], data };
}

function windowOf(options: Options, index: number, random: Random | undefined): EpisodeWindow {
  const { shape, lengths, offsets, instances, observations, actions, states } = options;
  const { frames, moments } = shape;
  const size = sizeOf(shape.observation);
  const first = offsets[index] + windowStart(lengths[index], frames, index, random);
  const rows = <T extends Uint8Array | Float32Array>(table: T, width: number): T =>
    table.subarray(first * width, (first + frames) * width) as T;
  const times = drawMoments(lengths[index], moments, index, random);
  const draws = random ?? createRandom(index, 'mate');
  const mate = instances[index][draws.integer(instances[index].length)];
  const elsewhere = drawMoments(lengths[mate], moments, mate, random);
  const seen = new (observations.constructor as typeof Float32Array)(2 * moments * size);
  const picked = [...Array.from(times, (t) => offsets[index] + t), ...Array.from(elsewhere, (t) => offsets[mate] + t)];
  for (const [i, row] of picked.entries()) seen.set(observations.subarray(row * size, (row + 1) * size), i * size);
  return {
    observations: rows(observations, size),
    actions: rows(actions, shape.action),
    states: rows(states, shape.state),
    moments: seen,
    times: Float32Array.from(times),
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<EpisodeWindow> => ({
  read: (index, random) => windowOf(options as Options, index, random),
});
