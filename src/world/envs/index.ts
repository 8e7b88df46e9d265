import { JepaError } from '../../base/errors.js';
import { acrobot, cartPole, mountainCar, pendulum } from './classic.js';
import { fork } from './fork.js';
import { bouncingBalls } from './passive.js';
import { pointMaze } from './point-maze.js';
import { pushBlock } from './push-block.js';
import { twoRooms } from './two-rooms.js';
import { twoRoomsLarge } from './two-rooms-large.js';
import { wall } from './wall.js';
import type { World } from './world.js';

/** Worlds by name. Moving digits are not among them: they need pictures (`movingDigits`). */
export const WORLDS: Readonly<Record<string, () => World>> = {
  'two-rooms': () => twoRooms(),
  'two-rooms-stay': () => twoRooms('stay'),
  'two-rooms-224': twoRoomsLarge,
  wall,
  'point-maze-u': () => pointMaze('u'),
  'point-maze-random': () => pointMaze('random'),
  'point-maze-boxes': () => pointMaze('boxes'),
  'push-t': pushBlock,
  fork,
  'bouncing-balls': () => bouncingBalls(),
  'cart-pole': cartPole,
  pendulum,
  'mountain-car': () => mountainCar('discrete'),
  'mountain-car-continuous': () => mountainCar('continuous'),
  acrobot,
};

/** Opens a world by its name; throws a `JepaError` that lists the names. */
export function worldCalled(name: string): World {
  const make = Object.hasOwn(WORLDS, name) ? WORLDS[name] : undefined;
  if (!make) throw new JepaError(`world: there is no "${name}"; there are ${Object.keys(WORLDS).join(', ')}`);
  return make();
}
