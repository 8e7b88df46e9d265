import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProgress, type ProgressOptions } from '../../src/report/terminal.js';

const ESC = '\u001b';
const TOKENS = new RegExp(`${ESC}\\[\\d*[A-Za-z]|[\\s\\S]`, 'gu');
const CODE = new RegExp(`^${ESC}\\[(\\d*)([A-Za-z])$`);

/** The few control codes that the progress uses, on a screen that folds long lines and scrolls for ever. */
class Screen {
  rows: string[][] = [[]];
  row = 0;
  column = 0;
  written: string[] = [];
  readonly isTTY = true;
  constructor(public columns = 80) {}

  write(text: string): void {
    this.written.push(text);
    for (const [token] of text.matchAll(TOKENS)) {
      const code = CODE.exec(token);
      if (token === '\r') this.column = 0;
      else if (token === '\n') this.down();
      else if (!code) this.put(token);
      else if (code[2] === 'A') this.row -= Number(code[1] || 1);
      else if (code[2] === 'K') this.rows[this.row].length = Math.min(this.rows[this.row].length, this.column);
      else if (code[2] === 'J') {
        this.rows.length = this.row + 1;
        this.rows[this.row].length = Math.min(this.rows[this.row].length, this.column);
      } else if (code[2] !== 'm') assert.fail(`unknown code ${JSON.stringify(token)}`);
      assert.ok(this.row >= 0, 'the cursor left the screen');
    }
  }

  private down(): void {
    this.row++;
    this.column = 0;
    this.rows[this.row] ??= [];
  }

  private put(char: string): void {
    if (this.column >= this.columns) this.down();
    const row = this.rows[this.row];
    while (row.length < this.column) row.push(' ');
    row[this.column++] = char;
  }

  get lines(): string[] {
    return this.rows.map((row) => row.join(''));
  }
}

/** A progress on a screen of `columns`, with a clock that the test turns. */
function onScreen(columns: number, options: Partial<ProgressOptions> = {}) {
  const screen = new Screen(columns);
  const clock = { ms: 0 };
  const progress = createProgress({ total: 2400, stream: screen, env: {}, now: () => clock.ms, ...options });
  return { screen, clock, progress };
}

function toPipe(env: Record<string, string> = {}) {
  const written: string[] = [];
  const clock = { ms: 0 };
  const stream = { write: (text: string) => written.push(text) };
  const progress = createProgress({ total: 100, stream, env, now: () => clock.ms });
  return { written, clock, progress };
}

test('two lines are redrawn in place', () => {
  const { screen, clock, progress } = onScreen(100);
  progress.update({ step: 1, loss: 0.5 });
  clock.ms = 100;
  progress.update({ step: 600, loss: 0.25, samplesPerSecond: 1726.4, etaSeconds: 75 });
  assert.deepEqual(screen.lines, [
    `${'━'.repeat(7)}${'─'.repeat(21)}  step 600/2,400  25 %  loss 0.2500  1:15 left  1,726 images/s`,
  ]);
  clock.ms = 200;
  const verdict = { verdict: 'healthy', message: 'healthy: rank 74 of 192' } as const;
  progress.update({
    step: 1200,
    loss: 0.125,
    rankme: 74,
    width: 192,
    knn: 61.24,
    featureStd: 0.88,
    meanCosine: 0.081,
    energyMatched: 0.1312,
    energyShuffled: 0.46,
    verdict,
  });
  assert.deepEqual(screen.lines, [
    `${'━'.repeat(14)}${'─'.repeat(14)}  step 1,200/2,400  50 %  loss 0.1250  1:15 left  1,726 images/s`,
    '● healthy  rank 74/192  k-NN 61.2 %  spread 0.88  cosine 0.08  energy 0.13/0.46',
  ]);
  progress.finish();
  assert.equal(screen.lines.at(-1), '');
  assert.equal(screen.lines.length, 3);
});

test('what goes sample by sample is counted in samples, on a terminal that does not know its width too', () => {
  const screen = new Screen(80);
  const stream = { isTTY: true, columns: 0, write: (text: string) => screen.write(text) };
  const { progress } = onScreen(80, { total: 113, samples: 'clips', bySample: true, stream });
  progress.update({ step: 16, samplesPerSecond: 0.74, etaSeconds: 131 });
  assert.deepEqual(screen.lines, [`${'━'.repeat(4)}${'─'.repeat(24)}  16/113 clips  14 %  2:11 left  0.7 clips/s`]);
});

test('lines fit every width, and what is left is what matters most', () => {
  for (let columns = 20; columns <= 140; columns++) {
    const { screen, progress } = onScreen(columns);
    progress.update({
      step: 1234,
      loss: 0.1234,
      samplesPerSecond: 1726,
      etaSeconds: 61,
      rankme: 12,
      width: 192,
      knn: 33,
      featureStd: 0.1,
      meanCosine: 0.9,
      verdict: { verdict: 'healthy', message: 'healthy, and with a great deal more to say about it than fits' },
    });
    assert.equal(screen.lines.length, 2, `${columns}: ${screen.lines}`);
    for (const line of screen.lines) assert.ok([...line].length < columns, `${columns}: ${line}`);
    assert.match(screen.lines[0], /step 1,234\/2,400/);
    assert.match(screen.lines[1], /^● healthy/);
    if (columns >= 48) assert.match(screen.lines[0], /loss 0\.1234 {2}1:01 left/);
  }
});

