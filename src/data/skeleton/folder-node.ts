import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { JepaError } from '../../base/errors.js';
import { checkIndex, type SampleReader } from '../dataset.js';
import { ntuDatasetLabels, readNtuClip, type SkeletonClip, type SkeletonDataset } from './dataset.js';
import { NTU_LAYOUT } from './layout.js';

/** The `.skeleton` files of NTU RGB+D in a folder and those below it. Classes are the actions of their names. */
export async function ntuFolder(folder: string): Promise<SkeletonDataset> {
  const entries = await readdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new JepaError(`${folder}: cannot be listed (${error.code ?? error.message})`);
  });
  const files = entries.filter((entry) => entry.endsWith('.skeleton')).sort();
  if (files.length === 0) throw new JepaError(`${folder}: there are no .skeleton files in it`);
  const paths = files.map((file) => join(folder, file));
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

async function readClip(path: string): Promise<SkeletonClip> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw new JepaError(`${path}: cannot be read (${error.code ?? error.message})`);
  });
  return readNtuClip(bytes, path);
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<SkeletonClip> => ({
  read: (index) => readClip((options as readonly string[])[index]),
});
