import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { JepaError } from '../base/errors.js';
import { evenly } from '../base/evenly.js';
import type { SoundDataset } from '../data/audio/dataset.js';
import { type Dataset, type ImageDataset, type RawImage, sampleName, subset } from '../data/dataset.js';
import { type Modality, wordsOf } from '../data/modality.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import {
  ENDINGS,
  modalityAt,
  openSampleSplits,
  openSamples,
  type SampleSpec,
  type SampleSplits,
} from '../data/samples-node.js';
import type { SkeletonClip } from '../data/skeleton/dataset.js';
import type { TextSample } from '../data/text/dataset.js';
import type { VideoFrames } from '../data/video/dataset.js';
import { isVideoList } from '../data/video/open-node.js';
import { describeModel, type ModelFacts } from '../hub/describe.js';
import { loadEncoder } from '../hub/encoder-files.js';
import { type Inspection, inspectFile } from '../hub/inspect.js';
import { readJsonl } from '../hub/jsonl.js';
import { readJsonFile } from '../hub/weights.js';
import { formatBytes, formatClock, formatFixed } from '../report/format.js';
import { latestCheckpoint, readCheckpointMeta } from '../train/checkpoint.js';
import { showModel } from './import.js';
import { bold, dim, print, printJson, table } from './output.js';
import { METHOD_TITLES } from './run.js';
import { yamlText } from './settings.js';

/** `jepa inspect <path>`: says what lies there, whatever it is. */
export async function inspect(
  path: string,
  { all = false, json = false }: { all?: boolean; json?: boolean },
): Promise<void> {
  const folder = path !== 'glyphs' && existsSync(path) && statSync(path).isDirectory();
  if (folder && [path, join(path, 'checkpoint')].some((at) => latestCheckpoint(at) !== undefined)) {
    const run = await describeRun(path);
    if (json) printJson(run);
    else showRun(run);
    return;
  }
  const samples = await samplesAt(path, folder);
  if (samples) {
    const data = await describeData(path, samples, all);
    if (json) printJson(data);
    else showData(data, all);
    return;
  }
  const file = await inspectFile(path);
  const model = publishedModel(path, file);
  if (json) printJson(model ? { ...file, model } : file);
  else {
    if (model) {
      showModel(path, model);
      print();
    }
    showFile(file, all);
  }
}

/** What a file or folder is as a published model; undefined where it is none, or only a part of one. */
function publishedModel(path: string, { kind, files }: Inspection): ModelFacts | undefined {
  const holdsModel =
    kind === 'pytorch' || kind === 'safetensors' || files?.some((file) => file.path.endsWith('config.json'));
  if (!holdsModel) return undefined;
  try {
    return describeModel(path, loadEncoder(path));
  } catch (error) {
    if (error instanceof JepaError) return undefined;
    throw error;
  }
}

/** Files of a model or a log in a folder, which make it one of those. */
const MODEL_FILES = /^(config\.json|.*\.(onnx|pth))$|\.safetensors|tfevents/;
/** Files that stand for themselves where there are no samples beside them. */
const ARRAY_FILES = /\.(npy|npz|parquet|jsonl|h5|hdf5|ply|pt|ckpt)$/i;
/** Files that say more as what they are than as samples. */
const PLAIN_FILES = /\.(pth\.tar|jsonl|ndjson|bin)$|idx[12]-ubyte/i;
const isSampleFile = (path: string): boolean =>
  !PLAIN_FILES.test(path) && ENDINGS.some(([, ending]) => ending.test(path));

/** What samples are at a path; undefined where there is something else. */
async function samplesAt(path: string, folder: boolean): Promise<SampleSpec['kind'] | undefined> {
  const isNamed = path === 'glyphs' || path.startsWith(PROCEDURAL) || path.includes('{') || path.includes('::');
  if (!folder && !isNamed && !(existsSync(path) && (isSampleFile(path) || (await isVideoList(path))))) return undefined;
  const names = folder && !isNamed ? readdirSync(path) : [];
  if (names.some((name) => MODEL_FILES.test(name))) return undefined;
  const kind = await modalityAt(path);
  if ((kind === undefined || kind === 'text') && names.some((name) => ARRAY_FILES.test(name))) return undefined;
  return kind ?? 'image';
}

// --- data sets ------------------------------------------------------------------------------------------------------

