import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import { openSplits, type Splits } from '../data/open-node.js';
import { latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import type { FrozenEncoder } from '../train/frozen.js';
import { openConfiguredData } from './data.js';

/** Labelled images for an encoder: those that were named, or those that its run trained on. */
export async function dataFor(path: string, { encoder }: FrozenEncoder, named: string | undefined): Promise<Splits> {
  if (named !== undefined) return openSplits({ path: named, channels: encoder.channels as 1 | 3 });
  const run = [path, join(path, 'checkpoint')].find(
    (folder) => existsSync(folder) && latestCheckpoint(folder) !== undefined,
  );
  if (run === undefined) throw new UsageError(`${path} does not say what it was trained on; name the images after it`);
  return openConfiguredData(readCheckpointMeta(run).config);
}
