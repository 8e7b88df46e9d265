import { evenly } from '../base/evenly.js';
import { float32, type HostTensor, int32, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { averageScores } from '../eval/clips.js';
import { tubeIous, videoMap } from '../eval/detection.js';
import { mean as meanOf } from '../eval/samples.js';
import { mulDims } from '../graph/dims.js';
import { abs, add, gelu, mul, sub } from '../graph/ops/elementwise.js';
import { oneHot } from '../graph/ops/index.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { expandDims, narrow, reshape } from '../graph/ops/move.js';
import { softmax } from '../graph/ops/normalise.js';
import { linear } from '../graph/ops/product.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { encoderInputs } from '../methods/method.js';
import { linearSpec } from '../nn/transformer.js';
import { makeModule } from '../nn/weights.js';
import type { Engine } from '../runtime/index.js';
import { keptTokens, MOST_NUMBERS, type TokenSource, tokenBatches, tokensFrom } from './attentive.js';
import type { FeatureOptions } from './features.js';
import { type FrozenEncoder, randomEncoder } from './frozen.js';
import { type HeadSettings, trainHead } from './head.js';
import { type LabelledDataset, labelledParts } from './labelled.js';
import { knownBoxes, tubeletOf, wholeFrames } from './moments.js';

/**
 * Spatio-temporal localisation, after V-JEPA's evaluation on AVA: where the moving object of a clip is at every moment, and what
 * it does, told from the tokens of a frozen encoder. Every token says whether the object's middle is in its patch and what its
 * box would be; the class is told from the tokens where the object is seen. Boxes are known, as the videos are made.
 */
export interface LocationScores {
  /** Mean over clips and moments of the IoU of the told box and the true one. */
  readonly iou: number;
  /** Share of clips whose mean IoU reaches one half. */
  readonly found: number;
  /** Mean average precision of tubes with their classes, at an IoU of one half. */
  readonly map: number;
}

export interface LocationResult {
  readonly moments: number;
  readonly testSamples: number;
  readonly encoder: LocationScores;
  /** The same head on raw patches. */
  readonly raw: LocationScores;
  readonly random: LocationScores;
  /** The mean box of the training clips, always; it names no class. */
  readonly constant: Omit<LocationScores, 'map'>;
}

export interface LocateOptions {
  readonly engine: Engine;
  readonly encoder: FrozenEncoder;
  readonly train: Dataset;
  readonly test: Dataset;
  /** Of the head, its batches and random weights. Default: 0. */
  readonly seed?: number;
  readonly settings?: Partial<HeadSettings>;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
  readonly onStage?: (what: string) => void;
}

/** Measures an encoder of clips. Throws a `UsageError` for data without boxes, a `JepaError` for data without labels. */
export async function locate(options: LocateOptions): Promise<LocationResult> {
  const { encoder, seed = 0 } = options;
  const { train, test, classes } = labelledParts(options.train, options.test);
  const tubelet = tubeletOf(encoder.encoder);
  const boxes = { train: knownBoxes(train, tubelet), test: knownBoxes(test, tubelet) };
  const parts = { train, test, classes: classes.length, boxes };
  const own = await scoresOf(encoder, 'tokens', parts, options);
  const raw = await scoresOf(encoder, 'patches', parts, options);
  const random = await scoresOf(randomEncoder(encoder, seed), 'tokens', parts, options);
  const { moments, truth, usual } = own;
  const ious = tubeIous(usual, truth, moments);
  return {
    moments,
    testSamples: ious.length,
    encoder: own.scores,
    raw: raw.scores,
    random: random.scores,
    constant: { iou: meanOf(ious), found: foundOf(ious) },
  };
}

/** Least IoU of a tube that counts. */
const LEAST = 0.5;
const foundOf = (ious: Float64Array): number => ious.filter((iou) => iou >= LEAST).length / ious.length;

/** Hidden width of what every token says. */
const HIDDEN = 256;
/** Numbers that a token says: how sure, offset of the middle in patches, logarithms of the half sides in patches. */
const SAID = 5;

interface Parts {
  readonly train: LabelledDataset;
  readonly test: LabelledDataset;
  /** Number of classes. */
  readonly classes: number;
  readonly boxes: Readonly<Record<'train' | 'test', ReturnType<typeof knownBoxes>>>;
}

async function scoresOf(
  frozen: FrozenEncoder,
  source: TokenSource,
  { train, test, classes, boxes: known }: Parts,
  { engine, seed = 0, settings, loading, onStage }: LocateOptions,
) {
  onStage?.(`${source === 'tokens' ? frozen.name : 'patches'}: where things are`);
  const { grid } = frozen.encoder;
  const tokensOf = tokensFrom(frozen.encoder, source);
  const [moments, rows, columns] = grid;
  const preparation = wholeFrames(frozen.preparation);
  const read = async (dataset: LabelledDataset, boxesOf: Parts['boxes']['train']) => {
    const each = sizeOf(tokensOf(encoderInputs(frozen.encoder)).shape.slice(1) as number[]);
    const chosen = evenly(dataset.length, Math.max(1, Math.floor(MOST_NUMBERS / each)));
    const sight = { dataset: subset(dataset, chosen), preparation };
    const { tokens, indices } = await keptTokens(
      tokenBatches(engine, frozen, [sight], tokensOf, loading),
      chosen.length,
    );
    const own = indices.map((i) => chosen[i]);
    return { tokens, boxes: (await boxesOf(own)).boxes, labels: own.map((i) => dataset.labels[i]) };
  };
  const [learned, held] = [await read(train, known.train), await read(test, known.test)];
  const [n, , width] = learned.tokens.shape;
  const module = makeModule(
    'locate.',
    new Map([
      ...linearSpec('hidden', HIDDEN, width),
      ...linearSpec('said', SAID, HIDDEN),
      ...linearSpec('classes', classes, width),
    ]),
  );
  const layer = (x: Tensor, name: string): Tensor =>
    scope(name, () => linear(x, module.weights(`${name}.weight`), module.weights(`${name}.bias`)));
  const each = rows * columns;
  /** Tokens [batch, moments * each, width] -> sureness [batch, moments, each], boxes [..., 4] and class scores [batch, classes]. */
  const told = (tokens: Tensor) => {
    const [batch] = tokens.shape;
    const said = reshape(layer(gelu(layer(tokens, 'hidden')), 'said'), [batch, moments, each, SAID]);
    const sure = reshape(narrow(said, 3, 0, 1), [batch, moments, each]);
    const places = reshape(mul(softmax(sure), 1 / moments), [batch, moments * each, 1]);
    const seen = sum(mul(tokens, places), 1); // [batch, width]
    return { sure, boxes: narrow(said, 3, 1, SAID - 1), classes: layer(seen, 'classes') };
  };
  const aims = inPatches(learned.boxes, [rows, columns]);
  const head = await trainHead(engine, {
    name: `localisation with ${source} of ${frozen.name}`,
    module,
    tokens: learned.tokens,
    truth: {
      labels: int32([n], learned.labels),
      patches: int32([n, moments], aims.patches),
      aims: float32([n, moments, SAID - 1], aims.boxes),
    },
    loss: (tokens) => {
      const { sure, boxes, classes: scores } = told(tokens);
      const [batch] = tokens.shape;
      const all = mulDims(batch, moments);
      const patches = input('patches', ['batch', moments], 'int32');
      const here = expandDims(oneHot(patches, each), 3);
      const aim = expandDims(input('aims', ['batch', moments, SAID - 1]), 2);
      const away = mean(sum(mul(abs(sub(boxes, aim)), here), [2, 3]));
      const where = crossEntropy(reshape(sure, [all, each]), reshape(patches, [all]));
      return add(add(where, away), crossEntropy(scores, input('labels', ['batch'], 'int32')));
    },
    seed,
    settings,
  });
  const [boxes, shares]: [number[], number[]] = [[], []];
  for await (const { sure, boxes: said, classes: named } of head.tell(told, held.tokens)) {
    boxes.push(...bestBoxes(sure as HostTensor<'float32'>, said as HostTensor<'float32'>, [rows, columns]));
    // Tubes of different videos are ranked against each other: by probabilities.
    shares.push(...averageScores([named as HostTensor<'float32'>]).data);
  }
  const ious = tubeIous(boxes, held.boxes, moments);
  const result: LocationScores = {
    iou: meanOf(ious),
    found: foundOf(ious),
    map: videoMap(shares, held.labels, ious, classes, LEAST),
  };
  return { moments, scores: result, truth: held.boxes, usual: usualBoxes(learned.boxes, held.boxes.length) };
}

/** Boxes in shares of the frame -> the patch of each middle, and the box seen from there. */
export function inPatches(
  boxes: Float32Array,
  [rows, columns]: readonly [number, number],
): { readonly patches: Int32Array; readonly boxes: Float32Array } {
  const patches = new Int32Array(boxes.length / 4);
  const seen = new Float32Array(boxes.length);
  patches.forEach((_, i) => {
    const [x, y, halfWidth, halfHeight] = boxes.subarray(4 * i, 4 * i + 4);
    const inside = (at: number, count: number): number => Math.min(count - 1, Math.max(0, Math.floor(at * count)));
    const [row, column] = [inside(y, rows), inside(x, columns)];
    patches[i] = row * columns + column;
    seen.set(
      [x * columns - column - 0.5, y * rows - row - 0.5, Math.log(halfWidth * columns), Math.log(halfHeight * rows)],
      4 * i,
    );
  });
  return { patches, boxes: seen };
}

/** Of every moment the box that the surest patch tells, in shares of the frame, one after the other. */
function bestBoxes(
  { shape: [count, moments, each], data: sure }: HostTensor<'float32'>,
  { data: said }: HostTensor<'float32'>,
  [rows, columns]: readonly [number, number],
): number[] {
  return Array.from({ length: count * moments }, (_, i) => {
    const scores = sure.subarray(i * each, (i + 1) * each);
    const best = scores.indexOf(Math.max(...scores));
    const [dx, dy, logWidth, logHeight] = said.subarray((i * each + best) * 4, (i * each + best + 1) * 4);
    const [row, column] = [Math.floor(best / columns), best % columns];
    return [
      (column + 0.5 + dx) / columns,
      (row + 0.5 + dy) / rows,
      Math.exp(logWidth) / columns,
      Math.exp(logHeight) / rows,
    ];
  }).flat();
}

/** The mean box, `length` numbers of it. */
function usualBoxes(boxes: Float32Array, length: number): Float32Array {
  const usual = new Float64Array(4);
  boxes.forEach((value, i) => {
    usual[i % 4] += (4 * value) / boxes.length;
  });
  return Float32Array.from({ length }, (_, i) => usual[i % 4]);
}
