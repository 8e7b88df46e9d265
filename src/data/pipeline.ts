import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { adjustBrightness, adjustContrast, adjustHue, adjustSaturation, normalize, solarize, toGrey } from './color.js';
import type { RawImage } from './dataset.js';
import { fillBox, flipHorizontal, gaussianBlur, type Plane, stroke, thickness } from './filters.js';
import type { Preparation } from './preparation.js';
import { type Box, centreBox, heightWidth, resizeBytes, resizeToFloat, shortEdgeSize } from './resample.js';
import type { Transform } from './transforms.js';
import { affineWarp, splineField, warp } from './warp.js';

type Draws = Pick<Random, 'uniform' | 'integer' | 'fillNormal'>;
type Step<K extends Transform['kind']> = Extract<Transform, { kind: K }>;

const between = (random: Pick<Draws, 'uniform'>, low: number, high: number) => low + (high - low) * random.uniform();

/** Rounds halves to the even neighbour, as Python's `round`. */
export function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/**
 * torchvision's box of a random resized crop: up to ten draws of an area share and an aspect ratio (uniform in its
 * logarithm), else the largest box in the middle with the aspect clamped to the range.
 */
export function randomCropBox(
  width: number,
  height: number,
  scale: readonly [number, number],
  ratio: readonly [number, number],
  random: Pick<Draws, 'uniform' | 'integer'>,
): Box {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = width * height * between(random, scale[0], scale[1]);
    const aspect = Math.exp(between(random, Math.log(ratio[0]), Math.log(ratio[1])));
    const w = roundHalfEven(Math.sqrt(area * aspect));
    const h = roundHalfEven(Math.sqrt(area / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const top = random.integer(height - h + 1);
      return { left: random.integer(width - w + 1), top, width: w, height: h };
    }
  }
  let [w, h] = [width, height];
  if (width / height < ratio[0]) h = roundHalfEven(width / ratio[0]);
  else if (width / height > ratio[1]) w = roundHalfEven(height * ratio[1]);
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h };
}

/** Kept between images; nothing here waits, so one caller uses them at a time. */
let warped = new Float32Array(0);
let field = new Float32Array(0);
let noise = new Float32Array(0);

function normals(count: number, mean: number, std: number, random: Draws): Float32Array {
  if (noise.length !== count) noise = new Float32Array(count);
  random.fillNormal(noise, mean, std);
  return noise;
}

const BYTE = Float32Array.from({ length: 256 }, (_, i) => i / 255);

/** Bytes [height, width, channels] to floats 0..1 [channels, height, width]. */
function bytesToFloats({ data, channels }: RawImage, out: Float32Array): void {
  const pixels = out.length / channels;
  for (let c = 0; c < channels; c++) {
    for (let to = c * pixels, from = c, end = to + pixels; to < end; to++, from += channels) out[to] = BYTE[data[from]];
  }
}

/**
 * Runs the steps on one image and writes channel-first floats to `out`, [channels, height, width] of exactly the size that
 * comes out (`transformedSize`); what warps the view is noted in `parameters` (`VIEW_PARAMETERS` numbers). Throws a `JepaError` if the image does not have the size that `out` has room for.
 */
