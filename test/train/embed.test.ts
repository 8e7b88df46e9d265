import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import sharp from 'sharp';
import { createRandom } from '../../src/base/random.js';
import { memoryDataset } from '../../src/data/dataset.js';
import { openDataset } from '../../src/data/open-node.js';
import { withFile } from '../../src/hub/files.js';
import { openNpy } from '../../src/hub/npy.js';
import { loadFloat32 } from '../../src/hub/raw.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { embed, fingerprint } from '../../src/train/embed.js';
import { extractFeatures } from '../../src/train/features.js';
import { embeddingsOf, openEmbeddings, search } from '../../src/train/search.js';
import { smallVit, untrained } from './encoders.js';

let folder: string;
let images: string;
let engine: Engine;
const encoder = untrained(smallVit(3), [{ kind: 'normalize', mean: [0.5], std: [0.25] }]);
const CLASSES = ['bird', 'cat'];

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'jepa-embed-'));
  images = join(folder, 'images');
  engine = await createEngine({ workers: 2 });
  for (const [label, name] of CLASSES.entries()) {
    mkdirSync(join(images, name), { recursive: true });
    for (let i = 0; i < 4; i++) {
      const random = createRandom(i, name);
      // Sizes differ, so that the transforms have to bring them to one.
      const [width, height] = [20 + 4 * i, 30 + label];
      const bytes = Uint8Array.from({ length: width * height * 3 }, () => random.integer(256));
      await sharp(bytes, { raw: { width, height, channels: 3 } })
        .png()
        .toFile(join(images, name, `${i}.png`));
    }
  }
  writeFileSync(join(images, 'cat', '2b.png'), 'no image');
});
after(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Cosines of one row to all, by the definition. */
function cosines(rows: Float32Array, width: number, row: number): number[] {
  const at = (i: number): Float32Array => rows.subarray(i * width, (i + 1) * width);
  const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, j) => sum + value * b[j], 0);
  const norm = (a: Float32Array): number => Math.sqrt(dot(a, a));
  return Array.from({ length: rows.length / width }, (_, i) => dot(at(i), at(row)) / norm(at(i)) / norm(at(row)));
}

describe('embed', () => {
  for (const ending of ['parquet', 'npy']) {
    it(`writes every readable image with path and class to .${ending}`, async () => {
      const dataset = await openDataset({ path: images, channels: 3 });
      const out = join(folder, `all.${ending}`);
      const skipped: string[] = [];
      const result = await embed({ encoder, dataset, out, engine, loading: { log: (line) => skipped.push(line) } });
      assert.deepEqual([result.samples, result.skipped, result.features], [8, 1, 32]);
      assert.match(skipped.join(), /2b\.png/);
      assert.deepEqual(
        result.files.map((file) => existsSync(file)),
        result.files.map(() => true),
      );
      const index = await openEmbeddings(out);
      assert.deepEqual(
        index.paths,
        CLASSES.flatMap((name) => [0, 1, 2, 3].map((i) => join(images, name, `${i}.png`))),
      );
      assert.deepEqual([...(index.labels ?? [])], [0, 0, 0, 0, 1, 1, 1, 1]);
      assert.deepEqual(index.classNames, CLASSES);
      assert.equal(index.metadata['encoder fingerprint'], fingerprint(encoder));
      assert.equal(index.metadata.licence, 'none');
      // One image alone gives the same row.
      const alone = await extractFeatures(
        engine,
        encoder,
        await openDataset({ path: join(images, 'bird'), channels: 3 }),
      );
      const rows = index.embeddings.data.slice(0, 4 * 32);
      assert.ok(alone.rows.data.every((value, i) => Math.abs(value - rows[i]) < 1e-5));
    });
  }

  it('writes an array that NumPy reads: the header counts the rows that are there', async () => {
    const out = join(folder, 'all.npy');
    const array = withFile(out, (source) => loadFloat32(openNpy(source).tensor!, out));
    assert.deepEqual(array.shape, [8, 32]);
    assert.match(readFileSync(out).subarray(10, 128).toString(), /'shape': \(8, 32\)/);
  });

  it('leaves nothing behind where it fails, and refuses other endings', async () => {
    const dataset = await openDataset({ path: images, channels: 3 });
    const before = readdirSync(folder);
    await assert.rejects(
      embed({ encoder, dataset, out: join(folder, 'broken.npy'), engine, loading: { maxCorrupt: 0, log: () => {} } }),
      /2b\.png/,
    );
    await assert.rejects(embed({ encoder, dataset, out: join(folder, 'all.csv'), engine }), /\.parquet or \.npy/);
    assert.deepEqual(readdirSync(folder), before);
  });
});

