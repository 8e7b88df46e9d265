import { z } from 'zod';
import type { Random } from '../../base/random.js';
import { rgbToGrey } from '../image-format.js';
import { frameOf, type RawClip } from './clip.js';

/**
 * RandAugment (Cubuk, Zoph, Shlens, Le 2020) over clips: some operations drawn at random, each with the same strength and
 * sign on all frames. The name of the published policy, `rand-m7-n4-mstd0.5-inc1`, is the default below. Arithmetic on
 * 8-bit values as Pillow's.
 */
export const randAugmentSchema = z.strictObject({
  /** Strength of 0 to 10, and its standard deviation. */
  magnitude: z.number().min(0).max(10).default(7),
  deviation: z.number().nonnegative().default(0.5),
  /** Operations drawn for a clip, with replacement. */
  operations: z.number().int().positive().default(4),
  /** Probability that a drawn operation takes place. */
  p: z.number().min(0).max(1).default(0.5),
  /** Let strength grow with the magnitude for all operations (of some it falls otherwise). */
  increasing: z.boolean().default(true),
});

export type RandAugment = z.output<typeof randAugmentSchema>;

type Draws = Pick<Random, 'uniform' | 'integer' | 'normal'>;
/** Works on one frame; `level` is 0 to 10, `sign` is 1 or -1. */
type Operation = (frame: Frame, level: number, sign: number) => Uint8Array;

interface Frame {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** What geometry uncovers is grey. */
const FILL = 128;

/** Strength of colour, contrast, brightness and sharpness: 1 changes nothing. */
const enhance = (level: number) => 0.18 * level + 0.1;
const enhanceMore = (level: number, sign: number) => 1 + 0.09 * sign * level;
const posterizeBits = (level: number) => Math.trunc(0.4 * level);
const solarizeFrom = (level: number) => Math.min(256, Math.trunc(25.6 * level));

const COMMON: Record<string, Operation> = {
  AutoContrast: (frame) => lookUpEach(frame, contrastTable),
  Equalize: (frame) => lookUpEach(frame, equalTable),
  Invert: (frame) => lookUp(frame, (value) => 255 - value),
  Rotate: (frame, level, sign) => rotate(frame, 3 * level * sign),
};
const SHIFTS: Record<string, Operation> = {
  ShearX: (frame, level, sign) => affine(frame, [1, 0.03 * level * sign, 0, 0, 1, 0]),
  ShearY: (frame, level, sign) => affine(frame, [1, 0, 0, 0.03 * level * sign, 1, 0]),
  TranslateXRel: (frame, level, sign) => affine(frame, [1, 0, 0.045 * level * sign * frame.width, 0, 1, 0]),
  TranslateYRel: (frame, level, sign) => affine(frame, [1, 0, 0, 0, 1, 0.045 * level * sign * frame.height]),
};
const SOLARIZE_ADD: Record<string, Operation> = {
  SolarizeAdd: (frame, level) => {
    const added = Math.min(128, Math.trunc(11 * level));
    return lookUp(frame, (value) => (value < 128 ? Math.min(255, value + added) : value));
  },
};

const INCREASING: Record<string, Operation> = {
  ...COMMON,
  PosterizeIncreasing: (frame, level) => posterize(frame, 4 - posterizeBits(level)),
  SolarizeIncreasing: (frame, level) => solarize(frame, 256 - solarizeFrom(level)),
  ...SOLARIZE_ADD,
  ColorIncreasing: (frame, level, sign) => color(frame, enhanceMore(level, sign)),
  ContrastIncreasing: (frame, level, sign) => contrast(frame, enhanceMore(level, sign)),
  BrightnessIncreasing: (frame, level, sign) => brightness(frame, enhanceMore(level, sign)),
  SharpnessIncreasing: (frame, level, sign) => sharpness(frame, enhanceMore(level, sign)),
  ...SHIFTS,
};

const PLAIN: Record<string, Operation> = {
  ...COMMON,
  Posterize: (frame, level) => posterize(frame, posterizeBits(level)),
  Solarize: (frame, level) => solarize(frame, solarizeFrom(level)),
  ...SOLARIZE_ADD,
  Color: (frame, level) => color(frame, enhance(level)),
  Contrast: (frame, level) => contrast(frame, enhance(level)),
  Brightness: (frame, level) => brightness(frame, enhance(level)),
  Sharpness: (frame, level) => sharpness(frame, enhance(level)),
  ...SHIFTS,
};

/** The operations that are drawn from, by name. */
export function randAugmentOperations({
  increasing,
}: Pick<RandAugment, 'increasing'>): Readonly<Record<string, Operation>> {
  return increasing ? INCREASING : PLAIN;
}

/** A changed copy of a clip (or the clip itself, where no operation takes place). */
export function randAugment(clip: RawClip, options: RandAugment, random: Draws): RawClip {
  const operations = Object.values(randAugmentOperations(options));
  let result = clip;
  for (let i = 0; i < options.operations; i++) {
    const operation = operations[random.integer(operations.length)];
    const happens = random.uniform() < options.p;
    const level = Math.min(10, Math.max(0, options.magnitude + options.deviation * random.normal()));
    const sign = random.integer(2) === 1 ? -1 : 1;
    if (happens) result = eachFrame(result, (frame) => operation(frame, level, sign));
  }
  return result;
}

function eachFrame(clip: RawClip, change: (frame: Frame) => Uint8Array): RawClip {
  const data = new Uint8Array(clip.data.length);
  const { height, width, channels } = clip;
  for (let t = 0; t < clip.frames; t++) {
    data.set(change({ data: frameOf(clip, t), height, width, channels }), t * height * width * channels);
  }
  return { ...clip, data };
}

// --- tables ---------------------------------------------------------------------------------------------------------

function lookUp({ data }: Frame, value: (of: number) => number): Uint8Array {
  const table = Uint8Array.from({ length: 256 }, (_, i) => value(i));
  return data.map((of) => table[of]);
}

/** A table of each channel's own, from its histogram. */
function lookUpEach({ data, channels }: Frame, tableOf: (histogram: Uint32Array) => Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let c = 0; c < channels; c++) {
    const histogram = new Uint32Array(256);
    for (let i = c; i < data.length; i += channels) histogram[data[i]]++;
    const table = tableOf(histogram);
    for (let i = c; i < data.length; i += channels) out[i] = table[data[i]];
  }
  return out;
}

