import { createRandom, type Random, torchRandom } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import type { Size, SizeProbability } from '../../src/masking/blocks.js';
import type { IntegerDraws, PermutationDraws, Range, UniformDraws } from '../../src/masking/draws.js';
import { concatRows, gatherTokens, repeatChunks } from '../../src/masking/gather.js';
import {
  type BlockSizes2d,
  collate2d,
  contextSizes2d,
  drawBlockSizes2d,
  drawImageMasks2d,
  type ImageMasks2d,
  type Masks2d,
  type MultiBlock2dConfig,
  sampleMultiBlock2d,
  targetSizes2d,
} from '../../src/masking/multiblock2d.js';
import {
  collate3d,
  drawBlockSize3d,
  drawClipMask3d,
  frameSizes3d,
  type Grid3d,
  type Masks3d,
  type MultiBlock3dEntry,
  sampleMultiBlock3d,
} from '../../src/masking/multiblock3d.js';
import { sampleMultiSequence3d } from '../../src/masking/multiseq3d.js';
import { sampleRandomTube } from '../../src/masking/random-tube.js';
import { sampleRandom2d } from '../../src/masking/random2d.js';
import { attempt, difference, type Harness, readCases, readTensors } from './harness.js';

type Tensors = Map<string, HostTensor>;
type Failures = (string | undefined)[];

interface MaskCase {
  name: string;
  kind: string;
  file: string;
  // biome-ignore lint/suspicious/noExplicitAny: each kind has its own configuration
  config: any;
  expected: string[];
  rtol: number;
  atol: number;
  statistics?: Statistics;
}

const KINDS: Record<string, (record: MaskCase, tensors: Tensors) => Failures> = {
  multiblock2d,
  random2d,
  multiblock3d,
  multiseq3d,
  random_tube: randomTube,
  apply_masks: applyMasks,
  repeat_interleave_batch: repeatInterleaveBatch,
  statistics2d,
  statistics3d,
};

const harness: Harness = async function* (folder) {
  for (const record of readCases<{ cases: MaskCase[] }>(folder).cases) {
    yield attempt(record.name, () => {
      const check = KINDS[record.kind];
      return check ? check(record, readTensors(folder, record.file)) : [`unknown kind ${record.kind}`];
    });
  }
};

export default harness;

// --- draws and comparisons ------------------------------------------------------------------------------------------

const EXACT = { rtol: 0, atol: 0 };

/** Compares what a sampler made with the stored keys `<prefix>/<name>`, and notes which keys were compared. */
class Comparison {
  readonly failures: Failures = [];
  private readonly compared = new Set<string>();

  constructor(
    private readonly tensors: Tensors,
    private readonly what: string,
  ) {}

  equal(prefix: string, values: Record<string, { shape: readonly number[]; data: ArrayLike<number | bigint> }>): void {
    for (const [name, value] of Object.entries(values)) {
      const key = `${prefix}/${name}`;
      this.compared.add(key);
      this.failures.push(difference(`${this.what} ${key}`, value, tensor(this.tensors, key), EXACT));
    }
  }

  /** Every expected key of the case must have been compared. */
  finish(record: MaskCase): Failures {
    const missed = record.expected.filter((key) => !this.compared.has(key));
    if (missed.length > 0) this.failures.push(`never compared: ${missed.join(', ')}`);
    return this.failures;
  }
}

function tensor(tensors: Tensors, key: string): HostTensor {
  const found = tensors.get(key);
  if (!found) throw new Error(`no tensor ${key}`);
  return found;
}

function numbers(tensors: Tensors, key: string): number[] {
  return Array.from(tensor(tensors, key).data as ArrayLike<number>);
}

function recordedUniforms(tensors: Tensors, key: string): UniformDraws & { left(): number } {
  const values = numbers(tensors, key);
  return { uniform: () => take(values, key), left: () => values.length };
}

/** Recorded (bound, value) pairs; a request with another bound is an error. */
function recordedIntegers(tensors: Tensors, key: string): IntegerDraws & { left(): number } {
  const values = numbers(tensors, key);
  return {
    integer(bound) {
      const wanted = take(values, key);
      const value = take(values, key);
      if (bound !== wanted)
        throw new Error(`${key}: asked for an integer below ${bound}, the reference below ${wanted}`);
      return value;
    },
    left: () => values.length,
  };
}

