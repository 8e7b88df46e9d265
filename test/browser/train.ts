import {
  adamw,
  createEngine,
  createRandom,
  float32,
  graph,
  memoryDataset,
  parseConfig,
  trainLoop,
} from '../../src/browser.js';
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

/** Losses of ten steps of a regression: few kernels, for WebGPU on a software driver. */
export async function regression(backend: Backend): Promise<number[]> {
  const engine = await createEngine({ backend });
  const weight = graph.parameter('weight', [3, 4]);
  const error = graph.sub(graph.linear(graph.input('x', ['batch', 4]), weight), graph.input('y', ['batch', 3]));
  const loss = graph.mean(graph.square(error));
  const state = await engine.createState([weight]);
  const update = { loss, rule: adamw(), groups: [[weight]], followers: [] };
  const program = await engine.compile({ name: 'regression', outputs: { loss }, update }, state);
  const random = createRandom(1, 'regression');
  const losses: number[] = [];
  for (let step = 1; step <= 10; step++) {
    const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.uniform());
    const feeds = { x: float32([5, 4], numbers(20)), y: float32([5, 3], numbers(15)) };
    const { outputs } = await program.run(feeds, { step, groups: [{ lr: 0.1, weightDecay: 0.1 }], momentum: 1 });
    losses.push(Number(outputs.loss.data[0]));
  }
  await engine.close();
  return losses;
}

/** What is said of an input of the wrong shape and of one that is not finite: errors must read the same everywhere. */
export async function mistakes(backend: Backend): Promise<string[]> {
  const engine = await createEngine({ backend });
  const weight = graph.parameter('weight', [2]);
  const state = await engine.createState([weight]);
  const y = graph.scope('encoder', () => graph.exp(graph.mul(graph.input('x', ['batch', 2]), graph.add(weight, 1))));
  const program = await engine.compile({ name: 'mistake', outputs: { y } }, state);
  const refusal = await program.run({ x: float32([1, 3], [1, 2, 3]) }).then(
    () => 'nothing was thrown',
    (error: Error) => `${error.name}: ${error.message}`,
  );
  const place = await program.locateNonFinite({ x: float32([1, 2], [1, 1000]) });
  await engine.close();
  return [refusal, place];
}
