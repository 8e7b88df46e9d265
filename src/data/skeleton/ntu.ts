import { JepaError } from '../../base/errors.js';

/** Joints that the Kinect 2 tracks. */
export const NTU_JOINTS = 25;
/** Numbers in a joint's line: x y z, depth x y, colour x y, orientation w x y z, tracking state. */
const JOINT_VALUES = 12;
/** Numbers in a body's line, its id among them. */
const BODY_VALUES = 10;
/** The sensor tracks six people at a time. */
const MAX_BODIES = 6;
/** Ids in a recording: people, and things that the sensor takes for people for a while. */
const MAX_IDS = 32;

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** What the name of an NTU RGB+D file says; all count from 1. */
export interface NtuLabels {
  readonly setup: number;
  readonly camera: number;
  readonly performer: number;
  readonly replication: number;
  readonly action: number;
}

/** A recording of NTU RGB+D. Every person keeps its place in all frames; frames without it have zeros there. */
export interface NtuRecording {
  readonly frames: number;
  readonly bodiesPerFrame: readonly number[];
  /** Ids as text (they exceed 2^53), in the order in which they appear; their number is `bodies` below. */
  readonly bodyIds: readonly string[];
  /** [frames, bodies, 25, 3] in metres, as seen from the camera. */
  readonly xyz: Float64Array;
  /** [frames, bodies, 25, 2]: pixel of the depth image. */
  readonly depthXY: Float64Array;
  /** [frames, bodies, 25, 2]: pixel of the colour image. */
  readonly colorXY: Float64Array;
  /** [frames, bodies, 25, 4]: quaternion w x y z. */
  readonly orientation: Float64Array;
  /** [frames, bodies, 25]: 0 not tracked, 1 inferred, 2 tracked. */
  readonly tracking: Uint8Array;
}

/** The labels in a file name `S001C002P003R002A013.skeleton`, with or without folders before it. */
export function ntuLabels(path: string): NtuLabels {
  const found = /(?:^|[/\\])S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})[^/\\]*$/.exec(path);
  if (!found) throw new JepaError(`${path}: the name is not one of NTU RGB+D, such as S001C002P003R002A013.skeleton`);
  const [setup, camera, performer, replication, action] = found.slice(1).map(Number);
  return { setup, camera, performer, replication, action };
}

/**
 * Reads a `.skeleton` file of NTU RGB+D (layout of read_skeleton_file.m in shahroudy/NTURGB-D): the number of frames; per
 * frame the number of bodies; per body a line about it, the number of joints (25) and a line for each. Throws a
 * `JepaError` naming file and line.
 */
export function parseNtu(bytes: Uint8Array, where: string): NtuRecording {
  const text = new TextDecoder().decode(bytes);
  let at = 0;
  let line = 0;
  let frame = -1;
  const fail = (why: string) => {
    const place = frame < 0 ? `line ${line}` : `line ${line} (frame ${frame})`;
    return new JepaError(`${where}: not a readable NTU skeleton, ${place}: ${why}`);
  };
  const nextLine = (what: string): string => {
    line++;
    if (at >= text.length) throw fail(`the file ends where ${what} should be`);
    const end = text.indexOf('\n', at);
    const found = text.slice(at, end < 0 ? text.length : end);
    at = end < 0 ? text.length : end + 1;
    return found.trim();
  };
  const count = (what: string, most: number): number => {
    const found = nextLine(what);
    if (!/^-?\d{1,15}$/.test(found)) throw fail(`${what} should be a whole number, not "${found.slice(0, 40)}"`);
    const value = Number(found);
    if (value < 0) throw fail(`${what} is negative: ${value}`);
    if (value > most) throw fail(`${what} is ${value}, at most ${most} are possible here`);
    return value;
  };
  const row = (what: string, length: number): string[] => {
    const fields = nextLine(what).split(/\s+/);
    if (fields.length !== length) throw fail(`${what} has ${fields.length} numbers instead of ${length}`);
    const wrong = fields.find((field) => !NUMBER.test(field));
    if (wrong !== undefined) throw fail(`"${wrong.slice(0, 40)}" is not a number`);
    return fields;
  };

  if (bytes.length === 0) throw new JepaError(`${where}: the file is empty (0 bytes), not an NTU skeleton`);
  // Every frame takes two bytes or more, so that more frames than that are not in the file.
  const frames = count('the number of frames', Math.ceil(bytes.length / 2));
  const bodiesPerFrame: number[] = [];
  const places = new Map<string, number>();
  const found: { frame: number; body: number; joints: Float64Array }[] = [];
  for (frame = 0; frame < frames; frame++) {
    const bodies = count('the number of bodies', MAX_BODIES);
    bodiesPerFrame.push(bodies);
    const here = new Set<number>();
    for (let i = 0; i < bodies; i++) {
      const [id] = row('the line of a body', BODY_VALUES);
      const body = places.get(id) ?? places.size;
      places.set(id, body);
      if (body >= MAX_IDS) throw fail(`more than ${MAX_IDS} different bodies`);
      if (here.has(body)) throw fail(`body ${id} occurs twice`);
      here.add(body);
      const joints = count('the number of joints', NTU_JOINTS);
      if (joints !== NTU_JOINTS) throw fail(`${joints} joints instead of ${NTU_JOINTS}`);
      const values = new Float64Array(NTU_JOINTS * JOINT_VALUES);
      for (let joint = 0; joint < NTU_JOINTS; joint++) {
        const numbers = row('the line of a joint', JOINT_VALUES).map(Number);
        if (![0, 1, 2].includes(numbers[11])) throw fail(`the tracking state ${numbers[11]} is not 0, 1 or 2`);
        values.set(numbers, joint * JOINT_VALUES);
      }
      found.push({ frame, body, joints: values });
    }
  }
  if (text.slice(at).trim() !== '') throw fail('there is something after the last frame');
  return { frames, bodiesPerFrame, bodyIds: [...places.keys()], ...arrange(found, frames, places.size) };
}

/** Puts the joints of all bodies into one array a quantity. */
function arrange(
  found: readonly { frame: number; body: number; joints: Float64Array }[],
  frames: number,
  bodies: number,
): Pick<NtuRecording, 'xyz' | 'depthXY' | 'colorXY' | 'orientation' | 'tracking'> {
  const rows = frames * bodies * NTU_JOINTS;
  const xyz = new Float64Array(rows * 3);
  const depthXY = new Float64Array(rows * 2);
  const colorXY = new Float64Array(rows * 2);
  const orientation = new Float64Array(rows * 4);
  const tracking = new Uint8Array(rows);
  for (const { frame, body, joints } of found) {
    for (let joint = 0; joint < NTU_JOINTS; joint++) {
      const to = (frame * bodies + body) * NTU_JOINTS + joint;
      const values = joints.subarray(joint * JOINT_VALUES, (joint + 1) * JOINT_VALUES);
      xyz.set(values.subarray(0, 3), to * 3);
      depthXY.set(values.subarray(3, 5), to * 2);
      colorXY.set(values.subarray(5, 7), to * 2);
      orientation.set(values.subarray(7, 11), to * 4);
      tracking[to] = values[11];
    }
  }
  return { xyz, depthXY, colorXY, orientation, tracking };
}