export function applyTransforms(
  image: RawImage,
  steps: readonly Transform[],
  random: Draws,
  out: Float32Array,
  parameters?: Float32Array,
): void {
  let bytes = image;
  let plane: Plane | undefined;
  const enter = (height: number, width: number): Plane => {
    if (image.channels * height * width !== out.length) {
      throw new JepaError(
        `transforms: an image of ${image.width} x ${image.height} comes out as ${width} x ${height}, not as large as the others; add a resize or a crop`,
      );
    }
    return { channels: image.channels, height, width };
  };
  /** From bytes to floats where no step on bytes has done it. */
  const floats = (): Plane => {
    const entered = enter(bytes.height, bytes.width);
    bytesToFloats(bytes, out);
    return entered;
  };

  for (const step of steps) {
    if (step.kind === 'resize') {
      const [height, width] = heightWidth(step.size);
      const target = step.fit === 'shortEdge' ? shortEdgeSize(bytes, Math.min(height, width)) : { width, height };
      bytes = resizeBytes(bytes, target.width, target.height, step.filter);
    } else if (step.kind === 'centerCrop') {
      const [height, width] = heightWidth(step.size);
      bytes = cropBytes(bytes, centreBox(bytes, width, height));
    } else if (step.kind === 'randomResizedCrop') {
      const [height, width] = heightWidth(step.size);
      plane = enter(height, width);
      const box = randomCropBox(bytes.width, bytes.height, step.scale, step.ratio, random);
      resizeToFloat(bytes, box, width, height, step.filter, out);
      if (step.filter === 'bicubic') for (let i = 0; i < out.length; i++) out[i] = Math.min(1, Math.max(0, out[i]));
    } else {
      plane ??= floats();
      applyToFloats(step, out, plane, random, parameters);
    }
  }
  plane ??= floats();
}

/** One step on channel-first floats, in place. A step that does not happen still draws whether it does. */
function applyToFloats(
  step: Exclude<Transform, { kind: 'resize' | 'centerCrop' | 'randomResizedCrop' }>,
  data: Float32Array,
  plane: Plane,
  random: Draws,
  parameters: Float32Array | undefined,
): void {
  const { channels, height, width } = plane;
  if (step.kind === 'normalize') {
    for (const { length } of [step.mean, step.std]) {
      if (length !== 1 && length !== channels) {
        throw new JepaError(`transforms: normalize has ${length} numbers for images of ${channels} channels`);
      }
    }
    normalize(data, channels, step.mean, step.std);
    return;
  }
  if (step.kind === 'stroke') {
    const draw = random.uniform();
    const strength = between(random, ...step.strength);
    if (draw < step.dilate) stroke(data, plane, 'dilate', strength);
    else if (draw < step.dilate + step.erode) stroke(data, plane, 'erode', strength);
    return;
  }
  if (random.uniform() >= step.p) return;
  switch (step.kind) {
    case 'horizontalFlip':
      flipHorizontal(data, plane);
      break;
    case 'colorJitter':
      jitter(step, data, channels, random);
      break;
    case 'grayscale':
      toGrey(data, channels);
      break;
    case 'gaussianBlur': {
      const kernel = step.kernel ?? 2 * Math.floor(Math.min(height, width) / 20) + 1;
      gaussianBlur(data, plane, kernel, between(random, ...step.sigma));
      break;
    }
    case 'solarize':
      solarize(data, step.threshold);
      break;
    case 'affine':
      affine(step, data, plane, random, parameters);
      break;
    case 'thickness':
      thickness(data, plane, 0.5 - step.amount * between(random, -1, 1), step.gain);
      break;
    case 'cutout':
      for (let i = 0; i < step.count; i++) {
        const side = Math.round(between(random, ...step.size) * Math.min(height, width));
        // The centre is anywhere in the image, so that the border is hidden as often as the middle.
        const left = Math.round(width * random.uniform() - side / 2);
        const top = Math.round(height * random.uniform() - side / 2);
        fillBox(data, plane, left, top, side, side, step.fill);
      }
      break;
    case 'noise':
      if (step.multiply > 0) {
        const factors = normals(data.length, 1, step.multiply, random);
        for (let i = 0; i < data.length; i++) data[i] *= factors[i];
      }
      if (step.add > 0) {
        const terms = normals(data.length, 0, step.add, random);
        for (let i = 0; i < data.length; i++) data[i] += terms[i];
      }
      for (let i = 0; i < data.length; i++) data[i] = Math.min(1, Math.max(0, data[i]));
      break;
  }
}

