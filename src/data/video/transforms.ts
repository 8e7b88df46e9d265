import { z } from 'zod';
import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { HostTensor } from '../../base/tensor.js';
import { randomCropBox, roundHalfEven } from '../pipeline.js';
import { type Box, centreBox, heightWidth, resizeBytes, shortEdgeSize } from '../resample.js';
import { IMAGENET_MEAN, IMAGENET_STD } from '../transforms.js';
import { frameOf, type RawClip } from './clip.js';
import { randAugment, randAugmentSchema } from './randaugment.js';
import { resizeClip } from './resample.js';

/**
 * What is done to a clip, as plain data (specs/vjepa.md 5.2, 7.2). All frames of a clip are treated alike: one box, one
 * flip, one erased rectangle. Two kinds: `train` makes one random view, `evaluate` one or more fixed ones.
 */

const side = z.number().int().positive();
const size = z.union([side, z.tuple([side, side])]);
const probability = z.number().min(0).max(1);
const positive = z.number().positive();
const range = z.tuple([positive, positive]).refine(([low, high]) => low <= high, {
  error: 'the first number must not be above the second',
});
/** Of values 0..1; one number for all channels, or one for each. */
const statistics = {
  mean: z
    .array(z.number())
    .min(1)
    .default([...IMAGENET_MEAN]),
  std: z
    .array(positive)
    .min(1)
    .default([...IMAGENET_STD]),
};

const training = z.strictObject({
  kind: z.literal('train'),
  /** One number for a square, or [height, width]. */
  size,
  /** Share of the area; above 1 nearly every draw fails and the largest allowed box in the middle is taken. */
  scale: range.default([0.3, 1]),
  /** Width over height. */
  ratio: range.default([0.75, 1.35]),
  /** Probability of mirroring. */
  flip: probability.default(0.5),
  /** Draw two boxes and move from the first to the second during the clip. */
  motionShift: z.boolean().default(false),
  /** Probability that a rectangle is replaced by noise, new in every frame. */
  erase: probability.default(0),
  /** Colours and geometry drawn at random; not by default. */
  randAugment: randAugmentSchema.optional(),
  ...statistics,
});

const evaluation = z.strictObject({
  kind: z.literal('evaluate'),
  size: side,
  /** Square crops along the longer side; 1 is the middle. */
  views: side.default(1),
  /** The shorter side before the crop; by default trunc(size x 256 / 224) for one view and `size` for several. */
  shortSide: side.optional(),
  /**
   * Hugging Face's processors average over what a smaller pixel covers, and halve an odd border otherwise than the
   * evaluation code of the papers.
   */
  like: z.enum(['papers', 'Hugging Face']).default('papers'),
  ...statistics,
});

export const clipTransformSchema = z.discriminatedUnion('kind', [training, evaluation]);

type Given<K extends ClipTransformInput['kind']> = Partial<Extract<ClipTransformInput, { kind: K }>>;

/** The same schema with nothing filled in and nothing required: what is left out follows from elsewhere. */
function partOf<K extends ClipTransformInput['kind']>({ shape }: z.ZodObject): z.ZodType<Given<K>> {
  const bare = Object.entries(shape).map(([name, field]) => [
    name,
    ((field instanceof z.ZodDefault ? field.unwrap() : field) as z.ZodType).optional(),
  ]);
  return z.strictObject(Object.fromEntries(bare)) as unknown as z.ZodType<Given<K>>;
}

/** Transforms as they stand in a configuration, which says the size elsewhere. */
export const trainingClipSchema = partOf<'train'>(training);
export const evaluationClipSchema = partOf<'evaluate'>(evaluation);

/** A transform as it is written: fields with a default may be left out. */
export type ClipTransformInput = z.input<typeof clipTransformSchema>;
/** A transform with every field filled in. */
export type ClipTransform = z.output<typeof clipTransformSchema>;
type Train = Extract<ClipTransform, { kind: 'train' }>;
type Evaluate = Extract<ClipTransform, { kind: 'evaluate' }>;

/** Fills in defaults and checks; throws a `JepaError` naming the field. */
export function parseClipTransform(transform: unknown, where = 'transform'): ClipTransform {
  const { success, data, error } = clipTransformSchema.safeParse(transform);
  if (success) return data;
  const [issue] = error.issues;
  throw new JepaError(`${[where, ...issue.path.map(String)].join('.')}: ${issue.message}`);
}

/** The augmentation V-JEPA pretrains with. */
export function pretrainClips(crop: number): ClipTransformInput {
  return { kind: 'train', size: crop };
}

/** The augmentation attentive probes are trained with. */
export function probeClips(crop: number): ClipTransformInput {
  return { kind: 'train', size: crop, scale: [0.08, 1], ratio: [3 / 4, 4 / 3], flip: 0, erase: 0.25, randAugment: {} };
}

