import fs from 'node:fs';
import { withFileErrors, writeFileAtomic, writeFully } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, isJsonObject, type JsonObject, parseJson } from '../base/json.js';
import { withFile } from './files.js';

/** The records of a JSON Lines log. */
export interface JsonlLog {
  readonly records: JsonObject[];
  /** Whether the last line is cut, as a killed writer leaves it; it is not among the records. */
  readonly incompleteLastLine: boolean;
}

/**
 * Parses JSON Lines: one object a line; blank lines are skipped, `\r\n` is accepted. A last line without end that does not
 * parse was cut by a crash: it is reported, not an error. Any other bad line throws JepaError with its number.
 */
export function parseJsonl(bytes: Uint8Array, name: string): JsonlLog {
  const { lines, incompleteLastLine } = splitLines(bytes, name);
  return { records: lines.map(({ record }) => record), incompleteLastLine };
}

/** The records of a log with the bytes (without line end) that each was read from. */
function splitLines(bytes: Uint8Array, name: string) {
  const lines: { record: JsonObject; bytes: Uint8Array }[] = [];
  for (let start = 0, line = 1; start < bytes.length; line++) {
    const found = bytes.indexOf(10, start);
    const text = bytes.subarray(start, found < 0 ? bytes.length : found);
    try {
      const record = parseLine(text, `${name}, line ${line}`);
      if (record) lines.push({ record, bytes: text });
    } catch (error) {
      if (found < 0) return { lines, incompleteLastLine: true };
      throw error;
    }
    start += text.length + 1;
  }
  return { lines, incompleteLastLine: false };
}

function parseLine(bytes: Uint8Array, where: string): JsonObject | undefined {
  const text = decodeUtf8(bytes, where);
  if (text.trim() === '') return undefined;
  const value = parseJson(text, where);
  if (!isJsonObject(value)) throw new JepaError(`${where}: an object was expected`);
  return value;
}

export function readJsonl(path: string): JsonlLog {
  return withFile(path, (source) => parseJsonl(source.read(0, source.size), path));
}

/** A log that is appended to. Every record is one write, so that a crash can cut only the last line. */
export interface JsonlWriter {
  /** Numbers that JSON lacks are written as the strings "NaN", "Infinity" and "-Infinity". */
  append(record: Readonly<Record<string, unknown>>): void;
  /** Flushes to the disk and closes. */
  close(): void;
}

/**
 * Opens a log for appending, made if it is not there. What a crash left of a last line is removed first. `keep` says which
 * records stay (a resumed run drops those after its checkpoint); by default all. The folder must exist.
 */
export function openJsonl(path: string, keep: (record: JsonObject) => boolean = () => true): JsonlWriter {
  if (fs.existsSync(path)) {
    const { lines } = splitLines(
      withFile(path, (source) => source.read(0, source.size)),
      path,
    );
    const end = Uint8Array.of(10);
    writeFileAtomic(
      path,
      lines.filter(({ record }) => keep(record)).flatMap((line) => [line.bytes, end]),
    );
  }
  const fd = withFileErrors('open', path, () => fs.openSync(path, 'a'));
  return {
    append(record) {
      withFileErrors('write', path, () => writeFully(fd, Buffer.from(lineOf(record))));
    },
    close() {
      withFileErrors('write', path, () => {
        fs.fsyncSync(fd);
        fs.closeSync(fd);
      });
    },
  };
}

function lineOf(record: Readonly<Record<string, unknown>>): string {
  const text = JSON.stringify(record, (_, value) =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
  );
  return `${text}\n`;
}
