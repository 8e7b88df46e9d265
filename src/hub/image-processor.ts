import { JepaError } from '../base/errors.js';
import { isJsonObject, type Json, type JsonObject, quoted } from '../base/json.js';
import { parseTransforms, type Transform, type TransformInput } from '../data/transforms.js';

const RESAMPLE = { bilinear: 2, bicubic: 3 } as const;

/**
 * What a Hugging Face `preprocessor_config.json` does to an image (ViT, BiT and CLIP processors), as transforms of
 * `src/data`: resize, centre crop, rescale and normalise. Another `rescale_factor` than 1/255 is folded into the
 * normalisation. Throws JepaError for steps that these processors do not have in common. `name` is for messages.
 */
export function parseImageProcessor(config: JsonObject, name: string): Transform[] {
  const refuse = (what: string): never => {
    throw new JepaError(`${name}: ${what}`);
  };
  const flag = (key: string, fallback: boolean) => (typeof config[key] === 'boolean' ? config[key] : fallback);
  const numbers = (key: string): number[] => {
    const value = config[key];
    return Array.isArray(value) && value.every((each) => typeof each === 'number')
      ? (value as number[])
      : refuse(`"${key}" is missing or not a list of numbers`);
  };

  const steps: TransformInput[] = [];
  if (flag('do_resize', config.size !== undefined)) {
    const code = config.resample ?? RESAMPLE.bilinear;
    const filter = code === RESAMPLE.bilinear ? 'bilinear' : code === RESAMPLE.bicubic ? 'bicubic' : undefined;
    if (!filter) return refuse(`"resample" ${quoted(code)} is not supported; 2 (bilinear) and 3 (bicubic) are`);
    // A bare number is a square to ViT's processor, but the shorter edge to those that crop afterwards.
    const type = config.image_processor_type ?? config.feature_extractor_type;
    const cropping = typeof type === 'string' && /^(Bit|CLIP)/.test(type);
    const shortest = isJsonObject(config.size) ? config.size.shortest_edge : cropping ? config.size : undefined;
    steps.push(
      typeof shortest === 'number'
        ? { kind: 'resize', size: shortest, fit: 'shortEdge', filter }
        : { kind: 'resize', size: heightAndWidth(config.size), fit: 'stretch', filter },
    );
  }
  if (flag('do_center_crop', false)) steps.push({ kind: 'centerCrop', size: heightAndWidth(config.crop_size) });

  const factor = flag('do_rescale', true) ? (config.rescale_factor ?? 1 / 255) : 1;
  if (typeof factor !== 'number' || !(factor > 0)) return refuse('"rescale_factor" is not a positive number');
  // Transforms see values / 255.
  const scale = 255 * factor;
  if (flag('do_normalize', false)) {
    const [mean, std] = [numbers('image_mean'), numbers('image_std')];
    steps.push({ kind: 'normalize', mean: mean.map((each) => each / scale), std: std.map((each) => each / scale) });
  } else if (Math.abs(scale - 1) > 1e-9) {
    steps.push({ kind: 'normalize', mean: [0], std: [1 / scale] });
  }
  return parseTransforms(steps, name);

  function heightAndWidth(size: Json | undefined): number | [number, number] {
    if (typeof size === 'number') return size;
    if (isJsonObject(size) && typeof size.height === 'number' && typeof size.width === 'number')
      return [size.height, size.width];
    return refuse('"size" or "crop_size" has neither height and width nor shortest_edge');
  }
}

/**
 * The `preprocessor_config.json` of evaluation transforms (resize, centre crop, normalise), complete enough for Python
 * transformers and transformers.js (specs/formats.md 1.3). Throws JepaError for transforms that cannot be said there.
 */
export function imageProcessorConfig(steps: readonly Transform[], channels: number): JsonObject {
  const pair = (size: number | readonly [number, number]) =>
    typeof size === 'number' ? { height: size, width: size } : { height: size[0], width: size[1] };
  const config: JsonObject = {
    image_processor_type: 'ViTImageProcessor',
    do_convert_rgb: channels === 3,
    do_resize: false,
    do_center_crop: false,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: false,
  };
  for (const step of steps) {
    if (step.kind === 'resize' && config.do_resize === false) {
      config.do_resize = true;
      config.resample = RESAMPLE[step.filter];
      if (step.fit === 'stretch') {
        config.size = pair(step.size);
      } else {
        const { height, width } = pair(step.size);
        config.size = { shortest_edge: Math.min(height, width) };
      }
    } else if (step.kind === 'centerCrop' && config.do_center_crop === false) {
      // The ViT processor does not crop; BiT's is the same with a crop.
      config.image_processor_type = 'BitImageProcessor';
      config.do_center_crop = true;
      config.crop_size = pair(step.size);
    } else if (step.kind === 'normalize' && config.do_normalize === false) {
      config.do_normalize = true;
      config.image_mean = spread(step.mean, channels);
      config.image_std = spread(step.std, channels);
    } else {
      throw new JepaError(
        `preprocessor_config.json cannot say ${step.kind}; only one resize, centerCrop and normalize each`,
      );
    }
  }
  return config;
}

function spread(values: readonly number[], channels: number): number[] {
  return values.length === channels ? [...values] : new Array<number>(channels).fill(values[0]);
}
