import { parseArgs } from 'node:util';
import { ALL as FOREIGN } from './foreign.js';
import { fuzz } from './fuzz.js';
import { READERS, type Reader } from './readers.js';

/** `npm run fuzz -- [reader ...] [--files n] [--seed s] [--keep folder]`; `own` and `foreign` stand for all of a kind. */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    files: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '0' },
    keep: { type: 'string' },
  },
});
const [files, seed] = [Number(values.files), Number(values.seed)];
const module = (name: string): string => new URL(`./${name}.js`, import.meta.url).href;
const own = READERS.map((reader) => ({ reader, module: module('readers') }));
const foreign = FOREIGN.map((reader) => ({ reader, module: module('foreign') }));
const isNamed =
  (name: string) =>
  ({ reader }: { readonly reader: Reader }): boolean =>
    reader.name === name;
const chosen = (positionals.length === 0 ? ['own'] : positionals).flatMap((name) => {
  const named = name === 'own' ? own : name === 'foreign' ? foreign : [...own, ...foreign].filter(isNamed(name));
  if (named.length > 0) return named;
  throw new Error(`no reader ${name}; there are ${[...READERS, ...FOREIGN].map((reader) => reader.name).join(', ')}`);
});
let found = 0;
for (const { reader, module } of chosen) {
  const report = await fuzz({ reader, module, files, seed, keep: values.keep });
  const { findings, slowest } = report;
  found += findings.length;
  console.log(
    `${reader.name.padEnd(12)} ${report.files} files: ${report.values} read, ${report.errors} refused, ${findings.length} findings; ${report.seconds.toFixed(1)} s, slowest ${slowest.milliseconds.toFixed(0)} ms (file ${slowest.index})`,
  );
  for (const { index, kind, message } of findings) console.log(`  ${kind} in file ${index}: ${message}`);
}
process.exitCode = found > 0 ? 1 : 0;
