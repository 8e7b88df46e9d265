import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';

/**
 * Short-term memory (LeCun 2022, section 4.8): an associative store of keys and values, and a log of what happened, with its
 * costs. Both are read by the critic, the actor, the world model and the configurator.
 */

type Row = ArrayLike<number>;

export interface AssociativeOptions {
  /** Numbers of a key, and of a value. */
  readonly keys: number;
  readonly values: number;
  /** Slots; when all are taken, the one that was used least recently makes room. */
  readonly capacity: number;
  /** Width of a match, in units of distance: exp(-|k - q|^2 / 2 width^2). Towards 0 reading is by the nearest neighbour. */
  readonly width: number;
  /**
   * Weight that an unknown query keeps for nothing: coefficients are exp(match) / (unknown + sum exp(match)). 0 is a softmax,
   * whose weights sum to 1 even where no key is near.
   */
  readonly unknown: number;
}

export interface Recall {
  /** sum_j c_j v_j; zeros from an empty store. */
  readonly value: Float64Array;
  /** c_j of every slot in use; never more than 1 in all. */
  readonly weights: Float64Array;
  /** sum_j c_j: near 0 for what was never stored. */
  readonly known: number;
}

export interface AssociativeMemory {
  readonly size: number;
  read(query: Row): Recall;
  /** v_j <- c_j r + (1 - c_j) v_j for the slots that match. */
  update(query: Row, value: Row): void;
  /** A slot of its own for this pair: remembered after one showing. */
  allocate(key: Row, value: Row): void;
  /** Updates if the query is known by at least `threshold`, and allocates otherwise. */
  write(query: Row, value: Row, threshold?: number): void;
  /** The weights' slope: d value_i / d query_k [values, keys]. With respect to v_j it is c_j. */
  slope(query: Row): Float64Array;
  /** A copy that shares slots until they are written: for imagined futures. */
  overlay(): AssociativeMemory;
  /** Keys and values in use, to be looked at. */
  slots(): readonly { readonly key: Float64Array; readonly value: Float64Array }[];
}

interface Slot {
  readonly key: Float64Array;
  readonly value: Float64Array;
  used: number;
}

/** Opens an empty store. */
export function associativeMemory(options: AssociativeOptions): AssociativeMemory {
  const { keys, values, capacity, width, unknown } = options;
  if (!(keys > 0 && values > 0 && capacity > 0 && width > 0 && unknown >= 0))
    throw new JepaError('memory: keys, values, capacity and width must be positive, and unknown 0 or more');
  return open(options, [], 0);
}

function open(options: AssociativeOptions, start: Slot[], clock: number): AssociativeMemory {
  const { keys, values, capacity, width, unknown } = options;
  let slots = start;
  let time = clock;
  const check = (row: Row, size: number, what: string): void => {
    if (row.length !== size) throw new JepaError(`memory: a ${what} of ${row.length} numbers; it must have ${size}`);
  };

  function weightsOf(query: Row): Float64Array {
    check(query, keys, 'query');
    // Plain loops: habits are read at every step, and must be quick.
    const weights = new Float64Array(slots.length);
    for (let j = 0; j < weights.length; j++) {
      const { key } = slots[j];
      let squares = 0;
      for (let k = 0; k < keys; k++) squares += (key[k] - query[k]) ** 2;
      weights[j] = -squares / (2 * width * width);
    }
    // `unknown` is an absolute rival of exp(match); a softmax is shifted so that far queries do not underflow.
    const top = unknown > 0 ? 0 : Math.max(...weights);
    let total = unknown;
    for (let j = 0; j < weights.length; j++) {
      weights[j] = Math.exp(weights[j] - top);
      total += weights[j];
    }
    for (let j = 0; j < weights.length; j++) weights[j] /= total;
    return weights;
  }

  const memory: AssociativeMemory = {
    get size() {
      return slots.length;
    },
    read(query) {
      const weights = weightsOf(query);
      const value = new Float64Array(values);
      let known = 0;
      for (let j = 0; j < weights.length; j++) {
        const c = weights[j];
        const stored = slots[j].value;
        known += c;
        for (let i = 0; i < values; i++) value[i] += c * stored[i];
      }
      return { value, weights, known };
    },
    update(query, value) {
      check(value, values, 'value');
      time++;
      const weights = weightsOf(query);
      slots = slots.map((slot, j) => {
        const c = weights[j];
        if (c < 1e-12) return slot;
        return { key: slot.key, value: slot.value.map((v, i) => c * value[i] + (1 - c) * v), used: time };
      });
    },
    allocate(key, value) {
      check(key, keys, 'key');
      check(value, values, 'value');
      time++;
      const fresh = { key: Float64Array.from(key), value: Float64Array.from(value), used: time };
      if (slots.length < capacity) slots = [...slots, fresh];
      else {
        const oldest = slots.reduce((a, b) => (b.used < a.used ? b : a));
        slots = slots.map((slot) => (slot === oldest ? fresh : slot));
      }
    },
    write(query, value, threshold = 0.5) {
      if (memory.read(query).known >= threshold && slots.length > 0) memory.update(query, value);
      else memory.allocate(query, value);
    },
    slope(query) {
      const { weights, value } = memory.read(query);
      const out = new Float64Array(values * keys);
      // dc_j/dq = c_j (m_j - sum_l c_l m_l), with m_j = (k_j - q) / width^2 the slope of the match.
      for (let k = 0; k < keys; k++) {
        let centre = 0;
        for (const [j, c] of weights.entries()) centre += (c * (slots[j].key[k] - query[k])) / width ** 2;
        for (let i = 0; i < values; i++) {
          let total = -centre * value[i];
          for (const [j, c] of weights.entries())
            total += c * slots[j].value[i] * ((slots[j].key[k] - query[k]) / width ** 2);
          out[i * keys + k] = total;
        }
      }
      return out;
    },
    overlay: () => open(options, slots, time),
    slots: () => slots,
  };
  return memory;
}

