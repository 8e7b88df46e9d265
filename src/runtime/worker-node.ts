import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { type Block, viewOf } from './memory-node.js';
import { reduceModel } from './reduce.js';
import {
  CONTROL,
  type Message,
  OTHER_FAILED,
  type PhaseDefinition,
  PREVIOUS,
  type ProgramDefinition,
  type Reply,
  type RunReply,
  type RunRequest,
  type UpdateDefinition,
} from './worker-protocol.js';

/** One worker thread of the CPU backend: its own single-threaded sessions, on its slice of every batch. */
const {
  index,
  count,
  control: controlBuffer,
  sums: sumsBuffer,
} = workerData as {
  index: number;
  count: number;
  control: SharedArrayBuffer;
  sums: SharedArrayBuffer;
};
const control = new Int32Array(controlBuffer);
/** Every worker's sum of squared gradients of each set that is clipped, [sets, workers], for the norms. */
const sums = new Float64Array(sumsBuffer);

type Session = InferenceSession;
type Values = Map<string, Tensor>;

interface LoadedProgram {
  readonly definition: ProgramDefinition;
  readonly sessions: Session[];
  readonly parameters: Values;
  readonly gradients: Values;
  readonly update: LoadedUpdate | null;
  /**
   * What phases handed on in the last run and the shapes of its inputs: with the same shapes the values go to the same
   * memory, as fresh memory costs more than what is written to it.
   */
  carried: { readonly shapes: string; readonly values: Values };
  /** Opened when a slice is first worked on in pieces. */
  adding?: Session;
  /** With a thread for every worker, for a batch that has no slice for each; opened when there first is one. */
  wide?: Session;
}

interface LoadedUpdate {
  readonly definition: UpdateDefinition;
  readonly state: Float32Array;
  readonly gradients: readonly Float32Array[];
  /** Sum over micro-batches, made when first needed. */
  accumulated: Float32Array | null;
  /** Whether a loss since the first micro-batch was not finite. */
  spoiled: boolean;
  readonly slots: readonly Float32Array[];
  readonly plain: Session;
  readonly following: Session;
  readonly follow: Session | null;
  /** Sums k gradients; one session for each k in use. */
  readonly reduce: Map<number, Session>;
}

const programs = new Map<number, LoadedProgram>();
const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;
type DType = keyof typeof ARRAYS;

const tensor = (dtype: DType, data: Float32Array | Int32Array | Uint8Array, dims: readonly number[]): Tensor =>
  new ort.Tensor(dtype, data as Float32Array, dims.length === 0 ? [1] : dims) as unknown as Tensor;
const vector = (data: Float32Array): Tensor => tensor('float32', data, [data.length]);
const scalar = (value: number): Tensor => tensor('float32', Float32Array.of(value), [1]);
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

let profileFolder: string | null = null;
const profiled: Session[] = [];

async function openSession(model: Uint8Array, threads = 1): Promise<Session> {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ['cpu'],
    // Our own passes have chosen the operators; the runtime's would undo them.
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    // Patterns keep a block for every combination of shapes beside the arena: half of the memory, for no time.
    enableMemPattern: false,
    logSeverityLevel: 4,
    ...(profileFolder
      ? { enableProfiling: true, profileFilePrefix: `${profileFolder}/worker${index}-${profiled.length}` }
      : {}),
  });
  if (profileFolder) profiled.push(session);
  return session;
}

/** Waits until every worker is here. A worker that failed raises the abort flag, which ends the wait of the others. */
function barrier(): void {
  if (count === 1) return;
  const generation = Atomics.load(control, CONTROL.generation);
  if (Atomics.add(control, CONTROL.arrived, 1) === count - 1) {
    Atomics.store(control, CONTROL.arrived, 0);
    Atomics.add(control, CONTROL.generation, 1);
    Atomics.notify(control, CONTROL.generation);
    return;
  }
  while (Atomics.load(control, CONTROL.generation) === generation) {
    Atomics.wait(control, CONTROL.generation, generation, 200);
    if (Atomics.load(control, CONTROL.abort) !== 0) throw new Error(OTHER_FAILED);
  }
}

