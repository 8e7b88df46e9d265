import { JepaError } from './errors.js';

/** A value as JSON has it. Numbers are doubles, as JSON.parse makes them. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The kind of value expected of untrusted JSON. */
export type JsonObject = { [key: string]: Json };

const DEEPEST = 64;
// Bounded, so that no file can exhaust the stack of the pattern matcher.
const NUMBER = /-?(?:0|[1-9]\d{0,400})(?:\.\d{1,400})?(?:[eE][+-]?\d{1,9})?/y;

/**
 * Parses JSON from a file that nobody vouches for. Stricter than JSON.parse: a name that occurs twice in an object is
 * refused (JSON.parse would silently keep the last), and so is nesting deeper than 64. `name` is for the message.
 */
export function parseJson(text: string, name: string): Json {
  let at = 0;

  const fail = (what: string): never => {
    throw new JepaError(`${name}: ${what} at character ${at} of the JSON`);
  };
  const skipSpace = () => {
    while (text[at] === ' ' || text[at] === '\n' || text[at] === '\t' || text[at] === '\r') at++;
  };

  const string = (): string => {
    if (text[at] !== '"') fail(at < text.length ? 'a string is missing' : 'it ends early');
    let end = at;
    let escapes: number;
    do {
      end = text.indexOf('"', end + 1);
      if (end < 0) fail('a string is not closed');
      escapes = 0;
      while (text[end - 1 - escapes] === '\\') escapes++;
    } while (escapes % 2 === 1);
    try {
      const found = JSON.parse(text.slice(at, end + 1)) as string;
      at = end + 1;
      return found;
    } catch {
      return fail('a string is malformed');
    }
  };

  const value = (depth: number): Json => {
    if (depth > DEEPEST) fail(`nesting too deep (more than ${DEEPEST} levels)`);
    skipSpace();
    const first = text[at];
    let result: Json;
    if (first === '{') result = object(depth);
    else if (first === '[') result = array(depth);
    else if (first === '"') result = string();
    else if (text.startsWith('true', at)) result = literal('true', true);
    else if (text.startsWith('false', at)) result = literal('false', false);
    else if (text.startsWith('null', at)) result = literal('null', null);
    else {
      NUMBER.lastIndex = at;
      const found = NUMBER.exec(text)?.[0];
      if (found === undefined) return fail(at < text.length ? 'a value is malformed' : 'it ends early');
      result = literal(found, Number(found));
    }
    skipSpace();
    return result;
  };

  const literal = <T>(word: string, meaning: T): T => {
    at += word.length;
    return meaning;
  };

  const array = (depth: number): Json[] => {
    at++;
    const items: Json[] = [];
    skipSpace();
    if (text[at] === ']') return literal(']', items);
    for (;;) {
      items.push(value(depth + 1));
      if (text[at] === ']') return literal(']', items);
      if (text[at] !== ',') fail(at < text.length ? 'a comma or ] is missing' : 'it ends early');
      at++;
    }
  };

  const object = (depth: number): JsonObject => {
    at++;
    const entries = new Map<string, Json>();
    skipSpace();
    if (text[at] === '}') return literal('}', {});
    for (;;) {
      skipSpace();
      const key = string();
      if (entries.has(key)) fail(`the name ${quoted(key)} occurs twice`);
      if (text[at] !== ':') skipSpace();
      if (text[at] !== ':') fail('a colon is missing');
      at++;
      entries.set(key, value(depth + 1));
      if (text[at] === '}') {
        at++;
        // fromEntries makes own properties, so that `__proto__` is a name like any other.
        return Object.fromEntries(entries);
      }
      if (text[at] !== ',') fail(at < text.length ? 'a comma or } is missing' : 'it ends early');
      at++;
    }
  };

  const result = value(0);
  if (at < text.length) fail('there is something after the value');
  return result;
}

/** Decodes UTF-8, refusing malformed bytes. */
export function decodeUtf8(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new JepaError(`${name}: the text is not UTF-8`);
  }
}

/** Whether a value from a file is a whole number from 0 on. */
export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** A name from a file as it is shown in messages: quoted, on one line, nothing that moves a terminal's cursor, cut when long. */
export function quoted(name: unknown): string {
  const text = (JSON.stringify(name) ?? String(name)).replace(
    /[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return text.length > 120 ? `${text.slice(0, 100)}...` : text;
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
