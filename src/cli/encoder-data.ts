import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import { openImageFiles, type Split } from '../data/open-node.js';
import { modalityOf } from '../data/plans.js';
import { openSampleSplits, openSamples, type SampleSpec, type SampleSplits } from '../data/samples-node.js';
import { latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import type { FrozenEncoder } from '../train/frozen.js';
import { openConfiguredData, specOf } from './data.js';

/** Labelled samples for an encoder: those that were named, or those that its run trained on. */
export async function dataFor(path: string, encoder: FrozenEncoder, named: string | undefined): Promise<SampleSplits> {
  const run = runOf(path);
  if (named !== undefined) return openSampleSplits(specFor(path, encoder, named));
  if (run === undefined) throw new UsageError(`${path} does not say what it was trained on; name the data after it`);
  return openConfiguredData(readCheckpointMeta(run).config);
}

/** The folder with the checkpoint of a run; undefined where an encoder is none of ours. */
const runOf = (path: string): string | undefined =>
  [path, join(path, 'checkpoint')].find((folder) => existsSync(folder) && latestCheckpoint(folder) !== undefined);

/** How data are opened for an encoder: as in its training. */
function specFor(path: string, { encoder, preparation }: FrozenEncoder, source: string): SampleSpec {
  const run = runOf(path);
  const [channels] = encoder.inputs[0].shape;
  const fitting = { kind: modalityOf(preparation), channels: channels as 1 | 3 };
  if (run === undefined) return { ...fitting, source };
  const { options, ...spec } = specOf(readCheckpointMeta(run).config);
  // Options belong to the set that the run named.
  return { ...spec, ...fitting, source, test: undefined, ...(source === spec.source && { options }) };
}

const SETS_OF_ONE_FILE = /\.(tar|tgz|tar\.gz)$|idx[34]-ubyte(\.gz)?$/;

/** The samples at a path: a data set of the encoder's modality, or one file. */
export function openFor(path: string, source: string, encoder: FrozenEncoder, split?: Split): Promise<Dataset> {
  const spec = specFor(path, encoder, source);
  const isFile = statSync(source, { throwIfNoEntry: false })?.isFile();
  if (spec.kind === 'image' && isFile && !SETS_OF_ONE_FILE.test(source)) {
    return openImageFiles([source], { channels: spec.channels });
  }
  return openSamples(spec, split);
}
