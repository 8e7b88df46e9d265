import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';
import { checkIndex, type SampleReader } from '../dataset.js';
import type { SkeletonClip, SkeletonDataset } from '../skeleton/dataset.js';
import type { SkeletonLayout } from '../skeleton/layout.js';
import { balanced } from './balanced.js';

/**
 * Stick figures that act. What a figure does shows only in how its joints move together: the pose about which it moves, the
 * idle motion of its other limbs, its proportions and the camera are drawn alike for every action.
 */

/** Fifteen joints; a subset of Kinect's. */
export const STICK_LAYOUT: SkeletonLayout = {
  names: [
    'pelvis',
    'chest',
    'head',
    'left shoulder',
    'left elbow',
    'left hand',
    'right shoulder',
    'right elbow',
    'right hand',
    'left hip',
    'left knee',
    'left foot',
    'right hip',
    'right knee',
    'right foot',
  ],
  parents: [0, 0, 1, 1, 3, 4, 1, 6, 7, 0, 9, 10, 0, 12, 13],
  root: 0,
  spine: [0, 1],
  shoulders: [3, 6],
  pairs: [
    [3, 6],
    [4, 7],
    [5, 8],
    [9, 12],
    [10, 13],
    [11, 14],
  ],
};

const JOINTS = STICK_LAYOUT.names.length;

/**
 * A pose is 17 numbers: angles in radians, and the height of the feet above the ground in metres. Of limbs (left, right) how
 * far they swing forward and spread outward and how far elbow or knee is bent.
 */
type Pose = Float64Array;
const TURN = 0;
/** Forward, and to the left. */
const LEAN = 1;
const SWAY = 2;
const NOD = 3;
const ARMS = [4, 7] as const;
const LEGS = [10, 13] as const;
const LIFT = 16;
const NUMBERS = 17;
/** Inside of a limb. */
const SWING = 0;
const SPREAD = 1;
const BEND = 2;

/** Sets the numbers of a pose at rest (all zero) that an action moves, at an angle of its cycle; `own` is the leading side. */
type Action = (angle: number, pose: Pose, own: 0 | 1) => void;

const { sin, cos } = Math;

const ACTIONS = {
  wave: (angle, pose, own) => {
    pose[ARMS[own] + SPREAD] = 0.5 * sin(angle);
    pose[ARMS[own] + BEND] = 0.5 * sin(angle);
  },
  circle: (angle, pose, own) => {
    pose[ARMS[own] + SPREAD] = 0.5 * sin(angle);
    pose[ARMS[own] + SWING] = 0.5 * cos(angle);
  },
  clap: (angle, pose) => {
    for (const arm of ARMS) pose[arm + SPREAD] = 0.45 * sin(angle);
  },
  punch: (angle, pose, own) => {
    ARMS.forEach((arm, side) => {
      const push = sin(angle) * (side === own ? 1 : -1);
      pose[arm + SWING] = 0.4 * push;
      pose[arm + BEND] = -0.5 * push;
    });
  },
  walk: (angle, pose, own) => {
    LEGS.forEach((leg, side) => {
      const step = angle + (side === own ? 0 : Math.PI);
      pose[leg + SWING] = 0.4 * sin(step);
      pose[leg + BEND] = 0.4 * cos(step);
      pose[ARMS[side] + SWING] = -0.2 * sin(step);
    });
  },
  squat: (angle, pose) => {
    for (const leg of LEGS) {
      pose[leg + SWING] = 0.35 * sin(angle);
      pose[leg + BEND] = 0.7 * sin(angle);
    }
  },
  jump: (angle, pose) => {
    for (const leg of LEGS) {
      pose[leg + SWING] = 0.2 * sin(angle);
      pose[leg + BEND] = 0.4 * sin(angle);
    }
    for (const arm of ARMS) pose[arm + SWING] = 0.3 * cos(angle);
    // In the air while the legs are stretched.
    pose[LIFT] = 0.25 * Math.max(0, -sin(angle));
  },
  kick: (angle, pose, own) => {
    const burst = Math.exp(3 * (cos(angle) - 1));
    pose[LEGS[own] + SWING] = 0.9 * burst;
    pose[LEGS[own] + BEND] = -0.5 * burst;
  },
  turn: (angle, pose) => {
    pose[TURN] = 0.9 * sin(angle);
  },
  bow: (angle, pose) => {
    pose[LEAN] = 0.4 * sin(angle);
    pose[NOD] = 0.2 * sin(angle);
  },
} as const satisfies Record<string, Action>;

