import sharp from 'sharp';
import type { RawImage } from '../data/dataset.js';
import type { DrawnPath } from './data.js';
import { looksOver, pointsOf } from './section-plans.js';

/** One episode at one moment of a film. */
export interface FilmCell {
  readonly picture: RawImage;
  /** Where the world can tell where in its pictures something moves: so far, imagined now, and where it should be. */
  readonly paths?: { readonly path: DrawnPath; readonly imagined: DrawnPath; readonly goal: DrawnPath[number] };
  /** Where it cannot: what the goal looks like, to be shown through. */
  readonly goal?: RawImage;
  /** Whether it is at its goal: its frame is green. */
  readonly success: boolean;
}

// Pictures are small: threads for each would cost more than they give.
sharp.concurrency(1);

/** About as many pixels a cell is wide; pictures are enlarged by whole numbers. */
const CELL = 200;
const GAP = 8;
const COLUMNS = 3;
/** Milliseconds a frame. */
const DELAY = 80;
const PAGE = '#131416';
/** How much of the goal's picture is seen through. */
const GHOST = 0.3;
const REACHED = '#0bd29a';
const NOT_YET = '#41454c';

/** Episodes side by side as a GIF that runs for ever. Every moment has the same cells in the same order. */
export async function renderFilm(moments: Iterable<readonly FilmCell[]>): Promise<Buffer> {
  const frames: Buffer[] = [];
  let width = 0;
  let height = 0;
  for (const cells of moments) {
    const { picture } = cells[0];
    const scale = Math.max(1, Math.round(CELL / picture.width));
    const columns = Math.min(COLUMNS, cells.length);
    const [across, down] = [picture.width * scale + GAP, picture.height * scale + GAP];
    width = even(columns * across + GAP);
    height = even(Math.ceil(cells.length / columns) * down + GAP);
    const drawn: string[] = [];
    for (const [i, cell] of cells.entries()) {
      const [left, top] = [(i % columns) * across + GAP, Math.floor(i / columns) * down + GAP];
      drawn.push(`<g transform="translate(${left},${top})">${await cellSvg(cell, scale)}</g>`);
    }
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="${width}" height="${height}" fill="${PAGE}"/>${drawn.join('')}</svg>`;
    frames.push(await sharp(Buffer.from(svg)).removeAlpha().raw().toBuffer());
  }
  const raw = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
  return sharp(Buffer.concat(frames), { raw, limitInputPixels: false })
    .gif({ delay: frames.map(() => DELAY), loop: 0, dither: 0 })
    .toBuffer();
}

/** Encoders of videos want even sides. */
const even = (size: number): number => size + (size % 2);

async function cellSvg({ picture, paths, goal, success }: FilmCell, scale: number): Promise<string> {
  const { width, height } = picture;
  const looks = looksOver(picture);
  const line = (way: DrawnPath, stroke: string): string =>
    `<polyline points="${pointsOf(way)}" stroke="${stroke}" stroke-width="${2 / scale}"/>`;
  const drawn = paths
    ? `<g fill="none" stroke-linejoin="round" stroke-linecap="round">${line(paths.path, looks.path)}${line(paths.imagined, looks.imagined)}<circle cx="${paths.goal[0]}" cy="${paths.goal[1]}" r="${6 / scale}" stroke="${looks.goal}" stroke-width="${2 / scale}"/></g>`
    : '';
  const ghost = goal ? await imageSvg(goal, scale, GHOST) : '';
  const [right, low] = [width * scale, height * scale];
  // What is imagined beyond the picture is cut off there.
  return `<svg width="${right}" height="${low}" viewBox="0 0 ${width} ${height}">${await imageSvg(picture, scale, 1)}${ghost}${drawn}</svg><rect x="-1.5" y="-1.5" width="${right + 3}" height="${low + 3}" fill="none" stroke="${success ? REACHED : NOT_YET}" stroke-width="3"/>`;
}

/** Enlarged before it is drawn: its pixels stay squares. */
async function imageSvg({ width, height, channels, data }: RawImage, scale: number, opacity: number): Promise<string> {
  const png = await sharp(data, { raw: { width, height, channels: channels as 1 | 3 } })
    .resize(width * scale, height * scale, { kernel: 'nearest' })
    .png({ compressionLevel: 1 })
    .toBuffer();
  return `<image href="data:image/png;base64,${png.toString('base64')}" width="${width}" height="${height}" opacity="${opacity}"/>`;
}
