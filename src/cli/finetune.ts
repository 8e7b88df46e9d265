import { UsageError } from '../base/errors.js';
import { wordsOf } from '../data/modality.js';
import { formatDuration, formatFixed } from '../report/format.js';
import { createProgress, type Progress } from '../report/terminal.js';
import { exportOnnx } from '../train/export.js';
import {
  type Beginning,
  type FinetuneOptions,
  type FinetuneResult,
  type FinetuneSettings,
  type TrainedClassifier,
  finetune as train,
} from '../train/finetune.js';
import { openEncoder } from '../train/frozen.js';
import type { Score } from '../train/score.js';
import { dataFor } from './encoder-data.js';
import { bold, print, printJson, table } from './output.js';
import { checkOnnxOutput } from './outputs.js';

export interface FinetuneCommandOptions {
  readonly labels?: string;
  readonly epochs?: number;
  readonly lr?: number;
  readonly batchSize?: number;
  readonly seed?: number;
  readonly out?: string;
  readonly json?: boolean;
}

const PHASES: Record<Beginning, string> = { pretrained: 'fine-tuning', scratch: 'the same from random weights' };

/** `jepa finetune <encoder> [data]` */
export async function finetune(
  path: string,
  named: string | undefined,
  { out, seed, json = false, labels, epochs, lr, batchSize }: FinetuneCommandOptions,
): Promise<void> {
  if (out !== undefined && !out.endsWith('.onnx')) {
    throw new UsageError(`${out}: a fine-tuned encoder is written as ONNX; give the file the ending .onnx`);
  }
  if (out !== undefined) await checkOnnxOutput(out);
  const some = labelsOf(labels);
  const encoder = openEncoder(path);
  const data = await dataFor(path, encoder, named);
  // Who asks for a number of epochs means it.
  const settings = given({ epochs, leastSteps: epochs === undefined ? undefined : 1, lr, batchSize });
  const shown = showSteps();
  const started = performance.now();
  const result = await train({
    encoder,
    train: data.train,
    test: data.test,
    labels: some,
    settings,
    seed,
    onStep: shown.onStep,
  }).finally(shown.end);
  const { finetuned, classes } = result;
  if (out !== undefined) exportOnnx(finetuned.encoder, out, { classifier: { ...finetuned.classifier, classes } });
  const seconds = (performance.now() - started) / 1000;
  if (json) printJson({ encoder: path, ...plain(result), seconds, out });
  else show(path, result, wordsOf(data.train).many, seconds, out);
}

/** Progress of both trainings, one after the other. */
function showSteps(): { onStep: NonNullable<FinetuneOptions['onStep']>; end(): void } {
  let progress: Progress | undefined;
  let phase: Beginning | undefined;
  return {
    onStep: ({ from, step, steps, loss }) => {
      if (from !== phase) {
        progress?.finish();
        phase = from;
        progress = createProgress({ total: steps, stream: process.stderr });
        progress.log(PHASES[from]);
      }
      progress?.update({ step, loss });
    },
    end: () => progress?.finish(),
  };
}

function show(path: string, result: FinetuneResult, many: string, seconds: number, out: string | undefined): void {
  const { finetuned, frozen, scratch, classes, trainSamples, testSamples, steps } = result;
  const percent = (share: number): string => formatFixed(100 * share, 1);
  const row = (name: string, { accuracy, interval: [low, high] }: Score): string[] => [
    name,
    percent(accuracy),
    `${percent(low)} to ${percent(high)}`,
  ];
  print(
    `${bold(path)}  ${classes.length} classes, ${formatFixed(trainSamples, 0)} labelled and ${formatFixed(testSamples, 0)} held-out ${many}\n`,
  );
  const rows = [
    ['', '% correct', '95 % interval'],
    row('fine-tuned', finetuned),
    row('frozen, linear probe', frozen),
    row('from scratch', scratch),
  ];
  print(table(rows, [1]));
  print(`\n${formatFixed(steps, 0)} steps each, ${formatDuration(seconds)} in all`);
  if (out !== undefined) print(`${out}  gives logits, embeddings and tokens of ${many}`);
}

/** The result as values that JSON can hold. */
function plain({ classes, finetuned, scratch, ...rest }: FinetuneResult): object {
  const trained = ({ accuracy, interval, losses, seconds }: TrainedClassifier): object => ({
    accuracy,
    interval,
    loss: losses.at(-1),
    seconds,
  });
  return { classes, ...rest, finetuned: trained(finetuned), scratch: trained(scratch) };
}

/** `1%` is a share of the labels, `10` so many of each class. */
function labelsOf(text: string | undefined): FinetuneOptions['labels'] {
  if (text === undefined) return undefined;
  const [, number, percent] = /^([\d.]+)(%?)$/.exec(text) ?? [];
  const value = Number(number);
  if (percent && value > 0 && value <= 100) return { share: value / 100 };
  if (!percent && Number.isInteger(value) && value > 0) return { shots: value };
  throw new UsageError(`--labels ${text}: give a share as 1%, or a number of each class as 10`);
}

const given = (settings: Partial<FinetuneSettings>): Partial<FinetuneSettings> =>
  Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
