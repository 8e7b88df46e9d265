import { createEngine, float32, graph, memoryDataset, parseConfig, trainLoop } from '../../src/browser.js';
import type { Backend } from '../../src/graph/index.js';

/** What the tests run in Node and in a page: nothing but the browser's entry. */

const IMAGES = 24;
const SIZE = 28;

/** Waves of many directions and lengths. */
function images(): Uint8Array {
  const at = (i: number, y: number, x: number): number =>
    Math.sin(x * (0.1 + 0.02 * i) + i) * Math.cos(y * (0.3 - 0.01 * i));
  return Uint8Array.from({ length: IMAGES * SIZE * SIZE }, (_, n) =>
    Math.round(127.5 * (1 + at(Math.floor(n / SIZE / SIZE), Math.floor(n / SIZE) % SIZE, n % SIZE))),
  );
}

export interface Trained {
  readonly losses: readonly number[];
  readonly gradientNorms: readonly number[];
  readonly rankme: number;
  readonly isolated: boolean;
}

/** Trains a recipe on one backend. */
export async function trainRecipe(recipe: unknown, backend: Backend): Promise<Trained> {
  const dataset = memoryDataset({ name: 'waves', width: SIZE, height: SIZE, channels: 1, pixels: images() });
  const losses: number[] = [];
  const gradientNorms: number[] = [];
  const engine = await createEngine({ backend });
  const { last, close } = await trainLoop({
    config: parseConfig(recipe),
    dataset,
    engine,
    events: {
      onStep: ({ loss, gradientNorm }) => {
        losses.push(loss);
        gradientNorms.push(gradientNorm);
      },
    },
  });
  await close();
  await engine.close();
  return {
    losses,
    gradientNorms,
    rankme: last?.rankme ?? Number.NaN,
    isolated: globalThis.crossOriginIsolated === true,
  };
}

/** Throws unless every number of two runs agrees, relatively. */
export function compare(got: Trained, expected: Trained, tolerance: number): void {
  const of = ({ losses, gradientNorms, rankme }: Trained): number[] => [...losses, ...gradientNorms, rankme];
  if (of(got).length !== of(expected).length)
    throw new Error(`${of(got).length} numbers instead of ${of(expected).length}`);
  of(got).forEach((value, i) => {
    const off = Math.abs(value / of(expected)[i] - 1);
    if (!(off < tolerance)) throw new Error(`number ${i}: ${value} is not ${of(expected)[i]}`);
  });
}

/** What is said of a run whose input has the wrong shape: errors must read the same everywhere. */
export async function mistake(backend: Backend): Promise<string> {
  const engine = await createEngine({ backend });
  const weight = graph.parameter('weight', [2]);
  const state = await engine.createState([weight]);
  const outputs = { y: graph.mul(graph.input('x', ['batch', 2]), weight) };
  const program = await engine.compile({ name: 'mistake', outputs }, state);
  const message = await program.run({ x: float32([1, 3], [1, 2, 3]) }).then(
    () => 'nothing was thrown',
    (error: Error) => `${error.name}: ${error.message}`,
  );
  await engine.close();
  return message;
}
