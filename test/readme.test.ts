import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'jepa-readme-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('the code of the README trains, embeds and probes', () => {
  const [, code] = /```ts\n([\s\S]*?)```/.exec(readme) as RegExpExecArray;
  assert.ok(code.trim().split('\n').length <= 26, 'the example is longer than it claims to be');
  const change = (text: string, from: string, to: string): string => {
    assert.ok(text.includes(from), `the example has no ${from}`);
    return text.replace(from, to);
  };
  // A budget of seconds: a few images and steps, a narrower encoder.
  let small = change(code, "await openSplits('glyphs')", 'await fewImages()');
  small = change(small, 'minutes: 3', 'steps: 3, batchSize: 16, workers: 2');
  small = change(small, 'width: 96, depth: 4, heads: 4', 'width: 16, depth: 1, heads: 2');
  const helper = `
import { openDataset, subset } from 'jepa';
async function fewImages() {
  const [train, test] = [await openDataset('glyphs'), await openDataset({ path: 'glyphs', split: 'test' })];
  const some = (n, from) => Int32Array.from({ length: n }, (_, i) => i * from);
  return { train: subset(train, some(400, 109)), test: subset(test, some(100, 118)) };
}
`;
  const { outputText } = ts.transpileModule(small + helper, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  // `jepa` as an installed package: this build under its name.
  const installed = join(folder, 'node_modules', 'jepa');
  mkdirSync(join(installed, 'dist'), { recursive: true });
  symlinkSync(join(root, 'package.json'), join(installed, 'package.json'));
  symlinkSync(join(dirname(fileURLToPath(import.meta.url)), '..', 'src'), join(installed, 'dist', 'src'));
  writeFileSync(join(folder, 'use.mjs'), outputText);
  const { status, stdout, stderr } = spawnSync(process.execPath, ['use.mjs'], { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^1 [\d.]+\n2 [\d.]+\n3 [\d.]+\nlinear probe [\d.]+, raw pixels [\d.]+\n$/);
  assert.ok(existsSync(join(folder, 'letters.parquet')));
  assert.ok(existsSync(join(folder, 'runs', 'mine', 'checkpoint')));
});

test('the README names every recipe, every command and files that exist', () => {
  for (const file of readdirSync(join(root, 'recipes')))
    assert.ok(readme.includes(`| \`${file.replace('.yaml', '')}\` |`), file);
  for (const [, path] of readme.matchAll(/\]\(([^)]+)\)/g)) assert.ok(existsSync(join(root, path)), path);
  for (const [, path] of readme.matchAll(/^(src\/\w+) /gm)) assert.ok(existsSync(join(root, path)), path);
  const main = readFileSync(join(root, 'src', 'cli', 'main.ts'), 'utf8');
  const commands = [...main.matchAll(/\.command\('(\w+)'\)/g)].map(([, name]) => name);
  for (const name of commands)
    if (!['quickstart', 'bench'].includes(name)) assert.match(readme, new RegExp(`npx jepa ${name} `), name);
});
