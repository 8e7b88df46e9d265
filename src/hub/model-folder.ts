import fs from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import type { Json, JsonObject } from '../base/json.js';
import type { HostTensor } from '../base/tensor.js';
import { evaluationTransforms, parseTransforms, type Transform } from '../data/transforms.js';
import { type AcPredictorConfig, acPredictorSpec } from '../nn/ac-predictor.js';
import { type ClassifierConfig, classifierSpec } from '../nn/attentive.js';
import { type PredictorConfig, predictorSpec } from '../nn/predictor.js';
import { checkVit, type VitConfig, vitSpec } from '../nn/vit.js';
import type { ModuleSpec } from '../nn/weights.js';
import { writeJson } from './hf-folder.js';
import { writeHuggingFaceFolder } from './hf-ijepa.js';
import { vjepa2Refusal, writeVjepa2Folder } from './hf-vjepa2.js';
import { checkNames, FAMILIES, type LoadedEncoder, shapesOf } from './ijepa-names.js';
import { lateFloat32, type StoredTensor } from './raw.js';
import { openWeights, readJsonFile, writeWeights } from './weights.js';

/**
 * Folders of published models. What a class of Hugging Face can hold is written as such a class; everything else (V-JEPA,
 * V-JEPA 2.1, action-conditioned predictors) in a form of this package: `config.json` with `model_type` "jepa" and the
 * configuration of every part, and `model.safetensors` with official names under `encoder.`, `predictor.`, ...
 */

/** `model_type` of the package's own form. */
export const PACKAGE_TYPE = 'jepa';

const count = z.number().int().min(1).max(100_000);
const transformer = {
  width: count,
  depth: z.number().int().min(0).max(1000),
  heads: count,
  mlpWidth: count,
  qkvBias: z.boolean(),
  eps: z.number().positive(),
  mlp: z.enum(['gelu', 'swiglu']).optional(),
};
const positions = z
  .union([
    z.enum(['column-first', 'row-first', 'uniform', 'half-time']),
    z.strictObject({ frequencies: z.enum(['tiled', 'interleaved']), referenceGrid: count.optional() }),
  ])
  .optional();
const side = z.tuple([count, count]);

const schema = z.strictObject({
  model_type: z.literal(PACKAGE_TYPE),
  family: z.enum(FAMILIES),
  /** What was said about the right to use the weights. */
  licence: z.string().max(1000).optional(),
  /** Where they came from. */
  source: z.string().max(1000).optional(),
  encoder: z.strictObject({
    ...transformer,
    imageSize: side,
    patchSize: count,
    channels: count,
    frames: count.optional(),
    tubeletSize: count.optional(),
    positions,
    levels: z.array(z.number().int().min(0).max(1000)).max(1000).optional(),
    modalities: z.boolean().optional(),
  }),
  predictor: z
    .strictObject({
      ...transformer,
      encoderWidth: count,
      grid: z.array(count).min(2).max(3),
      positions,
      maskTokens: count.optional(),
      classToken: z.boolean().optional(),
      dense: z.strictObject({ embedWidth: count.optional(), outputWidth: count }).optional(),
    })
    .optional(),
  actionPredictor: z
    .strictObject({ ...transformer, encoderWidth: count, grid: side, actionWidth: count, extrinsics: z.boolean() })
    .optional(),
  attentive: z
    .strictObject({
      pooler: z.strictObject({
        ...transformer,
        queries: count,
        blocks: z.enum(['after', 'before']),
        bare: z.boolean().optional(),
      }),
      heads: z.record(z.string().max(200), count),
    })
    .optional(),
  labels: z.array(z.string()).max(1_000_000).optional(),
  transforms: z.array(z.unknown()).max(100).optional(),
});

/** Parts of a model beside its encoder, each with the names of its parameters. */
const PARTS = ['predictor', 'actionPredictor', 'attentive'] as const;
type Part = (typeof PARTS)[number];
type Parts = Pick<LoadedEncoder, Part>;

function specOf(part: Part, config: unknown): ModuleSpec {
  if (part === 'predictor') return predictorSpec(config as PredictorConfig);
  if (part === 'actionPredictor') return acPredictorSpec(config as AcPredictorConfig);
  return classifierSpec(config as ClassifierConfig);
}

/**
 * Reads a folder in the package's own form; numbers are read when they are needed. Throws JepaError where the
 * configuration is not one, or names and shapes of the weights do not fit it.
 */
