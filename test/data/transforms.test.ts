import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import {
  adjustBrightness,
  adjustContrast,
  adjustHue,
  adjustSaturation,
  normalize,
  solarize,
  toGrey,
} from '../../src/data/color.js';
import { flipHorizontal, gaussianBlur, gaussianKernel, stroke } from '../../src/data/filters.js';
import { applyTransforms, randomCropBox } from '../../src/data/pipeline.js';
import {
  evaluationTransforms,
  ijepaTransforms,
  parseTransforms,
  type TransformInput,
  transformedSize,
} from '../../src/data/transforms.js';
import { affineWarp, splineField, warp } from '../../src/data/warp.js';
import { largestDifference, readValues, root } from './fixtures.js';

const folder = join(root, 'test', 'golden', 'ssl');
const values = readValues(join(folder, 'augment.safetensors'));
const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as {
  // biome-ignore lint/suspicious/noExplicitAny: configurations of many shapes
  cases: { name: string; config: any; expected: Record<string, { atol: number }> }[];
};
const caseOf = (name: string) => cases.find((one) => one.name === name)!;

/** An array [height, width, channels] as channel-first floats, bytes scaled to 0..1. */
function planar(key: string): Float32Array {
  const { shape, data } = values.get(key)!;
  const [height, width, channels = 1] = shape;
  const scale = key.includes('input.image') || key.endsWith('horizontal') ? 255 : 1;
  const out = new Float32Array(data.length);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < channels; c++) out[c * height * width + i] = data[i * channels + c] / scale;
  }
  return out;
}
const plane = { channels: 3, height: 17, width: 23 };

describe('colour and blur against torchvision', () => {
  function check(name: string, output: string, change: (data: Float32Array) => void): void {
    const data = planar(`${name}/input.image`);
    change(data);
    const difference = largestDifference(data, planar(`${name}/${output}`));
    const { atol = 0 } = caseOf(name).expected[output];
    assert.ok(difference <= atol, `${name} ${output}: ${difference}`);
  }
  for (const [name, adjust] of Object.entries({
    brightness: (data: Float32Array, factor: number) => adjustBrightness(data, factor),
    contrast: (data: Float32Array, factor: number) => adjustContrast(data, 3, factor),
    saturation: (data: Float32Array, factor: number) => adjustSaturation(data, 3, factor),
  })) {
    it(name, () => {
      const factors = caseOf(`jitter.${name}`).config.factors as number[];
      for (const [i, factor] of factors.entries())
        check(`jitter.${name}`, `out.float${i}`, (data) => adjust(data, factor));
    });
  }
  it('hue', () => {
    const shifts = caseOf('jitter.hue').config.shifts as number[];
    for (const [i, shift] of shifts.entries())
      check('jitter.hue', `out.float${i}`, (data) => adjustHue(data, 3, shift));
  });
  it('a sequence', () => {
    const { order, brightness, contrast, saturation, hue } = caseOf('jitter.sequence').config;
    check('jitter.sequence', 'out.float', (data) => {
      for (const which of order) {
        if (which === 0) adjustBrightness(data, brightness);
        else if (which === 1) adjustContrast(data, 3, contrast);
        else if (which === 2) adjustSaturation(data, 3, saturation);
        else adjustHue(data, 3, hue);
      }
    });
  });
  it('grey', () => {
    const data = planar('grayscale/input.image');
    toGrey(data, 3);
    const wanted = planar('grayscale/out.float');
    for (let c = 0; c < 3; c++) assert.ok(largestDifference(data.subarray(c * 391, (c + 1) * 391), wanted) <= 2e-6);
  });
  it('flip, solarise, normalise', () => {
    check('flip', 'out.horizontal', (data) => flipHorizontal(data, plane));
    check('solarize', 'out.float', (data) => solarize(data, caseOf('solarize').config.threshold / 255));
    const data = planar('normalize/input.image');
    const { mean, std } = caseOf('normalize').config;
    normalize(data, 3, mean, std);
    assert.ok(largestDifference(data, values.get('normalize/out.chw')!.data) <= 2e-6);
  });
  it('Gaussian blur', () => {
    for (const [i, [size, sigma]] of (caseOf('blur.torchvision').config.kernel_and_sigma as number[][]).entries()) {
      assert.ok(
        largestDifference(gaussianKernel(size, sigma), values.get(`blur.torchvision/out.kernel${i}`)!.data) <= 2e-6,
      );
      check('blur.torchvision', `out.blur${i}`, (data) => gaussianBlur(data, plane, size, sigma));
    }
  });
});

