import { JepaError } from '../../src/base/errors.js';
import type { Random } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { randomCropBox } from '../../src/data/pipeline.js';
import { type Box, shortEdgeSize } from '../../src/data/resample.js';
import type { RawClip } from '../../src/data/video/clip.js';
import { randAugmentOperations } from '../../src/data/video/randaugment.js';
import { anticipationFrames, type ClipSampling, robotFrames, sampleClips } from '../../src/data/video/sampling.js';
import {
  applyClipTransform,
  clipCentre,
  clipViews,
  cropClip,
  eraseClip,
  padFrames,
  parseClipTransform,
  spatialViews,
} from '../../src/data/video/transforms.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';

type Failures = (string | undefined)[];
type Tensors = Map<string, HostTensor>;
// biome-ignore lint/suspicious/noExplicitAny: each group has rows and a configuration of its own
type Row = any;

interface VideoCase {
  name: string;
  group: string;
  file?: string;
  rows?: Row[];
  config?: Row;
  expected?: string[];
  ops?: string[];
  ops_without_inc?: string[];
  tolerance?: { default: Tolerance; keys?: Record<string, Tolerance> };
}

/** One check for every row, or one for the whole case. */
const ROWS: Record<string, (row: Row) => Failures> = {
  clip_indices: clipIndices,
  anticipation_indices: anticipationIndices,
  robot_indices: robotIndices,
  resize_short_side: resizeShortSide,
  center_crop: centerCrop,
  spatial_views: views,
  random_crop_box: cropBox,
};
const CASES: Record<string, (record: VideoCase, tensors: Tensors) => Failures> = {
  eval_single_view: evaluation,
  eval_three_views: evaluation,
  pretrain,
  probe_training: probeTraining,
  pad_frames: pad,
};

const harness: Harness = async function* (folder) {
  for (const record of readCases<{ cases: VideoCase[] }>(folder).cases) {
    yield attempt(record.name, () => {
      if (record.group === 'rand_augment') return randAugmentNames(record);
      const ofRow = ROWS[record.group];
      if (ofRow) {
        if (!record.rows?.length) return ['the case has no rows'];
        return record.rows.flatMap((row, i) => ofRow(row).map((failure) => failure && `row ${i}: ${failure}`));
      }
      const ofCase = CASES[record.group];
      return ofCase ? ofCase(record, readTensors(folder, record.file!)) : [`unknown group ${record.group}`];
    });
  }
};

export default harness;

// --- draws and comparisons ------------------------------------------------------------------------------------------

const EXACT: Tolerance = { rtol: 0, atol: 0 };

function same(what: string, got: readonly number[] | Int32Array, expected: readonly number[]): string | undefined {
  const vector = (data: ArrayLike<number>) => ({ shape: [data.length], data });
  return difference(what, vector(got), vector(expected), EXACT);
}

function nothingLeft(values: readonly unknown[]): string | undefined {
  return values.length > 0 ? `${values.length} recorded draws were not asked for` : undefined;
}

interface IntegerDraw {
  draw: 'integer';
  low: number;
  high_exclusive: number;
  value: number;
}

/** Recorded integers; a request for another number of values is an error. */
function recordedIntegers(draws: IntegerDraw[]): Pick<Random, 'integer'> {
  return {
    integer(bound) {
      const draw = draws.shift();
      if (!draw) throw new Error('more draws than the reference');
      const values = draw.high_exclusive - draw.low;
      if (bound !== values) throw new Error(`asked for one of ${bound} values, the reference for one of ${values}`);
      return draw.value - draw.low;
    },
  };
}

/** The uniform number in [0, 1) that makes `value` of an interval. */
const uniformOf = (value: number, low: number, high: number) => (high > low ? (value - low) / (high - low) : 0);

// --- frame numbers --------------------------------------------------------------------------------------------------

