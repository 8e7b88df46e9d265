import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import sharp from 'sharp';
import { JepaError } from '../../src/base/errors.js';
import { decodeImage } from '../../src/data/decode-node.js';
import { DECODE_DEFAULTS, rgbToGrey } from '../../src/data/image-format.js';
import { casesOf, expected, fixtures, largestDifference } from './fixtures.js';

const read = (file: string) => readFileSync(join(fixtures, file));

describe('images against Pillow', () => {
  for (const { name, files, arrays } of casesOf('image', 'good')) {
    it(name, async () => {
      const bytes = read(files[0]);
      let compared = 0;
      for (const [key, { atol = 0 }] of Object.entries(arrays)) {
        const wanted = expected.get(`${name}/${key}`)!;
        const stored = key === 'stored';
        const image = await decodeImage(bytes, name, {
          ...DECODE_DEFAULTS,
          orientation: stored ? 'stored' : 'upright',
        });
        let { data } = wanted;
        let [height, width] = wanted.shape;
        if (key === 'rgba') data = data.filter((_, i) => i % 4 !== 3);
        else if (key === 'frames') {
          [, height, width] = wanted.shape;
          data = data.slice(0, height * width * 3);
        } else if (key === 'gray' || (key === 'high_byte' && wanted.shape.length === 2))
          data = data.flatMap((v) => [v, v, v]);
        else if (key === 'alpha')
          continue; // dropped, as the case `rgb` beside it says
        else if (key === 'gray16' || key === 'rgb16')
          data = data.flatMap((v) => (key === 'gray16' ? [v, v, v] : [v])).map((v) => (v & 0xffff) >> 8);
        assert.deepEqual([image.height, image.width, image.channels], [height, width, 3]);
        const difference = largestDifference(image.data, data);
        assert.ok(difference <= atol, `${key}: ${difference} levels`);
        compared++;
      }
      assert.ok(compared > 0);
    });
  }

  it('takes grey as Pillow does', async () => {
    const grey = await decodeImage(read('images/rgb.png'), 'rgb', { ...DECODE_DEFAULTS, channels: 1 });
    assert.equal(grey.channels, 1);
    // 19595, 38470 and 7471 of 65536, rounded, by hand: pure red, green, blue, and a mixture.
    assert.deepEqual([...rgbToGrey(Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 30))], [76, 150, 29, 124]);
  });

  it('reads AVIF', async () => {
    const { data, shape } = expected.get('image.rgb.png/rgb')!;
    const raw = { width: shape[1], height: shape[0], channels: 3 as const };
    const avif = await sharp(Uint8Array.from(data), { raw })
      .avif({ quality: 100, chromaSubsampling: '4:4:4' })
      .toBuffer();
    const image = await decodeImage(avif, 'avif');
    assert.ok(largestDifference(image.data, data) <= 12);
  });

  it('reduces large images while decoding, and only those', async () => {
    const big = await sharp({ create: { width: 400, height: 300, channels: 3, background: '#204060' } })
      .jpeg()
      .toBuffer();
    const small = await decodeImage(big, 'big', { ...DECODE_DEFAULTS, shortSide: 120 });
    assert.deepEqual([small.width, small.height], [160, 120]);
    const kept = await decodeImage(big, 'big', { ...DECODE_DEFAULTS, shortSide: 500 });
    assert.deepEqual([kept.width, kept.height], [400, 300]);
  });
});

describe('broken images', () => {
  const must: Record<string, RegExp> = {
    'image.bad.empty.png': /empty/,
    'image.bad.not_image.jpg': /web page/,
    'image.bad.svg.png': /SVG/,
    'image.bad.bomb.png': /limit/,
    'image.bad.dims.jpg': /limit/,
    'image.bad.dims.gif': /limit/,
  };
  for (const { name, files } of casesOf('image', 'bad')) {
    it(name, async () => {
      const before = process.memoryUsage().rss;
      const start = performance.now();
      await assert.rejects(decodeImage(read(files[0]), files[0]), (error: Error) => {
        assert.ok(error instanceof JepaError, String(error));
        assert.ok(error.message.startsWith(`${files[0]}: `) && !error.message.includes('\n'), error.message);
        if (must[name]) assert.match(error.message, must[name]);
        return true;
      });
      assert.ok(performance.now() - start < 5000);
      assert.ok(process.memoryUsage().rss - before < 64 * 2 ** 20);
    });
  }

  it('a JPEG cut inside its scan is refused, not filled with grey', async () => {
    const noise = Uint8Array.from({ length: 128 * 96 * 3 }, (_, i) => (i * 7919) % 251);
    const whole = await sharp(noise, { raw: { width: 128, height: 96, channels: 3 } })
      .jpeg({ quality: 90 })
      .toBuffer();
    await decodeImage(whole, 'whole');
    await assert.rejects(
      decodeImage(whole.subarray(0, Math.floor(whole.length * 0.6)), 'cut.jpg'),
      /cut\.jpg: the image cannot be decoded/,
    );
  });
});

