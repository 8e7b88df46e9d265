import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { JepaError } from '../../src/base/errors.js';
import { cacheKey, openDecodedCache } from '../../src/data/cache-node.js';
import { type ImageDataset, memoryDataset, type RawImage, subset } from '../../src/data/dataset.js';
import { type Batch, createLoader, type Loader, type LoaderOptions } from '../../src/data/loader.js';
import { openDataset } from '../../src/data/open-node.js';
import { fixtures, root } from './fixtures.js';

const scratch = mkdtempSync(join(tmpdir(), 'jepa-loader-'));
after(() => rmSync(scratch, { recursive: true }));

/** 23 images of 4 x 3 pixels; pixel values tell which image and pixel they are. */
const small = memoryDataset({
  name: 'small',
  width: 4,
  height: 3,
  channels: 1,
  pixels: Uint8Array.from({ length: 23 * 12 }, (_, i) => i % 251),
  labels: Int32Array.from({ length: 23 }, (_, i) => i % 5),
});

async function take(dataset: ImageDataset, options: LoaderOptions, count = Infinity): Promise<Batch[]> {
  const loader = await createLoader(dataset, { threads: 0, ...options });
  const batches: Batch[] = [];
  try {
    while (batches.length < count) {
      const batch = await loader.next();
      if (!batch) break;
      batches.push(batch);
    }
  } finally {
    await loader.close();
  }
  return batches;
}

const distort: LoaderOptions['views'] = [
  {
    count: 2,
    transforms: [
      { kind: 'affine', rotate: 20, shift: 0.1, elastic: 0.05 },
      { kind: 'noise', add: 0.1 },
    ],
  },
  { transforms: [{ kind: 'randomResizedCrop', size: [2, 3] }] },
];

describe('order', () => {
  it('an epoch has every image once, in another order each time', async () => {
    const batches = await take(small, { batchSize: 5, dropLast: false, epochs: 3, seed: 4 });
    assert.deepEqual(batches.map(({ epoch, step, indices }) => [epoch, step, indices.length]).slice(3, 6), [
      [0, 3, 5],
      [0, 4, 3],
      [1, 0, 5],
    ]);
    const epochs = [0, 1, 2].map((epoch) =>
      batches.filter((batch) => batch.epoch === epoch).flatMap(({ indices }) => [...indices]),
    );
    for (const order of epochs)
      assert.deepEqual(
        order.toSorted((a, b) => a - b),
        Array.from({ length: 23 }, (_, i) => i),
      );
    assert.notDeepEqual(epochs[0], epochs[1]);
    assert.notDeepEqual(epochs[1], epochs[2]);
  });

  it('without shuffling it is that of the data, and a part batch can be dropped', async () => {
    const batches = await take(small, { batchSize: 5, shuffle: false, epochs: 1 });
    assert.deepEqual(
      batches.flatMap(({ indices }) => [...indices]),
      Array.from({ length: 20 }, (_, i) => i),
    );
  });

  it('a part batch is refused where it is the only one', async () => {
    await assert.rejects(createLoader(small, { batchSize: 24 }), /small: a batch of 24 is more than its 23 images/);
    await assert.rejects(createLoader(subset(small, []), { batchSize: 1 }), /there are no images/);
    await assert.rejects(createLoader(small, { batchSize: 0 }), /batch size 0/);
  });
});