export type StickAction = keyof typeof ACTIONS;
export const STICK_ACTIONS = Object.keys(ACTIONS) as readonly StickAction[];

export interface StickFigureOptions {
  readonly count: number;
  readonly seed?: number;
  /** 32 by default, 16 a second. */
  readonly frames?: number;
  /** Classes; all by default. */
  readonly actions?: readonly StickAction[];
  /** First person and the one after the last; people differ in proportions. [0, 40] by default. */
  readonly subjects?: readonly [number, number];
  /** Range of directions from which the camera looks, radians; all around by default. */
  readonly camera?: readonly [number, number];
  /** Standard deviation of the joints' measurement, metres; .01 by default. */
  readonly noise?: number;
}

const FRAMES_PER_SECOND = 16;

/** What a figure's clip is made of besides its action; all drawn whatever the action. */
interface Figure {
  readonly action: number;
  readonly subject: number;
  readonly side: 0 | 1;
  /** Cycles a second. */
  readonly speed: number;
  readonly amplitude: number;
  /** Share of a cycle at the start. */
  readonly phase: number;
  readonly camera: number;
}

/**
 * `count` clips of figures, every action as often (counting in whole rounds). Labels are actions; attributes `subject`, `side`
 * and `view` (eighths of the circle); factors speed (cycles a second), amplitude, camera (radians) and height.
 */
