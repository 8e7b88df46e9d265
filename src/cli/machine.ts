import { createRandom } from '../base/random.js';
import { float32 } from '../base/tensor.js';
import { matmul } from '../graph/ops/product.js';
import { sum } from '../graph/ops/reduce.js';
import { input, parameter } from '../graph/tensor.js';
import type { Engine } from '../runtime/index.js';

const SIDE = 1024;
/** Rows for each worker in one run. */
const ROWS = 1024;
const PRODUCTS = 4;

/**
 * FLOP/s of a large product on all workers of an engine: the best of several runs, as a disturbed one says nothing of the
 * machine. Products stand in a row and end in sums, so that copies to and from the graph hardly count.
 */
export async function measureProducts(engine: Engine, rounds = 6): Promise<number> {
  const rows = ROWS * engine.workers;
  const random = createRandom(0, 'products');
  const values = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.uniform() - 0.5);
  const weight = parameter('weight', [SIDE, SIDE]);
  const a = input('a', ['batch', SIDE]);
  let product = a;
  for (let i = 0; i < PRODUCTS; i++) product = matmul(product, weight);
  const state = await engine.createState([weight]);
  await state.write(
    new Map([
      [
        'weight',
        float32(
          [SIDE, SIDE],
          values(SIDE * SIDE).map((x) => x / 16),
        ),
      ],
    ]),
  );
  const program = await engine.compile({ name: 'products', outputs: { sums: sum(product, 1) } }, state);
  const feeds = { a: float32([rows, SIDE], values(rows * SIDE)) };
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round <= rounds; round++) {
    const started = performance.now();
    await program.run(feeds);
    // The first run makes arenas.
    if (round > 0) best = Math.min(best, performance.now() - started);
  }
  await program.close();
  return (PRODUCTS * 2 * rows * SIDE * SIDE) / (best / 1000);
}
