import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { VideoDataset } from '../video/dataset.js';
import {
  BACKGROUNDS,
  type Canvas,
  drawBackground,
  drawBar,
  drawSprite,
  hueColor,
  modulo,
  SHAPES,
  type Sprite,
  TEXTURES,
} from './draw.js';
import {
  balancedLabels,
  drawnVideos,
  fullSize,
  type ProceduralVideos,
  type Scene,
  type VideoSize,
  videoRandom,
} from './videos.js';

/**
 * Classes of motion that no single frame reveals. Whatever the class, the moving shape is anywhere with the same
 * probability at any time, as it moves on a torus (what leaves on one side comes in on the other) from a place that is drawn
 * uniformly, through sizes and phases that are drawn uniformly; shape, colour, texture, background, occluders and standing
 * shapes are drawn without regard to the class. So the distribution of one frame is the same for all classes, exactly.
 */
export const MOTIONS = [
  ...['right', 'left', 'up', 'down', 'clockwise', 'anticlockwise', 'approach', 'recede'],
  ...['zigzag up', 'zigzag down', 'speeding up', 'slowing down', 'bounce', 'hang'],
] as const;

/** Classes of two shapes, by the same rule: their middle and the line between them are anywhere. */
export const INTERACTIONS = [
  'together',
  'collide',
  'attract',
  'repel',
  'circle clockwise',
  'circle anticlockwise',
] as const;

export interface MotionOptions extends VideoSize {
  /** Which classes, of `MOTIONS` or of `INTERACTIONS`; all of them by default. */
  readonly classes?: readonly string[];
  /** Probability that a bar hides a part of the frame; 0.5 by default. */
  readonly occlusion?: number;
  /** Most shapes that stand still; 1 by default (for motions). */
  readonly bystanders?: number;
  /** Shapes that move alike, each from a place of its own; 1 by default. Motions only. */
  readonly movers?: number;
  /** Kinds of backgrounds, of `BACKGROUNDS`; all of them by default. */
  readonly backgrounds?: readonly string[];
}

/** Options that say what is drawn besides the class. */
type Drawing = Required<Pick<MotionOptions, 'occlusion' | 'bystanders' | 'movers'>> & {
  /** Indices of kinds. */
  readonly backgrounds: readonly number[];
};

/** Everything drawn for a video but its class; shares of the side, uniform draws of 0..1. */
interface Nuisance {
  readonly sprites: readonly Sprite[];
  readonly shapes: readonly number[];
  readonly textures: readonly number[];
  readonly hues: readonly number[];
  readonly x: number;
  readonly y: number;
  /** Half of the size of the moving shapes, smallest and largest where it changes, and where it is between them. */
  readonly radius: number;
  readonly swell: number;
  /** Of how fast. */
  readonly speed: number;
  readonly phase: number;
  /** Of directions that the class leaves open. */
  readonly direction: number;
  readonly heading: number;
  readonly standing: readonly { readonly x: number; readonly y: number; readonly radius: number }[];
  readonly background: number;
  readonly dark: boolean;
  readonly bar?: readonly [number, number, number, number];
  readonly barColor: number;
  /** The further shapes that move as the first does. */
  readonly crowd: readonly {
    readonly sprite: Sprite;
    readonly x: number;
    readonly y: number;
    readonly radius: number;
  }[];
}

const FRAMES = 16;
/** Sprites drawn for every video: two that move and those that may stand. */
const MOVING = 2;
const MOST_MOVERS = 32;

