import { statSync } from 'node:fs';
import { UsageError } from '../base/errors.js';
import { formatFixed } from '../report/format.js';
import { openEncoder } from '../train/frozen.js';
import { type EmbeddingIndex, embeddingsOf, openEmbeddings, search as searchIndex } from '../train/search.js';
import { openFor } from './encoder-data.js';
import { notice, print, printJson, stages, table } from './output.js';

export interface SearchCommandOptions {
  readonly like: string;
  readonly k: number;
  readonly json?: boolean;
}

/** `jepa search <encoder> <images> --like <image>` */
export async function search(
  path: string,
  images: string,
  { like, k, json = false }: SearchCommandOptions,
): Promise<void> {
  if (!statSync(like, { throwIfNoEntry: false })?.isFile()) throw new UsageError(`${like}: there is no such image`);
  const encoder = openEncoder(path);
  const stage = stages();
  let index: EmbeddingIndex;
  try {
    index = /\.(npy|parquet)$/.test(images)
      ? await openEmbeddings(images)
      : await embeddingsOf({
          encoder,
          dataset: await openFor(path, images, encoder),
          loading: { log: notice },
          onProgress: (done, total) => stage.update(`${formatFixed(done, 0)} of ${formatFixed(total, 0)} images`),
        });
  } finally {
    stage.end();
  }
  const hits = await searchIndex({ encoder, index, like, k });
  if (json) printJson({ like, searched: index.paths.length, hits });
  else print(table(hits.map(({ score, path: hit, class: label }) => [score.toFixed(3), hit, label ?? ''])));
}
