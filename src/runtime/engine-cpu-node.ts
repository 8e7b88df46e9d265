import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JepaError } from '../base/errors.js';
import { copyInto, type HostData, type HostTensor, sizeOf } from '../base/tensor.js';
import { type Dim, evaluateDim } from '../graph/dims.js';
import { reachable } from '../graph/lower.js';
import { batchAxis } from '../graph/passes/placement.js';
import { ROWS_INPUT, SHARE_INPUT, wholeBatch } from '../graph/passes/shard.js';
import type { DType, Tensor } from '../graph/tensor.js';
import { countFlops, livePeak } from './cost.js';
import { aligned, cutPieces, placeAll, sliceRows } from './cpu-layout.js';
import { type CpuThreads, startThreads } from './cpu-threads-node.js';
import { allocate, type Block, giveBack, mapFile, viewOf } from './memory-node.js';
import { locateNonFinite } from './nonfinite.js';
import {
  addingPlan,
  bindInputs,
  buildPhases,
  collectRangeChecks,
  followModel,
  gradientName,
  nameOf,
  type PhaseModel,
  type Plan,
  planProgram,
  updateModel,
  WHOLE_INPUT,
} from './plan.js';
import { mergeProfiles } from './profile.js';
import type { Engine, Feeds, Profile, Program, ProgramSpec, RunResult, State } from './program.js';
import { type InTurn, turns } from './turns.js';
import { clipSetOf, type UpdateValues } from './update.js';
import { BYTES, type PhaseDefinition, type RunReply, type RunRequest } from './worker-protocol.js';

interface CpuState extends State {
  readonly block: Block;
  readonly layout: ReadonlyMap<string, StatePlace>;
}

/** Where a parameter lies: `offset` floats into the state's block, or into a file that is mapped. */
interface StatePlace {
  readonly offset: number;
  readonly shape: readonly number[];
  readonly mapped?: Block;
}

/**
 * The CPU backend of Node: one worker thread a core, each with its own single-threaded sessions on its slice of the
 * batch; gradients are summed and parameters updated by shares, in memory that all threads see.
 */
export async function createCpuEngine(workers: number): Promise<Engine> {
  const { inTurn, finish } = turns();
  const threads = startThreads(workers);
  const states: CpuState[] = [];
  const open = new Map<number, () => void>();
  let next = 0;
  return {
    backend: 'cpu',
    workers,
    createState: async (parameters, values) => {
      const state = createState(parameters, inTurn, values);
      states.push(state);
      if (values) {
        const held = ([name]: readonly [string, unknown]) => !state.layout.get(name)?.mapped;
        await state.write(new Map([...values].filter(held)));
      }
      return state;
    },
    compile: (spec, state) =>
      inTurn(() => compile({ threads, workers, inTurn, nextId: () => next++, open }, spec, state as CpuState)),
    close: () =>
      finish(async () => {
        await threads.terminate();
        for (const free of open.values()) free();
        giveBack(...states.map((state) => state.block));
      }),
  };
}

interface Cpu {
  readonly threads: CpuThreads;
  readonly workers: number;
  readonly inTurn: InTurn;
  readonly nextId: () => number;
  /** Gives the memory of each open program back. */
  readonly open: Map<number, () => void>;
}

const phaseDefinition = ({ model, inputs, outputs, exchanges }: PhaseModel): PhaseDefinition => ({
  model,
  inputs,
  outputs,
  exchanges: exchanges.map(({ value, result, attrs }) => ({ value, result, kind: attrs.kind, axis: attrs.axis })),
});

/**
 * Bytes of activations that a worker should have alive at once. Smaller pieces use less memory and stay in the cache;
 * still smaller ones make products too flat.
 */
const ALIVE = 64e6;

/**
 * Samples that a worker handles in one go. Large batches of small samples are cut, so that memory does not grow with them.
 * Only a graph that was made for slices of a batch may be given one.
 */
function pieceSize(plan: Plan, symbols: ReadonlyMap<string, number>, rows: number): number {
  const batch = symbols.get(plan.batch) ?? 1;
  const alive = livePeak([...plan.whole.outputs, ...plan.whole.gradients], symbols) / batch;
  return Math.max(1, Math.ceil(rows / Math.max(1, Math.ceil((alive * rows) / ALIVE))));
}

