import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { withSources } from '../../../src/cli/data.js';
import { openSamples } from '../../../src/data/samples-node.js';
import { openSource } from '../../../src/data/sources-node.js';
import { clipsAlong } from '../../../src/data/video/along.js';
import { memoryVideos, type VideoFrames } from '../../../src/data/video/dataset.js';
import { encodeNpy } from '../../../src/hub/npy.js';
import { npyVideoList } from '../../../src/hub/video-list-node.js';

let root: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'jepa-along-'));
});
after(() => rmSync(root, { recursive: true, force: true }));

/** Two videos of 11 frames of one pixel, whose value is the number of the frame. */
const videos = (fps = 0) => {
  const pixels = new Uint8Array(new SharedArrayBuffer(22)).map((_, i) => i % 11);
  const shared = new Uint8Array(new SharedArrayBuffer(22));
  shared.set(pixels);
  return memoryVideos({
    name: 'v',
    frames: 11,
    height: 1,
    width: 1,
    channels: 1,
    pixels: shared,
    fps,
    labels: Int32Array.of(1, 0),
  });
};

describe('clips along whole videos', () => {
  it('cover every frame, the last one from its end', async () => {
    const clips = await clipsAlong(videos(10), { frames: 2, frameStep: 2 });
    const read = async (index: number) => [...((await clips.read(index)) as VideoFrames).data];
    assert.equal(clips.length, 6);
    assert.deepEqual(await Promise.all([0, 1, 2, 3, 4, 5].map(read)), [
      ...[
        [0, 2],
        [4, 6],
        [7, 9],
      ],
      ...[
        [0, 2],
        [4, 6],
        [7, 9],
      ],
    ]);
    assert.deepEqual([...(clips.labels ?? [])], [1, 1, 1, 0, 0, 0]);
    assert.deepEqual([clips.nameOf?.(1), clips.nameOf?.(5)], ['v[0]@0.40', 'v[1]@0.70']);
    // As another thread opens them.
    const reader = await openSource(clips.source!, () => undefined);
    assert.deepEqual([...((await reader.read(5)) as VideoFrames).data], [7, 9]);
  });

  it('a video shorter than a clip is one that stays at its end', async () => {
    const clips = await clipsAlong(videos(), { frames: 4, frameStep: 5 });
    assert.equal(clips.length, 2);
    assert.deepEqual([...((await clips.read(0)) as VideoFrames).data], [0, 5, 10, 10]);
    assert.equal(clips.nameOf?.(1), 'v[1]#0');
  });
});

describe('lists of videos in .npy files', () => {
  /** As numpy.save writes an array of strings. */
  function save(name: string, entries: readonly string[], shape = [entries.length]): string {
    const width = Math.max(...entries.map((each) => each.length));
    const plain = encodeNpy({ dtype: 'int32', shape: [...shape, width], data: new Int32Array(entries.length * width) });
    const header = Buffer.from(plain.subarray(0, 128)).toString('latin1');
    const dims = `${shape.join(', ')}${shape.length === 1 ? ',' : ''}`;
    const text = header.replace(/'<i4'/, `'<U${width}'`).replace(/\(.*?\)/, `(${dims})`);
    const codes = entries.flatMap((each) => Array.from({ length: width }, (_, i) => each.codePointAt(i) ?? 0));
    const path = join(root, name);
    writeFileSync(
      path,
      Buffer.concat([
        Buffer.from(text.slice(0, 127).padEnd(127) + '\n', 'latin1'),
        Buffer.from(Int32Array.from(codes).buffer),
      ]),
    );
    return path;
  }

  it('give paths, relative ones from the folder of the list', () => {
    const path = save('videos.npy', ['/data/a b.mp4', 'c/d.mp4']);
    assert.deepEqual(npyVideoList(path), ['/data/a b.mp4', join(root, 'c/d.mp4')]);
    assert.throws(() => npyVideoList(save('square.npy', ['a', 'b'], [2, 1])), /one row of strings, not <U1 \[2,1\]/);
    assert.throws(() => npyVideoList(save('empty.npy', ['a.mp4', ''])), /entry 2 is empty/);
    const numbers = join(root, 'numbers.npy');
    writeFileSync(numbers, encodeNpy({ dtype: 'int32', shape: [1], data: Int32Array.of(1) }));
    assert.throws(() => npyVideoList(numbers), /one row of strings, not <i4/);
  });

  it('are opened like other lists, also in mixtures', async () => {
    const path = save('mixed.npy', ['x.mp4', 'y.mp4', 'z.mp4']);
    const spec = withSources({ kind: 'video', source: path, mix: [{ source: 'procedural:balls', weight: 0.5 }] });
    const mixed = await openSamples({ ...spec, options: undefined });
    // The procedural set, 4096 videos for a weight of 0.5, sets the length: 8192 of the list.
    assert.equal(mixed.length, 4096 + 8192);
    assert.equal(mixed.nameOf?.(1), join(root, 'y.mp4'));
    assert.equal((await openSamples({ kind: 'video', source: path, paths: npyVideoList(path) })).length, 3);
    await assert.rejects(openSamples({ kind: 'video', source: path }), /read the list with npyVideoList/);
  });
});
