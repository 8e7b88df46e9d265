/** Neighbourhood operations on channel-first floats ([channels, height, width], in place). */

export interface Plane {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** Grows as needed and is kept; nothing here waits, so one caller uses it at a time. */
let copy = new Float32Array(0);
let line = new Float32Array(0);

function copyOf(data: Float32Array): Float32Array {
  if (copy.length < data.length) copy = new Float32Array(data.length);
  copy.set(data);
  return copy;
}

/** Gaussian at whole numbers from -radius to radius, adding up to 1. `size` = 2 radius + 1. */
export function gaussianKernel(size: number, sigma: number): Float64Array {
  const radius = (size - 1) / 2;
  const values = Float64Array.from({ length: size }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const sum = values.reduce((total, value) => total + value, 0);
  return values.map((value) => value / sum);
}

/** Position in 0..n-1 after reflecting at both ends without repeating the edge. */
function reflect(i: number, n: number): number {
  if (n === 1) return 0;
  const period = 2 * (n - 1);
  const k = ((i % period) + period) % period;
  return k < n ? k : period - k;
}

/** Gaussian blur with a kernel of `size` x `size` (odd), reflecting at the edges, as torchvision's on tensors. */
export function gaussianBlur(
  data: Float32Array,
  { channels, height, width }: Plane,
  size: number,
  sigma: number,
): void {
  // Beyond six standard deviations the kernel is below 2e-8: nothing a float32 of 0..1 would notice.
  const radius = Math.min((size - 1) / 2, Math.ceil(6 * sigma));
  const kernel = gaussianKernel(2 * radius + 1, sigma);
  const padded = width + 2 * radius;
  if (line.length < padded) line = new Float32Array(padded);
  const row = line;
  for (let y = 0; y < channels * height; y++) {
    const from = y * width;
    for (let x = -radius; x < width + radius; x++)
      row[x + radius] = data[from + (x >= 0 && x < width ? x : reflect(x, width))];
    for (let x = 0; x < width; x++) {
      let sum = kernel[radius] * row[x + radius];
      // The kernel is symmetric: one product for each pair of taps.
      for (let k = 0; k < radius; k++) sum += kernel[k] * (row[x + k] + row[x + 2 * radius - k]);
      data[from + x] = sum;
    }
  }
  const source = copyOf(data);
  for (let c = 0; c < channels; c++) {
    const plane = c * height * width;
    for (let y = 0; y < height; y++) {
      const to = plane + y * width;
      for (let x = 0; x < width; x++) data[to + x] = kernel[radius] * source[to + x];
      for (let k = 0; k < radius; k++) {
        const weight = kernel[k];
        const above = plane + reflect(y + k - radius, height) * width;
        const below = plane + reflect(y + radius - k, height) * width;
        for (let x = 0; x < width; x++) data[to + x] += weight * (source[above + x] + source[below + x]);
      }
    }
  }
}

/**
 * Thickens (`dilate`, the largest of the 3 x 3 neighbours) or thins (`erode`, the smallest) bright strokes, mixed with
 * the image by `strength` 0..1. Neighbours outside of the image do not count.
 */
export function stroke(
  data: Float32Array,
  { channels, height, width }: Plane,
  mode: 'dilate' | 'erode',
  strength: number,
): void {
  const sign = mode === 'dilate' ? 1 : -1;
  const source = copyOf(data);
  // Largest of three along the rows first, in place of `data`, then along the columns.
  for (let y = 0; y < channels * height; y++) {
    const row = y * width;
    for (let x = 0; x < width; x++) {
      let best = sign * source[row + x];
      if (x > 0) best = Math.max(best, sign * source[row + x - 1]);
      if (x + 1 < width) best = Math.max(best, sign * source[row + x + 1]);
      data[row + x] = best;
    }
  }
  for (let c = 0; c < channels; c++) {
    const plane = c * height * width;
    for (let x = 0; x < width; x++) {
      let above = -Infinity;
      for (let y = 0, at = plane + x; y < height; y++, at += width) {
        const here = data[at];
        const below = y + 1 < height ? data[at + width] : -Infinity;
        const best = sign * Math.max(above, here, below);
        data[at] = source[at] + strength * (best - source[at]);
        above = here;
      }
    }
  }
}

/** A 3 x 3 mean (zeros outside), then (mean - threshold) * gain + 0.5 cut to 0..1: a low threshold thickens bright strokes. */
export function thickness(
  data: Float32Array,
  { channels, height, width }: Plane,
  threshold: number,
  gain: number,
): void {
  const blurred = new Float32Array(height * width);
  for (let c = 0; c < channels; c++) {
    const plane = data.subarray(c * height * width, (c + 1) * height * width);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) sum += plane[v * width + u];
        }
        blurred[y * width + x] = Math.min(1, Math.max(0, (sum / 9 - threshold) * gain + 0.5));
      }
    }
    plane.set(blurred);
  }
}

/** Sets a rectangle of all channels to `fill`; parts outside of the image are ignored. */
export function fillBox(
  data: Float32Array,
  { channels, height, width }: Plane,
  left: number,
  top: number,
  boxWidth: number,
  boxHeight: number,
  fill: number,
): void {
  const x0 = Math.max(0, left);
  const x1 = Math.min(width, left + boxWidth);
  for (let c = 0; c < channels; c++) {
    for (let y = Math.max(0, top); y < Math.min(height, top + boxHeight); y++) {
      data.fill(fill, (c * height + y) * width + x0, (c * height + y) * width + Math.max(x0, x1));
    }
  }
}

/** Mirrors left and right. */
export function flipHorizontal(data: Float32Array, { width }: Plane): void {
  for (let row = 0; row < data.length; row += width) data.subarray(row, row + width).reverse();
}
