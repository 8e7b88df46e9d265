import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Seeds } from './mutate.js';

/** What the readers may use beside the file. */
export interface Tools {
  /** Says that a header which was found valid announces so many bytes: memory that may be taken. */
  announce(bytes: number): void;
  /** Writes a file and returns its path, for libraries that read from disk. */
  file(bytes: Uint8Array, ending: string): string;
}

/** A reader of files that nobody vouches for. */
export interface Reader {
  readonly name: string;
  seeds(): Seeds | Promise<Seeds>;
  /** Reads all that is in a file, as one who uses it would; throws a `JepaError` where that cannot be done. */
  read(bytes: Uint8Array, tools: Tools): unknown;
  /** Makes checksums right again, so that what they protect is reached; done to every second file. */
  repair?(bytes: Uint8Array): void;
  /** Largest factor by which the format shrinks what it holds (deflate: 1032). */
  readonly expands?: number;
  /** A library of others decodes: memory is that of the process, a program may be started. */
  readonly foreign?: boolean;
}

export const GOLDEN = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'test', 'golden');
export const WHERE = 'a damaged file';
/** Larger seeds only make every file slower. */
const LARGEST_SEED = 32 << 10;

/** Valid files of the golden cases in some folders, by their endings. */
export function golden(folders: readonly string[], ending: RegExp = /./, words?: Seeds['words']): Seeds {
  const files = folders.flatMap((folder) =>
    readdirSync(join(GOLDEN, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => !path.split('/').includes('bad') && ending.test(path))
      .sort()
      .flatMap((path) => {
        try {
          return [readFileSync(join(GOLDEN, folder, path))];
        } catch {
          return []; // A folder.
        }
      }),
  );
  const small = files.filter(({ length }) => length > 0 && length <= LARGEST_SEED).map((file) => new Uint8Array(file));
  if (small.length === 0) throw new Error(`there are no seeds in ${folders.join(' and ')}`);
  return { files: small, words };
}

/** Files that libraries read from disk lie under one name, which every file takes again. */
export const fileWriter =
  (folder: string): Tools['file'] =>
  (bytes, ending) => {
    const path = join(folder, `damaged${ending}`);
    writeFileSync(path, bytes);
    return path;
  };
