import type { Frame, Point, Stage } from '../agent/life.js';
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
  REDRAW,
} from './live.js';

export interface AgentViewOptions {
  readonly title: string;
  readonly stage: Stage;
  readonly stream: ProgressStream;
  /** For `NO_COLOR`, `FORCE_COLOR` and `TERM`. Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds of a clock. Default `performance.now`. */
  readonly now?: () => number;
}

/** A life, watched while it happens. */
export interface AgentView {
  /** A part of the life begins. */
  phase(name: string, steps: number): void;
  /** A step of it; with a frame where it was the agent's. */
  step(frame?: Frame): void;
  /** Prints a line that stays. */
  log(line: string): void;
  finish(): void;
}

interface Now {
  readonly phase: string;
  readonly steps: number;
  readonly began: number;
  done: number;
  thought: number;
  frame?: Frame;
}

/**
 * Shows an agent at work: where it is and what it imagines as a map, its mode and reason, the energy of every term of its
 * cost, levels, memory and plan. On a terminal it is redrawn in place; elsewhere one plain line appears now and then.
 */
export function createAgentView({
  title,
  stage,
  stream,
  env = process.env,
  now = () => performance.now(),
}: AgentViewOptions): AgentView {
  const { live, colors } = looksOf(stream, env);
  const block = liveBlock(stream);
  let state: Now | undefined;
  let shownAt = Number.NEGATIVE_INFINITY;
  /** The largest energy of a term so far: the full length of a bar. */
  let most = 1e-6;

  const lines = (): Piece[] =>
    state ? drawn({ title, stage, state, most, seconds: (now() - state.began) / 1000 }, block.room(), colors) : [];
  function show(): void {
    if (!state) return;
    shownAt = now();
    if (live) block.draw(lines());
    else stream.write(`${plainLine(state, stage)}\n`);
  }
  function log(line: string): void {
    if (live) block.draw(lines(), line);
    else stream.write(`${line}\n`);
  }
  function closePhase(): void {
    if (!state || state.done === 0) return;
    const seconds = (now() - state.began) / 1000;
    const summary = `${state.phase}: ${formatFixed(state.done, 0)} steps in ${formatClock(seconds)}`;
    // What is drawn is of the part that ended: the line that stays takes its place.
    state = undefined;
    log(colors.dim(summary));
  }
  return {
    phase(name, steps) {
      closePhase();
      state = { phase: name, steps, began: now(), done: 0, thought: 0 };
      if (!live) shownAt = now();
    },
    step(frame) {
      if (!state) return;
      state.done++;
      if (frame) {
        state.frame = frame;
        if (frame.mode === 2) state.thought++;
        for (const cost of frame.costs) if (Number.isFinite(cost)) most = Math.max(most, Math.abs(cost));
      }
      if (now() - shownAt >= (live ? REDRAW : PLAIN)) show();
    },
    log,
    finish() {
      closePhase();
      block.end();
    },
  };
}

const share = (done: number, of: number): string => `${Math.floor((100 * done) / Math.max(1, of) + 1e-9)} %`;

function plainLine({ phase, done, steps, frame, thought }: Now, { terms }: Stage): string {
  const counted = `${phase}: step ${formatFixed(done, 0)}/${formatFixed(steps, 0)}  ${share(done, steps)}`;
  if (!frame) return counted;
  const costs = terms.map((name, i) => `${name} ${formatNumber(frame.costs[i], 2)}`);
  return [
    counted,
    ...(frame.clock ? [frame.clock] : []),
    `mode ${frame.mode} (2: ${share(thought, done)})`,
    ...costs,
    `memory ${formatFixed(frame.remembered, 0)}/${formatFixed(frame.capacity, 0)}`,
    `surprise ${formatNumber(frame.surprise, 2)}`,
    ...(frame.verdict === 'kept' ? [] : [`shield: ${frame.verdict}`]),
  ].join('  ');
}

// On a terminal --------------------------------------------------------------------------------------------------------

interface Scene {
  readonly title: string;
  readonly stage: Stage;
  readonly state: Now;
  readonly most: number;
  readonly seconds: number;
}

const [COLUMNS, ROWS] = [24, 12];
/** Narrower terminals do without the map. */
const MAP_FROM = 68;

function drawn(scene: Scene, room: number, colors: Colors): Piece[] {
  const { title, state, stage } = scene;
  const head: Piece = joined([painted(title, colors.bold), painted(state.phase, colors.cyan)], room);
  const { frame } = state;
  if (!frame) return [head, progress(scene, Math.min(room, 64), colors)];
  const withMap = room >= MAP_FROM;
  const map = withMap ? mapOf(stage, frame, colors) : [];
  const beside = facts(scene, frame, withMap ? room - COLUMNS - 5 : room, colors);
  const height = Math.max(map.length, beside.length);
  const body = Array.from({ length: height }, (_, i): Piece => {
    const right = beside[i] ?? ['', ''];
    if (!withMap) return right;
    const left = map[i] ?? painted(' '.repeat(COLUMNS + 2), (text) => text);
    return [`${left[0]}   ${right[0]}`, `${left[1]}   ${right[1]}`];
  });
  return [head, ...body];
}