async function load(id: number, definition: ProgramDefinition): Promise<void> {
  const sessions: Session[] = [];
  for (const { model } of definition.phases) sessions.push(await openSession(model));
  const state = new Float32Array(viewOf(definition.state));
  const slice = (flat: Float32Array, offset: number, shape: readonly number[]): Tensor =>
    tensor('float32', flat.subarray(offset, offset + sizeOf(shape)), shape);
  const parameters = new Map(
    definition.parameters.map(({ name, block, offset, shape }) => [
      name,
      tensor('float32', new Float32Array(viewOf(block), offset * 4, sizeOf(shape)), shape),
    ]),
  );
  let update: LoadedUpdate | null = null;
  const gradients: Values = new Map();
  if (definition.update) {
    const floats = (block: Block): Float32Array => new Float32Array(viewOf(block));
    update = {
      definition: definition.update,
      state,
      gradients: definition.update.gradients.map(floats),
      accumulated: null,
      spoiled: false,
      slots: definition.update.slots.map((slot) => floats(slot.block)),
      plain: await openSession(definition.update.plain),
      following: await openSession(definition.update.following),
      follow: definition.update.follow && (await openSession(definition.update.follow)),
      reduce: new Map(),
    };
    for (const g of definition.gradients) gradients.set(g.name, slice(update.gradients[index], g.offset, g.shape));
  }
  programs.set(id, {
    definition,
    sessions,
    parameters,
    gradients,
    update,
    carried: { shapes: '', values: new Map() },
  });
}

async function run(request: RunRequest): Promise<RunReply> {
  const program = programs.get(request.id);
  if (!program) throw new Error(`program ${request.id} is not loaded`);
  const { definition } = program;
  const mine = request.rows[index];
  const outputBuffer = viewOf(request.outputBlock);
  const values: Values = new Map(program.parameters);
  if (definition.phases.length > 1) {
    if (mine.count > 0) {
      placeFeeds(program, request, mine, values);
      keepMemory(program, request, mine);
    }
    for (let p = 0; p < definition.phases.length; p++) {
      const phase = definition.phases[p];
      if (mine.count > 0) await runPhase(program, p, values);
      if (phase.exchanges.length > 0) exchange(phase, request, values, definition);
    }
    if (mine.count > 0) writeOutputs(definition, request, mine, values, outputBuffer);
  } else if (mine.count > 0) {
    await runInPieces(program, request, values, outputBuffer);
  }
  let gradientNorm = Number.NaN;
  let finite = true;
  if (request.update && program.update) {
    ({ gradientNorm, finite } = await update(program.update, request, values));
  }
  return { gradientNorm, finite };
}

/**
 * Without exchanges a slice can be worked on in pieces, one after the other: what is alive at once shrinks with the piece,
 * and small pieces stay in the cache. Gradients and sums over the batch are added up.
 */
async function runInPieces(
  program: LoadedProgram,
  request: RunRequest,
  values: Values,
  outputBuffer: ArrayBuffer,
): Promise<void> {
  const { definition } = program;
  const { start, count: rows } = request.rows[index];
  const alone = rows === request.batch && !definition.update ? await wideSession(program) : undefined;
  const pieces = Math.ceil(rows / Math.max(1, request.rowsAtOnce));
  const sums = new Map<string, Float32Array>();
  for (let i = 0; i < pieces; i++) {
    const from = Math.floor((rows * i) / pieces);
    const piece = { start: start + from, count: Math.floor((rows * (i + 1)) / pieces) - from };
    placeFeeds(program, request, piece, values);
    const adding = i > 0 && definition.adding ? await addingSession(program, definition.adding) : undefined;
    await runPhase(program, 0, values, { adding, alone });
    for (const { name, placement } of definition.outputs) {
      if (placement !== 'partial' || pieces === 1) continue;
      const part = values.get(name)?.data as Float32Array;
      const sum = sums.get(name);
      if (sum) for (let j = 0; j < sum.length; j++) sum[j] += part[j];
      else sums.set(name, part.slice());
      if (i === pieces - 1)
        values.set(name, tensor(definition.types[name], sums.get(name) as Float32Array, values.get(name)?.dims ?? [1]));
    }
    writeOutputs(definition, request, piece, values, outputBuffer);
  }
}

/** The session that adds the gradients of a further piece to those that are there. */
async function addingSession(program: LoadedProgram, { model }: PhaseDefinition): Promise<Session> {
  program.adding ??= await openSession(model);
  return program.adding;
}