describe('content', () => {
  it('is the images asked for, with their labels', async () => {
    const [batch] = await take(small, { batchSize: 4, views: [{ count: 3, transforms: [] }] }, 1);
    assert.deepEqual(batch.views[0].images.shape, [4, 3, 1, 3, 4]);
    const { data } = batch.views[0].images;
    data.forEach((value, i) => {
      const image = batch.indices[Math.floor(i / 36)];
      assert.equal(value, Math.fround(((image * 12 + (i % 12)) % 251) / 255));
    });
    assert.deepEqual(
      [...batch.labels!],
      [...batch.indices].map((index) => index % 5),
    );
  });

  it('does not depend on the number of threads, on prefetching, or on where the loader started', async () => {
    const options: LoaderOptions = { batchSize: 4, views: distort, seed: 9, epochs: 2 };
    const alone = await take(small, options);
    assert.equal(alone.length, 10);
    assert.deepEqual(
      alone[0].views.map(({ images: { shape } }) => shape),
      [
        [4, 2, 1, 3, 4],
        [4, 1, 1, 2, 3],
      ],
    );
    assert.deepEqual(await take(small, { ...options, threads: 1 }), alone);
    assert.deepEqual(await take(small, { ...options, threads: 3, prefetch: 5 }), alone);
    assert.deepEqual(await take(small, { ...options, threads: 1, start: { epoch: 1, step: 2 } }), alone.slice(7));
    assert.deepEqual(
      await take(
        subset(
          small,
          Array.from({ length: 23 }, (_, i) => i),
        ),
        { ...options, threads: 2 },
      ),
      alone,
    );
    assert.notDeepEqual(await take(small, { ...options, seed: 10 }), alone);
  });

  it('views of an image differ, and so do its epochs', async () => {
    const one = subset(small, [7]);
    const [first, second] = await take(one, { batchSize: 1, views: distort }, 2);
    const views = ({ views: [{ images }] }: Batch) => [images.data.slice(0, 12), images.data.slice(12)];
    assert.notDeepEqual(...(views(first) as [Float32Array, Float32Array]));
    assert.notDeepEqual(views(first)[0], views(second)[0]);
  });

  it('position tells where to resume', async () => {
    const loader = await createLoader(small, { batchSize: 7, threads: 0 });
    assert.deepEqual([loader.stepsPerEpoch, loader.position], [3, { epoch: 0, step: 0 }]);
    for (let i = 0; i < 4; i++) await loader.next();
    assert.deepEqual(loader.position, { epoch: 1, step: 1 });
    const { position } = loader;
    const wanted = await loader.next();
    await loader.close();
    const [got] = await take(small, { batchSize: 7, start: position }, 1);
    assert.deepEqual(got, wanted);
  });

  it('memory given back is used again and changes nothing', async () => {
    const plain = await take(small, { batchSize: 4, views: distort, epochs: 4 });
    for (const threads of [0, 1]) {
      const loader = await createLoader(small, { batchSize: 4, views: distort, epochs: 4, threads });
      const buffers = new Set<ArrayBufferLike>();
      let i = 0;
      for await (const batch of loader) {
        assert.deepEqual(batch, plain[i++]);
        buffers.add(batch.views[0].images.data.buffer);
        loader.recycle(batch);
      }
      assert.equal(i, plain.length);
      if (threads === 0) assert.ok(buffers.size <= 4, String(buffers.size));
      await loader.close();
    }
  });

  it('two callers get two batches', async () => {
    const loader = await createLoader(small, { batchSize: 2, threads: 1 });
    const [a, b] = await Promise.all([loader.next(), loader.next()]);
    assert.deepEqual([a!.step, b!.step], [0, 1]);
    await loader.close();
  });
});

describe('own data in code', () => {
  function own(changes: Partial<ImageDataset> = {}): ImageDataset & { reads: number } {
    return {
      name: 'own',
      length: 40,
      channels: 3,
      reads: 0,
      async read(index: number): Promise<RawImage> {
        this.reads++;
        return { width: 2 + (index % 3), height: 2, channels: 3, data: Buffer.alloc(6 * (2 + (index % 3)), index) };
      },
      ...changes,
    };
  }
  const views = [{ transforms: [{ kind: 'resize' as const, size: 3 }] }];

  it('is read here and transformed in threads', async () => {
    const alone = await take(own(), { batchSize: 4, views, epochs: 2 });
    assert.deepEqual(await take(own(), { batchSize: 4, views, epochs: 2, threads: 2 }), alone);
    for (const {
      views: [{ images }],
      indices,
    } of alone) {
      for (const [i, value] of images.data.entries())
        assert.equal(value, Math.fround(indices[Math.floor(i / 27)] / 255));
    }
  });

  it('is read ahead no more than prefetch says', async () => {
    for (const threads of [0, 1]) {
      const data = own();
      const loader = await createLoader(data, { batchSize: 4, views, threads, prefetch: 2 });
      await loader.next();
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.ok(data.reads >= 4 && data.reads <= 12, String(data.reads));
      await loader.close();
    }
  });

  it('errors arrive as one line wherever they happen', async () => {
    const odd = {
      async read() {
        return { width: 2, height: 2, channels: 1, data: new Uint8Array(4) };
      },
    };
    for (const threads of [0, 1]) {
      await assert.rejects(take(own(odd), { batchSize: 4, views, threads }), (error: Error) => {
        assert.ok(error instanceof JepaError, String(error));
        assert.equal(error.message, 'an image has 1 channels where the data set says 3');
        return true;
      });
      await assert.rejects(
        take(own({ size: { width: 2, height: 2 } }), { batchSize: 4, threads }),
        (error: Error) =>
          error instanceof JepaError && /comes out as \d x 2, not as large as the others/.test(error.message),
      );
    }
    await assert.rejects(take(own(), { batchSize: 4 }), /images of own differ in size; add a resize/);
  });

  it('a loader that has failed or is closed says so again', async () => {
    const loader = await createLoader(own({ size: { width: 2, height: 2 } }), { batchSize: 40, threads: 1 });
    await assert.rejects(loader.next(), JepaError);
    await assert.rejects(loader.next(), /not as large/);
    await loader.close();
    await loader.close();
    const closed = await createLoader(small, { batchSize: 4, threads: 1 });
    await closed.close();
    await assert.rejects(closed.next(), /loader: it is closed/);
  });
});

