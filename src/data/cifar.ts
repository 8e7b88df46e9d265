import { JepaError } from '../base/errors.js';
import { sharedBytes } from './dataset.js';

const PLANE = 32 * 32;

export interface CifarFile {
  readonly bytes: Uint8Array;
  readonly where: string;
}

export interface CifarRecords {
  /** [n, 32, 32, RGB], in memory that threads share. */
  readonly pixels: Uint8Array;
  /** CIFAR-10: the class; CIFAR-100: the fine class. */
  readonly labels: Int32Array;
  /** CIFAR-100 only. */
  readonly coarse?: Int32Array;
}

/**
 * Reads the records of CIFAR binaries: [label, 1024 R, 1024 G, 1024 B] for 10 classes, [coarse, fine, R, G, B] for 100.
 * Throws a `JepaError` naming the file and the record.
 */
export function parseCifar(files: readonly CifarFile[], classes: 10 | 100): CifarRecords {
  const head = classes === 10 ? 1 : 2;
  const record = head + 3 * PLANE;
  let count = 0;
  for (const { bytes, where } of files) {
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new JepaError(
        `${where}: ${bytes.length} bytes are not a multiple of ${record}, the size of a CIFAR-${classes} record`,
      );
    }
    count += bytes.length / record;
  }
  const pixels = sharedBytes(count * 3 * PLANE);
  const labels = new Int32Array(count);
  const coarse = new Int32Array(count);
  let n = 0;
  for (const { bytes, where } of files) {
    for (let at = 0; at < bytes.length; at += record, n++) {
      labels[n] = bytes[at + head - 1];
      coarse[n] = bytes[at];
      if (labels[n] >= classes || (classes === 100 && coarse[n] >= 20)) {
        const found =
          classes === 10 ? `label ${labels[n]}, above 9` : `labels ${coarse[n]} and ${labels[n]}, above 19 and 99`;
        throw new JepaError(`${where}: record ${at / record} has ${found}: not CIFAR-${classes}`);
      }
      const planes = at + head;
      const to = n * 3 * PLANE;
      for (let i = 0; i < PLANE; i++) {
        pixels[to + 3 * i] = bytes[planes + i];
        pixels[to + 3 * i + 1] = bytes[planes + PLANE + i];
        pixels[to + 3 * i + 2] = bytes[planes + 2 * PLANE + i];
      }
    }
  }
  return classes === 10 ? { pixels, labels } : { pixels, labels, coarse };
}
