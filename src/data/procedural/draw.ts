import type { Random } from '../../base/random.js';

/** Draws shapes into frames of bytes [size, size, channels], with smooth edges. Lengths are in pixels, colours 0..255. */

export const SHAPES = ['disc', 'square', 'triangle', 'diamond', 'cross', 'ring'] as const;
export const TEXTURES = ['plain', 'stripes', 'halves'] as const;
export const BACKGROUNDS = ['plain', 'gradient', 'stripes', 'squares', 'clouds'] as const;

/** Red, green, blue; of grey frames the mean. */
export type Color = readonly [number, number, number];

export interface Canvas {
  readonly data: Uint8Array;
  readonly size: number;
  readonly channels: number;
}

export interface Sprite {
  readonly shape: (typeof SHAPES)[number];
  readonly texture: (typeof TEXTURES)[number];
  readonly color: Color;
  /** Angle of shape and texture. */
  readonly turn: number;
}

/** Distance from the edge in units of the radius, negative inside; all shapes cover about the same area. */
function edge(shape: Sprite['shape'], u: number, v: number): number {
  switch (shape) {
    case 'disc':
      return Math.sqrt(u * u + v * v) - 0.85;
    case 'square':
      return Math.max(Math.abs(u), Math.abs(v)) - 0.75;
    case 'triangle':
      return Math.max(0.866 * Math.abs(u) - 0.5 * v, v) - 0.55;
    case 'diamond':
      return (Math.abs(u) + 0.72 * Math.abs(v)) / 1.232 - 0.58;
    case 'cross': {
      const [a, b] = [Math.abs(u), Math.abs(v)];
      return Math.min(Math.max(a - 0.95, b - 0.38), Math.max(b - 0.95, a - 0.38));
    }
    case 'ring':
      return Math.abs(Math.sqrt(u * u + v * v) - 0.72) - 0.28;
  }
}

/** How bright a part of a texture is. */
function brightness(texture: Sprite['texture'], u: number, v: number): number {
  if (texture === 'plain') return 1;
  return (texture === 'stripes' ? Math.sin(9 * u) : v) > 0 ? 1 : 0.6;
}

const channelOf = (color: Color, channel: number, channels: number) =>
  channels === 1 ? (color[0] + color[1] + color[2]) / 3 : color[channel];

/**
 * Draws a sprite about (x, y); radius in pixels. `wrap`: what leaves on one side comes in on the other.
 */
export function drawSprite(canvas: Canvas, sprite: Sprite, x: number, y: number, radius: number, wrap: boolean): void {
  const { data, size, channels } = canvas;
  const { shape, texture } = sprite;
  const colors = Array.from({ length: channels }, (_, c) => channelOf(sprite.color, c, channels));
  const [cos, sin] = [Math.cos(sprite.turn) / radius, Math.sin(sprite.turn) / radius];
  // Corners lie farther out than the radius.
  const reach = 1.15 * radius + 1;
  for (let row = Math.floor(y - reach); row <= Math.ceil(y + reach); row++) {
    if (!wrap && (row < 0 || row >= size)) continue;
    const line = modulo(row, size) * size;
    const dy = row + 0.5 - y;
    for (let column = Math.floor(x - reach); column <= Math.ceil(x + reach); column++) {
      if (!wrap && (column < 0 || column >= size)) continue;
      const dx = column + 0.5 - x;
      const u = cos * dx + sin * dy;
      const v = cos * dy - sin * dx;
      const cover = Math.min(1, 0.5 - edge(shape, u, v) * radius);
      if (cover <= 0) continue;
      const bright = brightness(texture, u, v);
      const at = (line + modulo(column, size)) * channels;
      for (let c = 0; c < channels; c++) data[at + c] += cover * (bright * colors[c] - data[at + c]) + 0.5;
    }
  }
}

/** Fills the part of a rectangle that lies inside of the frame; its edges go to whole pixels, so that it hides what is behind. */
export function drawBar(
  { data, size, channels }: Canvas,
  box: readonly [left: number, top: number, right: number, bottom: number],
  color: Color,
): void {
  const [left, top, right, bottom] = box.map((edge) => Math.min(size, Math.max(0, Math.round(edge))));
  const colors = Array.from({ length: channels }, (_, c) => Math.round(channelOf(color, c, channels)));
  for (let row = top; row < bottom; row++) {
    for (let at = (row * size + left) * channels; at < (row * size + right) * channels; at += channels) {
      for (let c = 0; c < channels; c++) data[at + c] = colors[c];
    }
  }
}

/** A new background of a kind, about as bright as `color`. */
export function drawBackground(
  size: number,
  channels: number,
  kind: (typeof BACKGROUNDS)[number],
  color: Color,
  random: Pick<Random, 'uniform'>,
): Uint8Array {
  const data = new Uint8ClampedArray(size * size * channels);
  const colors = Array.from({ length: channels }, (_, c) => channelOf(color, c, channels));
  const phase = 2 * Math.PI * random.uniform();
  const cells = 2 * (2 + Math.floor(3 * random.uniform()));
  // Whole numbers of waves: no seam between opposite sides.
  const waves = [0, 1, 2].map(() => {
    const [right, down] = [Math.round(6 * random.uniform() - 3), Math.round(6 * random.uniform() - 3)];
    return { right: 2 * Math.PI * (right || 1), down: 2 * Math.PI * down, shift: 2 * Math.PI * random.uniform() };
  });
  const [first] = waves;
  for (let row = 0, at = 0; row < size; row++) {
    const y = (row + 0.5) / size;
    for (let column = 0; column < size; column++, at += channels) {
      const x = (column + 0.5) / size;
      let level = 0;
      if (kind === 'gradient') level = 0.7 * (Math.cos(phase) * (2 * x - 1) + Math.sin(phase) * (2 * y - 1));
      else if (kind === 'stripes') level = Math.sin(2 * (first.right * x + first.down * y) + phase) > 0 ? 0.8 : -0.8;
      else if (kind === 'squares') level = (Math.floor(cells * x) + Math.floor(cells * y)) % 2 === 0 ? 0.8 : -0.8;
      else if (kind === 'clouds') {
        for (const { right, down, shift } of waves) level += Math.sin(right * x + down * y + shift) / 3;
      }
      const bright = 1 + 0.35 * level;
      for (let c = 0; c < channels; c++) data[at + c] = colors[c] * bright;
    }
  }
  return new Uint8Array(data.buffer);
}

/** Remainder that is not negative. */
export const modulo = (value: number, by: number) => ((value % by) + by) % by;

/** A saturated colour: `hue` 0..1 around the circle, `bright` 0..1. */
export function hueColor(hue: number, bright: number): Color {
  const channel = (shift: number) => {
    const at = Math.abs(modulo(6 * (hue + shift), 6) - 3) - 1;
    return 255 * bright * (0.35 + 0.65 * Math.min(1, Math.max(0, at)));
  };
  return [channel(0), channel(2 / 3), channel(1 / 3)];
}
