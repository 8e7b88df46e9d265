import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRandom } from '../src/base/random.js';
import { float32, type HostTensor, sizeOf } from '../src/base/tensor.js';
import { readSettings } from '../src/cli/settings.js';
import { storeTensor } from '../src/hub/raw.js';
import { writeSafetensors } from '../src/hub/weights.js';
import { encoderInputs } from '../src/methods/method.js';
import { initialValues } from '../src/nn/weights.js';
import { createEngine } from '../src/runtime/index.js';
import { buildMethod } from '../src/train/build.js';
import { crossEntropyMethod } from '../src/world/cem.js';
import { goalDistances, overTime, pathsBySteps } from '../src/world/planning/objectives.js';
import { openPlanScores, type PlanningModel } from '../src/world/planning/planner.js';
import { isWorldModel, nextStates } from '../src/world/world-model.js';
import { avx512Preload, findTorch, Peer, pause, timing } from './peer.js';

/**
 * Time of one action of the reference planner of Two Rooms (EB-JEPA, arXiv 2602.03604: cross-entropy method, 200 samples, 20
 * iterations, horizon 90), on the published world model with random weights, beside PyTorch in one run on the same draws.
 * `node dist/bench/planning.js [--rounds n] [--json]`; PyTorch where JEPA_PYTHON or python3 has it.
 */
const PLAN = { iterations: 20, samples: 200, horizon: 90, elites: 20, std: 1.5, limit: 2.45 };

