import { createRandom } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type ImageDataset, type RawImage, subset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { resizeBytes } from '../data/resample.js';
import type { TransformInput } from '../data/transforms.js';
import { input } from '../graph/tensor.js';
import { sampleMultiBlock2d } from '../masking/multiblock2d.js';
import type { Encoder } from '../methods/method.js';
import { type AttentionMaps, type FeatureMap, featureMaps, type MaskFigure, type ViewRow } from '../report/index.js';
import type { Engine, State } from '../runtime/index.js';
import { trainingViews } from '../train/build.js';
import type { Config } from '../train/config.js';

/** Pictures of a report that are made with the data and the encoder: views, masks, feature maps, attention. */

/** Indices of `count` images evenly spread over a data set. */
export const spread = (dataset: ImageDataset, count: number): Int32Array =>
  Int32Array.from({ length: Math.min(count, dataset.length) }, (_, i) =>
    Math.floor((i * dataset.length) / Math.min(count, dataset.length)),
  );

/** Images of which at most one side is longer than `side` pixels: thousands of photographs would not fit into memory. */
export async function smallImages(dataset: ImageDataset, indices: ArrayLike<number>, side = 96): Promise<RawImage[]> {
  const images: RawImage[] = [];
  for (const index of Array.from(indices)) {
    const image = await dataset.read(index);
    const factor = side / Math.min(image.width, image.height);
    const size = (length: number): number => Math.max(1, Math.round(length * factor));
    images.push(factor < 1 ? resizeBytes(image, size(image.width), size(image.height), 'bilinear') : image);
  }
  return images;
}

/** Views [images, count, channels, height, width] of some images, made by transforms. */
export async function viewsOf(
  dataset: ImageDataset,
  indices: ArrayLike<number>,
  views: readonly { readonly count: number; readonly transforms: readonly TransformInput[] }[],
): Promise<readonly HostTensor<'float32'>[]> {
  const some = subset(dataset, indices);
  const loader = await createLoader(some, {
    batchSize: some.length,
    views,
    shuffle: false,
    dropLast: false,
    threads: 0,
  });
  try {
    return (await loader.next())?.images ?? [];
  } finally {
    await loader.close();
  }
}

/** One view of each of some images, as bytes again: what an encoder sees. */
export function displayed({ shape, data }: HostTensor<'float32'>, transforms: readonly TransformInput[]): RawImage[] {
  const [images, count, channels, height, width] = shape;
  const normalisation = transforms.find((step) => step.kind === 'normalize');
  const of = (values: readonly number[] | undefined, channel: number, otherwise: number): number =>
    values?.[values.length === 1 ? 0 : channel] ?? otherwise;
  const pixels = height * width;
  return Array.from({ length: images * count }, (_, i) => {
    const bytes = new Uint8Array(pixels * channels);
    for (let c = 0; c < channels; c++) {
      const [mean, std] = [of(normalisation?.mean, c, 0), of(normalisation?.std, c, 1)];
      for (let p = 0; p < pixels; p++) {
        const value = data[(i * channels + c) * pixels + p] * std + mean;
        bytes[p * channels + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
      }
    }
    return { width, height, channels, data: bytes };
  });
}

/** What the context encoder saw and the predictor was asked for, on views as in training. */
export async function maskFigure(
  config: Config,
  dataset: ImageDataset,
  grid: readonly [number, number],
  count = 6,
): Promise<MaskFigure | undefined> {
  if (config.method.name !== 'ijepa') return undefined;
  const [transforms] = trainingViews(config, 1);
  const [views] = await viewsOf(dataset, spread(dataset, count), [{ count: 1, transforms }]);
  const images = displayed(views, transforms);
  const random = createRandom(config.train.seed, 'masks of the report');
  const draws = { sizes: random.split('sizes'), places: random.split('places') };
  const { context, target } = sampleMultiBlock2d({ ...config.method.masks, grid }, images.length, draws);
  const [, contexts, kept] = context.shape;
  const [, blocks, hidden] = target.shape;
  return {
    rows: grid[0],
    columns: grid[1],
    samples: images.map((image, i) => ({
      image,
      context: context.data.subarray(i * contexts * kept, (i * contexts + 1) * kept),
      targets: Array.from({ length: blocks }, (_, b) =>
        target.data.subarray((i * blocks + b) * hidden, (i * blocks + b + 1) * hidden),
      ),
    })),
  };
}

/** Images and the views that training makes of them. */
export async function viewRows(
  config: Config,
  dataset: ImageDataset,
  kinds: readonly number[],
  count = 6,
): Promise<ViewRow[]> {
  const indices = spread(dataset, count);
  const images = await smallImages(dataset, indices);
  const transforms = trainingViews(config, kinds.length);
  // A method of one view shows how differently it comes out.
  const counts = kinds.length === 1 && kinds[0] === 1 ? [4] : kinds;
  const made = await viewsOf(
    dataset,
    indices,
    counts.map((views, kind) => ({ count: views, transforms: transforms[kind] })),
  );
  const shown = made.map((views, kind) => displayed(views, transforms[kind]));
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

/** Patch features of some images as colours, and attention of the last block where the encoder has any. */
export async function insideViews(
  engine: Engine,
  state: State,
  encoder: Encoder,
  dataset: ImageDataset,
  transforms: readonly TransformInput[],
  count = 8,
): Promise<InsideViews> {
  const [rows, columns] = encoder.grid;
  if (rows * columns < 4) return {};
  const [views] = await viewsOf(dataset, spread(dataset, count), [{ count: 1, transforms }]);
  const images = displayed(views, transforms);
  const seen = input('images', ['batch', encoder.channels, ...encoder.imageSize]);
  const attention = encoder.attention?.(seen);
  const program = await engine.compile(
    { name: 'inside', outputs: { tokens: encoder.tokens(seen), ...(attention && { attention }) } },
    state,
  );
  const [n, , ...size] = views.shape;
  const { outputs } = await program.run({ images: float32([n, ...size], views.data) });
  await program.close();
  return {
    featureMaps: featureMaps(images, outputs.tokens as HostTensor<'float32'>, { rows, columns }),
    attention:
      attention && attentionMaps(images.slice(0, 6), outputs.attention as HostTensor<'float32'>, rows, columns),
  };
}

/** Attention [images, heads, queries, keys] -> what every patch receives, averaged over queries. */
function attentionMaps(
  images: readonly RawImage[],
  { shape, data }: HostTensor<'float32'>,
  rows: number,
  columns: number,
): AttentionMaps[] {
  const [, heads, queries, keys] = shape;
  return images.map((image, i) => ({
    image,
    maps: Array.from({ length: Math.min(heads, HEADS) }, (_, head) => {
      const values = new Float64Array(keys);
      for (let q = 0; q < queries; q++) {
        const row = ((i * heads + head) * queries + q) * keys;
        for (let k = 0; k < keys; k++) values[k] += data[row + k] / queries;
      }
      return { name: `head ${head + 1}`, rows, columns, values };
    }),
  }));
}
