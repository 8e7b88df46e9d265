import { formatClock, formatFixed } from '../report/format.js';
import {
  type Colors,
  joined,
  liveBlock,
  type Piece,
  PLAIN,
  type ProgressStream,
  painted,
  REDRAW,
} from '../report/live.js';
import type { Batch, World } from '../world/envs/world.js';

/** A live view of planning: the first episode as a small drawing on a terminal, a line now and then elsewhere. */
export interface Room {
  show(update: RoomUpdate): void;
  /** Prints a line that stays, above the drawing. */
  log(line: string): void;
  end(): void;
}

export interface RoomUpdate {
  readonly time: number;
  readonly steps: number;
  readonly batch: Batch;
  /** Where the planner of the first episode imagines to be, [times][numbers of a state]. */
  readonly imagined?: readonly (readonly number[])[];
  readonly secondsLeft: number;
}

export interface RoomOptions {
  /** With the lines of the terminal, where it is one. */
  readonly stream: ProgressStream & { readonly rows?: number };
  readonly world: World;
  readonly live: boolean;
  readonly colors: Colors;
}

/** Characters across a drawing; a character is twice as high as wide. */
const ACROSS = 34;

export function createRoom({ stream, world, live, colors }: RoomOptions): Room {
  const block = liveBlock(stream);
  let shownAt = Number.NEGATIVE_INFINITY;
  let lines: Piece[] = [];
  return {
    show(update) {
      const isLast = update.time === update.steps;
      if (performance.now() - shownAt < (live ? REDRAW : PLAIN) && !isLast) return;
      shownAt = performance.now();
      const status = statusOf(update);
      if (!live) {
        stream.write(`${status}\n`);
        return;
      }
      const picture = drawing(world, update, colors);
      // What does not fit on the screen cannot be drawn over.
      const fits = block.room() >= ACROSS && picture.length + 2 < (stream.rows ?? Number.POSITIVE_INFINITY);
      const about = fits && picture.length > 0 ? [joined(legendOf(update, colors), block.room())] : [];
      lines = [
        ...(fits ? picture : []),
        ...about,
        [status.slice(0, block.room()), colors.dim(status.slice(0, block.room()))],
      ];
      block.draw(lines);
    },
    log(line) {
      if (live && lines.length > 0) block.draw(lines, line);
      else stream.write(`${line}\n`);
    },
    end: () => block.end(),
  };
}

const legendOf = ({ imagined, batch }: RoomUpdate, { dim, red, green, cyan }: Colors): Piece[] => [
  painted(`episode 1 of ${batch.count}:`, dim),
  painted('● now', red),
  painted('◎ goal', green),
  ...(imagined ? [painted('· imagined', cyan)] : []),
];

function statusOf({ time, steps, batch, secondsLeft }: RoomUpdate): string {
  const { successes } = batch.outcome();
  const there = successes.reduce((sum, one) => sum + one, 0);
  return `step ${time}/${steps}  at the goal ${there}/${batch.count} (${formatFixed((100 * there) / batch.count, 0)} %)  ${formatClock(secondsLeft)} left`;
}

type Cell = ' ' | '█' | '·' | '●' | '◎';

/** The first environment in characters: what stands still is grey, the imagined path dotted. */
function drawing(world: World, { batch, imagined }: RoomUpdate, colors: Colors): Piece[] {
  const [channels, height, width] = world.picture;
  const { place } = world;
  if (!place) return [];
  const size = world.state.length;
  const state = batch.states.slice(0, size);
  const goal = state.slice();
  goal.set(batch.goals.subarray(0, world.goal));
  const factors = batch.factors.subarray(0, world.factors.length);
  const across = Math.min(ACROSS, width);
  const step = width / across;
  const rows = Math.ceil(height / (2 * step));
  // What is the same with the thing here and at the goal stands still.
  const [here, there] = [state, goal].map((at) => {
    const picture = new Uint8Array(channels * height * width);
    world.paint(at, factors, picture);
    return picture;
  });
  const ground = median(here);
  const cells: Cell[][] = Array.from({ length: rows }, () => new Array<Cell>(across).fill(' '));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        const at = (c * height + y) * width + x;
        if (here[at] === there[at] && Math.abs(here[at] - ground) > 100)
          cells[Math.floor(y / (2 * step))][Math.min(across - 1, Math.floor(x / step))] = '█';
      }
    }
  }
  const mark = (at: ArrayLike<number>, cell: Cell): void => {
    const [x, y] = place(at);
    const [column, row] = [Math.floor(x / step), Math.floor(y / (2 * step))];
    if (cells[row]?.[column] !== undefined) cells[row][column] = cell;
  };
  for (const at of imagined ?? []) mark(at, '·');
  mark(goal, '◎');
  mark(state, '●');
  const paints: Readonly<Record<Cell, (text: string) => string>> = {
    ' ': (text) => text,
    '█': colors.dim,
    '·': colors.cyan,
    '●': colors.red,
    '◎': colors.green,
  };
  return cells.map((row): Piece => [row.join(''), row.map((cell) => paints[cell](cell)).join('')]);
}

const median = (bytes: Uint8Array): number => Uint8Array.from(bytes).sort()[bytes.length >> 1];