/** A folder of 12 small images of which 3 and 4 cannot be read. */
function damagedFolder(): string {
  const path = join(scratch, 'damaged');
  mkdirSync(path, { recursive: true });
  const good = readFileSync(join(fixtures, 'images/rgb.png'));
  for (let i = 0; i < 12; i++) {
    const name = join(path, `${String(i).padStart(2, '0')}.png`);
    if (i === 3) writeFileSync(name, good.subarray(0, 80));
    else if (i === 4) cpSync(join(fixtures, 'images/bad/not_image.jpg'), name);
    else cpSync(join(fixtures, i % 2 ? 'images/444.jpg' : 'images/rgb.png'), name);
  }
  return path;
}
const crop = [{ transforms: [{ kind: 'randomResizedCrop' as const, size: 8 }] }];

describe('corrupt images', () => {
  it('are named, counted once, and replaced by the next readable one', async () => {
    const dataset = await openDataset(damagedFolder());
    const logs: string[][] = [];
    const results: Batch[][] = [];
    for (const threads of [0, 1, 2]) {
      const log: string[] = [];
      const options = { batchSize: 4, views: crop, epochs: 2, threads, log: (line: string) => log.push(line) };
      results.push(await take(dataset, options));
      logs.push(log);
    }
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
    for (const log of logs) {
      assert.equal(log.length, 2);
      assert.ok(
        log.some((line) => /^skipped .*03\.png: the image cannot be decoded.* so far\)$/.test(line)),
        log.join(),
      );
      assert.ok(
        log.some((line) => /^skipped .*04\.png: not an image.*web page/.test(line)),
        log.join(),
      );
    }
    const used = results[0].filter(({ epoch }) => epoch === 0).flatMap(({ indices }) => [...indices]);
    assert.deepEqual(
      used.toSorted((a, b) => a - b),
      [0, 1, 2, 5, 5, 5, 6, 7, 8, 9, 10, 11],
    );
  });

  it('the first one above the limit is an error, at the same batch every time', async () => {
    const dataset = await openDataset(damagedFolder());
    const met: number[] = [];
    for (const threads of [0, 1, 2]) {
      const loader = await createLoader(dataset, {
        batchSize: 1,
        views: crop,
        threads,
        maxCorrupt: 0,
        log: () => assert.fail(),
      });
      let batches = 0;
      await assert.rejects(
        async () => {
          while (await loader.next()) batches++;
        },
        (error: Error) => error instanceof JepaError && /0[34]\.png: .*more than maxCorrupt = 0/.test(error.message),
      );
      met.push(batches);
      await loader.close();
    }
    assert.deepEqual(met, [met[0], met[0], met[0]]);
    const log: string[] = [];
    await assert.rejects(
      take(dataset, { batchSize: 12, views: crop, maxCorrupt: 1, log: (line) => log.push(line) }),
      /2 of 12 images cannot be read/,
    );
    assert.equal(log.length, 1);
  });

  it('a folder of nothing else is an error', async () => {
    const dataset = subset(await openDataset(damagedFolder()), [3, 4]);
    await assert.rejects(
      take(dataset, { batchSize: 1, views: crop, threads: 1 }),
      /none of the 2 images can be read; the first: /,
    );
    // Of a single one it is enough to say what is wrong with it.
    await assert.rejects(take(subset(dataset, [0]), { batchSize: 1, views: crop, threads: 1 }), (error: Error) =>
      error.message.startsWith(dataset.nameOf!(0)),
    );
  });
});

