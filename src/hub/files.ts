import fs from 'node:fs';
import { fileError, withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { type ByteSource, checkRange } from './source.js';

// Node refuses to read 2 GiB or more in one call.
const LARGEST_READ = 1 << 30;

/** Opens a file for reading by range; nothing is read before it is asked for, so the file may exceed memory. */
export function fileSource(path: string): ByteSource {
  const fd = withFileErrors('open', path, () => fs.openSync(path, 'r'));
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new JepaError(`cannot open ${path}: it is not a file`);
    return {
      name: path,
      size: stat.size,
      read(offset, length) {
        checkRange(path, stat.size, offset, length);
        const bytes = new Uint8Array(length);
        let done = 0;
        while (done < length) {
          const wanted = Math.min(length - done, LARGEST_READ);
          const got = withFileErrors('read', path, () => fs.readSync(fd, bytes, done, wanted, offset + done));
          if (got === 0) throw new JepaError(`${path}: the file became shorter while it was read; try again`);
          done += got;
        }
        return bytes;
      },
      close: () => fs.closeSync(fd),
    };
  } catch (error) {
    fs.closeSync(fd);
    throw fileError('open', path, error);
  }
}

/** Opens a file, hands it to `use`, and closes it when `use` returns (which must not read later). */
export function withFile<T>(path: string, use: (source: ByteSource) => T): T {
  const source = fileSource(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}