export function readModelFolder(folder: string): LoadedEncoder {
  const path = join(folder, 'config.json');
  const { success, data, error } = schema.safeParse(readJsonFile(path));
  if (!success) {
    const [issue] = error.issues;
    throw new JepaError(`${path}: ${issue.path.join('.') || 'the configuration'}: ${issue.message}`);
  }
  const config = data.encoder as VitConfig;
  checkVit(config);
  const file = openWeights(folder);
  try {
    const shapes = new Map<string, readonly number[]>();
    const expect = (prefix: string, spec: ModuleSpec): string[] =>
      Array.from(shapesOf(spec), ([name, shape]) => {
        shapes.set(`${prefix}.${name}`, shape);
        return name;
      });
    const names = { encoder: expect('encoder', vitSpec(config)) };
    const own = PARTS.flatMap((part) => (data[part] ? [{ part, names: expect(part, specOf(part, data[part])) }] : []));
    checkNames(folder, shapes, file.tensors);
    const read = (prefix: string, wanted: readonly string[]) =>
      new Map(
        wanted.map((name): [string, HostTensor<'float32'>] => {
          const stored = file.tensors.get(`${prefix}.${name}`) as StoredTensor;
          return [name, lateFloat32([{ name, stored }], stored.shape)];
        }),
      );
    const parts = Object.fromEntries(
      own.map(({ part, names: wanted }) => [part, { config: data[part], weights: read(part, wanted) }]),
    ) as Parts;
    return {
      family: data.family,
      config,
      weights: read('encoder', names.encoder),
      ...parts,
      labels: data.labels,
      licence: data.licence,
      transforms: data.transforms && parseTransforms(data.transforms as Transform[], path),
    };
  } finally {
    file.close();
  }
}

export interface ModelFolder {
  /** What reads it. */
  readonly form: 'Hugging Face' | 'jepa';
  /** Parts that this form has no place for. */
  readonly leftOut: readonly string[];
}

/** Writes a published model as Hugging Face's class of it, where there is one, else in the package's own form. */
export function writeModelFolder(
  folder: string,
  model: LoadedEncoder,
  about: { readonly licence?: string; readonly source?: string } = {},
): ModelFolder {
  const transforms = model.transforms ?? publishedTransforms(model.config);
  // A key that these classes do not know, kept by them: the right to use the weights goes along.
  const extra: JsonObject = {
    ...(about.licence !== undefined && { licence: about.licence }),
    ...(about.source !== undefined && { source: about.source }),
  };
  if (model.family === 'ijepa') {
    writeHuggingFaceFolder(folder, { ...model, transforms }, { extra });
    return { form: 'Hugging Face', leftOut: model.predictor ? ['the predictor'] : [] };
  }
  if (model.family === 'vjepa2' && vjepa2Refusal(model) === undefined) {
    writeVjepa2Folder(folder, { ...model, transforms }, { extra });
    return { form: 'Hugging Face', leftOut: [] };
  }
  const tensors = new Map(Array.from(model.weights, ([name, tensor]) => [`encoder.${name}`, tensor]));
  for (const part of PARTS)
    for (const [name, tensor] of model[part]?.weights ?? []) tensors.set(`${part}.${name}`, tensor);
  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  writeWeights(folder, tensors);
  const configs = PARTS.flatMap((part) => {
    const config = model[part]?.config;
    return config ? [[part, config]] : [];
  });
  writeJson(join(folder, 'config.json'), {
    model_type: PACKAGE_TYPE,
    family: model.family ?? 'ijepa',
    ...extra,
    encoder: model.config as unknown as Json,
    ...Object.fromEntries(configs),
    ...(model.labels && { labels: [...model.labels] }),
    ...(model.transforms && { transforms: model.transforms as unknown as Json }),
  });
  return { form: 'jepa', leftOut: [] };
}

/** What images, and every frame of a clip, go through before the published models where no file says it. */
export function publishedTransforms({ imageSize: [height, width], frames }: VitConfig): Transform[] {
  if (height !== width) return parseTransforms([{ kind: 'resize', size: [height, width], fit: 'stretch' }]);
  if (frames === undefined) return parseTransforms(evaluationTransforms(height));
  // Of clips the shorter side is cut off, not rounded (V-JEPA, `evals/video_classification_frozen/utils.py`).
  const [, ...rest] = evaluationTransforms(height);
  const size = Math.trunc((height * 256) / 224);
  return parseTransforms([{ kind: 'resize', size, fit: 'shortEdge', filter: 'bilinear' }, ...rest]);
}