// What happened ------------------------------------------------------------------------------------------------------

/** One moment: the state, the action that led on from it, and what it cost. */
export interface Moment {
  readonly episode: number;
  readonly time: number;
  readonly state: Float64Array;
  readonly action?: Float64Array;
  /** Weighted intrinsic cost of the state: the only thing that a critic learns from. */
  readonly intrinsic: number;
  /** What the critic said then; kept to be looked at, never to be learned from. */
  readonly critic: number;
  /** Distance of the state from the one that had been predicted; NaN where nothing was. */
  readonly surprise: number;
  /** False for imagined states. */
  readonly real: boolean;
}

export interface EpisodicLog {
  readonly length: number;
  append(moment: Moment): void;
  /** Moments in order; of one episode if it is named. */
  moments(episode?: number): readonly Moment[];
  /** The moments whose states are nearest. */
  nearest(state: Row, count: number): readonly Moment[];
  /** The cheapest or dearest moments. */
  byCost(count: number, order: 'least' | 'most'): readonly Moment[];
  /** Draws moments with replacement: all alike, or in proportion to surprise or cost. */
  sample(count: number, random: Random, by?: 'uniform' | 'surprise' | 'cost'): readonly Moment[];
}

/** Keeps the last `capacity` moments. Times of an episode must grow. */
export function episodicLog(capacity: number): EpisodicLog {
  let kept: Moment[] = [];
  const ordered = (score: (m: Moment) => number, count: number): Moment[] =>
    [...kept].sort((a, b) => score(a) - score(b)).slice(0, count);
  return {
    get length() {
      return kept.length;
    },
    append(moment) {
      const before = kept.at(-1);
      if (before && before.real === moment.real && before.episode === moment.episode && before.time >= moment.time)
        throw new JepaError(`memory: moment ${moment.time} of episode ${moment.episode} comes after ${before.time}`);
      kept.push(moment);
      // In blocks, so that appending stays cheap.
      if (kept.length > capacity * 1.25 + 16) kept = kept.slice(kept.length - capacity);
    },
    moments: (episode) => {
      const last = kept.slice(Math.max(0, kept.length - capacity));
      return episode === undefined ? last : last.filter((m) => m.episode === episode);
    },
    nearest: (state, count) => ordered((m) => m.state.reduce((total, v, i) => total + (v - state[i]) ** 2, 0), count),
    byCost: (count, order) => ordered((m) => (order === 'least' ? m.intrinsic : -m.intrinsic), count),
    sample(count, random, by = 'uniform') {
      if (kept.length === 0) throw new JepaError('memory: there is nothing to sample yet');
      if (by === 'uniform') return Array.from({ length: count }, () => kept[random.integer(kept.length)]);
      const weight = (m: Moment): number => Math.max(0, (by === 'surprise' ? m.surprise : m.intrinsic) || 0) + 1e-9;
      const sums: number[] = [];
      for (const m of kept) sums.push((sums.at(-1) ?? 0) + weight(m));
      return Array.from({ length: count }, () => {
        const at = random.uniform() * (sums.at(-1) as number);
        const found = sums.findIndex((s) => s > at);
        return kept[found < 0 ? kept.length - 1 : found];
      });
    },
  };
}
