import childProcess from 'node:child_process';
import { syncBuiltinESMExports } from 'node:module';
import { getHeapStatistics } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { JepaError } from '../../src/base/errors.js';
import { createRandom } from '../../src/base/random.js';
import { mutate } from './mutate.js';
import { fileWriter, type Reader } from './reader.js';

/** One thread that reads damaged files and watches what reading them does. */

export interface WorkerTask {
  readonly reader: string;
  /** Module whose `ALL` has the reader. */
  readonly module: string;
  readonly seed: number;
  /** Files `from` to `to` (exclusive). */
  readonly from: number;
  readonly to: number;
  /** [file that is being read], for the one who watches the time. */
  readonly at: Int32Array;
  /** For readers of files on disk. */
  readonly folder: string;
}

export interface Finding {
  readonly index: number;
  readonly kind: 'exception' | 'memory' | 'execution' | 'hang' | 'crash';
  readonly message: string;
}

export interface WorkerReport {
  /** Files that were read, and those that were refused with an error of ours. */
  readonly values: number;
  readonly errors: number;
  readonly findings: readonly Finding[];
  /** The slowest file. */
  readonly slowest: { readonly index: number; readonly milliseconds: number };
}

/** Memory that a reader may take whatever the file: buffers of a fixed size. */
const FIXED = 1 << 20;
/** Growth of the heap beyond which it is not garbage of a few small files. */
const HEAP = 48 << 20;
/** Libraries of others: growth of the process. */
const FOREIGN_MEMORY = 512 << 20;

/** The file of a reader that has a number: the same at every run. */
export async function damagedFile(reader: Reader, seed: number, index: number): Promise<Uint8Array> {
  return damage(reader, await reader.seeds(), seed, index);
}

function damage(reader: Reader, seeds: Awaited<ReturnType<Reader['seeds']>>, seed: number, index: number): Uint8Array {
  const bytes = mutate(seeds, createRandom(seed, 'fuzz', reader.name, index));
  if (index % 2 === 1) reader.repair?.(bytes);
  return bytes;
}

// --- what is watched ------------------------------------------------------------------------------------------------

/** Bytes of typed arrays made since the last look; what the collector takes meanwhile counts, too. */
let allocated = 0;
let executions = 0;