test('a logged line stays above, and a narrower terminal does not leave remains', () => {
  const { screen, clock, progress } = onScreen(90);
  progress.log('43,710 images');
  progress.update({ step: 100, loss: 0.5, samplesPerSecond: 1726, etaSeconds: 100 });
  progress.log('checkpoint at step 100');
  assert.deepEqual(screen.lines.slice(0, 2), ['43,710 images', 'checkpoint at step 100']);
  assert.equal(screen.lines.length, 3);
  // As terminals do it: the one long line is now folded into two.
  const long = screen.rows[2];
  screen.columns = 50;
  screen.rows.splice(2, 1, long.slice(0, 50), long.slice(50));
  screen.row = 3;
  screen.column = long.length - 50;
  clock.ms = 1000;
  progress.update({ step: 200, loss: 0.4 });
  assert.equal(screen.lines.length, 3, screen.lines.join('\n'));
  assert.deepEqual(screen.lines.slice(0, 2), ['43,710 images', 'checkpoint at step 100']);
  assert.match(screen.lines[2], /step 200/);
});

test('a verdict that changes is printed whole, once, and stays', () => {
  const { screen, progress } = onScreen(60);
  progress.update({ step: 50, verdict: { verdict: 'healthy', message: 'healthy: rank 80 of 192' } });
  const reason = 'rank 12 of 192, try variance-covariance terms or a larger batch';
  progress.update({
    step: 100,
    verdict: { verdict: 'dimensional collapse', message: `dimensional collapse: ${reason}` },
  });
  progress.update({
    step: 150,
    verdict: { verdict: 'dimensional collapse', message: 'dimensional collapse: rank 11' },
  });
  progress.finish();
  assert.equal(screen.lines.slice(0, 2).join(''), `step 100: ✗ dimensional collapse: ${reason}`);
  assert.equal(screen.lines.filter((line) => line.startsWith('step 1')).length, 1);
  assert.equal(screen.lines[3], '✗ dimensional collapse');
});

test('a run that starts unsound says so at once, a healthy one does not boast', () => {
  const bad = onScreen(60);
  bad.progress.update({ step: 1, verdict: { verdict: 'not finite', message: 'not finite: loss is NaN' } });
  assert.equal(bad.screen.lines[0], 'step 1: ✗ not finite: loss is NaN');
  const good = onScreen(60);
  good.progress.update({ step: 1, verdict: { verdict: 'healthy', message: 'healthy: rank 80 of 192' } });
  assert.doesNotMatch(good.screen.lines[0], /healthy/);
  assert.equal(good.screen.lines[1], '● healthy');
});

test('redraws are few, one write each, and the last state is always shown', () => {
  const { screen, clock, progress } = onScreen(80);
  for (let step = 1; step <= 1000; step++) {
    clock.ms = step;
    progress.update({ step, loss: 1 / step });
  }
  assert.ok(screen.written.length <= 14, `${screen.written.length} writes in one second`);
  progress.finish();
  assert.match(screen.lines[0], /step 1,000/);
  const count = screen.written.length;
  progress.finish();
  progress.update({ step: 1001 });
  assert.equal(screen.written.length, count);
});

test('elsewhere: a plain line now and then, without control codes', () => {
  const { written, clock, progress } = toPipe();
  for (let step = 1; step <= 100; step++) {
    clock.ms = step * 500;
    progress.update({ step, loss: 0.5, etaSeconds: 50 - step / 2 });
  }
  progress.finish();
  assert.deepEqual(written, [
    'step 1/100  1 %  loss 0.5000  0:50 left\n',
    'step 21/100  21 %  loss 0.5000  0:40 left\n',
    'step 41/100  41 %  loss 0.5000  0:30 left\n',
    'step 61/100  61 %  loss 0.5000  0:20 left\n',
    'step 81/100  81 %  loss 0.5000  0:10 left\n',
    'step 100/100  100 %  loss 0.5000  0:00 left\n',
  ]);
  assert.ok(!written.join('').includes(ESC) && !written.join('').includes('\r'));
});

test('elsewhere: one line of the last step, with all that is known of it', () => {
  const { written, clock, progress } = toPipe();
  clock.ms = 60_000;
  progress.update({ step: 99, loss: 0.5 });
  clock.ms = 90_000;
  progress.update({ step: 100, loss: 0.25 });
  progress.update({ step: 100, knn: 61 });
  progress.finish();
  assert.deepEqual(written, ['step 99/100  99 %  loss 0.5000\n', 'step 100/100  100 %  loss 0.2500  k-NN 61.0 %\n']);
});

test('colour only where it is wanted', () => {
  const colored = (env: Record<string, string>) => {
    const { screen, progress } = onScreen(80, { env });
    progress.update({ step: 1, loss: 0.5 });
    return [...screen.written.join('').matchAll(TOKENS)].some(([token]) => CODE.exec(token)?.[2] === 'm');
  };
  assert.equal(colored({}), true);
  assert.equal(colored({ NO_COLOR: '1' }), false);
  assert.equal(colored({ NO_COLOR: '' }), true);
  const { written, progress } = toPipe({ FORCE_COLOR: '1' });
  progress.update({ step: 1, loss: 0.5 });
  assert.ok(written[0].includes(`${ESC}[2mloss`));
});

test('a dumb terminal gets plain lines', () => {
  const { screen, progress } = onScreen(80, { env: { TERM: 'dumb' } });
  progress.update({ step: 1, loss: 0.5 });
  assert.deepEqual(screen.written, ['step 1/2,400  0 %  loss 0.5000\n']);
});

test('runs that end by the clock show their share of time', () => {
  const { screen, progress } = onScreen(80, { total: undefined });
  progress.update({ step: 70, fraction: 0.5, loss: 2e-5 });
  assert.equal(screen.lines[0], `${'━'.repeat(14)}${'─'.repeat(14)}  step 70  50 %  loss 2 × 10⁻⁵`);
});
