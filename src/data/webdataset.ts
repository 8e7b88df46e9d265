import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { type RandomAccess, type TarMember, tarMembers } from './tar.js';

/** One sample of a WebDataset shard: the members that share a key, by field (lower-cased, everything after the first dot). */
export interface WebSample {
  readonly key: string;
  readonly fields: ReadonlyMap<string, TarMember>;
}

/**
 * The samples of a shard in order: consecutive members with the same key (the path up to the first dot of its last part).
 * Passed over, as in the reference reader: names without a dot or with a leading one, and `__names__`. Throws a `JepaError`
 * naming shard and sample for a field that occurs twice or is pickled (which would execute code).
 */
export async function* webSamples(file: RandomAccess, where: string): AsyncGenerator<WebSample> {
  let sample: { key: string; fields: Map<string, TarMember> } | undefined;
  for await (const member of tarMembers(file, where)) {
    if (/^__[^/]*__(\/|$)/.test(member.name)) continue;
    const match = /^((?:.*\/)?[^./][^./]*)\.([^/]*)$/s.exec(member.name);
    if (!match) continue;
    const [, key, extension] = match;
    const field = extension.toLowerCase();
    if (/(^|\.)(pyd|pkl|pickle|pth|pt)(\.gz)?$/.test(field)) {
      throw new JepaError(
        `${where}: sample ${quoted(key)} has the pickled field ${quoted(field)}, which is refused: unpickling runs code`,
      );
    }
    if (sample?.key !== key) {
      if (sample) yield sample;
      sample = { key, fields: new Map() };
    }
    if (sample.fields.has(field))
      throw new JepaError(`${where}: sample ${quoted(key)} has the field ${quoted(field)} twice`);
    sample.fields.set(field, member);
  }
  if (sample) yield sample;
}

/** The integer of a `cls` field. */
export function classField(bytes: Uint8Array, where: string): number {
  const text = new TextDecoder().decode(bytes).trim();
  const value = Number(text);
  if (!/^[+-]?\d+$/.test(text) || value !== (value | 0)) {
    throw new JepaError(`${where}: the cls field is not an integer: ${quoted(text)}`);
  }
  return value;
}

/** The value of a `json` field. */
export function jsonField(bytes: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new JepaError(`${where}: the json field does not parse (${(error as Error).message.split('\n', 1)[0]})`);
  }
}

/**
 * The shards that a pattern names: `{000..146}` (as wide as its first bound) and `{a,b}` expand, `::` joins lists.
 * Throws a `JepaError` for braces that do not match.
 */
export function expandShards(pattern: string): string[] {
  return pattern.split('::').flatMap((part) => expandBraces(part, pattern));
}

/** More shards than this are taken for a mistake in a bound. */
const MAX_SHARDS = 1_000_000;

function expandBraces(text: string, pattern: string): string[] {
  const open = text.indexOf('{');
  if (open < 0) {
    if (text.includes('}')) throw new JepaError(`${pattern}: a } without its {`);
    return [text];
  }
  let depth = 0;
  let close = -1;
  const commas: number[] = [];
  for (let i = open; i < text.length && close < 0; i++) {
    if (text[i] === '{') depth++;
    else if (text[i] === '}' && --depth === 0) close = i;
    else if (text[i] === ',' && depth === 1) commas.push(i);
  }
  if (close < 0) throw new JepaError(`${pattern}: a { without its }`);
  const inner = text.slice(open + 1, close);
  const range = /^(\d+)\.\.(\d+)$/.exec(inner);
  let choices: string[];
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    if (last < first || last - first >= MAX_SHARDS) {
      throw new JepaError(`${pattern}: the range {${inner}} must rise and name at most ${MAX_SHARDS} shards`);
    }
    choices = Array.from({ length: last - first + 1 }, (_, i) => String(first + i).padStart(range[1].length, '0'));
  } else {
    const edges = [open, ...commas, close];
    choices = edges.slice(1).flatMap((edge, i) => expandBraces(text.slice(edges[i] + 1, edge), pattern));
  }
  const tails = expandBraces(text.slice(close + 1), pattern);
  return choices.flatMap((choice) => tails.map((tail) => text.slice(0, open) + choice + tail));
}
