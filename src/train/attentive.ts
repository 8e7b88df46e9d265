import { JepaError, UsageError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import { float32, type HostTensor, int32, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import type { PreparationInput } from '../data/plans.js';
import { averageScores } from '../eval/clips.js';
import { add } from '../graph/ops/elementwise.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { constant, input, scope, type Tensor } from '../graph/tensor.js';
import { type Encoder, encoderInputs, type Inputs } from '../methods/method.js';
import { classifierConfig, classifierSpec, classify, poolerConfig } from '../nn/attentive.js';
import { positionTable } from '../nn/positions.js';
import { patchify } from '../nn/vit.js';
import { makeModule } from '../nn/weights.js';
import type { Engine } from '../runtime/index.js';
import { type FeatureOptions, feedsOf, pick, sampleBatches, samplesPerRun } from './features.js';
import { type FrozenEncoder, installEncoder } from './frozen.js';
import { type HeadSettings, trainHead } from './head.js';

/**
 * The attentive probe of V-JEPA (Bardes et al. 2024, section 4 and appendix): one cross-attention block with a learned query
 * on the tokens of the frozen encoder, and a linear classifier. What a clip shows may be told by a few of its tokens, which
 * their mean hides.
 */

/** What is pooled: the tokens of an encoder, or the patches that it would make them of. */
export type TokenSource = 'tokens' | 'patches';

export interface AttentiveOptions {
  readonly source: TokenSource;
  readonly classes: number;
  readonly seed: number;
  readonly settings?: Partial<HeadSettings>;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  /** Told of what is left out. */
  readonly note?: (line: string) => void;
  /**
   * Several clips of the same videos, in the same order, instead of the one of `train` and `test`: each is encoded by itself, and
   * the probe sees the tokens of all of them side by side (V-JEPA: 2 or 8 clips).
   */
  readonly clips?: readonly Parts[];
  /** Crops of a test clip, along its longer side, whose probabilities are averaged; 1 by default. */
  readonly views?: number;
}

/** The two parts of a data set. */
export interface Parts {
  readonly train: Dataset;
  readonly test: Dataset;
}

/** Numbers of tokens kept in memory, at most: a gigabyte. */
export const MOST_NUMBERS = 2 ** 28;

/** Whether an encoder's input can be cut into patches without it. */
export const hasPatches = ({ architecture }: Encoder): boolean => architecture.kind === 'vit';

/** Trains the probe on labelled samples; returns the class that it gives to each readable test sample, and which those are. */
export async function attentiveProbe(
  engine: Engine,
  frozen: FrozenEncoder,
  train: Dataset & { readonly labels: Int32Array },
  test: Dataset,
  { source, classes, seed, loading, note, clips = [{ train, test }], views = 1, ...options }: AttentiveOptions,
): Promise<{ readonly predictions: Int32Array; readonly indices: Int32Array }> {
  const { encoder } = frozen;
  const tokensOf = tokensFrom(encoder, source);
  const each = clips.length * sizeOf(tokensOf(encoderInputs(encoder)).shape.slice(1) as number[]);
  const kept = Math.max(1, Math.floor(MOST_NUMBERS / each));
  if (train.length > kept) note?.(`attentive probe: trained on ${kept} of ${train.length} samples, for want of memory`);
  const spread = evenly(train.length, kept);
  const own = subset(train, spread);
  const { preparation } = frozen;
  const sights = clips.map((clip) => ({ dataset: subset(clip.train, spread), preparation }));
  const seen = await keptTokens(tokenBatches(engine, frozen, sights, tokensOf, loading), own.length);
  const labels = seen.indices.map((i) => own.labels[i]);
  const [n, , width] = seen.tokens.shape;

  const config = classifierConfig(poolerConfig(width, headsOf(width), { blocks: 'after' }), classes);
  const module = makeModule('probe.', classifierSpec(config));
  const logits = (tokens: Tensor): Tensor => scope('probe', () => classify(tokens, module.weights, config));
  const head = await trainHead(engine, {
    name: `attentive probe of ${frozen.name}`,
    module,
    tokens: seen.tokens,
    truth: { labels: int32([n], labels) },
    loss: (tokens) => crossEntropy(logits(tokens), input('labels', ['batch'], 'int32')),
    seed,
    settings: options.settings,
  });
  const decide = await head.compile((tokens) => ({ logits: logits(tokens) }));
  const predictions: number[] = [];
  const indices: number[] = [];
  try {
    const looks = viewsOf(preparation, views).flatMap((view) =>
      clips.map((clip) => ({ dataset: clip.test, preparation: view })),
    );
    for await (const batch of tokenBatches(engine, frozen, looks, tokensOf, loading)) {
      const scores: HostTensor<'float32'>[] = [];
      for (let view = 0; view < views; view++) {
        const some = sideBySide(batch.tokens.slice(view * clips.length, (view + 1) * clips.length));
        scores.push((await decide.run({ tokens: some })).outputs.logits as HostTensor<'float32'>);
      }
      predictions.push(...bestOf(averageScores(scores)));
      indices.push(...batch.indices);
    }
  } finally {
    await decide.close();
  }
  return { predictions: Int32Array.from(predictions), indices: Int32Array.from(indices) };
}

/** Samples of a data set as one way of preparing them shows them. */
interface Sight {
  readonly dataset: Dataset;
  readonly preparation: PreparationInput;
}

interface TokenBatch {
  /** For each sight [samples, tokens, width]. */
  readonly tokens: readonly HostTensor<'float32'>[];
  /** Samples that can be read in every sight. */
  readonly indices: readonly number[];
}

/** Tokens of several sights of the same samples, batch by batch. */
export async function* tokenBatches(
  engine: Engine,
  frozen: FrozenEncoder,
  sights: readonly Sight[],
  tokensOf: (inputs: Inputs) => Tensor,
  loading: AttentiveOptions['loading'],
): AsyncGenerator<TokenBatch> {
  const outputs = { tokens: tokensOf(encoderInputs(frozen.encoder)) };
  const [, ...shape] = outputs.tokens.shape as number[];
  const program = await engine.compile(
    { name: `tokens of ${frozen.name}`, outputs },
    await installEncoder(engine, frozen),
  );
  const readers = sights.map(({ dataset, preparation }) =>
    sampleBatches(dataset, preparation, samplesPerRun(frozen), loading),
  );
  try {
    for (;;) {
      const parts: { readonly tokens: HostTensor<'float32'>; readonly indices: Int32Array }[] = [];
      for (const reader of readers) {
        const { done, value } = await reader.next();
        if (done) return;
        const { indices, fields } = value;
        const tokens =
          indices.length > 0
            ? ((await program.run(feedsOf(frozen, fields))).outputs.tokens as HostTensor<'float32'>)
            : float32([0, ...shape], new Float32Array(0));
        parts.push({ tokens, indices });
      }
      const common = [...parts[0].indices].filter((index) => parts.every(({ indices }) => indices.includes(index)));
      if (common.length === 0) continue;
      const tokens = parts.map(({ tokens: all, indices }) =>
        common.length === indices.length
          ? all
          : pick(
              all,
              common.map((index) => indices.indexOf(index)),
            ),
      );
      yield { tokens, indices: common };
    }
  } finally {
    for (const reader of readers) await reader.return(undefined);
    await program.close();
  }
}

/** All tokens of at most `most` samples, those of the sights of a sample one after the other. */
export async function keptTokens(
  batches: AsyncIterable<TokenBatch>,
  most: number,
): Promise<{ readonly tokens: HostTensor<'float32'>; readonly indices: Int32Array }> {
  let data = new Float32Array(0);
  let shape: readonly number[] = [];
  const indices: number[] = [];
  for await (const batch of batches) {
    const joined = sideBySide(batch.tokens);
    shape = joined.shape.slice(1);
    const size = sizeOf(shape);
    if (data.length === 0) data = new Float32Array(most * size);
    data.set(joined.data, indices.length * size);
    indices.push(...batch.indices);
  }
  const rows = indices.length;
  return {
    tokens: float32([rows, ...shape], data.subarray(0, rows * sizeOf(shape))),
    indices: Int32Array.from(indices),
  };
}

/** Several tokens [samples, tokens, width] of the same samples, one after the other: [samples, all tokens, width]. */
export function sideBySide(parts: readonly HostTensor<'float32'>[]): HostTensor<'float32'> {
  if (parts.length === 1) return parts[0];
  const [samples, , width] = parts[0].shape;
  const count = parts.reduce((all, { shape }) => all + shape[1], 0);
  const data = new Float32Array(samples * count * width);
  let at = 0;
  for (let sample = 0; sample < samples; sample++) {
    for (const { shape, data: own } of parts) {
      const each = shape[1] * width;
      data.set(own.subarray(sample * each, (sample + 1) * each), at);
      at += each;
    }
  }
  return float32([samples, count, width], data);
}

/** Preparations of all views of a clip. Throws a `UsageError` where samples are no clips. */
function viewsOf(preparation: PreparationInput, views: number): PreparationInput[] {
  if (views === 1) return [preparation];
  if (preparation.kind !== 'video' || preparation.transform.kind !== 'evaluate')
    throw new UsageError('attentive probe: only clips are seen in several views');
  const transform = { ...preparation.transform, views };
  return Array.from({ length: views }, (_, view) => ({ ...preparation, transform, view }));
}

/** The class with the largest score of every row [samples, classes]; the first of several. */
function bestOf({ shape: [samples, classes], data }: HostTensor<'float32'>): number[] {
  return Array.from({ length: samples }, (_, i) => {
    const row = data.subarray(i * classes, (i + 1) * classes);
    return row.indexOf(Math.max(...row));
  });
}

/** Tokens of an encoder, or the patches that it would make them of. */
export const tokensFrom =
  (encoder: Encoder, source: TokenSource) =>
  (inputs: Inputs): Tensor =>
    source === 'tokens' ? encoder.tokens(inputs) : patchesOf(encoder, inputs);

/** What an encoder would embed: its patches as they are, with the positions that it would add. */
function patchesOf({ architecture, inputs, grid }: Encoder, given: Inputs): Tensor {
  if (architecture.kind !== 'vit') throw new JepaError('attentive probe: only a ViT cuts its input into patches');
  const patches = patchify(given[inputs[0].name], architecture);
  const width = patches.shape[2] as number;
  const kind = grid.length === 3 ? 'uniform' : 'column-first';
  const places = width % 4 === 0 ? positionTable(grid, width, kind) : new Float32Array(sizeOf(grid) * width);
  return add(patches, constant(float32([1, sizeOf(grid), width], places)));
}

/** Heads of attentive pooling: of width 16 and more, as many as divide the width, at most 16. */
export function headsOf(width: number): number {
  for (let heads = 16; heads > 1; heads--) if (width % heads === 0 && width / heads >= 16) return heads;
  return 1;
}
