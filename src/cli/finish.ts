import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/atomic.js';
import { wordsOf } from '../data/modality.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import { formatClock, formatFixed } from '../report/format.js';
import { type NextStep, type WrittenFile, writeReport } from '../report/index.js';
import { severityOf } from '../report/verdict.js';
import { exportOnnx } from '../train/export.js';
import { trainedEncoder } from '../train/frozen.js';
import { type ProbeResult, probe, probePercents } from '../train/probe.js';
import { bold, mark, print, printJson, stages, table } from './output.js';
import { runReport } from './report.js';
import type { TrainedRun } from './run.js';

export interface FinishOptions {
  /** False leaves out probes, report and export. */
  readonly probe: boolean;
  readonly json: boolean;
}

/** What stands in `result.json`. Accuracies are per cent. */
interface RunResult extends Partial<ReturnType<typeof probePercents>> {
  /** Training, with opening the data and compiling, without probes and report. */
  readonly seconds: number;
  readonly steps: number;
  readonly verdict?: string;
  readonly rankme?: number;
  readonly width?: number;
}

/** Ends a trained run: probes, export, report, `result.json`, and what a person wants to know on stdout. Ends the engine. */
export async function finishRun(run: TrainedRun, options: FinishOptions): Promise<void> {
  const { folder, trained, config, data } = run;
  const stage = stages();
  let probes: ProbeResult | undefined;
  try {
    if (options.probe) {
      const encoder = await trainedEncoder(trained, config, run.name);
      if (data.train.labels && data.test.labels) {
        probes = await probe({
          encoder,
          train: data.train,
          test: data.test,
          engine: trained.engine,
          seed: config.train.seed,
          attributes: true,
          attentive: config.data.kind === 'video',
          loading: { threads: config.data.threads, maxCorrupt: config.data.maxCorrupt },
          onStage: (what) => stage.show(`probing ${what}`),
        });
      }
      stage.show('writing encoder.onnx');
      exportOnnx(encoder, join(folder, 'encoder.onnx'));
      const report = await runReport({
        run,
        encoder,
        probes,
        files: writtenFiles(folder, ['report.html', 'result.json']),
        next: nextSteps(run),
        onStage: stage.show,
      });
      await writeReport(join(folder, 'report.html'), report);
    }
  } finally {
    stage.end();
    await trained.close();
  }
  const { last } = trained;
  const result: RunResult = {
    ...(probes && probePercents(probes)),
    seconds: Math.round(run.seconds * 10) / 10,
    steps: trained.steps,
    ...(last && { verdict: last.verdict, rankme: last.rankme, width: last.width }),
  };
  // Written last: it says that the run is complete.
  writeFileAtomic(join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  if (options.json) printJson({ folder, ...result });
  else show(run, result, options);
}

function show(run: TrainedRun, result: RunResult, { probe: isProbed }: FinishOptions): void {
  const { last } = run.trained;
  print();
  if (last)
    print(`${mark(({ good: 'ok', doubtful: 'warn', bad: 'fail' } as const)[severityOf(last)])} ${last.message}`);
  const { probe: own, raw, random } = result;
  print(`${formatFixed(result.steps, 0)} steps in ${formatClock(result.seconds)}`);
  if (own && raw && random) {
    const { many, raw: rawName } = wordsOf(run.data.train);
    const row = (name: string, { linear, knn, attentive }: typeof own) => [
      name,
      formatFixed(linear, 1),
      formatFixed(knn, 1),
      ...(attentive === undefined ? [] : [formatFixed(attentive, 1)]),
    ];
    print();
    print(
      table(
        [
          [`held-out ${many}, % correct`, 'linear', '20-NN', ...(own.attentive === undefined ? [] : ['attentive'])],
          row('this encoder, frozen', own),
          row(rawName, raw),
          row('random weights', random),
        ],
        [1, 2, 3],
      ),
    );
  }
  print();
  print(table(writtenFiles(run.folder).map(({ path, what }) => [path, what])));
  if (!isProbed) return;
  print(`\n${bold('What to do next')}`);
  for (const { what, command } of nextSteps(run)) print(`  ${command}\n      ${what}`);
}

const FILES: Readonly<Record<string, string>> = {
  'report.html': 'the report: open it in a browser',
  'encoder.onnx': 'the encoder, for any ONNX runtime',
  checkpoint: 'weights, moments and schedules; training goes on from here',
  'metrics.jsonl': 'every number of every step',
  'config.yaml': 'the whole configuration',
  'result.json': 'the result in numbers',
};

/** The files of a run, and those that will be there in a moment (a report lists itself). */
function writtenFiles(folder: string, coming: readonly string[] = []): WrittenFile[] {
  const present = new Set([...readdirSync(folder), ...coming]);
  return Object.entries(FILES).flatMap(([name, what]) => {
    if (!present.has(name)) return [];
    const path = join(folder, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isDirectory()) return [{ path, what, bytes: stat?.size }];
    const sizes = readdirSync(path).map((file) => statSync(join(path, file)).size);
    return [{ path: `${path}/`, what, bytes: sizes.reduce((a, b) => a + b, 0) }];
  });
}

function nextSteps({ folder, name, config, data }: TrainedRun): NextStep[] {
  const isImages = config.data.kind === 'image';
  const { many } = wordsOf(data.train);
  const own = isImages ? 'photos' : many;
  const isGiven = config.data.source === 'glyphs' || config.data.source.startsWith(PROCEDURAL);
  const encoder = config.method.encoder;
  const isVit = isImages && 'kind' in encoder && encoder.kind === 'vit';
  const steps: (NextStep | false)[] = [
    { what: `Turn ${many} into vectors`, command: `jepa embed ${folder} ${own}/ --out ${own}.parquet` },
    isImages && { what: 'Find the images most like one', command: `jepa search ${folder} photos/ --like one.png` },
    isVit && { what: 'Take the encoder to a web page (transformers.js)', command: `jepa export ${folder} --out web/` },
    name === 'quickstart' && { what: 'Learn for longer', command: 'jepa quickstart --minutes 30 --out runs/long' },
    !isGiven &&
      name !== 'quickstart' && {
        what: 'Learn for longer',
        command: `jepa train ${join(folder, 'config.yaml')} train.minutes=60`,
      },
    isGiven && {
      what: `Learn from ${many} of your own`,
      command: isImages ? 'jepa train images data.source=photos/' : `jepa train ${name} data.source=${own}/`,
    },
  ];
  return steps.filter((step) => step !== false);
}
