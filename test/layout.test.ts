import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Folders of src, from the foundation up: a file imports only from its own folder and those before it. */
const ORDER = [
  'base',
  'graph',
  'runtime',
  'nn',
  'optim',
  'data',
  'masking',
  'energy',
  'methods',
  'eval',
  'world',
  'agent',
  'hub',
  'report',
  'train',
  'cli',
];

const source = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'src');

function* files(folder: string): Generator<string> {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else if (path.endsWith('.ts')) yield path;
  }
}

const importsOf = (text: string): string[] =>
  [...text.matchAll(/(?:from|import\(|import)\s*['"](\.[^'"]+)['"]/g)].map((match) => match[1]);

test('imports go up the list of folders only', () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const path of files(source)) {
    const folder = relative(source, path).split('/')[0];
    if (folder.endsWith('.ts')) continue;
    const own = ORDER.indexOf(folder);
    assert.ok(own >= 0, `${folder} is not in the list of folders`);
    for (const target of importsOf(readFileSync(path, 'utf8'))) {
      const other = relative(source, normalize(join(dirname(path), target))).split('/')[0];
      seen++;
      if (ORDER.indexOf(other) > own) wrong.push(`${relative(source, path)} imports ${target}`);
    }
  }
  assert.ok(seen > 100);
  assert.deepEqual(wrong, []);
});

test('one file alone uses the network, and only where jepa import was asked', () => {
  const network = /\bfetch\(|XMLHttpRequest|WebSocket|EventSource|['"](?:node:)?(?:https?|http2|net|tls|dgram)['"]/;
  const texts = [...files(source)].map((path) => ({ path: relative(source, path), text: readFileSync(path, 'utf8') }));
  const code = (text: string) => text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  const using = texts.filter(({ text }) => network.test(code(text))).map(({ path }) => path);
  assert.deepEqual(using, ['hub/download-node.ts']);
  const calling = texts.filter(({ text }) => /\bdownloadModel\b/.test(code(text))).map(({ path }) => path);
  assert.deepEqual(calling.sort(), ['cli/import.ts', 'hub/download-node.ts', 'hub/index.ts']);
});
