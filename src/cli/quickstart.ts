import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import { latestCheckpoint } from '../train/checkpoint.js';
import { finishRun } from './finish.js';
import { notice } from './output.js';
import { isBegunRun, namesIn, RUN_FILES } from './outputs.js';
import { isComplete, trainRun } from './run.js';
import { readSettings } from './settings.js';

export interface QuickstartOptions {
  readonly out: string;
  readonly minutes?: number;
  readonly seed?: number;
  readonly json?: boolean;
}

/** `jepa quickstart`: trains the recipe of that name, goes on with an interrupted run, replaces a finished one. */
export async function quickstart(
  overrides: readonly string[],
  { out, minutes, seed, json = false }: QuickstartOptions,
): Promise<void> {
  const { name, config } = readSettings('quickstart', [
    ...(minutes === undefined ? [] : [`train.minutes=${minutes}`]),
    ...(seed === undefined ? [] : [`train.seed=${seed}`]),
    ...overrides,
  ]);
  const resume = !isComplete(out) && latestCheckpoint(join(out, 'checkpoint')) !== undefined;
  if (resume) notice(`${out} holds an interrupted run: going on with it (remove the folder to start afresh)`);
  else removeRun(out);
  const run = await trainRun({ name, folder: out, config, resume });
  if (run) await finishRun(run, { probe: true, json });
}

/** Removes what an earlier run wrote. Throws a `UsageError` for a folder that holds something else. */
function removeRun(folder: string): void {
  const names = namesIn(folder);
  if (names.length === 0) return;
  if (latestCheckpoint(join(folder, 'checkpoint')) === undefined && !isBegunRun(names))
    throw new UsageError(
      `${folder} is no run of this program (it holds ${names[0]}); choose another folder with --out`,
    );
  for (const name of names.filter((one) => RUN_FILES.test(one))) rmSync(join(folder, name), { recursive: true });
}