describe('random resized crop', () => {
  it('makes the boxes of torchvision from the same draws', () => {
    const { conf } = caseOf('rrc.boxes').config as { conf: { scale: [number, number]; ratio: [number, number] }[] };
    const draws = values.get('rrc.boxes/input.area_fraction_and_aspect')!;
    const meta = values.get('rrc.boxes/input.meta')!;
    const boxes = values.get('rrc.boxes/out.box')!;
    let fallbacks = 0;
    for (let i = 0; i < boxes.shape[0]; i++) {
      const [height, width, which, accepted, top, left] = meta.data.slice(6 * i, 6 * i + 6);
      const { scale, ratio } = conf[which];
      let draw = 0;
      const offsets = [top, left];
      const box = randomCropBox(width, height, scale, ratio, {
        uniform() {
          const value = draws.data[20 * i + draw];
          // The recorded value is f or the aspect; what makes it is a uniform number.
          return draw++ % 2 === 0
            ? (value - scale[0]) / (scale[1] - scale[0])
            : Math.log(value / ratio[0]) / Math.log(ratio[1] / ratio[0]);
        },
        integer: () => offsets.shift()!,
      });
      assert.deepEqual([box.top, box.left, box.height, box.width], boxes.data.slice(4 * i, 4 * i + 4), `box ${i}`);
      assert.equal(draw, accepted < 0 ? 20 : 2 * (accepted + 1));
      if (accepted < 0) fallbacks++;
    }
    assert.ok(fallbacks > 0);
  });

  it('covers areas and places evenly', () => {
    const random = createRandom(3);
    let area = 0;
    let centre = 0;
    for (let i = 0; i < 4000; i++) {
      const box = randomCropBox(100, 100, [0.2, 0.6], [1, 1], random);
      area += (box.width * box.height) / 10_000 / 4000;
      centre += (box.left + box.width / 2) / 100 / 4000;
    }
    assert.ok(Math.abs(area - 0.4) < 0.01 && Math.abs(centre - 0.5) < 0.01, `${area} ${centre}`);
  });
});

