import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';

export interface CsvOptions {
  /** What separates fields: by default the comma, semicolon or tab that is most frequent in the first line. */
  readonly delimiter?: string;
  /** Whether the first row names the columns, which must then differ; true by default. */
  readonly header?: boolean;
}

export interface CsvTable {
  readonly delimiter: string;
  /** Names of the columns; undefined without a header. */
  readonly columns?: readonly string[];
  /** The rows after the header as text, all of the same length. */
  readonly rows: readonly (readonly string[])[];
}

/**
 * Reads a CSV file as RFC 4180 has it: fields may be quoted, a quote inside is doubled, quoted fields may hold line ends.
 * Lines end with `\n` or `\r\n`; a byte order mark and blank lines are passed over. Throws a `JepaError` naming file and line
 * for quotes that do not close, text after a closing quote, rows of other lengths than the first, NUL, and bytes that are
 * not UTF-8.
 */
export function parseCsv(bytes: Uint8Array, where: string, options: CsvOptions = {}): CsvTable {
  const text = csvText(bytes, where);
  const delimiter = options.delimiter ?? detectDelimiter(text);
  const records = [...csvRecords(text, delimiter, where)];
  const width = records[0]?.fields.length;
  for (const { line, fields } of records) {
    if (fields.length !== width) {
      throw new JepaError(`${where}: line ${line} has ${fields.length} fields instead of ${width}`);
    }
  }
  const rows = records.map(({ fields }) => fields);
  if (options.header === false) return { delimiter, rows };
  const columns = rows.shift();
  if (!columns) throw new JepaError(`${where}: the file has no rows, a header was expected`);
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined) throw new JepaError(`${where}: the header has the column ${quoted(twice)} twice`);
  return { delimiter, columns, rows };
}

/** The number in a field: undefined where the field is empty or no decimal number, NaN where it says `nan`. */
export function csvNumber(field: string): number | undefined {
  const text = field.trim();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return Number(text);
  return /^nan$/i.test(text) ? Number.NaN : undefined;
}

/** Decodes a text table, without its byte order mark. Throws a `JepaError` with the line for NUL and for other than UTF-8. */
export function csvText(bytes: Uint8Array, where: string): string {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  const refuse = (at: number, what: string): never => {
    const before = text.slice(0, at);
    const byte = new TextEncoder().encode(before).length;
    throw new JepaError(`${where}: ${what} in line ${before.split('\n').length} (byte ${byte})`);
  };
  const nul = text.indexOf('\0');
  if (nul >= 0) refuse(nul, 'NUL byte');
  const replaced = text.indexOf('\ufffd');
  if (replaced >= 0 && !isUtf8(bytes)) refuse(replaced, 'not UTF-8');
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function detectDelimiter(text: string): string {
  const [first] = text.trimStart().split('\n', 1);
  const count = (delimiter: string) => first.split(delimiter).length;
  return [',', ';', '\t'].reduce((best, each) => (count(each) > count(best) ? each : best));
}

/** The records of a CSV text with the line on which each starts. */
function* csvRecords(text: string, delimiter: string, where: string): Generator<{ line: number; fields: string[] }> {
  let line = 1;
  // Where the physical line of `at` ends; looked for once a line, however many fields it has.
  let lineEnd = -1;
  for (let at = 0; at < text.length; ) {
    const start = line;
    const fields: string[] = [];
    for (let ended = false; !ended; ) {
      let field: string;
      if (text[at] === '"') {
        const opened = line;
        const from = at + 1;
        let close = text.indexOf('"', from);
        while (close >= 0 && text[close + 1] === '"') close = text.indexOf('"', close + 2);
        if (close < 0) throw new JepaError(`${where}: the quote opened in line ${opened} never closes`);
        const inside = text.slice(from, close);
        line += inside.split('\n').length - 1;
        field = inside.replaceAll('""', '"');
        at = close + 1;
      } else {
        if (lineEnd < at) lineEnd = text.indexOf('\n', at);
        if (lineEnd < 0) lineEnd = text.length;
        const next = text.slice(at, lineEnd).indexOf(delimiter);
        const stop = next < 0 ? lineEnd : at + next;
        field = text.slice(at, stop);
        if (stop === lineEnd && field.endsWith('\r')) field = field.slice(0, -1);
        at = stop;
      }
      if (text[at] === '\r' && (text[at + 1] === '\n' || at + 1 === text.length)) at++;
      fields.push(field);
      if (at >= text.length || text[at] === '\n') {
        ended = true;
        at++;
        line++;
      } else if (text.startsWith(delimiter, at)) at += delimiter.length;
      else throw new JepaError(`${where}: line ${line} has text after a closing quote`);
    }
    if (fields.length > 1 || fields[0].trim() !== '') yield { line: start, fields };
  }
}
