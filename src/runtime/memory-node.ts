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

export function allocate(bytes: number): Block {
  const size = Math.max(bytes, ALIGNMENT) + ALIGNMENT;
  const address = koffi.address(koffi.alloc('uint8_t', size));
  const aligned = (address + BigInt(ALIGNMENT - 1)) & ~BigInt(ALIGNMENT - 1);
  const block = { address: aligned, bytes };
  new Uint8Array(viewOf(block)).fill(0);
  return block;
}

/** This thread's ArrayBuffer over a block. */
export function viewOf({ address, bytes }: Block): ArrayBuffer {
  return koffi.view(address, Math.max(bytes, 1));
}
