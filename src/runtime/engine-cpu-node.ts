import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { JepaError } from '../base/errors.js';
import { type HostData, type HostTensor, sizeOf } from '../base/tensor.js';
import { evaluateDim } from '../graph/dims.js';
import { reachable } from '../graph/lower.js';
import type { DType, Tensor } from '../graph/tensor.js';
import { countFlops, livePeak } from './cost.js';
import { allocate, type Block, viewOf } from './memory-node.js';
import { locateNonFinite } from './nonfinite.js';
import { bindInputs, buildPhases, collectRangeChecks, gradientName, nameOf, planProgram, updateModel } from './plan.js';
import { mergeProfiles } from './profile.js';
import type { Engine, Feeds, Program, ProgramSpec, RunResult, State } from './program.js';
import type { UpdateValues } from './update.js';
import { BYTES, CONTROL, type Message, type Placed, type Reply, type RunReply, type RunRequest } from './worker-protocol.js';

/** Floats that one update session handles at a time: a few of them fit in the second-level cache. */
const PIECE = 1 << 17;
/** Tensors start at multiples of this many floats. */
const ALIGN = 16;

interface CpuState extends State {
  readonly block: Block;
  readonly layout: ReadonlyMap<string, { readonly offset: number; readonly shape: readonly number[] }>;
}

const aligned = (floats: number): number => Math.ceil(floats / ALIGN) * ALIGN;

/**
 * The CPU backend of Node: one worker thread a core, each with its own single-threaded sessions on its slice of the
 * batch; gradients are summed and parameters updated by shares, in memory that all threads see.
 */
