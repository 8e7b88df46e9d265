import { print } from './output.js';
import type { TrainedRun } from './run.js';
export async function finishRun(
  run: TrainedRun,
  options: { readonly probe: boolean; readonly json: boolean },
): Promise<void> {
  await run.trained.close();
  print(`${options.json}`);
}