function drawNuisance(random: Random, { occlusion, bystanders, movers, backgrounds }: Drawing): Nuisance {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const dark = random.uniform() < 0.5;
  const count = MOVING + bystanders;
  const shapes = Array.from({ length: count }, () => random.integer(SHAPES.length));
  const textures = Array.from({ length: count }, () => random.integer(TEXTURES.length));
  const hues = Array.from({ length: count }, () => random.uniform());
  const spriteOf = (shape: number, texture: number, hue: number): Sprite => ({
    shape: SHAPES[shape],
    texture: TEXTURES[texture],
    color: hueColor(hue, dark ? between(0.7, 1) : between(0.15, 0.35)),
    turn: between(0, 2 * Math.PI),
  });
  const sprites = shapes.map((shape, i) => spriteOf(shape, textures[i], hues[i]));
  const [x, y, swell, speed, phase, direction, heading] = Array.from({ length: 7 }, () => random.uniform());
  const moverRadius = () => between(0.14, 0.2);
  const radius = moverRadius();
  const places = Array.from({ length: bystanders }, () => ({
    x: random.uniform(),
    y: random.uniform(),
    radius: between(0.08, 0.15),
  }));
  const standing = places.slice(0, random.integer(bystanders + 1));
  const background = backgrounds[random.integer(backgrounds.length)];
  const hidden = random.uniform() < occlusion;
  const [from, width, upright] = [between(0.1, 0.75), between(0.08, 0.16), random.uniform() < 0.5];
  const bar = upright ? ([from, 0, from + width, 1] as const) : ([0, from, 1, from + width] as const);
  const barColor = random.uniform();
  const crowd = Array.from({ length: movers - 1 }, () => ({
    sprite: spriteOf(random.integer(SHAPES.length), random.integer(TEXTURES.length), random.uniform()),
    x: random.uniform(),
    y: random.uniform(),
    radius: moverRadius(),
  }));
  return {
    ...{
      sprites,
      shapes,
      textures,
      hues,
      x,
      y,
      radius,
      swell,
      speed,
      phase,
      direction,
      heading,
      standing,
      background,
      dark,
    },
    bar: hidden ? bar : undefined,
    barColor,
    crowd,
  };
}

/** Where a shape is at a time: shares of the side from its starting place, and its size as a factor. */
interface Place {
  readonly dx: number;
  readonly dy: number;
  readonly scale: number;
}

/** Smallest size of a shape that swells, as a factor; 1 is the largest. */
const SMALLEST = 0.5;
const sizeAt = (swell: number) => SMALLEST + (1 - SMALLEST) * swell;

/** 0 to 1 and back in one period, rising for `rise` of it; uniform over a uniform phase whatever `rise` is. */
function triangle(phase: number, rise: number): number {
  const at = modulo(phase, 1);
  return at < rise ? at / rise : (1 - at) / (1 - rise);
}

const TURN = 2 * Math.PI;
/** Shares of the side a frame. */
const pace = (speed: number) => 0.025 + 0.025 * speed;
/** Frames a round. */
const period = (speed: number) => 20 - 9 * speed;
/** Share of a period in which a slow change takes place; the way back takes the rest. */
const SLOW = 0.8;

/** Where the shape of a motion class is at frame `t`. */
const MOVES: Record<(typeof MOTIONS)[number], (t: number, n: Nuisance) => Place> = {
  right: (t, n) => straight(t, n, 1, 0),
  left: (t, n) => straight(t, n, -1, 0),
  up: (t, n) => straight(t, n, 0, -1),
  down: (t, n) => straight(t, n, 0, 1),
  clockwise: (t, n) => round(t, n, 1),
  anticlockwise: (t, n) => round(t, n, -1),
  approach: (t, n) => swelling(t, n, 1),
  recede: (t, n) => swelling(t, n, -1),
  'zigzag up': (t, n) => zigzag(t, n, -1),
  'zigzag down': (t, n) => zigzag(t, n, 1),
  'speeding up': (t, n) => spurt(t, n, 1),
  'slowing down': (t, n) => spurt(t, n, -1),
  bounce: (t, n) => hop(t, n, -1),
  hang: (t, n) => hop(t, n, 1),
};

function straight(t: number, { speed, swell }: Nuisance, right: number, down: number): Place {
  const way = pace(speed) * t;
  return { dx: right * way, dy: down * way, scale: sizeAt(swell) };
}

function round(t: number, { speed, phase, swell, direction }: Nuisance, sense: number): Place {
  const angle = TURN * (phase + (sense * t) / period(speed));
  const radius = 0.12 + 0.1 * direction;
  return { dx: radius * Math.cos(angle), dy: radius * Math.sin(angle), scale: sizeAt(swell) };
}

function swelling(t: number, { speed, phase }: Nuisance, sense: number): Place {
  return { dx: 0, dy: 0, scale: sizeAt(triangle(phase + (sense * t) / period(speed), SLOW)) };
}

function zigzag(t: number, { speed, phase, swell }: Nuisance, down: number): Place {
  const across = 0.3 * triangle(phase + (1.6 * t) / period(speed), 0.5);
  return { dx: across, dy: 0.7 * down * pace(speed) * t, scale: sizeAt(swell) };
}

/** Spurts in one direction: the speed grows from nothing and breaks off; backwards in time it jumps up and falls. */
function spurt(t: number, { speed, phase, swell, direction }: Nuisance, sense: number): Place {
  const at = phase + (sense * t) / period(speed);
  const whole = Math.floor(at);
  const way = 0.55 * (whole + (at - whole) ** 3);
  return { dx: way * Math.cos(TURN * direction), dy: way * Math.sin(TURN * direction), scale: sizeAt(swell) };
}

