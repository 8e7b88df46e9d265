import fs from 'node:fs';
import koffi from 'koffi';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import type { FilePlace } from '../base/tensor.js';

/**
 * Memory that every thread sees and that ONNX Runtime takes as tensors without a copy. Not a SharedArrayBuffer: older
 * Node versions (20 among them) refuse to pass views on one to native code. A block is allocated once, outside of the
 * JavaScript heap, and each thread makes its own ArrayBuffer over the same bytes from the address.
 */
export interface Block {
  readonly address: bigint;
  readonly bytes: number;
}

const ALIGNMENT = 64;
const PAGE = 4096;

/** Blocks given back. They are used again, not freed: an ArrayBuffer over freed memory would be a trap. */
const spare: Block[] = [];

/** Memory of at least so many bytes, all zero. */
export function allocate(bytes: number): Block {
  const fits = (block: Block): boolean => block.bytes >= bytes && block.bytes <= 2 * bytes + PAGE;
  const found = spare.filter(fits).sort((a, b) => a.bytes - b.bytes)[0];
  if (!found) return create(bytes);
  spare.splice(spare.indexOf(found), 1);
  new Uint8Array(viewOf(found)).fill(0);
  return found;
}

export function giveBack(...blocks: readonly Block[]): void {
  spare.push(...blocks);
}

/** koffi's own allocation, which every platform has, ends here. */
const LARGEST_OWN = 2 ** 31 - 1;

function create(bytes: number): Block {
  const size = Math.max(bytes, ALIGNMENT);
  const own = size + ALIGNMENT <= LARGEST_OWN;
  // Large memory comes from the system with zeros, page by page as it is used.
  const address = own
    ? koffi.address(koffi.alloc('uint8_t', size + ALIGNMENT))
    : systemCall('calloc')(1, size + ALIGNMENT);
  if (address === 0n) throw new JepaError(`engine: there is no memory for a block of ${size} bytes`);
  const aligned = (address + BigInt(ALIGNMENT - 1)) & ~BigInt(ALIGNMENT - 1);
  const block = { address: aligned, bytes: size };
  if (own) new Uint8Array(viewOf(block)).fill(0);
  return block;
}

// --- the system's own functions --------------------------------------------------------------------------------------

const SIGNATURES = {
  calloc: 'void *calloc(size_t count, size_t size)',
  mmap: 'void *mmap(void *address, size_t length, int protection, int flags, int file, int64_t offset)',
} as const;
/** Says what memory will be used for. */
const ADVISE = 'int madvise(void *address, size_t length, int advice)';

type SystemCall = (...args: readonly (number | null)[]) => bigint;
const systemCalls = new Map<keyof typeof SIGNATURES, SystemCall>();

/** A function of the C library that this process has loaded. Throws where there is none (mmap on Windows). */
function systemCall(name: keyof typeof SIGNATURES): SystemCall {
  let call = systemCalls.get(name);
  if (!call) {
    const library = process.platform === 'win32' ? 'ucrtbase.dll' : null;
    const found = koffi.load(library).func(SIGNATURES[name]);
    call = (...args) => koffi.address(found(...args));
    systemCalls.set(name, call);
  }
  return call;
}

const [READ_AND_WRITE, PRIVATE, WILL_NEED] = [3, 2, 3];
const FAILED = 2n ** 64n - 1n;

/** Files that are mapped, for good: an ArrayBuffer over what is mapped no longer would be a trap. */
const mapped = new Map<string, Block | undefined>();

/**
 * Numbers of a file as memory, read by the system when they are used; writing changes this process's copy alone. `offset`
 * counts floats. Undefined where that is not possible: on Windows, or where floats do not begin at a multiple of 4 bytes.
 */
export function mapFile({ path, size, mtimeMs, offset }: FilePlace): { mapped: Block; offset: number } | undefined {
  if (process.platform === 'win32' || offset % 4 !== 0) return undefined;
  const key = `${path}\0${size}\0${mtimeMs}`;
  if (!mapped.has(key)) mapped.set(key, mapWhole({ path, size, mtimeMs }));
  const block = mapped.get(key);
  return block && { mapped: block, offset: offset / 4 };
}

function mapWhole({ path, size, mtimeMs }: Omit<FilePlace, 'offset'>): Block | undefined {
  const fd = withFileErrors('open', path, () => fs.openSync(path, 'r'));
  try {
    const now = fs.fstatSync(fd);
    if (now.size !== size || now.mtimeMs !== mtimeMs)
      throw new JepaError(`${path}: the file has changed since it was opened; open it again`);
    const address = systemCall('mmap')(null, size, READ_AND_WRITE, PRIVATE, fd, 0);
    if (address === FAILED) return undefined;
    // The disk is read ahead while sessions are opened and first layers computed. Only advice: nothing waits for it.
    koffi
      .load(null)
      .func(ADVISE)
      .async(address, size, WILL_NEED, () => {});
    return { address, bytes: size };
  } finally {
    fs.closeSync(fd);
  }
}

const views = new Map<bigint, ArrayBuffer>();

/** This thread's ArrayBuffer over a block; always the same one. */
export function viewOf({ address, bytes }: Block): ArrayBuffer {
  let view = views.get(address);
  if (!view) {
    view = koffi.view(address, bytes) as ArrayBuffer;
    views.set(address, view);
  }
  return view;
}
