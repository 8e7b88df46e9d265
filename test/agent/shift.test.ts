import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Frame } from '../../src/agent/life.js';
import { roomsModel } from '../../src/agent/lives/rooms-model.js';
import { shiftLife } from '../../src/agent/lives/shift.js';

test('when the walls move and actions do the opposite it thinks, learns anew, and makes new habits (I4)', async () => {
  const life = shiftLife({
    rooms: { before: { wall: 32, door: 18 }, after: { wall: 24, door: 46 } },
    gain: -1,
    slip: 0.1,
    parts: { play: 60, practice: 150, before: 300, after: 500 },
    planner: { horizon: 3, samples: 48, elites: 5, iterations: 4 },
    habit: { known: 0.5, surprise: 1, cost: 1, promise: 2, width: 0.3, capacity: 40 },
  });
  const frames: Frame[] = [];
  const { checks, lived } = await life.live({
    seed: 0,
    signal: new AbortController().signal,
    phase: () => {},
    step: (frame) => {
      if (frame?.own) frames.push(frame);
    },
    engine: () => assert.fail('it needs none'),
  });
  for (const { claim, value, passed } of checks) assert.ok(passed, `${claim}: ${value}`);
  const of = (name: string) => lived.find((one) => one.name.startsWith(name))?.values ?? assert.fail(name);
  const own = of('agent');
  assert.ok(own.pace > 0.7 * own['pace before'], JSON.stringify(own));
  // Each part is needed: learning, and habits that are imagined before they are acted on.
  for (const name of ['learns nothing', 'habit that is not imagined', 'only habit', 'straight', 'random']) {
    const { recovery, pace } = of(name);
    assert.ok(recovery === 500 && pace < 0.5 * own.pace, `${name}: recovered after ${recovery}, pace ${pace}`);
  }
  // The shift is felt at once: a move does the opposite of what was expected.
  const after = frames.filter(({ phase }) => phase === 'after the shift');
  assert.equal(after.length, 500);
  assert.ok(Math.max(...after.slice(0, 5).map(({ surprise }) => surprise || 0)) > 3);
  assert.ok(life.stage.places.some(({ parts }) => parts?.includes('after the shift') && !parts.includes('play')));
});

test('a map of what was met: ways lead round it, until it is passed or nothing else is left', () => {
  const model = roomsModel();
  // Moves of two pixels for an action of 1.
  for (let t = 0; t < 40; t++) {
    const a = [Math.sin(t), Math.cos(3 * t)];
    model.learn([30, 30], a, [30 + 2 * a[0], 30 + 2 * a[1]]);
  }
  const [here, there] = [[30, 30], [38, 30]]; // biome-ignore format: two places
  assert.deepEqual([...model.route(here, there).next], [38, 30]);
  assert.equal(model.route(here, there).cells, 2);
  // Something between the cells of columns 28 to 32 and 32 to 36.
  model.learn([31, 30], [1, 0], [31, 30]);
  // What was tried in vain is not tried again there, nor is the border between them crossed elsewhere.
  assert.deepEqual([...model.predict([31, 30], [0.8, 0.3])], [31, 30]);
  assert.deepEqual([...model.predict([31.5, 29], [1, 0])], [31.5, 29]);
  assert.ok(model.predict([31, 30], [-1, 0])[0] < 30);
  assert.equal(model.route(here, there).cells, 4);
  // Passed after all.
  model.learn([31, 30], [1, 0], [33, 30]);
  assert.equal(model.route(here, there).cells, 2);
});
