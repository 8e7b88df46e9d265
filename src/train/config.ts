import { z } from 'zod';
import { UsageError } from '../base/errors.js';
import { parseTransforms, transformSchema } from '../data/transforms.js';
import { evaluationClipSchema, trainingClipSchema } from '../data/video/transforms.js';
import { INIT_STD } from '../nn/transformer.js';
import { MOST_THREADS } from '../runtime/engine.js';
import { type PlaceOf, parseSettings } from './settings.js';

/**
 * The configuration of a training run: what a recipe (YAML) says, every field with its default. `parseConfig` checks it;
 * an unknown key is an error that suggests the nearest.
 */

const whole = z.number().int().positive();
const positive = z.number().positive();
const notNegative = z.number().min(0);
const share = z.number().min(0).max(1);
const pairOf = (item: z.ZodNumber) => z.tuple([item, item]);
const transforms = z.array(transformSchema).superRefine((steps, { addIssue }) => {
  try {
    parseTransforms(steps);
  } catch (error) {
    addIssue({ code: 'custom', message: (error as Error).message });
  }
});

const vitEncoder = z.strictObject({
  kind: z.literal('vit'),
  size: z.enum(['tiny', 'small', 'base', 'large', 'huge', 'giant']).default('tiny'),
  patchSize: whole.default(16),
  width: whole.optional(),
  depth: whole.optional(),
  heads: whole.optional(),
  mlpWidth: whole.optional(),
});

const convEncoder = z.strictObject({
  kind: z.literal('conv'),
  /** Channels of the stem and of the two stages. */
  widths: z.tuple([whole, whole, whole]).default([32, 64, 128]),
  /** Residual blocks of each stage. */
  blocks: z.tuple([z.number().int().min(0), z.number().int().min(0)]).default([1, 1]),
  /** Width of the embedding. */
  width: whole.default(256),
});

const regularizer = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({
    kind: z.literal('vicreg'),
    /** Of pooled contexts to what the target encoder makes of the whole sample (C-JEPA), in methods over patches or skeletons. */
    invariance: notNegative.default(0),
    variance: positive.default(25),
    covariance: positive.default(1),
  }),
  z.strictObject({ kind: z.literal('sigreg'), weight: positive.default(0.05), slices: whole.default(256) }),
]);

/** Standard deviation of first weights: that of wide networks is so little for narrow ones that they learn late. */
const spread = positive.default(INIT_STD);

const masks = z.strictObject({
  targetScale: pairOf(share).default([0.15, 0.2]),
  contextScale: pairOf(share).default([0.85, 1]),
  targetAspect: pairOf(positive).default([0.75, 1.5]),
  targets: whole.default(4),
  contexts: whole.default(1),
  minKeep: z.number().int().min(0).default(10),
  allowOverlap: z.boolean().default(false),
  coverEdges: z.boolean().default(false),
});

const textEncoder = z.strictObject({
  width: whole.default(128),
  depth: whole.default(4),
  heads: whole.default(4),
});

const clipPredictor = (depth: number) =>
  z.strictObject({ width: whole.default(384), depth: whole.default(depth) }).prefault({});

/** V-JEPA and its successors. */
const clips = {
  encoder: vitEncoder.extend({ tubeletSize: whole.default(2) }).prefault({ kind: 'vit' }),
  predictor: clipPredictor(12),
  /** Kinds of masks; the released models have a short-range and a long-range one. */
  masks: z
    .array(
      z.discriminatedUnion('kind', [
        z.strictObject({
          kind: z.literal('blocks').optional(),
          blocks: whole,
          spatialScale: pairOf(share),
          temporalScale: pairOf(share).default([1, 1]),
          aspect: pairOf(positive).default([0.75, 1.5]),
          maxTemporalKeep: share.default(1),
        }),
        /** A share of the cells of a frame: the same in all frames, or others in every frame. */
        z.strictObject({ kind: z.literal('tubes'), ratio: share }),
        z.strictObject({ kind: z.literal('random'), ratio: share }),
      ]),
    )
    .optional(),
  spread,
};
const beside = {
  /** Also predict what follows a part of the clip, in tubelets: `horizons` segments, one after the other. */
  future: z.strictObject({ context: whole, segment: whole.default(1), horizons: whole.default(1) }).optional(),
  /** Exponent of the loss; 1 is the L1 distance. */
  exponent: positive.default(1),
  regularizer: regularizer.default({ kind: 'none' }),
  /** What the regularizer keeps varying: the pooled context of each clip, or how tokens change in the course of their clip. */
  regularized: z.enum(['clips', 'changes']).default('clips'),
};

