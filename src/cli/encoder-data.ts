import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import type { ImageDataset } from '../data/dataset.js';
import { openDataset, openImageFiles, openSplits, type Split, type Splits } from '../data/open-node.js';
import { latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import { type FrozenEncoder, imageShape } from '../train/frozen.js';
import { openConfiguredData } from './data.js';

/** Labelled images for an encoder: those that were named, or those that its run trained on. */
export async function dataFor(path: string, encoder: FrozenEncoder, named: string | undefined): Promise<Splits> {
  if (named !== undefined) return openSplits({ path: named, channels: imageShape(encoder).channels as 1 | 3 });
  const run = [path, join(path, 'checkpoint')].find(
    (folder) => existsSync(folder) && latestCheckpoint(folder) !== undefined,
  );
  if (run === undefined) throw new UsageError(`${path} does not say what it was trained on; name the images after it`);
  return openConfiguredData(readCheckpointMeta(run).config);
}

const SETS_OF_ONE_FILE = /\.(tar|tgz|tar\.gz)$|idx[34]-ubyte(\.gz)?$/;

/** The images at a path: a data set of any kind, or one image file. */
export function openImages(path: string, encoder: FrozenEncoder, split?: Split): Promise<ImageDataset> {
  const channels = imageShape(encoder).channels as 1 | 3;
  const isImage = statSync(path, { throwIfNoEntry: false })?.isFile() && !SETS_OF_ONE_FILE.test(path);
  return isImage ? openImageFiles([path], { channels }) : openDataset({ path, channels, split });
}
