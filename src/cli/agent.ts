import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Frame, Life, LifeResult } from '../agent/life.js';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import { openJsonl } from '../hub/jsonl.js';
import { createAgentView } from '../report/agent-terminal.js';
import { formatDuration, formatMeasure, formatNumber } from '../report/format.js';
import { type Headline, type LifeReport, type MeanOf, writeReport } from '../report/index.js';
import { createEngine } from '../runtime/engine.js';
import type { Engine } from '../runtime/program.js';
import { type AgentConfig, lengthSettings, lifeOf, parseAgentConfig } from './agent-config.js';
import { catchInterrupts } from './interrupt.js';
import { mark, notice, print, printJson, table } from './output.js';
import { checkRunFolder, namesIn } from './outputs.js';
import { readSettings, runFolder, yamlText } from './settings.js';

export interface AgentCommandOptions {
  readonly out?: string;
  readonly seed?: number;
  readonly seeds?: string;
  readonly steps?: number;
  readonly episodes?: number;
  readonly json?: boolean;
}

/** Frames of a part that a report can replay. */
const REPLAYED = 600;
/** Milliseconds after which Ctrl-C and the terminal get their turn. */
const TURN = 40;

/** `jepa agent <recipe> [key=value ...]`: lives as often as there are seeds, and writes result and report. */
export async function agent(recipe: string, overrides: readonly string[], options: AgentCommandOptions): Promise<void> {
  const seeds = seedsOf(options);
  const { config: asGiven } = readSettings(recipe, overrides, parseAgentConfig);
  const lengths = lengthSettings(asGiven, options.steps, options.episodes);
  const { name, config } = readSettings(recipe, [...overrides, ...lengths], parseAgentConfig);
  const folder = options.out ?? runFolder(name);
  const names = namesIn(folder);
  if (names.includes('result.json') || names.includes('steps.jsonl'))
    throw new UsageError(`${folder} holds a run already; choose another folder with --out`);
  checkRunFolder(folder, yamlText(config));
  withFileErrors('create', folder, () => mkdirSync(folder, { recursive: true }));
  writeFileAtomic(join(folder, 'config.yaml'), yamlText(config));

  const life = lifeOf(config);
  const view = createAgentView({ title: life.title, stage: life.stage, stream: process.stderr });
  const interrupts = catchInterrupts(() => view.log('stopping after this step; Ctrl-C again leaves at once'));
  const steps = openJsonl(join(folder, 'steps.jsonl'));
  const chapters = new Map<string, Frame[]>();
  const results: LifeResult[] = [];
  const began = performance.now();
  let engine: Engine | undefined;
  let lastTurn = began;
  try {
    for (const seed of seeds) {
      if (interrupts.signal.aborted) break;
      const prefix = seeds.length > 1 ? `seed ${seed}: ` : '';
      const lived = await unlessStopped(interrupts.signal, () =>
        life.live({
          seed,
          signal: interrupts.signal,
          engine: async () => {
            engine ??= await createEngine({ workers: 1 });
            return engine;
          },
          phase: (part, count) => view.phase(`${prefix}${part}`, count),
          async step(frame) {
            view.step(frame);
            if (frame?.own) {
              const { picture, ...told } = frame;
              steps.append({ seed, ...told });
              if (seed === seeds[0]) keep(chapters, frame);
            }
            if (performance.now() - lastTurn < TURN) return;
            // Everything else here is promises: without a turn of the event loop no signal would come through.
            await new Promise((resolve) => setImmediate(resolve));
            lastTurn = performance.now();
          },
        }),
      );
      if (lived) results.push(lived);
    }
  } finally {
    view.finish();
    interrupts.release();
    steps.close();
    await engine?.close();
  }
  const seconds = (performance.now() - began) / 1000;
  const interrupted = interrupts.signal.aborted;
  const summary = summaryOf(results);
  const cores = availableParallelism();
  const result = {
    recipe: name,
    seeds: seeds.slice(0, results.length),
    seconds: Math.round(seconds * 10) / 10,
    interrupted,
    ...summary,
  };
  await writeReport(join(folder, 'report.html'), {
    title: life.title,
    method: 'Autonomous agent',
    summary: life.about,
    headline: headlineOf(life, summary),
    life: {
      stage: life.stage,
      measures: life.measures,
      seeds: results.length,
      ...summary,
      chapters: [...chapters].map(([part, frames]) => ({ name: part, frames })),
    },
    configuration: yamlText(config),
    environment: [
      { name: 'Seeds', value: seeds.join(', ') },
      { name: 'Time', value: formatDuration(seconds) },
      { name: 'Machine', value: `Node ${process.versions.node}, ${cores} ${cores === 1 ? 'core' : 'cores'}` },
    ],
    next: nextSteps(name, config),
  });
  writeFileAtomic(join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  if (options.json) printJson({ folder, ...result });
  else show(folder, life, summary, results.length, seconds);
  if (!interrupted) return;
  notice(
    `interrupted: ${results.length} of ${seeds.length} lives are complete; every step is in ${join(folder, 'steps.jsonl')}`,
  );
  process.exitCode = 130;
}

function seedsOf({ seed, seeds }: AgentCommandOptions): number[] {
  if (seeds === undefined) return [seed ?? 0];
  if (seed !== undefined) throw new UsageError('--seed and --seeds say the same; give one of them');
  const list = seeds.split(',').map((text) => (/^\s*\d+\s*$/.test(text) ? Number(text) : Number.NaN));
  if (list.some(Number.isNaN))
    throw new UsageError(`--seeds ${seeds}: give whole numbers with commas between, as 0,1,2`);
  return list;
}

/** What `run` gives, or undefined if it ended because the signal was raised. */
async function unlessStopped<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (signal.aborted && error === signal.reason) return undefined;
    throw error;
  }
}