function recordedPermutations(tensors: Tensors, key: string): PermutationDraws & { left(): number } {
  const values = numbers(tensors, key);
  return { permutation: (n) => Int32Array.from({ length: n }, () => take(values, key)), left: () => values.length };
}

function take(values: number[], key: string): number {
  const value = values.shift();
  if (value === undefined) throw new Error(`${key}: asked for more draws than the reference`);
  return value;
}

function nothingLeft(...draws: { left(): number }[]): Failures {
  return draws.map((source) =>
    source.left() > 0 ? `${source.left()} recorded numbers were not asked for` : undefined,
  );
}

const vector = (data: readonly number[], shape: readonly number[] = [data.length]) => ({ shape, data });

// --- 2-D ------------------------------------------------------------------------------------------------------------

/** Defaults of the reference's collator class, for cases that leave settings out. */
const CLASS_DEFAULTS_2D = {
  enc_mask_scale: [0.2, 0.8],
  pred_mask_scale: [0.2, 0.8],
  aspect_ratio: [0.3, 3],
  nenc: 1,
  npred: 2,
  min_keep: 4,
  allow_overlap: false,
};

function config2d(config: MaskCase['config']): MultiBlock2dConfig {
  const settings = { ...CLASS_DEFAULTS_2D, ...config };
  return {
    grid: settings.grid,
    contextScale: settings.enc_mask_scale,
    targetScale: settings.pred_mask_scale,
    targetAspect: settings.aspect_ratio,
    contexts: settings.nenc,
    targets: settings.npred,
    minKeep: settings.min_keep,
    allowOverlap: settings.allow_overlap,
  };
}

/** [batch, lists, K] as the reference's [lists, batch, K]. */
function listsFirst({ shape, data }: HostTensor<'int32'>): { shape: readonly number[]; data: Int32Array } {
  const [batch, lists, kept] = shape;
  const out = new Int32Array(data.length);
  for (let list = 0; list < lists; list++) {
    for (let image = 0; image < batch; image++) {
      out.set(
        data.subarray((image * lists + list) * kept, (image * lists + list + 1) * kept),
        (list * batch + image) * kept,
      );
    }
  }
  return { shape: [lists, batch, kept], data: out };
}

function bitmap(indices: Int32Array, size: number): Uint8Array {
  const map = new Uint8Array(size);
  for (const index of indices) map[index] = 1;
  return map;
}

function membersOf(map: Uint8Array): number[] {
  const members: number[] = [];
  for (let i = 0; i < map.length; i++) if (map[i] === 1) members.push(i);
  return members;
}

function stacked(maps: readonly ArrayLike<number>[], shape: readonly number[]) {
  return { shape: [...shape], data: maps.flatMap((map) => Array.from(map)) };
}

function compare2d(
  comparison: Comparison,
  prefix: string,
  config: MultiBlock2dConfig,
  sizes: BlockSizes2d,
  images: ImageMasks2d[],
) {
  const cells = config.grid[0] * config.grid[1];
  const blocks = images.flatMap((image) => [...image.targets, ...image.contexts]);
  const masks = collate2d(images);
  comparison.equal(prefix, {
    size: vector([...sizes.target, ...sizes.context], [2, 2]),
    attempts: vector(
      blocks.map((block) => block.attempts),
      [images.length, config.targets + config.contexts],
    ),
    dropped_regions: vector(
      blocks.map((block) => block.dropped),
      [images.length, config.targets + config.contexts],
    ),
    target_full: stacked(
      images.flatMap((image) => image.targets.map((block) => bitmap(block.indices, cells))),
      [images.length, config.targets, ...config.grid],
    ),
    context_full: stacked(
      images.flatMap((image) => image.contexts.map((block) => bitmap(block.indices, cells))),
      [images.length, config.contexts, ...config.grid],
    ),
    masks_pred: listsFirst(masks.target),
    masks_enc: listsFirst(masks.context),
  });
}

function multiblock2d(record: MaskCase, tensors: Tensors): Failures {
  const config = config2d(record.config);
  const { batch, batches, first_counter: counter, global_seed: seed } = record.config;
  const injected = new Comparison(tensors, 'injected');
  const stream = new Comparison(tensors, 'stream');
  const places = torchRandom(seed);
  for (let b = 0; b < batches; b++) {
    const prefix = `${record.name}/batch${b}`;
    const uniforms = recordedUniforms(tensors, `${prefix}/u`);
    const integers = recordedIntegers(tensors, `${prefix}/randint`);
    const sizes = drawBlockSizes2d(config, uniforms);
    const images = Array.from({ length: batch }, () => drawImageMasks2d(config, sizes, integers));
    compare2d(injected, prefix, config, sizes, images);
    injected.failures.push(...nothingLeft(uniforms, integers));
    const masks = sampleMultiBlock2d(config, batch, { sizes: torchRandom(counter + b), places });
    stream.equal(prefix, { masks_pred: listsFirst(masks.target), masks_enc: listsFirst(masks.context) });
  }
  return [...injected.finish(record), ...stream.failures];
}