interface DataFacts {
  readonly kind: 'data';
  readonly path: string;
  readonly train: number;
  readonly test: number;
  /** Whether the test part came with the data or is a tenth taken from it. */
  readonly modality: Modality;
  readonly testPart: SampleSplits['origin'];
  /** Of images and videos. */
  readonly channels?: number;
  /** Of the samples that were read: the smallest, the middle and the largest; sides are those of images and videos. */
  readonly width?: readonly [number, number, number];
  readonly height?: readonly [number, number, number];
  /** Frames, seconds or characters. */
  readonly length?: { readonly unit: string; readonly values: readonly [number, number, number] };
  readonly classes: readonly { readonly name: string; readonly train: number; readonly test: number }[];
  readonly attributes: readonly string[];
  /** Samples that were opened to see whether they can be: all, or some of them evenly spread. */
  readonly read: number;
  readonly corrupt: { readonly count: number; readonly first: readonly string[] };
  readonly warnings: readonly string[];
}

/** Samples that are opened unless all are asked for. */
const SOME = 300;

async function describeData(path: string, kind: SampleSpec['kind'], all: boolean): Promise<DataFacts> {
  const { train, test, origin, warning } = await openParts({ kind, source: path });
  const parts = [train, test];
  const total = train.length + test.length;
  const sizes: SampleSize[] = [];
  const failures: Failure[] = [];
  const opened = evenly(total, all ? total : SOME);
  for (const at of opened) {
    const [dataset, index] = at < train.length ? [train, at] : [test, at - train.length];
    try {
      sizes.push(sizeOfSample(dataset, await dataset.read(index)));
    } catch (error) {
      if (!(error instanceof JepaError)) throw error;
      const name = sampleName(dataset, index);
      failures.push({ name, message: error.message.includes(name) ? error.message : `${name}: ${error.message}` });
    }
  }
  const sides = sizes.flatMap(({ side }) => (side ? [side] : []));
  const lengths = sizes.flatMap(({ length }) => (length ? [length] : []));
  const [inTrain, inTest] = parts.map(countClasses);
  const names = train.classNames ?? test.classNames ?? [];
  // Classes that have no names, as in most lists, are numbers.
  const labels = [...new Set([...names.keys(), ...inTrain.keys(), ...inTest.keys()])].sort((a, b) => a - b);
  return {
    kind: 'data',
    path,
    train: train.length,
    test: test.length,
    modality: train.modality ?? 'image',
    testPart: origin,
    ...(sides.length > 0 && {
      channels: (train as ImageDataset).channels,
      width: threeOf(sides.map(([width]) => width)),
      height: threeOf(sides.map(([, height]) => height)),
    }),
    ...(lengths.length > 0 && { length: { unit: lengths[0][1], values: threeOf(lengths.map(([value]) => value)) } }),
    classes: train.labels
      ? labels.map((label) => ({
          name: names[label] ?? String(label),
          train: inTrain.get(label) ?? 0,
          test: inTest.get(label) ?? 0,
        }))
      : [],
    attributes: Object.keys(train.attributes ?? {}),
    read: opened.length,
    corrupt: { count: failures.length, first: firstOf(failures) },
    warnings: [train.note, warning].filter((line) => line !== undefined),
  };
}

interface Failure {
  readonly name: string;
  readonly message: string;
}

/** The first samples that cannot be opened; one, where none of many can for one reason, as for want of a decoder. */
function firstOf(failures: readonly Failure[]): string[] {
  const reasons = new Set(failures.map(({ name, message }) => message.replaceAll(name, '')));
  return failures.slice(0, reasons.size === 1 ? 1 : 5).map(({ message }) => message);
}

interface SampleSize {
  readonly side?: readonly [width: number, height: number];
  readonly length?: readonly [value: number, unit: string];
}

function sizeOfSample(dataset: Dataset, sample: unknown): SampleSize {
  switch (dataset.modality) {
    case 'video': {
      const { width, height, facts } = sample as VideoFrames;
      return { side: [width, height], length: [facts.count, 'frames'] };
    }
    case 'sound':
      return { length: [(sample as Float32Array).length / (dataset as SoundDataset).sampleRate, 'seconds'] };
    case 'skeleton':
      return { length: [(sample as SkeletonClip).frames, 'frames'] };
    case 'text':
      return { length: [(sample as TextSample).text.length, 'characters'] };
    default: {
      const { width, height } = sample as RawImage;
      return { side: [width, height] };
    }
  }
}