function watchAllocations(): void {
  const names = ['Uint8', 'Int8', 'Uint8Clamped', 'Uint16', 'Int16', 'Uint32', 'Int32', 'BigInt64', 'BigUint64'];
  for (const name of [...names.map((each) => `${each}Array`), 'Float32Array', 'Float64Array', 'ArrayBuffer']) {
    const holder = globalThis as unknown as Record<string, new (...args: unknown[]) => ArrayBuffer | Uint8Array>;
    const original = holder[name];
    const watched: typeof original = new Proxy(original, {
      construct(target, args, newTarget) {
        // Sizes are counted before they are allocated: what fails for want of memory counts, too.
        if (typeof args[0] === 'number') {
          const each = (target as unknown as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
          allocated += args[0] * each;
        } else if (typeof args[0] === 'object' && !(args[0] instanceof ArrayBuffer)) {
          const { length = 0 } = args[0] as ArrayLike<number>;
          allocated += length * ((target as unknown as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1);
        }
        return Reflect.construct(target, args, newTarget === watched ? target : newTarget) as ArrayBuffer;
      },
    });
    holder[name] = watched;
  }
  for (const name of ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const) {
    const original = Buffer[name];
    Buffer[name] = (size: number, ...rest: []) => {
      allocated += size;
      return original.call(Buffer, size, ...rest);
    };
  }
  const { prototype } = Object.getPrototypeOf(Uint8Array) as { prototype: { slice(...args: unknown[]): Uint8Array } };
  const { slice } = prototype;
  prototype.slice = function (this: Uint8Array, ...args) {
    const part = slice.apply(this, args);
    allocated += part.byteLength;
    return part;
  };
}

/** Text that becomes code, and programs that are started, are counted. */
function watchExecutions(reader: Reader): void {
  const trap = (target: object): object => {
    const count = (): never => {
      executions++;
      throw new Error('a damaged file was executed');
    };
    return new Proxy(target, { apply: count, construct: count });
  };
  // biome-ignore lint/security/noGlobalEval: it is replaced, not used
  globalThis.eval = trap(globalThis.eval) as typeof globalThis.eval;
  const made = trap(Function);
  Object.defineProperty(Function.prototype, 'constructor', { value: made });
  globalThis.Function = made as FunctionConstructor;
  if (reader.foreign) return;
  const programs = childProcess as unknown as Record<string, object>;
  for (const name of ['spawn', 'spawnSync', 'exec', 'execSync', 'execFile', 'execFileSync', 'fork']) {
    programs[name] = trap(programs[name]);
  }
  syncBuiltinESMExports();
}

const prototypes = (): string => [Object.prototype, Array.prototype, Map.prototype].map(namesOf).join();
const namesOf = (object: object): string => Object.getOwnPropertyNames(object).join();

// --- the loop -------------------------------------------------------------------------------------------------------

async function run({ reader: name, module, seed, from, to, at, folder }: WorkerTask): Promise<WorkerReport> {
  // Schemas would be compiled to functions when they are first used; here, all text that becomes code counts.
  z.config({ jitless: true });
  const { ALL } = (await import(module)) as { readonly ALL: readonly Reader[] };
  const reader = ALL.find((each) => each.name === name) as Reader;
  const seeds = await reader.seeds();
  watchExecutions(reader);
  // Libraries look at the constructors of what they are given; their memory is that of the process.
  if (!reader.foreign) watchAllocations();
  const before = prototypes();
  const findings: Finding[] = [];
  const file = fileWriter(folder);
  let [values, errors] = [0, 0];
  let slowest = { index: from, milliseconds: 0 };
  for (let index = from; index < to; index++) {
    const bytes = damage(reader, seeds, seed, index);
    Atomics.store(at, 0, index);
    let announced = 0;
    const heap = getHeapStatistics().used_heap_size;
    const resident = reader.foreign ? process.memoryUsage.rss() : 0;
    const find = (kind: Finding['kind'], message: string): number => findings.push({ index, kind, message });
    [allocated, executions] = [0, 0];
    const started = performance.now();
    const tools = { announce: (size: number) => (announced += size), file };
    let value: unknown;
    try {
      value = await reader.read(bytes, tools);
      values++;
    } catch (error) {
      errors++;
      if (!(error instanceof JepaError)) find('exception', String((error as Error).stack ?? error).slice(0, 600));
      else if (error.message.includes('\n')) find('exception', `a message of several lines: ${error.message}`);
    }
    const milliseconds = performance.now() - started;
    const taken = allocated;
    if (milliseconds > slowest.milliseconds) slowest = { index, milliseconds };
    if (executions > 0) find('execution', 'text of the file became code, or a program was started');
    if (prototypes() !== before) find('execution', 'objects of the language were changed');
    const given = announced + (reader.foreign ? 0 : bytesOf(value));
    const most = 2 * bytes.length * (reader.expands ?? 1) + 4 * given + FIXED;
    const grown = reader.foreign ? process.memoryUsage.rss() - resident : 0;
    if (!reader.foreign && taken > most) {
      find('memory', `${taken} bytes of arrays for a file of ${bytes.length} that announces ${given}`);
    }
    if (grown > FOREIGN_MEMORY) find('memory', `the process grew by ${grown} bytes for a file of ${bytes.length}`);
    const heaped = getHeapStatistics().used_heap_size - heap;
    if (heaped > HEAP + 100 * bytes.length) find('memory', `the heap grew by ${heaped} bytes for ${bytes.length}`);
  }
  return { values, errors, findings, slowest };
}

/** Bytes of all typed arrays in a value. */
function bytesOf(value: unknown, seen = new Set<unknown>()): number {
  if (typeof value !== 'object' || value === null || seen.has(value)) return 0;
  seen.add(value);
  if (ArrayBuffer.isView(value)) return value.byteLength;
  const inner = value instanceof Map ? [...value.values()] : Array.isArray(value) ? value : Object.values(value);
  return inner.reduce((sum: number, each: unknown) => sum + bytesOf(each, seen), 0);
}

if (parentPort && workerData) parentPort.postMessage(await run(workerData as WorkerTask));
