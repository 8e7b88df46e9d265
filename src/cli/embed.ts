import { statSync } from 'node:fs';
import { wordsOf } from '../data/modality.js';
import type { Split } from '../data/open-node.js';
import { formatBytes, formatDuration, formatFixed } from '../report/format.js';
import { createProgress } from '../report/terminal.js';
import { type EmbedResult, embeddingFiles, embed as embedImages, isOwnEmbedding } from '../train/embed.js';
import { openEncoder } from '../train/frozen.js';
import { type ClipOptions, openFor } from './encoder-data.js';
import { sayWhenInterrupted } from './interrupt.js';
import { notice, print, printJson, table } from './output.js';
import { checkOutputs } from './outputs.js';

export interface EmbedCommandOptions extends ClipOptions {
  readonly out: string;
  readonly split?: Split;
  readonly json?: boolean;
}

/** `jepa embed <encoder> <data> --out <file>` */
export async function embed(
  path: string,
  source: string,
  { out, split, frames, frameStep, along, json = false }: EmbedCommandOptions,
): Promise<void> {
  sayWhenInterrupted('interrupted; nothing was written');
  await checkOutputs(embeddingFiles(out), isOwnEmbedding);
  const encoder = openEncoder(path, { frames });
  const dataset = await openFor(path, source, encoder, split, { frameStep, along });
  const { one, many } = wordsOf(dataset);
  const progress = createProgress({ total: dataset.length, samples: many, bySample: true, stream: process.stderr });
  const started = performance.now();
  let result: EmbedResult;
  try {
    result = await embedImages({
      encoder,
      dataset,
      out,
      loading: { log: notice },
      onProgress: (step, total) => {
        const samplesPerSecond = (1000 * step) / (performance.now() - started);
        progress.update({ step, total, samplesPerSecond, etaSeconds: (total - step) / samplesPerSecond });
      },
    });
  } finally {
    progress.finish();
  }
  if (json) printJson(result);
  else {
    const skipped = result.skipped > 0 ? `, ${formatFixed(result.skipped, 0)} could not be read` : '';
    print(
      `${formatFixed(result.samples, 0)} ${result.samples === 1 ? one : many}, ${result.features} numbers each, in ${formatDuration(result.seconds)}${skipped}`,
    );
    print(table(result.files.map((file) => [file, formatBytes(statSync(file).size)])));
  }
}