/** The session of a worker that has the whole batch to itself; undefined where there is no other worker. */
async function wideSession(program: LoadedProgram): Promise<Session | undefined> {
  if (count === 1) return undefined;
  program.wide ??= await openSession(program.definition.phases[0].model, count);
  return program.wide;
}

interface Rows {
  readonly start: number;
  readonly count: number;
}

function placeFeeds(
  { definition }: LoadedProgram,
  request: RunRequest,
  { start, count: rows }: Rows,
  values: Values,
): void {
  const buffer = viewOf(request.feedBlock);
  for (const { name, axis } of definition.feeds) {
    const { offset, shape } = request.feeds[name];
    const dtype = definition.types[name];
    const whole = new ARRAYS[dtype](buffer, offset, sizeOf(shape));
    if (axis === null) {
      values.set(name, tensor(dtype, whole, shape));
      continue;
    }
    // A dimension may be a multiple of the batch (rows of every sample one after the other).
    const unit = shape[axis] / request.batch;
    const inner = sizeOf(shape.slice(axis + 1)) * unit;
    const outer = sizeOf(shape.slice(0, axis));
    const sliced = shape.map((dim, i) => (i === axis ? rows * unit : dim));
    if (outer === 1) {
      values.set(name, tensor(dtype, whole.subarray(start * inner, (start + rows) * inner), sliced));
      continue;
    }
    const copy = new ARRAYS[dtype](sizeOf(sliced));
    const stride = (inner / unit) * shape[axis];
    for (let o = 0; o < outer; o++) {
      copy.set(whole.subarray(o * stride + start * inner, o * stride + (start + rows) * inner), o * rows * inner);
    }
    values.set(name, tensor(dtype, copy, sliced));
  }
  for (const [name, value] of Object.entries(request.sizes)) values.set(name, scalar(value));
  const { own, whole, share } = definition.rowInputs;
  values.set(share, scalar(rows / request.batch));
  if (own in definition.types)
    values.set(
      own,
      tensor(
        'int32',
        Int32Array.from({ length: rows }, (_, i) => start + i),
        [rows],
      ),
    );
  if (whole in definition.types) values.set(whole, tensor('bool', new Uint8Array(request.batch), [request.batch]));
}

/** Forgets the memory of what phases handed on, if that has other sizes now. */
function keepMemory(program: LoadedProgram, { feeds, batch }: RunRequest, { count: rows }: Rows): void {
  const shapes = [rows, batch, ...Object.values(feeds).map(({ shape }) => shape.join())].join(' ');
  if (program.carried.shapes !== shapes) program.carried = { shapes, values: new Map() };
}

async function runPhase(
  program: LoadedProgram,
  p: number,
  values: Values,
  { adding, alone }: { readonly adding?: Session; readonly alone?: Session } = {},
): Promise<void> {
  const { definition, gradients, carried } = program;
  const phase = adding && definition.adding ? definition.adding : definition.phases[p];
  const feeds: Record<string, Tensor> = {};
  for (const name of phase.inputs)
    feeds[name] = (values.get(name) ?? gradients.get(name.slice(PREVIOUS.length))) as Tensor;
  const fetches: Record<string, Tensor | null> = {};
  for (const name of phase.outputs) fetches[name] = gradients.get(name) ?? carried.values.get(name) ?? null;
  const results = await (adding ?? alone ?? program.sessions[p]).run(feeds as never, fetches as never);
  for (const name of phase.outputs) {
    // The runtime writes to the memory it is given, but what it returns is a copy.
    const result = fetches[name] ?? (results[name] as unknown as Tensor);
    values.set(name, result);
    if (definition.phases.length > 1) carried.values.set(name, result);
  }
}

