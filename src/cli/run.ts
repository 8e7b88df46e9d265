import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import { wordsOf } from '../data/modality.js';
import type { SampleSplits } from '../data/samples-node.js';
import { formatFixed, formatNumber } from '../report/format.js';
import { createProgress } from '../report/terminal.js';
import { type CheckpointMeta, latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import type { Config } from '../train/config.js';
import { type TrainResult, train } from '../train/trainer.js';
import { openConfiguredData } from './data.js';
import { catchInterrupts, type Interrupts, sayWhenInterrupted } from './interrupt.js';
import { notice } from './output.js';
import { checkRunFolder } from './outputs.js';
import { configText } from './settings.js';

export interface Run {
  /** What it is called in titles. */
  readonly name: string;
  readonly folder: string;
  readonly config: Config;
  readonly resume: boolean;
}

export interface TrainedRun extends Run {
  readonly data: SampleSplits;
  readonly trained: TrainResult;
  /** Wall clock of training, with opening the data, compiling and what earlier parts of a resumed run took. */
  readonly seconds: number;
  /** Most memory of the process until the end of training. */
  readonly peakBytes: number;
}

/** Titles of methods, as papers write them. */
export const METHOD_TITLES: Readonly<Record<Config['method']['name'], string>> = {
  ijepa: 'I-JEPA',
  lejepa: 'LeJEPA',
  viewjepa: 'JEPA over views',
  vjepa: 'V-JEPA',
  vjepa2: 'V-JEPA 2',
  vjepa21: 'V-JEPA 2.1',
  'audio-jepa': 'Audio-JEPA',
  's-jepa': 'S-JEPA',
  'text-jepa': 'Text JEPA',
  'llm-jepa': 'LLM-JEPA',
  'world-model': 'World model',
  'vjepa2-ac': 'V-JEPA 2-AC',
};

/** A data set in titles, without its part. */
export const titleOf = ({ name }: Dataset): string => name.replace(/ \(train\)$/, '');

/**
 * Trains into a folder, with progress on stderr. Ctrl-C ends it after the current step with a checkpoint; then undefined is
 * returned, what to do next is printed and the exit code is 130.
 */
export async function trainRun(run: Run): Promise<TrainedRun | undefined> {
  const started = performance.now();
  const { folder, config } = run;
  sayWhenInterrupted(
    `interrupted before the first step; ${run.resume ? 'the run is as it was' : 'nothing was written'}`,
  );
  const checkpoints = join(folder, 'checkpoint');
  if (run.resume) checkSame(config, readCheckpointMeta(checkpoints), folder);
  else if (latestCheckpoint(checkpoints) !== undefined) {
    throw new UsageError(
      `${folder} holds a run already; add --resume to go on with it, or choose another folder with --out`,
    );
  }
  if (!run.resume) checkRunFolder(folder, configText(config));
  const data = await openConfiguredData(config);
  const { train: samples, test } = data;
  const opening = (performance.now() - started) / 1000;

  const progress = createProgress({ stream: process.stderr, samples: wordsOf(samples).many });
  progress.log(
    `${METHOD_TITLES[config.method.name]} on ${titleOf(samples)}: ${formatFixed(samples.length, 0)} ${wordsOf(samples).many}, ${formatFixed(test.length, 0)} held out; writing ${folder}`,
  );
  // Until training begins there is nothing to be saved: Ctrl-C leaves at once.
  const stop = new AbortController();
  let interrupts: Interrupts | undefined;
  let trained: TrainResult;
  try {
    trained = await train({
      config,
      dataset: samples,
      heldOut: test,
      folder,
      resume: run.resume,
      signal: stop.signal,
      events: {
        onStart({ step, distribution, parameters }) {
          // Not before: a run that cannot start leaves nothing behind.
          withFileErrors('create', folder, () => mkdirSync(folder, { recursive: true }));
          writeFileAtomic(join(folder, 'config.yaml'), configText(config));
          interrupts = catchInterrupts(
            () => progress.log('stopping after this step; Ctrl-C again leaves at once, without saving'),
            stop,
          );
          const from = run.resume ? `going on after step ${formatFixed(step, 0)}; ` : '';
          const size = parameters < 1e5 ? formatFixed(parameters, 0) : `${formatNumber(parameters / 1e6)} million`;
          progress.log(`${from}${size} parameters, ${distribution}`);
        },
        onStep: ({ step, totalSteps, loss, samplesPerSecond, etaSeconds }) =>
          progress.update({ step, total: totalSteps || undefined, loss, samplesPerSecond, etaSeconds }),
        onDiagnosis: (info) => {
          const { step, rankme, width, featureStd, meanCosine, energyMatched, energyShuffled, verdict, message } = info;
          const signs = { rankme, width, featureStd, meanCosine, energyMatched, energyShuffled };
          progress.update({ step, ...signs, verdict: { verdict, message } });
        },
        onProbe: ({ step, knn }) => progress.update({ step, knn }),
        onNotice: (line) => progress.log(line),
      },
    });
  } finally {
    progress.finish();
    interrupts?.release();
  }
  if (!trained.interrupted) {
    sayWhenInterrupted(`interrupted; training is complete: ${resumeCommand(run)} makes what follows it`);
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    return { ...run, data, trained, seconds: opening + trained.seconds, peakBytes };
  }
  await trained.close();
  notice(`interrupted at step ${formatFixed(trained.steps, 0)}, which is saved in ${checkpoints}`);
  notice(`go on with: ${resumeCommand(run)}`);
  process.exitCode = 130;
  return undefined;
}

function resumeCommand({ name, folder }: Run): string {
  if (name === 'quickstart') return `jepa quickstart${folder === join('runs', 'quickstart') ? '' : ` --out ${folder}`}`;
  return `jepa train ${folder} --resume`;
}

/** Settings that do not change what is learned: they may differ when a run goes on. The trainer itself checks the workers. */
const FREE = [
  'data.source',
  'data.test',
  'data.threads',
  'data.cache',
  'data.maxCorrupt',
  'train.workers',
  'train.diagnoseEvery',
  'train.probeEvery',
  'train.checkpointEvery',
];

function checkSame(config: Config, { config: stored }: CheckpointMeta, folder: string): void {
  const [now, before] = [leaves(config), leaves(stored)];
  const changed = [...new Set([...now.keys(), ...before.keys()])].find(
    (key) => now.get(key) !== before.get(key) && !FREE.some((free) => key === free || key.startsWith(`${free}.`)),
  );
  if (changed === undefined) return;
  throw new UsageError(
    `${folder}: the run was started with ${changed}=${before.get(changed) ?? 'null'} and would go on with ${now.get(changed) ?? 'null'}; leave the setting out, or start a new run with --out`,
  );
}

function leaves(value: unknown, path = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null) return new Map(value === undefined ? [] : [[path, String(value)]]);
  return new Map(Object.entries(value).flatMap(([key, inner]) => [...leaves(inner, path ? `${path}.${key}` : key)]));
}

/** Whether a folder holds a run that reached its end. */
export function isComplete(folder: string): boolean {
  const checkpoints = join(folder, 'checkpoint');
  if (latestCheckpoint(checkpoints) === undefined) return false;
  const { step, totalSteps } = readCheckpointMeta(checkpoints);
  return step === totalSteps && existsSync(join(folder, 'result.json'));
}
