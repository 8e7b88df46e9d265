import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import type { Preparation } from '../preparation.js';
import { pathLength, type SkeletonClip, type SkeletonDataset } from './dataset.js';
import type { SkeletonLayout } from './layout.js';
import {
  centred,
  geometricView,
  moving,
  resampleFrames,
  turned,
  uprightRotation,
  type ViewChange,
} from './transforms.js';

/** How skeletons are prepared, as it stands in a configuration. */
export interface SkeletonInput {
  readonly kind: 'skeleton';
  /** Frames that every clip becomes. */
  readonly frames: number;
  /** Origin: the body's middle in every frame (default), in the first one, or that of the data. */
  readonly centre?: 'frame' | 'first' | 'none';
  /** Turn the body upright and to the front, as it is in the first frame; off by default. */
  readonly upright?: boolean;
  /** Take from every joint its mean place over the frames that are shown, last of all; off by default. */
  readonly motion?: boolean;
  /** Every number times this, last of all: an encoder begins with numbers about 1, motion is a tenth of a metre. 1 by default. */
  readonly scale?: number;
  /** Share of the clip that is shown, drawn from this range ([.5, 1] in S-JEPA); all of it by default. */
  readonly crop?: readonly [number, number];
  /** A second, changed view, for the context encoder. */
  readonly view?: {
    /** Largest turn about the spine, degrees; 30 by default. */
    readonly rotation?: number;
    /** How often it is mirrored; .5 by default. */
    readonly mirror?: number;
    /** Largest shift along each axis, in the unit of the data; .02 by default. */
    readonly shift?: number;
    /** Share of the clip that it shows, drawn from this range for itself; the same frames by default. */
    readonly crop?: readonly [number, number];
  };
}

/** A checked `SkeletonInput` with what the data say: plain data. */
export interface SkeletonPlan {
  readonly kind: 'skeleton';
  readonly frames: number;
  readonly layout: SkeletonLayout;
  readonly centre: 'frame' | 'first' | 'none';
  readonly upright: boolean;
  readonly motion: boolean;
  readonly scale: number;
  readonly crop: readonly [number, number];
  readonly view?: {
    readonly rotation: number;
    readonly mirror: number;
    readonly shift: number;
    readonly crop?: readonly [number, number];
  };
}

/** Name of the field with skeletons [frames, joints, 3], and of their changed views. */
export const SKELETONS = 'skeletons';
export const VIEWS = 'views';

/** Checks a preparation. Throws a `JepaError` beginning with `where`. */
export function planSkeletons(input: SkeletonInput, { layout }: SkeletonDataset, where: string): SkeletonPlan {
  const { frames, centre = 'frame', upright = false, motion = false, scale = 1, crop = [1, 1], view } = input;
  if (!Number.isInteger(frames) || frames < 1)
    throw new JepaError(`${where}.frames must be a positive whole number, not ${frames}`);
  const shares = { crop, ...(view?.crop && { 'view.crop': view.crop }) };
  for (const [what, [least, most]] of Object.entries(shares)) {
    if (!(least > 0 && least <= most && most <= 1))
      throw new JepaError(`${where}.${what} must be two shares of the clip, such as [0.5, 1], not [${least}, ${most}]`);
  }
  if (!(scale > 0)) throw new JepaError(`${where}.scale must be above 0, not ${scale}`);
  const { rotation = 30, mirror = 0.5, shift = 0.02 } = view ?? {};
  if (!(mirror >= 0 && mirror <= 1)) throw new JepaError(`${where}.view.mirror must be from 0 to 1, not ${mirror}`);
  return {
    kind: 'skeleton',
    frames,
    layout,
    centre,
    upright,
    motion,
    scale,
    crop,
    ...(view && { view: { rotation, mirror, shift, ...(view.crop && { crop: view.crop }) } }),
  };
}

/**
 * One body of a clip as [frames, joints, 3]: cropped and resampled in time, centred and turned; then possibly a changed view of
 * it. Of several bodies the one that moves most.
 */
export function skeletonPreparation(plan: SkeletonPlan): Preparation<SkeletonClip> {
  const { frames, layout, centre, upright, motion, scale, crop, view } = plan;
  const joints = layout.names.length;
  const row = joints * 3;
  const shape = [frames, joints, 3];
  const shown = (poses: Float32Array): Float32Array => {
    const all = motion ? moving(poses, row) : poses;
    return scale === 1 ? all : all.map((value) => value * scale);
  };
  /** A part of a clip, as long as a share from `range`. */
  const part = (all: Float32Array, [least, most]: readonly [number, number], random: Random): Float32Array => {
    const clip = all.length / row;
    const length = clip * (least + (most - least) * random.uniform());
    const start = (clip - length) * random.uniform();
    let poses = resampleFrames(all, row, frames, start, length);
    if (centre !== 'none') poses = centred(poses, joints, layout.root, centre);
    return upright ? turned(poses, uprightRotation(poses, layout)) : poses;
  };
  return {
    fields: [
      { name: SKELETONS, dtype: 'float32', shape },
      ...(view ? [{ name: VIEWS, dtype: 'float32' as const, shape }] : []),
    ],
    prepare(clip, random, out) {
      if (clip.joints !== joints)
        throw new JepaError(`a skeleton has ${clip.joints} joints where the data set says ${joints}`);
      const all = mainBody(clip);
      const poses = part(all, crop, random);
      out[0].set(shown(poses));
      if (!view) return;
      const seen = view.crop ? part(all, view.crop, random) : poses;
      out[1].set(shown(geometricView(seen, layout, drawChange(view, random))));
    },
  };
}

function drawChange({ rotation, mirror, shift }: NonNullable<SkeletonPlan['view']>, random: Random): ViewChange {
  const symmetric = (size: number): number => size * (2 * random.uniform() - 1);
  return {
    angle: (symmetric(rotation) * Math.PI) / 180,
    mirror: random.uniform() < mirror,
    shift: [symmetric(shift), symmetric(shift), symmetric(shift)] as const,
  };
}

/** The poses [frames, joints, 3] of the body that moves most. */
export function mainBody({ frames, bodies, joints, data }: SkeletonClip): Float32Array {
  if (bodies === 1) return data;
  const row = joints * 3;
  const each = Array.from({ length: bodies }, (_, body) => {
    const poses = new Float32Array(frames * row);
    for (let frame = 0; frame < frames; frame++) {
      const from = (frame * bodies + body) * row;
      poses.set(data.subarray(from, from + row), frame * row);
    }
    return { poses, path: pathLength(poses, row) };
  });
  return each.reduce((best, other) => (other.path > best.path ? other : best)).poses;
}