function clipIndices(row: Row): Failures {
  const v1 = row.version === 'vjepa';
  if (!v1 && row.version !== 'vjepa2') return [`unknown version ${row.version}`];
  const sampling: ClipSampling = {
    frames: row.frames_per_clip,
    // In the first version a duration takes the place of the step, and the rate wanted is ignored.
    frameStep: v1 && row.duration !== null ? undefined : (row.frame_step ?? undefined),
    duration: row.duration ?? undefined,
    fps: v1 ? undefined : (row.fps ?? undefined),
    rate: v1 ? 'exact' : 'up',
    clips: row.num_clips,
    start: row.random ? 'random' : 'first',
    overlap: row.allow_overlap,
    short: row.skip_short_videos ? 'skip' : 'pad',
  };
  const draws: IntegerDraw[] = [...(row.draws ?? [])];
  const video = { count: row.video_length, fps: row.video_fps };
  if (row.reference_fails) {
    try {
      sampleClips(sampling, video, recordedIntegers(draws));
      return ['no error where the reference fails'];
    } catch (error) {
      return [error instanceof JepaError ? undefined : `${error} is no JepaError`];
    }
  }
  const clips = sampleClips(sampling, video, recordedIntegers(draws));
  if (row.skipped) return [clips ? 'a clip where the reference skips the video' : undefined, nothingLeft(draws)];
  if (!clips) return ['the video is skipped'];
  // Where the reference points outside of the video the number next to it inside is right.
  const inside = (index: number) => (row.quirk ? Math.max(0, Math.min(index, row.video_length - 1)) : index);
  const expected = (row.indices as number[][]).map((clip) => clip.map(inside));
  return [
    clips.length === expected.length ? undefined : `${clips.length} clips instead of ${expected.length}`,
    ...expected.map((clip, i) => clips[i] && same(`clip ${i}`, clips[i], clip)),
    nothingLeft(draws),
  ];
}

function anticipationIndices(row: Row): Failures {
  const action = { start: row.start_frame, stop: row.stop_frame, seconds: row.seconds, point: row.point };
  return [same('frames', anticipationFrames(action, row.video_fps, row.frames_per_clip, row.fps), row.indices)];
}

function robotIndices(row: Row): Failures {
  const draws: IntegerDraw[] = [...row.draws];
  const video = { count: row.video_length, fps: row.video_fps };
  const clip = robotFrames(video, row.frames_per_clip, row.fps, row.frameskip, recordedIntegers(draws));
  return [
    same('frames', clip.frames, row.indices),
    same('states', clip.states, row.state_rows),
    same('actions', [clip.states.length - 1], [row.actions]),
    nothingLeft(draws),
  ];
}

// --- sizes and boxes ------------------------------------------------------------------------------------------------

function resizeShortSide({ height, width, short_side: side, resized, unchanged }: Row): Failures {
  const got = shortEdgeSize({ height, width }, side);
  return [
    same('size', [got.height, got.width], resized),
    unchanged === (got.height === height && got.width === width) ? undefined : 'changed or not, unlike the reference',
  ];
}

function centerCrop({ height, width, crop, top, left }: Row): Failures {
  const got = clipCentre(height, width, crop);
  return [same('corner', [got.top, got.left], [top, left])];
}

function views({ height, width, side, views: count, offsets }: Row): Failures {
  const got = spatialViews(height, width, side, count).flatMap(({ top, left }) => [top, left]);
  return [same('corners', got, offsets.flat())];
}

function cropBox(row: Row): Failures {
  const uniforms = (row.tries as [number, number][]).flatMap(([area, aspect]) => [
    uniformOf(area, row.scale[0], row.scale[1]),
    uniformOf(aspect, Math.log(row.ratio[0]), Math.log(row.ratio[1])),
  ]);
  const offsets: number[] = [...row.offset_draws];
  const take = (values: number[], bound: number) => {
    const value = values.shift();
    if (value === undefined || value >= bound) throw new Error(`no draw below ${bound} was recorded`);
    return value;
  };
  const box = randomCropBox(row.width, row.height, row.scale, row.ratio, {
    uniform: () => take(uniforms, Infinity),
    integer: (bound) => take(offsets, bound),
  });
  return [
    same('box', [box.top, box.left, box.height, box.width], [row.top, row.left, row.crop_height, row.crop_width]),
    nothingLeft(uniforms),
    nothingLeft(offsets),
  ];
}

// --- pixels ---------------------------------------------------------------------------------------------------------

function tensor(tensors: Tensors, record: VideoCase, key: string): HostTensor {
  const found = tensors.get(`${record.name}/${key}`);
  if (!found) throw new Error(`no tensor ${record.name}/${key}`);
  return found;
}

function clipOf(tensors: Tensors, record: VideoCase): RawClip {
  const { shape, data } = tensor(tensors, record, 'video');
  const [frames, height, width, channels] = shape;
  return { frames, height, width, channels, data: data as Uint8Array };
}

