import { JepaError } from '../../base/errors.js';
import { apply1, type Operator, operatorError, requireType, type Tensor } from '../tensor.js';
import { reshape } from './move.js';

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
const gatherSumOperator: Operator<{ places: Places }> = {
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

const windowPlaces = new Map<string, Places>();

/**
 * Windows of a channels-last map: x [batch, height * width, channels] -> [batch, rows * columns, kernel * kernel *
 * channels] (window row, window column, channel), zero outside of the map. The result times a [kernel * kernel * channels,
 * out] matrix is a convolution.
 */
export function windows(
  x: Tensor,
  [height, width]: readonly [number, number],
  { kernel, stride, padding }: { readonly kernel: number; readonly stride: number; readonly padding: number },
): { readonly patches: Tensor; readonly size: readonly [number, number] } {
  const rows = Math.floor((height + 2 * padding - kernel) / stride) + 1;
  const columns = Math.floor((width + 2 * padding - kernel) / stride) + 1;
  if (!(rows > 0 && columns > 0))
    throw new JepaError(`windows: a map of ${height} x ${width} is smaller than its kernel of ${kernel}`);
  const key = [height, width, kernel, stride, padding].join();
  let places = windowPlaces.get(key);
  if (!places) {
    const index = new Int32Array(rows * columns * kernel * kernel);
    let at = 0;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        for (let dy = 0; dy < kernel; dy++) {
          for (let dx = 0; dx < kernel; dx++) {
            const y = r * stride + dy - padding;
            const xx = c * stride + dx - padding;
            index[at++] = y >= 0 && y < height && xx >= 0 && xx < width ? y * width + xx : -1;
          }
        }
      }
    }
    places = { from: height * width, to: index.length, terms: 1, index };
    windowPlaces.set(key, places);
  }
  const [batch, , channels] = x.shape;
  const patches = reshape(gatherSum(x, places), [batch, rows * columns, kernel * kernel * (channels as number)]);
  return { patches, size: [rows, columns] };
}
