import { SIZE } from '../../world/envs/two-rooms.js';
import { aStar } from '../search.js';
import { adaptiveModel, type WorldModel } from '../world-model.js';
import { distance } from './ways.js';

/**
 * What somebody knows of rooms: what the own acts do, by a regression that forgets, and between which cells of a map moves have
 * failed. Whoever acts and does not move at all has met something. States begin with a place in pixels; actions have two numbers.
 */
export interface RoomsModel extends WorldModel {
  learn(state: Row, action: Row, next: Row): void;
  /** Where to go next on the shortest way that is believed to be open, and how many cells that way has. */
  route(from: Row, to: Row): { readonly next: Float64Array; readonly cells: number };
}

type Row = ArrayLike<number>;

/** Pixels of a cell: a door of eight has at least one. */
const CELL = 4;
const COLUMNS = Math.ceil(SIZE / CELL);
/** Cells that a way to somewhere else is tried for before a wall is. */
const WALL = 60;
/** Pixels that one is wrong by, on average over five steps, when the world must have become another one. */
const CONFUSED = 2.5;
/** Steps whose contacts are still believed then. */
const RECENT = 10;
/** Pixels below which nothing has moved, and how far apart actions are that are not alike. */
const [STILL, ALIKE] = [1e-3, 0.5];

const cellOf = (place: Row): number => Math.floor(place[0] / CELL) + COLUMNS * Math.floor(place[1] / CELL);
const middleOf = (cell: number): Float64Array =>
  Float64Array.of(((cell % COLUMNS) + 0.5) * CELL, (Math.floor(cell / COLUMNS) + 0.5) * CELL);
const border = (a: number, b: number): string => (a < b ? `${a} ${b}` : `${b} ${a}`);
const apart = (a: number, b: number): number =>
  Math.abs((a % COLUMNS) - (b % COLUMNS)) + Math.abs(Math.floor(a / COLUMNS) - Math.floor(b / COLUMNS));
const DIRECTIONS = [1, -1, COLUMNS, -COLUMNS];
const onMap = (cell: number): boolean =>
  [cell % COLUMNS, Math.floor(cell / COLUMNS)].every((i) => i > 0 && i < COLUMNS - 2);

/** The borders between cells that a straight move crosses, columns first. */
function crossed(from: Row, to: Row): string[] {
  const [a, corner, b] = [cellOf(from), cellOf([to[0], from[1]]), cellOf(to)];
  return [
    [a, corner],
    [corner, b],
  ].flatMap(([c, d]) => (c === d ? [] : [border(c, d)]));
}

export function roomsModel(): RoomsModel {
  const body = adaptiveModel({ features: (_, a) => [a[0], a[1]], keep: 0.9, prior: 10 });
  /** When a move across a border failed last. */
  const contacts = new Map<string, number>();
  /** Acts that changed nothing where one is: others are tried. */
  let vain: Row[] = [];
  let [steps, error] = [0, 0];
  let now: Row = [];

  const placeOf = (state: Row): Float64Array => Float64Array.of(state[0], state[1]);
  function predict(state: Row, action: Row): Float64Array {
    const next = Float64Array.from(state);
    const place = placeOf(state);
    const free = body.predict(place, action);
    const inVain = distance(place, now) < STILL && vain.some((act) => distance(act, action) < ALIKE);
    if (!inVain && !crossed(place, free).some((line) => contacts.has(line))) next.set(free);
    return next;
  }
  /** Where a move that failed met something: the cell that it led to, or else the next one on that side. */
  function lineAhead(from: Row, to: Row): string {
    const [a, b] = [cellOf(from), cellOf(to)];
    if (apart(a, b) === 1) return border(a, b);
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    return border(a, a + (Math.abs(dx) > Math.abs(dy) ? Math.sign(dx) : COLUMNS * Math.sign(dy)));
  }

  return {
    predict,
    learn(state, action, next) {
      steps++;
      error += (distance(predict(state, action), placeOf(next)) - error) / 5;
      const [place, arrived] = [placeOf(state), placeOf(next)];
      const free = body.predict(place, action);
      // Whoever presses against a wall learns of the wall, and nothing of what its acts do.
      if (distance(arrived, place) < STILL) {
        contacts.set(lineAhead(place, free), steps);
        vain.push(action);
      } else {
        vain = [];
        body.learn(place, action, arrived);
        for (const line of crossed(place, arrived)) contacts.delete(line);
      }
      now = arrived;
      if (error < CONFUSED) return;
      for (const [line, when] of contacts) if (when < steps - RECENT) contacts.delete(line);
    },
    route(from, to) {
      const [start, end] = [cellOf(from), cellOf(to)];
      const found = aStar<number>(
        {
          actions: (cell) => DIRECTIONS.map((_, i) => i).filter((i) => onMap(cell + DIRECTIONS[i])),
          next: (cell, i) => cell + DIRECTIONS[i],
          cost: (cell, _, next) => (contacts.has(border(cell, next)) ? WALL : 1),
          key: String,
          reached: (cell) => cell === end,
          ahead: (cell) => apart(cell, end),
        },
        start,
      );
      const way = found?.states ?? [];
      const cells = way.length;
      const [first, second] = way;
      if (first === undefined || first === end) return { next: placeOf(to), cells };
      // No other way is left: what was met there is doubted.
      contacts.delete(border(start, first));
      const straightOn =
        second !== undefined && second - first === first - start && !contacts.has(border(first, second));
      return { next: middleOf(straightOn ? second : first), cells };
    },
  };
}