describe('BMP', () => {
  /** A BMP of 2 x 2 pixels with a 40-byte header. */
  function bmp(bits: number, compression: number, extra: number[], rows: number[], height = 2): Uint8Array {
    const head = new DataView(new ArrayBuffer(54));
    const start = 54 + extra.length;
    head.setUint16(0, 0x4d42, true);
    head.setUint32(2, start + rows.length, true);
    head.setUint32(10, start, true);
    head.setUint32(14, 40, true);
    head.setInt32(18, 2, true);
    head.setInt32(22, height, true);
    head.setUint16(26, 1, true);
    head.setUint16(28, bits, true);
    head.setUint32(30, compression, true);
    return Uint8Array.from([...new Uint8Array(head.buffer), ...extra, ...rows]);
  }
  const black = [0, 0, 0];
  const white = [255, 255, 255];
  const red = [255, 0, 0];
  const palette = [0, 0, 0, 0, 255, 255, 255, 0];

  const cases: [string, Uint8Array, number[]][] = [
    [
      '1 bit, bottom up',
      bmp(1, 0, palette, [0b01000000, 0, 0, 0, 0b10000000, 0, 0, 0]),
      [...white, ...black, ...black, ...white],
    ],
    [
      '1 bit, top down',
      bmp(1, 0, palette, [0b01000000, 0, 0, 0, 0b10000000, 0, 0, 0], -2),
      [...black, ...white, ...white, ...black],
    ],
    // 16 of 31 is 131.6 of 255.
    [
      '16 bits 5-5-5',
      bmp(16, 0, [], [0x00, 0x7c, 0, 0, 0xff, 0x7f, 0x10, 0x42]),
      [...white, 131, 131, 131, ...red, ...black],
    ],
    [
      '16 bits 5-6-5 by masks',
      bmp(16, 3, [0, 0xf8, 0, 0, 0xe0, 0x07, 0, 0, 0x1f, 0, 0, 0], [0x00, 0xf8, 0, 0, 0xff, 0xff, 0xe0, 0x07]),
      [...white, 0, 255, 0, ...red, ...black],
    ],
    [
      '32 bits, alpha ignored',
      bmp(32, 0, [], [0, 0, 255, 9, 0, 0, 0, 9, 255, 255, 255, 0, 3, 2, 1, 0]),
      [...white, 1, 2, 3, ...red, ...black],
    ],
  ];
  for (const [name, bytes, wanted] of cases) {
    it(name, async () => assert.deepEqual([...(await decodeImage(bytes, name)).data], wanted));
  }

  it('refuses what is cut, too large, or packed', async () => {
    const good = bmp(32, 0, [], [0, 0, 255, 9, 0, 0, 0, 9, 255, 255, 255, 0, 3, 2, 1, 0]);
    for (let length = 2; length < good.length; length++) {
      await assert.rejects(decodeImage(good.subarray(0, length), 'cut.bmp'), /cut\.bmp: damaged BMP/);
    }
    const huge = good.slice();
    new DataView(huge.buffer).setInt32(18, 0x7fffffff, true);
    await assert.rejects(decodeImage(huge, 'huge.bmp'), /limit/);
    await assert.rejects(decodeImage(bmp(8, 1, palette, [0, 0, 0, 0]), 'rle.bmp'), /compression 1.*PNG/);
    await assert.rejects(decodeImage(bmp(8, 0, palette, [7, 0, 0, 0, 0, 0, 0, 0]), 'p.bmp'), /palette/);
  });
});

describe('PNM', () => {
  const decode = async (text: string, ...bytes: number[]) =>
    [...(await decodeImage(Uint8Array.from([...Buffer.from(text, 'latin1'), ...bytes]), 'x.pnm')).data].filter(
      (_, i) => i % 3 === 0,
    );

  it('reads text and binary, comments, other maxima, 16 bits and bitmaps', async () => {
    assert.deepEqual(await decode('P2\n# grey\n3 1 # size\n4\n0 2 4'), [0, 128, 255]);
    assert.deepEqual(await decode('P3 1 2 255 7 8 9 1 2 3\n'), [7, 1]);
    assert.deepEqual(await decode('P5 2 1 65535\n', 0x12, 0xff, 0xab, 0x00), [0x12, 0xab]);
    assert.deepEqual(await decode('P4 9 1\n', 0b10100000, 0b10000000), [0, 255, 0, 255, 255, 255, 255, 255, 0]);
    assert.deepEqual(await decode('P1\n3 2\n101 0 1 0'), [0, 255, 0, 255, 0, 255]);
  });

  it('refuses what is cut or out of range', async () => {
    await assert.rejects(decode('P5 2 2 255\n', 1, 2, 3), /end early/);
    await assert.rejects(decode('P2 2 1 4 1 5'), /above its largest value/);
    await assert.rejects(decode('P6 100000 100000 255\n'), /limit/);
    await assert.rejects(decode('P2 2 x'), /no height at byte/);
    await assert.rejects(decode('P2 2 1 4 1'), /end early/);
  });
});
