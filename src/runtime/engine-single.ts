import { JepaError } from '../base/errors.js';
import { type HostTensor, sizeOf } from '../base/tensor.js';
import { evaluateDim } from '../graph/dims.js';
import { type Backend, reachable } from '../graph/lower.js';
import type { DType, Tensor } from '../graph/tensor.js';
import { countFlops, livePeak } from './cost.js';
import { locateNonFinite } from './nonfinite.js';
import { inNode } from './ort.js';
import { bindInputs, collectRangeChecks, nameOf, planProgram } from './plan.js';
import type { Engine, Feeds, Profile, Program, ProgramSpec, RunResult, State } from './program.js';
import { openSessions, type Sessions } from './sessions.js';
import {
  feedName,
  type ModelKind,
  NORM,
  nextName,
  outputName,
  parameterName,
  type StepModel,
  slotsOf,
  stepModel,
  sumName,
  updateScalars,
} from './step.js';
import { type InTurn, turns } from './turns.js';
import type { UpdateValues } from './update.js';

/** Resident tensors by the name of the model input that takes them. */
type Residents = Map<string, number>;

interface SingleState extends State {
  readonly residents: Residents;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

/**
 * The backends with one session for the whole step: ONNX Runtime's WebAssembly (several threads where the page or Node
 * allows it) and WebGPU. A step makes new tensors for the state; they replace the old ones if everything was finite. On
 * WebGPU they never leave the device. In a page everything runs in a web worker.
 */
export async function createSingleEngine(backend: 'wasm' | 'webgpu'): Promise<Engine> {
  const sessions = await startSessions(backend);
  const { inTurn, finish } = turns();
  return {
    backend,
    workers: 1,
    createState: async (parameters, values) => {
      const state = await inTurn(() => createState(sessions, inTurn, parameters));
      if (values) await state.write(values);
      return state;
    },
    compile: (spec, state) => inTurn(() => compile(sessions, inTurn, backend, spec, state as SingleState)),
    close: () => finish(() => sessions.close()),
  };
}

async function startSessions(backend: Backend): Promise<Sessions> {
  // `Worker` and `document` together mean a page; inside of a worker, that worker is the place to compute in.
  if (inNode || typeof document === 'undefined') return openSessions(backend);
  return (await import('./sessions-web.js')).openSessionsInWorker(backend);
}

async function createState(sessions: Sessions, inTurn: InTurn, parameters: readonly Tensor[]): Promise<SingleState> {
  const shapes = new Map<string, readonly number[]>();
  for (const tensor of parameters) {
    const name = nameOf(tensor);
    if (shapes.has(name)) throw new JepaError(`state: two parameters are called ${name}`);
    shapes.set(name, tensor.shape as readonly number[]);
  }
  const residents: Residents = new Map();
  for (const [name, shape] of shapes) residents.set(parameterName(name), await sessions.upload(zeros(shape)));
  const shapeOf = (name: string): readonly number[] => {
    const shape = shapes.get(name);
    if (!shape) throw new JepaError(`state: there is no parameter ${name}`);
    return shape;
  };
  return {
    names: [...shapes.keys()],
    residents,
    shapes,
    read: async (names = [...shapes.keys()]) => {
      const wanted = names.map((name) => ({ name, shape: shapeOf(name) }));
      return inTurn(async () => {
        const values = new Map<string, HostTensor<'float32'>>();
        for (const { name, shape } of wanted) {
          const value = await sessions.download(residents.get(parameterName(name)) as number);
          values.set(name, { ...value, shape });
        }
        return values;
      });
    },
    write: async (values) => {
      const given = [...values].map(([name, value]) => {
        const shape = shapeOf(name);
        if (value.data.length !== sizeOf(shape)) {
          throw new JepaError(`state: ${name} has shape [${shape}], but [${value.shape}] was given`);
        }
        return { name, value: { ...value, shape, data: value.data.slice() } };
      });
      return inTurn(async () => {
        for (const { name, value } of given)
          await replace(sessions, residents, parameterName(name), await sessions.upload(value));
      });
    },
  };
}

const zeros = (shape: readonly number[]): HostTensor<'float32'> => ({
  dtype: 'float32',
  shape,
  data: new Float32Array(sizeOf(shape)),
});
const scalar = (value: number): HostTensor<'float32'> => ({
  dtype: 'float32',
  shape: [],
  data: Float32Array.of(value),
});

async function replace(sessions: Sessions, residents: Residents, name: string, by: number): Promise<void> {
  const old = residents.get(name);
  residents.set(name, by);
  if (old !== undefined) await sessions.drop([old]);
}

async function compile(
  sessions: Sessions,
  inTurn: InTurn,
  backend: 'wasm' | 'webgpu',
  spec: ProgramSpec,
  state: SingleState,
): Promise<Program> {
  const plan = planProgram(spec, 1);
  const { update } = spec;
  const checks = collectRangeChecks(reachable([...plan.whole.outputs, ...plan.whole.gradients]));
  const needed = [
    ...plan.parameters.map((p) => p.name),
    ...plan.gradients.map((g) => g.parameter),
    ...(update?.followers ?? []).flatMap((f) => [nameOf(f.target), nameOf(f.online)]),
  ];
  for (const name of needed) {
    if (!state.shapes.has(name)) throw new JepaError(`${spec.name}: the parameter ${name} is not part of the state`);
  }

  /** The program's own state: optimizer slots, and sums of gradients once there are micro-batches. */
  const own: Residents = new Map();
  const slots = update ? slotsOf(plan, update) : [];
  for (const slot of slots) own.set(slot.input, await sessions.upload(zeros(slot.vector.shape)));

  const opened = new Map<ModelKind, StepModel & { session: number }>();
  async function sessionFor(kind: ModelKind): Promise<StepModel & { session: number }> {
    let made = opened.get(kind);
    if (!made) {
      const model = stepModel(plan, kind, backend);
      made = { ...model, session: await sessions.open(model.model, model.renewed.map(nextName)) };
      opened.set(kind, made);
    }
    return made;
  }
  await sessionFor(update ? 'step' : 'outputs');

  /** Runs a model. New state is returned, to be kept or dropped. */
  async function runModel(kind: ModelKind, given: ReadonlyMap<string, HostTensor<DType>>) {
    const { session, inputs, renewed } = await sessionFor(kind);
    const feeds: Record<string, HostTensor<DType>> = {};
    const resident: Record<string, number> = {};
    for (const name of inputs) {
      const value = given.get(name);
      if (value) feeds[name] = value;
      else resident[name] = (own.get(name) ?? state.residents.get(name)) as number;
    }
    const results = await sessions.run(session, feeds, resident);
    return {
      values: results.values,
      renewed: renewed.map((name) => ({ name, tensor: results.resident[nextName(name)] })),
    };
  }

  async function settle(renewed: readonly { name: string; tensor: number }[], keep: boolean): Promise<void> {
    if (!keep) return sessions.drop(renewed.map((r) => r.tensor));
    const old: number[] = [];
    for (const { name, tensor } of renewed) {
      const home = own.has(name) ? own : state.residents;
      old.push(home.get(name) as number);
      home.set(name, tensor);
    }
    return sessions.drop(old);
  }

  /** Whether every micro-batch since the first was finite. */
  let accumulatedFinite = true;

  async function run(
    feeds: Feeds,
    values?: UpdateValues,
    { index, count } = { index: 0, count: 1 },
  ): Promise<RunResult> {
    const symbols = bindInputs(plan, checks, feeds);
    if (values && !update) throw new JepaError(`${spec.name}: it has no update`);
    const given = new Map<string, HostTensor<DType>>(plan.inputs.map(({ name }) => [feedName(name), feeds[name]]));
    const shaped = (results: Readonly<Record<string, HostTensor<DType>>>): Record<string, HostTensor<DType>> =>
      Object.fromEntries(
        plan.outputs.map(({ name, tensor }) => {
          const shape = tensor.shape.map((dim) => evaluateDim(dim, symbols) as number);
          return [name, { ...results[outputName(name)], shape }];
        }),
      );
    if (!values || !update) {
      const results = await runModel('outputs', given);
      return { outputs: shaped(results.values), gradientNorm: Number.NaN, finite: true };
    }
    const scalars = Object.entries(updateScalars(update, values, count)).map(([name, v]) => [name, scalar(v)] as const);
    if (count === 1) {
      const { values: results, renewed } = await runModel('step', new Map([...given, ...scalars]));
      const outputs = shaped(results);
      const gradientNorm = Number(results[NORM].data[0]);
      const finite = Number.isFinite(gradientNorm) && lossIsFinite(outputs);
      await settle(renewed, finite);
      return { outputs, gradientNorm, finite };
    }
    if (index === 0) {
      for (const { parameter, tensor } of plan.gradients) {
        await replace(
          sessions,
          own,
          sumName(parameter),
          await sessions.upload(zeros(tensor.shape as readonly number[])),
        );
      }
      accumulatedFinite = true;
    }
    const { values: results, renewed } = await runModel('accumulate', given);
    const outputs = shaped(results);
    await settle(renewed, true);
    accumulatedFinite &&= lossIsFinite(outputs);
    if (index < count - 1) return { outputs, gradientNorm: Number.NaN, finite: accumulatedFinite };
    const last = await runModel('update', new Map(scalars));
    const gradientNorm = Number(last.values[NORM].data[0]);
    const finite = accumulatedFinite && Number.isFinite(gradientNorm);
    await settle(last.renewed, finite);
    return { outputs, gradientNorm, finite };
  }

  const lossIsFinite = (outputs: Readonly<Record<string, HostTensor<DType>>>): boolean =>
    Number.isFinite(Number(outputs[plan.outputs[plan.lossIndex].name].data[0]));
  const everything = [...plan.whole.outputs, ...plan.whole.gradients];
  let closed = false;
  const whileOpen: InTurn = (body) =>
    inTurn(() => {
      if (closed) throw new JepaError(`${spec.name}: the program is closed`);
      return body();
    });

  return {
    name: spec.name,
    distribution: 'one session',
    run: (feeds, values, accumulate) => whileOpen(() => run(feeds, values, accumulate)),
    readSlots: () =>
      whileOpen(async () => {
        const read = new Map<string, HostTensor<'float32'>>();
        for (const { input, slot, vector } of slots) {
          const { data } = await sessions.download(own.get(input) as number);
          let at = 0;
          for (const { parameter, size, shape } of vector.members) {
            read.set(`${slot}/${parameter}`, { dtype: 'float32', shape, data: data.slice(at, at + size) });
            at += size;
          }
        }
        return read;
      }),
    writeSlots: (given) =>
      whileOpen(async () => {
        for (const { input, slot, vector } of slots) {
          const joined = new Float32Array(sizeOf(vector.shape));
          let at = 0;
          for (const { parameter, size } of vector.members) {
            const value = given.get(`${slot}/${parameter}`);
            if (!value || value.data.length !== size) {
              throw new JepaError(
                `${spec.name}: the optimizer state ${slot} of ${parameter} is missing or has the wrong size`,
              );
            }
            joined.set(value.data, at);
            at += size;
          }
          await replace(
            sessions,
            own,
            input,
            await sessions.upload({ dtype: 'float32', shape: vector.shape, data: joined }),
          );
        }
      }),
    flops: (feeds) => countFlops(everything, bindInputs(plan, checks, feeds)),
    peakBytes: (feeds) => livePeak(everything, bindInputs(plan, checks, feeds)),
    profile: (feeds, runs = 5, values) => whileOpen(() => timeRuns(() => run(feeds, values), runs)),
    // Shaders may be compiled without regard to values that are not finite: the search computes on the CPU.
    locateNonFinite: async (feeds) => {
      bindInputs(plan, checks, feeds);
      return locateNonFinite(plan, feeds, await state.read(), inNode && backend === 'webgpu' ? 'cpu' : 'wasm');
    },
    close: () =>
      inTurn(async () => {
        closed = true;
        for (const { session } of opened.values()) await sessions.release(session);
        await sessions.drop([...own.values()]);
        opened.clear();
        own.clear();
      }),
  };
}

/** The web builds of ONNX Runtime give no times of operators, and those of WebGPU are not the device's: whole runs. */
async function timeRuns(run: () => Promise<unknown>, runs: number): Promise<Profile> {
  await run();
  const start = performance.now();
  for (let i = 0; i < runs; i++) await run();
  const total = (performance.now() - start) / runs;
  const name = '(the whole run)';
  return { total, scopes: [{ name, milliseconds: total }], operators: [{ name, milliseconds: total, calls: 1 }] };
}
