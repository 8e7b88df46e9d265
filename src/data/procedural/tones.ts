import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';
import type { SoundDataset } from '../audio/dataset.js';
import { checkIndex, type SampleReader } from '../dataset.js';

/**
 * Notes of an instrument in a rhythm, with noise: recordings whose factors are known, each a function of the seed and its
 * number. Any of the factors can be held still.
 */
export interface TonesOptions {
  readonly count: number;
  readonly seed?: number;
  readonly sampleRate?: number;
  readonly seconds?: number;
  /** What `labels` are; the other one is an attribute. Rhythm by default. */
  readonly labels?: 'instrument' | 'rhythm';
  /** Intervals from which factors are drawn evenly (pitch on a logarithmic axis), or a value. */
  readonly factors?: Partial<Record<Factor, readonly [low: number, high: number] | number>>;
}

/**
 * - `pitch`: fundamental of the first note, Hz
 * - `glide`: change of pitch from note to note, octaves a second
 * - `unit`: seconds of the shorter interval between notes; the longer is twice as long
 * - `decay`: seconds after which a note has fallen to 1 / e; it ends after one unit
 * - `loudness`: root mean square of the notes, dB (0 is full scale)
 * - `noise`: root mean square of the white noise below the notes', dB
 */
export type Factor = 'pitch' | 'glide' | 'unit' | 'decay' | 'loudness' | 'noise';

export const TONE_FACTORS: Readonly<Record<Factor, readonly [low: number, high: number]>> = {
  pitch: [110, 440],
  glide: [-0.3, 0.3],
  unit: [0.1, 0.16],
  decay: [0.02, 0.08],
  loudness: [-30, -12],
  noise: [-30, -6],
};

/** Six partials; how fast they fall, and whether there are even ones. */
export const INSTRUMENTS = [0.3, 0.6, 0.9].flatMap((fall) =>
  [1, 2].map((step) => ({
    name: `${step === 1 ? 'all' : 'odd'} partials, fall ${fall}`,
    partials: Array.from({ length: 6 }, (_, i) => ({ multiple: 1 + i * step, amplitude: fall ** i })),
  })),
);

/**
 * Rhythms: cycles of 8 intervals, each 1 or 2 units. In every cycle any interval occurs as often as in the others, and any two
 * neighbours do: the notes that begin within any window of less than 3 units say nothing of the class. Notes end within one unit,
 * so that no window of sound shorter than 2 units does.
 */
export const RHYTHMS: readonly (readonly number[])[] = [
  [1, 2, 1, 1, 1, 2, 2, 2],
  [1, 2, 2, 2, 1, 1, 1, 2],
  [1, 2, 2, 1, 1, 1, 2, 2],
  [1, 1, 2, 1, 1, 2, 2, 2],
];
/** Units of one cycle of any rhythm. */
export const CYCLE = 12;

/** Everything that is random of a recording but its noise. */
interface Score extends Record<Factor, number> {
  readonly instrument: number;
  readonly rhythm: number;
  /** Where in the cycle the recording begins, units. */
  readonly phase: number;
}

type Settings = Required<Omit<TonesOptions, 'labels'>>;

function scoreOf({ seed, factors }: Settings, index: number): Score {
  const random = createRandom(seed, 'tones', index);
  const draw = (factor: Factor): number => {
    const uniform = random.uniform();
    const given = factors[factor] ?? TONE_FACTORS[factor];
    if (typeof given === 'number') return given;
    const [low, high] = given;
    return factor === 'pitch' ? low * (high / low) ** uniform : low + (high - low) * uniform;
  };
  return {
    instrument: random.integer(INSTRUMENTS.length),
    rhythm: random.integer(RHYTHMS.length),
    phase: CYCLE * random.uniform(),
    pitch: draw('pitch'),
    glide: draw('glide'),
    unit: draw('unit'),
    decay: draw('decay'),
    loudness: draw('loudness'),
    noise: draw('noise'),
  };
}

/** Times of the notes of a rhythm from `phase` on until `units` have passed, in units, ascending from 0. */
export function onsets(rhythm: readonly number[], phase: number, units: number): number[] {
  const times: number[] = [];
  for (let i = 0, at = 0 - phase; at < units; i++) {
    if (at >= 0) times.push(at);
    at += rhythm[i % rhythm.length];
  }
  return times;
}

/** A note falls to a thousandth of its beginning in so many decays. */
const LENGTH_IN_DECAYS = 7;
/** Seconds in which a note rises and ends. */
const RAMP = 0.004;

