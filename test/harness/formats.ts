import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { JepaError } from '../../src/base/errors.js';
import { type FormatCase, type FormatCheck, memoryGrowth, type Tools } from './formats/case.js';
import * as data from './formats/data.js';
import * as media from './formats/media.js';
import * as weights from './formats/weights.js';
import { attempt, difference, type Harness, readCases, readTensors } from './harness.js';

const CHECKS: Readonly<Record<string, FormatCheck>> = {
  safetensors: weights.safetensors,
  'pytorch checkpoint': weights.pytorch,
  npy: weights.npy,
  npz: weights.npz,
  onnx: weights.onnx,
  'hdf5 (stable-worldmodel columns)': data.columns,
  hdf5: data.columns,
  minari: data.minari,
  idx: data.idx,
  'cifar binary': data.cifar,
  'stl-10 binary': data.stl10,
  webdataset: data.webdataset,
  'image folder': data.imageFolder,
  'NTU RGB+D skeleton text': data.ntu,
  ply: data.ply,
  csv: data.csv,
  'video list': data.videoList,
  jsonl: data.jsonl,
  parquet: data.parquet,
  'tensorboard events': data.tensorboard,
  'tokenizer.json': data.tokenizer,
  wav: media.wav,
  'audio features': media.audioFeature,
  image: media.image,
};

const harness: Harness = async function* (folder) {
  const { cases } = readCases<{ cases: FormatCase[] }>(folder);
  const arrays = readTensors(folder, 'expected.safetensors');
  for (const each of cases) {
    const arrayOf = (name: string) => {
      const found = arrays.get(`${each.name}/${name}`);
      if (!found) throw new Error(`expected.safetensors has no ${each.name}/${name}`);
      return found;
    };
    const tools: Tools = {
      path: (file) => join(folder, file),
      bytes: (file) => new Uint8Array(readFileSync(join(folder, file))),
      input: (name) => arrayOf(`input.${name}`),
      expected: arrayOf,
      array(name, got) {
        const { exact, atol = 0, rtol = 0 } = each.arrays[name];
        return difference(name, got, arrayOf(name), exact ? { atol: 0, rtol: 0 } : { atol, rtol });
      },
    };
    yield attempt(each.name, async () => {
      const check = CHECKS[each.format];
      if (!check) return [`the harness does not know the format ${each.format}`];
      if (each.kind === 'good') return check.good(each, tools);
      if (each.kind === 'bad') return refused(each, check, tools);
      return [`the harness does not know the kind ${each.kind}`];
    });
  }
};

/** A broken file: one JepaError of one line that names the file and says what is wrong, within the limits of the case. */
async function refused(each: FormatCase, check: FormatCheck, tools: Tools): Promise<string[]> {
  const { seconds, extra_memory_mb: megabytes } = each.limits;
  const reason = Object.entries(check.reasons).find(([end]) => each.name.endsWith(`.${end}`))?.[1];
  if (!reason) return ['the harness does not know what the error must say'];
  const failures: string[] = [];
  const start = process.cpuUsage();
  const memory = memoryGrowth();
  try {
    await check.bad(each, tools);
    failures.push('accepted');
  } catch (error) {
    const message = (error as Error).message;
    if (!(error instanceof JepaError)) failures.push(`not a JepaError: ${error}`);
    if (message.includes('\n')) failures.push(`more than one line: ${message}`);
    if (!reason.test(message)) failures.push(`"${message}" does not say ${reason}`);
    const named = each.files.some((file) => message.includes(basename(file).replace(/\.index\.json$/, '')));
    if (!named) failures.push(`"${message}" names none of ${each.files.join(', ')}`);
  }
  const { user, system } = process.cpuUsage(start);
  if (user + system > seconds * 1e6) failures.push(`took ${(user + system) / 1e6} s`);
  if (memory() > megabytes * 2 ** 20) failures.push(`took ${memory() / 2 ** 20} MiB`);
  return failures;
}

export default harness;