async function compile(cpu: Cpu, spec: ProgramSpec, state: CpuState): Promise<Program> {
  const { threads, workers, inTurn } = cpu;
  const plan = planProgram(spec, workers);
  const { phases, types } = buildPhases(plan, 'cpu');
  const everything = [...plan.whole.outputs, ...plan.whole.gradients];
  const checks = collectRangeChecks(reachable(everything));
  const id = cpu.nextId();
  const memory = programMemory(plan, state, workers);
  const { trained, slots } = memory;
  await threads.broadcast({
    kind: 'load',
    id,
    program: {
      phases: phases.map(phaseDefinition),
      adding:
        spec.update && phases.length === 1 ? phaseDefinition(buildPhases(addingPlan(plan), 'cpu').phases[0]) : null,
      types,
      feeds: plan.inputs.map(({ name, tensor }) => {
        const axis = batchAxis(tensor.shape, plan.batch);
        return { name, axis: axis < 0 ? null : axis };
      }),
      parameters: plan.parameters.map(({ name }) => {
        const { offset, shape, mapped = state.block } = memory.place(name);
        return { name, offset, shape, block: mapped };
      }),
      gradients: trained.map((g) => ({ name: gradientName(g.parameter), offset: g.offset, shape: g.shape })),
      outputs: plan.outputs.map(({ name, placement }) => ({ name: `output ${name}`, placement })),
      rowInputs: { own: ROWS_INPUT, whole: WHOLE_INPUT, share: SHARE_INPUT },
      state: state.block,
      update: memory.update,
    },
  });

  /** Samples in one go, by the sizes of a batch. */
  const pieces = new Map<string, number>();
  const feedMemory = growing();
  const outputMemory = growing();
  const exchangeMemory = growing();

  async function run(feeds: Feeds, values?: UpdateValues, accumulate = { index: 0, count: 1 }): Promise<RunResult> {
    const symbols = bindInputs(plan, checks, feeds);
    if (values && !spec.update) throw new JepaError(`${spec.name}: it has no update`);
    const batch = symbols.get(plan.batch) ?? 1;
    // A batch without a slice for every worker is one worker's, with a thread for each, where nothing is exchanged.
    const alone = !spec.update && phases.length === 1 && batch < workers;
    const rows = sliceRows(batch, symbols.has(plan.batch) && !alone ? workers : 1, workers);
    symbols.set(wholeBatch(plan.batch).key, batch);
    const evaluated = (shape: readonly Dim[]): number[] => shape.map((dim) => evaluateDim(dim, symbols) as number);

    const feedPlaces = placeAll(
      plan.inputs.map(({ name }) => ({ name, shape: feeds[name].shape, bytes: feeds[name].data.byteLength })),
    );
    const feedBlock = feedMemory.of(feedPlaces.bytes);
    const feedBuffer = viewOf(feedBlock);
    for (const { name } of plan.inputs) {
      const { data } = feeds[name];
      new Uint8Array(feedBuffer, feedPlaces.placed[name].offset, data.byteLength).set(
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      );
    }
    const outputPlaces = placeAll(
      plan.outputs.map(({ name, tensor, placement }) => {
        const shape = evaluated(spec.outputs[name].shape);
        return {
          name: `output ${name}`,
          shape,
          bytes: sizeOf(shape) * BYTES[tensor.dtype] * (placement === 'partial' ? workers : 1),
        };
      }),
    );
    const outputBlock = outputMemory.of(outputPlaces.bytes);
    const exchangePlaces = placeAll(
      phases.flatMap(({ exchanges }) =>
        exchanges.map(({ value, attrs }) => {
          const shape = evaluated(attrs.shape);
          return { name: value, shape, bytes: sizeOf(shape) * 4 * (attrs.kind === 'sum' ? workers : 1) };
        }),
      ),
    );
    const exchangeBlock = exchangeMemory.of(exchangePlaces.bytes);
    const shapes = [...symbols].join();
    const rowsAtOnce = workers === 1 ? batch : (pieces.get(shapes) ?? pieceSize(plan, symbols, rows[0].count));
    pieces.set(shapes, rowsAtOnce);
    const request: RunRequest = {
      id,
      rows,
      batch,
      feedBlock,
      feeds: feedPlaces.placed,
      outputBlock,
      outputs: outputPlaces.placed,
      exchangeBlock,
      exchanges: exchangePlaces.placed,
      rowsAtOnce,
      sizes: Object.fromEntries([...plan.sizes].map(([name, dim]) => [name, evaluateDim(dim, symbols) as number])),
      update: values
        ? {
            begin: accumulate.index === 0,
            finish: accumulate.index === accumulate.count - 1,
            scale: 1 / accumulate.count,
            clipNorm: values.clipNorm ?? 0,
            scalars: values.groups.map((hyper) => (spec.update ? spec.update.rule.scalarsAt(values.step, hyper) : {})),
            momentum: values.momentum,
          }
        : null,
    };
    const replies = (await threads.broadcast({ kind: 'run', ...request })) as RunReply[];
    const outputBuffer = viewOf(outputBlock);
    const outputs: Record<string, HostTensor<DType>> = {};
    for (const { name, tensor, placement } of plan.outputs) {
      const { offset, shape } = outputPlaces.placed[`output ${name}`];
      outputs[name] = collect(outputBuffer, offset, shape, tensor.dtype, placement === 'partial', rows);
    }
    return { outputs, gradientNorm: replies[0].gradientNorm, finite: replies.every((r) => r.finite) };
  }

  /** Runs a copy of the program that writes ONNX Runtime's profiles into a folder. */
  async function profile(feeds: Feeds, runs: number, values?: UpdateValues): Promise<Profile> {
    const folder = await mkdtemp(join(tmpdir(), 'jepa-profile-'));
    try {
      await threads.broadcast({ kind: 'profile', folder });
      const profiled = (await compile(cpu, spec, state)) as CpuProgram;
      for (let i = 0; i < runs; i++) await profiled.runNow(feeds, values);
      await threads.broadcast({ kind: 'profile', folder: null });
      await profiled.closeNow();
      const files = await Promise.all((await readdir(folder)).map((file) => readFile(join(folder, file), 'utf8')));
      const scopes = new Map(phases.flatMap((p) => [...p.scopes]));
      return mergeProfiles(
        files.map((text) => JSON.parse(text)),
        scopes,
        runs * workers,
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  const slotTensor = (block: Block, offset: number, shape: readonly number[]): Float32Array =>
    new Float32Array(viewOf(block), offset * 4, sizeOf(shape));
  const free = (): void => giveBack(...memory.blocks, feedMemory.block(), outputMemory.block(), exchangeMemory.block());
  cpu.open.set(id, free);
  const closeNow = async (): Promise<void> => {
    if (!cpu.open.delete(id)) return;
    await threads.broadcast({ kind: 'unload', id });
    free();
  };
  /** A closed program's memory may be another's by now. */
  const whileOpen: InTurn = (body) =>
    inTurn(() => {
      if (!cpu.open.has(id)) throw new JepaError(`${spec.name}: the program is closed`);
      return body();
    });
  const rounds = phases.length - 1;

  const program: CpuProgram = {
    name: spec.name,
    distribution:
      workers === 1
        ? 'one session'
        : `slices of the batch on ${workers} workers` +
          (rounds === 0
            ? ''
            : `, ${plan.exchanges.length} values exchanged in ${rounds} round${rounds > 1 ? 's' : ''}`),
    runNow: run,
    closeNow,
    run: (feeds, values, accumulate) => whileOpen(() => run(feeds, values, accumulate)),
    readSlots: () =>
      whileOpen(async () => {
        const values = new Map<string, HostTensor<'float32'>>();
        for (const { name, block } of slots) {
          for (const { parameter, offset, shape } of trained) {
            values.set(`${name}/${parameter}`, {
              dtype: 'float32',
              shape,
              data: slotTensor(block, offset, shape).slice(),
            });
          }
        }
        return values;
      }),
    writeSlots: (values) =>
      whileOpen(async () => {
        for (const { name, block } of slots) {
          for (const { parameter, offset, shape } of trained) {
            const value = values.get(`${name}/${parameter}`);
            if (!value || value.data.length !== sizeOf(shape)) {
              throw new JepaError(
                `${spec.name}: the optimizer state ${name} of ${parameter} is missing or has the wrong size`,
              );
            }
            slotTensor(block, offset, shape).set(value.data);
          }
        }
      }),
    flops: (feeds) => countFlops(everything, bindInputs(plan, checks, feeds)),
    peakBytes: (feeds) => livePeak(everything, bindInputs(plan, checks, feeds)),
    profile: (feeds, runs = 5, values) => whileOpen(() => profile(feeds, runs, values)),
    locateNonFinite: async (feeds) => {
      bindInputs(plan, checks, feeds);
      return locateNonFinite(plan, feeds, await state.read(), 'cpu');
    },
    close: () => inTurn(closeNow),
  };
  return program;
}

interface CpuProgram extends Program {
  /** Without waiting for a turn: for work that is part of one. */
  readonly runNow: Program['run'];
  readonly closeNow: () => Promise<void>;
}

/** Gradients and optimizer slots of a program, and who updates what. */
function programMemory(plan: Plan, state: CpuState, workers: number) {
  const { update, name: program } = plan.spec;
  const place = (name: string): StatePlace => {
    const placed = state.layout.get(name);
    if (!placed) throw new JepaError(`${program}: the parameter ${name} is not part of the state`);
    return placed;
  };
  const trained = plan.gradients.map((g) => ({ ...g, ...place(g.parameter) }));
  const still = trained.find(({ mapped }) => mapped) ?? update?.followers?.find((f) => place(nameOf(f.target)).mapped);
  if (still) throw new JepaError(`${program}: some of its parameters are used from a file, where they cannot learn`);
  const targets = new Map((update?.followers ?? []).map((f) => [nameOf(f.online), place(nameOf(f.target)).offset]));
  const length = Math.max(0, ...trained.map((g) => g.offset + aligned(sizeOf(g.shape))));
  const gradients = update ? Array.from({ length: workers }, () => allocate(length * 4)) : [];
  const slots = (update?.rule.slots ?? []).map((name) => ({ name, block: allocate(length * 4) }));
  const learning = new Set(trained.map((g) => g.parameter));
  const followed = [...targets.keys()]
    .filter((name) => !learning.has(name))
    .map((parameter) => ({ parameter, group: -1, ...place(parameter) }));
  const updated = [...trained, ...followed].map((p) => ({ ...p, target: targets.get(p.parameter) ?? -1 }));
  return {
    place,
    trained,
    slots,
    blocks: [...gradients, ...slots.map((slot) => slot.block)],
    update: update
      ? {
          gradients,
          length,
          slots,
          scalars: update.rule.scalars,
          clipSets: clipSetOf(update),
          loss: `output ${plan.outputs[plan.lossIndex].name}`,
          pieces: cutPieces(updated, update.rule.wholeTensors),
          plain: updateModel(update.rule, false, 'cpu'),
          following: updateModel(update.rule, true, 'cpu'),
          follow: followed.length > 0 ? followModel('cpu') : null,
        }
      : null,
  };
}

/** Memory that is replaced by a larger block when a run needs more. */
function growing(): { of(bytes: number): Block; block(): Block } {
  let block = allocate(4096);
  return {
    of: (bytes) => {
      if (bytes > block.bytes) {
        giveBack(block);
        block = allocate(bytes * 1.25);
      }
      return block;
    },
    block: () => block,
  };
}

const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

function collect(
  buffer: ArrayBuffer,
  offset: number,
  shape: readonly number[],
  dtype: DType,
  partial: boolean,
  rows: readonly { count: number }[],
): HostTensor<DType> {
  const size = sizeOf(shape);
  if (!partial) return { dtype, shape, data: new ARRAYS[dtype](buffer, offset, size).slice() as HostData[DType] };
  const total = new ARRAYS[dtype](size);
  rows.forEach(({ count }, worker) => {
    if (count === 0) return;
    const part = new ARRAYS[dtype](buffer, offset + worker * size * 4, size);
    for (let i = 0; i < size; i++) total[i] += part[i];
  });
  return { dtype, shape, data: total };
}

function createState(
  parameters: readonly Tensor[],
  inTurn: InTurn,
  values?: ReadonlyMap<string, HostTensor<'float32'>>,
): CpuState {
  const layout = new Map<string, StatePlace>();
  let floats = 0;
  for (const tensor of parameters) {
    const name = nameOf(tensor);
    if (layout.has(name)) throw new JepaError(`state: two parameters are called ${name}`);
    const shape = tensor.shape as readonly number[];
    const value = values?.get(name);
    if (values && !value) throw new JepaError(`state: there is no value for the parameter ${name}`);
    if (value && value.shape.join() !== shape.join())
      throw new JepaError(`state: ${name} has shape [${shape}], but [${value.shape}] was given`);
    const inFile = value?.place && mapFile(value.place);
    if (inFile) layout.set(name, { shape, ...inFile });
    else {
      layout.set(name, { offset: floats, shape });
      floats += aligned(sizeOf(shape));
    }
  }
  const block = allocate(floats * 4);
  const view = (name: string): { shape: readonly number[]; data: Float32Array } => {
    const placed = layout.get(name);
    if (!placed) throw new JepaError(`state: there is no parameter ${name}`);
    const { offset, shape, mapped = block } = placed;
    return { shape, data: new Float32Array(viewOf(mapped), offset * 4, sizeOf(shape)) };
  };
  return {
    names: [...layout.keys()],
    block,
    layout,
    read: (names = [...layout.keys()]) =>
      inTurn(async () => {
        return new Map(
          names.map((name) => {
            const { shape, data } = view(name);
            return [name, { dtype: 'float32', shape, data: data.slice() }];
          }),
        );
      }),
    write: (values) =>
      inTurn(async () => {
        for (const [name, value] of values) {
          const { shape, data } = view(name);
          if (data.length !== sizeOf(value.shape)) {
            throw new JepaError(`state: ${name} has shape [${shape}], but [${value.shape}] was given`);
          }
          copyInto(value, data);
        }
      }),
  };
}