describe('warps', () => {
  const size = { channels: 2, height: 9, width: 11 };
  const image = Float32Array.from({ length: 2 * 99 }, (_, i) => Math.sin(i * 1.7) ** 2);
  const at = (c: number, y: number, x: number, fill: number) =>
    x >= 0 && y >= 0 && x < 11 && y < 9 ? image[c * 99 + y * 11 + x] : fill;

  it('an affine map: every output pixel found by inverting the forward map', () => {
    for (const [rotate, shear, sx, sy, tx, ty, fill] of [
      [0, 0, 1, 1, 0, 0, 0],
      [30, 0, 1, 1, 0, 0, 0],
      [-17, 12, 0.8, 1.3, 1.4, -0.6, 0.25],
      [135, -25, 1.5, 0.7, -3, 2.5, 1],
    ]) {
      const out = new Float32Array(image.length);
      warp(image, size, affineWarp(rotate, shear, sx, sy, tx, ty), fill, out);
      const r = (rotate * Math.PI) / 180;
      const k = Math.tan((shear * Math.PI) / 180);
      // Forward, y down: rotate clockwise after an italic shear after scaling.
      const forward = (x: number, y: number) => {
        const [u, v] = [sx * x - k * sy * y, sy * y];
        return [Math.cos(r) * u - Math.sin(r) * v + tx, Math.sin(r) * u + Math.cos(r) * v + ty];
      };
      const [fx, fy, f0] = [forward(1, 0), forward(0, 1), forward(0, 0)];
      const [a, c] = [fx[0] - f0[0], fx[1] - f0[1]];
      const [b, d] = [fy[0] - f0[0], fy[1] - f0[1]];
      const det = a * d - b * c;
      for (let y = 0; y < 9; y++) {
        for (let x = 0; x < 11; x++) {
          const [u, v] = [x - 5 - f0[0], y - 4 - f0[1]];
          const px = (d * u - b * v) / det + 5;
          const py = (a * v - c * u) / det + 4;
          const [x0, y0] = [Math.floor(px), Math.floor(py)];
          for (let ch = 0; ch < 2; ch++) {
            let sum = 0;
            for (const [dx, wx] of [
              [0, 1 - (px - x0)],
              [1, px - x0],
            ]) {
              for (const [dy, wy] of [
                [0, 1 - (py - y0)],
                [1, py - y0],
              ])
                sum += wx * wy * at(ch, y0 + dy, x0 + dx, fill);
            }
            assert.ok(Math.abs(out[ch * 99 + y * 11 + x] - sum) < 1e-5, `${rotate}: ${y}, ${x}`);
          }
        }
      }
    }
  });

  it('a quarter turn of a square moves pixels exactly', () => {
    const square = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
    const out = new Float32Array(9);
    warp(square, { channels: 1, height: 3, width: 3 }, affineWarp(90, 0, 1, 1, 0, 0), 0, out);
    assert.ok(largestDifference(out, [7, 4, 1, 8, 5, 2, 9, 6, 3]) < 1e-5);
    warp(square, { channels: 1, height: 3, width: 3 }, affineWarp(0, 0, 1, 1, 1, 0), 0, out);
    assert.deepEqual([...out], [0, 1, 2, 0, 4, 5, 0, 7, 8]);
  });

  it('a spline of equal control points is constant, and of a line is that line', () => {
    const cells = 3;
    const field = new Float32Array(2 * 99);
    const control = Array.from({ length: 72 }, (_, i) => (i < 36 ? 0.7 : (i % 6) - 1));
    splineField(control, cells, 9, 11, field);
    for (let i = 0; i < 99; i++) {
      assert.ok(Math.abs(field[i] - 0.7) < 1e-6);
      assert.ok(Math.abs(field[99 + i] - (((i % 11) + 0.5) * cells) / 11) < 1e-5);
    }
  });

  it('displacements move the source', () => {
    const elastic = new Float32Array(2 * 99).fill(1, 0, 99);
    const out = new Float32Array(image.length);
    warp(image, size, { ...affineWarp(0, 0, 1, 1, 0, 0), elastic }, 0.5, out);
    for (let y = 0; y < 9; y++)
      for (let x = 0; x < 11; x++) assert.ok(Math.abs(out[y * 11 + x] - at(0, y, x + 1, 0.5)) < 1e-6);
  });
});

describe('strokes', () => {
  it('dilates and erodes as the largest and smallest neighbour, by a part', () => {
    const image = Float32Array.from({ length: 60 }, (_, i) => Math.cos(i * i));
    for (const [mode, best] of [
      ['dilate', Math.max],
      ['erode', Math.min],
    ] as const) {
      const data = image.slice();
      stroke(data, { channels: 2, height: 5, width: 6 }, mode, 0.25);
      for (let i = 0; i < 60; i++) {
        const [c, y, x] = [Math.floor(i / 30), Math.floor(i / 6) % 5, i % 6];
        const near: number[] = [];
        for (let j = 0; j < 30; j++) {
          if (Math.abs(Math.floor(j / 6) - y) <= 1 && Math.abs((j % 6) - x) <= 1) near.push(image[c * 30 + j]);
        }
        assert.ok(Math.abs(data[i] - (0.75 * image[i] + 0.25 * best(...near))) < 1e-6);
      }
    }
  });
});

