import fs from 'node:fs';
import { fileError, withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { type ByteSource, checkRange } from './source.js';

// Node refuses to read 2 GiB or more in one call.
const LARGEST_READ = 1 << 30;

/**
 * Opens a file for reading by range; nothing is read before it is asked for, so the file may exceed memory. What is read
 * after `close` (weights are, when they are needed) opens the file for a moment; it must not have changed.
 */
export function fileSource(path: string): ByteSource {
  let open: number | undefined = withFileErrors('open', path, () => fs.openSync(path, 'r'));
  try {
    const { size, mtimeMs, isFile } = factsOf(open);
    if (!isFile) throw new JepaError(`cannot open ${path}: it is not a file`);
    const reopened = <T>(use: (fd: number) => T): T => {
      const fd = withFileErrors('open', path, () => fs.openSync(path, 'r'));
      try {
        const now = factsOf(fd);
        if (now.size !== size || now.mtimeMs !== mtimeMs)
          throw new JepaError(`${path}: the file has changed since it was opened; open it again`);
        return use(fd);
      } finally {
        fs.closeSync(fd);
      }
    };
    const readInto = (offset: number, target: Uint8Array): void => {
      checkRange(path, size, offset, target.length);
      if (open === undefined) reopened((fd) => readFully(fd, path, offset, target));
      else readFully(open, path, offset, target);
    };
    return {
      name: path,
      size,
      read(offset, length) {
        checkRange(path, size, offset, length);
        const bytes = new Uint8Array(length);
        readInto(offset, bytes);
        return bytes;
      },
      readInto,
      file: { path, size, mtimeMs, offset: 0 },
      close() {
        if (open !== undefined) fs.closeSync(open);
        open = undefined;
      },
    };
  } catch (error) {
    fs.closeSync(open);
    throw fileError('open', path, error);
  }
}

function factsOf(fd: number): { size: number; mtimeMs: number; isFile: boolean } {
  const stat = fs.fstatSync(fd);
  return { size: stat.size, mtimeMs: stat.mtimeMs, isFile: stat.isFile() };
}

function readFully(fd: number, path: string, offset: number, target: Uint8Array): void {
  let done = 0;
  while (done < target.length) {
    const wanted = Math.min(target.length - done, LARGEST_READ);
    const got = withFileErrors('read', path, () => fs.readSync(fd, target, done, wanted, offset + done));
    if (got === 0) throw new JepaError(`${path}: the file became shorter while it was read; try again`);
    done += got;
  }
}

/** Opens a file, hands it to `use`, and closes it when `use` returns. */
export function withFile<T>(path: string, use: (source: ByteSource) => T): T {
  const source = fileSource(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}
