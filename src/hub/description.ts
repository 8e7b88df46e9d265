import { z } from 'zod';
import { JepaError } from '../base/errors.js';
import type { Json, JsonObject } from '../base/json.js';
import { parseTransforms, type Transform } from '../data/transforms.js';
import { type AcPredictorConfig, acPredictorSpec } from '../nn/ac-predictor.js';
import { type ClassifierConfig, classifierSpec } from '../nn/attentive.js';
import { type PredictorConfig, predictorSpec } from '../nn/predictor.js';
import { checkVit, type VitConfig, vitSpec } from '../nn/vit.js';
import type { ModuleSpec } from '../nn/weights.js';
import { checkNames, type EncoderWeights, FAMILIES, type LoadedEncoder, shapesOf } from './ijepa-names.js';
import { lateWeights, type StoredTensor } from './raw.js';

/**
 * What a model is, as plain values: the configuration of every part, what goes before the encoder, the licence. Weights alone
 * do not show all of it, so that it goes along wherever this package writes them: as `config.json` of a folder of its own form, and
 * under a key of its own in checkpoints of PyTorch.
 */

/** Said of weights whose files say nothing of the right to use them. */
export const UNSAID_LICENCE = 'The files say no licence; that of the weights they were made from applies.';

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
  resizing: z.enum(['papers', 'Hugging Face']).optional(),
  /** In checkpoints: there is also the encoder that learned, of which the described one is the moving average. */
  context: z.literal(true).optional(),
});

/** A description that has been checked; configurations are those of the parts. */
export type Description = z.output<typeof schema>;

/** Parts of a model beside its encoder, each with the names of its parameters. */
export const PARTS = ['predictor', 'actionPredictor', 'attentive'] as const;
type Part = (typeof PARTS)[number];
type Parts = Pick<LoadedEncoder, Part>;

function specOf(part: Part, config: unknown): ModuleSpec {
  if (part === 'predictor') return predictorSpec(config as PredictorConfig);
  if (part === 'actionPredictor') return acPredictorSpec(config as AcPredictorConfig);
  return classifierSpec(config as ClassifierConfig);
}

/** Checks a description that stands at `where`. Throws a `JepaError` that names the field. */
export function parseDescription(value: unknown, where: string): Description {
  const { success, data, error } = schema.safeParse(value);
  if (!success) {
    const [issue] = error.issues;
    throw new JepaError(`${where}: ${issue.path.join('.') || 'the configuration'}: ${issue.message}`);
  }
  checkVit(data.encoder as VitConfig);
  return data;
}

/**
 * The model that is described, its parameters found under `encoder.`, `predictor.`, `actionPredictor.` and `attentive.`; numbers
 * are read when they are needed. Throws a `JepaError` beginning with `where` unless names and shapes fit.
 */
export function describedModel(
  description: Description,
  where: string,
  tensors: ReadonlyMap<string, StoredTensor>,
): LoadedEncoder {
  const config = description.encoder as VitConfig;
  const shapes = new Map<string, readonly number[]>();
  const expect = (prefix: string, spec: ModuleSpec): string[] =>
    Array.from(shapesOf(spec), ([name, shape]) => {
      shapes.set(`${prefix}.${name}`, shape);
      return name;
    });
  const ofEncoder = expect('encoder', vitSpec(config));
  const own = PARTS.flatMap((part) =>
    description[part] ? [{ part, names: expect(part, specOf(part, description[part])) }] : [],
  );
  checkNames(where, shapes, tensors);
  const read = (prefix: string, names: readonly string[]): EncoderWeights =>
    lateWeights(names.map((name) => [name, tensors.get(`${prefix}.${name}`) as StoredTensor]));
  const parts = Object.fromEntries(
    own.map(({ part, names }) => [part, { config: description[part], weights: read(part, names) }]),
  ) as Parts;
  const { family, labels, licence, transforms, resizing } = description;
  return {
    family,
    config,
    weights: read('encoder', ofEncoder),
    ...parts,
    labels,
    licence,
    transforms: transforms && parseTransforms(transforms as Transform[], where),
    resizing,
  };
}

/** Describes a model; `extra` is what else is known of it (`licence`, `source`). */
export function descriptionOf(model: LoadedEncoder, extra: JsonObject = {}): JsonObject {
  const configs = PARTS.flatMap((part) => {
    const config = model[part]?.config;
    return config ? [[part, config]] : [];
  });
  return {
    model_type: PACKAGE_TYPE,
    family: model.family ?? 'ijepa',
    ...extra,
    encoder: model.config as unknown as Json,
    ...Object.fromEntries(configs),
    ...(model.labels && { labels: [...model.labels] }),
    ...(model.transforms && { transforms: model.transforms as unknown as Json }),
    ...(model.resizing && { resizing: model.resizing }),
  };
}

/** Throws unless a model has the parameters that its configuration says; `what` is for the message. */
export function checkModel(what: string, model: LoadedEncoder): void {
  checkNames(`${what}: encoder`, shapesOf(vitSpec(model.config)), model.weights);
  if (model.context) checkNames(`${what}: context encoder`, shapesOf(vitSpec(model.config)), model.context);
  for (const part of PARTS) {
    const own = model[part];
    if (own) checkNames(`${what}: ${part}`, shapesOf(specOf(part, own.config)), own.weights);
  }
}
