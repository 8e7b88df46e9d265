import pc from 'picocolors';

/** What views that are redrawn in place on a terminal share. */

/** Where progress is shown: `process.stderr`, or anything with the same few members. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  /** Characters to a line; 80 where unknown, which some terminals say by 0. */
  readonly columns?: number;
  write(text: string): unknown;
}

/** Milliseconds between two redraws, and between two plain lines. */
export const REDRAW = 80;
export const PLAIN = 10_000;

export type Colors = ReturnType<typeof pc.createColors>;
/** One thing to show: plain text for its width, and the same in colour. */
export type Piece = readonly [text: string, painted: string];

/** Whether a stream is redrawn in place (on a terminal), and its colours (`NO_COLOR`, `FORCE_COLOR`, `TERM`). */
export function looksOf(
  stream: ProgressStream,
  env: Readonly<Record<string, string | undefined>>,
): { readonly live: boolean; readonly colors: Colors } {
  const live = Boolean(stream.isTTY) && env.TERM !== 'dumb';
  return { live, colors: pc.createColors(env.FORCE_COLOR ? env.FORCE_COLOR !== '0' : live && !env.NO_COLOR) };
}

/** The last lines of a terminal. */
export interface LiveBlock {
  /** Characters that a line may have. */
  room(): number;
  /** Puts lines in the place of what is drawn, below a line that stays: one write, no flicker. */
  draw(lines: readonly Piece[], above?: string): void;
  /** Leaves the cursor on a fresh line. */
  end(): void;
}

export function liveBlock(stream: ProgressStream): LiveBlock {
  /** Widths of the lines on the screen, to find their first one again. */
  let drawn: number[] = [];
  const columns = (): number => Math.max(20, stream.columns || 80);
  return {
    room: () => columns() - 1,
    draw(lines, above) {
      // Terminals fold lines anew when they become narrower.
      const rows = drawn.reduce((sum, width) => sum + Math.max(1, Math.ceil(width / columns())), 0);
      drawn = lines.map(([text]) => length(text));
      const up = rows > 1 ? `\x1b[${rows - 1}A` : '';
      const stays = above === undefined ? '' : `\x1b[J${above}\n`;
      stream.write(
        `${up}${rows ? '\r' : ''}${stays}${lines.map(([, painted]) => `${painted}\x1b[K`).join('\n')}\x1b[J`,
      );
    },
    end() {
      if (drawn.length) stream.write('\n');
      drawn = [];
    },
  };
}

export function painted(text: string, paint: (text: string) => string): Piece {
  return [text, paint(text)];
}

export function present(pieces: readonly (Piece | undefined)[]): Piece[] {
  return pieces.filter((piece) => piece !== undefined);
}

/** Pieces with two spaces between, as many as fit. */
export function joined(pieces: readonly Piece[], room: number): Piece {
  let text = '';
  let painted = '';
  for (const [plain, colored] of pieces) {
    const gap = text ? '  ' : '';
    if (length(text) + gap.length + length(plain) > room) break;
    text += gap + plain;
    painted += gap + colored;
  }
  return [text, painted];
}

export function length(text: string): number {
  return [...text].length;
}
