import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { collapseCell } from '../../bench/collapse.js';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { pairEnergy } from '../../src/energy/architectures.js';
import { ALL_CRITERIA, jepaCriteria } from '../../src/energy/criteria.js';
import { fitRidge, predictLinear, regressionScores } from '../../src/eval/ridge.js';
import { spectrum } from '../../src/eval/spectrum.js';
import { add, mul } from '../../src/graph/ops/elementwise.js';
import { concat } from '../../src/graph/ops/move.js';
import { mean } from '../../src/graph/ops/reduce.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { mlpForward, mlpSpec } from '../../src/nn/mlp.js';
import { makeModule } from '../../src/nn/weights.js';
import { createFit } from '../../src/optim/fit.js';
import { createEngine } from '../../src/runtime/engine.js';
import type { Engine } from '../../src/runtime/program.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 1 });
});
after(() => engine.close());

test('joint embeddings collapse with nothing to prevent it, and do not with it (E4)', async () => {
  const options = { steps: 120 };
  const none = await collapseCell(engine, 'joint-embedding', 'none', options);
  const kept = await collapseCell(engine, 'joint-embedding', 'vicreg', options);
  const generative = await collapseCell(engine, 'generative', 'none', options);
  // Not by rank: a joint embedding shrinks to a point in all directions alike (the rank of what is left was 3.5 after 120
  // steps), so that "rank below 2" would miss it. Its size and what it tells about the picture show it.
  assert.ok(none.spread < 0.02 * kept.spread && none.r2 < 0.2, JSON.stringify(none));
  assert.ok(kept.effectiveRank > 2 && kept.spread > 0.5 && kept.r2 > 0.8, JSON.stringify(kept));
  assert.ok(generative.effectiveRank > 2 && generative.r2 > 0.5, JSON.stringify(generative));
});

type Floats = HostTensor<'float32'>;
const KINDS = 4;
const TEXTURE = 4;

/** x tells the kind of a thing; y tells the kind and has a texture of its own. Both are mixed by fixed matrices. */
function things(seed: number, count: number): { x: Floats; y: Floats; kind: Floats; texture: Floats } {
  const random = createRandom(seed);
  const mix = createRandom(5, 'mix');
  const [mx, my] = [12 * KINDS, 12 * (KINDS + TEXTURE)].map((n) =>
    Float64Array.from({ length: n }, () => mix.normal()),
  );
  const [x, y] = [new Float32Array(12 * count), new Float32Array(12 * count)];
  const [kind, texture] = [new Float32Array(KINDS * count), new Float32Array(TEXTURE * count)];
  for (let i = 0; i < count; i++) {
    kind[i * KINDS + random.integer(KINDS)] = 1;
    for (let k = 0; k < TEXTURE; k++) texture[i * TEXTURE + k] = random.normal() * 0.5;
    for (let o = 0; o < 12; o++) {
      x[i * 12 + o] = 0.05 * random.normal();
      for (let k = 0; k < KINDS; k++) {
        x[i * 12 + o] += mx[o * KINDS + k] * kind[i * KINDS + k];
        y[i * 12 + o] += my[o * (KINDS + TEXTURE) + k] * kind[i * KINDS + k];
      }
      for (let k = 0; k < TEXTURE; k++)
        y[i * 12 + o] += my[o * (KINDS + TEXTURE) + KINDS + k] * texture[i * TEXTURE + k];
    }
  }
  return {
    x: float32([count, 12], x),
    y: float32([count, 12], y),
    kind: float32([count, KINDS], kind),
    texture: float32([count, TEXTURE], texture),
  };
}

const score = (train: Floats, trainTarget: Floats, s: Floats, target: Floats) => {
  const predicted = predictLinear(fitRidge(train, trainTarget, 1e-3), s);
  let right = 0;
  for (let i = 0; i < s.shape[0]; i++) {
    const best = (data: ArrayLike<number>, n: number): number => {
      let at = 0;
      for (let k = 1; k < n; k++) if (data[i * n + k] > data[i * n + at]) at = k;
      return at;
    };
    if (best(predicted.data, target.shape[1]) === best(target.data, target.shape[1])) right++;
  }
  return { r2: regressionScores(predicted, target).r2, accuracy: right / s.shape[0] };
};