describe('pipelines', () => {
  const grey = { width: 8, height: 8, channels: 1, data: Uint8Array.from({ length: 64 }, (_, i) => i * 4) };
  const run = (steps: TransformInput[], seed = 1, image = grey, size = 64) => {
    const out = new Float32Array(size);
    applyTransforms(image, parseTransforms(steps), createRandom(seed), out);
    return out;
  };

  it('without steps gives bytes / 255, channel-first', () => {
    const rgb = { width: 2, height: 1, channels: 3, data: Uint8Array.of(0, 51, 102, 153, 204, 255) };
    assert.ok(largestDifference(run([], 1, rgb as never, 6), [0, 0.6, 0.2, 0.8, 0.4, 1]) < 1e-7);
  });

  it('the same draws give the same image, others another', () => {
    const steps: TransformInput[] = [
      { kind: 'randomResizedCrop', size: 8 },
      { kind: 'horizontalFlip' },
      { kind: 'colorJitter', brightness: 0.4, contrast: 0.4 },
      { kind: 'gaussianBlur' },
      { kind: 'solarize' },
      { kind: 'affine', rotate: 15, shear: 15, scale: [0.8, 1.2], stretch: 0.2, shift: 0.1, elastic: 0.03 },
      { kind: 'stroke' },
      { kind: 'cutout', count: 2 },
      { kind: 'noise', add: 0.1, multiply: 0.1 },
      { kind: 'normalize', mean: [0.5], std: [0.25] },
    ];
    const first = run(steps);
    assert.deepEqual(run(steps), first);
    assert.notDeepEqual(run(steps, 2), first);
    assert.ok(first.every((value) => Number.isFinite(value) && Math.abs(value) <= 2));
  });

  it('steps happen as often as they say', () => {
    const random = createRandom(5);
    const [flip] = parseTransforms([{ kind: 'horizontalFlip', p: 0.3 }]);
    const out = new Float32Array(64);
    let flips = 0;
    for (let i = 0; i < 3000; i++) {
      applyTransforms(grey, [flip], random, out);
      if (out[0] > 0) flips++;
    }
    // Five standard deviations of a binomial.
    assert.ok(Math.abs(flips - 900) < 5 * Math.sqrt(3000 * 0.3 * 0.7), String(flips));
  });

  it('cutout blanks a square of the size it says, noise has the spread it says', () => {
    const white = { ...grey, data: new Uint8Array(64).fill(128) };
    let blanked = 0;
    for (let seed = 0; seed < 400; seed++) {
      const holes = run([{ kind: 'cutout', p: 1, size: [0.25, 0.25] }], seed, white).filter(
        (value) => value === 0,
      ).length;
      assert.ok(holes <= 4, String(holes));
      blanked = Math.max(blanked, holes);
    }
    assert.equal(blanked, 4);
    let square = 0;
    for (let seed = 0; seed < 200; seed++)
      for (const value of run([{ kind: 'noise', add: 0.05 }], seed, white)) square += (value - 128 / 255) ** 2;
    assert.ok(Math.abs(Math.sqrt(square / 12_800) - 0.05) < 0.002);
  });

  it('knows the size that comes out', () => {
    const size = { width: 40, height: 30 };
    const of = (steps: TransformInput[], dataset = {}) => transformedSize(parseTransforms(steps), dataset);
    assert.deepEqual(of([], { size }), [30, 40]);
    assert.equal(of([]), undefined);
    assert.deepEqual(of(ijepaTransforms(224)), [224, 224]);
    assert.deepEqual(of(evaluationTransforms(224)), [224, 224]);
    assert.equal(of([{ kind: 'resize', size: 20, fit: 'shortEdge' }], { size }), undefined);
    assert.deepEqual(of([{ kind: 'resize', size: [5, 7] }]), [5, 7]);
  });

  it('survives JSON', () => {
    const steps = parseTransforms([...evaluationTransforms(64), { kind: 'affine', rotate: 5 }]);
    assert.deepEqual(parseTransforms(JSON.parse(JSON.stringify(steps))), steps);
  });

  it('says what is wrong with a list of steps, or with an image', () => {
    const bad = (steps: unknown[], message: RegExp) => assert.throws(() => parseTransforms(steps, 'views[0]'), message);
    bad([{ kind: 'rotate' }], /views\[0\]\[0\]: there is no transform "rotate", there are resize, centerCrop/);
    bad([{ kind: 'resize', size: 0 }], /views\[0\]\[0\]\.size \(resize\)/);
    bad([{ kind: 'horizontalFlip', probability: 1 }], /probability/);
    bad([{ kind: 'randomResizedCrop', size: 8, scale: [1, 0.5] }], /scale .*must not be above/);
    bad(
      [{ kind: 'grayscale' }, { kind: 'resize', size: 4 }],
      /\[1\]: resize works on bytes and must come before grayscale/,
    );
    bad(
      [
        { kind: 'randomResizedCrop', size: 8 },
        { kind: 'centerCrop', size: 4 },
      ],
      /must come before randomResizedCrop/,
    );
    assert.throws(
      () => run([{ kind: 'centerCrop', size: 9 }], 1, grey, 81),
      /centre crop of 9 x 9 does not fit into 8 x 8/,
    );
    assert.throws(() => run([], 1, grey, 63), /8 x 8 comes out as 8 x 8, not as large as the others/);
    assert.throws(() => run([{ kind: 'normalize', mean: [1, 2], std: [1] }]), /2 numbers for images of 1 channels/);
  });
});
