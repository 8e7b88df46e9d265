import { JepaError } from '../base/errors.js';
import { type ImageDataset, memoryDataset, sharedBytes } from './dataset.js';
import { gunzip, isGzip } from './inflate.js';

type IdxData = Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;

/** An array read from an IDX file (the format of MNIST). */
export interface IdxArray {
  /** Element type as in the file: 0x08 uint8, 0x09 int8, 0x0b int16, 0x0c int32, 0x0d float32, 0x0e float64. */
  readonly type: number;
  readonly shape: readonly number[];
  readonly data: IdxData;
}

const TYPES: Record<number, { bytes: number; view: (buffer: ArrayBuffer, big: DataView) => IdxData }> = {
  8: { bytes: 1, view: (buffer) => new Uint8Array(buffer) },
  9: { bytes: 1, view: (buffer) => new Int8Array(buffer) },
  11: { bytes: 2, view: (buffer, big) => new Int16Array(buffer).map((_, i) => big.getInt16(2 * i)) },
  12: { bytes: 4, view: (buffer, big) => new Int32Array(buffer).map((_, i) => big.getInt32(4 * i)) },
  13: { bytes: 4, view: (buffer, big) => new Float32Array(buffer.byteLength / 4).map((_, i) => big.getFloat32(4 * i)) },
  14: { bytes: 8, view: (buffer, big) => new Float64Array(buffer.byteLength / 8).map((_, i) => big.getFloat64(8 * i)) },
};

/** Largest rank accepted; images have 3 or 4. */
const MAX_RANK = 8;
/** Largest array accepted, in bytes: what one typed array of this platform surely holds. */
const MAX_BYTES = 2 ** 32 - 1;

/**
 * Reads an IDX file, gzipped or not. Only as much is inflated as the header announces. uint8 data lie in memory that
 * threads share. Throws a `JepaError` naming the file and the byte.
 */
export async function parseIdx(bytes: Uint8Array, where: string): Promise<IdxArray> {
  const fail = (why: string) => new JepaError(`${where}: not a valid IDX file, ${why}`);
  const gzipped = isGzip(bytes);
  const parts = gzipped ? gunzip(bytes, where) : [bytes];
  const head = new Uint8Array(4 + 4 * MAX_RANK);
  let headLength = 4;
  let filled = 0;
  let out: Uint8Array | undefined;
  let type = 0;
  let shape: number[] = [];
  for await (let part of parts) {
    // The header first: the magic number, then as many sizes as it says.
    while (!out && part.length > 0) {
      const taken = part.subarray(0, headLength - filled);
      head.set(taken, filled);
      filled += taken.length;
      part = part.subarray(taken.length);
      if (filled < headLength) break;
      if (headLength === 4) {
        if (head[0] !== 0 || head[1] !== 0) throw fail(`the first two bytes must be 0, not ${head[0]} ${head[1]}`);
        type = head[2];
        if (!TYPES[type]) throw fail(`byte 2 is ${type}, an unknown element type`);
        if (head[3] < 1 || head[3] > MAX_RANK) throw fail(`byte 3 says rank ${head[3]}, accepted are 1 to ${MAX_RANK}`);
        headLength = 4 + 4 * head[3];
        continue;
      }
      const view = new DataView(head.buffer);
      shape = Array.from({ length: head[3] }, (_, i) => view.getUint32(4 + 4 * i));
      const size = shape.reduce((product, dim) => product * dim, TYPES[type].bytes);
      const announced = `its header announces ${shape.join(' x ')} values (${size} bytes)`;
      if (size > MAX_BYTES) throw fail(`${announced}, far more than can be held`);
      if (!gzipped && bytes.length - headLength !== size) {
        const found = bytes.length - headLength;
        throw fail(
          `${announced} but ${found} follow: ${found < size ? 'the data end early' : 'there are bytes after the data'}`,
        );
      }
      // Deflate shrinks at most about 1032 times, so a file too small for what it announces is not worth the memory.
      if (gzipped && size > bytes.length * 1040)
        throw fail(`${announced}, more than ${bytes.length} gzipped bytes can hold`);
      out = type === 0x08 ? sharedBytes(size) : new Uint8Array(size);
      filled = 0;
    }
    if (!out) continue;
    if (filled + part.length > out.length)
      throw fail(`there are bytes after the data (byte ${headLength + out.length})`);
    out.set(part, filled);
    filled += part.length;
  }
  if (!out) throw fail(`the file ends inside its header (byte ${filled})`);
  if (filled < out.length)
    throw fail(`the data end early: byte ${headLength + filled} instead of ${headLength + out.length}`);
  if (type === 0x08) return { type, shape, data: out };
  const buffer = out.buffer as ArrayBuffer;
  return { type, shape, data: TYPES[type].view(buffer, new DataView(buffer)) };
}

/** One IDX file held in memory. */
export interface IdxFile {
  readonly bytes: Uint8Array;
  /** Its path or address, for messages. */
  readonly where: string;
}

export interface IdxFiles {
  readonly images: IdxFile;
  readonly labels?: IdxFile;
  readonly attributes?: Readonly<Record<string, IdxFile>>;
  readonly classNames?: readonly string[];
}

/**
 * A data set from MNIST-like IDX files: uint8 images `[n, height, width]` or `[n, height, width, channels]` and integers
 * `[n]` for labels and attributes. Works wherever the bytes come from (files, `fetch`).
 */
export async function idxDataset(files: IdxFiles): Promise<ImageDataset> {
  const { where } = files.images;
  const { type, shape, data } = await parseIdx(files.images.bytes, where);
  if (type !== 0x08 || shape.length < 3 || shape.length > 4 || !(data instanceof Uint8Array)) {
    throw new JepaError(`${where}: images must be uint8 [n, height, width], not type ${type} [${shape.join(', ')}]`);
  }
  const [count, height, width, channels = 1] = shape;
  const integers = async (file: IdxFile): Promise<Int32Array> => {
    const array = await parseIdx(file.bytes, file.where);
    if (array.shape.length !== 1 || array.type > 0x0c) {
      throw new JepaError(
        `${file.where}: labels must be integers [n], not type ${array.type} [${array.shape.join(', ')}]`,
      );
    }
    if (array.shape[0] !== count) {
      throw new JepaError(
        `${file.where}: ${array.shape[0]} labels for the ${count} images of ${where}; they differ in number`,
      );
    }
    return Int32Array.from(array.data);
  };
  const labels = files.labels && (await integers(files.labels));
  const attributes: Record<string, Int32Array> = {};
  for (const [name, file] of Object.entries(files.attributes ?? {})) attributes[name] = await integers(file);
  return memoryDataset({
    name: where,
    width,
    height,
    channels,
    pixels: data,
    labels,
    classNames: files.classNames,
    attributes: files.attributes && attributes,
  });
}
