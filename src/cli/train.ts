import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import { finishRun } from './finish.js';
import { printJson } from './output.js';
import { trainRun } from './run.js';
import { configText, readSettings, runFolder } from './settings.js';

export interface TrainCommandOptions {
  readonly out?: string;
  readonly resume?: boolean;
  readonly printConfig?: boolean;
  readonly probe: boolean;
  readonly json?: boolean;
}

/** `jepa train <recipe> [key=value ...]` */
export async function train(recipe: string, overrides: readonly string[], options: TrainCommandOptions): Promise<void> {
  const { name, config } = readSettings(recipe, overrides);
  if (options.printConfig) {
    if (options.json) printJson(config);
    else process.stdout.write(configText(config));
    return;
  }
  const isRun = existsSync(join(recipe, 'config.yaml'));
  if (isRun && !options.resume && options.out === undefined) {
    throw new UsageError(`${recipe} is a run; add --resume to go on with it, or --out for a new run with its settings`);
  }
  if (options.resume && !isRun && options.out === undefined) {
    throw new UsageError('--resume needs to know the run: jepa train <folder of the run> --resume');
  }
  const folder = options.out ?? (isRun ? recipe : runFolder(name));
  const run = await trainRun({ name, folder, config, resume: options.resume ?? false });
  if (run) await finishRun(run, { probe: options.probe, json: options.json ?? false });
}
