import { parseArgs } from 'node:util';
import { ALL as FOREIGN } from './foreign.js';
import { fuzz } from './fuzz.js';
import type { Reader } from './reader.js';
import { READERS } from './readers.js';

const HELP = `npm run fuzz -- [reader ...] [--files 10000] [--seed 0] [--seconds 20] [--keep folder]

Damages good files and reads them. Readers: ${[...READERS, ...FOREIGN].map(({ name }) => name).join(', ')};
own (the default) and foreign stand for all of a kind. A file for which a reader takes longer than --seconds counts as a hang: give
more on a busy machine. --keep: a folder for files that were found.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    files: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '20' },
    keep: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const [files, seed, seconds] = [Number(values.files), Number(values.seed), Number(values.seconds)];
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
  const report = await fuzz({ reader, module, files, seed, seconds, keep: values.keep });
  const { findings, slowest } = report;
  found += findings.length;
  console.log(
    `${reader.name.padEnd(12)} ${report.files} files: ${report.values} read, ${report.errors} refused, ${findings.length} findings; ${report.seconds.toFixed(1)} s, slowest ${slowest.milliseconds.toFixed(0)} ms (file ${slowest.index})`,
  );
  for (const { index, kind, message } of findings) console.log(`  ${kind} in file ${index}: ${message}`);
}
process.exitCode = found > 0 ? 1 : 0;
