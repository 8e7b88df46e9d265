import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import type { TextDataset } from './dataset.js';
import { type TextFileOptions, textFiles } from './files.js';

const TEXTS = /\.(txt|text|md|jsonl|ndjson)$/i;

/** The texts of a file, or of all text and JSONL files in a folder and those below it, in the order of their names. */
export async function textFolder(path: string, options: TextFileOptions = {}): Promise<TextDataset> {
  const named = fileErrorOf('read', path);
  const isFolder = (await stat(path).catch(named)).isDirectory();
  const entries = isFolder ? (await readdir(path, { recursive: true }).catch(named)).filter((e) => TEXTS.test(e)) : [];
  const paths = isFolder ? entries.sort().map((entry) => join(path, entry)) : [path];
  if (paths.length === 0) throw new JepaError(`${path}: there are no .txt, .md or .jsonl files in it`);
  const files = await Promise.all(paths.map(async (where) => ({ where, bytes: await readFile(where).catch(named) })));
  return textFiles(path, files, options);
}