/** What a transform makes of a clip: so many views of this size. */
export function clipViews(transform: ClipTransform): { views: number; height: number; width: number } {
  const [height, width] = heightWidth(transform.size);
  return { views: transform.kind === 'evaluate' ? transform.views : 1, height, width };
}

/**
 * Transforms a clip; `out` is [views, channels, frames, height, width] of exactly the size of `clipViews`. Throws a
 * `JepaError` where sizes do not fit.
 */
export function applyClipTransform(
  clip: RawClip,
  transform: ClipTransform,
  random: Pick<Random, 'uniform' | 'integer' | 'normal' | 'fillNormal'>,
  out: Float32Array,
): void {
  if (transform.kind === 'evaluate') {
    evaluationViews(clip, transform, out);
    return;
  }
  const augmented = transform.randAugment ? randAugment(clip, transform.randAugment, random) : clip;
  const box = () => randomCropBox(clip.width, clip.height, transform.scale, transform.ratio, random);
  const boxes = transform.motionShift ? ([box(), box()] as const) : ([box()] as const);
  const mirror = transform.flip > 0 && random.uniform() < transform.flip;
  cropClip(augmented, boxes, mirror, transform, out);
  if (transform.erase > 0) eraseClip(out, shapeOf(clip, transform), transform.erase, random);
}

/** [channels, frames, height, width] of what a training transform makes of a clip. */
type Shape = readonly [channels: number, frames: number, height: number, width: number];

function shapeOf(clip: RawClip, transform: Train): Shape {
  return [clip.channels, clip.frames, ...heightWidth(transform.size)];
}

/**
 * Resizes a box of every frame to `size` and normalises: one box for the whole clip, or one for its first and one for its
 * last frame. `out` is [channels, frames, height, width].
 */
export function cropClip(
  clip: RawClip,
  boxes: readonly [Box] | readonly [Box, Box],
  mirror: boolean,
  { size, mean, std }: Pick<Train, 'size' | 'mean' | 'std'>,
  out: Float32Array,
): void {
  const [height, width] = heightWidth(size);
  const [first, last = first] = boxes;
  const crop = { left: 0, top: 0, width, height };
  const boxOf = (frame: number) => (first === last ? first : movingBox(first, last, clip.frames, frame));
  resizeClip(clip, boxOf, { height, width, crop }, { bytes: false, mirror }, out);
  normalizeClip(out, clip.channels, mean, std);
}

/** The box of one frame on the way from `first` to `last`, truncated to whole pixels. */
function movingBox(first: Box, last: Box, frames: number, frame: number): Box {
  const at = (from: number, to: number) => Math.trunc(linspace32(from, to, frames, frame));
  return {
    left: at(first.left, last.left),
    top: at(first.top, last.top),
    width: at(first.width, last.width),
    height: at(first.height, last.height),
  };
}

/** Value `i` of PyTorch's linspace in single precision, which goes from both ends to the middle: truncation notices. */
function linspace32(start: number, end: number, count: number, i: number): number {
  const round = Math.fround;
  const step = count > 1 ? round((end - start) / (count - 1)) : 0;
  return i < count / 2 ? round(start + round(step * i)) : round(end - round(step * (count - 1 - i)));
}

/** (x / 255 - mean) / std of values 0..255, in place; [channels, ...]. */
function normalizeClip(data: Float32Array, channels: number, mean: readonly number[], std: readonly number[]): void {
  for (const { length } of [mean, std]) {
    if (length !== 1 && length !== channels) {
      throw new JepaError(`clip transforms: ${length} numbers of mean or std for videos of ${channels} channels`);
    }
  }
  const plane = data.length / channels;
  for (let c = 0; c < channels; c++) {
    const deviation = std[c % std.length];
    const scale = 1 / (255 * deviation);
    const shift = -mean[c % mean.length] / deviation;
    for (let i = c * plane; i < (c + 1) * plane; i++) data[i] = data[i] * scale + shift;
  }
}

// --- evaluation -----------------------------------------------------------------------------------------------------

/** Top left corner of the square in the middle; halves go to the even neighbour. */
export function clipCentre(height: number, width: number, crop: number): { top: number; left: number } {
  const middle = (length: number) => roundHalfEven((length - crop) / 2);
  return { top: middle(height), left: middle(width) };
}

/**
 * Corners of `views` squares along the longer side; with more than two views the last may end a little before the border,
 * as the step is a whole number. One view is in the middle.
 */
export function spatialViews(
  height: number,
  width: number,
  crop: number,
  views: number,
): { top: number; left: number }[] {
  if (views === 1) return [clipCentre(height, width, crop)];
  const step = Math.floor((Math.max(height, width) - crop) / (views - 1));
  return Array.from({ length: views }, (_, i) =>
    height > width ? { top: i * step, left: 0 } : { top: 0, left: i * step },
  );
}

