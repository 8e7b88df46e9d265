import { z } from 'zod';
import { JepaError } from '../base/errors.js';
import { heightWidth } from './resample.js';

/**
 * What is done to an image, as plain data: kept in a configuration, sent to a loader thread. Steps run in order; those on
 * bytes (`resize`, `centerCrop`, then `randomResizedCrop`) come first, the others work on channel-first floats 0..1. Every
 * random step draws from the generator of its (seed, epoch, image, view).
 */

const probability = z.number().min(0).max(1);
const side = z.number().int().positive();
/** One number for a square, or [height, width]. */
const size = z.union([side, z.tuple([side, side])]);
const filter = z.enum(['bilinear', 'bicubic']);
const between = (schema: z.ZodNumber) =>
  z
    .tuple([schema, schema])
    .refine(([low, high]) => low <= high, { error: 'the first number must not be above the second' });
const positive = z.number().positive();
const nonNegative = z.number().nonnegative();

export const transformSchema = z.discriminatedUnion('kind', [
  /** To an exact size, or until the shorter edge has it; 8-bit arithmetic equal to Pillow's and torchvision's. */
  z.strictObject({
    kind: z.literal('resize'),
    size,
    fit: z.enum(['stretch', 'shortEdge']).default('stretch'),
    filter: filter.default('bicubic'),
  }),
  z.strictObject({ kind: z.literal('centerCrop'), size }),
  /** torchvision's: a share of the area, an aspect ratio (width / height), ten draws. */
  z.strictObject({
    kind: z.literal('randomResizedCrop'),
    size,
    scale: between(positive.max(1)).default([0.08, 1]),
    ratio: between(positive).default([3 / 4, 4 / 3]),
    filter: filter.default('bicubic'),
  }),
  z.strictObject({ kind: z.literal('horizontalFlip'), p: probability.default(0.5) }),
  /** Factors 1 - x to 1 + x (not below 0), hue -x to x of a circle, the four in random order. */
  z.strictObject({
    kind: z.literal('colorJitter'),
    p: probability.default(1),
    brightness: nonNegative.default(0),
    contrast: nonNegative.default(0),
    saturation: nonNegative.default(0),
    hue: nonNegative.max(0.5).default(0),
  }),
  z.strictObject({ kind: z.literal('grayscale'), p: probability.default(0.2) }),
  /** `kernel` is odd; left out: about a tenth of the image (23 at 224). */
  z.strictObject({
    kind: z.literal('gaussianBlur'),
    p: probability.default(0.5),
    sigma: between(positive).default([0.1, 2]),
    kernel: z
      .number()
      .int()
      .positive()
      .refine((k) => k % 2 === 1, { error: 'must be odd' })
      .optional(),
  }),
  z.strictObject({
    kind: z.literal('solarize'),
    p: probability.default(0.2),
    threshold: nonNegative.default(128 / 255),
  }),
  /**
   * One bilinear warp: `rotate` and `shear` up to so many degrees either way, `scale` a range, `stretch` a factor up to
   * 1 + x between the axes, `shift` up to a share of the side, `elastic` the standard deviation of the displacements of a
   * cubic B-spline with `cells` cells a side, as a share of the side.
   */
  z.strictObject({
    kind: z.literal('affine'),
    p: probability.default(1),
    rotate: nonNegative.max(180).default(0),
    shear: nonNegative.max(60).default(0),
    scale: between(positive).default([1, 1]),
    stretch: nonNegative.default(0),
    shift: nonNegative.default(0),
    elastic: nonNegative.default(0),
    cells: side.max(16).default(4),
    fill: z.number().default(0),
  }),
  /** Thickens or thins bright strokes with a 3 x 3 neighbourhood, mixed in with a random strength. */
  z.strictObject({
    kind: z.literal('stroke'),
    dilate: probability.default(0.25),
    erode: probability.default(0.25),
    strength: between(nonNegative.max(1)).default([0, 1]),
  }),
  /** Thickens or thins strokes smoothly: a 3 x 3 mean, cut at 0.5 -+ `amount` with a slope of `gain`. */
  z.strictObject({
    kind: z.literal('thickness'),
    p: probability.default(1),
    amount: nonNegative.max(0.5).default(0.2),
    gain: positive.default(2.5),
  }),
  /** Blanks `count` squares whose side is a share of the image's shorter side. */
  z.strictObject({
    kind: z.literal('cutout'),
    p: probability.default(0.5),
    size: between(nonNegative.max(1)).default([0.1, 0.4]),
    count: side.default(1),
    fill: z.number().default(0),
  }),
  /** x (1 + multiply * n1) + add * n2 with standard normal n1, n2 for every value, clamped to 0..1. */
  z.strictObject({
    kind: z.literal('noise'),
    p: probability.default(1),
    add: nonNegative.default(0),
    multiply: nonNegative.default(0),
  }),
  /** One number for all channels, or one for each. */
  z.strictObject({
    kind: z.literal('normalize'),
    mean: z.array(z.number()).min(1),
    std: z.array(positive).min(1),
  }),
]);