/** The first frames of every part. */
function keep(chapters: Map<string, Frame[]>, frame: Frame): void {
  const frames = chapters.get(frame.phase) ?? [];
  if (frames.length < REPLAYED) frames.push(frame);
  chapters.set(frame.phase, frames);
}

type Summary = Pick<LifeReport, 'lived' | 'checks' | 'learned'>;

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function meanAndError(values: readonly number[]): MeanOf {
  const mean = meanOf(values);
  if (values.length < 2) return { mean };
  const variance = values.reduce((total, v) => total + (v - mean) ** 2, 0) / (values.length - 1);
  return { mean, error: Math.sqrt(variance / values.length) };
}

/** Means over seeds; a claim holds if it holds for every seed. */
function summaryOf(results: readonly LifeResult[]): Summary {
  const [first] = results;
  if (!first) return { lived: [], checks: [], learned: [] };
  return {
    lived: first.lived.map(({ name, kind, values }, i) => ({
      name,
      kind,
      values: Object.fromEntries(
        Object.keys(values).map((key) => [key, meanAndError(results.map(({ lived }) => lived[i].values[key]))]),
      ),
    })),
    checks: first.checks.map(({ claim }, i) => ({
      claim,
      value: meanOf(results.map(({ checks }) => checks[i].value)),
      passed: results.every(({ checks }) => checks[i].passed),
    })),
    learned: first.learned.map((one, i) => ({ ...one, value: meanOf(results.map(({ learned }) => learned[i].value)) })),
  };
}

function headlineOf({ measures }: Life, { lived }: Summary): Headline[] {
  const own = lived.find(({ kind }) => kind === 'agent');
  if (!own) return [];
  const [first] = measures;
  const floors = lived.filter(({ kind }) => kind === 'floor');
  return [
    {
      name: `${first.name}, agent`,
      value: formatMeasure({ mean: own.values[first.name].mean }, first),
      note: first.about,
    },
    ...floors.map(({ name, values }) => ({
      name: `${first.name}, ${name.split(':')[0]}`,
      value: formatMeasure({ mean: values[first.name].mean }, first),
      note: 'floor',
    })),
  ];
}

const nextSteps = (name: string, { life }: AgentConfig) => [
  { what: 'Several lives, with standard errors', command: `jepa agent ${name} --seeds 0,1,2` },
  {
    day: { what: 'A harder world', command: `jepa agent ${name} world.slip=0.2 senses.silent=0.5` },
    skill: { what: 'A narrower way', command: `jepa agent ${name} rooms.door=50` },
    shift: { what: 'Only the walls shift', command: `jepa agent ${name} gain=1` },
  }[life],
];

function show(
  folder: string,
  { measures }: Life,
  { lived, checks, learned }: Summary,
  seeds: number,
  seconds: number,
): void {
  if (lived.length > 0) {
    print();
    print(
      table(
        [
          [
            seeds > 1 ? `means and standard errors over ${seeds} seeds` : 'one seed',
            ...measures.map(({ name }) => name),
          ],
          ...lived.map(({ name, kind, values }) => [
            `${kind === 'floor' ? 'floor: ' : ''}${name}`,
            ...measures.map((measure) => formatMeasure(values[measure.name], measure)),
          ]),
        ],
        measures.map((_, i) => i + 1),
      ),
    );
    if (learned.length > 0) print();
    for (const { part, value, beside } of learned) print(`${part}: ${formatNumber(value)} (${beside})`);
    print();
    for (const { claim, value, passed } of checks)
      print(`${mark(passed ? 'ok' : 'fail')} ${claim} (${formatNumber(value)})`);
  }
  print();
  print(
    table([
      [join(folder, 'report.html'), 'the report: every step to replay, in a browser'],
      [join(folder, 'steps.jsonl'), 'every step of the agent'],
      [join(folder, 'result.json'), `the result in numbers (${formatDuration(seconds)})`],
    ]),
  );
}