describe('search', () => {
  it('ranks by cosine and leaves the example out', async () => {
    const index = await openEmbeddings(join(folder, 'all.parquet'));
    const like = join(images, 'cat', '1.png');
    const expected = cosines(index.embeddings.data, 32, 5)
      .map((score, row) => ({ score, row }))
      .filter(({ row }) => row !== 5)
      .sort((a, b) => b.score - a.score)
      .slice(0, 3);
    for (const example of [like, 5]) {
      const hits = await search({ encoder, index, like: example, k: 3, engine });
      assert.deepEqual(
        hits.map(({ row }) => row),
        expected.map(({ row }) => row),
      );
      hits.forEach(({ score, path, class: name }, i) => {
        assert.ok(Math.abs(score - expected[i].score) < 1e-5);
        assert.equal(path, index.paths[hits[i].row]);
        assert.equal(name, hits[i].row < 4 ? 'bird' : 'cat');
      });
    }
    // More than there are: all but the example.
    assert.equal((await search({ encoder, index, like, k: 100, engine })).length, 7);
  });

  it('refuses embeddings of another encoder and examples that cannot be read', async () => {
    const index = await openEmbeddings(join(folder, 'all.npy'));
    const weights = new Map(encoder.weights);
    const [name, first] = [...weights][0];
    weights.set(name, { ...first, data: first.data.map((value) => value + 1) });
    await assert.rejects(
      search({ encoder: { ...encoder, weights }, index, like: 0, engine }),
      /made by another encoder/,
    );
    await assert.rejects(search({ encoder, index, like: join(images, 'cat', '2b.png'), engine }), /2b\.png/);
    await assert.rejects(search({ encoder, index, like: 8, engine }), /no row 8, rows are 0 to 7/);
    writeFileSync(join(folder, 'all.npy.json'), '{"paths": {"length": 8}}');
    await assert.rejects(openEmbeddings(join(folder, 'all.npy')), /json does not say what the rows of .* are/);
    rmSync(join(folder, 'all.npy.json'));
    await assert.rejects(
      openEmbeddings(join(folder, 'all.npy')),
      /all\.npy\.json, which .* is missing; embed the images again/,
    );
  });

  it('keeps embeddings of a folder until an image changes', async () => {
    const cache = join(folder, 'cache');
    let runs = 0;
    const options = { encoder, engine, cache, loading: { log: () => {} }, onProgress: () => runs++ };
    const open = () => openDataset({ path: images, channels: 3 });
    const first = await embeddingsOf({ ...options, dataset: await open() });
    assert.equal(runs, 1);
    const second = await embeddingsOf({ ...options, dataset: await open() });
    assert.equal(runs, 1);
    assert.deepEqual(second.embeddings, first.embeddings);
    assert.deepEqual(second.paths, first.paths);
    utimesSync(join(images, 'bird', '0.png'), new Date(), new Date(Date.now() + 5000));
    await embeddingsOf({ ...options, dataset: await open() });
    assert.equal(runs, 2);
    assert.equal(readdirSync(cache).length, 2);
  });

  it('does not keep embeddings of images that only the caller can read', async () => {
    const cache = join(folder, 'cache of own');
    const pixels = new Uint8Array(3 * 24 * 24 * 3).map((_, i) => i % 251);
    const shared = memoryDataset({ name: 'own', width: 24, height: 24, channels: 3, pixels });
    const dataset = { ...shared, source: undefined };
    const index = await embeddingsOf({ encoder, engine, cache, dataset });
    assert.deepEqual(index.embeddings.shape, [3, 32]);
    assert.deepEqual(readdirSync(cache), []);
    // In memory that the library sees, they are known by their pixels.
    await embeddingsOf({ encoder, engine, cache, dataset: shared });
    assert.equal(readdirSync(cache).length, 1);
  });
});
