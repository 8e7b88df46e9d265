import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { JepaError } from './errors.js';

/** What a file is written from: text, bytes, or pieces made one after the other (so that a file can exceed memory). */
export type FileContent = string | Uint8Array | Iterable<Uint8Array>;

const REASONS: Record<string, string> = {
  ENOSPC: 'the disk is full; free some space or write elsewhere',
  EDQUOT: 'the disk quota is used up; free some space or write elsewhere',
  EFBIG: 'the file would exceed the largest size allowed here; write elsewhere',
  EACCES: 'no permission; check the owner and mode of the file and its folder',
  EPERM: 'not permitted; check the owner and mode of the file and its folder',
  EROFS: 'the file system is read-only; write elsewhere',
  ENOENT: 'it does not exist; check the path',
  ENOTDIR: 'a part of the path is a file, not a folder; check the path',
  EISDIR: 'it is a folder, a file was expected; check the path',
  EEXIST: 'it exists already; choose another name or remove it',
  ENOTEMPTY: 'the folder is not empty; choose another name or remove it',
  EMFILE: 'too many files are open; raise the limit with ulimit -n',
  ELOOP: 'symbolic links form a loop; check the path',
  ENAMETOOLONG: 'the name is too long; choose a shorter one',
};

/** A file that is to be written need not exist, but its folder must. */
const NO_FOLDER = 'its folder does not exist; make it, or write elsewhere';

/** Turns a failure of the file system into one line: what could not be done, to which path, why and the fix. */
export function fileError(action: string, path: string, error: unknown): JepaError {
  if (error instanceof JepaError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const known = action === 'write' && code === 'ENOENT' ? NO_FOLDER : code && REASONS[code];
  const reason = known || (message ?? String(error)).split('\n')[0];
  return new JepaError(`cannot ${action} ${path}: ${reason}`);
}

/** Runs a file operation; failures become one clear line (`fileError`). */
export function withFileErrors<T>(action: string, path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw fileError(action, path, error);
  }
}

/** The same for promises: `readFile(path).catch(fileErrorOf('read', path))`. */
export const fileErrorOf =
  (action: string, path: string) =>
  (error: unknown): never => {
    throw fileError(action, path, error);
  };

// Node refuses to write 2 GiB or more in one call.
const LARGEST_WRITE = 1 << 30;

/** Writes all bytes to an open file, in as many calls as it takes. */
export function writeFully(fd: number, bytes: Uint8Array): void {
  let offset = 0;
  while (offset < bytes.length) {
    offset += fs.writeSync(fd, bytes, offset, Math.min(bytes.length - offset, LARGEST_WRITE));
  }
}

/** A file that is written bit by bit and seen at its path only when it is complete. */
export interface AtomicFile {
  write(bytes: Uint8Array): void;
  /** Writes over the first bytes (a header that counts what followed it). */
  rewriteStart(bytes: Uint8Array): void;
  /** Flushes the file to the disk and puts it in its place. */
  commit(): void;
  /** Leaves nothing behind; after `commit` it does nothing. */
  abort(): void;
}

/** Temporary files that are being written: a process that ends leaves none of them behind. */
const unfinished = new Set<string>();

/** A name beside a path, for what will take its place. */
function temporaryBeside(path: string): string {
  if (unfinished.size === 0 && !process.listeners('exit').includes(removeUnfinished))
    process.on('exit', removeUnfinished);
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  unfinished.add(temporary);
  return temporary;
}

function remove(temporary: string): void {
  fs.rmSync(temporary, { force: true });
  unfinished.delete(temporary);
}

function removeUnfinished(): void {
  for (const temporary of unfinished) fs.rmSync(temporary, { force: true });
}

/** Puts a temporary file, flushed to the disk, in its place. */
function putInPlace(temporary: string, path: string): void {
  fs.renameSync(temporary, path);
  unfinished.delete(temporary);
  flushFolder(dirname(path));
}