const methodSchema = z.discriminatedUnion('name', [
  z.strictObject({
    name: z.literal('ijepa'),
    encoder: vitEncoder.prefault({ kind: 'vit' }),
    predictor: z
      .strictObject({ width: whole.default(384), depth: whole.default(6), heads: whole.optional() })
      .prefault({}),
    masks: masks.prefault({}),
    distance: z.enum(['smooth-l1', 'l1', 'l2', 'cosine']).default('smooth-l1'),
    regularizer: regularizer.default({ kind: 'none' }),
    dropPath: z.number().min(0).lt(1).default(0),
    rescale: z.boolean().default(false),
  }),
  z.strictObject({
    name: z.literal('lejepa'),
    encoder: z.discriminatedUnion('kind', [vitEncoder, convEncoder]).prefault({ kind: 'vit' }),
    projector: z.array(whole).min(1).default([512, 512, 64]),
    globals: whole.default(2),
    locals: z.number().int().min(0).default(0),
    lambda: share.default(0.05),
    slices: whole.default(256),
  }),
  z.strictObject({
    name: z.literal('viewjepa'),
    encoder: z.discriminatedUnion('kind', [vitEncoder, convEncoder]).prefault({ kind: 'conv' }),
    projector: z.array(whole).min(1).default([512, 256]),
    predictor: z.array(whole).default([256]),
    /** Tell the predictor how the views were made. */
    conditioned: z.boolean().default(true),
    prediction: positive.default(25),
    regularizer: regularizer.prefault({ kind: 'vicreg' }),
  }),
  z.strictObject({ name: z.literal('vjepa'), ...clips, ...beside }),
  z.strictObject({ name: z.literal('vjepa2'), ...clips, ...beside }),
  z.strictObject({
    name: z.literal('vjepa21'),
    ...clips,
    predictor: clipPredictor(24),
    /** Blocks whose outputs are predicted; by default the published ones of the depth, else four at equal distances. */
    levels: z.array(z.number().int().min(0)).min(1).optional(),
    /** Weight of the loss on visible tokens, and between which shares of the training it rises. */
    contextWeight: z.number().min(0).default(0.5),
    contextRamp: pairOf(share).default([1 / 9, 2 / 9]),
  }),
  z.strictObject({
    name: z.literal('audio-jepa'),
    encoder: vitEncoder.prefault({ kind: 'vit' }),
    predictor: z
      .strictObject({ width: whole.default(384), depth: whole.default(6), heads: whole.optional() })
      .prefault({}),
    masks: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('random'), ratio: pairOf(share).default([0.4, 0.6]) }),
        z.strictObject({ kind: z.literal('blocks'), ...masks.shape }),
        z.strictObject({
          kind: z.literal('stripes'),
          stripes: whole.default(3),
          scale: pairOf(share).default([0.05, 0.075]),
        }),
        z.strictObject({ kind: z.literal('future'), context: whole, segment: whole, horizons: whole.default(1) }),
        /** A-JEPA's curriculum from blocks to stripes. */
        z.strictObject({ kind: z.literal('curriculum') }),
      ])
      .prefault({ kind: 'random' }),
    /** What is done with targets, and their distance: as Audio-JEPA, A-JEPA or Riou et al. */
    targets: z.enum(['audio-jepa', 'a-jepa', 'study']).default('audio-jepa'),
    regularizer: regularizer.default({ kind: 'none' }),
    dropPath: z.number().min(0).lt(1).default(0),
    rescale: z.boolean().default(false),
  }),
  z.strictObject({
    name: z.literal('s-jepa'),
    encoder: z
      .strictObject({
        segment: whole.default(4),
        width: whole.default(256),
        depth: whole.default(8),
        heads: whole.default(8),
      })
      .prefault({}),
    predictor: z
      .strictObject({ width: whole.optional(), depth: whole.default(5), heads: whole.optional() })
      .prefault({}),
    masks: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('motion'), ratio: share.default(0.9), temperature: positive.default(0.8) }),
        z.strictObject({ kind: z.literal('proportional'), ratio: share.default(0.9) }),
        z.strictObject({ kind: z.literal('random'), ratio: share.default(0.9) }),
        z.strictObject({ kind: z.literal('joints'), ratio: share.default(0.5) }),
        z.strictObject({ kind: z.literal('future'), ratio: share.default(0.5) }),
      ])
      .prefault({ kind: 'motion' }),
    /** Distributions over features, compared by cross-entropy, or the features themselves, as in I-JEPA. */
    targets: z.enum(['distributions', 'features']).default('distributions'),
    /** Of distributions: temperatures of targets and predictions, and momentum of the centre. */
    temperatures: pairOf(positive).default([0.06, 0.1]),
    centre: share.default(0.9),
    regularizer: regularizer.default({ kind: 'none' }),
    spread,
  }),
  z.strictObject({
    name: z.literal('text-jepa'),
    encoder: textEncoder.prefault({}),
    predictor: z.strictObject({ width: whole.default(64), depth: whole.default(2) }).prefault({}),
    masks: z.strictObject({ length: whole.default(4), ratio: share.default(0.35) }).prefault({}),
    /** Last layers whose mean is the target. */
    layers: whole.optional(),
    regularizer: regularizer.prefault({ kind: 'vicreg' }),
    spread,
  }),
  z.strictObject({
    name: z.literal('llm-jepa'),
    encoder: textEncoder.prefault({}),
    distance: z.enum(['cosine', 'l2', 'mse', 'infonce']).default('cosine'),
    gamma: positive.default(1),
    lambda: z.number().min(0).default(1),
    dropout: z.number().min(0).lt(1).default(0),
  }),
  z.strictObject({
    name: z.literal('world-model'),
    encoder: z
      .discriminatedUnion('kind', [
        /** Stacks of convolutions as in EB-JEPA; `width` is that of states. */
        z.strictObject({
          kind: z.literal('impala'),
          widths: z.array(whole).min(1).default([16, 32, 32]),
          blocks: z.number().int().min(0).default(2),
          width: whole.default(512),
        }),
        vitEncoder,
        /** Patches by themselves, then all together: no convolution, which is what a processor is slow at. */
        z.strictObject({
          kind: z.literal('patches'),
          patchSize: whole.default(5),
          /** Widths of the layers of a patch, frequencies of each axis, widths of the layers of the whole picture. */
          widths: z.array(whole).min(1).default([32, 16]),
          frequencies: whole.default(6),
          hidden: z.array(whole).default([256]),
          width: whole.default(64),
        }),
        /**
         * What stays as it is: the tokens of a run of V-JEPA 2 or 2.1, or of published weights (a folder, a file, an imported name).
         * Layers on the lowest frequencies of these learn.
         */
        z.strictObject({
          kind: z.literal('frozen'),
          from: z.string().min(1),
          frequencies: whole.default(5),
          hidden: z.array(whole).default([256]),
          width: whole.default(64),
        }),
        /** Of numbers of states. */
        z.strictObject({
          kind: z.literal('mlp'),
          hidden: z.array(whole).default([256, 256]),
          width: whole.default(128),
        }),
      ])
      .prefault({ kind: 'impala' }),
    predictor: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('gru') }),
        z.strictObject({ kind: z.literal('mlp'), hidden: z.array(whole).default([256]) }),
      ])
      .prefault({ kind: 'gru' }),
    /** Steps that are predicted one from the other. */
    steps: whole.default(8),
    /** Weights of the terms; 0 leaves one out. */
    prediction: positive.default(1),
    variance: notNegative.default(16),
    covariance: notNegative.default(8),
    similarity: notNegative.default(12),
    inverse: notNegative.default(1),
    straightening: notNegative.default(0),
    sigreg: notNegative.default(0),
    /** That states know what stays in an instance of the world, its walls and doors; needs data.moments. */
    scene: notNegative.default(0),
    slices: whole.default(256),
    /** Hidden width of the network that tells actions. */
    inverseWidth: whole.default(256),
    /** Steps between states, learned from how far apart they were in episodes, for plans round walls; null leaves it out. */
    distance: z
      .strictObject({
        hidden: z.array(whole).default([256, 256]),
        groups: whole.default(8),
        potentials: whole.default(16),
        horizon: positive.default(100),
        weight: positive.default(10),
      })
      .nullable()
      .default(null),
    /** Values of a latent variable, where what comes next is not settled by actions: the predictor tells as many futures. */
    codes: z.number().int().min(2).optional(),
  }),
  z.strictObject({
    name: z.literal('vjepa2-ac'),
    /** What sees, and stays as it is: a run of V-JEPA 2 or 2.1, or published weights (a folder, a file, an imported name). */
    encoder: z.string().min(1),
    predictor: z
      .strictObject({ width: whole.default(1024), depth: whole.default(24), heads: whole.default(16) })
      .prefault({}),
    /** The first numbers of a state that the predictor is told: where the hand is, not what it moves. 0: none. */
    pose: z.number().int().min(0).default(7),
    /** Frames that are rolled out from the first, each from the predictions before it. */
    steps: whole.default(2),
    /** Exponent of the loss; 1 is the L1 distance. */
    exponent: positive.default(1),
  }),
]);