/** Both parts; where no test part can be made (too few images), what there is and why. */
async function openParts(spec: SampleSpec): Promise<SampleSplits & { readonly warning?: string }> {
  try {
    return await openSampleSplits(spec);
  } catch (error) {
    if (!(error instanceof JepaError)) throw error;
    const train = await openSamples(spec);
    // A single file is looked at for itself.
    return { train, test: subset(train, []), origin: 'made', ...(train.length > 1 && { warning: error.message }) };
  }
}

function countClasses({ labels }: Dataset): Map<number, number> {
  const counts = new Map<number, number>();
  for (const label of labels ?? []) if (label >= 0) counts.set(label, (counts.get(label) ?? 0) + 1);
  return counts;
}

function threeOf(values: number[]): [number, number, number] {
  if (values.length === 0) return [0, 0, 0];
  values.sort((a, b) => a - b);
  return [values[0], values[values.length >> 1], values[values.length - 1]];
}

function showData(data: DataFacts, all: boolean): void {
  const { classes, corrupt, length } = data;
  const whole = data.read === data.train + data.test;
  print(`${bold(data.path)}  ${wordsOf(data).many}`);
  print(
    table([
      ['training', formatFixed(data.train, 0)],
      [
        'held out',
        `${formatFixed(data.test, 0)}${data.testPart === 'made' && data.test > 0 ? dim('  (a tenth, by a hash of the names; the data have no test part)') : ''}`,
      ],
      ...sizeRow(data),
      ...(length ? [['length', rangeText(length.values, length.unit)]] : []),
      ['classes', classes.length > 0 ? formatFixed(classes.length, 0) : 'none; folders of classes would be labels'],
      ...(data.attributes.length > 0 ? [['attributes', data.attributes.join(', ')]] : []),
      [
        'damaged',
        `${corrupt.count} of ${formatFixed(data.read, 0)} opened${whole ? '' : dim('  (--all opens every one)')}`,
      ],
    ]),
  );
  for (const line of corrupt.first) print(`  ${line}`);
  const more = corrupt.count - corrupt.first.length;
  if (more > 0) print(`  and ${more} more${corrupt.first.length === 1 ? ' for the same reason' : ''}`);
  for (const warning of data.warnings) print(`! ${warning}`);
  const shown = all ? classes : classes.slice(0, 12);
  if (shown.length > 0) {
    print();
    print(
      table(
        [
          ['class', 'training', 'held out'],
          ...shown.map((c) => [c.name, formatFixed(c.train, 0), formatFixed(c.test, 0)]),
        ],
        [1, 2],
      ),
    );
    if (shown.length < classes.length) print(dim(`and ${classes.length - shown.length} more (--all)`));
  }
}

function sizeRow({ width, height, channels }: DataFacts): string[][] {
  if (!width || !height) return [];
  const isUniform = width[0] === width[2] && height[0] === height[2];
  const size = isUniform
    ? `${width[0]} x ${height[0]}`
    : `${width[0]} x ${height[0]} to ${width[2]} x ${height[2]}, half of them at most ${width[1]} wide and ${height[1]} high`;
  return [['size', `${size}, ${channels === 1 ? 'grey' : channels === 3 ? 'colour' : `${channels} channels`}`]];
}

function rangeText([low, middle, high]: readonly [number, number, number], unit: string): string {
  const text = (value: number): string => formatFixed(value, Number.isInteger(value) ? 0 : value < 1 ? 4 : 1);
  return low === high
    ? `${text(low)} ${low === 1 ? unit.slice(0, -1) : unit}`
    : `${text(low)} to ${text(high)} ${unit}, half of them at most ${text(middle)}`;
}

// --- runs -----------------------------------------------------------------------------------------------------------