export async function createCpuEngine(workers: number): Promise<Engine> {
  const control = new SharedArrayBuffer(CONTROL.length * 4);
  const sums = new SharedArrayBuffer(workers * 8);
  const flags = new Int32Array(control);
  const threads = Array.from({ length: workers }, (_, index) => {
    const worker = new Worker(new URL('./worker-node.js', import.meta.url), { workerData: { index, count: workers, control, sums } });
    // An idle engine must not keep the process alive.
    worker.unref();
    return worker;
  });
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();
  let nextId = 0;

  /** Sends every worker its message; resolves when all have replied. One at a time. */
  function broadcast(message: Message | ((index: number) => Message)): Promise<Extract<Reply, { ok: true }>[]> {
    const job = queue.then(async () => {
      if (closed) throw new JepaError('engine: it is closed');
      for (const worker of threads) worker.ref();
      const replies = await Promise.all(
        threads.map((worker, index) => ask(worker, typeof message === 'function' ? message(index) : message)),
      );
      for (const worker of threads) worker.unref();
      const failures = replies.filter((r): r is Extract<Reply, { ok: false }> => !r.ok);
      if (failures.length > 0) {
        Atomics.store(flags, CONTROL.arrived, 0);
        Atomics.store(flags, CONTROL.abort, 0);
        // The first cause, not what it made the others say.
        throw new JepaError(describeFailure((failures.find((f) => f.error !== 'another worker failed') ?? failures[0]).error));
      }
      return replies as Extract<Reply, { ok: true }>[];
    });
    queue = job.catch(() => undefined);
    return job;
  }

  const engine: Engine = {
    backend: 'cpu',
    workers,
    createState: async (parameters) => createState(parameters),
    compile: (spec, state) => compile(spec, state as CpuState),
    close: async () => {
      await queue;
      closed = true;
      await Promise.all(threads.map((worker) => worker.terminate()));
    },
  };
  return engine;

  async function compile(spec: ProgramSpec, state: CpuState): Promise<Program> {
    const plan = planProgram(spec, workers);
    const { phases, types } = buildPhases(plan, 'cpu');
    const checks = collectRangeChecks(reachable([...plan.whole.outputs, ...plan.whole.gradients]));
    const id = nextId++;
    const place = (name: string): { offset: number; shape: readonly number[] } => {
      const placed = state.layout.get(name);
      if (!placed) throw new JepaError(`${spec.name}: the parameter ${name} is not part of the state`);
      return placed;
    };
    const trained = plan.gradients.map((g) => ({ ...g, ...place(g.parameter) }));
    const { update } = spec;
    const targets = new Map((update?.followers ?? []).map((f) => [nameOf(f.online), place(nameOf(f.target)).offset]));
    const length = Math.max(0, ...trained.map((g) => g.offset + aligned(sizeOf(g.shape))));
    const gradientBlocks = update ? threads.map(() => allocate(length * 4)) : [];
    const slots = (update?.rule.slots ?? []).map((name) => ({ name, block: allocate(length * 4) }));
    const pieces = cutPieces(trained, targets, update?.rule.wholeTensors ?? false);
    // A follower of a parameter that the loss does not reach follows nothing: say so instead of leaving it behind.
    for (const f of update?.followers ?? []) {
      if (!trained.some((g) => g.parameter === nameOf(f.online))) targets.delete(nameOf(f.online));
    }
    await broadcast({
      kind: 'load',
      id,
      program: {
        phases: phases.map(({ model, inputs, outputs, exchanges }) => ({
          model,
          inputs,
          outputs,
          exchanges: exchanges.map(({ value, result, attrs }) => ({ value, result, kind: attrs.kind, axis: attrs.axis })),
        })),
        types,
        feeds: plan.inputs.map(({ name, tensor }) => {
          const axis = tensor.shape.findIndex((dim) => typeof dim !== 'number' && dim.key.split(/[* +]+/).includes(plan.batch));
          return { name, axis: axis < 0 ? null : axis };
        }),
        parameters: plan.parameters.map(({ name }) => ({ name, ...place(name) })),
        gradients: trained.map((g) => ({ name: gradientName(g.parameter), offset: g.offset, shape: g.shape })),
        outputs: plan.outputs.map(({ name, placement }) => ({ name: `output ${name}`, placement })),
        state: state.block,
        update: update
          ? {
              gradients: gradientBlocks,
              length,
              slots,
              scalars: update.rule.scalars,
              pieces,
              plain: updateModel(update.rule, false, 'cpu'),
              following: updateModel(update.rule, true, 'cpu'),
            }
          : null,
      },
    });

    const feedMemory = growing();
    const outputMemory = growing();
    const exchangeMemory = growing();

    async function run(feeds: Feeds, values?: UpdateValues, accumulate = { index: 0, count: 1 }): Promise<RunResult> {
      const symbols = bindInputs(plan, checks, feeds);
      const batch = symbols.get(plan.batch) ?? 1;
      if (values && !update) throw new JepaError(`${spec.name}: it has no update`);
      const rows = sliceRows(batch, symbols.has(plan.batch) ? workers : 1, workers);

      const feedPlaces = placeAll(plan.inputs.map(({ name }) => ({ name, shape: feeds[name].shape, bytes: feeds[name].data.byteLength })));
      const feedBlock = feedMemory(feedPlaces.bytes);
      const feedBuffer = bufferOf(feedBlock);
      for (const { name } of plan.inputs) {
        const { data } = feeds[name];
        new Uint8Array(feedBuffer, feedPlaces.placed[name].offset, data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      }
      const evaluated = (t: Tensor): number[] => t.shape.map((dim) => evaluateDim(dim, symbols) as number);
      const outputPlaces = placeAll(
        plan.outputs.map(({ name, tensor, placement }) => {
          const shape = evaluated(tensor);
          return { name: `output ${name}`, shape, bytes: sizeOf(shape) * BYTES[tensor.dtype] * (placement === 'partial' ? workers : 1) };
        }),
      );
      const outputBlock = outputMemory(outputPlaces.bytes);
      if (plan.exchanges.length > 0) symbols.set(`whole ${plan.batch}`, batch);
      const exchangePlaces = placeAll(
        phases.flatMap(({ exchanges }) =>
          exchanges.map(({ value, attrs }) => {
            const shape = attrs.shape.map((dim) => evaluateDim(dim, symbols) as number);
            return { name: value, shape, bytes: sizeOf(shape) * 4 * (attrs.kind === 'sum' ? workers : 1) };
          }),
        ),
      );
      const exchangeBlock = exchangeMemory(exchangePlaces.bytes);
      const request = (index: number): RunRequest => ({
        id,
        rows,
        batch,
        feedBlock,
        feeds: feedPlaces.placed,
        outputBlock,
        outputs: outputPlaces.placed,
        exchangeBlock,
        exchanges: exchangePlaces.placed,
        sizes: Object.fromEntries([
          ...[...plan.sizes].map(([name, dim]) => [name, evaluateDim(dim, symbols) as number] as const),
          ['share of the batch', rows[index].count / batch] as const,
        ]),
        update: values
          ? {
              begin: accumulate.index === 0,
              finish: accumulate.index === accumulate.count - 1,
              scale: 1 / accumulate.count,
              clipNorm: values.clipNorm ?? 0,
              scalars: values.groups.map((hyper) => (update ? update.rule.scalarsAt(values.step, hyper) : {})),
              momentum: values.momentum,
            }
          : null,
      });
      const replies = (await broadcast((index) => ({ kind: 'run', ...request(index) }))).map((r) => r.result as RunReply);
      const outputBuffer = bufferOf(outputBlock);
      const outputs: Record<string, HostTensor<DType>> = {};
      for (const { name, tensor, placement } of plan.outputs) {
        const { offset, shape } = outputPlaces.placed[`output ${name}`];
        outputs[name] = collect(outputBuffer, offset, shape, tensor.dtype, placement === 'partial', rows);
      }
      const finite = replies.every((r) => r.finite);
      return { outputs, gradientNorm: replies[0].gradientNorm, finite };
    }

    const slotTensor = (block: Block, offset: number, shape: readonly number[]): Float32Array =>
      new Float32Array(bufferOf(block)).subarray(offset, offset + sizeOf(shape));

    const program: Program = {
      name: spec.name,
      distribution:
        workers === 1
          ? 'one session'
          : plan.exchanges.length === 0
            ? `slices of the batch on ${workers} workers`
            : `slices of the batch on ${workers} workers, ${plan.exchanges.length} values exchanged in ${phases.length - 1} rounds`,
      run,
      readSlots: async () => {
        const values = new Map<string, HostTensor<'float32'>>();
        for (const { name, block } of slots) {
          for (const { parameter, offset, shape } of trained) {
            values.set(`${name}/${parameter}`, { dtype: 'float32', shape, data: slotTensor(block, offset, shape).slice() });
          }
        }
        return values;
      },
      writeSlots: async (values) => {
        for (const { name, block } of slots) {
          for (const { parameter, offset, shape } of trained) {
            const value = values.get(`${name}/${parameter}`);
            if (!value || value.data.length !== sizeOf(shape)) {
              throw new JepaError(`${spec.name}: the optimizer state ${name} of ${parameter} is missing or has the wrong size`);
            }
            slotTensor(block, offset, shape).set(value.data);
          }
        }
      },
      flops: (feeds) => countFlops([...plan.whole.outputs, ...plan.whole.gradients], bindInputs(plan, checks, feeds)),
      peakBytes: (feeds) => livePeak([...plan.whole.outputs, ...plan.whole.gradients], bindInputs(plan, checks, feeds)),
      profile: async (feeds, runs = 5, values) => {
        const folder = await mkdtemp(join(tmpdir(), 'jepa-profile-'));
        try {
          await broadcast({ kind: 'profile', id, folder });
          const profiled = (await compile({ ...spec }, state)) as Program & { id: number };
          for (let i = 0; i < runs; i++) await profiled.run(feeds, values);
          const files = (await broadcast({ kind: 'profile', id: profiled.id, folder: null })).flatMap((r) => r.result as string[]);
          const events = await Promise.all(files.filter((f) => f !== '').map(async (file) => JSON.parse(await readFile(file, 'utf8'))));
          await profiled.close();
          return mergeProfiles(events, new Map(phases.flatMap((p) => [...p.scopes])), runs * workers);
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      },
      locateNonFinite: async (feeds) => locateNonFinite(plan, feeds, await state.read(), 'cpu'),
      close: async () => {
        await broadcast({ kind: 'unload', id });
      },
    };
    return Object.assign(program, { id });
  }
}

/** ONNX Runtime's text names the node ("encoder/blocks.3/attn/matmul/FusedMatMul_12"), hence the scope and operator. */
function describeFailure(text: string): string {
  const node = /name:'([^']*)'|node[ :]+(?:name: *)?'?([\w./ -]+_\d+)/i.exec(text);
  const where = node ? ` in ${(node[1] ?? node[2]).replace(/\/[^/]*$/, '')}` : '';
  return `runtime${where}: ${text.split('\n')[0].replace(/^.*Status Message: /, '')}`;
}