const channels = z.union([z.literal(1), z.literal(3)], { error: 'expected 1 (grey) or 3 (colour)' });

/** What every kind of data has. */
const common = {
  /** Held-out data for the probes; by default the data set's own test part, or a tenth of it. */
  test: z.string().optional(),
  /** Options of a procedural set: `count`, `seed`, ... */
  options: z.record(z.string(), z.unknown()).optional(),
  /** Samples that may be unreadable before training stops; 0: the first stops it. By default 1 %, at least 10. */
  maxCorrupt: z.number().int().min(0).optional(),
  /** Threads that decode and prepare. */
  threads: z.number().int().min(0).max(MOST_THREADS).optional(),
  /** Folder for decoded images and frames. */
  cache: z.string().optional(),
};

const dataSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('image'),
    /** `glyphs`, or the path of a folder, file or shard pattern. */
    source: z.string().default('glyphs'),
    /** [height, width] of the encoder's images, or one number for a square. */
    size: z.union([whole, pairOf(whole)], { error: 'expected a number, or [height, width]' }).default(224),
    channels: channels.default(3),
    /** Transforms of the training views, one list for each kind of view. */
    views: z.array(transforms).min(1).optional(),
    /** Transforms before the encoder in evaluation. */
    evaluation: transforms.optional(),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('video'),
    /** `procedural:motions` and the like, or the path of a folder of videos, a list (.csv, .txt, .npy) or one video. */
    source: z.string().default('procedural:motions'),
    /** Further videos to learn from, by weight: that of `source` is 1. */
    mix: z.array(z.strictObject({ source: z.string(), weight: positive.default(1) })).optional(),
    /** Frames of a clip, and how far apart they are in the video. */
    frames: whole.default(16),
    frameStep: whole.default(4),
    /** Side of the encoder's square frames. */
    size: whole.default(224),
    /** 2: of a world whose pictures have two layers. */
    channels: z
      .union([z.literal(1), z.literal(2), z.literal(3)], {
        error: 'expected 1 (grey), 2 (of some worlds) or 3 (colour)',
      })
      .default(3),
    /** How training clips and those of evaluation are cropped and normalised (`clipTransformSchema`). */
    view: trainingClipSchema.optional(),
    evaluation: evaluationClipSchema.optional(),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('sound'),
    /** `procedural:tones`, or the path of a folder of recordings. */
    source: z.string().default('procedural:tones'),
    sampleRate: whole.optional(),
    /** Length of a clip. */
    seconds: positive.default(2),
    features: z
      .union([
        z.enum(['audiomae', 'audiojepa']),
        z.strictObject({
          frames: whole,
          mels: whole,
          low: positive.optional(),
          high: positive.optional(),
        }),
      ])
      .default({ frames: 128, mels: 64 }),
    /** Mean and standard deviation of the features; by default those of the training data. */
    statistics: z.strictObject({ mean: z.number(), std: positive }).optional(),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('skeleton'),
    /** `procedural:stick-figures`, or the path of a folder of `.skeleton` files or of an `.npz` of arrays. */
    source: z.string().default('procedural:stick-figures'),
    /** Frames that every recording is resampled to. */
    frames: whole.default(120),
    centre: z.enum(['frame', 'first', 'none']).default('frame'),
    upright: z.boolean().default(false),
    /** Show how joints move about their mean places, not where these are. */
    motion: z.boolean().default(false),
    /** What every number is multiplied by: best if the encoder sees numbers about 1. */
    scale: positive.default(1),
    /** Share of the recording that is shown in training. */
    crop: z.tuple([share, share]).default([0.5, 1]),
    /** The changed view for the context encoder, of the same frames or of a part `crop` of its own; null leaves it out. */
    view: z
      .strictObject({
        rotation: z.number().min(0).optional(),
        mirror: share.optional(),
        shift: z.number().min(0).optional(),
        crop: z.tuple([share, share]).optional(),
      })
      .nullable()
      .prefault({}),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('text'),
    /** `procedural:grammar`, or the path of a text or JSONL file, or of a folder of them. */
    source: z.string().default('procedural:grammar'),
    /** How `.txt` files are cut into texts. */
    split: z.enum(['paragraphs', 'lines', 'file']).default('paragraphs'),
    /** Tokens of a row. */
    tokens: whole.default(128),
    /** Tokens of the vocabulary that is learned from the training data. */
    vocabulary: whole.default(1024),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('episodes'),
    /** `procedural:<world>`, or a file that `jepa collect` wrote (.npz, .h5). */
    source: z.string().default('procedural:two-rooms'),
    observe: z.enum(['pictures', 'states']).default('pictures'),
    /** Observations of a window. */
    frames: whole.default(17),
    /** Single observations beside it, of the same episode and of another in the same layout: for a learned distance. */
    moments: z.number().int().min(0).default(0),
    /** How observations become floats; by default the statistics of the training data are used. */
    scaling: z
      .strictObject({
        range: z.enum(['byte', 'own', 'plain']),
        mean: z.array(z.number()).min(1),
        std: z.array(positive).min(1),
      })
      .optional(),
    ...common,
  }),
]);

