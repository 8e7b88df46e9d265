import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openEpisodeColumns, readEpisodesNpz, writeEpisodes } from '../../src/hub/episodes-node.js';
import { collectEpisodes, greedyBehaviour, randomBehaviour, walkBehaviour } from '../../src/world/collect.js';
import { worldCalled } from '../../src/world/envs/index.js';
import { blocked } from '../../src/world/envs/two-rooms.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-collect-'));
after(() => rmSync(folder, { recursive: true }));

const world = worldCalled('two-rooms-stay');

test('actions lead from row to row by the rules of the world', () => {
  const { lengths, offsets, columns } = collectEpisodes(world, walkBehaviour(), { episodes: 5, steps: 90, seed: 1 });
  assert.deepEqual(lengths, [91, 91, 91, 91, 91]);
  assert.deepEqual(offsets, [0, 91, 182, 273, 364]);
  const [state, action, factors] = ['state', 'action', 'factors'].map(
    (name) => columns.get(name)?.data as Float32Array,
  );
  const width = world.factors.length;
  let moved = 0;
  for (const offset of offsets) {
    for (let row = offset; row < offset + 90; row++) {
      const [x, y, dx, dy] = [state[2 * row], state[2 * row + 1], action[2 * row], action[2 * row + 1]];
      const layout = { wall: factors[row * width], door: factors[row * width + 1] };
      const stays = Math.hypot(state[2 * row + 2] - x, state[2 * row + 3] - y) < 1e-6;
      assert.equal(stays, blocked(x, y, dx, dy, layout), `row ${row}`);
      if (!stays) {
        moved++;
        assert.ok(Math.hypot(state[2 * row + 2] - x - dx, state[2 * row + 3] - y - dy) < 1e-4);
      }
    }
    assert.deepEqual([...action.subarray(2 * (offset + 90), 2 * (offset + 91))], [0, 0]);
  }
  assert.ok(moved > 200);
});

test('an episode depends on the seed and its number only', () => {
  const many = collectEpisodes(world, randomBehaviour(), { episodes: 3, steps: 10, seed: 4 });
  const again = collectEpisodes(world, randomBehaviour(), { episodes: 3, steps: 10, seed: 4 });
  const one = collectEpisodes(world, randomBehaviour(), { episodes: 1, steps: 10, seed: 4 });
  assert.deepEqual(many.columns.get('state'), again.columns.get('state'));
  const state = many.columns.get('state')?.data as Float32Array;
  assert.deepEqual([...state.subarray(0, 22)], Array.from(one.columns.get('state')?.data ?? []));
  assert.notDeepEqual([...state.subarray(0, 22)], [...state.subarray(22, 44)]);
});

test('greedy comes closer to the goal', () => {
  const { columns } = collectEpisodes(worldCalled('point-maze-u'), greedyBehaviour(), {
    episodes: 20,
    steps: 60,
    seed: 2,
  });
  const [state, goal] = ['state', 'goal'].map((name) => columns.get(name)?.data as Float32Array);
  const far = (row: number) => Math.hypot(state[2 * row] - goal[2 * row], state[2 * row + 1] - goal[2 * row + 1]);
  const closer = Array.from({ length: 20 }, (_, i) => far(61 * i + 60) < far(61 * i) + 1e-9);
  assert.ok(closer.every(Boolean));
});

test('episodes go to npz and HDF5 and back', async () => {
  const table = collectEpisodes(world, randomBehaviour(3), { episodes: 2, steps: 4, seed: 5, pixels: true });
  await writeEpisodes(join(folder, 'a.npz'), table);
  const back = readEpisodesNpz(join(folder, 'a.npz'));
  assert.deepEqual(back.lengths, table.lengths);
  assert.deepEqual(back.offsets, table.offsets);
  for (const [name, tensor] of table.columns) assert.deepEqual(back.columns.get(name), tensor);
  await writeEpisodes(join(folder, 'a.h5'), table);
  const open = await openEpisodeColumns(join(folder, 'a.h5'));
  assert.equal(open.steps, 10);
  assert.deepEqual(open.lengths, table.lengths);
  for (const [name, tensor] of table.columns) assert.deepEqual(open.columns.get(name)?.read().data, tensor.data);
  open.close();
  assert.deepEqual(readdirSync(folder).sort(), ['a.h5', 'a.npz']);
  const beyond = { ...table, offsets: [0, 6] };
  for (const name of ['beyond.npz', 'beyond.h5']) {
    await writeEpisodes(join(folder, name), beyond);
    const open = async () =>
      name.endsWith('.npz') ? readEpisodesNpz(join(folder, name)) : openEpisodeColumns(join(folder, name));
    await assert.rejects(open, /episode 1 is said to have 5 steps from 6 on, beyond the 10 of the file/);
  }
  await assert.rejects(writeEpisodes(join(folder, 'a.txt'), table), /written to .npz, .h5 or .hdf5/);
  assert.throws(
    () => collectEpisodes(worldCalled('pendulum'), walkBehaviour(), { episodes: 1, steps: 2, seed: 0 }),
    /walks are for two-rooms/,
  );
});
