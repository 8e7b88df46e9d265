import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { smallIjepa } from '../browser/recipe.js';
import { compare, type Trained, trainRecipe } from '../browser/train.js';
import { webgpuEnvironment } from '../runtime/targets.js';

/** The I-JEPA recipe takes the same ten steps on every backend of Node; `test/browser` does the same in a page. */
describe('ten steps of a recipe', () => {
  let expected: Trained;
  before(async () => {
    expected = await trainRecipe(smallIjepa(10), 'cpu');
    assert.equal(expected.losses.length, 10);
  });

  test('wasm as cpu', async () => compare(await trainRecipe(smallIjepa(10), 'wasm'), expected, 1e-3));

  const env = webgpuEnvironment();
  test('webgpu as cpu', { skip: env ? false : 'no WebGPU adapter' }, () => {
    const script = fileURLToPath(new URL('./webgpu-child.js', import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
      env,
      encoding: 'utf8',
      timeout: 240_000,
    });
    assert.equal(status, 0, stderr);
    compare(JSON.parse(stdout) as Trained, expected, 1e-3);
  });
});
