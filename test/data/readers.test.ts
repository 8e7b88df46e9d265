import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { JepaError } from '../../src/base/errors.js';
import { parseCifar } from '../../src/data/cifar.js';
import { type ImageDataset, memoryDataset, sharedBytes, subset } from '../../src/data/dataset.js';
import { decodeImage } from '../../src/data/decode-node.js';
import { parseIdx } from '../../src/data/idx.js';
import { byCodePoint, listImageFolder } from '../../src/data/image-folder-node.js';
import { openDataset, openSplits } from '../../src/data/open-node.js';
import { classField, expandShards, jsonField, webSamples } from '../../src/data/webdataset.js';
import { openShard } from '../../src/data/webdataset-node.js';
import { casesOf, expected, fixtures } from './fixtures.js';

const scratch = mkdtempSync(join(tmpdir(), 'jepa-readers-'));
after(() => rmSync(scratch, { recursive: true }));
const folder = (name: string) => {
  const path = join(scratch, name);
  mkdirSync(path, { recursive: true });
  return path;
};

/** Runs what must fail: one JepaError of one line, soon, without much memory. */
async function refused(run: () => Promise<unknown>): Promise<string> {
  const before = process.memoryUsage().rss;
  const start = performance.now();
  let message = '';
  await assert.rejects(run, (error: Error) => {
    assert.ok(error instanceof JepaError, String(error.stack));
    assert.ok(!error.message.includes('\n'), error.message);
    message = error.message;
    return true;
  });
  assert.ok(performance.now() - start < 5000);
  assert.ok(process.memoryUsage().rss - before < 64 * 2 ** 20, 'memory');
  return message;
}

async function pixelsOf(dataset: ImageDataset): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < dataset.length; i++) all.push(...(await dataset.read(i)).data);
  return all;
}

describe('IDX', () => {
  for (const { name, files, arrays, expect } of casesOf('idx', 'good')) {
    it(name, async () => {
      const path = join(fixtures, files[0]);
      if (arrays.value) {
        const { type, shape, data } = await parseIdx(readFileSync(path), path);
        const wanted = expected.get(`${name}/value`)!;
        assert.equal(type, expect.type);
        assert.deepEqual([[...shape], [...data]], [[...wanted.shape], [...wanted.data]]);
        return;
      }
      const dataset = await openDataset(path);
      const images = expected.get(`${name}/images`)!;
      assert.deepEqual(
        [dataset.length, dataset.size!.height, dataset.size!.width, dataset.channels],
        [...images.shape, 1],
      );
      assert.deepEqual(await pixelsOf(dataset), [...images.data]);
      assert.deepEqual([...dataset.labels!], [...expected.get(`${name}/labels`)!.data]);
    });
  }
  const must: Record<string, RegExp> = {
    'idx.bad.truncated': /end early/,
    'idx.bad.trailing': /bytes after the data/,
    'idx.bad.magic': /first two bytes/,
    'idx.bad.type': /unknown element type/,
    'idx.bad.rank0': /rank 0/,
    'idx.bad.absurd': /4294967295 x 4294967295 x 4294967295/,
    'idx.bad.little_endian': /end early|far more/,
    'idx.bad.rank255': /rank 255/,
    'idx.bad.counts': /differ in number/,
    'idx.bad.gzip': /gzip stream is cut/,
    'idx.bad.gzip_bomb': /bytes after the data/,
  };
  for (const { name, files } of casesOf('idx', 'bad')) {
    it(name, async () => {
      const path = join(fixtures, files[0]);
      const message = await refused(async () =>
        files.length > 1 ? openDataset(path) : parseIdx(readFileSync(path), path),
      );
      assert.match(message, must[name]);
      assert.ok(
        files.some((file) => message.includes(file)),
        message,
      );
    });
  }

  it('every cut and every changed byte of a small file is refused or harmless', async () => {
    const good = readFileSync(join(fixtures, 'idx/train-labels-idx1-ubyte'));
    for (let length = 0; length < good.length; length++) {
      await assert.rejects(parseIdx(good.subarray(0, length), 'cut'), JepaError);
      await assert.rejects(parseIdx(gzipSync(good.subarray(0, length)), 'cut'), JepaError);
    }
    for (let at = 0; at < 8; at++) {
      const changed = Uint8Array.from(good);
      changed[at] ^= 0x11;
      await assert.rejects(parseIdx(changed, 'changed'), JepaError);
    }
  });

  it('a folder with training and test files opens as both', async () => {
    const path = folder('mnist');
    cpSync(join(fixtures, 'idx/train-images-idx3-ubyte'), join(path, 'train-images-idx3-ubyte'));
    cpSync(join(fixtures, 'idx/train-labels-idx1-ubyte'), join(path, 'train-labels.idx1-ubyte'));
    for (const what of ['images-idx3', 'labels-idx1']) {
      const file = `t10k-${what}-ubyte.gz`;
      cpSync(join(fixtures, 'idx/gz', file), join(path, file));
    }
    const { train, test, origin } = await openSplits(path);
    assert.equal(origin, 'own');
    assert.deepEqual([...train.labels!], [...expected.get('idx.mnist/labels')!.data]);
    assert.deepEqual(await pixelsOf(test), [...expected.get('idx.gzip/images')!.data]);
  });
});

