import { type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { add, mul } from '../../src/graph/ops/elementwise.js';
import { mean, sum } from '../../src/graph/ops/reduce.js';
import { input, parameter, type Tensor } from '../../src/graph/tensor.js';
import { adam, adamw } from '../../src/optim/adam.js';
import { clipNorm, clipValues } from '../../src/optim/clip.js';
import { lars } from '../../src/optim/lars.js';
import * as schedules from '../../src/optim/schedules.js';
import { sgd } from '../../src/optim/sgd.js';
import { createEngine } from '../../src/runtime/engine.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import type { Engine, Program, State } from '../../src/runtime/program.js';
import type { GroupHyper, UpdateRule, UpdateSpec } from '../../src/runtime/update.js';
import {
  attempt,
  difference,
  type GoldenResult,
  type Harness,
  readCases,
  readTensors,
  type Tolerance,
} from './harness.js';
import { goldenBackend } from './target.js';

interface ScheduleCase {
  name: string;
  kind: string;
  attrs: Record<string, unknown>;
  rtol: number;
  firstStep?: number;
  steps?: number[];
  values: number[];
}

type RunLength = Parameters<typeof schedules.scheduleSteps>[0];

/** Every kind of schedules.json; its attributes have the names of the function's own. */
const SCHEDULES: Record<string, (attrs: never) => schedules.Schedule> = {
  'warmup-cosine': schedules.warmupCosine,
  'cosine-weight-decay': schedules.cosineWeightDecay,
  'linear-momentum': (a: RunLength & { start: number; end: number }) =>
    schedules.linearMomentum({ ...a, updates: a.iterationsPerEpoch * a.epochs * a.ipeScale }),
  'warmup-stable-decay': (a: Parameters<typeof schedules.warmupStableDecay>[0] & { lrScale?: number }) => {
    const schedule = schedules.warmupStableDecay(a);
    return (step) => (a.lrScale ?? 1) * schedule(step);
  },
  'linear-decay': schedules.linearDecay,
  'linear-warmup-cosine-min': schedules.linearWarmupCosineMin,
  'epoch-warmup-cosine': schedules.epochWarmupCosine,
  'epoch-warmup-cosine-lagged': schedules.epochWarmupCosineLagged,
  'half-cycle-cosine': schedules.halfCycleCosine,
  'cosine-momentum': schedules.cosineMomentum,
  'warmup-cosine-fraction': schedules.warmupCosineFraction,
  'linspace-warmup-cosine': schedules.linspaceWarmupCosine,
  'linspace-constant': schedules.linspaceConstant,
  'cosine-inclusive': schedules.cosineInclusive,
  'warmup-cosine-inclusive': schedules.warmupCosineInclusive,
  'linear-momentum-ramp': schedules.linearMomentumRamp,
  'step-decay': schedules.stepDecay,
  'multi-step-decay': schedules.multiStepDecay,
  'one-cycle': schedules.oneCycle,
  'one-cycle-momentum': schedules.oneCycleMomentum,
  'cosine-restarts': schedules.cosineRestarts,
};

async function* checkSchedules(folder: string): AsyncIterable<GoldenResult> {
  for (const record of readCases<{ schedules: ScheduleCase[] }>(folder, 'schedules.json').schedules) {
    yield attempt(record.name, () => {
      const build = SCHEDULES[record.kind];
      if (!build) return [`unknown schedule kind ${record.kind}`];
      const { attrs, values, rtol } = record;
      const schedule = build(attrs as never);
      const steps = record.steps ?? values.map((_, i) => record.firstStep! + i);
      // The two lists computed in float32 by the reference have a tolerance of 1e-6, and 1e-7 absolute (README).
      const tolerance = { rtol, atol: rtol === 1e-6 ? 1e-7 : 0 };
      const failures = [
        difference(
          'value',
          { shape: [steps.length], data: steps.map(schedule) },
          { shape: [values.length], data: values },
          tolerance,
        ),
      ];
      if ('ipeScale' in attrs) {
        const { warmupSteps, totalSteps } = schedules.scheduleSteps(attrs as unknown as RunLength);
        if (warmupSteps !== attrs.warmupSteps)
          failures.push(`warm-up of ${warmupSteps} steps instead of ${attrs.warmupSteps}`);
        if (totalSteps !== attrs.totalSteps)
          failures.push(`total of ${totalSteps} steps instead of ${attrs.totalSteps}`);
      }
      return failures;
    });
  }
}

// Optimizers, clipping and moving averages run through the engine, on two workers where the target has them.

type Keys = Record<string, string>;
type PerParameter = Record<string, Tolerance>;

interface OptimizerCase {
  name: string;
  file: string;
  algorithm: string;
  attrs: Record<string, unknown> & { lr?: number };
  groups: {
    params: string[];
    weight_decay?: number;
    betas?: [number, number];
    eps?: number;
    lrScale?: number;
    decayScheduled?: boolean;
  }[];
  steps: number;
  lr?: number[];
  weightDecay?: number[];
  clip?: { kind: string; value: number; normBefore?: number[] };
  noGradient?: { param: string; step: number }[];
  initial: Keys;
  gradients: Keys;
  parameters: Keys;
  state: Record<string, Keys>;
  tolerance: PerParameter;
}

interface ClippingCase {
  name: string;
  file: string;
  kind: string;
  value: number;
  norm?: number;
  sets?: string[][];
  norms?: number[];
  gradients: Keys;
  clipped: Keys;
  tolerance: Tolerance;
}

interface EmaCase {
  name: string;
  file: string;
  momentum: number[];
  target0: Keys;
  online: Keys;
  target: Keys;
  tolerance: Tolerance;
}

type Floats = HostTensor<'float32'>;

/** The tensor of a key, or one of the tensors stacked in it along axis 0. */
function tensorAt(tensors: Map<string, HostTensor>, key: string, index?: number): Floats {
  const whole = tensors.get(key);
  if (whole?.dtype !== 'float32') throw new Error(`no float32 tensor ${key}`);
  if (index === undefined) return whole as Floats;
  const shape = whole.shape.slice(1);
  const size = sizeOf(shape);
  return { dtype: 'float32', shape, data: (whole as Floats).data.slice(index * size, (index + 1) * size) };
}

/** A batch of two samples that both have this gradient. */
const twice = ({ shape, data }: Floats): Floats => ({
  dtype: 'float32',
  shape: [2, ...shape],
  data: Float32Array.of(...data, ...data),
});

/** A loss whose gradient with respect to each parameter is its input `given <name>`, averaged over the batch. */
function lossWithGradients(parameters: Map<string, Tensor>): Tensor {
  const terms = [...parameters].map(([name, p]) => {
    const given = input(`given ${name}`, ['batch', ...p.shape]);
    return sum(mul(mean(given, 0), p));
  });
  return terms.reduce(add);
}

const makeParameters = (names: Iterable<string>, initial: Map<string, Floats>): Map<string, Tensor> =>
  new Map([...names].map((name) => [name, parameter(name, initial.get(name)!.shape)]));

async function trainingProgram(
  engine: Engine,
  state: State,
  rule: UpdateRule,
  parameters: Map<string, Tensor>,
  groups: readonly (readonly string[])[],
  followers: UpdateSpec['followers'] = [],
): Promise<Program> {
  const loss = lossWithGradients(parameters);
  const named = groups.map((names) => names.map((name) => parameters.get(name)!));
  return engine.compile({ name: 'golden', outputs: { loss }, update: { loss, rule, groups: named, followers } }, state);
}

function ruleOf({ algorithm, attrs, clip }: OptimizerCase): UpdateRule {
  const { lr: _lr, excludeBiasAndNorm: _exclude, excludeWhenNoDecay: _exclude2, ...options } = attrs;
  const rules: Record<string, () => UpdateRule> = {
    adamw: () => adamw(options),
    adam: () => adam(options),
    sgd: () => sgd(options),
    lars: () => lars(options),
  };
  if (!rules[algorithm]) throw new Error(`unknown algorithm ${algorithm}`);
  if (clip && clip.kind !== 'norm' && clip.kind !== 'value') throw new Error(`unknown kind of clipping ${clip.kind}`);
  const rule = rules[algorithm]();
  return clip?.kind === 'value' ? clipValues(rule, clip.value) : rule;
}

/** Our names of the optimizer state. */
const SLOTS: Record<string, string> = { m: 'm', v: 'v', momentum: 'buffer' };

async function optimizer(engine: Engine, folder: string, each: OptimizerCase): Promise<(string | undefined)[]> {
  const tensors = readTensors(folder, each.file);
  const { attrs, tolerance, clip } = each;
  const initial = new Map(Object.entries(each.initial).map(([name, key]) => [name, tensorAt(tensors, key)]));
  const rule = ruleOf(each);

  // LARS leaves out vectors, or groups without decay: groups of their own.
  const groups = each.groups.flatMap((group) => {
    const whole = { ...group, trustRatio: !(attrs.excludeWhenNoDecay && !group.weight_decay) };
    if (!attrs.excludeBiasAndNorm) return [whole];
    const isVector = (name: string): boolean => initial.get(name)!.shape.length <= 1;
    return [
      { ...whole, params: group.params.filter((name) => !isVector(name)) },
      { ...whole, params: group.params.filter(isVector), trustRatio: false },
    ];
  });
  const hyper = (group: (typeof groups)[number], step: number): GroupHyper => ({
    lr: (each.lr?.[step] ?? attrs.lr!) * (group.lrScale ?? 1),
    weightDecay: (group.decayScheduled === false ? undefined : each.weightDecay?.[step]) ?? group.weight_decay ?? 0,
    betas: group.betas,
    eps: group.eps,
    trustRatio: group.trustRatio,
  });

  // A parameter that has no gradient at some steps is updated by a program of its own, with its own count of steps.
  const units = each.noGradient
    ? groups.flatMap((group) => group.params.map((name) => [{ ...group, params: [name] }]))
    : [groups];
  const parameters = makeParameters(initial.keys(), initial);
  const state = await engine.createState([...parameters.values()]);
  await state.write(initial);
  const programs = await Promise.all(
    units.map(async (unit) => {
      const names = unit.flatMap((group) => group.params);
      const own = new Map(names.map((name) => [name, parameters.get(name)!]));
      const lists = unit.map((group) => group.params);
      return { unit, names, count: 0, program: await trainingProgram(engine, state, rule, own, lists) };
    }),
  );

  const failures: (string | undefined)[] = [];
  for (let step = 0; step < each.steps; step++) {
    for (const one of programs) {
      if (each.noGradient?.some((skip) => skip.step === step && one.names.includes(skip.param))) continue;
      const feeds = one.names.map((name) => [`given ${name}`, twice(tensorAt(tensors, each.gradients[name], step))]);
      const { gradientNorm } = await one.program.run(Object.fromEntries(feeds), {
        step: ++one.count,
        groups: one.unit.map((group) => hyper(group, step)),
        momentum: 1,
        clipNorm: clip?.kind === 'norm' ? clip.value : undefined,
      });
      if (clip?.normBefore) failures.push(numberDifference(`norm ${step}`, gradientNorm, clip.normBefore[step]));
    }
    const values = await state.read();
    for (const [name, key] of Object.entries(each.parameters)) {
      const expected = tensorAt(tensors, key, step);
      failures.push(difference(`${name} after step ${step}`, values.get(name)!, expected, tolerance[name]));
    }
  }
  const slots = new Map((await Promise.all(programs.map(({ program }) => program.readSlots()))).flatMap((s) => [...s]));
  for (const [name, keys] of Object.entries(each.state)) {
    for (const [slot, key] of Object.entries(keys)) {
      const got = slots.get(`${SLOTS[slot]}/${name}`);
      if (!got) failures.push(`no state ${slot} of ${name}`);
      else failures.push(difference(`${slot} of ${name}`, got, tensorAt(tensors, key), tolerance[name]));
    }
  }
  for (const { program } of programs) await program.close();
  return failures.filter(Boolean).slice(0, 3);
}

const numberDifference = (what: string, got: number, expected: number): string | undefined =>
  difference(what, { shape: [], data: [got] }, { shape: [], data: [expected] }, { rtol: 1e-5, atol: 1e-7 });

/** Parameters that start at zero and move by minus the clipped gradient. */
async function clipping(engine: Engine, folder: string, each: ClippingCase): Promise<(string | undefined)[]> {
  const tensors = readTensors(folder, each.file);
  const gradients = new Map(Object.entries(each.gradients).map(([name, key]) => [name, tensorAt(tensors, key)]));
  if (each.sets) return clippedSets(tensors, gradients, each);
  if (each.kind !== 'norm' && each.kind !== 'value') return [`unknown kind ${each.kind}`];
  const names = [...gradients.keys()];
  const parameters = makeParameters(names, gradients);
  const state = await engine.createState([...parameters.values()]);
  const rule = each.kind === 'value' ? clipValues(sgd(), each.value) : sgd();
  const program = await trainingProgram(engine, state, rule, parameters, [names]);
  const feeds = names.map((name) => [`given ${name}`, twice(gradients.get(name)!)]);
  const { gradientNorm } = await program.run(Object.fromEntries(feeds), {
    step: 1,
    groups: [{ lr: 1, weightDecay: 0 }],
    momentum: 1,
    clipNorm: each.kind === 'norm' ? each.value : undefined,
  });
  const moved = await state.read();
  await program.close();
  return [
    each.norm === undefined ? undefined : numberDifference('norm', gradientNorm, each.norm),
    ...Object.entries(each.clipped).map(([name, key]) => {
      const { shape, data } = moved.get(name)!;
      return difference(name, { shape, data: data.map((v) => -v) }, tensorAt(tensors, key), each.tolerance);
    }),
  ];
}

async function clippedSets(
  tensors: Map<string, HostTensor>,
  gradients: Map<string, Floats>,
  { sets = [], norms = [], kind, value, clipped, tolerance }: ClippingCase,
): Promise<(string | undefined)[]> {
  if (kind !== 'norm') return [`unknown kind ${kind} for sets`];
  const leaves = new Map([...gradients].map(([name, { shape }]) => [name, input(name, shape)]));
  const current = new Map(leaves);
  const outputs: Record<string, Tensor> = {};
  sets.forEach((names, i) => {
    const result = clipNorm(
      names.map((name) => current.get(name)!),
      value,
    );
    outputs[`norm ${i}`] = result.norm;
    names.forEach((name, k) => {
      current.set(name, result.clipped[k]);
    });
  });
  for (const [name, tensor] of current) outputs[`clipped ${name}`] = tensor;
  const feeds = new Map([...leaves].map(([name, leaf]) => [leaf, gradients.get(name)!]));
  const got = await evaluate(outputs, feeds, { backend: goldenBackend });
  return [
    ...norms.map((norm, i) => numberDifference(`norm ${i}`, got[`norm ${i}`].data[0] as number, norm)),
    ...Object.entries(clipped).map(([name, key]) =>
      difference(name, got[`clipped ${name}`], tensorAt(tensors, key), tolerance),
    ),
  ];
}

/** Followers of parameters that the host sets before each update, whose own update does nothing. */
async function movingAverage(engine: Engine, folder: string, each: EmaCase): Promise<(string | undefined)[]> {
  const tensors = readTensors(folder, each.file);
  const names = Object.keys(each.target0);
  const start = new Map(names.map((name) => [name, tensorAt(tensors, each.target0[name])]));
  const online = makeParameters(names, start);
  const targets = new Map(names.map((name) => [name, parameter(`target ${name}`, start.get(name)!.shape)]));
  const state = await engine.createState([...online.values(), ...targets.values()]);
  await state.write(new Map(names.map((name) => [`target ${name}`, start.get(name)!])));
  const followers = names.map((name) => ({ target: targets.get(name)!, online: online.get(name)! }));
  const program = await trainingProgram(engine, state, sgd(), online, [names], followers);
  const feeds = names.map((name) => {
    const { shape, data } = start.get(name)!;
    return [`given ${name}`, twice({ dtype: 'float32', shape, data: new Float32Array(data.length) })];
  });
  const failures: (string | undefined)[] = [];
  for (let i = 0; i < each.momentum.length; i++) {
    await state.write(new Map(names.map((name) => [name, tensorAt(tensors, each.online[name], i)])));
    await program.run(Object.fromEntries(feeds), {
      step: i + 1,
      groups: [{ lr: 0, weightDecay: 0 }],
      momentum: each.momentum[i],
    });
    const values = await state.read();
    for (const name of names) {
      const expected = tensorAt(tensors, each.target[name], i);
      failures.push(difference(`${name} after update ${i}`, values.get(`target ${name}`)!, expected, each.tolerance));
    }
  }
  await program.close();
  return failures.filter(Boolean).slice(0, 3);
}

const harness: Harness = async function* (folder) {
  yield* checkSchedules(folder);
  const lists = readCases<{ optimizers: OptimizerCase[]; clipping: ClippingCase[]; ema: EmaCase[] }>(folder);
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    for (const each of lists.optimizers) yield await attempt(each.name, () => optimizer(engine, folder, each));
    for (const each of lists.clipping) yield await attempt(each.name, () => clipping(engine, folder, each));
    for (const each of lists.ema) yield await attempt(each.name, () => movingAverage(engine, folder, each));
  } finally {
    await engine.close();
  }
};

export default harness;