const folder = mkdtempSync(join(tmpdir(), 'jepa-planning-'));
const fileOf = (name: string): string => join(folder, name);
const write = (name: string, { data }: HostTensor<'float32'>): string => {
  writeFileSync(fileOf(name), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return fileOf(name);
};

function normal(shape: readonly number[], label: string): HostTensor<'float32'> {
  const data = new Float32Array(sizeOf(shape));
  createRandom(1, label).fillNormal(data);
  return float32(shape, data);
}

async function main(rounds: number, log: (line: string) => void) {
  const scaling = { range: 'own', mean: [0, 0], std: [1, 1] } as const;
  const episodes = { observation: [2, 65, 65], action: 2, scaling, longest: PLAN.limit };
  const method = buildMethod(readSettings('two-rooms-published').config, { episodes });
  if (!isWorldModel(method)) throw new Error('planning: the recipe two-rooms-published is no world model');
  const { config, modules, encoder } = method;
  if (config.encoder.kind !== 'impala') throw new Error('planning: the peer has an IMPALA encoder only');
  const { blocks } = config.encoder;
  const { iterations, samples, horizon, elites, std, limit } = PLAN;
  const { actions, observation } = config;
  const threads = availableParallelism();
  const pictures = normal([2, ...observation], 'pictures');
  const noise = normal([iterations, samples, horizon, actions], 'noise');
  const learned = [modules.encoder, modules.predictor];
  const values = new Map(learned.flatMap((module) => [...initialValues(module, createRandom(1))]));
  writeSafetensors(fileOf('weights'), new Map([...values].map(([name, value]) => [name, storeTensor(value)])));

  // This package: pictures are encoded once, the samples are shared by the workers.
  const engine = await createEngine({ workers: threads });
  const state = await engine.createState(learned.flatMap(({ tensors }) => [...tensors.values()]));
  await state.write(values);
  const seen = encoderInputs(encoder);
  const [name] = Object.keys(seen);
  const encoding = await engine.compile({ name: 'encoder', outputs: { states: encoder.represent(seen) } }, state);
  const model: PlanningModel = {
    width: encoder.width,
    actions,
    futures: [pathsBySteps(nextStates(modules, config))],
    cost: (path, goal) => overTime(goalDistances(path, goal, 3), 2, 'sum'),
  };
  const scores = await openPlanScores(engine, state, model, horizon);
  const plan = async (): Promise<Float64Array> => {
    const { data } = (await encoding.run({ [name]: pictures })).outputs.states;
    const row = (i: number) =>
      float32([model.width], (data as Float32Array).slice(i * model.width, (i + 1) * model.width));
    const [now, goal] = [row(0), row(1)];
    const size = samples * horizon * actions;
    const { mean } = await crossEntropyMethod(
      (plans) => scores.costs(now, goal, plans),
      {
        ...{ horizon, width: actions, samples, elites, iterations, std: Array(actions).fill(std) },
        limit: (action) => {
          const length = Math.hypot(...action);
          for (let i = 0; i < action.length; i++) action[i] *= Math.min(length, limit) / (length + 1e-6);
        },
      },
      (iteration) => noise.data.subarray(iteration * size, (iteration + 1) * size),
    );
    return mean;
  };
  const own = await plan();

  const torch = findTorch();
  const preload = torch && avx512Preload();
  const described = {
    ...{ threads, blocks, observation, elites, std, limit },
    ...{ plans: noise.shape, weights: fileOf('weights'), pictures: write('pictures', pictures) },
    ...{ noise: write('noise', noise), out: fileOf('plan') },
  };
  const peers: { title: string; peer: Peer; ms: number[]; difference: number }[] = [];
  for (const library of torch ? [undefined, ...(preload ? [preload] : [])] : []) {
    for (const again of [true, false]) {
      const title = `PyTorch, picture encoded ${again ? 'for every sample' : 'once'}${library ? ', AVX-512' : ''}`;
      const env = library ? { ...process.env, LD_PRELOAD: library } : process.env;
      const peer = await Peer.start(torch?.python as string, 'planning.py', { ...described, again }, 'eager', env);
      if (typeof peer === 'string') log(`${title} does not run: ${peer}`);
      else {
        const theirs = new Float32Array(Uint8Array.from(readFileSync(fileOf('plan'))).buffer);
        const difference = Math.max(...theirs.map((value, i) => Math.abs(value - own[i])));
        peers.push({ title, peer, ms: [], difference });
      }
    }
  }
  const ours: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    await plan();
    ours.push(performance.now() - start);
    for (const { peer, ms } of peers) {
      await pause(60);
      ms.push(...(await peer.steps(1)).ms);
    }
  }
  const best = timing(ours);
  // Three gates of [width + actions, width] for every sample, step and iteration.
  const gmac = (iterations * samples * horizon * 3 * model.width * (model.width + actions)) / 1e9;
  log(
    `one action: ${iterations} iterations of ${samples} plans of ${horizon} steps, ${gmac.toFixed(0)} GMAC in the predictor`,
  );
  log(
    `this package: ${(best.min / 1000).toFixed(2)} s (median ${(best.median / 1000).toFixed(2)}), ${((2 * gmac) / (best.min / 1000)).toFixed(0)} GFLOP/s`,
  );
  const results = peers.map(({ title, peer, ms, difference }) => {
    const t = timing(ms);
    peer.stop();
    log(
      `${title}: ${(t.min / 1000).toFixed(2)} s, ${(t.min / best.min).toFixed(2)} times ours (median ${(t.median / best.median).toFixed(2)}), torch.mm ${peer.mm.toFixed(0)} GFLOP/s; largest difference of the plans ${difference.toExponential(1)}`,
    );
    return { title, ...t, ratio: t.min / best.min, medianRatio: t.median / best.median, mm: peer.mm, difference };
  });
  if (!torch) log('PyTorch cannot be imported (set JEPA_PYTHON to a Python that has it): no comparison');
  await engine.close();
  return { ...best, gmac, peers: results };
}

const args = process.argv.slice(2);
const json = args.includes('--json');
const rounds = args.includes('--rounds') ? Number(args[args.indexOf('--rounds') + 1]) : 3;
try {
  const result = await main(rounds, (line) => (json ? console.error(line) : console.log(line)));
  if (json) console.log(JSON.stringify(result, null, 2));
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);