describe('threads', () => {
  const running = () => process.getActiveResourcesInfo().filter((name) => /Worker|MessagePort/.test(name)).length;

  it('close leaves nothing running, also with work under way', async () => {
    const before = running();
    const loader = await createLoader(small, { batchSize: 4, views: distort, threads: 2, prefetch: 6 });
    await loader.next();
    const waiting = loader.next().catch((error: Error) => error.message);
    await loader.close();
    const outcome = await waiting;
    assert.ok(outcome === 'loader: it is closed' || (outcome as Batch).step === 1);
    assert.equal(running(), before);
  });

  it('a process that forgets to close ends all the same, with its batch', async () => {
    const script = `
      import { createLoader } from ${JSON.stringify(new URL('../../src/data/loader.js', import.meta.url).href)};
      import { openDataset } from ${JSON.stringify(new URL('../../src/data/open-node.js', import.meta.url).href)};
      const loader = await createLoader(await openDataset({ path: 'glyphs', split: 'test' }), { batchSize: 8, threads: 1 });
      console.log((await loader.next()).views[0].images.shape.join());`;
    const file = join(scratch, 'forgets.mjs');
    writeFileSync(file, script);
    // Whatever flags it was started with.
    for (const program of [
      ['--input-type=module', '-e', script],
      ['--max-old-space-size=1000', file],
    ]) {
      const { stdout } = await promisify(execFile)(process.execPath, program, { cwd: root, timeout: 20_000 });
      assert.equal(stdout.trim(), '8,1,1,28,28');
    }
  });
});