/** Kinds of data that a method learns from. */
export const DATA_OF_METHOD: Readonly<Record<Config['method']['name'], Config['data']['kind']>> = {
  ijepa: 'image',
  lejepa: 'image',
  viewjepa: 'image',
  vjepa: 'video',
  vjepa2: 'video',
  vjepa21: 'video',
  'audio-jepa': 'sound',
  's-jepa': 'skeleton',
  'text-jepa': 'text',
  'llm-jepa': 'text',
  'world-model': 'episodes',
  'vjepa2-ac': 'episodes',
};

export const configSchema = z.strictObject({
  data: dataSchema.prefault({ kind: 'image' }),
  method: methodSchema.prefault({ name: 'ijepa' }),
  optimizer: z
    .strictObject({
      lr: positive.default(1e-3),
      startLr: z.number().min(0).default(2e-4),
      finalLr: z.number().min(0).default(1e-6),
      /** Share of the run over which the rate rises. */
      warmup: share.default(0.1),
      /**
       * After that: half a cosine or a line to `finalLr`, no change, or none until the last share `anneal` of the run, in which
       * it falls on a line. V-JEPA 2 is `constant` first, then a run `from` it is cooled down: `linear` without warm-up.
       */
      schedule: z.enum(['cosine', 'linear', 'constant', 'stable']).default('cosine'),
      anneal: share.default(0.1),
      weightDecay: z.number().min(0).default(0.04),
      finalWeightDecay: z.number().min(0).default(0.4),
      betas: pairOf(z.number().min(0).lt(1)).default([0.9, 0.999]),
      eps: positive.default(1e-8),
      /** Bound on the norm of the gradient; 0: none. */
      clip: z.number().min(0).default(0),
      /** Momentum of the moving average, from and to; on a line, or on half a cosine (BYOL, Audio-JEPA, S-JEPA). */
      momentum: pairOf(share).default([0.996, 1]),
      momentumSchedule: z.enum(['linear', 'cosine']).default('linear'),
      /** The schedules are as long as so many runs; above 1 they do not reach their end. */
      stretch: z.number().min(1).default(1),
    })
    .prefault({}),
  train: z
    .strictObject({
      batchSize: whole.default(128),
      /** Micro-batches whose gradients are averaged for one update. */
      accumulate: whole.default(1),
      /** Length of the run: one of these. */
      epochs: positive.optional(),
      steps: whole.optional(),
      /** Minutes of training on this machine: the speed of the first steps decides how many steps that is. */
      minutes: positive.optional(),
      seed: z.number().int().min(0).default(0),
      /** Folder of a run whose last weights this one begins with; its data, schedules and lengths of clips may differ. */
      from: z.string().optional(),
      /** Steps between two looks at the representation. */
      diagnoseEvery: whole.default(100),
      /** Steps between two online k-NN probes where there are labels. */
      probeEvery: whole.default(500),
      checkpointEvery: whole.default(500),
      backend: z.enum(['cpu', 'wasm', 'webgpu']).default('cpu'),
      /** Worker threads that share a batch; default: one a core. */
      workers: whole.max(MOST_THREADS).optional(),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;
export type ConfigInput = z.input<typeof configSchema>;

/** Checks a configuration and fills in its defaults. Throws `UsageError`, one line for each problem. */
export function parseConfig(given: unknown, placeOf: PlaceOf = () => 'configuration:'): Config {
  const config = parseSettings(configSchema, withKind(given), placeOf);
  const { data, method } = config;
  const wanted = DATA_OF_METHOD[method.name];
  if (data.kind === wanted) return config;
  throw new UsageError(
    `${placeOf(['data', 'kind'])} data.kind: ${method.name} learns from data of kind ${wanted}, not ${data.kind}`,
  );
}

/** Data are images unless they say otherwise. */
function withKind(input: unknown): unknown {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(input) || !isObject(input.data) || input.data.kind !== undefined) return input;
  return { ...input, data: { kind: 'image', ...input.data } };
}
