import { JepaError } from '../../base/errors.js';
import { checkIndex, type Dataset, type SampleReader } from '../dataset.js';
import type { SkeletonLayout } from './layout.js';
import { NTU_JOINTS, type NtuRecording, ntuLabels, parseNtu } from './ntu.js';

/** A recording of moving skeletons. */
export interface SkeletonClip {
  readonly frames: number;
  readonly bodies: number;
  readonly joints: number;
  /** [frames, bodies, joints, 3] */
  readonly data: Float32Array;
}

/** A set of recordings of skeletons with the same joints; their numbers of frames may differ. */
export interface SkeletonDataset extends Dataset<SkeletonClip> {
  readonly modality: 'skeleton';
  readonly layout: SkeletonLayout;
  /** Numbers known of every sample that are no classes, by name. */
  readonly factors?: Readonly<Record<string, Float32Array>>;
}

export interface SkeletonArrays {
  readonly name: string;
  /** [samples, frames, joints, 3] or [samples, frames, bodies, joints, 3] */
  readonly shape: readonly number[];
  readonly data: Float32Array;
  readonly layout: SkeletonLayout;
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  readonly attributes?: Readonly<Record<string, Int32Array>>;
}

/**
 * Recordings held in memory: an array of an .npz file, say. Frames at the end, and people, whose numbers are all zero are padding; a
 * recording of zeros alone is refused when it is read.
 */
export function skeletonArrays(arrays: SkeletonArrays): SkeletonDataset {
  const { name, shape, data, layout, labels, classNames, attributes } = arrays;
  const [length, frames, ...rest] = shape;
  const [bodies, joints, coordinates] = rest.length === 2 ? [1, ...rest] : rest;
  if ((rest.length !== 2 && rest.length !== 3) || coordinates !== 3) {
    throw new JepaError(
      `${name}: skeletons must be [samples, frames, joints, 3] or [samples, frames, bodies, joints, 3], not [${shape.join(', ')}]`,
    );
  }
  if (joints !== layout.names.length)
    throw new JepaError(`${name}: the array has ${joints} joints, its layout ${layout.names.length}`);
  if (data.length !== shape.reduce((a, b) => a * b, 1))
    throw new JepaError(`${name}: ${data.length} values do not fill [${shape.join(', ')}]`);
  for (const [what, values] of Object.entries({ labels, ...attributes })) {
    if (values && values.length !== length)
      throw new JepaError(`${name}: ${length} sequences but ${values.length} ${what}; they differ in number`);
  }
  const options: MemoryOptions = { name, frames, bodies, joints, data };
  return {
    name,
    modality: 'skeleton',
    length,
    layout,
    labels,
    classNames,
    attributes,
    async read(index) {
      checkIndex({ name, length, modality: 'skeleton' }, index);
      return clipOf(options, index);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

interface MemoryOptions extends SkeletonClip {
  readonly name: string;
}

function clipOf({ name, frames: most, bodies, joints, data }: MemoryOptions, index: number): SkeletonClip {
  const row = joints * 3;
  const size = most * bodies * row;
  const all = data.subarray(index * size, (index + 1) * size);
  const isThere = (value: number): boolean => value !== 0;
  const last = all.findLastIndex(isThere);
  if (last < 0)
    throw new JepaError(`${name}: nobody is in recording ${index + 1}, its numbers are all 0; leave it out`);
  const frames = Math.floor(last / (bodies * row)) + 1;
  const pose = (frame: number, body: number): Float32Array =>
    all.subarray((frame * bodies + body) * row, (frame * bodies + body + 1) * row);
  const times = Array.from({ length: frames }, (_, frame) => frame);
  const people = Array.from({ length: bodies }, (_, body) => body).filter((body) =>
    times.some((frame) => pose(frame, body).some(isThere)),
  );
  if (people.length === bodies) return { frames, bodies, joints, data: all.subarray(0, frames * bodies * row) };
  const kept = new Float32Array(frames * people.length * row);
  for (const frame of times)
    for (const [i, body] of people.entries()) kept.set(pose(frame, body), (frame * people.length + i) * row);
  return { frames, bodies: people.length, joints, data: kept };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<SkeletonClip> => ({
  read: (index) => clipOf(options as MemoryOptions, index),
});

/** People of an NTU recording that are kept: actions have one or two. */
const NTU_BODIES = 2;

/**
 * An NTU recording as a clip: the people that move most come first, at most two. Where the sensor lost one, it holds the
 * pose before (at the start the first one seen). Throws a `JepaError` for a recording without people.
 */
export function ntuClip(recording: NtuRecording, where: string): SkeletonClip {
  const { frames, bodyIds, xyz, tracking } = recording;
  const people = bodyIds.length;
  if (people === 0 || frames === 0) throw new JepaError(`${where}: nobody is in this recording; leave it out`);
  const row = NTU_JOINTS * 3;
  const bodies = Math.min(people, NTU_BODIES);
  const paths = bodyIds.map((_, person) => {
    const poses = new Float32Array(frames * row);
    let before = -1;
    for (let frame = 0; frame < frames; frame++) {
      const at = (frame * people + person) * NTU_JOINTS;
      const seen =
        tracking.subarray(at, at + NTU_JOINTS).some((state) => state > 0) ||
        xyz.subarray(at * 3, at * 3 + row).some((value) => value !== 0);
      if (seen) {
        poses.set(xyz.subarray(at * 3, at * 3 + row), frame * row);
        if (before < 0)
          for (let early = 0; early < frame; early++) poses.copyWithin(early * row, frame * row, frame * row + row);
        before = frame;
      } else if (before >= 0) poses.copyWithin(frame * row, before * row, before * row + row);
    }
    return { poses, path: pathLength(poses, row) };
  });
  const chosen = paths.sort((a, b) => b.path - a.path).slice(0, bodies);
  const data = new Float32Array(frames * bodies * row);
  for (let frame = 0; frame < frames; frame++) {
    chosen.forEach(({ poses }, body) => {
      data.set(poses.subarray(frame * row, (frame + 1) * row), (frame * bodies + body) * row);
    });
  }
  return { frames, bodies, joints: NTU_JOINTS, data };
}

/** Sum of the steps of all joints, coordinate by coordinate; poses are `row` numbers. */
export function pathLength(poses: Float32Array, row: number): number {
  let path = 0;
  for (let i = row; i < poses.length; i++) path += Math.abs(poses[i] - poses[i - row]);
  return path;
}

/** A `.skeleton` file's content as a clip. */
export const readNtuClip = (bytes: Uint8Array, where: string): SkeletonClip => ntuClip(parseNtu(bytes, where), where);

/** An action of NTU RGB+D as the names of its files have it; actions count from 1. */
export const ntuClassName = (action: number): string => `A${String(action).padStart(3, '0')}`;

/** What the names of NTU files say of all of them: actions as classes, the rest as attributes. */
export function ntuDatasetLabels(
  paths: readonly string[],
): Required<Pick<SkeletonDataset, 'labels' | 'classNames' | 'attributes'>> {
  const found = paths.map(ntuLabels);
  const column = (key: keyof (typeof found)[number]): Int32Array => Int32Array.from(found, (labels) => labels[key]);
  const actions = [...new Set(found.map(({ action }) => action))].sort((a, b) => a - b);
  return {
    labels: column('action').map((action) => actions.indexOf(action)),
    classNames: actions.map(ntuClassName),
    attributes: {
      setup: column('setup'),
      camera: column('camera'),
      performer: column('performer'),
      replication: column('replication'),
    },
  };
}
