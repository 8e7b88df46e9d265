import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { VideoDataset } from '../video/dataset.js';
import { type Canvas, drawSprite, hueColor, type Sprite } from './draw.js';
import { balancedLabels, drawnVideos, fullSize, type ProceduralVideos, type VideoSize, videoRandom } from './videos.js';

export interface BallOptions extends VideoSize {
  /** Fewest and most balls; 1 to 4 by default. */
  readonly balls?: readonly [number, number];
}

const FRAMES = 24;
/** Steps of the simulation a frame: a ball moves by less than its radius in each. */
const SUBSTEPS = 4;
const MOST_BALLS = 8;

interface Ball {
  x: number;
  y: number;
  /** Shares of the side a frame. */
  vx: number;
  vy: number;
  readonly radius: number;
}

/**
 * Balls of equal mass that bounce off the walls and off each other without loss. Classes are the numbers of balls; the
 * number of collisions between balls is an attribute. Throws a `JepaError` for options that cannot be.
 */
export function ballVideos(options: BallOptions): ProceduralVideos {
  const full = fullSize('balls', options, FRAMES);
  const [fewest, most] = options.balls ?? [1, 4];
  if (!(Number.isInteger(fewest) && Number.isInteger(most) && fewest >= 1 && most >= fewest && most <= MOST_BALLS)) {
    throw new JepaError(`balls: ${fewest} to ${most} balls cannot be; from 1 to ${MOST_BALLS}`);
  }
  const randomOf = videoRandom('balls', full);
  const labels = balancedLabels('balls', full, most - fewest + 1);
  const start = (index: number) => startBalls(fewest + labels[index], randomOf(index));
  const { frames, size, channels } = full;

  const collisions = Int32Array.from(labels, (_, index) => simulate(start(index), frames).collisions);
  const speeds = Float32Array.from(labels, (_, index) => {
    const balls = start(index);
    return balls.reduce((sum, { vx, vy }) => sum + Math.hypot(vx, vy), 0) / balls.length;
  });
  return drawnVideos(
    full,
    {
      name: `balls (${full.split})`,
      labels,
      classNames: Array.from({ length: most - fewest + 1 }, (_, i) => `${fewest + i} balls`),
      attributes: { collisions },
      factors: { speed: speeds },
      fps: 8,
      scene(index) {
        const balls = start(index);
        const { path } = simulate(balls, frames);
        const random = randomOf(index).split('colors');
        const sprites = balls.map(
          (): Sprite => ({
            shape: 'disc',
            texture: 'plain',
            color: hueColor(random.uniform(), 0.7 + 0.3 * random.uniform()),
            turn: 0,
          }),
        );
        const at = (t: number, ball: number) => 2 * (t * balls.length + ball);
        return {
          background: new Uint8Array(size * size * channels).fill(20),
          draw(t, data) {
            const canvas: Canvas = { data, size, channels };
            for (const [i, { radius }] of balls.entries()) {
              // The disc's edge is at 0.85 of its radius.
              const [x, y] = [path[at(t, i)] * size, path[at(t, i) + 1] * size];
              drawSprite(canvas, sprites[i], x, y, (radius * size) / 0.85, false);
            }
          },
          boxes: (t) =>
            balls.flatMap(({ radius }, i) => [
              path[at(t, i)] * size,
              path[at(t, i) + 1] * size,
              radius * size,
              radius * size,
            ]),
        };
      },
    },
    { module: import.meta.url, options },
  );
}

/** Opens what `ballVideos` gives as its source. */
export function openVideoSource(options: unknown): VideoDataset {
  return ballVideos(options as BallOptions);
}

/** Balls that do not touch, in any directions. */
export function startBalls(count: number, random: Random): Ball[] {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const balls: Ball[] = [];
  while (balls.length < count) {
    const radius = between(0.06, 0.1);
    // A place may be taken; there is room for all, so that a free one comes.
    const ball = { radius, x: between(radius, 1 - radius), y: between(radius, 1 - radius), vx: 0, vy: 0 };
    if (balls.some((other) => Math.hypot(ball.x - other.x, ball.y - other.y) < radius + other.radius)) continue;
    const speed = between(0.02, 0.05);
    const angle = between(0, 2 * Math.PI);
    ball.vx = speed * Math.cos(angle);
    ball.vy = speed * Math.sin(angle);
    balls.push(ball);
  }
  return balls;
}

/** Middles of all balls in every frame, [frames, balls, 2], and how often two met. */
export function simulate(start: readonly Ball[], frames: number): { path: Float64Array; collisions: number } {
  const balls = start.map((ball) => ({ ...ball }));
  const path = new Float64Array(frames * balls.length * 2);
  let collisions = 0;
  for (let t = 0; t < frames; t++) {
    for (const [i, { x, y }] of balls.entries()) path.set([x, y], 2 * (t * balls.length + i));
    for (let step = 0; step < SUBSTEPS; step++) {
      for (const ball of balls) {
        [ball.x, ball.vx] = reflected(ball.x + ball.vx / SUBSTEPS, ball.vx, ball.radius);
        [ball.y, ball.vy] = reflected(ball.y + ball.vy / SUBSTEPS, ball.vy, ball.radius);
      }
      for (let i = 0; i < balls.length; i++) {
        for (let j = i + 1; j < balls.length; j++) if (collide(balls[i], balls[j])) collisions++;
      }
    }
  }
  return { path, collisions };
}

/** A position between two walls, and the speed after the wall. */
export function reflected(at: number, speed: number, radius: number): [number, number] {
  if (at < radius) return [2 * radius - at, Math.abs(speed)];
  if (at > 1 - radius) return [2 * (1 - radius) - at, -Math.abs(speed)];
  return [at, speed];
}

/** Equal masses exchange the parts of their speeds along the line between them, if they come closer. */
export function collide(a: Ball, b: Ball): boolean {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const distance = Math.hypot(dx, dy);
  if (distance >= a.radius + b.radius || distance === 0) return false;
  const [nx, ny] = [dx / distance, dy / distance];
  const closing = (a.vx - b.vx) * nx + (a.vy - b.vy) * ny;
  if (closing <= 0) return false;
  a.vx -= closing * nx;
  a.vy -= closing * ny;
  b.vx += closing * nx;
  b.vy += closing * ny;
  return true;
}
