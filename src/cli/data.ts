import { JepaError, UsageError } from '../base/errors.js';
import { type DatasetSpec, openDataset, openSplits, type Splits } from '../data/open-node.js';
import type { Config } from '../train/config.js';

/** Most bytes of decoded images that `data.cache` keeps. */
const CACHE_BYTES = 64e9;

/** The training and held-out images that a configuration names. */
export async function openConfiguredData({ data }: Config): Promise<Splits> {
  const spec: DatasetSpec = {
    path: data.source,
    channels: data.channels,
    cache: data.cache === undefined ? undefined : { folder: data.cache, maxBytes: CACHE_BYTES },
  };
  const splits: Splits =
    data.test === undefined
      ? await openSplits(spec)
      : { train: await openDataset(spec), test: await openDataset({ ...spec, path: data.test }), origin: 'own' };
  for (const { name, channels, length } of [splits.train, splits.test]) {
    if (channels !== data.channels) {
      throw new UsageError(
        `${name}: its images have ${channels} channel${channels === 1 ? '' : 's'}; set data.channels=${channels}`,
      );
    }
    if (length === 0) throw new JepaError(`${name}: there are no images`);
  }
  return splits;
}
