import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { File, ready } from 'h5wasm/node';
import { JepaError } from '../../src/base/errors.js';
import { channelsLast, openEpisodeColumns, openMinari, sampleStarts } from '../../src/hub/episodes-node.js';
import { openHdf5 } from '../../src/hub/hdf5-node.js';
import { fixtures } from './cases.js';

// Good and broken files of h5py are tested by the golden area `formats`; here is what it lacks.

const folder = mkdtempSync(join(tmpdir(), 'jepa-hdf5-'));
after(() => rmSync(folder, { recursive: true }));

async function written(name: string, fill: (file: File) => void): Promise<string> {
  await ready;
  const path = join(folder, name);
  const file = new File(path, 'w');
  fill(file);
  file.close();
  return path;
}

test('links are listed, not followed; attributes and narrow types are read', async () => {
  const path = await written('links.h5', (file) => {
    file.create_dataset({ name: 'x', data: Int8Array.of(-1, 2), shape: [2] });
    file.create_dataset({ name: 'text', data: ['a', 'b'] });
    file.create_group('g').create_dataset({ name: '__proto__', data: Uint16Array.of(65535), shape: [1, 1] });
    file.create_soft_link('/loop', 'loop');
    file.create_soft_link('/g', 'g/self');
    file.create_external_link('/etc/passwd', '/x', 'outside');
    file.create_attribute('note', 'größe');
  });
  const opened = await openHdf5(path);
  assert.deepEqual([...opened.datasets.keys()].sort(), ['g/__proto__', 'x']);
  assert.deepEqual([...opened.others].sort(), ['g/self', 'loop', 'outside', 'text']);
  assert.equal(opened.attributes.get('')!.get('note'), 'größe');
  assert.deepEqual(opened.datasets.get('x')!.read(), { dtype: 'int32', shape: [2], data: Int32Array.of(-1, 2) });
  assert.deepEqual(opened.datasets.get('g/__proto__')!.read().data, Int32Array.of(65535));
  assert.throws(() => opened.datasets.get('x')!.read(1, 3), /"x" has 2 rows, 1 to 3 are not among them/);
  assert.equal(opened.datasets.get('x')!.read(1, 1).data.length, 0);
  opened.close();
});

test('episodes must fit their columns', async () => {
  const columns = (lengths: number[], offsets: number[]) =>
    written('columns.h5', (file) => {
      file.create_dataset({ name: 'action', data: new Float32Array(6), shape: [6, 1] });
      file.create_dataset({ name: 'ep_len', data: Int32Array.from(lengths) });
      file.create_dataset({ name: 'ep_offset', data: Int32Array.from(offsets) });
    });
  const open = async (lengths: number[], offsets: number[]) => {
    const file = await openEpisodeColumns(await columns(lengths, offsets));
    file.close();
    return file.steps;
  };
  assert.equal(await open([4, 2], [0, 4]), 6);
  await assert.rejects(open([4, 3], [0, 4]), /episode 1 is said to have 3 steps from 4 on, beyond the 6/);
  await assert.rejects(open([4], [-1]), /episode 0/);
  await assert.rejects(open([4, 2], [0]), /2 lengths of episodes and 1 offsets/);
  await assert.rejects(openEpisodeColumns(await written('none.h5', () => undefined)), /no column "ep_len"/);
  assert.deepEqual(sampleStarts(7, 2, 3), [0, 1]);
  assert.deepEqual(sampleStarts(5, 2, 3), []);
  assert.deepEqual([channelsLast([9, 4, 4, 3]), channelsLast([9, 3, 4, 4])], [true, false]);
});

test('a Minari folder whose parts disagree is refused', async () => {
  const source = join(fixtures, 'hdf5/minari/toy-v0/data');
  const metadata = JSON.parse(readFileSync(join(source, 'metadata.json'), 'utf8'));
  writeFileSync(join(folder, 'main_data.hdf5'), readFileSync(join(source, 'main_data.hdf5')));
  const open = async (change: object) => {
    writeFileSync(join(folder, 'metadata.json'), JSON.stringify({ ...metadata, ...change }));
    (await openMinari(folder)).close();
  };
  await open({});
  await assert.rejects(open({ total_episodes: 3 }), /2 episodes, metadata\.json says 3/);
  await assert.rejects(open({ data_format: 'arrow' }), /in the format "arrow", only hdf5 is read/);
});

test('damaged files give data or one clear line', async () => {
  const whole = readFileSync(join(fixtures, 'hdf5/episodes.h5'));
  const path = join(folder, 'damaged.h5');
  for (let i = 0; i < 200; i++) {
    const bytes = Uint8Array.from(whole);
    // A fixed walk over the file, denser at its beginning.
    for (const at of [(i * 7) % 700, (i * 911) % bytes.length]) bytes[at] ^= 1 << (i % 8);
    writeFileSync(path, i % 5 === 0 ? bytes.subarray(0, (i * 331) % bytes.length) : bytes);
    try {
      const file = await openHdf5(path);
      try {
        for (const dataset of file.datasets.values()) dataset.read();
      } finally {
        file.close();
      }
    } catch (error) {
      assert.ok(error instanceof JepaError, String((error as Error).stack));
      assert.doesNotMatch(error.message, /\n/);
    }
  }
});
