import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/atomic.js';
import { createRandom } from '../base/random.js';
import type { EpisodeDataset } from '../data/episodes/dataset.js';
import { wordsOf } from '../data/modality.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import { untrainedValues } from '../methods/method.js';
import { isActionConditioned } from '../methods/vjepa2-ac.js';
import { formatClock, formatFixed } from '../report/format.js';
import { type NextStep, type WrittenFile, writeReport } from '../report/index.js';
import { severityOf } from '../report/verdict.js';
import type { State } from '../runtime/index.js';
import { type ActionScores, actionScores } from '../train/actions.js';
import { scalingOf } from '../train/build.js';
import { exportOnnx } from '../train/export.js';
import { installMethod, trainedEncoder } from '../train/frozen.js';
import { type ProbeResult, probe, probePercents } from '../train/probe.js';
import { openLatentWorld, worldModelStates } from '../world/latent.js';
import { probeStates } from '../world/measure.js';
import { isWorldModel, type WorldModelMethod } from '../world/world-model.js';
import { bold, dim, mark, print, printJson, stages, table } from './output.js';
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
  /** Of world models: numbers of the world's state told from states of the model, held out; beside random weights. */
  readonly states?: {
    readonly r2: number;
    readonly rmse: number;
    readonly random: { readonly r2: number; readonly rmse: number };
  };
  /** Of V-JEPA 2-AC: errors of predicted frames by steps ahead, held out. */
  readonly actions?: ActionScores;
}

/** Ends a trained run: probes, export, report, `result.json`, and what a person wants to know on stdout. Ends the engine. */
export async function finishRun(run: TrainedRun, options: FinishOptions): Promise<void> {
  const { folder, trained, config, data } = run;
  const stage = stages();
  let probes: ProbeResult | undefined;
  let states: RunResult['states'];
  let actions: ActionScores | undefined;
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
      if (isWorldModel(trained.method)) {
        stage.show('where things are, told from states');
        states = await statesTold(run, trained.method);
      }
      if (isActionConditioned(trained.method)) {
        stage.show('frames ahead');
        const { method, facts, engine, state } = trained;
        actions = await actionScores({ engine, method, state, config, facts, test: data.test });
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
    ...(states && { states }),
    ...(actions && { actions }),
    ...(last && { verdict: last.verdict, rankme: last.rankme, width: last.width }),
  };
  // Written last: it says that the run is complete.
  writeFileAtomic(join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  if (options.json) printJson({ folder, ...result });
  else show(run, result, options);
}

/** What the model knows of where things are, beside the same with random weights. */
async function statesTold(
  { config, data, trained }: TrainedRun,
  method: WorldModelMethod,
): Promise<RunResult['states']> {
  const { engine, facts } = trained;
  const parts = [data.train, data.test] as [EpisodeDataset, EpisodeDataset];
  if (parts[0].shape.state === 0) return undefined;
  const told = async (state: State) => {
    const model = await openLatentWorld(engine, state, worldModelStates(method), scalingOf(config, facts));
    const { r2, rmse } = await probeStates(model, ...parts);
    await model.close();
    return { r2, rmse };
  };
  const random = createRandom(config.train.seed, 'random encoder');
  const fresh = await installMethod(engine, method, untrainedValues(method, random));
  return { ...(await told(trained.state)), random: await told(fresh) };
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
  if (result.states) {
    const { states } = result;
    const row = (name: string, { r2, rmse }: typeof states.random): string[] => [
      name,
      formatFixed(r2, 3),
      formatFixed(rmse, 2),
    ];
    print();
    print(
      table(
        [
          ['where things are, told linearly from states', 'R2', 'error'],
          row('this model', states),
          row('random weights', states.random),
        ],
        [1, 2],
      ),
    );
  }
  if (result.actions) {
    print();
    showActions(result.actions);
  }
  print();
  print(table(writtenFiles(run.folder).map(({ path, what }) => [path, what])));
  if (!isProbed) return;
  print(`\n${bold('What to do next')}`);
  for (const { what, command } of nextSteps(run)) print(`  ${command}\n      ${what}`);
}

/** Errors of predicted frames by steps ahead. */
export function showActions({ ahead, windows }: ActionScores): void {
  const rows = ahead.map(({ predicted, misled, still }, d) =>
    [d + 1, ...[predicted, misled, still].map((error) => error.toPrecision(3))].map(String),
  );
  const head = ['steps ahead', 'error of the prediction', 'told of other actions', 'standing still'];
  print(table([head, ...rows], [0, 1, 2, 3]));
  print(dim(`mean absolute differences of representations over ${formatFixed(windows, 0)} held-out windows`));
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
  const isVit = isImages && typeof encoder === 'object' && 'kind' in encoder && encoder.kind === 'vit';
  const isWorld = config.method.name === 'world-model';
  const isModel = isWorld || config.method.name === 'vjepa2-ac';
  const steps: (NextStep | false)[] = [
    isModel && {
      what: 'Reach goals by planning with it',
      command: `jepa plan ${folder} --episodes ${isWorld ? 100 : 20}`,
    },
    { what: `Turn ${many} into vectors`, command: `jepa embed ${folder} ${own}/ --out ${own}.parquet` },
    isImages && { what: 'Find the images most like one', command: `jepa search ${folder} photos/ --like one.png` },
    isVit && { what: 'Take the encoder to a web page (transformers.js)', command: `jepa export ${folder} --out web/` },
    name === 'quickstart' && { what: 'Learn for longer', command: 'jepa quickstart --minutes 30 --out runs/long' },
    !isGiven &&
      name !== 'quickstart' && {
        what: 'Learn for longer',
        command: `jepa train ${join(folder, 'config.yaml')} train.minutes=60`,
      },
    isGiven &&
      !isModel && {
        what: `Learn from ${many} of your own`,
        command: isImages ? 'jepa train images data.source=photos/' : `jepa train ${name} data.source=${own}/`,
      },
  ];
  return steps.filter((step) => step !== false);
}
