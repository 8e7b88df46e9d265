/** Draws simple shapes with smooth edges into planar bytes [channels, height, width]. Lengths in pixels, colours 0..255. */

export interface Plane {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
}

/** A colour, one number a channel. */
export type Paint = readonly number[];

export function fill({ data, height, width }: Plane, color: Paint): void {
  const pixels = height * width;
  for (let c = 0; c * pixels < data.length; c++) data.fill(color[c] ?? color[0], c * pixels, (c + 1) * pixels);
}

/** Blends a colour over the pixels of a box; `cover(x, y)` is its share of the pixel in the middle of which (x, y) is. */
function blend(
  { data, height, width }: Plane,
  [left, top, right, bottom]: readonly [number, number, number, number],
  color: Paint,
  cover: (x: number, y: number) => number,
): void {
  const pixels = height * width;
  for (let row = Math.max(0, Math.floor(top)); row < Math.min(height, Math.ceil(bottom)); row++) {
    for (let column = Math.max(0, Math.floor(left)); column < Math.min(width, Math.ceil(right)); column++) {
      const share = Math.min(1, cover(column + 0.5, row + 0.5));
      if (share <= 0) continue;
      for (let c = 0, at = row * width + column; at < data.length; c++, at += pixels) {
        data[at] = Math.round(data[at] + share * ((color[c] ?? color[0]) - data[at]));
      }
    }
  }
}

export function disc(plane: Plane, x: number, y: number, radius: number, color: Paint): void {
  const reach = radius + 1;
  blend(
    plane,
    [x - reach, y - reach, x + reach, y + reach],
    color,
    (px, py) => radius + 0.5 - Math.hypot(px - x, py - y),
  );
}

/** A line with round ends. */
export function line(
  plane: Plane,
  [x1, y1]: readonly [number, number],
  [x2, y2]: readonly [number, number],
  thickness: number,
  color: Paint,
): void {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const squares = dx * dx + dy * dy || 1;
  const reach = thickness / 2 + 1;
  const box = [
    Math.min(x1, x2) - reach,
    Math.min(y1, y2) - reach,
    Math.max(x1, x2) + reach,
    Math.max(y1, y2) + reach,
  ] as const;
  blend(plane, box, color, (px, py) => {
    const along = Math.min(1, Math.max(0, ((px - x1) * dx + (py - y1) * dy) / squares));
    return thickness / 2 + 0.5 - Math.hypot(px - x1 - along * dx, py - y1 - along * dy);
  });
}

/** A rectangle of half sizes (a, b) about a middle, turned by an angle (from x to y). */
export function rectangle(
  plane: Plane,
  [x, y]: readonly [number, number],
  [a, b]: readonly [number, number],
  angle: number,
  color: Paint,
): void {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const reach = Math.hypot(a, b) + 1;
  blend(plane, [x - reach, y - reach, x + reach, y + reach], color, (px, py) => {
    const [dx, dy] = [px - x, py - y];
    return 0.5 - Math.max(Math.abs(cos * dx + sin * dy) - a, Math.abs(cos * dy - sin * dx) - b);
  });
}
