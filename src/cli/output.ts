import pc from 'picocolors';

/** Results are for stdout, so that they can be piped; everything else is for stderr. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

export function notice(text: string): void {
  process.stderr.write(`${text}\n`);
}

const plainLength = (text: string): number => [...text].length;

/** Rows in columns with two spaces between; numbers (columns that `right` names) stand to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, plainLength(cell));
    });
  }
  const pad = (cell: string, i: number, isLast: boolean): string => {
    const space = ' '.repeat(widths[i] - plainLength(cell));
    if (right.includes(i)) return space + cell;
    return isLast ? cell : cell + space;
  };
  return rows.map((row) => row.map((cell, i) => pad(cell, i, i === row.length - 1)).join('  ')).join('\n');
}

const MARKS = { ok: pc.green('✓'), warn: pc.yellow('!'), fail: pc.red('✗') } as const;
export type Mark = keyof typeof MARKS;
export const mark = (kind: Mark): string => MARKS[kind];
export const { bold, dim } = pc;

export interface Stages {
  show(what: string): void;
  /** Numbers that change often: shown on a terminal only. */
  update(what: string): void;
  end(): void;
}

/** Says on stderr what is done at the moment: one line that is replaced on a terminal, one line each elsewhere. */
export function stages(): Stages {
  const live = Boolean(process.stderr.isTTY) && process.env.TERM !== 'dumb';
  return {
    show: (what) => process.stderr.write(live ? `\r\x1b[K${pc.dim(what)}` : `${what}\n`),
    update: (what) => void (live && process.stderr.write(`\r\x1b[K${pc.dim(what)}`)),
    end: () => void (live && process.stderr.write('\r\x1b[K')),
  };
}
