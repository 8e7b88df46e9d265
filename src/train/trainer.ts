import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import { type JsonlWriter, openJsonl } from '../hub/jsonl.js';
import { type EventWriter, openEventWriter } from '../hub/tfevents.js';
import { givenEncoder } from './build.js';
import { latestCheckpoint, loadCheckpoint, saveCheckpoint } from './checkpoint.js';
import { openVideoEncoder } from './frozen.js';
import { type LoopOptions, type RunStore, type TrainResult, trainLoop } from './loop.js';

export type { DiagnosisInfo, StepInfo, TrainEvents, TrainResult } from './loop.js';

export interface TrainOptions extends Omit<LoopOptions, 'store'> {
  /** Where metrics, events and checkpoints go; without it nothing is written. */
  readonly folder?: string;
  /** Go on from the folder's checkpoint. */
  readonly resume?: boolean;
}

/** Trains a method on a data set and keeps the run in a folder. Throws `JepaError` for a loss that is not finite. */
export async function train({ folder, resume = false, ...options }: TrainOptions): Promise<TrainResult> {
  const store = folder === undefined ? undefined : openRun(folder, resume);
  const { method, train: settings } = options.config;
  try {
    // A run that goes on has both in its checkpoint.
    const initial =
      settings.from === undefined || resume ? undefined : loadCheckpoint(join(settings.from, 'checkpoint')).weights;
    const given = resume ? undefined : givenEncoder(method);
    const encoder = given === undefined ? undefined : openVideoEncoder(given);
    return await trainLoop({ ...options, store, ...(initial && { initial }), ...(encoder && { encoder }) });
  } finally {
    store?.close();
  }
}

/** A run's folder: `metrics.jsonl`, TensorBoard events and `checkpoint/`. Refuses one that holds a run already, unless to resume it. */
function openRun(folder: string, resume: boolean): RunStore & { close(): void } {
  const checkpoints = join(folder, 'checkpoint');
  if (!resume && latestCheckpoint(checkpoints) !== undefined) {
    throw new UsageError(`${folder} holds a run already; add --resume to go on with it, or choose another folder`);
  }
  const checkpoint = resume ? loadCheckpoint(checkpoints) : undefined;
  const done = checkpoint?.meta.step ?? 0;
  let files: { readonly log: JsonlWriter; readonly board: EventWriter } | undefined;
  /** Made for the first entry: a run that fails before it leaves nothing behind. */
  const open = (): NonNullable<typeof files> => {
    if (!files) {
      withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
      files = {
        log: openJsonl(join(folder, 'metrics.jsonl'), (record) => Number(record.step) <= done),
        board: openEventWriter(folder),
      };
    }
    return files;
  };
  return {
    name: folder,
    checkpoint,
    record: (step, group, values) => {
      const { log, board } = open();
      log.append({ step, ...values });
      board.scalars(step, Object.fromEntries(Object.entries(values).map(([key, value]) => [`${group}/${key}`, value])));
    },
    save: (state) => {
      saveCheckpoint(checkpoints, state);
      return checkpoints;
    },
    lastGood: () => {
      const step = latestCheckpoint(checkpoints);
      return step === undefined ? undefined : `step ${step} in ${checkpoints}`;
    },
    close: () => {
      files?.log.close();
      files?.board.close();
    },
  };
}