describe('CIFAR', () => {
  it('cifar10', async () => {
    const [one] = casesOf('cifar binary', 'good');
    const dataset = await openDataset(join(fixtures, 'cifar/cifar-10-batches-bin'));
    assert.equal(dataset.length, one.expect.records);
    assert.deepEqual(dataset.classNames, one.expect.names);
    assert.deepEqual(await pixelsOf(dataset), [...expected.get('cifar10/images')!.data]);
    assert.deepEqual([...dataset.labels!], [...expected.get('cifar10/labels')!.data]);
    await assert.rejects(openDataset({ path: dataset.name.replace(' (train)', ''), split: 'test' }), /no test part/);
  });
  it('cifar100', async () => {
    const dataset = await openDataset({ path: join(fixtures, 'cifar/cifar-100-binary'), split: 'test' });
    assert.deepEqual(await pixelsOf(dataset), [...expected.get('cifar100/images')!.data]);
    assert.deepEqual([...dataset.labels!], [...expected.get('cifar100/fine')!.data]);
    assert.deepEqual([...dataset.attributes!.coarse], [...expected.get('cifar100/coarse')!.data]);
  });
  it('cifar.bad', async () => {
    const load = (name: string) => ({ bytes: readFileSync(join(fixtures, 'cifar/bad', name)), where: name });
    const parse = (name: string) => refused(async () => parseCifar([load(name)], 10));
    assert.match(await parse('data_batch_1.bin'), /data_batch_1\.bin: .*not a multiple of 3073/);
    assert.match(await parse('data_batch_2.bin'), /data_batch_2\.bin: record 0 has label \d+, above 9/);
    assert.match(
      await refused(() => openDataset(join(fixtures, 'cifar/bad/cifar-10-batches-py'))),
      /pickled.*binary version/,
    );
  });
});

