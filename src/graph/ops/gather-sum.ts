import { JepaError } from '../../base/errors.js';
import type { Dim } from '../dims.js';
import { apply1, constant, type Operator, operatorError, requireType, type Tensor } from '../tensor.js';
import { reshape } from './move.js';
import { matmul } from './product.js';

/** Sums of tokens at fixed places: how channels-last convolutions and their gradients collect what they need. */

export interface Places {
  /** Tokens that are read from. */
  readonly from: number;
  /** Tokens of the result. */
  readonly to: number;
  /** Places that each result sums over. */
  readonly terms: number;
  /** [to, terms] indices into the tokens that are read; -1 adds nothing. */
  readonly index: Int32Array;
}

/**
 * out[b, i] = sum over j of x[b, index[i, j]]. Shapes: x [batch, from, width] -> [batch, to, width]. Its gradient is the
 * same operator with the places the other way round.
 */
export const gatherSumOperator: Operator<{ places: Places }> = {
  name: 'gather_sum',
  infer: ([x], { places }) => {
    requireType('gather_sum', 'float32', x);
    if (x.shape.length !== 3 || x.shape[1] !== places.from) {
      throw operatorError('gather_sum', `needs [batch, ${places.from}, width]`, x);
    }
    return [{ dtype: 'float32', shape: [x.shape[0], places.to, x.shape[2]] }];
  },
  vjp: ({ attrs: { places } }, [grad]) => [grad && gatherSum(grad, turned(places))],
  lower: ({ inputs: [x], attrs: { places } }, [data], emit) => {
    const { from, to, terms, index } = places;
    const [batch, , width] = x.shape;
    let source = data;
    const empty = index.includes(-1);
    if (empty) {
      // One more token, zero, stands for "nothing".
      const zero = emit.node('Expand', [emit.floats([0], []), emit.shape([batch, 1, width])]);
      source = emit.node('Concat', [data, zero], { axis: 1 });
    }
    const rows = emit.constant({ dtype: 'int32', shape: [to * terms], data: index.map((i) => (i < 0 ? from : i)) });
    const gathered = emit.node('Gather', [source, rows], { axis: 1 });
    if (terms === 1) return [gathered];
    const apart = emit.reshape(gathered, [batch, to, terms, width]);
    return [emit.node('ReduceSum', [apart, emit.ints([2])], { keepdims: 0 })];
  },
};

export const gatherSum = (x: Tensor, places: Places): Tensor => apply1(gatherSumOperator, [x], { places });

const turnedPlaces = new WeakMap<Places, Places>();

/** Where every token that was read went: the places of the adjoint. */
function turned(places: Places): Places {
  const known = turnedPlaces.get(places);
  if (known) return known;
  const { from, to, terms, index } = places;
  const users: number[][] = Array.from({ length: from }, () => []);
  for (let i = 0; i < to; i++)
    for (let j = 0; j < terms; j++) if (index[i * terms + j] >= 0) users[index[i * terms + j]].push(i);
  const most = Math.max(1, ...users.map((list) => list.length));
  const back = new Int32Array(from * most).fill(-1);
  users.forEach((list, i) => {
    back.set(list, i * most);
  });
  const result = { from: to, to: from, terms: most, index: back };
  turnedPlaces.set(places, result);
  turnedPlaces.set(result, places);
  return result;
}

/** Channels below which a window is gathered in two steps, as copies of a few bytes each cost more than their bytes. */
const NARROW = 8;

/**
 * Up to this width times squared channels, a product with a matrix of zeros and ones gathers within lines faster than copies
 * of a few bytes each (7 ns a copy).
 */
const SHORT = 300;

/** [width * channels, columns * kernel * channels]: a line times this matrix are its windows, one after the other. */
function selection(width: number, columns: number, channels: number, { kernel, stride, padding }: Window): Tensor {
  const across = columns * kernel * channels;
  const data = new Float32Array(width * channels * across);
  for (let i = 0; i < columns * kernel; i++) {
    const at = Math.floor(i / kernel) * stride - padding + (i % kernel);
    if (at < 0 || at >= width) continue;
    for (let c = 0; c < channels; c++) data[(at * channels + c) * across + i * channels + c] = 1;
  }
  return constant({ dtype: 'float32', shape: [width * channels, across], data });
}

/**
 * Windows of a channels-last map: x [batch, height * width, channels] -> [batch, rows * columns, kernel * kernel *
 * channels] (window row, window column, channel), zero outside of the map. The result times a [kernel * kernel * channels,
 * out] matrix is a convolution.
 */
export function windows(
  x: Tensor,
  [height, width]: readonly [number, number],
  { kernel, stride, padding }: Window,
): { readonly patches: Tensor; readonly size: readonly [number, number] } {
  const rows = Math.floor((height + 2 * padding - kernel) / stride) + 1;
  const columns = Math.floor((width + 2 * padding - kernel) / stride) + 1;
  if (!(rows > 0 && columns > 0))
    throw new JepaError(`windows: a map of ${height} x ${width} is smaller than its kernel of ${kernel}`);
  const [batch, , channels] = x.shape as readonly [Dim, number, number];
  const lines = { kernel, stride, padding };
  const here = { kernel: 1, stride: 1, padding: 0 };
  const gather = (from: Tensor, size: readonly [number, number], down: Window, across: Window): Tensor =>
    gatherSum(from, placesOf(size, down, across));
  const size = [rows, columns] as const;
  if (channels >= NARROW) {
    const patches = gather(x, [height, width], lines, lines);
    return { patches: reshape(patches, [batch, rows * columns, kernel * kernel * channels]), size };
  }
  // Within lines first, then whole pieces of lines.
  const within =
    width * channels ** 2 <= SHORT
      ? matmul(reshape(x, [batch, height, width * channels]), selection(width, columns, channels, lines))
      : gather(x, [height, width], here, lines);
  const pieces = reshape(within, [batch, height * columns, kernel * channels]);
  const patches = gather(pieces, [height, columns], lines, here);
  return { patches: reshape(patches, [batch, rows * columns, kernel * kernel * channels]), size };
}

interface Window {
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
}

const windowPlaces = new Map<string, Places>();

/** Places of all windows, in the order (row, column, window row, window column); -1 outside of the map. */
function placesOf([height, width]: readonly [number, number], down: Window, across: Window): Places {
  const key = JSON.stringify([height, width, down, across]);
  const known = windowPlaces.get(key);
  if (known) return known;
  const starts = (size: number, { kernel, stride, padding }: Window): number[] =>
    Array.from({ length: Math.floor((size + 2 * padding - kernel) / stride) + 1 }, (_, i) => i * stride - padding);
  const inside = (at: number, size: number): boolean => at >= 0 && at < size;
  const index: number[] = [];
  for (const top of starts(height, down)) {
    for (const left of starts(width, across)) {
      for (let y = top; y < top + down.kernel; y++) {
        for (let x = left; x < left + across.kernel; x++) {
          index.push(inside(y, height) && inside(x, width) ? y * width + x : -1);
        }
      }
    }
  }
  const places = { from: height * width, to: index.length, terms: 1, index: Int32Array.from(index) };
  windowPlaces.set(key, places);
  return places;
}