function random2d(record: MaskCase, tensors: Tensors): Failures {
  const { batch, batches, grid, ratio = [0.4, 0.6], first_counter: counter, global_seed: seed } = record.config;
  const config = { patches: grid[0] * grid[1], ratio };
  const injected = new Comparison(tensors, 'injected');
  const stream = new Comparison(tensors, 'stream');
  const places = torchRandom(seed);
  const outputs = (masks: Masks2d) => ({ masks_enc: listsFirst(masks.context), masks_pred: listsFirst(masks.target) });
  for (let b = 0; b < batches; b++) {
    const prefix = `${record.name}/batch${b}`;
    const sizes = recordedUniforms(tensors, `${prefix}/u`);
    const permutations = recordedPermutations(tensors, `${prefix}/perm`);
    injected.equal(prefix, outputs(sampleRandom2d(config, batch, { sizes, places: permutations })));
    injected.failures.push(...nothingLeft(sizes, permutations));
    stream.equal(prefix, outputs(sampleRandom2d(config, batch, { sizes: torchRandom(counter + b), places })));
  }
  return [...injected.finish(record), ...stream.failures];
}

// --- 3-D ------------------------------------------------------------------------------------------------------------

function entry3d(entry: MaskCase['config']): MultiBlock3dEntry {
  return {
    blocks: entry.num_blocks,
    spatialScale: entry.spatial_scale,
    temporalScale: entry.temporal_scale,
    aspect: entry.aspect_ratio,
    maxTemporalKeep: entry.max_temporal_keep,
    maxKeep: entry.max_keep,
    fullComplement: entry.full_complement,
    predFullComplement: entry.pred_full_complement,
    invertBlocks: entry.inv_block,
  };
}

/** One entry of one batch from recorded draws, everything compared. */
function compareEntry3d(
  comparison: Comparison,
  tensors: Tensors,
  prefix: string,
  grid: Grid3d,
  entry: MultiBlock3dEntry,
  batch: number,
) {
  const uniforms = recordedUniforms(tensors, `${prefix}/u`);
  const integers = recordedIntegers(tensors, `${prefix}/randint`);
  const size = drawBlockSize3d(grid, entry, uniforms);
  const clips = Array.from({ length: batch }, () => drawClipMask3d(grid, entry, size, integers));
  const { context, target } = collate3d(entry, clips);
  comparison.equal(prefix, {
    size: vector([...size]),
    attempts: vector(clips.map((clip) => clip.attempts)),
    full: stacked(
      clips.map((clip) => clip.visible),
      [batch, ...grid],
    ),
    masks_enc: context,
    masks_pred: target,
  });
  comparison.failures.push(...nothingLeft(uniforms, integers));
}

function compareMasks3d(comparison: Comparison, prefix: string, masks: readonly Masks3d[]) {
  for (const [index, { context, target }] of masks.entries()) {
    comparison.equal(`${prefix}/entry${index}`, { masks_enc: context, masks_pred: target });
  }
}

function multiblock3d(record: MaskCase, tensors: Tensors): Failures {
  const { batch, batches, grid, first_counter: counter, global_seed: seed } = record.config;
  const entries: MultiBlock3dEntry[] = record.config.entries.map(entry3d);
  const injected = new Comparison(tensors, 'injected');
  const stream = new Comparison(tensors, 'stream');
  const places = torchRandom(seed);
  for (let b = 0; b < batches; b++) {
    const prefix = `${record.name}/batch${b}`;
    for (const [index, entry] of entries.entries()) {
      compareEntry3d(injected, tensors, `${prefix}/entry${index}`, grid, entry, batch);
    }
    const sizes = () => torchRandom(counter + b);
    compareMasks3d(stream, prefix, sampleMultiBlock3d(grid, entries, batch, { sizes, places }));
  }
  return [...injected.finish(record), ...stream.failures];
}

