import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Packages that a page can load. */
const PORTABLE = ['onnxruntime-web/wasm', 'onnxruntime-web/webgpu', 'zod', 'fflate'];

test('nothing that the browser entry imports needs Node', () => {
  const seen = new Set<string>();
  const visit = (url: URL): void => {
    if (seen.has(url.href)) return;
    seen.add(url.href);
    const text = readFileSync(fileURLToPath(url), 'utf8');
    const statements =
      /^\s*(?:import|export)\b[^'";]*?\bfrom\s*'([^']+)'|^\s*import\s*'([^']+)'|\bimport\('([^']+)'\)/gm;
    const names = [...text.matchAll(statements)].map((match) => match[1] ?? match[2] ?? match[3]);
    for (const name of names) {
      if (name.startsWith('.')) {
        assert.ok(!name.endsWith('-node.js'), `${url.pathname} imports ${name}`);
        visit(new URL(name, url));
      } else assert.ok(PORTABLE.includes(name), `${url.pathname} imports ${name}`);
    }
  };
  visit(new URL('../../src/browser.js', import.meta.url));
  visit(new URL('../../src/runtime/sessions-worker-web.js', import.meta.url));
  assert.ok(seen.size > 50, `only ${seen.size} files were looked at`);
});
