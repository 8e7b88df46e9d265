import { JepaError } from '../base/errors.js';
import type { Matrix } from '../base/linalg.js';
import { matrix } from '../base/linalg.js';
import { createProducts, type Panel, panelRows, panelSize } from '../base/products.js';
import { predictedClasses } from './logistic.js';
import type { Samples } from './samples.js';

/** Exact nearest neighbours by cosine similarity, and the weighted k-NN classifier of self-supervised papers. */

export interface Neighbours {
  /** [queries, k] rows of the bank, most similar first; equal ones in the order of the bank. */
  readonly indices: Int32Array;
  /** [queries, k] cosines, in double. */
  readonly similarities: Float64Array;
  readonly k: number;
}

/** Queries and bank rows of one block of similarities: block and operands stay in the second-level cache. */
const QUERIES = 256;
const BANK = 512;
/** Queries kept in the kernel's memory at a time; the bank is laid out again for each such part. */
const QUERY_PART = 16384;
/**
 * Neighbours kept beyond k while similarities are in single precision (error about 1e-7): the order, and which of nearly
 * equal ones come in, is decided by similarities in double.
 */
export const SPARE = 8;

/**
 * The k rows of bank [n, d] most similar to each row of queries [m, d]. Rows are normalised here; a zero row has
 * similarity 0 to everything. Time: about n m d / 20e9 seconds on one core.
 */
export function nearestNeighbours(bank: Samples, queries: Samples, k: number): Neighbours {
  const [n, width] = checkRows('bank', bank);
  const [m, queryWidth] = checkRows('queries', queries);
  if (width !== queryWidth) throw new JepaError(`k-NN: queries of width ${queryWidth} for a bank of width ${width}`);
  if (!(Number.isInteger(k) && k >= 1 && k <= n)) throw new JepaError(`k-NN: k = ${k} of a bank of ${n} rows`);
  const bankNorms = inverseNorms('bank', bank, n, width);
  const queryNorms = inverseNorms('queries', queries, m, width);
  const best = keepBest(m, Math.min(n, k + SPARE));

  const part = Math.min(QUERY_PART, m);
  const size = (rows: number, columns: number) => panelSize('float32', rows, columns);
  const memory = createProducts('float32', size(part, width) + size(width, BANK) + size(QUERIES, BANK));
  const left = memory.matrix(part, width);
  const right = memory.matrix(width, BANK);
  const block = memory.matrix(QUERIES, BANK);
  for (let firstQuery = 0; firstQuery < m; firstQuery += part) {
    const queryCount = Math.min(part, m - firstQuery);
    for (let i = 0; i < queryCount; i++) {
      const row = firstQuery + i;
      for (let j = 0; j < width; j++) left.data[i * left.stride + j] = queries.data[row * width + j] * queryNorms[row];
    }
    for (let firstRow = 0; firstRow < n; firstRow += BANK) {
      const rowCount = Math.min(BANK, n - firstRow);
      layOutTransposed(right, bank, bankNorms, firstRow, rowCount);
      for (let from = 0; from < queryCount; from += QUERIES) {
        const count = Math.min(QUERIES, queryCount - from);
        const similarities = panelRows(block, 0, count);
        similarities.data.fill(0);
        memory.accumulate(panelRows(left, from, count), right, similarities);
        for (let i = 0; i < count; i++) {
          best.offer(firstQuery + from + i, similarities.data, i * similarities.stride, rowCount, firstRow);
        }
      }
    }
  }

  return rankExactly(bank, queries, (query) => best.rows(query), k);
}

/**
 * The k best of each query's candidate rows of the bank, by similarities in double: the last step of a search whose
 * similarities were in single precision. There are at least k candidates, `SPARE` more are enough.
 */