/** A step as it is written: fields with a default may be left out. */
export type TransformInput = z.input<typeof transformSchema>;
/** A step with every field filled in. */
export type Transform = z.output<typeof transformSchema>;

/** Fills in defaults and checks a list of steps; throws a `JepaError` naming the step and the field. */
export function parseTransforms(steps: readonly unknown[], where = 'transforms'): Transform[] {
  // The first step whose result is no longer bytes; steps on bytes cannot follow it.
  let floats = '';
  return steps.map((step, i) => {
    const { success, data, error } = transformSchema.safeParse(step);
    if (!success) throw new JepaError(explain(`${where}[${i}]`, step, error));
    const onBytes = data.kind === 'resize' || data.kind === 'centerCrop' || data.kind === 'randomResizedCrop';
    if (onBytes && floats)
      throw new JepaError(`${where}[${i}]: ${data.kind} works on bytes and must come before ${floats}`);
    if (!floats && (!onBytes || data.kind === 'randomResizedCrop')) floats = data.kind;
    return data;
  });
}

function explain(where: string, step: unknown, error: z.ZodError): string {
  const kinds = transformSchema.options.map((option) => option.shape.kind.value);
  const kind = (step as { kind?: unknown } | null)?.kind;
  if (!kinds.includes(kind as Transform['kind'])) {
    return `${where}: there is no transform ${JSON.stringify(kind)}, there are ${kinds.join(', ')}`;
  }
  const issue = error.issues[0];
  return `${where}${issue.path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')} (${kind}): ${issue.message}`;
}

/** [height, width] that a list of steps produces; undefined if images keep sizes of their own. */
export function transformedSize(
  steps: readonly Transform[],
  dataset: { readonly size?: { readonly width: number; readonly height: number } },
): readonly [number, number] | undefined {
  let result: readonly [number, number] | undefined = dataset.size && [dataset.size.height, dataset.size.width];
  for (const step of steps) {
    if (step.kind === 'resize' && step.fit === 'shortEdge') result = undefined;
    else if (step.kind === 'resize' || step.kind === 'centerCrop' || step.kind === 'randomResizedCrop') {
      result = heightWidth(step.size);
    }
  }
  return result;
}

/** Mean and standard deviation of the ImageNet training set, as most published models use them. */
export const IMAGENET_MEAN: readonly number[] = [0.485, 0.456, 0.406];
export const IMAGENET_STD: readonly number[] = [0.229, 0.224, 0.225];

const imagenet = (): TransformInput => ({ kind: 'normalize', mean: [...IMAGENET_MEAN], std: [...IMAGENET_STD] });

/** The augmentation of I-JEPA (specs/ijepa.md 5.4): one random resized crop, nothing else. */
export function ijepaTransforms(crop: number): TransformInput[] {
  return [{ kind: 'randomResizedCrop', size: crop, scale: [0.3, 1], filter: 'bilinear' }, imagenet()];
}

/** What published models are evaluated with: shorter edge to 8/7 of the crop, centre crop. */
export function evaluationTransforms(crop: number): TransformInput[] {
  return [
    { kind: 'resize', size: Math.round((crop * 256) / 224), fit: 'shortEdge' },
    { kind: 'centerCrop', size: crop },
    imagenet(),
  ];
}