/**
 * Opens a file so that its path holds either the old content or all of the new one, whatever happens in between: a
 * temporary file in the same folder is written, flushed to the disk and renamed. The folder must exist. Methods throw
 * JepaError (full disk, no permission, ...).
 */
export function openFileAtomic(path: string): AtomicFile {
  const temporary = temporaryBeside(path);
  let fd: number | undefined = withFileErrors('write', path, () => fs.openSync(temporary, 'wx'));
  const opened = (): number => {
    if (fd === undefined) throw new JepaError(`cannot write ${path}: the file is closed`);
    return fd;
  };
  return {
    write: (bytes) => withFileErrors('write', path, () => writeFully(opened(), bytes)),
    rewriteStart: (bytes) =>
      withFileErrors('write', path, () => {
        if (fs.writeSync(opened(), bytes, 0, bytes.length, 0) !== bytes.length) throw new Error('a short write');
      }),
    commit: () =>
      withFileErrors('write', path, () => {
        fs.fsyncSync(opened());
        fs.closeSync(opened());
        fd = undefined;
        putInPlace(temporary, path);
      }),
    abort: () => {
      if (fd !== undefined) fs.closeSync(fd);
      fd = undefined;
      remove(temporary);
    },
  };
}

/** The same for libraries that open files by name: `write` makes the file at the path that it is given. */
export function writeAtomicBy(path: string, write: (temporary: string) => void): void {
  const temporary = temporaryBeside(path);
  try {
    withFileErrors('write', path, () => {
      // What keeps the library from it is said here, in one line.
      fs.closeSync(fs.openSync(temporary, 'wx'));
      write(temporary);
      const fd = fs.openSync(temporary, 'r+');
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      putInPlace(temporary, path);
    });
  } finally {
    remove(temporary);
  }
}

/** Writes a whole file like that; leaves no temporary file behind where it fails. */
export function writeFileAtomic(path: string, content: FileContent): void {
  const file = openFileAtomic(path);
  try {
    const pieces =
      typeof content === 'string' ? [Buffer.from(content)] : content instanceof Uint8Array ? [content] : content;
    for (const piece of pieces) file.write(piece);
    file.commit();
  } catch (error) {
    file.abort();
    throw error;
  }
}

/** Where `replaceDirectoryAtomic` keeps the old folder during the exchange. */
function asideOf(final: string): string {
  return join(dirname(final), `.${basename(final)}.replaced`);
}

/**
 * Puts the folder `temporary` in the place of the folder `final` (same file system). There is no call that exchanges two
 * folders, so the old one is first renamed aside; whoever opens `final` calls `recoverDirectory` first, which undoes an
 * exchange that was cut short. At every moment either the old or the new folder is whole.
 */
export function replaceDirectoryAtomic(temporary: string, final: string): void {
  withFileErrors('replace', final, () => {
    recoverDirectory(final);
    flushFolder(temporary);
    const aside = asideOf(final);
    if (fs.existsSync(final)) fs.renameSync(final, aside);
    try {
      fs.renameSync(temporary, final);
    } catch (error) {
      recoverDirectory(final);
      throw error;
    }
    flushFolder(dirname(final));
    fs.rmSync(aside, { recursive: true, force: true });
  });
}

/** Ends what an interrupted `replaceDirectoryAtomic` left: brings the old folder back, or removes it if the new one is there. */
export function recoverDirectory(final: string): void {
  const aside = asideOf(final);
  if (!fs.existsSync(aside)) return;
  withFileErrors('recover', final, () => {
    if (fs.existsSync(final)) fs.rmSync(aside, { recursive: true, force: true });
    else fs.renameSync(aside, final);
  });
}

/** Flushes the names in a folder to the disk, where the platform can (Windows cannot open folders). */
function flushFolder(path: string): void {
  let fd: number;
  try {
    fd = fs.openSync(path, 'r');
  } catch {
    return;
  }
  try {
    fs.fsyncSync(fd);
  } catch {
    // Some file systems refuse to flush folders; the rename itself has happened.
  } finally {
    fs.closeSync(fd);
  }
}