/** Parabolas over a floor (or below a ceiling), while drifting to one side. */
function hop(t: number, { speed, phase, swell, direction }: Nuisance, down: number): Place {
  const at = modulo(phase + t / (0.8 * period(speed)), 1);
  return { dx: 0.02 * (2 * direction - 1) * t, dy: down * 1.4 * at * (1 - at), scale: sizeAt(swell) };
}

/** Half of the line between two shapes: its length in shares of the side, and its angle. */
const PAIRS: Record<(typeof INTERACTIONS)[number], (t: number, n: Nuisance) => readonly [half: number, angle: number]> =
  {
    together: (_, n) => [apart(n, n.phase), TURN * n.direction],
    collide: (t, n) => [apart(n, triangle(n.phase + t / period(n.speed), 0.5)), TURN * n.direction],
    attract: (t, n) => [apart(n, triangle(n.phase - t / period(n.speed), SLOW)), TURN * n.direction],
    repel: (t, n) => [apart(n, triangle(n.phase + t / period(n.speed), SLOW)), TURN * n.direction],
    'circle clockwise': (t, n) => [apart(n, n.phase), TURN * (n.direction + t / period(n.speed))],
    'circle anticlockwise': (t, n) => [apart(n, n.phase), TURN * (n.direction - t / period(n.speed))],
  };

/** From touching to 0.12 of the side between them; uniform where `far` is. */
const apart = ({ radius, swell }: Nuisance, far: number) => 0.85 * radius * sizeAt(swell) + 0.12 * far;

/** Videos of one moving shape, or of several that move alike; classes are `MOTIONS`. Throws a `JepaError` for options that cannot be. */
export function motionVideos(options: MotionOptions): ProceduralVideos {
  return movingShapes('motions', MOTIONS, options, 1, (name, t, n, place) => {
    const { dx, dy, scale } = MOVES[name as keyof typeof MOVES](t, n);
    place(n.sprites[0], n.x + dx, n.y + dy, n.radius * scale);
    for (const { sprite, x, y, radius } of n.crowd) place(sprite, x + dx, y + dy, radius * scale);
  });
}

/** Videos of two shapes that move together; classes are `INTERACTIONS`. Throws a `JepaError` for options that cannot be. */
export function interactionVideos(options: MotionOptions): ProceduralVideos {
  if (options.movers !== undefined)
    throw new JepaError('interactions: two shapes move; movers is an option of motions');
  return movingShapes('interactions', INTERACTIONS, options, 0, (name, t, n, place) => {
    const [half, angle] = PAIRS[name as keyof typeof PAIRS](t, n);
    const drift = pace(n.speed) * t;
    const [x, y] = [n.x + drift * Math.cos(TURN * n.heading), n.y + drift * Math.sin(TURN * n.heading)];
    const [dx, dy] = [half * Math.cos(angle), half * Math.sin(angle)];
    const radius = n.radius * sizeAt(n.swell);
    place(n.sprites[0], x + dx, y + dy, radius);
    place(n.sprites[1], x - dx, y - dy, radius);
  });
}

/** Puts a shape at a place; shares of the side. */
type PlaceShape = (sprite: Sprite, x: number, y: number, radius: number) => void;