interface RunFacts {
  readonly kind: 'run';
  readonly path: string;
  readonly method: string;
  readonly data: string;
  readonly step: number;
  readonly totalSteps: number;
  readonly seconds: number;
  readonly backend: string;
  readonly workers: number;
  readonly checkpoint: Inspection;
  /** The last value of everything that was measured. */
  readonly metrics: Readonly<Record<string, unknown>>;
  readonly result?: unknown;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

async function describeRun(path: string): Promise<RunFacts> {
  const checkpoints = latestCheckpoint(path) === undefined ? join(path, 'checkpoint') : path;
  const meta = readCheckpointMeta(checkpoints);
  const log = join(path, 'metrics.jsonl');
  const metrics: Record<string, unknown> = {};
  if (existsSync(log)) for (const record of readJsonl(log).records) Object.assign(metrics, record);
  const result = join(path, 'result.json');
  return {
    kind: 'run',
    path,
    method: meta.config.method.name,
    data: meta.config.data.source,
    step: meta.step,
    totalSteps: meta.totalSteps,
    seconds: meta.seconds,
    backend: meta.backend,
    workers: meta.workers,
    checkpoint: await inspectFile(checkpoints),
    metrics,
    result: existsSync(result) ? readJsonFile(result) : undefined,
    files: readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => ({ name, bytes: statSync(join(path, name)).size }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

function showRun(run: RunFacts): void {
  const { method, checkpoint, metrics } = run;
  const weights = checkpoint.files?.find(({ kind }) => kind === 'safetensors')?.tensors ?? [];
  const isOwn = ({ name }: { name: string }) => !name.startsWith('slot/');
  const parameters = weights
    .filter(isOwn)
    .reduce((sum, { shape }) => sum + shape.reduce<number>((a, b) => a * Number(b), 1), 0);
  const length = run.totalSteps > 0 ? ` of ${formatFixed(run.totalSteps, 0)}` : '';
  const title = METHOD_TITLES[method as keyof typeof METHOD_TITLES] ?? method;
  print(`${bold(run.path)}  a run of ${title} on ${run.data}`);
  print(
    table([
      [
        'step',
        `${formatFixed(run.step, 0)}${length}${run.step < run.totalSteps ? dim(`  (go on: jepa train ${run.path} --resume)`) : ''}`,
      ],
      ['trained for', formatClock(run.seconds)],
      ['on', `${run.backend}, ${run.workers} worker${run.workers > 1 ? 's' : ''}`],
      ['weights', `${weights.filter(isOwn).length} tensors, ${formatFixed(parameters, 0)} numbers`],
    ]),
  );
  for (const warning of checkpoint.warnings) print(`! ${warning}`);
  const { step: _, ...measured } = metrics;
  if (Object.keys(measured).length > 0) {
    print('\nlast measured');
    print(
      table(
        Object.entries(measured).map(([name, value]) => [
          `  ${name}`,
          typeof value === 'number' ? String(Number(value.toPrecision(6))) : String(value),
        ]),
        [1],
      ),
    );
  }
  print('\nfiles');
  print(
    table(
      run.files.map(({ name, bytes }) => [`  ${name}`, formatBytes(bytes)]),
      [1],
    ),
  );
}

// --- files ----------------------------------------------------------------------------------------------------------

const FIRST = 15;

function showFile(file: Inspection, all: boolean): void {
  const { kind, bytes, tensors, parameters, metadata, details, files, warnings } = file;
  const counted = parameters ? `, ${formatFixed(parameters, 0)} numbers` : '';
  print(`${bold(files ? file.path : basename(file.path))}  ${kind}, ${formatBytes(bytes)}${counted}`);
  if (metadata && Object.keys(metadata).length > 0)
    print(indented(yamlText({ metadata: all ? metadata : shortened(metadata) })));
  if (details && Object.keys(details).length > 0) print(indented(yamlText(all ? details : shortened(details))));
  if (tensors && tensors.length > 0) {
    const shown = all ? tensors : tensors.slice(0, FIRST);
    print(table(shown.map(({ name, dtype, shape }) => [`  ${name}`, dtype, `[${shape.join(', ')}]`])));
    if (shown.length < tensors.length) print(dim(`  and ${tensors.length - shown.length} more tensors (--all)`));
  }
  for (const warning of warnings) print(`! ${warning}`);
  for (const inner of files ?? []) {
    print();
    showFile(inner, all);
  }
}

/** Longest text that is shown unless all is asked for: schemas in metadata have thousands of characters. */
const LONGEST = 200;

/** Values with long texts cut. */
const shortened = (value: object): unknown =>
  JSON.parse(JSON.stringify(value), (_, item) =>
    typeof item === 'string' && item.length > LONGEST
      ? `${item.slice(0, LONGEST)}... (${formatFixed(item.length, 0)} characters, --all shows them)`
      : item,
  );

const indented = (text: string): string => text.trimEnd().replaceAll(/^/gm, '  ');
