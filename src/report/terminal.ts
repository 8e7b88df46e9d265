import type { Diagnosis } from '../eval/collapse.js';
import { formatClock, formatFixed, formatNumber } from './format.js';
import {
  type Colors,
  joined,
  length,
  liveBlock,
  looksOf,
  type Piece,
  PLAIN,
  type ProgressStream,
  painted,
  present,
  REDRAW,
} from './live.js';
import { severityOf } from './verdict.js';

export type { ProgressStream } from './live.js';

export interface ProgressOptions {
  /** Steps of the whole run; absent where the run ends by the clock. */
  readonly total?: number;
  /** What the run goes through; `images` by default. */
  readonly samples?: string;
  /** Whether a step is one of these, rather than one of a training. */
  readonly bySample?: boolean;
  readonly stream: ProgressStream;
  /** For `NO_COLOR`, `FORCE_COLOR` and `TERM`. Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds of a clock. Default `performance.now`. */
  readonly now?: () => number;
}

/** What is known after a step. What a later update leaves out keeps its last value. */
export interface ProgressUpdate {
  readonly step: number;
  /** Steps of the whole run, where that became known only after its start. */
  readonly total?: number;
  /** Share of the run that is done, where steps do not tell. */
  readonly fraction?: number;
  readonly loss?: number;
  readonly samplesPerSecond?: number;
  /** What the run goes through. */
  readonly samples?: string;
  readonly bySample?: boolean;
  readonly etaSeconds?: number;
  /** Signs of collapse, named as in `CollapseSigns`. */
  readonly rankme?: number;
  readonly width?: number;
  readonly featureStd?: number;
  readonly meanCosine?: number;
  readonly energyMatched?: number;
  readonly energyShuffled?: number;
  /** Online probe, per cent. */
  readonly knn?: number;
  readonly verdict?: Diagnosis;
}

export interface Progress {
  /** Shows the state of training; cheap enough to call after every step. */
  update(update: ProgressUpdate): void;
  /** Prints a line that stays, above the progress. */
  log(line: string): void;
  /** Shows the last state and leaves the cursor on a fresh line. Further calls do nothing. */
  finish(): void;
}

const BAR = 28;

/**
 * Shows how training goes. On a terminal, two lines that are redrawn in place; elsewhere (logs of CI, pipes, `TERM=dumb`),
 * one plain line now and then. A verdict that changes is printed whole, once, as a line that stays.
 */
export function createProgress(options: ProgressOptions): Progress {
  const { stream, env = process.env, now = () => performance.now() } = options;
  const { live, colors } = looksOf(stream, env);
  const block = liveBlock(stream);
  let state: ProgressUpdate | undefined;
  let shownAt = Number.NEGATIVE_INFINITY;
  let isShown = true;
  let isDone = false;

  function show(): void {
    if (!state) return;
    shownAt = now();
    isShown = true;
    if (live) block.draw(lines());
    else stream.write(`${plainLine(state, colors)}\n`);
  }

  const lines = (): Piece[] => (state ? liveLines(state, block.room(), colors) : []);

  function log(line: string): void {
    if (isDone || !live) stream.write(`${line}\n`);
    else {
      shownAt = now();
      isShown = true;
      block.draw(lines(), line);
    }
  }

  return {
    update(update) {
      if (isDone) return;
      const before = state?.verdict;
      const known = Object.fromEntries(Object.entries(update).filter(([, value]) => value !== undefined));
      const { total, samples, bySample } = options;
      state = { total, samples, bySample, ...state, ...known, step: update.step };
      const { verdict } = state;
      const isNews = verdict && verdict.verdict !== before?.verdict && (before || severityOf(verdict) !== 'good');
      isShown = false;
      if (isNews) log(`step ${formatFixed(state.step, 0)}: ${marked(verdict, verdict.message, colors)[1]}`);
      // Where lines stay, that of the last step waits for `finish`: more will be said of it.
      else if (live ? now() - shownAt >= REDRAW : now() - shownAt >= PLAIN && state.step !== state.total) show();
    },
    log,
    finish() {
      if (isDone) return;
      if (!isShown) show();
      block.end();
      isDone = true;
    },
  };
}

const MARKS = { good: ['●', 'green'], doubtful: ['▲', 'yellow'], bad: ['✗', 'red'] } as const;

