import { JepaError } from '../../base/errors.js';
import { quoted } from '../../base/json.js';
import { csvText, parseCsv } from '../csv.js';

/** One line of a list of videos. */
export interface VideoListEntry {
  /** As written in the list. */
  readonly path: string;
  /** Class; 0 by convention where there are no labels. */
  readonly label: number;
  /** Name of the class, where the list says names instead of numbers. */
  readonly className?: string;
  /** Whether it is a picture, which is repeated over time. */
  readonly isImage: boolean;
}

/**
 * Reads a list of videos as V-JEPA has it: a line for each, path and integer label with one space between (the last one,
 * paths may hold others), or `::`. What people try first is read as well: `path,label` with commas, quotes and a header, and
 * below a header names of classes too, which are numbered in their order. Throws a `JepaError` naming list and line.
 */
export function parseVideoList(bytes: Uint8Array, where: string): VideoListEntry[] {
  const lines = csvText(bytes, where)
    .split('\n')
    .map((text, i) => ({ text: text.replace(/\r$/, ''), line: i + 1 }))
    .filter(({ text }) => text.trim() !== '');
  if (lines.length === 0) {
    throw new JepaError(`${where}: the list has no entries; write a path, a space and a label on each line`);
  }
  const [{ text: first }] = lines;
  for (const separator of ['::', ' ']) {
    const split = (text: string) => {
      const at = text.trimEnd().lastIndexOf(separator);
      return at <= 0 ? undefined : [text.slice(0, at), text.slice(at + separator.length).trim()];
    };
    if (!isInteger(split(first)?.[1])) continue;
    return lines.map(({ text, line }) => {
      const found = split(text);
      if (!found) throw new JepaError(`${where}: line ${line} has no "${separator}" between path and label`);
      return entry(found[0], found[1], where, `line ${line}`);
    });
  }
  return commaList(bytes, where);
}

function commaList(bytes: Uint8Array, where: string): VideoListEntry[] {
  const { rows } = parseCsv(bytes, where, { header: false });
  const header = rows[0].some((field) => isInteger(field)) ? undefined : rows[0];
  const names = header?.map((name) => name.trim().toLowerCase()) ?? ['path', 'label'];
  const [path, label] = ['path', 'label'].map((name) => names.indexOf(name));
  if (path < 0 || label < 0 || rows[0].length < 2) {
    throw new JepaError(
      `${where}: line 1 is neither a path, a space and an integer label, nor a header with the columns path and label`,
    );
  }
  const entries = header ? rows.slice(1) : rows;
  if (entries.length === 0) throw new JepaError(`${where}: the list has no entries after its header`);
  if (header && !entries.some((fields) => isInteger(fields[label]))) {
    const names = [...new Set(entries.map((fields) => fields[label].trim()))].sort();
    if (names[0] === '') throw new JepaError(`${where}: an entry has no label`);
    return entries.map((fields) => {
      const className = fields[label].trim();
      return { ...entry(fields[path], String(names.indexOf(className)), where, ''), className };
    });
  }
  return entries.map((fields, i) => entry(fields[path], fields[label], where, `entry ${i + 1}`));
}

function entry(path: string, label: string, where: string, place: string): VideoListEntry {
  if (!isInteger(label)) {
    throw new JepaError(`${where}: ${place}: the label ${quoted(label)} is not an integer`);
  }
  return { path, label: Number(label), isImage: /\.(jpe?g|png)$/i.test(path) };
}

function isInteger(text: string | undefined): boolean {
  return text !== undefined && /^\s*[+-]?\d{1,9}\s*$/.test(text);
}