export function stickFigures(options: StickFigureOptions): SkeletonDataset {
  const { count, actions = STICK_ACTIONS, subjects = [0, 40] } = options;
  if (!Number.isInteger(count) || count < 1)
    throw new JepaError(`stick figures: count must be a positive whole number, not ${count}`);
  const unknown = actions.find((action) => !(action in ACTIONS));
  if (unknown !== undefined || actions.length === 0)
    throw new JepaError(`stick figures: there is no action '${unknown}'; there are ${STICK_ACTIONS.join(', ')}`);
  if (!(subjects[1] > subjects[0]))
    throw new JepaError(`stick figures: nobody is in subjects [${subjects.join(', ')}]`);
  const figures = Array.from({ length: count }, (_, i) => figureOf(options, i));
  const whole = (of: (figure: Figure) => number): Int32Array => Int32Array.from(figures, of);
  const real = (of: (figure: Figure) => number): Float32Array => Float32Array.from(figures, of);
  const name = 'stick figures';
  return {
    name,
    modality: 'skeleton',
    length: count,
    layout: STICK_LAYOUT,
    labels: whole(({ action }) => action),
    classNames: actions,
    attributes: {
      subject: whole(({ subject }) => subject),
      side: whole(({ side }) => side),
      view: whole(({ camera }) => Math.floor((8 * camera) / (2 * Math.PI)) % 8),
    },
    factors: {
      speed: real(({ speed }) => speed),
      amplitude: real(({ amplitude }) => amplitude),
      camera: real(({ camera }) => camera),
      height: real(({ subject }) => proportionsOf(options.seed ?? 0, subject).height),
    },
    async read(index) {
      checkIndex({ name, length: count, modality: 'skeleton' }, index);
      return clipOf(options, index);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<SkeletonClip> => ({
  read: (index) => clipOf(options as StickFigureOptions, index),
});

const between = (random: Random, low: number, high: number): number => low + (high - low) * random.uniform();

function figureOf(
  { seed = 0, actions = STICK_ACTIONS, subjects = [0, 40], camera }: StickFigureOptions,
  index: number,
): Figure {
  const draws = createRandom(seed, 'stick figures', index, 'figure');
  const [from, to] = camera ?? [0, 2 * Math.PI];
  return {
    action: balanced(seed, 'action', index, actions.length),
    subject: subjects[0] + draws.integer(subjects[1] - subjects[0]),
    side: draws.integer(2) as 0 | 1,
    speed: between(draws, 0.6, 1.6),
    amplitude: between(draws, 0.7, 1.3),
    phase: draws.uniform(),
    camera: between(draws, from, to),
  };
}

interface Proportions {
  readonly height: number;
  readonly torso: number;
  readonly neck: number;
  readonly shoulders: number;
  readonly hips: number;
  readonly upperArm: number;
  readonly lowerArm: number;
  readonly upperLeg: number;
  readonly lowerLeg: number;
}

/** Lengths in metres of a person, who is the same in every data set of the seed. */
function proportionsOf(seed: number, subject: number): Proportions {
  const draws = createRandom(seed, 'stick figures', 'subject', subject);
  const height = between(draws, 1.5, 1.95);
  const part = (share: number): number => height * share * between(draws, 0.9, 1.1);
  return {
    height,
    torso: part(0.29),
    neck: part(0.16),
    shoulders: part(0.11),
    hips: part(0.055),
    upperArm: part(0.17),
    lowerArm: part(0.16),
    upperLeg: part(0.24),
    lowerLeg: part(0.25),
  };
}

function clipOf(options: StickFigureOptions, index: number): SkeletonClip {
  const { seed = 0, frames = 32, actions = STICK_ACTIONS, noise = 0.01 } = options;
  const figure = figureOf(options, index);
  const draws = createRandom(seed, 'stick figures', index, 'clip');
  const poses = actionPoses(ACTIONS[actions[figure.action]], figure, frames, draws);
  const stance = drawStance(draws);
  const idle = drawIdle(draws);
  const body = proportionsOf(seed, figure.subject);
  const tilt = between(draws, -0.15, 0.25);
  const [x, z] = [between(draws, -0.4, 0.4), between(draws, 2.5, 4)];
  const [driftX, driftZ] = [between(draws, -0.15, 0.15), between(draws, -0.15, 0.15)];
  const [c, s] = [cos(figure.camera), sin(figure.camera)];
  const data = new Float32Array(frames * JOINTS * 3);
  draws.fillNormal(data, 0, noise);
  const joints = new Float64Array(JOINTS * 3);
  for (let frame = 0; frame < frames; frame++) {
    const time = frame / FRAMES_PER_SECOND;
    const pose = poses.subarray(frame * NUMBERS, (frame + 1) * NUMBERS);
    for (let i = 0; i < NUMBERS; i++) pose[i] += stance[i];
    addIdle(pose, idle, time);
    placeJoints(pose, body, joints);
    for (let joint = 0; joint < JOINTS * 3; joint += 3) {
      const [px, py, pz] = [joints[joint], joints[joint + 1], joints[joint + 2]];
      const [rx, rz] = [c * px + s * pz + x + driftX * time, c * pz - s * px + z + driftZ * time];
      const at = frame * JOINTS * 3 + joint;
      data[at] += rx;
      data[at + 1] += py * cos(tilt) - rz * sin(tilt);
      data[at + 2] += py * sin(tilt) + rz * cos(tilt);
    }
  }
  return { frames, bodies: 1, joints: JOINTS, data };
}

/** Poses of every frame, whose angles have the mean zero over the clip: a mean tells nothing of the action. */
function actionPoses(action: Action, { side, speed, amplitude, phase }: Figure, frames: number, draws: Random): Pose {
  // How unevenly the cycle is run through.
  const [haste, when] = [between(draws, 0, 0.4), between(draws, 0, 2 * Math.PI)];
  const poses = new Float64Array(frames * NUMBERS);
  for (let frame = 0; frame < frames; frame++) {
    const angle = 2 * Math.PI * (phase + (speed * frame) / FRAMES_PER_SECOND);
    action(angle + haste * sin(angle + when), poses.subarray(frame * NUMBERS, (frame + 1) * NUMBERS), side);
  }
  for (let i = 0; i < NUMBERS; i++) {
    let mean = 0;
    for (let at = i; at < poses.length; at += NUMBERS) mean += poses[at] / frames;
    // Nobody sinks into the ground.
    if (i === LIFT) mean = 0;
    for (let at = i; at < poses.length; at += NUMBERS) poses[at] = (poses[at] - mean) * amplitude;
  }
  return poses;
}

/** The pose about which a figure moves. */
function drawStance(draws: Random): Pose {
  const pose = new Float64Array(NUMBERS);
  pose[LEAN] = between(draws, -0.2, 0.5);
  pose[SWAY] = between(draws, -0.15, 0.15);
  pose[NOD] = between(draws, -0.3, 0.3);
  for (const arm of ARMS) {
    pose[arm + SWING] = between(draws, -0.4, 1.8);
    pose[arm + SPREAD] = between(draws, 0, 1.3);
    pose[arm + BEND] = between(draws, 0.1, 1.7);
  }
  for (const leg of LEGS) {
    pose[leg + SWING] = between(draws, -0.2, 0.7);
    pose[leg + SPREAD] = between(draws, 0, 0.3);
    pose[leg + BEND] = between(draws, 0.1, 1.2);
  }
  return pose;
}

/** Motion that has nothing to do with the action: for every angle two waves of a size, a speed and a phase. */
function drawIdle(draws: Random): Float64Array {
  const waves = new Float64Array(LIFT * 6);
  for (let at = 0; at < waves.length; at += 3) {
    waves[at] = between(draws, 0, IDLE);
    waves[at + 1] = 2 * Math.PI * between(draws, 0.2, 1.8);
    waves[at + 2] = 2 * Math.PI * draws.uniform();
  }
  return waves;
}

/** Largest size of a wave of idle motion, radians. */
const IDLE = 0.18;

function addIdle(pose: Pose, waves: Float64Array, time: number): void {
  for (let at = 0; at < waves.length; at += 3) {
    pose[Math.floor(at / 6)] += waves[at] * sin(waves[at + 1] * time + waves[at + 2]);
  }
}

/** Places of the joints in metres [joints, 3]: x to the left of the body, y up from the ground, z forward. */
function placeJoints(pose: Pose, body: Proportions, out: Float64Array): void {
  const [lean, sway] = [pose[LEAN], pose[SWAY]];
  /** Joint `to` at a distance from joint `from`, in a direction that hangs on the pelvis. */
  const place = (to: number, from: number, length: number, x: number, y: number, z: number): void => {
    out[3 * to] = out[3 * from] + length * x;
    out[3 * to + 1] = out[3 * from + 1] + length * y;
    out[3 * to + 2] = out[3 * from + 2] + length * z;
  };
  /** The same in a direction that is bent forward and sideways with the trunk. */
  const placeOnTrunk = (to: number, from: number, length: number, x: number, y: number, z: number): void => {
    const up = y * cos(lean) - z * sin(lean);
    place(
      to,
      from,
      length,
      x * cos(sway) + up * sin(sway),
      up * cos(sway) - x * sin(sway),
      y * sin(lean) + z * cos(lean),
    );
  };
  out.fill(0, 0, 3);
  placeOnTrunk(1, 0, body.torso, 0, 1, 0);
  placeOnTrunk(2, 1, body.neck, 0, cos(pose[NOD]), sin(pose[NOD]));
  for (const side of [0, 1] as const) {
    const outward = side === 0 ? 1 : -1;
    const [arm, shoulder] = [ARMS[side], 3 + 3 * side];
    const [leg, hip] = [LEGS[side], 9 + 3 * side];
    const [wide, deep] = [outward * sin(pose[arm + SPREAD]), cos(pose[arm + SPREAD])];
    const reach = pose[arm + SWING] + pose[arm + BEND];
    placeOnTrunk(shoulder, 1, body.shoulders, outward, 0, 0);
    const swing = pose[arm + SWING];
    placeOnTrunk(shoulder + 1, shoulder, body.upperArm, wide, -deep * cos(swing), deep * sin(swing));
    placeOnTrunk(shoulder + 2, shoulder + 1, body.lowerArm, wide, -deep * cos(reach), deep * sin(reach));
    const [apart, down] = [outward * sin(pose[leg + SPREAD]), cos(pose[leg + SPREAD])];
    const stride = pose[leg + SWING];
    const shin = stride - pose[leg + BEND];
    place(hip, 0, body.hips, outward, 0, 0);
    place(hip + 1, hip, body.upperLeg, apart, -down * cos(stride), down * sin(stride));
    place(hip + 2, hip + 1, body.lowerLeg, apart, -down * cos(shin), down * sin(shin));
  }
  // The lower foot stands on the ground, unless the figure jumps.
  const rise = pose[LIFT] - Math.min(out[3 * 11 + 1], out[3 * 14 + 1]);
  const [c, s] = [cos(pose[TURN]), sin(pose[TURN])];
  for (let at = 0; at < out.length; at += 3) {
    const [x, z] = [out[at], out[at + 2]];
    out[at] = x * c + z * s;
    out[at + 1] += rise;
    out[at + 2] = z * c - x * s;
  }
}
