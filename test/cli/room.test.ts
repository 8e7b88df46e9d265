import assert from 'node:assert/strict';
import { test } from 'node:test';
import pc from 'picocolors';
import { createRoom } from '../../src/cli/room.js';
import { worldCalled } from '../../src/world/envs/index.js';
import { openBatch } from '../../src/world/envs/world.js';

const world = worldCalled('two-rooms');

function shown(stream: { columns: number; rows: number }, live: boolean): string[] {
  const batch = openBatch(world, { count: 3, seed: 1, factors: { wall: 32, door: 20 } });
  batch.states.set([10, 10]);
  batch.goals.set([50, 50]);
  const written: string[] = [];
  const room = createRoom({
    stream: { ...stream, write: (text: string) => void written.push(text) },
    world,
    live,
    colors: pc.createColors(false),
  });
  room.show({ time: 1, steps: 2, batch, imagined: [[20, 10]], secondsLeft: 65 });
  room.log('stopping');
  room.show({ time: 2, steps: 2, batch, secondsLeft: 0 });
  room.end();
  return written;
}

const linesOf = (text: string): string[] => text.replaceAll('\x1b[K', '').replaceAll('\x1b[J', '').split('\n');

test('the first episode is drawn where it is, with its goal and what is imagined', () => {
  const [first, log] = shown({ columns: 80, rows: 40 }, true);
  const lines = linesOf(first);
  // 65 pixels on 34 columns and 17 rows.
  assert.equal(lines.length, 17 + 2);
  const column = (x: number): number => Math.floor((x + 0.5) / (65 / 34));
  const row = (y: number): number => Math.floor((y + 0.5) / (2 * (65 / 34)));
  assert.equal(lines[row(10)][column(10)], '●');
  assert.equal(lines[row(50)][column(50)], '◎');
  assert.equal(lines[row(10)][column(20)], '·');
  assert.equal(lines[row(40)][column(32)], '█');
  // The door.
  assert.equal(lines[row(20)][column(32)], ' ');
  assert.match(lines[17], /^episode 1 of 3: {2}● now {2}◎ goal {2}· imagined$/);
  assert.match(lines[18], /^step 1\/2 {2}at the goal 0\/3 \(0 %\) {2}1:05 left$/);
  // A line that stays is put above the drawing, which is drawn again.
  assert.ok(log.startsWith('\x1b[18A\r\x1b[Jstopping\n'), JSON.stringify(log.slice(0, 30)));
  assert.equal(linesOf(log).length, 20);
});

test('small terminals show the status alone, and logs have plain lines', () => {
  for (const size of [
    { columns: 80, rows: 12 },
    { columns: 30, rows: 40 },
  ])
    assert.equal(linesOf(shown(size, true)[0]).length, 1, JSON.stringify(size));
  const plain = shown({ columns: 80, rows: 40 }, false).join('');
  assert.equal(
    plain,
    'step 1/2  at the goal 0/3 (0 %)  1:05 left\nstopping\nstep 2/2  at the goal 0/3 (0 %)  0:00 left\n',
  );
});
