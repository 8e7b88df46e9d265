import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { inverseNorms, type Neighbours, rankExactly, SPARE } from '../eval/knn.js';
import { topk } from '../graph/ops/index.js';
import { matmul } from '../graph/ops/product.js';
import { input } from '../graph/tensor.js';
import type { Engine } from '../runtime/index.js';

/** Rows of the bank and queries of one run: the block of similarities and what makes it stay within a few hundred megabytes. */
const BANK = 32768;
const QUERIES = 1024;

/**
 * Exact nearest neighbours by cosine on the engine: the same result as `nearestNeighbours` of `src/eval/knn.ts`, on all
 * cores. Both [rows, width].
 */
export async function neighboursOnEngine(
  engine: Engine,
  bank: HostTensor<'float32'>,
  queries: HostTensor<'float32'>,
  k: number,
): Promise<Neighbours> {
  const [n, width] = bank.shape;
  const [m] = queries.shape;
  if (queries.shape[1] !== width)
    throw new JepaError(`k-NN: queries of width ${queries.shape[1]} for a bank of width ${width}`);
  if (!(Number.isInteger(k) && k >= 1 && k <= n)) throw new JepaError(`k-NN: k = ${k} of a bank of ${n} rows`);
  const [bankUnits, queryUnits] = [unitRows('bank', bank), unitRows('queries', queries)];
  const candidates = Array.from({ length: m }, (): { row: number; similarity: number }[] => []);
  const state = await engine.createState([]);
  for (let firstRow = 0; firstRow < n; firstRow += BANK) {
    const count = Math.min(BANK, n - firstRow);
    // Blocks have two sizes at most: all are full but the last.
    const part = float32([count, width], bankUnits.subarray(firstRow * width, (firstRow + count) * width));
    const kept = Math.min(count, k + SPARE);
    const similarities = matmul(input('queries', ['batch', width]), input('bank', [count, width]), {
      transposeB: true,
    });
    const best = topk(similarities, kept);
    const program = await engine.compile({ name: 'nearest neighbours', outputs: { ...best } }, state);
    for (let from = 0; from < m; from += QUERIES) {
      const to = Math.min(m, from + QUERIES);
      const some = float32([to - from, width], queryUnits.subarray(from * width, to * width));
      const { values, indices } = (await program.run({ queries: some, bank: part })).outputs;
      for (let i = 0; i < (to - from) * kept; i++) {
        const row = firstRow + (indices.data as Int32Array)[i];
        candidates[from + Math.floor(i / kept)].push({ row, similarity: (values.data as Float32Array)[i] });
      }
    }
    await program.close();
  }
  const wanted = Math.min(n, k + SPARE);
  const best = (query: number): number[] => {
    const list = candidates[query].sort((a, b) => b.similarity - a.similarity || a.row - b.row);
    return list.slice(0, wanted).map(({ row }) => row);
  };
  return rankExactly(bank, queries, best, k);
}

function unitRows(what: string, x: HostTensor<'float32'>): Float32Array {
  const [rows, width] = x.shape;
  const norms = inverseNorms(what, x, rows, width);
  const units = new Float32Array(x.data.length);
  for (let i = 0; i < rows; i++) {
    for (let j = i * width; j < (i + 1) * width; j++) units[j] = x.data[j] * norms[i];
  }
  return units;
}
