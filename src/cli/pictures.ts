import { JepaError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import { createRandom } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { type Dataset, type ImageDataset, type RawImage, subset } from '../data/dataset.js';
import { createLoader, type ViewOptions } from '../data/loader.js';
import { modalityOf } from '../data/plans.js';
import type { Fields } from '../data/preparation.js';
import { resizeBytes } from '../data/resample.js';
import { encoderInputs } from '../methods/method.js';
import {
  type AttentionMaps,
  type FeatureMap,
  featureMaps,
  type MaskFigure,
  type Picture,
  type ViewRow,
} from '../report/index.js';
import { lookOf, type TokenLayout, wordsOfTokens } from '../report/looks.js';
import type { Engine, State } from '../runtime/index.js';
import { trainingPreparations } from '../train/build.js';
import type { Config } from '../train/config.js';
import { feedsOf } from '../train/features.js';
import type { FrozenEncoder } from '../train/frozen.js';
import type { TrainResult } from '../train/loop.js';

/** Pictures of a report that are made with the data and the encoder: views, masks, feature maps, attention. */

/** Samples evenly spread over a data set; in the place of one that cannot be read (training has named it) comes the next that can. */
async function readableSpread(dataset: Dataset, count: number): Promise<Int32Array> {
  const chosen = new Set<number>();
  const free = async (index: number): Promise<boolean> => {
    if (chosen.has(index)) return false;
    try {
      await dataset.read(index);
      return true;
    } catch (error) {
      if (error instanceof JepaError) return false;
      throw error;
    }
  };
  for (const start of evenly(dataset.length, count)) {
    let index = start;
    for (let tried = 0; tried < dataset.length && !(await free(index)); tried++) index = (index + 1) % dataset.length;
    chosen.add(index);
  }
  return Int32Array.from(chosen);
}

/** Longest shorter side of a thumbnail: thousands of photographs would not fit into memory. */
const THUMBNAIL = 96;

/** Small pictures of samples: of images the images themselves, of others what an encoder sees. */
export async function thumbnails(
  dataset: Dataset,
  indices: ArrayLike<number>,
  { encoder, preparation }: FrozenEncoder,
): Promise<Picture[]> {
  const pictures: Picture[] = [];
  if (modalityOf(preparation) === 'image') {
    for (const index of Array.from(indices)) pictures.push(small(await (dataset as ImageDataset).read(index)));
    return pictures;
  }
  const look = lookOf(preparation, encoder.grid, dataset);
  const chosen = Array.from(indices);
  for (let from = 0; from < chosen.length; from += THUMBNAILS) {
    const [fields] = await viewsOf(dataset, chosen.slice(from, from + THUMBNAILS), [preparation]);
    for (const picture of look.pictures(fields)) pictures.push(typeof picture === 'string' ? picture : small(picture));
  }
  return pictures;
}

/** Samples that are prepared at a time. */
const THUMBNAILS = 64;

function small(image: RawImage): RawImage {
  const factor = THUMBNAIL / Math.min(image.width, image.height);
  const size = (length: number): number => Math.max(1, Math.round(length * factor));
  return factor < 1 ? resizeBytes(image, size(image.width), size(image.height), 'bilinear') : image;
}

/** Views of some samples, for each kind its fields, [samples x count, ...]. */
export async function viewsOf(
  dataset: Dataset,
  indices: ArrayLike<number>,
  views: readonly ViewOptions[],
): Promise<readonly Fields[]> {
  const batch = await oneBatch(dataset, indices, views);
  return batch.map((fields) =>
    Object.fromEntries(
      Object.entries(fields).map(
        ([
          name,
          {
            shape: [samples, count, ...rest],
            ...tensor
          },
        ]) => [name, { ...tensor, shape: [samples * count, ...rest] }],
      ),
    ),
  );
}

/** A batch of some samples, as the loader gives it. */
async function oneBatch(
  dataset: Dataset,
  indices: ArrayLike<number>,
  views: readonly ViewOptions[],
): Promise<readonly Fields[]> {
  const some = subset(dataset, indices);
  const loader = await createLoader(some, {
    batchSize: some.length,
    views,
    shuffle: false,
    dropLast: false,
    threads: 0,
  });
  try {
    return (await loader.next())?.views ?? [];
  } finally {
    await loader.close();
  }
}

/** What the context encoder saw and the predictor was asked for, on views as in training. */
export async function maskFigure(
  config: Config,
  { method, facts }: Pick<TrainResult, 'method' | 'facts'>,
  dataset: Dataset,
  count = 6,
): Promise<MaskFigure | undefined> {
  if (!method.masks) return undefined;
  const preparations = trainingPreparations(config, facts, method.views.length);
  const kinds = method.views.map((views, kind) => ({ count: views, ...preparations[kind] }));
  const batch = await oneBatch(dataset, await readableSpread(dataset, count), kinds);
  const hidden = method.masks(method.feeds({ views: batch }, createRandom(config.train.seed, 'masks of the report')));
  const [preparation] = preparations;
  const look = lookOf(preparation, method.encoder.grid, dataset);
  const fields = firstViews(batch[0]);
  if (preparation.kind === 'text') {
    const words = wordsOfTokens(preparation.tokenizer, fields);
    return { rows: 1, columns: words[0].length, samples: hidden.map((sample, i) => ({ image: words[i], ...sample })) };
  }
  if (!look.layout) return undefined;
  const { rows, columns, cells } = look.layout;
  const pictures = look.planes?.(fields) ?? (look.pictures(fields) as RawImage[]);
  return {
    rows,
    columns,
    samples: pictures.map((image, i) => ({
      image,
      context: hidden[i].context.map((token) => cells[token]),
      targets: hidden[i].targets.map((block) => block.map((token) => cells[token])),
    })),
  };
}

/** The first view of each sample: [samples, count, ...] -> [samples, ...]. */
function firstViews(fields: Fields): Fields {
  const entries = Object.entries(fields).map(
    ([
      name,
      {
        dtype,
        shape: [samples, count, ...rest],
        data,
      },
    ]) => {
      const size = data.length / (samples * count);
      const first = new (data.constructor as typeof Float32Array)(samples * size);
      for (let i = 0; i < samples; i++) first.set(data.subarray(i * count * size, (i * count + 1) * size), i * size);
      return [name, { dtype, shape: [samples, ...rest], data: first }];
    },
  );
  return Object.fromEntries(entries) as Fields;
}

/** Samples and the views that training makes of them. */
export async function viewRows(
  config: Config,
  { method, facts }: Pick<TrainResult, 'method' | 'facts'>,
  dataset: Dataset,
  frozen: FrozenEncoder,
  count = 6,
): Promise<ViewRow[]> {
  const kinds = method.views;
  const indices = await readableSpread(dataset, count);
  const images = await thumbnails(dataset, indices, frozen);
  const preparations = trainingPreparations(config, facts, kinds.length);
  // A method of one view shows how differently it comes out.
  const counts = kinds.length === 1 && kinds[0] === 1 ? [4] : kinds;
  const made = await viewsOf(
    dataset,
    indices,
    counts.map((views, kind) => ({ count: views, ...preparations[kind] })),
  );
  const shown = made.map((views, kind) => lookOf(preparations[kind], method.encoder.grid, dataset).pictures(views));
  return images.map((image, i) => ({
    image,
    views: shown.flatMap((views, kind) => views.slice(i * counts[kind], (i + 1) * counts[kind])),
  }));
}

export interface InsideViews {
  readonly featureMaps?: readonly FeatureMap[];
  readonly attention?: readonly AttentionMaps[];
}

/** Heads that are shown one by one. */
const HEADS = 4;

/** Token features of some samples as colours, and attention of the last block where the encoder has any. */
export async function insideViews(
  engine: Engine,
  state: State,
  frozen: FrozenEncoder,
  dataset: Dataset,
  count = 8,
): Promise<InsideViews> {
  const { encoder, preparation } = frozen;
  const look = lookOf(preparation, encoder.grid, dataset);
  const { layout } = look;
  if (!layout || layout.cells.length < 4) return {};
  const [fields] = await viewsOf(dataset, await readableSpread(dataset, count), [preparation]);
  const images = look.planes?.(fields) ?? look.pictures(fields);
  const seen = encoderInputs(encoder);
  const attention = encoder.attention?.(seen);
  const program = await engine.compile(
    { name: 'inside', outputs: { tokens: encoder.tokens(seen), ...(attention && { attention }) } },
    state,
  );
  const { outputs } = await program.run(feedsOf(frozen, fields));
  await program.close();
  return {
    featureMaps: featureMaps(images, outputs.tokens as HostTensor<'float32'>, layout),
    attention: attention && attentionMaps(images.slice(0, 6), outputs.attention as HostTensor<'float32'>, layout),
  };
}

/** Attention [samples, heads, queries, keys] -> what every token receives, averaged over queries. */
function attentionMaps(
  images: readonly Picture[],
  { shape, data }: HostTensor<'float32'>,
  { rows, columns, cells }: TokenLayout,
): AttentionMaps[] {
  const [, heads, queries, keys] = shape;
  return images.map((image, i) => ({
    image,
    maps: Array.from({ length: Math.min(heads, HEADS) }, (_, head) => {
      const values = new Float64Array(rows * columns);
      for (let q = 0; q < queries; q++) {
        const row = ((i * heads + head) * queries + q) * keys;
        for (let k = 0; k < keys; k++) values[cells[k]] += data[row + k] / queries;
      }
      return { name: `head ${head + 1}`, rows, columns, values };
    }),
  }));
}