function multiseq3d(record: MaskCase, tensors: Tensors): Failures {
  const { calls, dataset_fpcs: lengths, grids, global_seed: seed } = record.config;
  const config = {
    entries: record.config.entries.map(entry3d) as MultiBlock3dEntry[],
    grids: new Map<number, Grid3d>(lengths.map((frames: number) => [frames, grids[frames]])),
  };
  const injected = new Comparison(tensors, 'injected');
  const stream = new Comparison(tensors, 'stream');
  const places = torchRandom(seed);
  // Batches so far that had clips of each length: the seed of the reference's generators.
  const counters = new Map<number, number>(lengths.map((frames: number) => [frames, 0]));
  for (const [call, clipFrames] of (calls as number[][]).entries()) {
    const groups = sampleMultiSequence3d(config, clipFrames, {
      sizes: (frames) => torchRandom(counters.get(frames)!),
      places,
    });
    for (const { frames, members, masks } of groups) {
      const prefix = `${record.name}/call${call}/fpc${frames}`;
      injected.equal(prefix, { members: { shape: [members.length], data: members } });
      for (const [index, entry] of config.entries.entries()) {
        compareEntry3d(injected, tensors, `${prefix}/entry${index}`, grids[frames], entry, members.length);
      }
      compareMasks3d(stream, prefix, masks);
      counters.set(frames, counters.get(frames)! + 1);
    }
  }
  return [...injected.finish(record), ...stream.failures];
}

function randomTube(record: MaskCase, tensors: Tensors): Failures {
  const { batch, batches, grid, ratios, keep_spatial: keeps } = record.config;
  const injected = new Comparison(tensors, 'injected');
  for (let b = 0; b < batches; b++) {
    for (const [index, ratio] of (ratios as number[]).entries()) {
      const prefix = `${record.name}/batch${b}/entry${index}`;
      const permutations = recordedPermutations(tensors, `${prefix}/perm`);
      const { context, target } = sampleRandomTube(grid, ratio, batch, permutations);
      injected.equal(prefix, { masks_enc: context, masks_pred: target });
      if (context.shape[1] !== keeps[index] * grid[0]) injected.failures.push(`${context.shape[1]} tokens kept`);
      injected.failures.push(...nothingLeft(permutations));
    }
  }
  return injected.finish(record);
}

// --- helpers --------------------------------------------------------------------------------------------------------

function applyMasks(record: MaskCase, tensors: Tensors): Failures {
  const { batch, kept, repeat } = record.config;
  const get = (name: string) => tensor(tensors, `${record.name}/${name}`);
  const comparison = new Comparison(tensors, 'gather');
  const lists = (kept as number[]).map((_, index) =>
    gatherTokens(get('x') as HostTensor<'float32'>, get(`mask${index}`) as HostTensor<'int32'>),
  );
  for (const [index, list] of lists.entries()) comparison.equal(record.name, { [`list${index}`]: list });
  if (new Set(kept).size === 1) {
    const y = concatRows(lists);
    comparison.equal(record.name, { y, repeated: repeatChunks(y, batch, repeat) });
  }
  return comparison.finish(record);
}

function repeatInterleaveBatch(record: MaskCase, tensors: Tensors): Failures {
  const x = tensor(tensors, `${record.name}/x`) as HostTensor<'float32'>;
  const comparison = new Comparison(tensors, 'repeat');
  comparison.equal(record.name, { y: repeatChunks(x, record.config.batch, record.config.repeat) });
  return comparison.finish(record);
}

// --- statistics of our own generator --------------------------------------------------------------------------------

interface Summary {
  n: number;
  mean: number;
  sd: number;
}

// biome-ignore lint/suspicious/noExplicitAny: summaries and tables of counts, told apart by name
type Statistics = Record<string, any>;

/** Values of one quantity, with mean and standard deviation as the reference reports them. */
function summary(values: readonly number[]): Summary {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n: values.length, mean, sd: Math.sqrt(squares / values.length) };
}

/** Means within 5 standard errors of both sides together; images of a batch share a size, so batches are counted. */
function compareMean(what: string, got: Summary, wanted: Summary, batches: number): string | undefined {
  const error = Math.sqrt((got.sd ** 2 + wanted.sd ** 2) / batches);
  // Stored means have six digits.
  const allowed = 5 * error + 1e-5 * Math.abs(wanted.mean);
  if (Math.abs(got.mean - wanted.mean) <= allowed) return undefined;
  return `${what}: mean ${got.mean} instead of ${wanted.mean} (+- ${allowed.toPrecision(3)})`;
}