test('a target encoder drops what cannot be predicted; an auto-encoder keeps it (E9)', async () => {
  const [x, y] = [input('x', ['batch', 12]), input('y', ['batch', 12])];
  const nets = ['encode-x', 'encode-y', 'predict'].map((name, i) =>
    makeModule(`${name}.`, mlpSpec(i === 2 ? [3, 3] : [12, 24, 3])),
  );
  const twin = [makeModule('encode.', mlpSpec([12, 24, 8])), makeModule('decode.', mlpSpec([8, 24, 12]))];
  const through = (i: number, t: Tensor): Tensor => mlpForward(t, nets[i].weights, i === 2 ? 1 : 2);
  const parts = {
    encodeX: (t: Tensor) => through(0, t),
    encodeY: (t: Tensor) => through(1, t),
    predict: (s: Tensor) => through(2, s),
  };
  const { sx, sy } = pairEnergy('jepa', parts, x, y) as { sx: Tensor; sy: Tensor };
  const { loss } = jepaCriteria(
    { sx, sy, prediction: parts.predict(sx) },
    { kind: 'vicreg', variance: 1, covariance: 1 },
    { ...ALL_CRITERIA, predictability: 5 },
  );
  const auto = pairEnergy(
    'auto-encoder',
    { encodeY: (t) => mlpForward(t, twin[0].weights, 2), decode: (s) => mlpForward(s, twin[1].weights, 2) },
    y,
    y,
  );
  const jepa = await createFit(engine, { name: 'things', modules: nets, loss, seed: 1, lr: 5e-3 });
  const ae = await createFit(engine, { name: 'twin', modules: twin, loss: mean(auto.energy), seed: 1, lr: 5e-3 });
  for (let step = 0; step < 400; step++) {
    const { x, y } = things(step + 1, 64);
    await jepa.step({ x, y });
    await ae.step({ y });
  }
  const [a, b] = [things(5001, 400), things(5002, 400)];
  const [use, useTwin] = [await jepa.program('use', { s: sy }), await ae.program('use', { s: auto.sy as Tensor })];
  const read = async (program: typeof use, y: Floats) => (await program.run({ y })).outputs.s as Floats;
  const [sa, sb] = [await read(use, a.y), await read(use, b.y)];
  const [ta, tb] = [await read(useTwin, a.y), await read(useTwin, b.y)];
  assert.ok(score(sa, a.kind, sb, b.kind).accuracy > 0.95, `kind ${score(sa, a.kind, sb, b.kind).accuracy}`);
  const dropped = score(sa, a.texture, sb, b.texture).r2;
  const kept = score(ta, a.texture, tb, b.texture).r2;
  assert.ok(dropped < 0.1, `texture of the JEPA ${dropped}`);
  assert.ok(kept > 0.5, `texture of the auto-encoder ${kept}`);
  await jepa.close();
  await ae.close();
});

test('each of the four criteria prevents its own collapse', async () => {
  const run = async (off: (keyof typeof ALL_CRITERIA)[]) => {
    const [x, y] = [input('x', ['batch', 12]), input('y', ['batch', 12])];
    const nets = {
      x: makeModule('x.', mlpSpec([12, 24, 3])),
      y: makeModule('y.', mlpSpec([12, 24, 3])),
      latent: makeModule('latent.', mlpSpec([6, 16, 3])),
      predict: makeModule('predict.', mlpSpec([6, 16, 3])),
    };
    const parts = {
      encodeX: (t: Tensor) => mlpForward(t, nets.x.weights, 2),
      encodeY: (t: Tensor) => mlpForward(t, nets.y.weights, 2),
      inferLatent: (s: Tensor, t: Tensor) => mlpForward(concat([s, t], 1), nets.latent.weights, 2),
      predict: (s: Tensor, z?: Tensor) => mlpForward(concat([s, z as Tensor], 1), nets.predict.weights, 2),
    };
    const { sx, sy, z, energy } = pairEnergy('jepa', parts, x, y) as Required<ReturnType<typeof pairEnergy>>;
    const { loss } = jepaCriteria(
      { sx, sy, prediction: parts.predict(sx, z), latent: mul(mean(mul(z, z), 1), 3) },
      { kind: 'vicreg', variance: 1, covariance: 1 },
      { ...ALL_CRITERIA, predictability: 5, ...Object.fromEntries(off.map((name) => [name, 0])) },
    );
    const fit = await createFit(engine, {
      name: `criteria-${off}`,
      modules: Object.values(nets),
      loss,
      seed: 2,
      lr: 5e-3,
    });
    for (let step = 0; step < 250; step++) {
      const { x, y } = things(step + 1, 64);
      await fit.step({ x, y });
    }
    const test = things(9001, 300);
    const program = await fit.program('use', { sx, sy, energy: mean(energy), information: add(mean(mul(z, z)), 0) });
    const { outputs } = await program.run({ x: test.x, y: test.y });
    await fit.close();
    const alive = (t: HostTensor): number =>
      Math.sqrt(
        spectrum({ shape: t.shape, data: t.data as Float32Array }).eigenvalues.reduce((a, b) => a + b, 0) / t.shape[1],
      );
    return {
      sx: alive(outputs.sx),
      sy: alive(outputs.sy),
      energy: Number(outputs.energy.data[0]),
      latent: Number(outputs.information.data[0]),
    };
  };
  const all = await run([]);
  assert.ok(all.sx > 0.5 && all.sy > 0.5 && all.energy < 0.3, JSON.stringify(all));
  const noInformation = await run(['informationX', 'informationY']);
  assert.ok(noInformation.sy < 0.15, `s_y shrinks to a point: ${JSON.stringify(noInformation)}`);
  const freeLatent = await run(['latentInformation']);
  assert.ok(freeLatent.latent > 5 * all.latent, `the latent carries the target: ${JSON.stringify([freeLatent, all])}`);
  const unpredictable = await run(['predictability']);
  assert.ok(unpredictable.energy > 2 * all.energy, `nothing is predicted: ${JSON.stringify([unpredictable, all])}`);
});
