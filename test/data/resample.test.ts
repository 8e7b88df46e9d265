import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import type { RawImage } from '../../src/data/dataset.js';
import { applyTransforms } from '../../src/data/pipeline.js';
import { type Filter, resizeBytes, resizeToFloat, shortEdgeSize } from '../../src/data/resample.js';
import { parseTransforms, type TransformInput } from '../../src/data/transforms.js';
import { largestDifference, readValues, root, type Values } from './fixtures.js';

const area = (name: string) => join(root, 'test', 'golden', name);
const image = ({ shape, data }: Values): RawImage => ({
  height: shape[0],
  width: shape[1],
  channels: shape[2],
  data: Uint8Array.from(data),
});
/** [height, width, channels] to [channels, height, width]. */
const channelFirst = (data: ArrayLike<number>, channels: number) =>
  Array.from({ length: data.length }, (_, i) => {
    const pixels = data.length / channels;
    return data[(i % pixels) * channels + Math.floor(i / pixels)];
  });

interface ProcessorCase {
  readonly name: string;
  readonly kind: string;
  readonly file: string;
  readonly inputs: string[];
  readonly config: {
    readonly do_resize: boolean;
    readonly do_center_crop?: boolean;
    readonly do_normalize: boolean;
    readonly resample: number;
    readonly size: { height: number; width: number; shortest_edge?: number };
    readonly crop_size: { height: number; width: number };
    readonly image_mean: number[];
    readonly image_std: number[];
  };
  readonly strict: { readonly largest_level_difference: number; readonly share_of_differing_values: number };
}

describe('resizing and normalising as the Hugging Face image processors (strict)', () => {
  const { cases } = JSON.parse(readFileSync(join(area('hf-ijepa'), 'cases.json'), 'utf8')) as {
    cases: ProcessorCase[];
  };
  for (const { name, config, inputs, file, strict } of cases.filter(({ kind }) => kind === 'image_processor')) {
    const values = readValues(join(area('hf-ijepa'), file));
    const { size, crop_size: crop } = config;
    const filter = config.resample === 3 ? 'bicubic' : 'bilinear';
    const geometry: TransformInput[] = [];
    if (config.do_resize && size.shortest_edge)
      geometry.push({ kind: 'resize', size: size.shortest_edge, fit: 'shortEdge', filter });
    else if (config.do_resize) geometry.push({ kind: 'resize', size: [size.height, size.width], filter });
    if (config.do_center_crop) geometry.push({ kind: 'centerCrop', size: [crop.height, crop.width] });
    const normalise: TransformInput[] = config.do_normalize
      ? [{ kind: 'normalize', mean: config.image_mean, std: config.image_std }]
      : [];
    for (const input of inputs) {
      it(`${name} ${input}`, () => {
        const key = `${name.replace('preprocess/', '')}/${input.replace('image_', '')}`;
        const wanted = values.get(`${key}/resized`)!;
        const out = new Float32Array(wanted.data.length);
        const random = createRandom(0);
        applyTransforms(image(values.get(input)!), parseTransforms(geometry), random, out);
        const levels = out.map((value) => Math.round(value * 255));
        assert.ok(largestDifference(levels, wanted.data) <= strict.largest_level_difference);
        const differing = wanted.data.filter((value, i) => value !== levels[i]).length / levels.length;
        assert.ok(differing <= strict.share_of_differing_values, `${differing} of the values differ`);
        // Rescaling and normalising, given the right levels, is exact.
        const [channels, height, width] = wanted.shape;
        const pixels = height * width;
        const levelImage = {
          height,
          width,
          channels,
          data: Uint8Array.from(wanted.data, (_, i) => wanted.data[(i % channels) * pixels + Math.floor(i / channels)]),
        };
        applyTransforms(levelImage, parseTransforms(normalise), random, out);
        assert.ok(largestDifference(out, values.get(`${key}/pixel_values`)!.data) <= 2e-6);
      });
    }
  }
});

describe('resizing against Pillow and torch', () => {
  const values = readValues(join(area('ssl'), 'augment.safetensors'));
  const whole = image(values.get('resize.pillow/input.image')!);
  // From `config` of the cases: rows 2 to 12 and columns 3 to 17, to 8 x 8 and (all of these pixels) to 24 x 24.
  const [top, left, height, width] = [2, 3, 11, 15];
  const crop: RawImage = {
    width,
    height,
    channels: 3,
    data: Uint8Array.from(
      Array.from({ length: height }, (_, y) => {
        const from = ((top + y) * whole.width + left) * 3;
        return [...whole.data.subarray(from, from + width * 3)];
      }).flat(),
    ),
  };
  for (const filter of ['bilinear', 'bicubic'] as Filter[]) {
    for (const [way, size] of [
      ['down', 8],
      ['up', 24],
    ] as const) {
      it(`${filter} ${way}`, () => {
        const bytes = resizeBytes(crop, size, size, filter);
        assert.ok(largestDifference(bytes.data, values.get(`resize.pillow/out.${filter}_${way}`)!.data) <= 1);
        const out = new Float32Array(3 * size * size);
        resizeToFloat(whole, { left, top, width, height }, size, size, filter, out);
        const wanted = channelFirst(values.get(`resize.float/out.${filter}_${way}`)!.data, 3);
        assert.ok(largestDifference(out, wanted) <= 2e-6, String(largestDifference(out, wanted)));
      });
    }
  }

  it('one channel gives the same as each of three', () => {
    const three = new Float32Array(3 * 30);
    const one = new Float32Array(30);
    resizeToFloat(crop, { left: 1, top: 0, width: 9, height: 11 }, 5, 6, 'bicubic', three);
    const green = { width, height, channels: 1, data: crop.data.filter((_, i) => i % 3 === 1) };
    resizeToFloat(green, { left: 1, top: 0, width: 9, height: 11 }, 5, 6, 'bicubic', one);
    assert.deepEqual([...one], [...three.subarray(30, 60)]);
  });

  it('the shorter edge', () => {
    assert.deepEqual(shortEdgeSize({ width: 30, height: 20 }, 16), { width: 24, height: 16 });
    assert.deepEqual(shortEdgeSize({ width: 37, height: 53 }, 32), { width: 32, height: 45 });
  });
});