/** Counted sizes within 5 standard deviations of their probabilities, and no size without one. */
function compareCounts(what: string, sizes: readonly string[], probabilities: Record<string, number>): Failures {
  const counts = new Map<string, number>(Object.keys(probabilities).map((size) => [size, 0]));
  for (const size of sizes) counts.set(size, (counts.get(size) ?? 0) + 1);
  return [...counts].map(([size, count]) => {
    const p = probabilities[size] ?? 0;
    const expected = p * sizes.length;
    // Besides chance: the error of the stored probabilities, and one draw of a size too rare to be in the table.
    const allowed = 5 * Math.sqrt(expected * (1 - p)) + 2e-4 * sizes.length + 1;
    return Math.abs(count - expected) <= allowed
      ? undefined
      : `${what} ${size}: ${count} draws instead of ${expected.toFixed(1)}`;
  });
}

/**
 * Our exact probabilities against the stored ones, which were integrated on a grid of uniforms: their error reaches
 * 1.4e-4 where 40 sizes share the mass (found by a finer grid).
 */
function compareProbabilities(what: string, got: readonly SizeProbability[], wanted: Record<string, number>): Failures {
  const ours = new Map(got.map(({ size, probability }) => [size.join('x'), probability]));
  return [...new Set([...ours.keys(), ...Object.keys(wanted)])].map((size) => {
    const [p, q] = [ours.get(size) ?? 0, wanted[size] ?? 0];
    return Math.abs(p - q) <= 2e-4 ? undefined : `${what} ${size}: probability ${p} instead of ${q}`;
  });
}

function compareKnown(record: MaskCase, checks: Record<string, () => Failures>): Failures {
  return Object.keys(record.statistics!).flatMap((name) => checks[name]?.() ?? [`unknown statistic ${name}`]);
}

class Coverage {
  private readonly sums: Float64Array;
  private blocks = 0;

  constructor(private readonly grid: readonly number[]) {
    this.sums = new Float64Array(grid.reduce((a, b) => a * b, 1));
  }

  add(members: Iterable<number>): void {
    for (const cell of members) this.sums[cell]++;
    this.blocks++;
  }

  share() {
    return { shape: this.grid, data: this.sums.map((sum) => sum / this.blocks) };
  }
}

function compareCoverage(record: MaskCase, tensors: Tensors, coverage: Record<string, Coverage>): Failures {
  return record.expected.map((key) => {
    const map = coverage[key.slice(key.lastIndexOf('/') + 1)];
    if (!map) return `unknown expected key ${key}`;
    return difference(key, map.share(), tensor(tensors, key), record);
  });
}

/** A generator of our own for batch b of a case: sizes and places from separate streams. */
function ownDraws(record: MaskCase, b: number): { sizes: Random; places: Random } {
  const random = createRandom(record.config.global_seed, record.name, b);
  return { sizes: random.split('sizes'), places: random.split('places') };
}

function statistics2d(record: MaskCase, tensors: Tensors): Failures {
  const config = config2d(record.config);
  const { batch, batches } = record.config;
  const coverage = { target_coverage: new Coverage(config.grid), context_coverage: new Coverage(config.grid) };
  const sizes: BlockSizes2d[] = [];
  const values: Record<string, number[]> = {
    target_size: [],
    target_aspect_h_over_w: [],
    context_size_before_truncation: [],
    context_size_after_truncation: [],
    target_size_after_truncation: [],
    context_attempts: [],
  };
  for (let b = 0; b < batches; b++) {
    const draws = ownDraws(record, b);
    const size = drawBlockSizes2d(config, draws.sizes);
    const images = Array.from({ length: batch }, () => drawImageMasks2d(config, size, draws.places));
    const masks = collate2d(images);
    sizes.push(size);
    values.target_aspect_h_over_w.push(size.target[0] / size.target[1]);
    values.context_size_after_truncation.push(masks.context.shape[2]);
    values.target_size_after_truncation.push(masks.target.shape[2]);
    for (const image of images) {
      for (const { indices } of image.targets) {
        values.target_size.push(indices.length);
        coverage.target_coverage.add(indices);
      }
      for (const { indices, attempts } of image.contexts) {
        values.context_size_before_truncation.push(indices.length);
        values.context_attempts.push(attempts);
        coverage.context_coverage.add(indices);
      }
    }
  }
  const stored = record.statistics!;
  const joined = (size: Size) => size.join('x');
  const counts = (what: string, drawn: string[]) => () => compareCounts(what, drawn, stored[`${what}_probability`]);
  const targets = sizes.map(({ target }) => joined(target));
  const contexts = sizes.map(({ context }) => joined(context));
  const means = Object.entries(values).map(([name, list]) => [
    name,
    () => [compareMean(name, summary(list), stored[name], batches)],
  ]);
  return [
    ...compareKnown(record, {
      target_block_hw: counts('target_block', targets),
      context_block_hw: counts('context_block', contexts),
      target_block_probability: () =>
        compareProbabilities('target block', targetSizes2d(config), stored.target_block_probability),
      context_block_probability: () =>
        compareProbabilities('context block', contextSizes2d(config), stored.context_block_probability),
      ...Object.fromEntries(means),
    }),
    ...compareCoverage(record, tensors, coverage),
  ];
}

