import koffi from 'koffi';

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
  const block = found ?? create(bytes);
  if (found) spare.splice(spare.indexOf(found), 1);
  new Uint8Array(viewOf(block)).fill(0);
  return block;
}

export function giveBack(...blocks: readonly Block[]): void {
  spare.push(...blocks);
}

function create(bytes: number): Block {
  const address = koffi.address(koffi.alloc('uint8_t', Math.max(bytes, ALIGNMENT) + ALIGNMENT));
  const aligned = (address + BigInt(ALIGNMENT - 1)) & ~BigInt(ALIGNMENT - 1);
  return { address: aligned, bytes: Math.max(bytes, ALIGNMENT) };
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
