import { JepaError } from '../../base/errors.js';
import { decodeUtf8, isJsonObject, type Json, parseJson } from '../../base/json.js';
import { type TextDataset, type TextSample, textDataset } from './dataset.js';

/** A file of texts held in memory. */
export interface TextFile {
  readonly bytes: Uint8Array;
  /** Its path or address, for messages; the ending says what it is. */
  readonly where: string;
}

export interface TextFileOptions {
  /** Texts of a `.txt` file: paragraphs (between empty lines), lines, or the whole file. Paragraphs by default. */
  readonly split?: 'paragraphs' | 'lines' | 'file';
}

/** Longest line of a JSONL file, in characters. */
const MAX_LINE = 2 ** 26;

/**
 * Texts of `.txt` and `.jsonl` files. A line of JSONL is an object with `text` (or `content`), or a dialogue `messages` with a user's and
 * an assistant's `content`; `code` and a number or word `label` may stand beside `text`. Throws a `JepaError` naming file and
 * line.
 */
export function textFiles(name: string, files: readonly TextFile[], options: TextFileOptions = {}): TextDataset {
  const found = files.flatMap((file) => {
    const samples = /\.(jsonl|ndjson)$/i.test(file.where) ? jsonlSamples(file) : plainSamples(file, options.split);
    return samples.map((sample, i) => ({ ...sample, where: `${file.where}[${i}]` }));
  });
  if (found.length === 0) throw new JepaError(`${name}: there is no text in it`);
  return textDataset({
    name,
    samples: found.map(({ text, code }) => (code === undefined ? { text } : { text, code })),
    ...classesOf(found.map(({ label }) => label)),
    nameOf: (index) => found[index].where,
  });
}

interface Found extends TextSample {
  readonly label?: string;
}

function plainSamples({ bytes, where }: TextFile, split: TextFileOptions['split'] = 'paragraphs'): Found[] {
  const text = decodeUtf8(bytes, where).replaceAll('\r\n', '\n');
  const parts = split === 'file' ? [text] : text.split(split === 'lines' ? '\n' : /\n[ \t]*\n/);
  return parts.map((part) => ({ text: part.trim() })).filter((part) => part.text !== '');
}

function jsonlSamples({ bytes, where }: TextFile): Found[] {
  const text = decodeUtf8(bytes, where);
  const samples: Found[] = [];
  for (let at = 0, line = 1; at < text.length; line++) {
    const end = text.indexOf('\n', at) < 0 ? text.length : text.indexOf('\n', at);
    const place = `${where}, line ${line}`;
    if (end - at > MAX_LINE) throw new JepaError(`${place}: ${end - at} characters, more than a text may have`);
    const content = text.slice(at, end).trim();
    at = end + 1;
    if (content !== '') samples.push(sampleOf(parseJson(content, place), place));
  }
  return samples;
}

function sampleOf(value: Json, place: string): Found {
  if (typeof value === 'string') return { text: value };
  if (!isJsonObject(value)) throw new JepaError(`${place}: neither a text nor an object with one`);
  const { messages, label: named } = value;
  const label = typeof named === 'string' || typeof named === 'number' ? { label: String(named) } : {};
  if (Array.isArray(messages)) {
    const said = (role: string): Json | undefined => {
      const message = messages.find((each) => isJsonObject(each) && each.role === role);
      return isJsonObject(message) ? message.content : undefined;
    };
    const [text, code] = [said('user'), said('assistant')];
    if (typeof text !== 'string' || typeof code !== 'string')
      throw new JepaError(`${place}: its messages lack the content of a user or of an assistant`);
    return { text, code, ...label };
  }
  const text = value.text ?? value.content;
  if (typeof text !== 'string') throw new JepaError(`${place}: it has no text (fields text, content or messages)`);
  return { text, ...(typeof value.code === 'string' ? { code: value.code } : {}), ...label };
}

/** Classes by name, numbers in their order; -1 where there is none. */
function classesOf(names: readonly (string | undefined)[]): Pick<TextDataset, 'labels' | 'classNames'> {
  const classNames = [...new Set(names.filter((name) => name !== undefined))].sort((a, b) =>
    a.localeCompare(b, 'en', { numeric: true }),
  );
  if (classNames.length === 0) return {};
  return { classNames, labels: Int32Array.from(names, (name) => (name === undefined ? -1 : classNames.indexOf(name))) };
}