function cropBytes(image: RawImage, box: Box): RawImage {
  if (box.width > image.width || box.height > image.height) {
    throw new JepaError(
      `transforms: a centre crop of ${box.width} x ${box.height} does not fit into ${image.width} x ${image.height}; resize first`,
    );
  }
  const { channels } = image;
  const data = new Uint8Array(box.width * box.height * channels);
  for (let y = 0; y < box.height; y++) {
    const from = ((box.top + y) * image.width + box.left) * channels;
    data.set(image.data.subarray(from, from + box.width * channels), y * box.width * channels);
  }
  return { width: box.width, height: box.height, channels, data };
}

/** torchvision's colour jitter: the four adjustments in random order, each by a random amount. */
function jitter(step: Step<'colorJitter'>, data: Float32Array, channels: number, random: Draws): void {
  const factor = (amount: number) => between(random, Math.max(0, 1 - amount), 1 + amount);
  const order = [0, 1, 2, 3];
  for (let i = 3; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  for (const which of order) {
    if (which === 0 && step.brightness > 0) adjustBrightness(data, factor(step.brightness));
    else if (which === 1 && step.contrast > 0) adjustContrast(data, channels, factor(step.contrast));
    else if (which === 2 && step.saturation > 0) adjustSaturation(data, channels, factor(step.saturation));
    else if (which === 3 && step.hue > 0) adjustHue(data, channels, between(random, -step.hue, step.hue));
  }
}

/** Numbers that describe a warp: rotation, shear, two scales, two shifts, each about 1 for a strong one; 0 for none. */
export const VIEW_PARAMETERS = 6;

function affine(
  step: Step<'affine'>,
  data: Float32Array,
  plane: Plane,
  random: Draws,
  parameters: Float32Array | undefined,
): void {
  const { height, width } = plane;
  const around = (amount: number) => (amount > 0 ? between(random, -amount, amount) : 0);
  const rotate = around(step.rotate);
  const shear = around(step.shear);
  const scale = step.scale[0] === step.scale[1] ? step.scale[0] : between(random, ...step.scale);
  // Half of the stretch goes to each axis, so that the area follows the scale alone.
  const stretch = Math.sqrt((1 + step.stretch) ** around(1));
  const [shiftX, shiftY] = [around(step.shift), around(step.shift)];
  const map = affineWarp(rotate, shear, scale * stretch, scale / stretch, shiftX * width, shiftY * height);
  parameters?.set([
    (rotate * Math.PI) / 60,
    3 * Math.tan((shear * Math.PI) / 180),
    4 * Math.log(scale * stretch),
    4 * Math.log(scale / stretch),
    14 * shiftX,
    14 * shiftY,
  ]);
  let elastic: Float32Array | undefined;
  if (step.elastic > 0) {
    const control = normals(2 * (step.cells + 3) ** 2, 0, step.elastic * Math.min(height, width), random);
    if (field.length !== 2 * height * width) field = new Float32Array(2 * height * width);
    splineField(control, step.cells, height, width, field);
    elastic = field;
  }
  if (warped.length !== data.length) warped = new Float32Array(data.length);
  warp(data, plane, { ...map, elastic }, step.fill, warped);
  data.set(warped);
}

/** How images become tensors: `images` [channels, height, width] and `parameters` [VIEW_PARAMETERS], how the view was warped. */
export interface ImagePlan {
  readonly kind: 'image';
  readonly steps: readonly Transform[];
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

export function imagePreparation({ steps, channels, height, width }: ImagePlan): Preparation<RawImage> {
  return {
    fields: [
      { name: 'images', dtype: 'float32', shape: [channels, height, width] },
      { name: 'parameters', dtype: 'float32', shape: [VIEW_PARAMETERS] },
    ],
    prepare(image, random, [pixels, parameters]) {
      if (image.channels !== channels) {
        throw new JepaError(`an image has ${image.channels} channels where the data set says ${channels}`);
      }
      parameters.fill(0);
      applyTransforms(image, steps, random, pixels as Float32Array, parameters as Float32Array);
    },
  };
}
