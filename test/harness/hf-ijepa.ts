import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '../../src/base/json.js';
import { createRandom } from '../../src/base/random.js';
import { type HostTensor, int32 } from '../../src/base/tensor.js';
import type { RawImage } from '../../src/data/dataset.js';
import { applyTransforms } from '../../src/data/pipeline.js';
import { heightWidth, shortEdgeSize } from '../../src/data/resample.js';
import type { Transform } from '../../src/data/transforms.js';
import { crossEntropy } from '../../src/graph/ops/losses.js';
import { stack } from '../../src/graph/ops/move.js';
import { mean } from '../../src/graph/ops/reduce.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { withFile } from '../../src/hub/files.js';
import { readHuggingFaceFolder } from '../../src/hub/hf-ijepa.js';
import { huggingFaceIJepa } from '../../src/hub/hf-ijepa-model.js';
import type { LinearWeights } from '../../src/hub/ijepa-names.js';
import { parseImageProcessor } from '../../src/hub/image-processor.js';
import { describeTorchValue, openTorchFile, type TorchFile, type TorchValue } from '../../src/hub/pth.js';
import { loadTensor } from '../../src/hub/raw.js';
import { openSafetensors } from '../../src/hub/safetensors.js';
import { attend, norm } from '../../src/nn/transformer.js';
import { under } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/index.js';
import {
  attempt,
  difference,
  type GoldenResult,
  type Harness,
  readCases,
  readTensors,
  type Tolerance,
} from './harness.js';
import { goldenBackend } from './target.js';

interface Case extends Tolerance {
  name: string;
  tolerances?: Record<string, Tolerance>;
  kind: string;
  file: string;
  config: JsonObject & { folder: string; format: string; size: [number, number]; labels: number[] | null };
  inputs: string[];
  expected: string[];
  strict: { largest_level_difference: number; share_of_differing_values: number };
  top_level_keys?: string[];
  values?: Record<string, unknown>;
  opt_param_groups?: unknown;
  must: string;
  limits: { seconds: number; extra_memory_mib: number; forbidden_file: string };
}

type Failures = (string | undefined)[];

const harness: Harness = async function* (folder) {
  const { cases } = readCases<{ cases: Case[] }>(folder);
  yield* hostileFiles(
    folder,
    cases.filter(({ kind }) => kind === 'hostile'),
  );
  for (const each of cases) {
    if (each.kind === 'hostile') continue;
    yield attempt(each.name, () => {
      if (each.kind === 'hf_folder') return folderForward(folder, each);
      if (each.kind === 'image_processor') return imageProcessor(folder, each);
      if (each.kind === 'pth') return torchFile(folder, each);
      return [`unknown kind ${each.kind}`];
    });
  }
};
export default harness;

// ---- models in folders ------------------------------------------------------------------------------------------------

async function folderForward(folder: string, each: Case): Promise<Failures> {
  const tensors = readTensors(folder, each.file);
  const encoder = readHuggingFaceFolder(join(folder, each.config.folder));
  const { config } = encoder;
  const pixels = tensors.get(each.inputs[0]);
  if (!pixels || pixels.shape.slice(2).join() !== each.config.size.join()) return [`no images of ${each.config.size}`];

  const feeds = new Map<Tensor, HostTensor>();
  const leaf = (name: string, value: HostTensor): Tensor => {
    const tensor = input(name, value.shape, value.dtype === 'int32' ? 'int32' : 'float32');
    feeds.set(tensor, value);
    return tensor;
  };
  const leaves = new Map(Array.from(encoder.weights, ([name, value]) => [name, leaf(name, value)]));
  const weights = (name: string) => leaves.get(name)!;
  const head = (name: string, linear?: LinearWeights) =>
    linear && { weight: leaf(`${name}.weight`, linear.weight), bias: leaf(`${name}.bias`, linear.bias) };
  const heads = { pooler: head('pooler', encoder.pooler), classifier: head('classifier', encoder.classifier) };
  const { lastHiddenState, hiddenStates, poolerOutput, logits } = huggingFaceIJepa(
    leaf('pixel_values', pixels),
    weights,
    config,
    heads,
  );

  const maps = hiddenStates.slice(0, config.depth).map((state, i) => {
    const block = under(weights, `blocks.${i}.`);
    return attend(norm(state, under(block, 'norm1.'), config.eps), under(block, 'attn.'), config).probabilities;
  });
  const { labels } = each.config;
  const values: Record<string, Tensor | undefined> = {
    last_hidden_state: lastHiddenState,
    mean_of_tokens: mean(lastHiddenState, 1),
    attentions: stack(maps, 0),
    pooler_output: poolerOutput,
    logits,
    loss: labels && logits ? crossEntropy(logits, leaf('labels', int32([labels.length], labels))) : undefined,
    ...Object.fromEntries(hiddenStates.map((state, i) => [`hidden_states_${i}`, state])),
  };
  const wanted = each.expected.map((key) => [key, values[key.split('/').at(-1)!]] as const);
  const unknown = wanted.filter(([, value]) => !value).map(([key]) => `${key}: nothing is computed for it`);
  if (unknown.length > 0) return unknown;
  const results = await evaluate(Object.fromEntries(wanted) as Record<string, Tensor>, feeds, {
    backend: goldenBackend,
  });
  return each.expected.map((key) => {
    const expected = tensors.get(key)!;
    // The reference stores the scalar loss as a list of one.
    const got = key.endsWith('/loss') ? { ...results[key], shape: expected.shape } : results[key];
    return difference(key, got, expected, each.tolerances?.[key] ?? each);
  });
}