function exchange(phase: PhaseDefinition, request: RunRequest, values: Values, { types }: ProgramDefinition): void {
  const buffer = viewOf(request.exchangeBlock);
  const mine = request.rows[index];
  for (const { value, kind, axis } of phase.exchanges) {
    const { offset, shape } = request.exchanges[value];
    if (mine.count === 0) continue;
    const dtype = types[value];
    const local = values.get(value)?.data as Float32Array;
    const at = kind === 'sum' ? offset + index * sizeOf(shape) * 4 : offset;
    const shared = new ARRAYS[dtype](buffer, at, sizeOf(shape));
    if (kind === 'sum') shared.set(local);
    else copySlice(local, shared, shape, axis, mine, request.batch);
  }
  barrier();
  for (const { value, result, kind } of phase.exchanges) {
    const { offset, shape } = request.exchanges[value];
    const size = sizeOf(shape);
    const dtype = types[value];
    if (kind === 'gather') {
      values.set(result, tensor(dtype, new ARRAYS[dtype](buffer, offset, size), shape));
      continue;
    }
    const total = new ARRAYS[dtype](size);
    request.rows.forEach(({ count: rows }, worker) => {
      if (rows === 0) return;
      const part = new ARRAYS[dtype](buffer, offset + worker * size * 4, size);
      for (let i = 0; i < size; i++) total[i] += part[i];
    });
    values.set(result, tensor(dtype, total, shape));
  }
}

/** Copies a worker's slice along `axis` into the whole value. */
function copySlice(
  local: Float32Array | Int32Array | Uint8Array,
  whole: Float32Array | Int32Array | Uint8Array,
  shape: readonly number[],
  axis: number,
  { start, count: rows }: { start: number; count: number },
  batch: number,
): void {
  const unit = shape[axis] / batch;
  const inner = sizeOf(shape.slice(axis + 1)) * unit;
  const outer = sizeOf(shape.slice(0, axis));
  const stride = inner * batch;
  for (let o = 0; o < outer; o++)
    whole.set(local.subarray(o * rows * inner, (o + 1) * rows * inner) as never, o * stride + start * inner);
}

function writeOutputs(
  definition: ProgramDefinition,
  request: RunRequest,
  rows: Rows,
  values: Values,
  buffer: ArrayBuffer,
): void {
  const active = request.rows.findIndex((r) => r.count > 0);
  for (const { name, placement } of definition.outputs) {
    const { offset, shape } = request.outputs[name];
    const dtype = definition.types[name];
    const local = values.get(name)?.data as Float32Array;
    const size = sizeOf(shape);
    if (placement === 'partial') new ARRAYS[dtype](buffer, offset + index * size * 4, size).set(local);
    else if (placement === 'replicated') {
      if (index === active) new ARRAYS[dtype](buffer, offset, size).set(local as never);
    } else copySlice(local, new ARRAYS[dtype](buffer, offset, size), shape, placement, rows, request.batch);
  }
}

/** Pieces of the flat state that this worker updates: an even share of the floats. */
function share(pieces: UpdateDefinition['pieces']): UpdateDefinition['pieces'] {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  let before = 0;
  return pieces.filter((piece) => {
    const owner = Math.min(count - 1, Math.floor(((before + piece.length / 2) / total) * count));
    before += piece.length;
    return owner === index;
  });
}

