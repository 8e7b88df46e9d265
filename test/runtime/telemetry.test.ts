import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const PROGRAM = `(async () => {
  const { createEngine } = await import(${JSON.stringify(new URL('../../src/runtime/index.js', import.meta.url))});
  const { add, input } = await import(${JSON.stringify(new URL('../../src/graph/index.js', import.meta.url))});
  const engine = await createEngine({ workers: 1 });
  const x = input('x', ['batch']);
  const program = await engine.compile({ name: 'sum', outputs: { y: add(x, x) } }, await engine.createState([]));
  const { outputs } = await program.run({ x: { dtype: 'float32', shape: [1], data: Float32Array.of(3) } });
  await engine.close();
  console.log(outputs.y.data[0]);
})()`;

/** What a run of a program leaves in the home folder. */
function leftBehind(): string[] {
  const home = mkdtempSync(join(tmpdir(), 'jepa-home-'));
  try {
    const { XDG_CACHE_HOME: _, ORT_DISABLE_TELEMETRY: __, ...rest } = process.env;
    const env = { ...rest, HOME: home };
    const { stdout, stderr } = spawnSync(process.execPath, ['--eval', PROGRAM], { env });
    assert.equal(String(stdout), '6\n', String(stderr));
    return readdirSync(home);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

test('the runtime keeps no device id and no usage events, which it would send to its makers', () => {
  assert.deepEqual(leftBehind(), []);
});