function movingShapes(
  kind: 'motions' | 'interactions',
  known: readonly string[],
  options: MotionOptions,
  standing: number,
  move: (className: string, t: number, nuisance: Nuisance, place: PlaceShape) => void,
): ProceduralVideos {
  const full = fullSize(kind, options, FRAMES);
  const { classes = known, occlusion = 0.5, bystanders = standing, movers = 1, backgrounds = BACKGROUNDS } = options;
  const strange = classes.find((name, i) => !known.includes(name) || classes.indexOf(name) !== i);
  if (strange !== undefined || classes.length === 0) {
    throw new JepaError(`${kind}: ${strange ?? 'nothing'} is no class or comes twice; there are ${known.join(', ')}`);
  }
  if (!(occlusion >= 0 && occlusion <= 1)) throw new JepaError(`${kind}: occlusion ${occlusion} must be from 0 to 1`);
  if (!Number.isInteger(bystanders) || bystanders < 0 || bystanders > 8) {
    throw new JepaError(`${kind}: bystanders ${bystanders} must be from 0 to 8`);
  }
  if (!Number.isInteger(movers) || movers < 1 || movers > MOST_MOVERS) {
    throw new JepaError(`${kind}: movers ${movers} must be from 1 to ${MOST_MOVERS}`);
  }
  const kinds: readonly string[] = BACKGROUNDS;
  const odd = backgrounds.find((name) => !kinds.includes(name));
  if (odd !== undefined || backgrounds.length === 0) {
    throw new JepaError(`${kind}: ${odd ?? 'nothing'} is no background; there are ${BACKGROUNDS.join(', ')}`);
  }
  const drawing = { occlusion, bystanders, movers, backgrounds: backgrounds.map((name) => kinds.indexOf(name)) };
  const randomOf = videoRandom(kind, full);
  const nuisanceOf = (index: number) => drawNuisance(randomOf(index), drawing);
  const labels = balancedLabels(kind, full, classes.length);

  function scene(index: number): Scene {
    const random = randomOf(index);
    const n = drawNuisance(random, drawing);
    const { size, channels } = full;
    const base = hueColor(random.uniform(), n.dark ? 0.2 : 0.8);
    const background = drawBackground(size, channels, BACKGROUNDS[n.background], base, random);
    const still: Canvas = { data: background, size, channels };
    for (const [i, { x, y, radius }] of n.standing.entries()) {
      drawSprite(still, n.sprites[MOVING + i], x * size, y * size, radius * size, true);
    }
    const name = classes[labels[index]];
    const onTorus = (value: number) => modulo(value, 1) * size;
    return {
      background,
      draw(t, frame) {
        const canvas = { data: frame, size, channels };
        move(name, t, n, (sprite, x, y, radius) =>
          drawSprite(canvas, sprite, onTorus(x), onTorus(y), radius * size, true),
        );
        if (n.bar) {
          const [left, top, right, bottom] = n.bar.map((edge) => edge * size);
          drawBar(canvas, [left, top, right, bottom], hueColor(n.barColor, 0.5));
        }
      },
      boxes(t) {
        const found: number[] = [];
        move(name, t, n, (_, x, y, radius) => {
          found.push(onTorus(x), onTorus(y), radius * size, radius * size);
        });
        return found;
      },
    };
  }

  return drawnVideos(
    full,
    {
      name: `${kind} (${full.split})`,
      labels,
      classNames: classes,
      fps: 8,
      ...tabulated(full.count, nuisanceOf),
      scene,
    },
    sourceOf({ kind, options }),
  );
}

/** What was drawn for the videos, as columns. */
function tabulated(
  count: number,
  nuisanceOf: (index: number) => Nuisance,
): Pick<ProceduralVideos, 'attributes' | 'factors'> {
  const all = Array.from({ length: count }, (_, index) => nuisanceOf(index));
  const whole = (value: (n: Nuisance) => number) => Int32Array.from(all, value);
  const real = (value: (n: Nuisance) => number) => Float32Array.from(all, value);
  const thirds = (value: number) => Math.min(2, Math.floor(3 * value));
  return {
    attributes: {
      shape: whole((n) => n.shapes[0]),
      texture: whole((n) => n.textures[0]),
      hue: whole((n) => thirds(n.hues[0])),
      background: whole((n) => n.background),
      dark: whole((n) => (n.dark ? 1 : 0)),
      size: whole((n) => thirds(n.swell)),
      speed: whole((n) => thirds(n.speed)),
      column: whole((n) => thirds(n.x)),
      row: whole((n) => thirds(n.y)),
      bystanders: whole((n) => n.standing.length),
      occluded: whole((n) => (n.bar ? 1 : 0)),
    },
    factors: {
      x: real((n) => n.x),
      y: real((n) => n.y),
      radius: real((n) => n.radius),
      swell: real((n) => n.swell),
      speed: real((n) => n.speed),
      phase: real((n) => n.phase),
      direction: real((n) => n.direction),
      heading: real((n) => n.heading),
      hue: real((n) => n.hues[0]),
    },
  };
}

interface MotionSource {
  readonly kind: 'motions' | 'interactions';
  readonly options: MotionOptions;
}

const sourceOf = (options: MotionSource): VideoDataset['source'] => ({ module: import.meta.url, options });

/** Opens what the data sets of this file give as their source. */
export function openVideoSource(source: unknown): VideoDataset {
  const { kind, options } = source as MotionSource;
  return kind === 'motions' ? motionVideos(options) : interactionVideos(options);
}