describe('WebDataset', () => {
  async function samplesOf(path: string) {
    const { file, close } = await openShard(path);
    const samples: { key: string; fields: Record<string, string>; cls?: number; json?: unknown }[] = [];
    try {
      for await (const { key, fields } of webSamples(file, basename(path))) {
        const sample: (typeof samples)[number] = { key, fields: {} };
        for (const [field, { offset, size }] of fields) {
          const bytes = await file.read(offset, size);
          sample.fields[field] = createHash('sha256').update(bytes).digest('hex');
          if (field === 'cls') sample.cls = classField(bytes, key);
          if (field === 'json') sample.json = jsonField(bytes, key);
        }
        samples.push(sample);
      }
    } finally {
      await close();
    }
    return samples;
  }
  for (const { name, files, expect } of casesOf('webdataset', 'good')) {
    it(name, async () => {
      if (expect.expand) {
        for (const { url, urls } of expect.expand) assert.deepEqual(expandShards(url), urls);
        return;
      }
      const samples = await samplesOf(join(fixtures, files[0]));
      // Facts beside keys and hashes stand only where the case has them.
      for (const [i, wanted] of expect.samples.entries()) {
        for (const key of Object.keys(wanted)) assert.deepEqual(samples[i][key as 'key'], wanted[key], `${i} ${key}`);
      }
      assert.equal(samples.length, expect.samples.length);
    });
  }
  const must: Record<string, RegExp> = {
    truncated_member: /is cut: the file ends at byte 812/,
    truncated_header: /header block is cut/,
    checksum: /checksum/,
    duplicate_field: /sample "0001" has the field "txt" twice/,
    traversal: /leaves the archive/,
    absolute: /absolute/,
    windows_path: /backslash or a drive/,
    nul_name: /checksum/,
    huge_size_octal: /8589934591 bytes is cut/,
    huge_size_base256: /base 256/,
    negative_size: /negative/,
    size_not_octal: /not octal/,
    pax_length: /PAX record is damaged/,
    pax_count: /PAX record is longer|PAX record is damaged/,
    not_tar: /not a tar archive/,
    empty: /empty/,
    gzip_cut: /gzip stream is cut/,
    pickle_field: /pickled field "pyd"/,
    bad_cls: /cls field is not an integer/,
    bad_json: /json field does not parse/,
  };
  for (const { name, files } of casesOf('webdataset', 'bad')) {
    it(name, async () => {
      const path = join(fixtures, files[0]);
      const key = name.replace('wds.bad.', '');
      assert.match(await refused(() => samplesOf(path)), must[key]);
      // As a data set of images they fail too, naming the file.
      assert.ok((await refused(() => openDataset(path))).includes(basename(path)));
    });
  }

  it('an archive cut anywhere is refused', async () => {
    const whole = readFileSync(join(fixtures, 'webdataset/basic-000000.tar'));
    const wanted = (await samplesOf(join(fixtures, 'webdataset/basic-000000.tar'))).length;
    const path = join(scratch, 'cut.tar');
    for (let length = 256; length < whole.length; length += 256) {
      writeFileSync(path, whole.subarray(0, length));
      // The zeros that pad an archive may be missing; everything before them may not.
      const read = await samplesOf(path).catch((error) => assert.ok(error instanceof JepaError));
      assert.ok(read === undefined || read.length === wanted, `${length} bytes`);
    }
  });

  it('names that would break a line or move a cursor are shown with escapes', async () => {
    const archive = readFileSync(join(fixtures, 'webdataset/basic-000000.tar'));
    archive.write('a\\\n\x1b[2J\x9b', 0, 'latin1');
    archive.fill(0x20, 148, 156);
    const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const path = join(scratch, 'names.tar');
    writeFileSync(path, archive);
    const message = await refused(() => samplesOf(path));
    assert.match(message, /the member name "a.*" has a backslash/);
    assert.match(message, /^[ -~\ufffd]+$/);
  });

  it('a folder of images with an archive in it is one of images, one of shards with a preview one of shards', async () => {
    const shard = join(fixtures, 'webdataset/basic-000000.tar');
    const { length } = await openDataset(shard);
    const path = folder('mixed');
    const image = Buffer.concat([Buffer.from('P6 2 2 255\n'), new Uint8Array(12)]);
    mkdirSync(join(path, 'inner'));
    cpSync(shard, join(path, 'old.tar'));
    writeFileSync(join(path, 'one.ppm'), image);
    const shards = await openDataset(path);
    assert.equal(shards.length, length);
    assert.match(shards.note ?? '', /took 1 \.tar file and left 1 image in the same folder/);
    for (const name of ['two.ppm', 'inner/three.ppm']) writeFileSync(join(path, name), image);
    const images = await openDataset(path);
    assert.equal(images.length, 3);
    assert.match(
      images.note ?? '',
      /took 3 images and left 1 \.tar file, old\.tar \(to take it, give the path .*old\.tar\)/,
    );
    rmSync(join(path, 'old.tar'));
    // What other programs write may have the name of a known data set, too.
    writeFileSync(join(path, 'train.bin'), 'a state');
    const beside = await openDataset(path);
    assert.equal(beside.length, 3);
    assert.match(beside.note ?? '', /left 1 \.bin file, train\.bin/);
    rmSync(join(path, 'train.bin'));
    assert.equal((await openDataset(path)).note, undefined);
  });

  it('opens as images with labels, from a shard, a folder, a pattern, and gzipped', async () => {
    const shard = join(fixtures, 'webdataset/basic-000000.tar');
    const samples = casesOf('webdataset', 'good')[0].expect.samples as { cls: number; fields: { jpg: string } }[];
    const path = folder('shards');
    cpSync(shard, join(path, 'train-000000.tar'));
    cpSync(shard, join(path, 'train-000001.tar'));
    writeFileSync(join(scratch, 'zipped.tar.gz'), gzipSync(readFileSync(shard)));
    const one = await openDataset(shard);
    const both = await openDataset(path);
    const pattern = await openDataset(join(path, 'train-{000000..000001}.tar'));
    const zipped = await openDataset(join(scratch, 'zipped.tar.gz'));
    assert.deepEqual(
      [...one.labels!],
      samples.map(({ cls }) => cls),
    );
    assert.deepEqual(
      [...both.labels!],
      [...samples, ...samples].map(({ cls }) => cls),
    );
    assert.deepEqual(both.source, pattern.source);
    const { file, close } = await openShard(shard);
    let i = 0;
    for await (const { key, fields } of webSamples(file, shard)) {
      const { offset, size } = fields.get('jpg')!;
      const wanted = await decodeImage(await file.read(offset, size), key);
      for (const [dataset, index] of [
        [one, i],
        [both, samples.length + i],
        [zipped, i],
      ] as const) {
        assert.deepEqual(await dataset.read(index), wanted);
      }
      assert.ok(one.nameOf!(i).endsWith(`basic-000000.tar:${key}`));
      i++;
    }
    await close();
    assert.equal(one.length, i);
    await assert.rejects(openDataset(join(fixtures, 'webdataset/long_gnu.tar')), /has no image; its fields are txt/);
  });
});