function ask(worker: Worker, message: Message): Promise<Reply> {
  return new Promise((resolve) => {
    const done = (reply: Reply): void => {
      worker.off('message', done);
      worker.off('error', failed);
      worker.off('exit', left);
      resolve(reply);
    };
    const failed = (error: Error): void => done({ ok: false, error: error.message });
    const left = (code: number): void => done({ ok: false, error: `a worker thread stopped (code ${code})` });
    worker.on('message', done);
    worker.on('error', failed);
    worker.on('exit', left);
    worker.postMessage(message);
  });
}

const buffers = new Map<bigint, { bytes: number; buffer: ArrayBuffer }>();
function bufferOf(block: Block): ArrayBuffer {
  const known = buffers.get(block.address);
  if (known && known.bytes === block.bytes) return known.buffer;
  const buffer = viewOf(block);
  buffers.set(block.address, { bytes: block.bytes, buffer });
  return buffer;
}

/** Memory that is replaced by a larger block when a run needs more. */
function growing(): (bytes: number) => Block {
  let block = allocate(4096);
  return (bytes) => {
    if (bytes > block.bytes) block = allocate(bytes);
    return block;
  };
}

function placeAll(values: readonly { name: string; shape: readonly number[]; bytes: number }[]): { placed: Record<string, Placed>; bytes: number } {
  const placed: Record<string, Placed> = {};
  let bytes = 0;
  for (const value of values) {
    placed[value.name] = { offset: bytes, shape: value.shape };
    bytes += Math.ceil(value.bytes / 64) * 64;
  }
  return { placed, bytes };
}

