import { sizeOf } from '../base/tensor.js';
import type { SoundDataset } from '../data/audio/dataset.js';
import { featureStatistics, planSound } from '../data/audio/preparation.js';
import type { Dataset } from '../data/dataset.js';
import type { EpisodeDataset } from '../data/episodes/dataset.js';
import { channelStatistics, type Scaling } from '../data/episodes/scaling.js';
import type { SkeletonDataset } from '../data/skeleton/dataset.js';
import type { TextSample } from '../data/text/dataset.js';
import { learnTokenizer } from '../data/text/plan.js';
import { soundInput } from './build.js';
import type { Config } from './config.js';

/** What a run must know of its data besides its configuration; plain data, kept with its checkpoints. */
export interface DataFacts {
  /** Of sound: mean and standard deviation of the features. */
  readonly statistics?: { readonly mean: number; readonly std: number };
  /** Of skeletons: joints. */
  readonly joints?: number;
  /** Of texts: the tokenizer learned from them, as `tokenizer.json` has it. */
  readonly tokenizer?: string;
  /** Of episodes: what observations and actions are, and the statistics of observations. */
  readonly episodes?: {
    /** [channels, height, width], or [numbers]. */
    readonly observation: readonly number[];
    /** Numbers of an action. */
    readonly action: number;
    readonly scaling: Scaling;
    /** Length of the longest action: what planners should not go beyond. */
    readonly longest: number;
  };
}

/** Texts that a tokenizer is learned from, at most. */
const TOKENIZER_TEXTS = 20_000;

/** Episodes whose observations are measured, at most. */
const MEASURED_EPISODES = 256;

/** Looks at the training data. */
export async function dataFacts({ data }: Config, dataset: Dataset): Promise<DataFacts> {
  switch (data.kind) {
    case 'sound': {
      if (data.statistics || typeof data.features === 'string') return {};
      const sounds = dataset as SoundDataset;
      return { statistics: await featureStatistics(sounds, planSound(soundInput(data), sounds, 'data')) };
    }
    case 'skeleton':
      return { joints: (dataset as SkeletonDataset).layout.names.length };
    case 'text': {
      const count = Math.min(dataset.length, TOKENIZER_TEXTS);
      const texts: TextSample[] = [];
      for (let i = 0; i < count; i++) {
        texts.push((await dataset.read(Math.floor((i * dataset.length) / count))) as TextSample);
      }
      return { tokenizer: learnTokenizer(texts, data.vocabulary) };
    }
    case 'episodes': {
      const episodes = dataset as EpisodeDataset;
      const { observation, action } = episodes.shape;
      const range = data.observe === 'pictures' ? 'byte' : 'plain';
      const { longest, ...measured } = await statistics(episodes, range);
      return { episodes: { observation, action, longest, scaling: data.scaling ?? { range, ...measured } } };
    }
    default:
      return {};
  }
}

/** Statistics of the observations and actions of episodes evenly spread over a data set. */
async function statistics(
  dataset: EpisodeDataset,
  range: Scaling['range'],
): Promise<Pick<Scaling, 'mean' | 'std'> & { readonly longest: number }> {
  const { observation, action } = dataset.shape;
  const [channels, ...plane] = observation;
  const count = Math.min(dataset.length, MEASURED_EPISODES);
  const parts: (Uint8Array | Float32Array)[] = [];
  let longest = 0;
  for (let i = 0; i < count; i++) {
    const { observations, actions } = await dataset.read(Math.floor((i * dataset.length) / count));
    parts.push(observations);
    for (let at = 0; at < actions.length; at += action)
      longest = Math.max(longest, Math.hypot(...actions.subarray(at, at + action)));
  }
  const size = parts.reduce((sum, { length }) => sum + length, 0);
  const all = new (parts[0].constructor as typeof Float32Array)(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return { ...channelStatistics(all, sizeOf(plane), channels, range), longest };
}
