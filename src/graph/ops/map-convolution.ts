import type { HostTensor } from '../../base/tensor.js';
import { type Dim, mulDims } from '../dims.js';
import { staticDim, type Tensor } from '../tensor.js';
import { windows } from './gather-sum.js';
import { reshape, transpose } from './move.js';
import { matmul } from './product.js';
import { transformAxis } from './transform-axis.js';

/** Convolutions of channels-last maps, in whichever of two forms has less to do. */

export interface MapConvolution {
  readonly stride: number;
  readonly padding: number;
}

export interface TokenMap {
  /** [batch, height * width, channels] */
  readonly tokens: Tensor;
  readonly size: readonly [number, number];
}

/**
 * Cross-correlation of a map x [batch, height * width, in] with weight [kernel, kernel, in, out]: tokens [batch, rows *
 * columns, out]. A wide layer with a kernel of 3 that keeps the map's size is computed with a third to a half of the
 * products (see `fewProducts`), every other as windows, laid out in memory, times a matrix.
 */
export function convolveMap({ tokens, size }: TokenMap, weight: Tensor, { stride, padding }: MapConvolution): TokenMap {
  const [kernel, , into, out] = weight.shape.map((dim) =>
    staticDim('convolve_map', dim, 'a size of the weight', weight),
  );
  const same = kernel === TAPS && stride === 1 && padding === 1;
  if (same && Math.min(into, out) >= WIDE && Math.min(...size) > 2)
    return { tokens: fewProducts(tokens, size, weight), size };
  const { patches, size: result } = windows(tokens, size, { kernel, stride, padding });
  return { tokens: matmul(patches, reshape(weight, [kernel * kernel * into, out])), size: result };
}

/** Channels from which on products outweigh the transforms around them. */
const WIDE = 64;
/** Length of the kernels that have a form with few products. */
const TAPS = 3;

/**
 * Convolution by minimal filtering (Winograd 1980; Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks):
 * along one axis, n results of a kernel of 3 are A ((G w) * (B x)) with n + 2 products instead of 3 n, where A, B and G are
 * constant matrices; along two axes likewise. Here G w and B x are matrices over channels, one product for every place.
 * Positions come before the batch, so that each transform is a product with the whole map at once. Exact but for rounding:
 * errors are 3 to 6 times those of the plain sum (2e-6 of the largest result).
 */
function fewProducts(x: Tensor, [height, width]: readonly [number, number], weight: Tensor): Tensor {
  const [down, across] = [filteringOf(height), filteringOf(width)];
  const [batch, positions, into] = x.shape as readonly [Dim, number, number];
  const out = weight.shape[3] as number;
  const places = down.products * across.products;
  const [all, every] = [mulDims(batch, into), mulDims(batch, out)];
  const map = reshape(transpose(x, [1, 0, 2]), [height, width, all]);
  const inputs = transformAxis(transformAxis(map, 0, down.input), 1, across.input); // [products, products, batch * in]
  const kernels = reshape(weight, [TAPS, TAPS, into * out]);
  const weights = transformAxis(transformAxis(kernels, 0, down.kernel), 1, across.kernel); // [products, products, in * out]
  const products = matmul(reshape(inputs, [places, batch, into]), reshape(weights, [places, into, out]));
  const apart = reshape(products, [down.products, across.products, every]);
  const result = transformAxis(transformAxis(apart, 1, across.output), 0, down.output); // [height, width, batch * out]
  return transpose(reshape(result, [positions, batch, out]), [1, 0, 2]);
}

/** Minimal filtering along an axis: result = output ((kernel w) * (input x)). */
interface Filtering {
  readonly products: number;
  /** [products, size] */
  readonly input: HostTensor<'float32'>;
  /** [products, 3] */
  readonly kernel: HostTensor<'float32'>;
  /** [size, products] */
  readonly output: HostTensor<'float32'>;
}

/**
 * Points at which the polynomials of a piece of 1 to 4 results are multiplied, besides infinity. Chosen for small rounding
 * errors: pairs of one sign each, and near 1 / p for every p.
 */
const POINTS: readonly (readonly number[])[] = [
  [1, -1],
  [0, 1, -1],
  [0.4, -0.4, 1.25, -1.25],
  [0, 2 / 3, -2 / 3, 1.5, -1.5],
];

/** An axis of `size` with a kernel of 3 and padding 1, in pieces of at most 4 results. */
function filteringOf(size: number): Filtering {
  const pieces = Math.ceil(size / POINTS.length);
  const input: number[][] = [];
  const kernel: number[][] = [];
  const columns: number[][] = [];
  for (let piece = 0; piece < pieces; piece++) {
    const start = Math.floor((size * piece) / pieces);
    const count = Math.floor((size * (piece + 1)) / pieces) - start;
    const points = POINTS[count - 1];
    for (let j = 0; j <= points.length; j++) {
      // Infinity comes last: there a polynomial's value is its leading coefficient.
      const finite = j < points.length;
      const others = points.filter((_, i) => i !== j);
      const scale = finite ? others.reduce((product, p) => product * (points[j] - p), 1) : 1;
      const powers = (length: number): number[] =>
        Array.from({ length }, (_, k) => (finite ? points[j] ** k : k === length - 1 ? 1 : 0));
      kernel.push(powers(TAPS).map((power) => power / scale));
      const taken = Array<number>(size).fill(0);
      coefficients(others).forEach((c, k) => {
        const at = start - 1 + k;
        if (at >= 0 && at < size) taken[at] = c;
      });
      input.push(taken);
      const given = Array<number>(size).fill(0);
      powers(count).forEach((power, i) => {
        given[start + i] = power;
      });
      columns.push(given);
    }
  }
  return {
    products: input.length,
    input: matrix(input),
    kernel: matrix(kernel),
    output: matrix(Array.from({ length: size }, (_, i) => columns.map((column) => column[i]))),
  };
}

/** Coefficients of the polynomial with these roots, lowest first. */
const coefficients = (roots: readonly number[]): number[] =>
  roots.reduce((poly, root) => poly.concat(0).map((c, k) => (k > 0 ? poly[k - 1] : 0) - root * c), [1]);

const matrix = (rows: readonly (readonly number[])[]): HostTensor<'float32'> => ({
  dtype: 'float32',
  shape: [rows.length, rows[0].length],
  data: Float32Array.from(rows.flat()),
});
