import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { VideoDataset } from '../video/dataset.js';
import {
  BACKGROUNDS,
  type Canvas,
  type Color,
  drawBackground,
  drawBar,
  drawSprite,
  hueColor,
  SHAPES,
  type Sprite,
  TEXTURES,
} from './draw.js';
import { drawnVideos, fullSize, type ProceduralVideos, type Scene, type VideoSize, videoRandom } from './videos.js';

/**
 * Possible and impossible events behind an occluder, in quadruplets (after IntPhys, Riochet et al. 2018): two possible
 * videos and two impossible ones made of the same parts, so that only what happens across time tells them apart.
 *
 * - `permanence`: a shape passes behind the occluder, or there is none; impossible: it vanishes there, or appears.
 * - `shape`, `color`: one of two shapes passes; impossible: it comes out as the other.
 * - `teleport`: a shape passes above or below; impossible: it comes out in the other lane.
 * - `wall`: a wall behind the occluder, seen above it, turns the shape back, and without a wall it passes; impossible: it
 *   passes through the wall, or turns back where there is none.
 *
 * In all but `wall` an impossible video is one possible video until `violation` and the other from then on, when both look
 * the same: at every moment the frames of the two impossible videos are those of the two possible ones.
 */
export const VIOLATIONS = ['permanence', 'shape', 'color', 'teleport', 'wall'] as const;
type Violation = (typeof VIOLATIONS)[number];

export interface PhysicsOptions extends VideoSize {
  /** Videos; a multiple of 4. The four of a quadruplet follow each other: two possible, two impossible. */
  readonly count: number;
  /** Which events; all by default, each in as many quadruplets as the others (up to one). */
  readonly kinds?: readonly Violation[];
}

/** Videos of a quadruplet. */
export const QUADRUPLET = 4;
const FRAMES = 24;

/** One of the two courses of events of a quadruplet. */
interface Course {
  readonly sprite?: Sprite;
  /** Height of the middle of the shape. */
  readonly y: number;
  readonly turnsBack: boolean;
}

/** What the four videos share; lengths are shares of the side. */
interface Quadruplet {
  readonly kind: Violation;
  readonly courses: readonly [Course, Course];
  readonly radius: number;
  /** Middle of the shape in the first frame, and how far it moves in one; negative: to the left. */
  readonly start: number;
  readonly step: number;
  readonly occluder: readonly [left: number, top: number, right: number, bottom: number];
  readonly background: number;
  readonly colors: { readonly ground: Color; readonly occluder: Color; readonly wall: Color };
  /** The frame from which an impossible video is another one, and the first in which the shape is no longer hidden (or should not be). */
  readonly violation: number;
  readonly visible: number;
}

/** Videos of possible (label 0) and impossible (1) events. Throws a `JepaError` for options that cannot be. */
export function physicsVideos(options: PhysicsOptions): ProceduralVideos {
  const full = fullSize('physics', options, FRAMES);
  const { kinds = VIOLATIONS } = options;
  const strange = kinds.find((kind, i) => !VIOLATIONS.includes(kind) || kinds.indexOf(kind) !== i);
  if (strange !== undefined || kinds.length === 0) {
    throw new JepaError(
      `physics: ${strange ?? 'nothing'} is no event or comes twice; there are ${VIOLATIONS.join(', ')}`,
    );
  }
  if (full.count % QUADRUPLET !== 0) throw new JepaError(`physics: count ${full.count} must be a multiple of 4`);
  if (full.frames < 12) throw new JepaError(`physics: ${full.frames} frames are too few for an event; 12 or more`);
  const randomOf = videoRandom('physics', full);
  const quadrupletOf = (index: number) => {
    const number = Math.floor(index / QUADRUPLET);
    return drawQuadruplet(kinds[number % kinds.length], full.frames, randomOf(number));
  };
  return drawnVideos(
    full,
    {
      name: `physics (${full.split})`,
      labels: Int32Array.from({ length: full.count }, (_, index) => (index % QUADRUPLET < 2 ? 0 : 1)),
      classNames: ['possible', 'impossible'],
      fps: 8,
      ...tabulated(full.count, kinds, quadrupletOf),
      scene(index) {
        // The four share their background.
        const random = randomOf(Math.floor(index / QUADRUPLET)).split('background');
        return sceneOf(quadrupletOf(index), index % QUADRUPLET, full, random);
      },
    },
    { module: import.meta.url, options },
  );
}

/** Opens what `physicsVideos` gives as its source. */
export function openVideoSource(options: unknown): VideoDataset {
  return physicsVideos(options as PhysicsOptions);
}

