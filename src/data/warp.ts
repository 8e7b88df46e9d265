import type { Plane } from './filters.js';

/** Where each output pixel comes from: input = matrix * (output - centre - shift) + centre, in pixels. */
export interface Warp {
  /** [xx, xy, yx, yy] of the inverse map. */
  readonly matrix: readonly [number, number, number, number];
  /** Right and down, in pixels. */
  readonly shift: readonly [number, number];
  /** Displacement of every input position in pixels, [2 (x, y), height, width]. */
  readonly elastic?: Float32Array;
}

/**
 * The warp that scales and shears an image about its centre, then rotates it clockwise and shifts it. Angles in degrees; a
 * positive shear moves what lies below the centre to the left (an italic slant), as torchvision's first shear angle does.
 */
export function affineWarp(
  rotate: number,
  shear: number,
  scaleX: number,
  scaleY: number,
  shiftX: number,
  shiftY: number,
): Warp {
  const angle = (rotate * Math.PI) / 180;
  const lean = Math.tan((shear * Math.PI) / 180);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  // Forward: rotation * shear * scale, y pointing down. Backwards: undo the rotation, then the shear, then the scale.
  return {
    matrix: [(cos - lean * sin) / scaleX, (sin + lean * cos) / scaleX, -sin / scaleY, cos / scaleY],
    shift: [shiftX, shiftY],
  };
}

/** Warps channel-first floats with bilinear interpolation; what lies outside of the input counts as `fill`. */
export function warp(
  data: Float32Array,
  { channels, height, width }: Plane,
  { matrix, shift, elastic }: Warp,
  fill: number,
  out: Float32Array,
): void {
  const [xx, xy, yx, yy] = matrix;
  const centreX = (width - 1) / 2;
  const centreY = (height - 1) / 2;
  const pixels = height * width;
  for (let y = 0, to = 0; y < height; y++) {
    const dy = y - centreY - shift[1];
    let sourceX = xx * (-centreX - shift[0]) + xy * dy + centreX;
    let sourceY = yx * (-centreX - shift[0]) + yy * dy + centreY;
    for (let x = 0; x < width; x++, to++, sourceX += xx, sourceY += yx) {
      let px = sourceX;
      let py = sourceY;
      if (elastic) {
        px += elastic[to];
        py += elastic[pixels + to];
      }
      if (!(px > -1 && py > -1 && px < width && py < height)) {
        for (let at = to; at < channels * pixels; at += pixels) out[at] = fill;
        continue;
      }
      const x0 = Math.floor(px);
      const y0 = Math.floor(py);
      const fx = px - x0;
      const fy = py - y0;
      const at = y0 * width + x0;
      if (x0 >= 0 && y0 >= 0 && x0 + 1 < width && y0 + 1 < height) {
        for (let c = 0; c < channels; c++) {
          const from = c * pixels + at;
          const top = data[from] + fx * (data[from + 1] - data[from]);
          const bottom = data[from + width] + fx * (data[from + width + 1] - data[from + width]);
          out[c * pixels + to] = top + fy * (bottom - top);
        }
      } else {
        const left = x0 >= 0;
        const right = x0 + 1 < width;
        const above = y0 >= 0;
        const below = y0 + 1 < height;
        for (let c = 0; c < channels; c++) {
          const from = c * pixels + at;
          const a = left && above ? data[from] : fill;
          const b = right && above ? data[from + 1] : fill;
          const d = left && below ? data[from + width] : fill;
          const e = right && below ? data[from + width + 1] : fill;
          out[c * pixels + to] = (1 - fy) * (a + fx * (b - a)) + fy * (d + fx * (e - d));
        }
      }
    }
  }
}

/**
 * A smooth displacement field [2, height, width] from random numbers on a coarse grid: a uniform cubic B-spline with
 * `cells` x `cells` cells over the image. `control` is [2, cells + 3, cells + 3], in pixels.
 */
export function splineField(
  control: ArrayLike<number>,
  cells: number,
  height: number,
  width: number,
  out: Float32Array,
): void {
  const side = cells + 3;
  const across = splineWeights(cells, width);
  const down = splineWeights(cells, height);
  const wide = new Float32Array(side * width);
  for (let axis = 0; axis < 2; axis++) {
    const grid = axis * side * side;
    for (let row = 0; row < side; row++) {
      for (let x = 0; x < width; x++) {
        const from = grid + row * side + across.cell[x];
        let sum = 0;
        for (let k = 0; k < 4; k++) sum += across.weights[4 * x + k] * control[from + k];
        wide[row * width + x] = sum;
      }
    }
    for (let y = 0; y < height; y++) {
      const to = (axis * height + y) * width;
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let k = 0; k < 4; k++) sum += down.weights[4 * y + k] * wide[(down.cell[y] + k) * width + x];
        out[to + x] = sum;
      }
    }
  }
}

function splineWeights(cells: number, size: number): { cell: Int32Array; weights: Float64Array } {
  const cell = new Int32Array(size);
  const weights = new Float64Array(4 * size);
  for (let i = 0; i < size; i++) {
    const position = ((i + 0.5) * cells) / size;
    cell[i] = Math.min(cells - 1, Math.floor(position));
    const t = position - cell[i];
    const s = 1 - t;
    weights.set([s * s * s, 4 - 6 * t * t + 3 * t * t * t, 4 - 6 * s * s + 3 * s * s * s, t * t * t], 4 * i);
  }
  return { cell, weights: weights.map((weight) => weight / 6) };
}
