import type { SoundDataset } from '../data/audio/dataset.js';
import { featureStatistics, planSound } from '../data/audio/preparation.js';
import type { Dataset } from '../data/dataset.js';
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
}

/** Texts that a tokenizer is learned from, at most. */
const TOKENIZER_TEXTS = 20_000;

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
    default:
      return {};
  }
}
