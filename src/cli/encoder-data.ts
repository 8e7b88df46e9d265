import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import { wordsOf } from '../data/modality.js';
import { openImageFiles, type Split } from '../data/open-node.js';
import { modalityOf } from '../data/plans.js';
import { openSampleSplits, openSamples, type SampleSpec, type SampleSplits } from '../data/samples-node.js';
import type { ClipSampling } from '../data/video/sampling.js';
import { latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import type { Config } from '../train/config.js';
import type { FrozenEncoder } from '../train/frozen.js';
import { openConfiguredData, specOf, tellNote, withSources } from './data.js';

/** Which clips a published encoder sees. */
export interface ClipOptions {
  readonly frames?: number;
  readonly frameStep?: number;
  /** Clips along whole videos. */
  readonly along?: boolean;
}

/** Frames of a video from one of a clip to the next, as most evaluations of V-JEPA have it. */
const FRAME_STEP = 4;

/** Labelled samples for an encoder: those that were named, or those that its run trained on. */
export async function dataFor(
  path: string,
  encoder: FrozenEncoder,
  named: string | undefined,
  frameStep?: number,
): Promise<SampleSplits> {
  const run = runOf(path);
  const episodes = episodesOf(run, named);
  if (episodes) return openConfiguredData(episodes);
  if (named !== undefined) {
    const splits = await openSampleSplits(specFor(path, encoder, named, frameStep));
    tellNote(splits.train);
    return splits;
  }
  if (run === undefined) throw new UsageError(`${path} does not say what it was trained on; name the data after it`);
  return openConfiguredData(readCheckpointMeta(run).config);
}

/** Several clips of each video, one from each of as many equal parts of it. */
export async function severalClips(
  path: string,
  encoder: FrozenEncoder,
  named: string | undefined,
  clips: number,
  frameStep?: number,
): Promise<readonly SampleSplits[]> {
  const run = runOf(path);
  const spec =
    named === undefined && run !== undefined
      ? specOf(readCheckpointMeta(run).config)
      : specFor(path, encoder, named as string, frameStep);
  if (spec.kind !== 'video') throw new UsageError('--clips and --views are for videos');
  const sampling = spec.sampling as ClipSampling;
  return Promise.all(
    Array.from({ length: clips }, (_, which) => openSampleSplits({ ...spec, sampling: { ...sampling, clips, which } })),
  );
}

/** The folder with the checkpoint of a run; undefined where an encoder is none of ours. */
export const runOf = (path: string): string | undefined =>
  [path, join(path, 'checkpoint')].find((folder) => existsSync(folder) && latestCheckpoint(folder) !== undefined);

/** The configuration of a run on episodes, with other episodes where some are named. */
function episodesOf(run: string | undefined, named: string | undefined): Config | undefined {
  const config = run === undefined ? undefined : readCheckpointMeta(run).config;
  return config?.data.kind === 'episodes' ? episodesFor(config, named) : undefined;
}

/** A configuration on episodes, with other episodes where some are named. */
export function episodesFor(config: Config, named: string | undefined): Config {
  if (config.data.kind !== 'episodes' || named === undefined || named === config.data.source) return config;
  // Options and the held-out part belong to the set that the run named.
  const { options: _, test: __, ...data } = config.data;
  return { ...config, data: { ...data, source: named } };
}

/** How data are opened for an encoder: as in its training. */
function specFor(
  path: string,
  { encoder, preparation }: FrozenEncoder,
  source: string,
  frameStep = FRAME_STEP,
): SampleSpec {
  const run = runOf(path);
  const [channels, frames] = encoder.inputs[0].shape;
  const kind = modalityOf(preparation);
  if (kind === 'episodes')
    throw new UsageError(`${path}: encoders of episodes are read from the run that they belong to`);
  const fitting = { kind, channels: channels as 1 | 2 | 3 };
  if (run === undefined)
    return withSources({ ...fitting, source, ...(fitting.kind === 'video' && { sampling: { frames, frameStep } }) });
  const { options, ...spec } = specOf(readCheckpointMeta(run).config);
  // Options belong to the set that the run named.
  const named = { ...spec, ...fitting, source, paths: undefined, made: undefined, mix: undefined, test: undefined };
  return withSources({ ...named, ...(source === spec.source && { options }) });
}

const SETS_OF_ONE_FILE = /\.(tar|tgz|tar\.gz)$|idx[34]-ubyte(\.gz)?$/;

/** The samples at a path: a data set of the encoder's modality, or one file. */
export async function openFor(
  path: string,
  source: string,
  encoder: FrozenEncoder,
  split?: Split,
  { frameStep, along }: ClipOptions = {},
): Promise<Dataset> {
  const episodes = episodesOf(runOf(path), source);
  if (episodes) return (await openConfiguredData(episodes))[split ?? 'train'];
  const spec = specFor(path, encoder, source, frameStep);
  const isFile = statSync(source, { throwIfNoEntry: false })?.isFile();
  if (spec.kind === 'image' && isFile && !SETS_OF_ONE_FILE.test(source)) {
    return openImageFiles([source], { channels: spec.channels });
  }
  if (along && spec.kind !== 'video')
    throw new UsageError(`--along is for videos; ${path} is an encoder of ${wordsOf({ modality: spec.kind }).many}`);
  const samples = await openSamples({ ...spec, along }, split);
  tellNote(samples);
  return samples;
}
