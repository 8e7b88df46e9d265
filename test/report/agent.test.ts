import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Frame, Stage } from '../../src/agent/life.js';
import { createAgentView } from '../../src/report/agent-terminal.js';
import type { LifeReport } from '../../src/report/data.js';
import { renderReport } from '../../src/report/report.js';

const stage: Stage = {
  width: 10,
  height: 10,
  places: [
    { name: 'pit', kind: 'danger', at: [5, 5], radius: 2 },
    { name: 'wall', kind: 'wall', at: [1, 9], half: [1, 1] },
    { name: 'spring <3', kind: 'goal', at: [8, 8], radius: 1 },
  ],
  movers: ['food'],
  terms: ['hunger', 'later'],
  levels: ['energy'],
};

const frame = (time: number, mode: 1 | 2): Frame => ({
  episode: 0,
  time,
  own: true,
  phase: 'day',
  clock: 'day 1, 06:00',
  place: [2, 3],
  believed: [2.2, 3],
  deviation: 0.2,
  movers: [[7, 1]],
  danger: time > 1,
  levels: [0.75],
  heard: ['eyes'],
  picture: { side: 2, values: Uint8Array.of(0, 128, 255, 9) },
  subgoal: [8, 8],
  ...(mode === 2
    ? {
        proposal: { points: [[3, 3], [4, 3]], energy: 2, violations: 0 },
        plan: { points: [[3, 4], [3, 4]], energy: 1.5, violations: 1 },
      } // biome-ignore format: two paths
    : {}),
  tried: mode === 2 ? 98 : 0,
  costs: [0.5, 1],
  mode,
  reason: 'hunger (0.40) & more',
  verdict: time > 1 ? 'moved' : 'kept',
  broken: time > 1 ? ['pit'] : [],
  action: [1, 0],
  surprise: time === 0 ? Number.NaN : 0.25,
  known: 0.5,
  remembered: 40,
  capacity: 100,
});

function view(options: { isTTY: boolean; columns?: number }) {
  const written: string[] = [];
  const clock = { ms: 0 };
  const stream = { ...options, write: (text: string) => written.push(text) };
  const shown = createAgentView({ title: 'A day', stage, stream, env: { NO_COLOR: '1' }, now: () => clock.ms });
  return { shown, written, clock };
}

test('on a terminal: a map, mode and reason, bars of energy, memory, plan and shield, in place', () => {
  const { shown, written, clock } = view({ isTTY: true, columns: 100 });
  shown.phase('day', 4);
  clock.ms = 1000;
  shown.step(frame(0, 2));
  const ESC = String.fromCharCode(27);
  const lines = (written.at(-1) as string).replaceAll(new RegExp(`${ESC}\\[\\d*[A-Za-z]`, 'g'), '').split('\n');
  assert.match(lines[0], /^A day {2}day$/);
  const body = lines.join('\n');
  assert.match(body, /━+─+ {2}1\/4 · 0:03 left/);
  assert.match(body, /mode +2 thought +2 in 100 % of steps/);
  assert.match(body, /why +hunger \(0\.40\) & more/);
  // Half of the largest energy is half of a bar of 14.
  assert.match(body, /hunger +█{7} +0\.5/);
  assert.match(body, /later +█{14} +1/);
  assert.match(body, /energy +█{10}▌ +0\.75/);
  assert.match(body, /memory +█{5}▋ +40 +knows this 0\.50/);
  assert.match(body, /plan +2 → 1\.5 +98 imagined +↘·|plan +2 → 1\.5 +98 imagined +↓·/);
  // Cells are 10/24 wide and 10/12 high: the agent at (2, 3) is in the fifth column of the fourth row.
  const map = lines.slice(2, 14).map((line) => line.slice(1, 25));
  assert.equal(map[3][4], '@');
  assert.equal(map[1][16], 'F');
  assert.equal(map[9][19], '×');
  assert.equal(map[6][12], '░', 'by day the pit is harmless');
  assert.equal(map[11][0], '█');
  for (const line of lines) assert.ok([...line].length < 100, line);
  clock.ms = 2000;
  shown.step(frame(2, 1));
  assert.match(written.at(-1) as string, /▓/);
  assert.match(written.at(-1) as string, /moved: pit/);
  assert.match(written.at(-1) as string, /none: acts at once/);
  shown.finish();
  assert.match(written.join(''), /day: 2 steps in 0:02/);
});

test('a narrow terminal has no map and no line that folds; without a terminal there are plain lines', () => {
  const narrow = view({ isTTY: true, columns: 48 });
  narrow.shown.phase('day', 4);
  narrow.clock.ms = 500;
  narrow.shown.step(frame(0, 2));
  const text = (narrow.written.at(-1) as string).replaceAll(
    new RegExp(`${String.fromCharCode(27)}\\[\\d*[A-Za-z]`, 'g'),
    '',
  );
  assert.doesNotMatch(text, /@/);
  for (const line of text.split('\n')) assert.ok([...line].length < 48, line);

  const plain = view({ isTTY: false });
  plain.shown.phase('play', 10);
  plain.clock.ms = 11_000;
  plain.shown.step(frame(1, 1));
  plain.shown.phase('day', 5);
  plain.clock.ms = 12_000;
  plain.shown.step();
  plain.shown.finish();
  assert.deepEqual(plain.written, [
    'play: step 1/10  10 %  day 1, 06:00  mode 1 (2: 0 %)  hunger 0.5  later 1  memory 40/100  surprise 0.25\n',
    'play: 1 steps in 0:11\n',
    'day: 1 steps in 0:01\n',
  ]);
});

test('the report has results with floors and a replay of every frame; names from data cannot inject', async () => {
  const life: LifeReport = {
    stage,
    measures: [{ name: 'hurt', about: 'hunger of a step', better: 'less' }, { name: 'thought', about: 'Mode 2', better: 'neither', share: true }],
    lived: [
      { name: 'agent', kind: 'agent', values: { hurt: { mean: 0.02, error: 0.004 }, thought: { mean: 0.25 } } },
      { name: 'random', kind: 'floor', values: { hurt: { mean: 0.7 }, thought: { mean: 0 } } },
    ],
    seeds: 3,
    checks: [{ claim: 'never falls', value: 0, passed: true }],
    learned: [{ part: 'model', value: 0.1, beside: '0.4 before' }],
    chapters: [{ name: 'day </script>', frames: [frame(0, 2), frame(1, 1), frame(2, 1)] }],
  }; // biome-ignore format: data
  const page = await renderReport({ title: 'A day', life });
  assert.match(page, /0\.0200 ± 0\.0040/);
  assert.match(page, /25\.0 %/);
  assert.match(page, /class="met">met<\/td><td>never falls/);
  assert.match(page, /spring &#60;3/);
  const [, json] = /<script type="application\/json"[^>]*>([\s\S]*?)<\/script>/.exec(page) as RegExpExecArray;
  const { replay } = JSON.parse(json);
  const [{ frames }] = replay.chapters;
  assert.equal(frames.length, 3);
  assert.equal(frames[0].surprise, null);
  assert.equal(frames[0].picture.hex, '0080ff09');
  assert.deepEqual(frames[0].plan, { points: [[3, 4], [3, 4]], energy: 1.5, violations: 1 }); // biome-ignore format: short
  assert.equal(frames[1].plan, undefined);
  const empty = await renderReport({ title: 'None', life: { ...life, lived: [], chapters: [] } });
  assert.doesNotMatch(empty, /<section/);
});