// ---- image processing -------------------------------------------------------------------------------------------------

/** What comes out of some steps, as [channels, height, width] floats. */
function transformed(image: RawImage, steps: readonly Transform[]): HostTensor<'float32'> {
  const last = steps.findLast(({ kind }) => kind === 'resize' || kind === 'centerCrop');
  const { height, width } =
    last?.kind === 'resize' && last.fit === 'shortEdge'
      ? shortEdgeSize(image, Math.min(...heightWidth(last.size)))
      : last?.kind === 'resize' || last?.kind === 'centerCrop'
        ? { height: heightWidth(last.size)[0], width: heightWidth(last.size)[1] }
        : image;
  const data = new Float32Array(image.channels * height * width);
  applyTransforms(image, steps, createRandom(0), data);
  return { dtype: 'float32', shape: [image.channels, height, width], data };
}

function imageProcessor(folder: string, each: Case): Failures {
  const tensors = readTensors(folder, each.file);
  const steps = parseImageProcessor(each.config, each.name);
  const floatSteps = steps.filter(({ kind }) => kind === 'normalize');
  const failures: Failures = [];
  for (const key of each.expected) {
    const [, size, what] = /\/(\d+x\d+)\/(\w+)$/.exec(key) ?? [];
    const input = tensors.get(`image_${size}`);
    const expected = tensors.get(key);
    if (!input || !expected || !each.inputs.includes(`image_${size}`)) {
      failures.push(`${key}: no image or no expected value`);
      continue;
    }
    const image: RawImage = {
      height: input.shape[0],
      width: input.shape[1],
      channels: input.shape[2],
      data: input.data as Uint8Array,
    };
    if (what === 'resized') {
      const { shape, data } = transformed(
        image,
        steps.filter(({ kind }) => kind !== 'normalize'),
      );
      const levels = { shape, data: data.map((value) => Math.round(value * 255)) };
      failures.push(levelDifference(key, levels, expected, each.strict));
    } else if (what === 'pixel_values') {
      failures.push(difference(key, transformed(image, steps), { ...expected, shape: expected.shape.slice(-3) }, each));
      const resized = tensors.get(key.replace(/\w+$/, 'resized'))!;
      failures.push(
        difference(
          `${key} from resized`,
          transformed(channelsLast(resized), floatSteps),
          { ...expected, shape: expected.shape.slice(-3) },
          { rtol: 1e-6, atol: 1e-6 },
        ),
      );
    } else if (what !== 'resized_pillow') {
      // resized_pillow is for information: what another library makes of the same image.
      failures.push(`${key}: unknown`);
    }
  }
  return failures;
}

function channelsLast({ shape: [channels, height, width], data }: HostTensor): RawImage {
  const pixels = height * width;
  const last = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) last[(i % pixels) * channels + Math.floor(i / pixels)] = Number(data[i]);
  return { width, height, channels, data: last };
}

type Values = { shape: readonly number[]; data: ArrayLike<number | bigint> };

function levelDifference(key: string, got: Values, expected: Values, strict: Case['strict']): string | undefined {
  if (got.shape.join() !== expected.shape.join()) return `${key}: shape [${got.shape}] instead of [${expected.shape}]`;
  let largest = 0;
  let differing = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const levels = Math.abs(Number(got.data[i]) - Number(expected.data[i]));
    largest = Math.max(largest, levels);
    if (levels > 0) differing++;
  }
  const share = differing / expected.data.length;
  return largest <= strict.largest_level_difference && share <= strict.share_of_differing_values
    ? undefined
    : `${key}: ${largest} levels apart, in a share of ${share.toFixed(4)}`;
}

// ---- PyTorch files ----------------------------------------------------------------------------------------------------

function torchFile(folder: string, each: Case): Failures {
  return withFile(join(folder, each.file), (source) => {
    const file = openTorchFile(source);
    if (!(file.root instanceof Map)) return ['the top level is no dictionary'];
    const { root } = file;
    const failures: Failures = [file.format === each.config.format ? undefined : `format ${file.format}`];
    for (const path of each.expected) failures.push(...sameTensors(file, join(folder, path)));
    if (each.top_level_keys) failures.push(sameJson('top-level keys', [...root.keys()], each.top_level_keys));
    if (each.opt_param_groups)
      failures.push(sameJson('opt/param_groups', valueAt(root, 'opt', 'param_groups'), each.opt_param_groups));
    for (const [key, value] of Object.entries(each.values ?? {})) {
      if (key === 'big_decimal') {
        failures.push(sameJson(key, valueAt(root, 'plain', 'big'), value));
      } else if (key === 'plain') {
        for (const [inner, expected] of Object.entries(value as object))
          failures.push(sameJson(`plain/${inner}`, valueAt(root, 'plain', inner), expected));
      } else {
        const tensor = file.tensors.get(key);
        failures.push(sameJson(key, tensor ? nested(loadTensor(tensor, key)) : valueAt(root, key), value));
      }
    }
    return failures;
  });
}