function compare(
  record: VideoCase,
  tensors: Tensors,
  got: Record<string, { shape: readonly number[]; data: ArrayLike<number> }>,
): Failures {
  const { default: usual, keys } = record.tolerance!;
  const missed = record.expected!.filter((key) => !(key in got));
  return [
    missed.length > 0 ? `never compared: ${missed.join()}` : undefined,
    ...Object.entries(got).map(([key, value]) =>
      difference(key, value, tensor(tensors, record, key), keys?.[key] ?? usual),
    ),
  ];
}

/** No draw is expected. */
const NO_DRAWS: Pick<Random, 'uniform' | 'integer' | 'normal' | 'fillNormal'> = {
  uniform: () => unexpected(),
  integer: () => unexpected(),
  normal: () => unexpected(),
  fillNormal: () => unexpected(),
};

function unexpected(): never {
  throw new Error('a draw that the reference does not make');
}

function evaluation(record: VideoCase, tensors: Tensors): Failures {
  const { crop, short_side: shortSide, mean, std } = record.config;
  const clip = clipOf(tensors, record);
  const wanted = record.expected!;
  const transform = parseClipTransform({ kind: 'evaluate', size: crop, views: wanted.length, shortSide, mean, std });
  const { views: count, height, width } = clipViews(transform);
  const shape = [clip.channels, clip.frames, height, width];
  const length = shape.reduce((product, n) => product * n, 1);
  const out = new Float32Array(count * length);
  applyClipTransform(clip, transform, NO_DRAWS, out);
  return compare(
    record,
    tensors,
    Object.fromEntries(wanted.map((key, v) => [key, { shape, data: out.subarray(v * length, (v + 1) * length) }])),
  );
}

const boxOf = ([top, left, height, width]: number[]): Box => ({ top, left, height, width });

function pretrain(record: VideoCase, tensors: Tensors): Failures {
  const { crop, boxes_top_left_height_width: corners, flip, motion_shift: moves } = record.config;
  const boxes: Box[] = corners.map(boxOf);
  if (boxes.length !== (moves ? 2 : 1)) return [`${boxes.length} boxes`];
  const [mean, std] = [record.config.mean_times_255, record.config.std_times_255].map((values: number[]) =>
    values.map((value) => value / 255),
  );
  const clip = clipOf(tensors, record);
  const shape = [clip.channels, clip.frames, crop, crop];
  const data = new Float32Array(clip.channels * clip.frames * crop * crop);
  cropClip(clip, boxes as [Box], flip, { size: crop, mean, std }, data);
  return compare(record, tensors, { clip: { shape, data } });
}

function probeTraining(record: VideoCase, tensors: Tensors): Failures {
  const { crop, box_top_left_height_width: corners, erase_draws: recorded, mean, std } = record.config;
  const clip = clipOf(tensors, record);
  const shape = [clip.channels, clip.frames, crop, crop] as const;
  const data = new Float32Array(clip.channels * clip.frames * crop * crop);
  cropClip(clip, [boxOf(corners)], false, { size: crop, mean, std }, data);
  const draws: { draw: string; low: number; high: number; value: number }[] = [...recorded];
  const noise = Array.from(tensor(tensors, record, 'noise').data as Float32Array);
  const next = (kind: string) => {
    const draw = draws.shift();
    if (draw?.draw !== kind) throw new Error(`a draw of kind ${kind} that the reference does not make`);
    return draw;
  };
  eraseClip(data, shape, 1, {
    uniform: () => {
      const { value, low, high } = next('uniform');
      return uniformOf(value, low, high);
    },
    integer: (bound) => {
      // Both ends of the recorded interval are possible.
      const { value, low, high } = next('integer');
      if (bound !== high - low + 1) throw new Error(`asked for one of ${bound} values instead of ${high - low + 1}`);
      return value - low;
    },
    fillNormal: (out) => out.set(noise.splice(0, out.length)),
  });
  return [...compare(record, tensors, { clip: { shape, data } }), nothingLeft(draws), nothingLeft(noise)];
}

function pad(record: VideoCase, tensors: Tensors): Failures {
  return compare(record, tensors, {
    out: padFrames(tensor(tensors, record, 'clip') as HostTensor<'float32'>, record.config.frames),
  });
}

function randAugmentNames({ ops, ops_without_inc: plain }: VideoCase): Failures {
  const names = (increasing: boolean) => Object.keys(randAugmentOperations({ increasing })).join();
  return [
    names(true) === ops!.join() ? undefined : `${names(true)} instead of ${ops}`,
    names(false) === plain!.join() ? undefined : `${names(false)} instead of ${plain}`,
  ];
}