function evaluationViews(clip: RawClip, transform: Evaluate, out: Float32Array): void {
  const { size: crop, views, mean, std } = transform;
  const shortSide = transform.shortSide ?? (views > 1 ? crop : Math.trunc((crop * 256) / 224));
  if (shortSide < crop)
    throw new JepaError(`clip transforms: a crop of ${crop} is larger than the short side ${shortSide}`);
  const { height, width } = shortEdgeSize(clip, shortSide);
  const length = clip.channels * clip.frames * crop * crop;
  const hf = transform.like === 'Hugging Face';
  const source = hf ? smoothlyResized(clip, height, width) : clip;
  const whole = { left: 0, top: 0, width: source.width, height: source.height };
  const corners = hf && views === 1 ? [centreBox(whole, crop, crop)] : spatialViews(height, width, crop, views);
  for (const [v, { left, top }] of corners.entries()) {
    const view = out.subarray(v * length, (v + 1) * length);
    const wanted = { height, width, crop: { left, top, width: crop, height: crop } };
    resizeClip(source, () => whole, wanted, { bytes: true, mirror: false }, view);
    normalizeClip(view, clip.channels, mean, std);
  }
}

function smoothlyResized(clip: RawClip, height: number, width: number): RawClip {
  const { frames, channels } = clip;
  const size = height * width * channels;
  const data = new Uint8Array(frames * size);
  for (let t = 0; t < frames; t++) {
    const frame = { height: clip.height, width: clip.width, channels, data: frameOf(clip, t) };
    data.set(resizeBytes(frame, width, height, 'bilinear').data, t * size);
  }
  return { frames, height, width, channels, data };
}

// --- erasing --------------------------------------------------------------------------------------------------------

const ERASED_AREA = [0.02, 1 / 3] as const;
/** Logarithm of height over width. */
const ERASED_ASPECT = [Math.log(0.3), -Math.log(0.3)] as const;
const ERASE_ATTEMPTS = 100;

/** The rectangle to erase, or undefined where the draw says no, or where no attempt gave one that fits. */
export function eraseBox(
  height: number,
  width: number,
  p: number,
  random: Pick<Random, 'uniform' | 'integer'>,
): Box | undefined {
  if (random.uniform() > p) return undefined;
  const between = ([low, high]: readonly [number, number]) => low + (high - low) * random.uniform();
  for (let attempt = 0; attempt < ERASE_ATTEMPTS; attempt++) {
    const area = height * width * between(ERASED_AREA);
    const aspect = Math.exp(between(ERASED_ASPECT));
    const h = roundHalfEven(Math.sqrt(area * aspect));
    const w = roundHalfEven(Math.sqrt(area / aspect));
    if (h >= height || w >= width) continue;
    const top = random.integer(height - h + 1);
    return { top, left: random.integer(width - w + 1), height: h, width: w };
  }
  return undefined;
}

/**
 * Replaces one rectangle of a clip [channels, frames, height, width] by standard normal noise, new in every frame (drawn
 * as [frames, channels, rows, columns]), with probability `p`.
 */
export function eraseClip(
  clip: Float32Array,
  [channels, frames, height, width]: Shape,
  p: number,
  random: Pick<Random, 'uniform' | 'integer' | 'fillNormal'>,
): void {
  const box = eraseBox(height, width, p, random);
  if (!box || box.height < 1 || box.width < 1) return;
  const noise = new Float32Array(channels * box.height * box.width);
  for (let t = 0; t < frames; t++) {
    random.fillNormal(noise);
    for (let c = 0, from = 0; c < channels; c++) {
      for (let y = 0; y < box.height; y++, from += box.width) {
        const to = ((c * frames + t) * height + box.top + y) * width + box.left;
        clip.set(noise.subarray(from, from + box.width), to);
      }
    }
  }
}

// --- length ---------------------------------------------------------------------------------------------------------

/** A clip [channels, frames, height, width] of so many frames: repeated in a circle where it is shorter, else cut. */
export function padFrames({ shape, data }: HostTensor<'float32'>, wanted: number): HostTensor<'float32'> {
  const [channels, frames, ...rest] = shape;
  const size = rest.reduce((product, n) => product * n, 1);
  const out = new Float32Array(channels * wanted * size);
  for (let c = 0; c < channels; c++) {
    for (let t = 0; t < wanted; t++) {
      const from = (c * frames + (t % frames)) * size;
      out.set(data.subarray(from, from + size), (c * wanted + t) * size);
    }
  }
  return { dtype: 'float32', shape: [channels, wanted, ...rest], data: out };
}
