import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { JepaError, UsageError } from '../base/errors.js';
import { isOwnFile } from '../hub/own-node.js';
import { INDEX_FILE, readJsonFile, SHARD, WEIGHTS_FILE } from '../hub/weights.js';

/** What lies at a path, if anything. */
const statOf = (path: string) => withFileErrors('write', path, () => statSync(path, { throwIfNoEntry: false }));

function refuse(path: string): never {
  throw new UsageError(
    `${path} is there already, and this command did not write it; remove it, or name another with --out`,
  );
}

/**
 * Checks, before any work is done, that the files of an output can be written: their folder is there, and what they would
 * replace is an earlier output of the same command. Throws a `UsageError` otherwise.
 */
export async function checkOutputs(
  paths: readonly string[],
  isOwn: (path: string) => Promise<boolean> = isOwnFile,
): Promise<void> {
  for (const path of paths) {
    const folder = dirname(path);
    if (!statOf(folder)?.isDirectory())
      throw new UsageError(`${path}: there is no folder ${folder}; make it, or write elsewhere`);
    withFileErrors('write', path, () => accessSync(folder, constants.W_OK));
    const found = statOf(path);
    if (found?.isDirectory()) throw new UsageError(`${path} is a folder; name a file with --out`);
    if (found && !(await isOwn(path))) refuse(path);
  }
}

/** The same of an ONNX file, which may have its weights beside it. */
export async function checkOnnxOutput(path: string): Promise<void> {
  await checkOutputs([path]);
  const data = `${path}_data`;
  if (statOf(data) && !statOf(path)) refuse(data);
}

/** Of a folder for other libraries: what is replaced or removed there are models and what describes them. */
export async function checkModelFolder(folder: string): Promise<void> {
  const names = namesIn(folder);
  const weights = names.filter((name) => name === WEIGHTS_FILE || SHARD.test(name));
  const described = names.find((name) => name === INDEX_FILE || /^(preprocessor_)?config\.json$/.test(name));
  if (weights.length === 0 && described !== undefined) refuse(join(folder, described));
  for (const name of weights) if (!(await isOwnFile(join(folder, name)))) refuse(join(folder, name));
  if (names.includes('onnx')) await checkOnnxOutput(join(folder, 'onnx', 'model.onnx'));
}

/** What a run writes; nothing else in its folder is touched. */
export const RUN_FILES =
  /^(checkpoint|config\.yaml|metrics\.jsonl|events\.out\.tfevents\..*|encoder\.onnx.*|report\.html|result\.json)$/;

/** Names in a folder that may not be there yet. Throws a `UsageError` where it is a file. */
export function namesIn(folder: string): string[] {
  const found = statOf(folder);
  if (!found) return [];
  if (!found.isDirectory()) throw new UsageError(`${folder} is a file; name a folder with --out`);
  return withFileErrors('list', folder, () => readdirSync(folder));
}

/** Whether a folder without a checkpoint holds what a run leaves that ended before its first one. */
export const isBegunRun = (names: readonly string[]): boolean =>
  names.includes('metrics.jsonl') && names.some((name) => name.includes('.tfevents.'));

/**
 * Checks that a new run with this configuration replaces nothing but what an earlier one left. Throws a `UsageError` that
 * names the file otherwise.
 */
export function checkRunFolder(folder: string, config: string): void {
  const names = namesIn(folder);
  if (isBegunRun(names)) return;
  const isSame = (name: string): boolean =>
    name === 'config.yaml' &&
    withFileErrors('read', join(folder, name), () => readFileSync(join(folder, name), 'utf8')) === config;
  const foreign = names.find((name) => RUN_FILES.test(name) && !isSame(name));
  if (foreign !== undefined)
    throw new UsageError(
      `${folder} is no run of this program, and its ${foreign} would be written over; choose another folder with --out`,
    );
}

/** What a plan writes. */
const PLAN_FILES = /^(result\.json|report\.html|episodes\.(gif|mp4))$/;

/** Checks that a plan replaces nothing but what an earlier one left. Throws a `UsageError` that names the file otherwise. */
export function checkPlanFolder(folder: string): void {
  const foreign = namesIn(folder).find((name) => PLAN_FILES.test(name));
  if (foreign === undefined || isPlanResult(join(folder, 'result.json'))) return;
  throw new UsageError(
    `${folder} holds no earlier plan, and its ${foreign} would be written over; choose another folder with --out`,
  );
}

function isPlanResult(path: string): boolean {
  try {
    const result = readJsonFile(path);
    return 'planner' in result && 'floors' in result;
  } catch (error) {
    if (error instanceof JepaError) return false;
    throw error;
  }
}
