import { JepaError, UsageError } from '../base/errors.js';
import type { Dataset, ImageDataset } from '../data/dataset.js';
import { wordsOf } from '../data/modality.js';
import { openSampleSplits, type SampleSpec, type SampleSplits } from '../data/samples-node.js';
import { type ClipDataset, shortVideoNote } from '../data/video/clips.js';
import { npzSkeletons } from '../hub/skeletons-node.js';
import { npyVideoList } from '../hub/video-list-node.js';
import type { Config } from '../train/config.js';
import { isWorldSource, openEpisodeSplits, openWorldVideos } from '../train/episodes-node.js';
import { notice } from './output.js';

/** Most bytes of decoded images and frames that `data.cache` keeps. */
const CACHE_BYTES = 64e9;

/** How the data that a configuration names are opened. */
export function specOf({ data }: Config): SampleSpec {
  const { kind, source, test, options } = data;
  if (kind === 'episodes') throw new JepaError(`${source}: episodes are opened by the run that is trained on them`);
  const cache = data.cache === undefined ? undefined : { folder: data.cache, maxBytes: CACHE_BYTES };
  const common = { kind, source, test, options, cache };
  switch (data.kind) {
    case 'image':
      return { ...common, channels: data.channels };
    case 'video':
      return withSources({
        ...common,
        channels: data.channels,
        sampling: { frames: data.frames, frameStep: data.frameStep },
        mix: data.mix,
      });
    case 'sound':
      return { ...common, sampleRate: data.sampleRate };
    case 'text':
      return { ...common, split: data.split };
    default:
      return withSources(common);
  }
}

/** What data sets know nothing of: lists of videos in `.npy` and skeletons in `.npz` files, which are read here, and videos of worlds. */
export function withSources({
  channels,
  ...spec
}: Omit<SampleSpec, 'channels'> & { readonly channels?: 1 | 2 | 3 }): SampleSpec {
  const resolved = <T extends { readonly source: string }>(what: T): T => {
    const { source } = what;
    if (/\.npy$/i.test(source)) return { ...what, paths: npyVideoList(source) };
    if (!isWorldSource(source)) {
      if (channels === 2)
        throw new JepaError(`${source}: videos are grey or coloured; set data.channels to 1 or 3, not 2`);
      return what;
    }
    const made: SampleSpec['made'] = (options, part) => openWorldVideos(source, channels, options, part);
    return { ...what, made };
  };
  const decoded = channels === 2 ? spec : { ...spec, channels };
  if (spec.kind === 'skeleton') return { ...decoded, skeletons: npzSkeletons };
  return spec.kind === 'video' ? { ...resolved(decoded), ...(spec.mix && { mix: spec.mix.map(resolved) }) } : decoded;
}

/** Says what was left where samples were found. */
export function tellNote({ note }: Dataset): void {
  if (note !== undefined) notice(`! ${note}`);
}

/** The training and held-out samples that a configuration names. */
export async function openConfiguredData(config: Config): Promise<SampleSplits> {
  const { data } = config;
  const splits = data.kind === 'episodes' ? await openEpisodeSplits(data) : await openSampleSplits(specOf(config));
  tellNote(splits.train);
  if (data.kind === 'video') {
    const note = await shortVideoNote(splits.train as ClipDataset);
    if (note !== undefined) notice(`! ${note} (data.frames, data.frameStep)`);
  }
  for (const part of [splits.train, splits.test]) {
    const { channels } = part as ImageDataset;
    if (data.kind === 'image' && channels !== data.channels) {
      throw new UsageError(
        `${part.name}: its images have ${channels} channel${channels === 1 ? '' : 's'}; set data.channels=${channels}`,
      );
    }
    if (part.length === 0) throw new JepaError(`${part.name}: there are no ${wordsOf(part).many}`);
  }
  return splits;
}
