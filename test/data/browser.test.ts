import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { root } from './fixtures.js';

it('what a browser loads of src/data needs nothing of Node', () => {
  const folder = join(root, 'src', 'data');
  const shared = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /(?<!-node)\.ts$/.test(name),
  );
  assert.ok(shared.includes('loader.ts') && shared.includes('idx.ts'));
  for (const name of shared) {
    const text = readFileSync(join(folder, name), 'utf8');
    for (const [, from] of text.matchAll(/^(?:import|export)\s(?!type\s)[^;]*?from '([^']+)';/gm)) {
      assert.ok(!/^node:|-node\.js$|^sharp$|base\/atomic\.js$/.test(from), `${name} imports ${from}`);
    }
  }
});
