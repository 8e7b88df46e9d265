import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import type { RawImage } from './dataset.js';
import { applyTransforms, VIEW_PARAMETERS } from './pipeline.js';
import type { Transform } from './transforms.js';

/**
 * How batches are made; plain data, the same in the trainer's thread and in loader threads. This file does the work in
 * both, so a batch does not depend on where it is made.
 */
export interface BatchPlan {
  readonly seed: number;
  readonly channels: number;
  readonly length: number;
  readonly views: readonly ViewPlan[];
}

export interface ViewPlan {
  readonly count: number;
  readonly steps: readonly Transform[];
  readonly height: number;
  readonly width: number;
}

export interface BatchJob {
  readonly epoch: number;
  /** Wanted images. */
  readonly indices: Int32Array;
  /** Arrays of an earlier batch to be written over: fresh memory costs as much as an augmentation. */
  readonly memory?: readonly Float32Array[];
}

export interface MadeBatch {
  /** One array for each entry of `views`: [batch, count, channels, height, width]. */
  readonly images: Float32Array[];
  /** How each view was warped, one array for each entry of `views`: [batch, count, VIEW_PARAMETERS]. */
  readonly parameters: Float32Array[];
  /** Images used: those wanted, or the next readable one. */
  readonly indices: Int32Array;
  readonly corrupt: readonly CorruptImage[];
}

export interface CorruptImage {
  readonly index: number;
  readonly message: string;
}

type Read = (index: number) => RawImage | Promise<RawImage>;

/** Reads under way while the images before them are transformed. */
const READ_AHEAD = 4;

/**
 * Reads the images of a job in order, several at once, and hands each to `visit`. An image that cannot be read is replaced
 * by the next one (in the order of the data set) that can. Throws a `JepaError` if none can.
 */
export async function readImages(
  read: Read,
  length: number,
  wanted: Int32Array,
  visit: (position: number, image: RawImage, index: number) => void,
): Promise<CorruptImage[]> {
  const corrupt: CorruptImage[] = [];
  const started: (RawImage | Promise<RawImage>)[] = [];
  const start = (position: number) => {
    try {
      const image = read(wanted[position]);
      // A failure is met when its turn comes.
      if (image instanceof Promise) image.catch(() => undefined);
      started[position] = image;
    } catch (error) {
      started[position] = Promise.reject(error);
      (started[position] as Promise<RawImage>).catch(() => undefined);
    }
  };
  for (let position = 0; position < wanted.length; position++) {
    while (started.length < Math.min(wanted.length, position + READ_AHEAD)) start(started.length);
    let image: RawImage | undefined;
    let index = wanted[position];
    for (let tried = 0; !image; tried++) {
      if (tried === length)
        throw new JepaError(`none of the ${length} images can be read; the first: ${corrupt[0].message}`);
      try {
        const next = tried === 0 ? started[position] : read(index);
        image = next instanceof Promise ? await next : next;
      } catch (error) {
        corrupt.push({ index, message: (error as Error).message.split('\n', 1)[0] });
        index = (index + 1) % length;
      }
    }
    delete started[position];
    visit(position, image, index);
  }
  return corrupt;
}

/** The array of each entry of `views`, and a function that fills in the views of one image. */
export function startBatch(
  plan: BatchPlan,
  job: BatchJob,
): { images: Float32Array[]; parameters: Float32Array[]; transform: (position: number, image: RawImage) => void } {
  const sizes = plan.views.map(({ height, width }) => plan.channels * height * width);
  const images = plan.views.map(({ count }, v) => {
    const length = job.indices.length * count * sizes[v];
    return job.memory?.[v].length === length ? job.memory[v] : new Float32Array(length);
  });
  const parameters = plan.views.map(({ count }) => new Float32Array(job.indices.length * count * VIEW_PARAMETERS));
  const epoch = createRandom(plan.seed, 'views', job.epoch);
  const viewsOfImage = plan.views.reduce((sum, { count }) => sum + count, 0);
  const transform = (position: number, image: RawImage) => {
    if (image.channels !== plan.channels) {
      throw new JepaError(`an image has ${image.channels} channels where the data set says ${plan.channels}`);
    }
    // The generator follows the image that was wanted, so a replaced image does not disturb the others.
    let stream = job.indices[position] * viewsOfImage;
    for (const [v, { count, steps }] of plan.views.entries()) {
      for (let i = 0; i < count; i++) {
        const view = position * count + i;
        const at = view * sizes[v];
        const described = parameters[v].subarray(view * VIEW_PARAMETERS, (view + 1) * VIEW_PARAMETERS);
        applyTransforms(image, steps, epoch.split(stream++), images[v].subarray(at, at + sizes[v]), described);
      }
    }
  };
  return { images, parameters, transform };
}

/** Reads and transforms a whole batch in this thread. */
export async function makeBatch(read: Read, plan: BatchPlan, job: BatchJob): Promise<MadeBatch> {
  const { images, parameters, transform } = startBatch(plan, job);
  const indices = job.indices.slice();
  const corrupt = await readImages(read, plan.length, job.indices, (position, image, index) => {
    indices[position] = index;
    transform(position, image);
  });
  return { images, parameters, indices, corrupt };
}
