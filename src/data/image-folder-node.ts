import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { IMAGE_EXTENSIONS } from './image-format.js';

/** Which files a folder is searched for. */
export interface FileKind {
  /** What one of them is called in messages: `image`. */
  readonly one: string;
  /** Endings of their names, without the dot, in small letters. */
  readonly extensions: readonly string[];
}

export interface FolderListing {
  /** Full paths, in the order of torchvision's ImageFolder. */
  readonly paths: string[];
  /** Class of every path; absent if the files do not lie in class folders. */
  readonly labels?: Int32Array;
  readonly classNames?: string[];
}

/** Order by code point, as Python sorts: capitals before small letters, "10" before "2". */
export function byCodePoint(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a[i] === b[i]) continue;
    // The first differing unit may be half of a pair; pairs lie above all single units.
    const [x, y] = [a.codePointAt(i)!, b.codePointAt(i)!];
    const half = (unit: number) => unit >= 0xdc00 && unit <= 0xdfff;
    return half(a.charCodeAt(i)) && half(b.charCodeAt(i)) ? a.charCodeAt(i) - b.charCodeAt(i) : x - y;
  }
  return a.length - b.length;
}

export interface FolderOptions {
  /** `none` ignores class folders. */
  readonly labels?: 'folders' | 'none';
  /** Fixes the numbering, for a test set that must agree with its training set. */
  readonly classNames?: readonly string[];
}

/** Lists a folder of images: `listFolder` for them. */
export function listImageFolder(root: string, options: FolderOptions = {}): Promise<FolderListing> {
  return listFolder(root, { one: 'image', extensions: IMAGE_EXTENSIONS }, options);
}

/** How many images a folder holds, at any depth. */
export async function countImages(root: string): Promise<number> {
  return (await filesBelow(root, { one: 'image', extensions: IMAGE_EXTENSIONS })).length;
}

/**
 * Lists the files of a kind in a folder, at any depth; names that start with a dot and other files are passed over. If all
 * lie in folders below `root`, the folders directly below it are the classes. Throws a `JepaError` for a folder without such
 * files, or a class folder without.
 */
export async function listFolder(root: string, kind: FileKind, options: FolderOptions = {}): Promise<FolderListing> {
  const accepted = kind.extensions.map((extension) => `.${extension}`).join(' ');
  const { files, folders } = await folderEntries(root, kind);
  const classes = await Promise.all(folders.map((name) => filesBelow(join(root, name), kind)));
  if (files.length === 0 && classes.every((paths) => paths.length === 0)) {
    const empty = folders.length > 0 ? ` (nor do its folders ${folders.map((name) => `"${name}"`).join(', ')})` : '';
    throw new JepaError(`${root}: this folder holds no ${kind.one}${empty}; looked for files that end in ${accepted}`);
  }
  if (options.labels === 'none' || files.length > 0) {
    return { paths: [...files.map((name) => join(root, name)), ...classes.flat()] };
  }
  const unused = folders.find((_, i) => classes[i].length === 0);
  if (unused !== undefined) {
    throw new JepaError(
      `${root}: the class folder "${unused}" holds no ${kind.one} (looked for ${accepted}); remove it, or set labels: none`,
    );
  }
  const classNames = [...(options.classNames ?? folders)];
  const numbers = folders.map((name) => classNames.indexOf(name));
  if (numbers.includes(-1)) {
    const name = folders[numbers.indexOf(-1)];
    throw new JepaError(
      `${root}: the class folder "${name}" is not among the ${classNames.length} classes of the training set`,
    );
  }
  return {
    paths: classes.flat(),
    labels: Int32Array.from(classes.flatMap((paths, i) => paths.map(() => numbers[i]))),
    classNames,
  };
}

/** Files of a kind and folders directly in a folder, each in order. Links count as what they point to. */
export async function folderEntries(
  folder: string,
  { extensions }: FileKind,
): Promise<{ files: string[]; folders: string[] }> {
  const files: string[] = [];
  const folders: string[] = [];
  let found: Awaited<ReturnType<typeof list>>;
  try {
    found = await list(folder);
  } catch (error) {
    throw fileError('list', folder, error);
  }
  for (const entry of found) {
    if (entry.name.startsWith('.')) continue;
    // A link that leads nowhere is neither.
    const target = entry.isSymbolicLink() ? await stat(join(folder, entry.name)).catch(() => undefined) : entry;
    if (target?.isDirectory()) folders.push(entry.name);
    else if (target?.isFile() && extensions.includes(extensionOf(entry.name))) files.push(entry.name);
  }
  return { files: files.sort(byCodePoint), folders: folders.sort(byCodePoint) };
}

const extensionOf = (name: string) => name.slice(name.lastIndexOf('.') + 1).toLowerCase();
const list = (folder: string) => readdir(folder, { withFileTypes: true });

/** Paths of all files of a kind below a folder: folders in the order of their paths, the files of each before the next. */
async function filesBelow(folder: string, kind: FileKind): Promise<string[]> {
  const found: { folder: string; files: string[] }[] = [];
  const visit = async (path: string, above: readonly string[]): Promise<void> => {
    // Links can lead back up.
    const real = await realpath(path);
    if (above.includes(real)) return;
    const { files, folders } = await folderEntries(path, kind);
    found.push({ folder: path, files });
    for (const name of folders) await visit(join(path, name), [...above, real]);
  };
  await visit(folder, []);
  found.sort((a, b) => byCodePoint(a.folder, b.folder));
  return found.flatMap(({ folder, files }) => files.map((name) => join(folder, name)));
}