function tabulated(
  count: number,
  kinds: readonly Violation[],
  quadrupletOf: (index: number) => Quadruplet,
): Pick<ProceduralVideos, 'attributes' | 'factors'> {
  const all = Array.from({ length: count }, (_, index) => quadrupletOf(index));
  const impossible = (index: number) => index % QUADRUPLET >= 2;
  return {
    attributes: {
      kind: Int32Array.from(all, ({ kind }) => kinds.indexOf(kind)),
      quadruplet: Int32Array.from(all, (_, index) => Math.floor(index / QUADRUPLET)),
      member: Int32Array.from(all, (_, index) => index % QUADRUPLET),
      fromLeft: Int32Array.from(all, ({ step }) => (step > 0 ? 1 : 0)),
      /** Frame of the violation, and the first that can show it; -1 where there is none. */
      violation: Int32Array.from(all, ({ violation }, index) => (impossible(index) ? violation : -1)),
      visible: Int32Array.from(all, ({ visible }, index) => (impossible(index) ? visible : -1)),
    },
    factors: {
      radius: Float32Array.from(all, ({ radius }) => radius),
      speed: Float32Array.from(all, ({ step }) => Math.abs(step)),
    },
  };
}

function drawQuadruplet(kind: Violation, frames: number, random: Random): Quadruplet {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const dark = random.uniform() < 0.5;
  const bright = () => (dark ? between(0.7, 1) : between(0.15, 0.3));
  const spriteOf = (shape: number, hue: number): Sprite => ({
    shape: SHAPES[shape],
    texture: TEXTURES[random.integer(TEXTURES.length)],
    color: hueColor(hue, bright()),
    turn: between(0, 2 * Math.PI),
  });
  const shape = random.integer(SHAPES.length);
  const hue = random.uniform();
  const sprite = spriteOf(shape, hue);
  const other = (shape + 1 + random.integer(SHAPES.length - 1)) % SHAPES.length;
  const otherHue = hue + between(0.3, 0.7);
  const radius = between(0.07, 0.09);
  const middle = between(0.46, 0.54);
  const halfWidth = between(0.17, 0.19);
  const violation = Math.floor(frames / 2);
  // Wholly hidden at the violation, wholly seen at both ends.
  const side = random.uniform() < 0.5 ? 1 : -1;
  const reach = between(0.34, 0.38);
  const step = (side * reach) / violation;
  const lane = between(0.6, 0.75);
  const [above, below] = [0.38, lane];
  const course = (changed: Partial<Course> = {}): Course => ({ sprite, y: lane, turnsBack: false, ...changed });
  const courses: Record<Violation, () => readonly [Course, Course]> = {
    permanence: () => [course(), course({ sprite: undefined })],
    shape: () => [course(), course({ sprite: { ...sprite, shape: SHAPES[other] } })],
    color: () => [course(), course({ sprite: { ...sprite, color: hueColor(otherHue, bright()) } })],
    teleport: () => [course({ y: above }), course({ y: below })],
    wall: () => [course(), course({ turnsBack: true })],
  };
  const distance = (t: number) => Math.abs((t - violation) * step);
  let visible = violation;
  while (visible < frames - 1 && distance(visible) <= halfWidth - radius) visible++;
  return {
    kind,
    courses: courses[kind](),
    radius,
    start: middle - violation * step,
    step,
    occluder: [middle - halfWidth, 0.25, middle + halfWidth, 0.9],
    background: random.integer(BACKGROUNDS.length),
    colors: {
      ground: hueColor(random.uniform(), dark ? 0.2 : 0.85),
      occluder: hueColor(random.uniform(), 0.5),
      wall: hueColor(random.uniform(), bright()),
    },
    violation,
    visible,
  };
}

/** Half of the thickness of a wall, and the height of its top, above that of the occluder. */
const WALL = 0.03;
const WALL_TOP = 0.1;

function sceneOf(
  quadruplet: Quadruplet,
  member: number,
  { size, channels }: { readonly size: number; readonly channels: number },
  random: Random,
): Scene {
  const { kind, courses, radius, start, step, occluder, colors, violation } = quadruplet;
  const [left, , right] = occluder;
  const middle = (left + right) / 2;
  // Members 0 and 1 are the two possible courses; 2 and 3 begin as 0 and 1 and go on as the other.
  const before = courses[member % 2];
  const after = courses[member < 2 ? member : 3 - member];
  const wall = kind === 'wall' && before.turnsBack;
  const background = drawBackground(size, channels, BACKGROUNDS[quadruplet.background], colors.ground, random);
  const still: Canvas = { data: background, size, channels };
  const inPixels = (box: readonly number[]) => box.map((edge) => edge * size) as [number, number, number, number];
  drawBar(still, inPixels([0, 0.9, 1, 1]), hueColor(0.1, 0.4));
  if (wall) drawBar(still, inPixels([middle - WALL, WALL_TOP, middle + WALL, 0.9]), colors.wall);
  const place = (t: number) => {
    const course = t < violation ? before : after;
    const way = course.turnsBack && t > violation ? 2 * violation - t : t;
    return { course, x: start + way * step };
  };
  return {
    background,
    draw(t, frame) {
      const canvas = { data: frame, size, channels };
      const { course, x } = place(t);
      if (course.sprite) drawSprite(canvas, course.sprite, x * size, course.y * size, radius * size, false);
      drawBar(canvas, inPixels(occluder), colors.occluder);
    },
    boxes(t) {
      const { course, x } = place(t);
      return course.sprite ? [x * size, course.y * size, radius * size, radius * size] : [0, 0, 0, 0];
    },
  };
}
