import { rmSync } from 'node:fs';
import { join } from 'node:path';
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

/** Removes what an earlier run wrote; a folder that is none is left to the checks of the new run. */
function removeRun(folder: string): void {
  const names = namesIn(folder);
  if (latestCheckpoint(join(folder, 'checkpoint')) === undefined && !isBegunRun(names)) return;
  for (const name of names.filter((one) => RUN_FILES.test(one))) rmSync(join(folder, name), { recursive: true });
}