/** Adds a note from sample `start` on. Phases of partials are turned on by rotation: no sine is computed inside the loop. */
function addNote(out: Float32Array, start: number, pitch: number, score: Score, sampleRate: number): void {
  const { instrument, decay, unit } = score;
  const length = Math.floor(Math.min(LENGTH_IN_DECAYS * decay, unit) * sampleRate);
  const end = Math.min(length, out.length - start);
  const fade = Math.exp(-1 / (decay * sampleRate));
  const ramp = Math.max(1, RAMP * sampleRate);
  for (const { multiple, amplitude } of INSTRUMENTS[instrument].partials) {
    const frequency = multiple * pitch;
    if (frequency >= sampleRate / 2) break;
    const angle = (2 * Math.PI * frequency) / sampleRate;
    const [turnCos, turnSin] = [fade * Math.cos(angle), fade * Math.sin(angle)];
    let cos = amplitude;
    let sin = 0;
    for (let i = 0; i < end; i++) {
      out[start + i] += sin * Math.min(1, i / ramp, (length - i) / ramp);
      const turned = cos * turnCos - sin * turnSin;
      sin = cos * turnSin + sin * turnCos;
      cos = turned;
    }
  }
}

const level = (decibels: number): number => 10 ** (decibels / 20);

function render(settings: Settings, index: number): Float32Array {
  const { seed, sampleRate, seconds } = settings;
  const score = scoreOf(settings, index);
  const out = new Float32Array(Math.round(seconds * sampleRate));
  for (const time of onsets(RHYTHMS[score.rhythm], score.phase, seconds / score.unit)) {
    const at = time * score.unit;
    const start = Math.round(at * sampleRate);
    if (start < out.length) addNote(out, start, score.pitch * 2 ** (score.glide * at), score, sampleRate);
  }
  let squares = 0;
  for (const value of out) squares += value * value;
  const gain = squares > 0 ? level(score.loudness) / Math.sqrt(squares / out.length) : 0;
  const noise = new Float32Array(out.length);
  noiseOf(seed, index).fillNormal(noise, 0, level(score.loudness + score.noise));
  for (let i = 0; i < out.length; i++) out[i] = gain * out[i] + noise[i];
  return out;
}

const noiseOf = (seed: number, index: number): Random => createRandom(seed, 'noise of tones', index);

/** The data set. `factors` hold the numbers, `pitch at the end` besides (what a glide leads to). */
export function tones(options: TonesOptions): SoundDataset {
  const { count, seed = 0, sampleRate = 8000, seconds = 3, factors = {}, labels = 'rhythm' } = options;
  const settings: Settings = { count, seed, sampleRate, seconds, factors };
  if (!(Number.isInteger(count) && count >= 1)) throw new JepaError(`tones: the count must be 1 or more, not ${count}`);
  const longest = factors.unit ?? TONE_FACTORS.unit;
  const cycle = CYCLE * (typeof longest === 'number' ? longest : longest[1]);
  if (labels === 'rhythm' && cycle > seconds) {
    throw new JepaError(
      `tones: a cycle of a rhythm lasts up to ${cycle} s and a recording ${seconds} s; use longer recordings or a shorter unit`,
    );
  }
  const scores = Array.from({ length: count }, (_, index) => scoreOf(settings, index));
  const classes = {
    instrument: Int32Array.from(scores, ({ instrument }) => instrument),
    rhythm: Int32Array.from(scores, ({ rhythm }) => rhythm),
  };
  const numbers = (of: (score: Score) => number): Float32Array => Float32Array.from(scores, of);
  const name = 'tones';
  return {
    name,
    modality: 'sound',
    length: count,
    sampleRate,
    labels: classes[labels],
    classNames: labels === 'rhythm' ? RHYTHMS.map((rhythm) => rhythm.join(' ')) : INSTRUMENTS.map(({ name }) => name),
    attributes: labels === 'rhythm' ? { instrument: classes.instrument } : { rhythm: classes.rhythm },
    factors: {
      ...Object.fromEntries(
        (Object.keys(TONE_FACTORS) as Factor[]).map((key) => [key, numbers((score) => score[key])]),
      ),
      'pitch at the end': numbers(({ pitch, glide }) => pitch * 2 ** (glide * seconds)),
    },
    async read(index) {
      checkIndex({ name, length: count, modality: 'sound' }, index);
      return render(settings, index);
    },
    source: { kind: 'module', module: import.meta.url, options: settings },
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<Float32Array> => ({
  read: (index) => render(options as Settings, index),
});
