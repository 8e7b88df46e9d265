import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createRandom } from '../../src/base/random.js';
import { latestCheckpoint, loadCheckpoint } from '../../src/train/checkpoint.js';

const script = join(dirname(fileURLToPath(import.meta.url)), 'resume-run.js');
const root = mkdtempSync(join(tmpdir(), 'jepa-resume-'));
after(() => rmSync(root, { recursive: true, force: true }));

const start = (folder: string, mode: 'start' | 'resume', workers = 2): ChildProcess =>
  spawn(process.execPath, [script, folder, mode, String(workers)], { stdio: ['ignore', 'pipe', 'pipe'] });

/** Exit code, and everything that was printed. */
const ended = (child: ChildProcess): Promise<{ code: number | null; text: string }> =>
  new Promise((resolve) => {
    let text = '';
    child.stdout?.on('data', (chunk) => (text += chunk));
    child.stderr?.on('data', (chunk) => (text += chunk));
    child.on('close', (code) => resolve({ code, text }));
  });

test('a run killed at ten random moments ends with the weights of the undisturbed run, bit for bit', {
  timeout: 240_000,
}, async () => {
  const undisturbed = join(root, 'undisturbed');
  const whole = await ended(start(undisturbed, 'start'));
  assert.equal(whole.code, 0, whole.text);

  const disturbed = join(root, 'disturbed');
  const checkpoint = join(disturbed, 'checkpoint');
  const random = createRandom(Date.now());
  const at: number[] = [];
  while (at.length < 10) {
    const before = latestCheckpoint(checkpoint);
    if (before === undefined) rmSync(disturbed, { recursive: true, force: true });
    const child = start(disturbed, before === undefined ? 'start' : 'resume');
    const end = ended(child);
    // Sometimes while it starts; else a moment after it has got further.
    const early = at.length > 0 && random.uniform() < 0.2;
    const delay = random.uniform() * (early ? 1500 : 60);
    let timer: NodeJS.Timeout | undefined;
    const poll = setInterval(() => {
      if (timer || (!early && latestCheckpoint(checkpoint) === before)) return;
      timer = setTimeout(() => child.kill('SIGKILL'), delay);
    }, 2);
    const { code, text } = await end;
    clearInterval(poll);
    clearTimeout(timer);
    assert.equal(code, null, `it ended by itself (killed at ${at}): ${text}`);
    at.push(latestCheckpoint(checkpoint) ?? 0);
  }
  const last = await ended(start(disturbed, 'resume'));
  assert.equal(last.code, 0, last.text);
  const [a, b] = [undisturbed, disturbed].map((folder) => loadCheckpoint(join(folder, 'checkpoint')));
  assert.equal(a.meta.step, 120);
  assert.equal(b.meta.step, 120);
  for (const part of ['weights', 'slots'] as const) {
    assert.deepEqual([...b[part].keys()], [...a[part].keys()]);
    for (const [name, { data }] of a[part]) {
      const other = b[part].get(name)?.data;
      assert.deepEqual(
        new Int32Array(other?.slice().buffer ?? []),
        new Int32Array(data.slice().buffer),
        `${part} ${name}, killed at steps ${at}`,
      );
    }
  }
  // The log holds every step once.
  const steps = readFileSync(join(disturbed, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { step: number; loss?: number })
    .filter((record) => record.loss !== undefined)
    .map((record) => record.step);
  assert.deepEqual(
    steps,
    Array.from({ length: 120 }, (_, i) => i + 1),
  );
});

test('another number of workers is refused with the fix', { timeout: 60_000 }, async () => {
  const folder = join(root, 'workers');
  const first = start(folder, 'start');
  const end = ended(first);
  const poll = setInterval(
    () => latestCheckpoint(join(folder, 'checkpoint')) !== undefined && first.kill('SIGKILL'),
    20,
  );
  await end;
  clearInterval(poll);
  const { code, text } = await ended(start(folder, 'resume', 1));
  assert.notEqual(code, 0);
  assert.match(text, /started with 2 workers .*Resume with train.workers=2/s);
});