describe('image folders', () => {
  const [{ expect }] = casesOf('image folder', 'good');
  const samples = expect.samples as [string, number][];

  it('the order and classes of torchvision', async () => {
    const path = join(fixtures, 'imagefolder');
    const dataset = await openDataset(path);
    assert.deepEqual(dataset.classNames, expect.classes);
    assert.deepEqual(
      samples.map((_, i) => dataset.nameOf!(i)),
      samples.map(([file]) => join(path, file)),
    );
    assert.deepEqual(
      [...dataset.labels!],
      samples.map(([, label]) => label),
    );
    for (let i = 0; i < dataset.length; i++) {
      assert.deepEqual(await dataset.read(i), await decodeImage(readFileSync(join(path, samples[i][0])), 'x'));
    }
    assert.equal((await openDataset({ path, labels: 'none' })).labels, undefined);
    await assert.rejects(dataset.read(7), /there is no image 7, indices are 0 to 6/);
  });

  it('sorts by code point', () => {
    const sorted = ['10', '2', 'Z', 'a', 'a-b', 'ab', 'é', '\ue000', '\u{1f600}', '\u{1f601}'];
    assert.deepEqual([...sorted].reverse().sort(byCodePoint), sorted);
  });

  it('no image anywhere, or none in one class, is an error that says what was looked for', async () => {
    const message = await refused(() => openDataset(join(fixtures, 'imagefolder_bad')));
    assert.match(message, /holds no image .*"empty".*\.jpg .*\.png .*\.avif .*\.bmp/);
    const path = folder('one-empty');
    cpSync(join(fixtures, 'imagefolder/ant'), join(path, 'ant'), { recursive: true });
    mkdirSync(join(path, 'bee'));
    assert.match(await refused(() => openDataset(path)), /class folder "bee" holds no image .*labels: none/);
    assert.equal((await openDataset({ path, labels: 'none' })).length, 3);
    assert.match(await refused(() => openDataset(join(scratch, 'nowhere'))), /no such file or folder/);
    assert.match(
      await refused(() => openDataset(folder('nothing'))),
      /holds no image; looked for files that end in \.jpg/,
    );
  });

  it('a flat folder has no labels; hidden files, links to nowhere and loops are passed over', async () => {
    const path = folder('flat/inner').replace(/.inner$/, '');
    cpSync(join(fixtures, 'imagefolder/ant/2.png'), join(path, 'b.png'));
    cpSync(join(fixtures, 'imagefolder/ant/2.png'), join(path, '.hidden.png'));
    cpSync(join(fixtures, 'imagefolder/ant/2.png'), join(path, 'inner/a.png'));
    symlinkSync(join(scratch, 'gone.png'), join(path, 'gone.png'));
    symlinkSync(join(path, 'b.png'), join(path, 'link.png'));
    symlinkSync(path, join(path, 'inner/loop'));
    const { paths, labels } = await listImageFolder(path);
    assert.equal(labels, undefined);
    const inside = paths.filter((one) => !one.includes('loop')).map((one) => one.slice(path.length + 1));
    assert.deepEqual(inside, ['b.png', 'link.png', 'inner/a.png']);
    assert.ok(paths.length < 8);
  });

  it('train and val folders share the numbering of the training classes', async () => {
    const path = folder('parts');
    cpSync(join(fixtures, 'imagefolder'), join(path, 'train'), { recursive: true });
    cpSync(join(fixtures, 'imagefolder/ant'), join(path, 'val/ant'), { recursive: true });
    mkdirSync(join(path, 'test'));
    cpSync(join(fixtures, 'imagefolder/ant/2.png'), join(path, 'test/0.png'));
    const { train, test, origin } = await openSplits(path);
    assert.equal(origin, 'own');
    assert.equal(train.length, 7);
    assert.deepEqual([...test.labels!], [3, 3, 3]);
    assert.deepEqual(test.classNames, train.classNames);
    cpSync(join(fixtures, 'imagefolder/ant'), join(path, 'val/unknown'), { recursive: true });
    assert.match(await refused(() => openSplits(path)), /"unknown" is not among the 5 classes/);
  });
});