/** Contiguous slices that differ by at most one sample; with fewer samples than workers some have none. */
function sliceRows(batch: number, used: number, workers: number): { start: number; count: number }[] {
  const base = Math.floor(batch / used);
  const extra = batch % used;
  return Array.from({ length: workers }, (_, i) => {
    if (i >= used) return { start: 0, count: 0 };
    return { start: i * base + Math.min(i, extra), count: base + (i < extra ? 1 : 0) };
  });
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
  const total = new Float32Array(size);
  rows.forEach(({ count }, worker) => {
    if (count === 0) return;
    const part = new Float32Array(buffer, offset + worker * size * 4, size);
    for (let i = 0; i < size; i++) total[i] += part[i];
  });
  return { dtype, shape, data: total };
}

function createState(parameters: readonly Tensor[]): CpuState {
  const layout = new Map<string, { offset: number; shape: readonly number[] }>();
  let floats = 0;
  for (const tensor of parameters) {
    const name = nameOf(tensor);
    if (layout.has(name)) throw new JepaError(`state: two parameters are called ${name}`);
    const shape = tensor.shape as readonly number[];
    layout.set(name, { offset: floats, shape });
    floats += aligned(sizeOf(shape));
  }
  const block = allocate(floats * 4);
  const view = (name: string): Float32Array => {
    const placed = layout.get(name);
    if (!placed) throw new JepaError(`state: there is no parameter ${name}`);
    return new Float32Array(bufferOf(block), placed.offset * 4, sizeOf(placed.shape));
  };
  return {
    names: [...layout.keys()],
    block,
    layout,
    read: async (names = [...layout.keys()]) =>
      new Map(names.map((name) => {
        const data = view(name).slice();
        return [name, { dtype: 'float32', shape: layout.get(name)?.shape ?? [], data }];
      })),
    write: async (values) => {
      for (const [name, value] of values) {
        const to = view(name);
        if (to.length !== value.data.length) {
          throw new JepaError(`state: ${name} has shape [${layout.get(name)?.shape}], but [${value.shape}] was given`);
        }
        to.set(value.data);
      }
    },
  };
}

/** Joins parameters that lie next to each other (and whose followers do) into runs, and cuts these into pieces. */
function cutPieces(
  trained: readonly { parameter: string; group: number; offset: number; shape: readonly number[] }[],
  targets: ReadonlyMap<string, number>,
  wholeTensors: boolean,
): { group: number; offset: number; length: number; target: number }[] {
  const runs: { group: number; offset: number; length: number; target: number }[] = [];
  for (const { parameter, group, offset, shape } of [...trained].sort((a, b) => a.offset - b.offset)) {
    const target = targets.get(parameter) ?? -1;
    const last = runs[runs.length - 1];
    const joins =
      last &&
      !wholeTensors &&
      last.group === group &&
      last.offset + last.length === offset &&
      (last.target < 0 ? target < 0 : last.target + last.length === target);
    const length = wholeTensors ? sizeOf(shape) : aligned(sizeOf(shape));
    if (joins) last.length += length;
    else runs.push({ group, offset, length, target });
  }
  if (wholeTensors) return runs;
  return runs.flatMap(({ group, offset, length, target }) =>
    Array.from({ length: Math.ceil(length / PIECE) }, (_, i) => ({
      group,
      offset: offset + i * PIECE,
      length: Math.min(PIECE, length - i * PIECE),
      target: target < 0 ? -1 : target + i * PIECE,
    })),
  );
}