export function rankExactly(
  bank: Samples,
  queries: Samples,
  candidates: (query: number) => Iterable<number>,
  k: number,
): Neighbours {
  const [n, width] = checkRows('bank', bank);
  const [m] = checkRows('queries', queries);
  const bankNorms = inverseNorms('bank', bank, n, width);
  const queryNorms = inverseNorms('queries', queries, m, width);
  const indices = new Int32Array(m * k);
  const similarities = new Float64Array(m * k);
  for (let query = 0; query < m; query++) {
    const exact = Array.from(candidates(query), (row) => {
      let sum = 0;
      for (let j = 0; j < width; j++) sum += queries.data[query * width + j] * bank.data[row * width + j];
      return { row, similarity: sum * queryNorms[query] * bankNorms[row] };
    });
    exact.sort((a, b) => b.similarity - a.similarity || a.row - b.row);
    for (let i = 0; i < k; i++) {
      indices[query * k + i] = exact[i].row;
      similarities[query * k + i] = exact[i].similarity;
    }
  }
  return { indices, similarities, k };
}

/** Writes bank rows [first, first + count), divided by their norms, as columns of `panel`. */
function layOutTransposed(
  panel: Panel<Float32Array>,
  bank: Samples,
  norms: Float64Array,
  first: number,
  count: number,
): void {
  const width = panel.rows;
  for (let i = 0; i < count; i++) {
    const norm = norms[first + i];
    const row = (first + i) * width;
    for (let j = 0; j < width; j++) panel.data[j * panel.stride + i] = bank.data[row + j] * norm;
  }
}

/** For each of `lists` lists the `size` largest values offered, with the rows they came from. */
function keepBest(lists: number, size: number) {
  const values = new Float32Array(lists * size).fill(Number.NEGATIVE_INFINITY);
  const rows = new Int32Array(lists * size);
  return {
    /** values[start .. start + count) belong to rows firstRow, firstRow + 1, ... */
    offer(list: number, offered: Float32Array, start: number, count: number, firstRow: number): void {
      const first = list * size;
      const last = first + size - 1;
      let least = values[last];
      for (let i = 0; i < count; i++) {
        const value = offered[start + i];
        if (value <= least) continue;
        // Insertion into the descending list: rare once it is full of near neighbours.
        let at = last;
        for (; at > first && values[at - 1] < value; at--) {
          values[at] = values[at - 1];
          rows[at] = rows[at - 1];
        }
        values[at] = value;
        rows[at] = firstRow + i;
        least = values[last];
      }
    },
    rows: (list: number) => Array.from(rows.subarray(list * size, (list + 1) * size)),
  };
}

function checkRows(what: string, x: Samples): [rows: number, width: number] {
  if (x.shape.length !== 2) throw new JepaError(`k-NN: ${what} must be [rows, width], not [${x.shape.join(', ')}]`);
  return [x.shape[0], x.shape[1]];
}

/** 1 / norm of each row, 0 for a zero row. */
export function inverseNorms(what: string, x: Samples, rows: number, width: number): Float64Array {
  const norms = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    let squares = 0;
    for (let j = 0; j < width; j++) squares += x.data[i * width + j] ** 2;
    if (!Number.isFinite(squares))
      throw new JepaError(`k-NN: row ${i} of the ${what} holds values that are not finite`);
    norms[i] = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  }
  return norms;
}

export interface Votes {
  /** [queries, classes] sums of exp(similarity / temperature) over the neighbours of each class. */
  readonly scores: Matrix;
  /** The class with the largest sum. */
  readonly predictions: Int32Array;
}

/** Weighted vote of the neighbours (Wu et al., CVPR 2018; temperature 0.07). `bankLabels` are 0 .. classes - 1. */
export function knnVote(
  neighbours: Neighbours,
  bankLabels: ArrayLike<number>,
  classes: number,
  temperature = 0.07,
): Votes {
  const { indices, similarities, k } = neighbours;
  const scores = matrix(indices.length / k, classes);
  for (let i = 0; i < indices.length; i++) {
    const label = bankLabels[indices[i]];
    if (!(label >= 0 && label < classes))
      throw new JepaError(`k-NN: label ${label} of bank row ${indices[i]} is not one of ${classes} classes`);
    scores.data[Math.floor(i / k) * classes + label] += Math.exp(similarities[i] / temperature);
  }
  return { scores, predictions: predictedClasses(scores) };
}