describe('glyphs', () => {
  it('comes with the package', async () => {
    const { train, test, origin } = await openSplits('glyphs');
    assert.equal(origin, 'own');
    // What data/README.md says.
    assert.deepEqual(
      [train.length, test.length, train.channels, train.size],
      [43710, 11842, 1, { width: 28, height: 28 }],
    );
    assert.equal(train.classNames!.length, 47);
    assert.equal(
      train.labels!.reduce((a, b) => Math.max(a, b)),
      46,
    );
    assert.deepEqual(Object.keys(train.attributes!).sort(), ['bold', 'italic']);
    assert.equal(train.source!.kind, 'memory');
    assert.deepEqual(test.classNames, train.classNames);
  });
});

describe('data sets in memory', () => {
  it('checks sizes and takes subsets', async () => {
    const pixels = sharedBytes(4 * 6).map((_, i) => i);
    const whole = memoryDataset({
      name: 'own',
      width: 3,
      height: 2,
      channels: 1,
      pixels,
      labels: Int32Array.of(5, 6, 7, 8),
    });
    const some = subset(subset(whole, [3, 1, 0]), [2, 0]);
    assert.deepEqual([...some.labels!], [5, 8]);
    assert.deepEqual([...(await some.read(1)).data], [18, 19, 20, 21, 22, 23]);
    assert.equal(some.nameOf!(1), 'own[3]');
    await assert.rejects(some.read(2), /own: there is no image 2/);
    assert.throws(() => subset(whole, [4]), /there is no image 4/);
    assert.throws(
      () => memoryDataset({ name: 'own', width: 3, height: 3, channels: 1, pixels }),
      /24 bytes are no whole number/,
    );
    assert.throws(
      () => memoryDataset({ name: 'own', width: 3, height: 2, channels: 1, pixels, labels: Int32Array.of(1) }),
      /4 images but 1 labels/,
    );
  });
});