/** Every tensor of the file, bit for bit; an optimizer without state may lack the tensors of one. */
function sameTensors({ tensors, root }: TorchFile, expectedFile: string): Failures {
  return withFile(expectedFile, (source) => {
    const expected = openSafetensors(source).tensors;
    const stateless = JSON.stringify(valueAt(root, 'opt', 'state')) === '{}';
    const failures: Failures = [...tensors.keys()]
      .filter((name) => !expected.has(name))
      .map((name) => `${name}: unexpected`);
    for (const [name, want] of expected) {
      const got = tensors.get(name);
      if (!got && stateless && name.startsWith('opt/state/')) continue;
      if (!got) failures.push(`${name}: missing`);
      else if (got.dtype !== want.dtype || got.shape.join() !== want.shape.join()) {
        failures.push(`${name}: ${got.dtype} [${got.shape}] instead of ${want.dtype} [${want.shape}]`);
      } else if (Buffer.compare(got.read(), want.read()) !== 0) failures.push(`${name}: other bits`);
    }
    return failures;
  });
}

function valueAt(root: TorchValue, ...path: string[]): unknown {
  let value: TorchValue | undefined = root;
  for (const key of path) value = value instanceof Map ? value.get(key) : undefined;
  return value === undefined ? undefined : describeTorchValue(value);
}

function sameJson(what: string, got: unknown, expected: unknown): string | undefined {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  return a === b ? undefined : `${what}: ${a} instead of ${b}`;
}

/** A tensor as lists in lists. */
function nested({ shape, data }: HostTensor): unknown {
  const build = (axis: number, offset: number, stride: number): unknown =>
    axis === shape.length
      ? Number(data[offset])
      : Array.from({ length: shape[axis] }, (_, i) =>
          build(axis + 1, offset + (i * stride) / shape[axis], stride / shape[axis]),
        );
  return build(0, 0, data.length);
}

// ---- hostile files ----------------------------------------------------------------------------------------------------

/** Opens each file in a process of its own kind and prints what became of it: memory peaks of other work cannot hide theirs. */
const CHILD = `
  const [hub, ...paths] = process.argv.slice(1);
  const { withFile } = await import(hub + '/files.js');
  const { openTorchFile } = await import(hub + '/pth.js');
  for (const path of [paths[0], ...paths]) { // the first one twice: once to load the code
    const start = process.cpuUsage(); // of this process alone, however busy the machine is
    const before = process.memoryUsage().rss;
    const peak = process.resourceUsage().maxRSS * 1024;
    let refused = '', clear = true;
    try {
      withFile(path, openTorchFile);
    } catch (error) {
      refused = String(error.message);
      clear = error.name === 'JepaError' && !refused.includes('\\n');
    }
    const after = process.resourceUsage().maxRSS * 1024;
    const { user, system } = process.cpuUsage(start);
    console.log(JSON.stringify({ path, refused, clear, seconds: (user + system) / 1e6, bytes: after > peak ? after - before : 0 }));
  }`;

interface Outcome {
  path: string;
  refused: string;
  clear: boolean;
  seconds: number;
  bytes: number;
}

async function* hostileFiles(folder: string, cases: readonly Case[]): AsyncGenerator<GoldenResult> {
  const cwd = mkdtempSync(join(tmpdir(), 'jepa-hostile-'));
  const hub = new URL('../../src/hub', import.meta.url).href;
  const paths = cases.map(({ file }) => join(folder, file));
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', CHILD, hub, ...paths], {
    cwd,
    encoding: 'utf8',
    timeout: 60_000,
  });
  const outcomes = new Map(
    stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const outcome = JSON.parse(line) as Outcome;
        return [outcome.path, outcome];
      }),
  );
  for (const { name, file, must, limits } of cases) {
    yield attempt(name, () => {
      const outcome = outcomes.get(join(folder, file));
      if (!outcome)
        return [`the reader died: ${stderr.split('\n').find((line) => line.includes('Error')) ?? 'no message'}`];
      const ran = [cwd, folder, join(folder, 'pth'), process.cwd()].some((place) =>
        existsSync(join(place, limits.forbidden_file)),
      );
      return [
        outcome.refused || must !== 'refuse' ? undefined : 'accepted',
        outcome.clear ? undefined : `not one clear line: ${outcome.refused}`,
        outcome.seconds <= limits.seconds ? undefined : `took ${outcome.seconds.toFixed(2)} s`,
        outcome.bytes <= limits.extra_memory_mib * 2 ** 20
          ? undefined
          : `took ${Math.round(outcome.bytes / 2 ** 20)} MiB`,
        ran ? 'it was executed' : undefined,
      ];
    });
  }
  rmSync(cwd, { recursive: true });
}