async function update(
  state: LoadedUpdate,
  request: RunRequest,
  values: Values,
): Promise<{ gradientNorm: number; finite: boolean }> {
  const plan = request.update as NonNullable<RunRequest['update']>;
  const active = request.rows.flatMap(({ count: rows }, worker) => (rows > 0 ? [worker] : []));
  // The loss is looked at before anything is written, so that a bad step leaves the state as it was.
  const loss = active.includes(index) ? (values.get(state.definition.loss)?.data as Float32Array) : [0];
  state.spoiled = (state.spoiled && !plan.begin) || !Number.isFinite(loss[0]);
  barrier();
  const mine = share(state.definition.pieces);
  const sumSession = state.reduce.get(active.length) ?? (await openSession(reduceModel(active.length)));
  state.reduce.set(active.length, sumSession);
  const accumulating = !(plan.begin && plan.finish);
  if (accumulating && !state.accumulated) state.accumulated = new Float32Array(state.definition.length);
  const { clipSets } = state.definition;
  const sets = Math.max(1, ...clipSets.map((set) => set + 1));
  const squares = Array<number>(sets).fill(state.spoiled ? Number.NaN : 0);
  for (const { group, offset, length } of mine) {
    if (group < 0) continue;
    const feeds: Record<string, Tensor> = {};
    active.forEach((worker, i) => {
      feeds[`part${i}`] = vector(state.gradients[worker].subarray(offset, offset + length));
    });
    const results = await sumSession.run(feeds as never, { sum: feeds['part0'], squares: null } as never);
    if (accumulating && state.accumulated) {
      const sum = state.accumulated.subarray(offset, offset + length);
      const part = state.gradients[active[0]].subarray(offset, offset + length);
      if (plan.begin) sum.set(part);
      else for (let i = 0; i < length; i++) sum[i] += part[i];
      squares[clipSets[group]] += plan.finish ? sumOfSquares(sum) : 0;
    } else squares[clipSets[group]] += (results.squares.data as Float32Array)[0];
  }
  squares.forEach((sum, set) => {
    sums[set * count + index] = sum;
  });
  barrier();
  const totals = squares.map((_, set) => sums.subarray(set * count, (set + 1) * count).reduce((a, b) => a + b, 0));
  const gradientNorm = Math.sqrt(totals.reduce((a, b) => a + b, 0)) * plan.scale;
  if (!plan.finish) return { gradientNorm: Number.NaN, finite: Number.isFinite(gradientNorm) };
  if (!Number.isFinite(gradientNorm)) return { gradientNorm, finite: false };
  const scales = totals.map((total) => {
    const norm = Math.sqrt(total) * plan.scale;
    return scalar(plan.scale * (plan.clipNorm > 0 ? Math.min(1, plan.clipNorm / (norm + 1e-6)) : 1));
  });
  const momentum = scalar(plan.momentum);
  const rest = scalar(1 - plan.momentum);
  for (const { group, offset, length, target } of mine) {
    const piece = (flat: Float32Array, at = offset): Tensor => vector(flat.subarray(at, at + length));
    if (group < 0) {
      const followed = piece(state.state, target);
      const feeds = { parameter: piece(state.state), target: followed, momentum, rest };
      await state.follow?.run(feeds as never, { 'target out': followed } as never);
      continue;
    }
    const source = accumulating ? (state.accumulated as Float32Array) : state.gradients[active[0]];
    const feeds: Record<string, Tensor> = {
      parameter: piece(state.state),
      gradient: piece(source),
      scale: scales[clipSets[group]],
    };
    const fetches: Record<string, Tensor> = { 'parameter out': feeds.parameter };
    state.definition.slots.forEach(({ name }, i) => {
      feeds[name] = piece(state.slots[i]);
      fetches[`${name} out`] = feeds[name];
    });
    for (const name of state.definition.scalars) feeds[name] = scalar(plan.scalars[group][name]);
    if (target >= 0) {
      feeds.target = piece(state.state, target);
      feeds.momentum = momentum;
      feeds.rest = rest;
      fetches['target out'] = feeds.target;
    }
    const session = target >= 0 ? state.following : state.plain;
    await session.run(feeds as never, fetches as never);
  }
  barrier();
  return { gradientNorm, finite: true };
}

function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (const v of values) sum += v * v;
  return sum;
}

function sessionsOf(id: number): Session[] {
  const program = programs.get(id);
  if (!program) return [];
  const { update: u, sessions, adding, wide } = program;
  const later = [adding, wide].filter((session) => session !== undefined);
  return [
    ...sessions,
    ...later,
    ...(u ? [u.plain, u.following, ...(u.follow ? [u.follow] : []), ...u.reduce.values()] : []),
  ];
}

async function handle(message: Message): Promise<Reply> {
  try {
    if (message.kind === 'load') {
      await load(message.id, message.program);
      return { ok: true, result: null };
    }
    if (message.kind === 'run') return { ok: true, result: await run(message) };
    if (message.kind === 'profile') {
      profileFolder = message.folder;
      if (message.folder !== null) return { ok: true, result: null };
      for (const session of profiled.splice(0)) session.endProfiling();
      return { ok: true, result: null };
    }
    for (const session of sessionsOf(message.id)) await session.release();
    programs.delete(message.id);
    return { ok: true, result: null };
  } catch (error) {
    Atomics.store(control, CONTROL.abort, 1);
    Atomics.notify(control, CONTROL.generation);
    return { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

let last: Promise<unknown> = Promise.resolve();
parentPort?.on('message', (message: Message) => {
  last = last.then(async () => parentPort?.postMessage(await handle(message)));
});