/** Text about a verdict, with its mark. */
function marked(diagnosis: Diagnosis, text: string, colors: Colors): Piece {
  const [mark, paint] = MARKS[severityOf(diagnosis)];
  return painted(`${mark} ${text}`, colors[paint]);
}

function plainLine(state: ProgressUpdate, colors: Colors): string {
  const { verdict } = state;
  const pieces = [counter(state), share(state), ...numbers(state, colors), ...diagnostics(state, colors)];
  if (verdict) pieces.push(marked(verdict, verdict.verdict, colors));
  return present(pieces)
    .map(([, painted]) => painted)
    .join('  ');
}

/** The lines on a terminal, each at most `room` characters; what does not fit is left out from the right, the bar first. */
function liveLines(state: ProgressUpdate, room: number, colors: Colors): Piece[] {
  const done = fractionOf(state);
  const first = present([counter(state), share(state), ...numbers(state, colors)]);
  const used = first.reduce((sum, [text]) => sum + 2 + length(text), 0);
  const bar = Math.min(BAR, room - used);
  if (done !== undefined && bar >= 8) {
    const full = Math.round(done * bar);
    const [left, right] = ['━'.repeat(full), '─'.repeat(bar - full)];
    first.unshift([left + right, colors.cyan(left) + colors.dim(right)]);
  }
  const lines = [joined(first, room)];
  const { verdict } = state;
  const second = present([verdict && marked(verdict, verdict.verdict, colors), ...diagnostics(state, colors)]);
  if (second.length) lines.push(joined(second, room));
  return lines;
}

function counter({ step, total, samples, bySample }: ProgressUpdate): Piece {
  const count = `${formatFixed(step, 0)}${total === undefined ? '' : `/${formatFixed(total, 0)}`}`;
  const text = bySample ? `${count} ${samples}` : `step ${count}`;
  return [text, text];
}

function fractionOf({ step, total, fraction }: ProgressUpdate): number | undefined {
  const done = fraction ?? (total ? step / total : undefined);
  return done === undefined ? undefined : Math.min(1, Math.max(0, done));
}

function share(state: ProgressUpdate): Piece | undefined {
  const done = fractionOf(state);
  if (done === undefined) return undefined;
  const text = `${Math.floor(done * 100 + 1e-9)} %`;
  return [text, text];
}

function numbers(
  { loss, samplesPerSecond, samples = 'images', etaSeconds }: ProgressUpdate,
  colors: Colors,
): (Piece | undefined)[] {
  return [
    named('loss', loss === undefined ? undefined : lossText(loss), colors),
    etaSeconds === undefined ? undefined : painted(`${formatClock(etaSeconds)} left`, (text) => text),
    samplesPerSecond === undefined
      ? undefined
      : painted(`${formatFixed(samplesPerSecond, samplesPerSecond < 10 ? 1 : 0)} ${samples}/s`, colors.dim),
  ];
}

/** Four digits of a loss, always as wide, so that the line does not jump. */
function lossText(loss: number): string {
  return loss >= 1e-3 && loss < 1e4 ? loss.toPrecision(4) : formatNumber(loss, 4);
}

function diagnostics(state: ProgressUpdate, colors: Colors): (Piece | undefined)[] {
  const { rankme, width, featureStd, meanCosine, energyMatched, energyShuffled, knn } = state;
  const ofWidth = width === undefined ? '' : `/${width}`;
  return [
    named('rank', rankme === undefined ? undefined : `${formatFixed(rankme, rankme < 10 ? 1 : 0)}${ofWidth}`, colors),
    named('k-NN', knn === undefined ? undefined : `${formatFixed(knn, 1)} %`, colors),
    named('spread', featureStd === undefined ? undefined : formatFixed(featureStd, 2), colors),
    named('cosine', meanCosine === undefined ? undefined : formatFixed(meanCosine, 2), colors),
    named(
      'energy',
      energyMatched === undefined || energyShuffled === undefined
        ? undefined
        : `${formatNumber(energyMatched, 2)}/${formatNumber(energyShuffled, 2)}`,
      colors,
    ),
  ];
}

function named(name: string, value: string | undefined, colors: Colors): Piece | undefined {
  return value === undefined ? undefined : [`${name} ${value}`, `${colors.dim(name)} ${value}`];
}