describe('the cache of decoded images', () => {
  const image = (value: number, width = 5): RawImage => ({
    width,
    height: 2,
    channels: 3,
    data: new Uint8Array(width * 6).fill(value),
  });
  const notices: string[] = [];
  const open = (name: string, maxBytes = 1e6) =>
    openDecodedCache({ folder: join(scratch, name), maxBytes }, (message) => notices.push(message));
  const same = (got: RawImage | undefined, wanted: RawImage) =>
    assert.deepEqual(got && { ...got, data: [...got.data] }, { ...wanted, data: [...wanted.data] });

  it('keeps images beyond its end, and finds those of others', async () => {
    const first = await open('kept');
    const other = await open('kept');
    first.put('a', image(1));
    same(await first.get('a'), image(1));
    other.put('b', image(2, 9));
    assert.equal(await first.get('b'), undefined);
    await first.close();
    await other.close();
    const again = await open('kept');
    same(await again.get('a'), image(1));
    same(await again.get('b'), image(2, 9));
    assert.equal(await again.get('c'), undefined);
    await again.close();
    assert.deepEqual(
      readdirSync(join(scratch, 'kept')).filter((name) => !name.endsWith('.decoded')),
      [],
    );
  });

  it('a shard whose index names places that it does not have is refused', async () => {
    const rows = [
      ['a', -1e15, 1e15, 1, 1],
      ['a', 0, -4, -4, 1],
      ['a', 0, 0.5, 2, 1],
      ['a', 0, '1', 1, 1],
      ['a', 0, 9, 9, 1],
      [1, 0, 1, 1, 1],
    ];
    for (const [i, row] of rows.entries()) {
      const folder = join(scratch, `damaged-${i}`);
      mkdirSync(folder);
      const json = Buffer.from(JSON.stringify([['good', 0, 2, 2, 1], row]));
      const length = Buffer.alloc(4);
      length.writeUInt32LE(json.length);
      const parts = [Buffer.alloc(4), json, length, Buffer.from('jepa decoded 1\n\0')];
      writeFileSync(join(folder, 'x.decoded'), Buffer.concat(parts));
      await assert.rejects(open(`damaged-${i}`), /x\.decoded: not a shard of decoded images; delete it/, String(row));
    }
  });

  it('a key follows path, time, size and way of decoding', () => {
    const keys = [
      cacheKey('a', 1, 2, 3),
      cacheKey('b', 1, 2, 3),
      cacheKey('a', 2, 2, 3),
      cacheKey('a', 1, 3, 3),
      cacheKey('a', 1, 2, undefined),
    ];
    assert.equal(new Set(keys).size, keys.length);
    assert.equal(cacheKey('a', 1, 2, 3), keys[0]);
  });

  it('stays within its size: shards not used since go first, those in use stay', async () => {
    const folder = join(scratch, 'bounded');
    const bytes = () => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    const big = (value: number) => image(value, 1000); // 6 kB
    let cache = await open('bounded', 20_000);
    for (const key of ['a', 'b']) cache.put(key, big(1));
    await cache.close();
    for (const name of readdirSync(folder)) utimesSync(join(folder, name), 1, 1);
    cache = await open('bounded', 20_000);
    for (const key of ['c', 'd', 'e', 'f', 'g']) {
      cache.put(key, big(2));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await cache.close();
    assert.ok(bytes() <= 20_000, String(bytes()));
    const again = await open('bounded', 20_000);
    assert.equal(await again.get('a'), undefined);
    same(await again.get('c'), big(2));
    await again.close();
    assert.deepEqual(notices, []);
  });

  it('a damaged shard is an error naming the file', async () => {
    const cache = await open('damaged-cache');
    cache.put('a', image(1));
    await cache.close();
    const [name] = readdirSync(join(scratch, 'damaged-cache'));
    truncateSync(join(scratch, 'damaged-cache', name), 40);
    await assert.rejects(
      open('damaged-cache'),
      (error: Error) => error instanceof JepaError && error.message.includes(name),
    );
    // In a loader thread the error reaches the caller.
    const folder = join(scratch, 'images');
    mkdirSync(folder);
    cpSync(join(fixtures, 'images/rgb.png'), join(folder, 'a.png'));
    const cached = { folder: join(scratch, 'thread-cache'), maxBytes: 1e6 };
    const dataset = await openDataset({ path: folder, cache: cached });
    await take(dataset, { batchSize: 1, views: crop, threads: 1 }, 1);
    const [inner] = readdirSync(cached.folder);
    const [shard] = readdirSync(join(cached.folder, inner));
    truncateSync(join(cached.folder, inner, shard), 10);
    await assert.rejects(take(dataset, { batchSize: 1, views: crop, threads: 1 }, 1), (error: Error) => {
      return error instanceof JepaError && error.message.includes(shard) && error.message.includes('delete it');
    });
  });

  it('gives a loader the same batches, without decoding again; a changed file is decoded', async () => {
    const folder = join(scratch, 'photos');
    mkdirSync(folder);
    for (let i = 0; i < 8; i++) cpSync(join(fixtures, `images/exif${i + 1}.jpg`), join(folder, `${i}.jpg`));
    const victim = join(folder, '5.jpg');
    const time = new Date(1.7e12);
    utimesSync(victim, time, time);
    const options: LoaderOptions = { batchSize: 4, views: crop, epochs: 2, threads: 2 };
    const plain = await take(await openDataset(folder), options);
    const spec = { path: folder, cache: { folder: join(scratch, 'photo-cache'), maxBytes: 1e7 } };
    assert.deepEqual(await take(await openDataset(spec), options), plain);
    // The same time and size, other bytes: only the cache still has the image.
    writeFileSync(victim, new Uint8Array(statSync(victim).size));
    utimesSync(victim, time, time);
    const strict = { ...options, maxCorrupt: 0 };
    assert.deepEqual(await take(await openDataset(spec), strict), plain);
    utimesSync(victim, time, new Date(time.getTime() + 5000));
    await assert.rejects(take(await openDataset(spec), strict), /5\.jpg/);
  });
});

describe('iteration', () => {
  it('ends after the last epoch', async () => {
    const loader: Loader = await createLoader(small, { batchSize: 10, epochs: 2, threads: 0 });
    let count = 0;
    for await (const _ of loader) count++;
    assert.equal(count, 4);
    assert.equal(await loader.next(), undefined);
    await loader.close();
  });
});
