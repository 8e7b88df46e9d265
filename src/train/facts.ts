import { JepaError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import { type HostTensor, sizeOf } from '../base/tensor.js';
import type { SoundDataset } from '../data/audio/dataset.js';
import { featureStatistics, planSound } from '../data/audio/preparation.js';
import type { Dataset } from '../data/dataset.js';
import type { EpisodeDataset } from '../data/episodes/dataset.js';
import { channelStatistics, type Scaling } from '../data/episodes/scaling.js';
import type { SkeletonDataset } from '../data/skeleton/dataset.js';
import type { TextSample } from '../data/text/dataset.js';
import { learnTokenizer } from '../data/text/plan.js';
import type { VitConfig } from '../nn/vit.js';
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
    /** Statistics of the numbers of states that the model is told, where it is told any. */
    readonly told?: { readonly mean: readonly number[]; readonly std: readonly number[] };
  };
  /** Of methods on a frozen encoder: what it is built from, and what its frames are normalised by. */
  readonly encoder?: VideoEncoderFacts;
}

/** A video encoder as plain data; statistics are of values 0..1, one number for all channels or one for each. */
export interface VideoEncoderFacts {
  readonly config: VitConfig;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** A frozen video encoder to build on: what it is and its weights, by their own names. */
export interface VideoEncoder {
  readonly facts: VideoEncoderFacts;
  readonly weights: ReadonlyMap<string, HostTensor<'float32'>>;
}

/** Texts that a tokenizer is learned from, at most. */
const TOKENIZER_TEXTS = 20_000;

/** Episodes whose observations are measured, at most. */
const MEASURED_EPISODES = 256;

/** Looks at the training data; `encoder` is what is known of a frozen one. */
export async function dataFacts(
  { data, method }: Config,
  dataset: Dataset,
  encoder?: VideoEncoderFacts,
): Promise<DataFacts> {
  switch (data.kind) {
    case 'sound': {
      if (data.statistics || typeof data.features === 'string') return {};
      const sounds = dataset as SoundDataset;
      return { statistics: await featureStatistics(sounds, planSound(soundInput(data), sounds, 'data')) };
    }
    case 'skeleton':
      return { joints: (dataset as SkeletonDataset).layout.names.length };
    case 'text': {
      const texts: TextSample[] = [];
      for (const i of evenly(dataset.length, TOKENIZER_TEXTS)) texts.push((await dataset.read(i)) as TextSample);
      return { tokenizer: learnTokenizer(texts, data.vocabulary) };
    }
    case 'episodes': {
      const episodes = dataset as EpisodeDataset;
      const { observation, action } = episodes.shape;
      const range = data.observe === 'pictures' ? 'byte' : 'plain';
      const pose = method.name === 'vjepa2-ac' ? method.pose : 0;
      const { longest, told, ...measured } = await statistics(episodes, range, pose);
      const own = encoder ? normalisationOf(encoder, observation[0]) : measured;
      const scaling = data.scaling ?? { range, ...own };
      return {
        episodes: { observation, action, longest, scaling, ...(told && { told }) },
        ...(encoder && { encoder }),
      };
    }
    default:
      return {};
  }
}

/** An encoder's own normalisation, a number for each channel. */
const normalisationOf = ({ mean, std }: VideoEncoderFacts, channels: number): Pick<Scaling, 'mean' | 'std'> => {
  const each = (values: readonly number[]): number[] =>
    values.length === 1 ? new Array<number>(channels).fill(values[0]) : [...values];
  return { mean: each(mean), std: each(std) };
};

type Statistics = Pick<Scaling, 'mean' | 'std'>;

/** Statistics of observations, actions and the first `pose` numbers of states of episodes evenly spread over a data set. */
async function statistics(
  dataset: EpisodeDataset,
  range: Scaling['range'],
  pose: number,
): Promise<Statistics & { readonly longest: number; readonly told?: Statistics }> {
  const { observation, action, state } = dataset.shape;
  if (pose > state)
    throw new JepaError(`${dataset.name}: states of ${state} numbers; set method.pose between 0 and that, not ${pose}`);
  const [channels, ...plane] = observation;
  const parts: (Uint8Array | Float32Array)[] = [];
  const states: number[] = [];
  let longest = 0;
  for (const i of evenly(dataset.length, MEASURED_EPISODES)) {
    const { observations, actions, states: own } = await dataset.read(i);
    parts.push(observations);
    for (let at = 0; at < actions.length; at += action)
      longest = Math.max(longest, Math.hypot(...actions.subarray(at, at + action)));
    for (let at = 0; at < own.length; at += state) states.push(...own.subarray(at, at + pose));
  }
  const size = parts.reduce((sum, { length }) => sum + length, 0);
  const all = new (parts[0].constructor as typeof Float32Array)(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const told = pose > 0 ? channelStatistics(Float32Array.from(states), 1, pose, 'plain') : undefined;
  return { ...channelStatistics(all, sizeOf(plane), channels, range), longest, told };
}
