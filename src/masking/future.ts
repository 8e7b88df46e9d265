import { JepaError } from '../base/errors.js';
import { type Size, stackLists } from './blocks.js';
import type { IntegerDraws } from './draws.js';
import type { Masks2d } from './multiblock2d.js';

/**
 * From the first part of a sound or a clip, predict what comes: segments one after the other, each a block of targets of its own.
 * Grids are [times, tokens of a time]: the bands of a spectrogram, or the rows x columns of a tubelet.
 */
export interface FutureConfig {
  /** Time steps of the grid that the context has, and those of each segment. */
  readonly context: number;
  readonly segment: number;
  /** Number of segments: distances in time at which predictions are made. */
  readonly horizons: number;
}

/** Context and following segments of one batch, all tokens of each; they begin anywhere in the clip, at one time in all samples. */
export function sampleFuture(config: FutureConfig, grid: Size, batch: number, draws: IntegerDraws): Masks2d {
  const start = draws.integer(futureRoom(config, grid) + 1);
  return futureAt(config, grid, batch, start);
}

/** The masks whose context begins at time step `start`. Throws a `JepaError` where the last segment would end beyond the clip. */
export function futureAt(config: FutureConfig, grid: Size, batch: number, start: number): Masks2d {
  const { context, segment, horizons } = config;
  const room = futureRoom(config, grid);
  if (start > room) {
    throw new JepaError(
      `masks: a context from time step ${start} on ends beyond the clip; it may begin at ${room} at most`,
    );
  }
  const each = grid[1];
  const span = (from: number, length: number): Int32Array =>
    Int32Array.from({ length: length * each }, (_, i) => from * each + i);
  const seen = span(start, context);
  const segments = Array.from({ length: horizons }, (_, h) => span(start + context + h * segment, segment));
  return {
    context: stackLists(
      Array.from({ length: batch }, () => [seen]),
      seen.length,
    ),
    target: stackLists(
      Array.from({ length: batch }, () => segments),
      segment * each,
    ),
  };
}

/** Time steps that are left over: how far the context may begin from the start of the clip. */
export function futureRoom({ context, segment, horizons }: FutureConfig, [times]: Size): number {
  const room = times - context - segment * horizons;
  if (!(context >= 1 && segment >= 1 && horizons >= 1 && room >= 0)) {
    throw new JepaError(
      `masks: a context of ${context} and ${horizons} segments of ${segment} time steps do not fit ${times}; use a longer clip or fewer steps`,
    );
  }
  return room;
}