function statistics3d(record: MaskCase, tensors: Tensors): Failures {
  const { batch, batches, grid } = record.config;
  const entry = entry3d(record.config.entry);
  const coverage = { context_coverage: new Coverage(grid) };
  const sizes: Grid3d[] = [];
  const values: Record<string, number[]> = {
    context_size_before_truncation: [],
    target_size_before_truncation: [],
    context_size_after_truncation: [],
    target_size_after_truncation: [],
    draws_per_sample: [],
  };
  for (let b = 0; b < batches; b++) {
    const draws = ownDraws(record, b);
    const size = drawBlockSize3d(grid, entry, draws.sizes);
    const clips = Array.from({ length: batch }, () => drawClipMask3d(grid, entry, size, draws.places));
    const { context, target } = collate3d(entry, clips);
    sizes.push(size);
    values.context_size_after_truncation.push(context.shape[1]);
    values.target_size_after_truncation.push(target.shape[1]);
    values.draws_per_sample.push(clips.reduce((sum, clip) => sum + clip.attempts, 0) / batch);
    for (const { visible } of clips) {
      const members = membersOf(visible);
      values.context_size_before_truncation.push(members.length);
      values.target_size_before_truncation.push(visible.length - members.length);
      coverage.context_coverage.add(members);
    }
  }
  const stored = record.statistics!;
  const means = Object.entries(values).map(([name, list]) => [
    name,
    () => [compareMean(name, summary(list), stored[name], batches)],
  ]);
  return [
    ...compareKnown(record, {
      block_thw: () => [
        ...compareBlocks3d(sizes, stored.block_thw),
        ...compareDepths(grid, entry.temporalScale, sizes),
      ],
      block_hw_probability: () => [
        ...compareProbabilities('block', frameSizes3d(grid, entry), stored.block_hw_probability),
        ...compareCounts(
          'block',
          sizes.map(([, ...size]) => size.join('x')),
          stored.block_hw_probability,
        ),
      ],
      ...Object.fromEntries(means),
    }),
    ...compareCoverage(record, tensors, coverage),
  ];
}

/** Two samples of counts: the difference of each count within 5 of its standard deviations. */
function compareBlocks3d(sizes: readonly Grid3d[], wanted: Record<string, number>): Failures {
  const drawn = new Map<string, number>(Object.keys(wanted).map((size) => [size, 0]));
  for (const size of sizes) drawn.set(size.join('x'), (drawn.get(size.join('x')) ?? 0) + 1);
  return [...drawn].map(([size, count]) => {
    const reference = wanted[size] ?? 0;
    // A size seen once in one sample only is no contradiction: variance at least 1.
    const allowed = 5 * Math.sqrt(Math.max(1, count + reference));
    return Math.abs(count - reference) <= allowed ? undefined : `block ${size}: ${count} draws instead of ${reference}`;
  });
}

/** Frames of a block: max(1, trunc(T x uniform in the scale)), whose probabilities follow from the range. */
function compareDepths(grid: Grid3d, [low, high]: Range, sizes: readonly Grid3d[]): Failures {
  const probabilities: Record<string, number> = {};
  const below = (frames: number) =>
    high === low ? Number(grid[0] * low < frames) : Math.min(1, Math.max(0, (frames / grid[0] - low) / (high - low)));
  for (let frames = 1; frames <= grid[0]; frames++) {
    const p = below(frames + 1) - (frames === 1 ? 0 : below(frames));
    if (p > 0) probabilities[frames] = p;
  }
  return compareCounts(
    'frames',
    sizes.map(([frames]) => String(frames)),
    probabilities,
  );
}
