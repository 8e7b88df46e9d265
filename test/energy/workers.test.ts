import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { meanEnergy } from '../../src/energy/distance.js';
import { infoNce, ntXent } from '../../src/energy/infonce.js';
import { bcsLoss, lejepaLoss, randomDirections, sigreg } from '../../src/energy/sigreg.js';
import { rowsOf, varianceCovariance, vicreg } from '../../src/energy/vicreg.js';
import {
  add,
  expandDims,
  input,
  linear,
  mean,
  parameter,
  square,
  stack,
  type Tensor,
  tanh,
} from '../../src/graph/index.js';
import { sgd } from '../../src/optim/sgd.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { assertNear, normals } from './numeric.js';

/** Losses over the whole batch of two views' embeddings [batch, width]. */
const LOSSES: Record<string, (x: Tensor, y: Tensor, directions: Tensor) => Tensor> = {
  smoothL1: (x, y) => meanEnergy(x, y),
  cosine: (x, y) => meanEnergy(x, y, 'cosine'),
  vicreg: (x, y) => vicreg(x, y).loss,
  tokens: (x, y) => varianceCovariance(rowsOf(stack([x, y], 1), 'flattened')).loss,
  sigreg: (x, _, directions) => sigreg(x, directions),
  bcs: (x, y, directions) => bcsLoss(x, y, directions).loss,
  lejepaViewsFirst: (x, y, directions) => lejepaLoss(stack([x, y], 0), directions).loss,
  lejepaBatchFirst: (x, y, directions) =>
    add(lejepaLoss(stack([x, y], 1), directions, { views: 1, axis: 0, globals: 1 }).loss, 0.5),
  perSample: (x, y) => meanEnergy(expandDims(x, 1), expandDims(y, 1), 'l1'),
  infoNce: (x, y) => infoNce(x, y, 0.2),
  ntXent: (x, y) => ntXent(x, y, 0.2),
};

const WIDTH = 4;
const BATCH = 7;
const feeds = {
  a: normals(1, [BATCH, 5]),
  b: normals(2, [BATCH, 5]),
  directions: randomDirections(createRandom(3), WIDTH, 8),
};

const START = normals(4, [WIDTH, 5], 0, 0.5);

/** Loss and gradient (the step of gradient descent with rate 1). */
async function lossAndGradient(engine: Engine, loss: (typeof LOSSES)[string]): Promise<[number, Float32Array]> {
  const weight = parameter('weight', [WIDTH, 5]);
  const embed = (name: string): Tensor => linear(input(name, ['batch', 5]), weight);
  const value = loss(embed('a'), embed('b'), input('directions', [WIDTH, 8]));
  const state = await engine.createState([weight]);
  await state.write(new Map([['weight', START]]));
  const update = { loss: value, rule: sgd(), groups: [[weight]], followers: [] };
  const program = await engine.compile({ name: 'loss', outputs: { loss: value }, update }, state);
  const result = await program.run(feeds, { step: 1, groups: [{ lr: 1, weightDecay: 0 }], momentum: 1 });
  const moved = (await state.read(['weight'])).get('weight')!.data;
  await program.close();
  return [result.outputs.loss.data[0] as number, START.data.map((w, i) => w - moved[i])];
}

let engines: Engine[] = [];
before(async () => {
  engines = await Promise.all([1, 2, 3].map((workers) => createEngine({ workers })));
});
after(() => Promise.all(engines.map((engine) => engine.close())));

for (const [name, loss] of Object.entries(LOSSES)) {
  test(`${name}: slices of the batch give the loss and gradient of the whole`, async () => {
    const [[whole, gradient], ...others] = await Promise.all(engines.map((engine) => lossAndGradient(engine, loss)));
    const largest = Math.max(...gradient.map(Math.abs));
    assert.ok(largest > 1e-3, 'the loss has a gradient');
    for (const [value, sliced] of others) {
      assertNear([value], [whole], 1e-5, 0, 'loss');
      assertNear(sliced, gradient, 0, 1e-5 * Math.max(largest, 0.1), 'gradient');
    }
  });
}

test('a batch that is worked on in pieces gives the gradient of the whole', async () => {
  const rows = 20_000;
  const weight = parameter('weight', [64, 64]);
  let tokens = linear(input('x', ['batch', 64]), weight);
  for (let i = 0; i < 8; i++) tokens = tanh(linear(tokens, weight));
  const loss = mean(square(tokens));
  const data = { x: normals(5, [rows, 64]) };
  const results = [];
  for (const engine of engines) {
    const state = await engine.createState([weight]);
    await state.write(new Map([['weight', normals(6, [64, 64], 0, 0.15)]]));
    const update = { loss, rule: sgd(), groups: [[weight]], followers: [] };
    const program = await engine.compile({ name: 'large', outputs: { loss }, update }, state);
    assert.ok(program.peakBytes(data) > 64e6, 'more than is held at once');
    const { outputs, gradientNorm } = await program.run(data, {
      step: 1,
      groups: [{ lr: 0, weightDecay: 0 }],
      momentum: 1,
    });
    results.push([outputs.loss.data[0] as number, gradientNorm]);
    await program.close();
  }
  for (const result of results.slice(1)) assertNear(result, results[0], 1e-5);
});
