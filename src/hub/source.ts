import { JepaError } from '../base/errors.js';
import type { FilePlace } from '../base/tensor.js';

/** Bytes that can be read by range: a file on disk or an array in memory. Reading is synchronous. */
export interface ByteSource {
  /** Path or name, for messages. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** A fresh copy of `length` bytes from `offset`, starting its own buffer (so any typed array can view it). */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  /** The same into memory that is there; sources that would only copy what they have read do without. */
  readInto?(offset: number, target: Uint8Array): void;
  /** The file that this is. */
  readonly file?: FilePlace;
  close(): void;
}

/** Bytes in memory as a source. */
export function bytesSource(bytes: Uint8Array, name = 'data in memory'): ByteSource {
  return {
    name,
    size: bytes.length,
    read(offset, length) {
      checkRange(name, bytes.length, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
    close() {},
  };
}

/** A part of a source as a source of its own; closing it leaves the whole open. */
export function sliceSource(whole: ByteSource, offset: number, size: number, name = whole.name): ByteSource {
  checkRange(name, whole.size, offset, size);
  return {
    name,
    size,
    read(from, length) {
      checkRange(name, size, from, length);
      return whole.read(offset + from, length);
    },
    close() {},
  };
}

/** Throws when a range is not inside `size` bytes; everything that a header announces passes here before it is allocated. */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  if (
    !(
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(length) &&
      offset >= 0 &&
      length >= 0 &&
      offset + length <= size
    )
  ) {
    throw new JepaError(
      `${name}: bytes ${offset} to ${offset + length} are outside of its ${size} bytes; the file is cut or damaged`,
    );
  }
}
