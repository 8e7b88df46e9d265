import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import { latestCheckpoint } from '../train/checkpoint.js';
import { finishRun } from './finish.js';
import { notice } from './output.js';
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

/** What a run writes; nothing else in its folder is touched. */
const WRITTEN =
  /^(checkpoint|config\.yaml|metrics\.jsonl|events\.out\.tfevents\..*|encoder\.onnx.*|report\.html|result\.json)$/;

function removeRun(folder: string): void {
  if (!existsSync(folder)) return;
  const names = readdirSync(folder);
  const foreign = names.find((name) => !WRITTEN.test(name));
  if (foreign !== undefined && !names.includes('config.yaml')) {
    throw new UsageError(`${folder} is no run of this program (it holds ${foreign}); choose another folder with --out`);
  }
  for (const name of names.filter((one) => WRITTEN.test(one))) rmSync(join(folder, name), { recursive: true });
}
