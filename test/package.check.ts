import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Packs the package, installs it into an empty folder as people do, and uses it there: `npm run check:package`. Apart from
 * the tests, as it downloads what the package depends on.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'jepa-package-'));
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

try {
  const [{ filename, files, size }] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root, encoding: 'utf8' }),
  ) as { filename: string; size: number; files: { path: string }[] }[];
  const paths = files.map(({ path }) => path);
  for (const wanted of [
    'LICENSE',
    'README.md',
    'recipes/quickstart.yaml',
    'data/glyphs-fonts.json',
    'dist/src/index.d.ts',
    'dist/src/browser.js',
  ]) {
    assert.ok(paths.includes(wanted), `the package lacks ${wanted}`);
  }
  const foreign = paths.find(
    (path) => !/^(dist\/src\/|data\/|recipes\/|docs\/|LICENSE$|README\.md$|package\.json$)/.test(path),
  );
  assert.equal(foreign, undefined, `the package holds ${foreign}`);
  console.log(`packed ${paths.length} files, ${(size / 1e6).toFixed(1)} MB`);

  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "version": "1.0.0", "type": "module" }\n');
  run('npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', `./${filename}`);
  console.log('installed into an empty folder');

  assert.match(run('npx', 'jepa', '--help'), /Usage: jepa/);
  run('npx', 'jepa', 'train', 'quickstart', 'train.steps=3', 'train.diagnoseEvery=3', '--no-probe', '--out', 'run');
  assert.equal(JSON.parse(readFileSync(join(folder, 'run', 'result.json'), 'utf8')).steps, 3);
  console.log('jepa --help and three steps of jepa train');

  // The library, its operators, and its types as a consumer's compiler sees them.
  writeFileSync(
    join(folder, 'use.ts'),
    `import { openDataset, parseConfig, train, type Config } from 'jepa';
import { matmul, parameter } from 'jepa/graph';
const config: Config = parseConfig({
  data: { size: 28, channels: 1 },
  method: { name: 'lejepa', encoder: { kind: 'conv', widths: [4, 8, 8], blocks: [0, 0], width: 16 }, projector: [16] },
  train: { steps: 3, batchSize: 16 },
});
const shape: readonly unknown[] = matmul(parameter('a', [2, 3]), parameter('b', [3, 4])).shape;
if (shape.join() !== '2,4') throw new Error(String(shape));
const run = await train({ config, dataset: await openDataset('glyphs') });
await run.close();
console.log(run.steps);
`,
  );
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  cpSync(join(root, 'node_modules', '@types'), join(folder, 'node_modules', '@types'), { recursive: true });
  cpSync(join(root, 'node_modules', 'undici-types'), join(folder, 'node_modules', 'undici-types'), { recursive: true });
  const flags = '--strict --target es2022 --module nodenext --lib es2023,dom --types node'.split(' ');
  run(process.execPath, tsc, ...flags, 'use.ts');
  assert.equal(run(process.execPath, 'use.js').trim(), '3');
  const [, example] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8')) as RegExpExecArray;
  writeFileSync(join(folder, 'readme.ts'), example);
  run(process.execPath, tsc, ...flags, '--noEmit', 'readme.ts');
  console.log('the library trains from TypeScript');

  assert.ok(existsSync(join(folder, 'run', 'checkpoint')));
  assert.ok(statSync(join(folder, filename)).size < 16e6, 'the package is larger than 16 MB');
  console.log('package: all checks passed');
} finally {
  rmSync(folder, { recursive: true, force: true });
}
