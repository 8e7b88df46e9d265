import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { createRandom } from '../src/base/random.js';
import { openDataset } from '../src/data/open-node.js';
import { createEngine } from '../src/runtime/index.js';
import { exportTransformers } from '../src/train/export.js';
import { extractFeatures } from '../src/train/features.js';
import type { FrozenEncoder } from '../src/train/frozen.js';
import { smallVit, untrained } from './train/encoders.js';

/**
 * Loads exported folders with transformers.js and compares features of the same image files: `npm run check:transformers`.
 * Apart from the tests, as it downloads that library; in processes of its own, as two versions of ONNX Runtime cannot live
 * in one.
 */
const VERSION = '4.2.0';
const folder = mkdtempSync(join(tmpdir(), 'jepa-transformers-'));

const SCRIPT = `
import { pipeline } from '@huggingface/transformers';
const [model, ...images] = process.argv.slice(2);
const extract = await pipeline('image-feature-extraction', model);
const tensor = ({ dims, data }) => ({ dims, data: [...data] });
const tokens = tensor(await extract(images));
const pooled = tensor(await extract(images, { pool: true }));
console.log(JSON.stringify({ kind: extract.model.constructor.name, tokens, pooled }));
`;

interface Loaded {
  readonly kind: string;
  readonly tokens: { readonly dims: number[]; readonly data: number[] };
  readonly pooled: { readonly dims: number[]; readonly data: number[] };
}

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '', 'nothing to warn of');
  return stdout;
}

/** Images of exactly the encoder's size: transformers.js does not resize as Pillow and we do (specs/formats.md 1.3). */
async function writeImages(name: string, { encoder }: FrozenEncoder, count: number): Promise<string> {
  const images = join(folder, name);
  mkdirSync(images);
  const [, height, width] = encoder.inputs[0].shape;
  const channels = encoder.inputs[0].shape[0] as 1 | 3;
  for (let i = 0; i < count; i++) {
    const random = createRandom(i, name);
    const bytes = Uint8Array.from({ length: height * width * channels }, () => random.integer(256));
    await sharp(bytes, { raw: { width, height, channels } })
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .png()
      .toFile(join(images, `${i}.png`));
  }
  return images;
}

const largest = (got: readonly number[], expected: ArrayLike<number>): number =>
  got.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i])), 0);

const engine = await createEngine();
try {
  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "version": "1.0.0", "type": "module" }\n');
  writeFileSync(join(folder, 'extract.js'), SCRIPT);
  const wanted = `@huggingface/transformers@${VERSION}`;
  spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', wanted], {
    cwd: folder,
    stdio: 'inherit',
  });

  for (const channels of [3, 1] as const) {
    const statistics = { mean: [0.4, 0.5, 0.6].slice(0, channels), std: [0.2, 0.25, 0.3].slice(0, channels) };
    const frozen = untrained(smallVit(channels), [{ kind: 'normalize', ...statistics }]);
    const name = channels === 3 ? 'colour' : 'grey';
    const images = await writeImages(name, frozen, 3);
    for (const externalAbove of [undefined, 1000]) {
      const model = `./${name}-${externalAbove === undefined ? 'one-file' : 'external'}`;
      exportTransformers(frozen, join(folder, model), { externalAbove });
      const files = [0, 1, 2].map((i) => join(images, `${i}.png`));
      const { kind, tokens, pooled } = JSON.parse(run('node', 'extract.js', model, ...files)) as Loaded;
      assert.equal(kind, 'IJepaModel');
      assert.deepEqual(
        [tokens.dims, pooled.dims],
        [
          [3, 9, 32],
          [3, 32],
        ],
      );
      const dataset = await openDataset({ path: images, channels });
      const { rows } = await extractFeatures(engine, frozen, dataset);
      assert.equal(pooled.data.length, rows.data.length);
      const difference = largest(pooled.data, rows.data);
      assert.ok(difference < 1e-4, `${model}: pooled features differ by ${difference}`);
      // Tokens of the pipeline, averaged as a user would.
      const means = Array.from({ length: 96 }, (_, at) => {
        const [image, feature] = [Math.floor(at / 32), at % 32];
        let sum = 0;
        for (let token = 0; token < 9; token++) sum += tokens.data[(image * 9 + token) * 32 + feature];
        return sum / 9;
      });
      assert.ok(largest(means, rows.data) < 1e-4, `${model}: tokens differ`);
      console.log(`${model}: ${kind} of transformers.js ${VERSION}, features within ${difference.toExponential(1)}`);
    }
  }
} finally {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
}
