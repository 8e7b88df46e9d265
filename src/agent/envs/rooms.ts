import type { Random } from '../../base/random.js';
import { BORDERS, blocked, type Layout, SIZE } from '../../world/envs/two-rooms.js';
import type { Place, Point } from '../life.js';

/**
 * Two Rooms as agents live in it: a plane of 65 by 65 pixels, a wall with a door, and moves that do not happen where something
 * is in the way.
 */

export type Spot = Float64Array;

const [LOWEST, HIGHEST] = BORDERS;
/** Where a dot can be, with its size. */
export const [LOW, HIGH] = [LOWEST + 2, HIGHEST - 2];
/** Half of the door. */
const DOOR = 4;
/** Nobody starts nearer to the middle of the wall. */
const CLEAR = 2.5;

/** The same rooms without their wall. */
export const withoutWall = (layout: Layout): Layout => ({ ...layout, wall: -1000 });

/** Where one is after a move [right, down] in pixels. */
export function moveIn(layout: Layout, place: Spot, [right, down]: Iterable<number>): Spot {
  const [x, y] = place;
  return blocked(x, y, right, down, layout) ? place.slice() : Float64Array.of(x + right, y + down);
}

/** Whether a place is not at the wall. */
export const clearOf = ({ wall }: Layout, place: Spot): boolean => Math.abs(place[0] - wall) > CLEAR;

/** A place anywhere in the rooms that is not at the wall. */
export function anywhereIn(layout: Layout, random: Random): Spot {
  for (;;) {
    const place = Float64Array.from({ length: 2 }, () => LOW + (HIGH - LOW) * random.uniform());
    if (clearOf(layout, place)) return place;
  }
}

/** Pixels of the shortest way, through the door where it leads there. */
export function wayLength({ wall, door }: Layout, from: Spot, to: Spot): number {
  if (from[0] < wall === to[0] < wall) return Math.hypot(to[0] - from[0], to[1] - from[1]);
  return Math.hypot(wall - from[0], door - from[1]) + Math.hypot(wall - to[0], door - to[1]);
}

/** The plane with its border, to be drawn. */
export function roomsPlane(): { width: number; height: number; places: Place[] } {
  const border = (at: Point, half: Point): Place => ({ name: 'border', kind: 'wall', at, half });
  const [middle, reach] = [(LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2];
  return {
    width: SIZE,
    height: SIZE,
    places: [
      border([middle, LOWEST], [reach + 0.5, 0.5]),
      border([middle, HIGHEST], [reach + 0.5, 0.5]),
      border([LOWEST, middle], [0.5, reach + 0.5]),
      border([HIGHEST, middle], [0.5, reach + 0.5]),
    ],
  };
}

/** The wall above and below the door, to be drawn in some parts of a life or in all. */
export function wallPlaces({ wall, door }: Layout, parts?: readonly string[]): Place[] {
  const piece = (from: number, to: number): Place => ({
    name: 'wall',
    kind: 'wall',
    at: [wall, (from + to) / 2],
    half: [1, (to - from) / 2],
    parts,
  });
  return [piece(LOWEST, door - DOOR), piece(door + DOOR, HIGHEST)];
}