function progress({ state, seconds }: Scene, room: number, colors: Colors): Piece {
  const { done, steps } = state;
  const left = done > 0 ? ` · ${formatClock((seconds * (steps - done)) / done)} left` : '';
  const text = `${formatFixed(done, 0)}/${formatFixed(steps, 0)}${left}`;
  const width = Math.max(0, Math.min(24, room - length(text) - 2));
  const full = Math.round((width * done) / Math.max(1, steps));
  const [a, b] = ['━'.repeat(full), '─'.repeat(width - full)];
  return [`${a}${b}  ${text}`, `${colors.cyan(a)}${colors.dim(b)}  ${text}`];
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of at most `width` characters, in eighths, and blanks up to it. */
function bar(value: number, width: number): string {
  const eighths = Math.round(8 * width * Math.min(1, Math.max(0, Number.isFinite(value) ? value : 0)));
  const text = '█'.repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
  return text + ' '.repeat(width - length(text));
}

const LABEL = 9;
const BAR = 14;

function facts(scene: Scene, frame: Frame, room: number, colors: Colors): Piece[] {
  const { stage, most, state } = scene;
  const label = (text: string): Piece => painted(text.slice(0, LABEL - 1).padEnd(LABEL), colors.dim);
  const row = (name: string, ...pieces: readonly Piece[]): Piece => {
    const [text, shown] = joined(pieces, room - LABEL);
    const [plain, dim] = label(name);
    return [plain + text, dim + shown];
  };
  const plain = (text: string): Piece => [text, text];
  const mode: Piece = frame.mode === 2 ? painted('2 thought', colors.yellow) : painted('1 habit', colors.green);
  const safe: Piece =
    frame.verdict === 'kept'
      ? painted('kept', colors.dim)
      : painted(`${frame.verdict}: ${frame.broken.join(', ')}`, colors.red);
  const energies = stage.terms.map((name, i) =>
    row(
      name,
      painted(bar(frame.costs[i] / most, BAR), colors.magenta),
      plain(formatNumber(frame.costs[i], 3).padStart(5)),
    ),
  );
  const levels = stage.levels.map((name, i) =>
    row(name, painted(bar(frame.levels[i], BAR), colors.blue), plain(formatFixed(frame.levels[i], 2).padStart(5))),
  );
  const plan: Piece[] = frame.plan
    ? [
        plain(`${formatNumber(frame.proposal?.energy ?? Number.NaN, 3)} → ${formatNumber(frame.plan.energy, 3)}`),
        painted(`${formatFixed(frame.tried, 0)} imagined`, colors.dim),
        plain(arrows(frame.place, frame.plan.points)),
      ]
    : [painted('none: acts at once', colors.dim)];
  return [
    progress(scene, room, colors),
    ...(frame.clock ? [row('clock', plain(frame.clock))] : []),
    row('mode', mode, painted(`2 in ${share(state.thought, state.done)} of steps`, colors.dim)),
    row('why', plain(frame.reason)),
    ...energies,
    ...levels,
    row(
      'memory',
      painted(bar(frame.remembered / frame.capacity, BAR), colors.cyan),
      plain(formatFixed(frame.remembered, 0).padStart(5)),
      painted(`knows this ${formatFixed(frame.known, 2)}`, colors.dim),
    ),
    row('surprise', plain(formatNumber(frame.surprise, 2))),
    row('plan', ...plan),
    row('shield', safe),
  ];
}

const ARROWS = ['→', '↘', '↓', '↙', '←', '↖', '↑', '↗'];

/** The course as arrows, y downwards; a dot where it rests. */
function arrows(from: Point, points: readonly Point[]): string {
  return points
    .map(([x, y], i) => {
      const [a, b] = points[i - 1] ?? from;
      const [dx, dy] = [x - a, y - b];
      if (Math.hypot(dx, dy) < 0.1) return '·';
      return ARROWS[(Math.round((4 * Math.atan2(dy, dx)) / Math.PI) + 8) % 8];
    })
    .join('');
}

/** The plane from above: one character a cell. */
function mapOf(stage: Stage, frame: Frame, colors: Colors): Piece[] {
  const [wide, high] = [stage.width / COLUMNS, stage.height / ROWS];
  const cells: Piece[][] = Array.from({ length: ROWS }, (_, r) =>
    Array.from({ length: COLUMNS }, (_, c): Piece => {
      const [x, y] = [(c + 0.5) * wide, (r + 0.5) * high];
      const place = stage.places.find(
        ({ at, radius, half, parts }) =>
          (parts?.includes(frame.phase) ?? true) &&
          (half
            ? // What is thinner than a cell is drawn where its middle is.
              Math.abs(x - at[0]) <= Math.max(half[0], wide / 2) && Math.abs(y - at[1]) <= Math.max(half[1], high / 2)
            : Math.hypot(x - at[0], y - at[1]) <= (radius ?? 0)),
      );
      if (!place) return [' ', ' '];
      if (place.kind === 'wall') return painted('█', colors.dim);
      if (place.kind === 'goal') return painted('≈', colors.blue);
      return frame.danger ? painted('▓', colors.red) : painted('░', colors.dim);
    }),
  );
  const put = ([x, y]: Point, piece: Piece): void => {
    const [r, c] = [Math.floor((y * ROWS) / stage.height), Math.floor((x * COLUMNS) / stage.width)];
    cells[Math.min(ROWS - 1, Math.max(0, r))][Math.min(COLUMNS - 1, Math.max(0, c))] = piece;
  };
  for (const point of frame.plan?.points ?? []) put(point, painted('•', colors.yellow));
  if (frame.subgoal) put(frame.subgoal, painted('×', colors.cyan));
  frame.movers.forEach((point, i) => {
    put(point, painted(stage.movers[i][0].toUpperCase(), colors.green));
  });
  put(frame.place, painted('@', colors.bold));
  const [edge, side] = ['─'.repeat(COLUMNS), colors.dim('│')];
  return [
    painted(`┌${edge}┐`, colors.dim),
    ...cells.map(
      (row): Piece => [`│${row.map(([text]) => text).join('')}│`, side + row.map(([, shown]) => shown).join('') + side],
    ),
    painted(`└${edge}┘`, colors.dim),
  ];
}
