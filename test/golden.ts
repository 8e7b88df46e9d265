import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Harness } from './harness/harness.js';

const here = dirname(fileURLToPath(import.meta.url));

/** Folder of the golden values: JEPA_GOLDEN, or test/golden of the package. */
export const goldenFolder = process.env.JEPA_GOLDEN ?? join(here, '..', '..', 'test', 'golden');

export interface AreaOutcome {
  passed: number;
  failures: { name: string; error: string }[];
  /** Cases of systems that are not built yet. */
  notCovered: string[];
  covered: boolean;
}

/** Runs the harness of one area: test/harness/<area>.ts, whose default export is a `Harness`. */
export async function runArea(area: string, folder = join(goldenFolder, area)): Promise<AreaOutcome> {
  const file = join(here, 'harness', `${area.replaceAll('/', '-')}.js`);
  const outcome: AreaOutcome = { passed: 0, failures: [], notCovered: [], covered: existsSync(file) };
  if (!outcome.covered) return outcome;
  const { default: harness } = (await import(file)) as { default: Harness };
  for await (const { name, error, notCovered } of harness(folder)) {
    if (notCovered) outcome.notCovered.push(name);
    else if (error === undefined) outcome.passed++;
    else outcome.failures.push({ name, error });
  }
  return outcome;
}

/** Area folders: those that hold a cases.json, at most two levels deep (`world/losses`). */
export function goldenAreas(root = goldenFolder): string[] {
  const areas: string[] = [];
  for (const entry of readdirSync(root).sort()) {
    if (!statSync(join(root, entry)).isDirectory()) continue;
    if (existsSync(join(root, entry, 'cases.json'))) areas.push(entry);
    else {
      for (const inner of readdirSync(join(root, entry)).sort()) {
        if (existsSync(join(root, entry, inner, 'cases.json'))) areas.push(`${entry}/${inner}`);
      }
    }
  }
  return areas;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let passed = 0;
  let failed = 0;
  const wanted = process.argv.slice(2);
  for (const area of goldenAreas()) {
    if (wanted.length > 0 && !wanted.includes(area)) continue;
    const start = performance.now();
    const outcome = await runArea(area);
    if (!outcome.covered) {
      console.log(`${area.padEnd(16)} not covered`);
      continue;
    }
    passed += outcome.passed;
    failed += outcome.failures.length;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${area.padEnd(16)} ${outcome.passed} passed, ${outcome.failures.length} failed  (${seconds} s)`);
    if (outcome.notCovered.length > 0) {
      console.log(`  not covered: ${outcome.notCovered.length} cases (${outcome.notCovered.join(', ')})`);
    }
    for (const { name, error } of outcome.failures) console.log(`  ${name}: ${error}`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}
