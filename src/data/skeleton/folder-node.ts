import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import { checkIndex, type SampleReader } from '../dataset.js';
import { ntuDatasetLabels, readNtuClip, type SkeletonClip, type SkeletonDataset } from './dataset.js';
import { NTU_LAYOUT } from './layout.js';

/** The `.skeleton` files of NTU RGB+D in a folder and those below it, or a single one. Classes are the actions of their names. */
export async function ntuFolder(folder: string): Promise<SkeletonDataset> {
  const info = await stat(folder).catch(fileErrorOf('open', folder));
  const paths = info.isDirectory() ? await listed(folder) : [folder];
  return {
    name: folder,
    modality: 'skeleton',
    length: paths.length,
    layout: NTU_LAYOUT,
    ...ntuDatasetLabels(paths),
    async read(index) {
      checkIndex({ name: folder, length: paths.length, modality: 'skeleton' }, index);
      return readClip(paths[index]);
    },
    nameOf: (index) => paths[index],
    source: { kind: 'module', module: import.meta.url, options: paths },
  };
}

async function listed(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true }).catch(fileErrorOf('list', folder));
  const files = entries.filter((entry) => entry.endsWith('.skeleton')).sort();
  if (files.length === 0) throw new JepaError(`${folder}: there are no .skeleton files in it`);
  return files.map((file) => join(folder, file));
}

async function readClip(path: string): Promise<SkeletonClip> {
  return readNtuClip(await readFile(path).catch(fileErrorOf('read', path)), path);
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<SkeletonClip> => ({
  read: (index) => readClip((options as readonly string[])[index]),
});
