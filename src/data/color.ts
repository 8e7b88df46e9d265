/**
 * Colour operations on channel-first floats 0..1 ([channels, pixels], in place), as torchvision's on tensors
 * (specs/ssl-baselines.md 0.1, the float path). Grey images have one channel, for which grey is the image itself.
 */

const RED = 0.2989;
const GREEN = 0.587;
const BLUE = 0.114;

function clamp(value: number): number {
  return Math.min(1, Math.max(0, value));
}

/** Multiplies by `factor`. */
export function adjustBrightness(data: Float32Array, factor: number): void {
  for (let i = 0; i < data.length; i++) data[i] = clamp(data[i] * factor);
}

/** Mixes with the mean grey of the whole image. */
export function adjustContrast(data: Float32Array, channels: number, factor: number): void {
  const pixels = data.length / channels;
  let sum = 0;
  if (channels === 3) {
    for (let i = 0; i < pixels; i++) sum += RED * data[i] + GREEN * data[pixels + i] + BLUE * data[2 * pixels + i];
    sum /= pixels;
  } else {
    for (let i = 0; i < data.length; i++) sum += data[i];
    sum /= data.length;
  }
  const base = (1 - factor) * sum;
  for (let i = 0; i < data.length; i++) data[i] = clamp(data[i] * factor + base);
}

/** Mixes every pixel with its grey. */
export function adjustSaturation(data: Float32Array, channels: number, factor: number): void {
  if (channels !== 3) return;
  const pixels = data.length / 3;
  for (let i = 0; i < pixels; i++) {
    const r = data[i];
    const g = data[pixels + i];
    const b = data[2 * pixels + i];
    const base = (1 - factor) * (RED * r + GREEN * g + BLUE * b);
    data[i] = clamp(r * factor + base);
    data[pixels + i] = clamp(g * factor + base);
    data[2 * pixels + i] = clamp(b * factor + base);
  }
}

/** Turns the hue by `shift` of a full circle (-0.5 .. 0.5), keeping value and saturation of HSV. */
export function adjustHue(data: Float32Array, channels: number, shift: number): void {
  if (channels !== 3) return;
  const pixels = data.length / 3;
  for (let i = 0; i < pixels; i++) {
    const r = data[i];
    const g = data[pixels + i];
    const b = data[2 * pixels + i];
    const max = Math.max(r, g, b);
    const chroma = max - Math.min(r, g, b);
    if (chroma === 0) continue;
    let hue: number;
    if (max === r) hue = (g - b) / chroma;
    else if (max === g) hue = 2 + (b - r) / chroma;
    else hue = 4 + (r - g) / chroma;
    hue = (((hue + 6 * shift) % 6) + 6) % 6;
    // Each channel is max minus chroma times a trapezoid of the distance on the colour circle.
    data[i] = clamp(max - chroma * trapezoid(hue + 5));
    data[pixels + i] = clamp(max - chroma * trapezoid(hue + 3));
    data[2 * pixels + i] = clamp(max - chroma * trapezoid(hue + 1));
  }
}

function trapezoid(position: number): number {
  const k = position >= 6 ? position - 6 : position;
  return clamp(Math.min(k, 4 - k));
}

/** Replaces all channels by the grey. */
export function toGrey(data: Float32Array, channels: number): void {
  if (channels !== 3) return;
  const pixels = data.length / 3;
  for (let i = 0; i < pixels; i++) {
    const grey = RED * data[i] + GREEN * data[pixels + i] + BLUE * data[2 * pixels + i];
    data[i] = grey;
    data[pixels + i] = grey;
    data[2 * pixels + i] = grey;
  }
}

/** Inverts values of at least `threshold`. */
export function solarize(data: Float32Array, threshold: number): void {
  for (let i = 0; i < data.length; i++) if (data[i] >= threshold) data[i] = 1 - data[i];
}

/** Subtracts the mean of each channel and divides by its standard deviation; one value serves all channels. */
export function normalize(data: Float32Array, channels: number, mean: readonly number[], std: readonly number[]): void {
  const pixels = data.length / channels;
  for (let c = 0; c < channels; c++) {
    const offset = mean[mean.length === 1 ? 0 : c];
    const scale = 1 / std[std.length === 1 ? 0 : c];
    for (let i = c * pixels; i < (c + 1) * pixels; i++) data[i] = (data[i] - offset) * scale;
  }
}
