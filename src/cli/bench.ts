import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { JepaError } from '../base/errors.js';
import { notice, printJson } from './output.js';

/** `jepa bench [models...]`: the benchmark of the repository, beside PyTorch where that is installed. */
export async function bench(models: readonly string[], { json = false }: { json?: boolean }): Promise<void> {
  const url = new URL('../../bench/bench.js', import.meta.url);
  if (!existsSync(fileURLToPath(url))) {
    throw new JepaError('the benchmark is part of the repository, not of the installed package; there: npm run bench');
  }
  const { bench: run } = (await import(url.href)) as typeof import('../../bench/bench.js');
  const result = await run({ ...(models.length > 0 && { models }), log: json ? notice : console.log });
  if (json) printJson(result);
}