const clip8 = (value: number) => Math.min(255, Math.max(0, Math.trunc(value)));

function contrastTable(histogram: Uint32Array): Uint8Array {
  const low = histogram.findIndex((count) => count > 0);
  let high = 255;
  while (high > 0 && histogram[high] === 0) high--;
  const scale = high > low ? 255 / (high - low) : 1;
  const offset = high > low ? -low * scale : 0;
  return Uint8Array.from(histogram, (_, i) => clip8(i * scale + offset));
}

function equalTable(histogram: Uint32Array): Uint8Array {
  const used = histogram.filter((count) => count > 0);
  const total = used.reduce((sum, count) => sum + count, 0);
  const step = used.length > 1 ? Math.floor((total - used[used.length - 1]) / 255) : 0;
  if (step === 0) return Uint8Array.from(histogram, (_, i) => i);
  let sum = Math.floor(step / 2);
  return Uint8Array.from(histogram, (count) => {
    const value = clip8(Math.floor(sum / step));
    sum += count;
    return value;
  });
}

function posterize(frame: Frame, bits: number): Uint8Array {
  const mask = 256 - 2 ** (8 - bits);
  return bits >= 8 ? frame.data : lookUp(frame, (value) => value & mask);
}

function solarize(frame: Frame, from: number): Uint8Array {
  return lookUp(frame, (value) => (value < from ? value : 255 - value));
}

// --- mixtures -------------------------------------------------------------------------------------------------------

/** plain + factor (frame - plain), cut to whole numbers. */
function blend({ data }: Frame, factor: number, plain: (i: number) => number): Uint8Array {
  const out = new Uint8Array(data.length);
  const weight = Math.fround(factor);
  for (let i = 0; i < data.length; i++) {
    const of = plain(i);
    out[i] = clip8(Math.fround(of + Math.fround(weight * (data[i] - of))));
  }
  return out;
}

function color(frame: Frame, factor: number): Uint8Array {
  if (frame.channels !== 3) return frame.data;
  const grey = rgbToGrey(frame.data);
  return blend(frame, factor, (i) => grey[Math.floor(i / 3)]);
}

function contrast(frame: Frame, factor: number): Uint8Array {
  const grey = frame.channels === 3 ? rgbToGrey(frame.data) : frame.data;
  const mean = Math.floor(grey.reduce((sum, value) => sum + value, 0) / grey.length + 0.5);
  return blend(frame, factor, () => mean);
}

const brightness = (frame: Frame, factor: number) => blend(frame, factor, () => 0);

/** Away from, or towards, a 3 x 3 mean in which the middle counts five times; the border stays. */
function sharpness(frame: Frame, factor: number): Uint8Array {
  const { data, height, width, channels } = frame;
  const smooth = data.slice();
  const row = width * channels;
  for (let y = 1; y < height - 1; y++) {
    for (let at = y * row + channels; at < (y + 1) * row - channels; at++) {
      let sum = 4 * data[at];
      for (let from = at - row; from <= at + row; from += row) {
        sum += data[from - channels] + data[from] + data[from + channels];
      }
      smooth[at] = Math.floor(sum / 13 + 0.5);
    }
  }
  return blend(frame, factor, (i) => smooth[i]);
}

// --- geometry -------------------------------------------------------------------------------------------------------

/** Counterclockwise about the middle. */
function rotate(frame: Frame, degrees: number): Uint8Array {
  const angle = (-degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const [x, y] = [frame.width / 2, frame.height / 2];
  return affine(frame, [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]);
}

/** Weights of four neighbours at distance `d` from the second: the cubic with a = -1 that Pillow warps with. */
function cubicWeights(d: number): [number, number, number, number] {
  const e = 1 - d;
  return [-d * e * e, 1 - 2 * d * d + d * d * d, 1 - 2 * e * e + e * e * e, -e * d * d];
}

/** Input x = a x + b y + c, input y = d x + e y + f of pixel centres; bicubic. */
function affine(
  { data, height, width, channels }: Frame,
  [a, b, c, d, e, f]: readonly [number, number, number, number, number, number],
): Uint8Array {
  const out = new Uint8Array(data.length).fill(FILL);
  const inside = (at: number, length: number) => Math.min(length - 1, Math.max(0, at));
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += channels) {
      const atX = a * (x + 0.5) + b * (y + 0.5) + c;
      const atY = d * (x + 0.5) + e * (y + 0.5) + f;
      if (!(atX >= 0 && atX < width && atY >= 0 && atY < height)) continue;
      const left = Math.floor(atX - 0.5);
      const top = Math.floor(atY - 0.5);
      const across = cubicWeights(atX - 0.5 - left);
      const down = cubicWeights(atY - 0.5 - top);
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let v = 0; v < 4; v++) {
          const row = inside(top - 1 + v, height) * width;
          let line = 0;
          for (let u = 0; u < 4; u++) {
            line += across[u] * data[(row + inside(left - 1 + u, width)) * channels + channel];
          }
          sum += down[v] * line;
        }
        out[to + channel] = clip8(sum);
      }
    }
  }
  return out;
}
