import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Readable } from 'node:stream';
import { JepaError } from '../../base/errors.js';
import type { RawClip } from './clip.js';
import type { VideoFacts } from './dataset.js';
import { frameSize, type VideoDecode, type VideoDecoder, wantedFrames } from './decoder.js';

/**
 * Videos through the programs ffmpeg and ffprobe, as child processes. Hostile files meet limits on time, memory, pixels and
 * bytes, and may open no other file: only containers that hold their data are read, no playlists.
 */

const CONTAINERS = [
  ...[
    'mov',
    'mp4',
    'm4a',
    '3gp',
    '3g2',
    'mj2',
    'matroska',
    'webm',
    'avi',
    'mpegts',
    'mpeg',
    'flv',
    'ogg',
    'asf',
    'gif',
  ],
  ...['apng', 'h264', 'hevc', 'ivf', 'm4v', 'mpegvideo', 'yuv4mpegpipe', 'nut', 'mxf', 'wtv', 'rm'],
].join();
const INPUT = ['-protocol_whitelist', 'file', '-format_whitelist', CONTAINERS];

/** Address space of a decoder in KiB, where the system can limit it. */
const MEMORY_KIB = 4 << 20;
/** Most bytes that a decoder allocates in one piece. */
const ALLOCATION = 1 << 30;
/** Most characters of a decoder's complaints that are kept. */
const COMPLAINTS = 4096;
/** A video whose frames come at regular times is entered in the middle where that leaves out at least so many seconds. */
const SEEK_FROM = 3;
/** Up to so many frames are named one by one; beyond, all between the first and the last come through the pipe. */
const NAMED_FRAMES = 64;

/** Full path of a program on PATH. */
function onPath(program: string): string | undefined {
  const endings = process.platform === 'win32' ? ['.exe', '.cmd'] : [''];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const ending of endings) {
      const path = join(folder, program + ending);
      try {
        accessSync(path, constants.X_OK);
        if (folder !== '') return path;
      } catch {
        // Not here.
      }
    }
  }
  return undefined;
}

/** The decoder, or undefined where ffmpeg and ffprobe are not both on PATH. */
export function findFfmpeg(): VideoDecoder | undefined {
  const [ffmpeg, ffprobe] = [onPath('ffmpeg'), onPath('ffprobe')];
  if (!ffmpeg || !ffprobe) return undefined;
  return {
    name: 'ffmpeg',
    async open(path, decode) {
      const probe = await probeVideo(ffprobe, path, decode);
      return {
        facts: probe,
        frames: (indices) => decodeFrames(ffmpeg, path, probe, indices, decode),
        every: (step, chunk) => decodeEvery(ffmpeg, path, probe, step, chunk, decode),
      };
    },
  };
}

// --- the process ----------------------------------------------------------------------------------------------------

type Child = ChildProcessByStdio<null, Readable, Readable>;

function start(program: string, args: readonly string[]): Child {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
  if (process.platform === 'win32') return spawn(program, args, { stdio, windowsHide: true });
  // A shell without a limit on memory (macOS) says so and goes on.
  return spawn('/bin/sh', ['-c', `ulimit -v ${MEMORY_KIB} 2>/dev/null; exec "$0" "$@"`, program, ...args], { stdio });
}

/**
 * The output of a program, piece by piece; it runs on only while somebody reads. Ends the program when the reader stops.
 * Throws a `JepaError` where it fails, or says nothing for `seconds`.
 */
async function* outputOf(
  program: string,
  args: readonly string[],
  seconds: number,
  where: string,
): AsyncGenerator<Buffer, void> {
  const child = start(program, args);
  const failed = new Promise<never>((_, reject) => {
    child.on('error', (error) => reject(new JepaError(`${where}: the decoder cannot be started (${error.message})`)));
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(0, COMPLAINTS);
  });
  const pieces = child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const limited = async <T>(promise: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new JepaError(`${where}: the decoder gave nothing for ${seconds} s`)),
        1000 * seconds,
      );
    });
    try {
      return await Promise.race([promise, late, failed]);
    } finally {
      clearTimeout(timer);
    }
  };
  failed.catch(() => undefined);
  try {
    for (;;) {
      const { done, value } = await limited(pieces.next());
      if (done) break;
      yield value;
    }
    const code = await limited(ended);
    if (code !== 0) throw new JepaError(`${where}: the video cannot be decoded (${firstLine(complaints)})`);
  } finally {
    child.kill('SIGKILL');
    child.stdout.destroy();
  }
}

function firstLine(complaints: string): string {
  const line = complaints.split('\n').find((text) => text.trim() !== '') ?? 'damaged data';
  // Without the address that ffmpeg writes in front.
  return line.replace(/^(\[[^\]]*\]\s*)+/, '').slice(0, 200);
}

/** Output of at most `bytes` as text. */
async function textOf(output: AsyncIterable<Buffer>, bytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of output) {
    pieces.push(piece);
    length += piece.length;
    if (length > bytes) break;
  }
  return Buffer.concat(pieces).toString('utf8');
}

// --- facts ----------------------------------------------------------------------------------------------------------

interface Probe extends VideoFacts {
  /** Whether frames come at regular times, so that a frame's number says when it comes. */
  readonly regular: boolean;
}

interface ProbeOutput {
  streams?: {
    width?: number;
    height?: number;
    avg_frame_rate?: string;
    r_frame_rate?: string;
    nb_frames?: string;
    nb_read_packets?: string;
    tags?: { rotate?: string };
    side_data_list?: { rotation?: number | string }[];
  }[];
}

const FACTS =
  'stream=width,height,avg_frame_rate,r_frame_rate,nb_frames,nb_read_packets:stream_tags=rotate:stream_side_data=rotation';

async function probeVideo(program: string, path: string, decode: VideoDecode): Promise<Probe> {
  const ask = async (counting: boolean) => {
    const args = ['-v', 'error', '-max_alloc', String(ALLOCATION), ...INPUT, '-select_streams', 'v:0'];
    args.push(...(counting ? ['-count_packets'] : []), '-show_entries', FACTS, '-of', 'json', `file:${path}`);
    const text = await textOf(outputOf(program, args, decode.timeout, path), 1 << 16);
    try {
      return (JSON.parse(text) as ProbeOutput).streams?.[0];
    } catch {
      throw new JepaError(`${path}: ffprobe does not say what the video is`);
    }
  };
  let stream = await ask(false);
  // Some containers do not say how many frames they hold.
  if (stream && !(Number(stream.nb_frames) > 0)) stream = await ask(true);
  if (!stream?.width || !stream.height) throw new JepaError(`${path}: there is no video in this file`);
  const { width, height } = stream;
  if (width * height > decode.maxPixels) {
    throw new JepaError(
      `${path}: frames of ${width} x ${height} pixels are more than the limit of ${decode.maxPixels}`,
    );
  }
  const count = Number(stream.nb_frames ?? stream.nb_read_packets);
  if (!Number.isInteger(count) || count < 1) throw new JepaError(`${path}: the video has no frames`);
  const rotation = Number(
    stream.side_data_list?.find((data) => 'rotation' in data)?.rotation ?? stream.tags?.rotate ?? 0,
  );
  const upright = Math.abs(rotation) % 180 === 90 ? { width: height, height: width } : { width, height };
  const fps = ratio(stream.avg_frame_rate) || ratio(stream.r_frame_rate);
  return {
    count,
    fps,
    ...frameSize(upright, decode),
    regular: fps > 0 && stream.avg_frame_rate === stream.r_frame_rate,
  };
}

/** 30000/1001 as a number; 0 where there is none. */
function ratio(text = ''): number {
  const [numerator, denominator = 1] = text.split('/').map(Number);
  const value = numerator / denominator;
  return value > 0 && value < 1e6 ? value : 0;
}

// --- frames ---------------------------------------------------------------------------------------------------------

/** Arguments that make `frames` frames, chosen by an expression over the frame number n, as raw bytes. */
function rawFrames(
  path: string,
  { width, height }: VideoFacts,
  { select, frames, seek }: { readonly select: string; readonly frames?: number; readonly seek?: number },
  decode: VideoDecode,
): string[] {
  const filters = [
    `select=${select.replaceAll(',', '\\,')}`,
    // Also where the size is right: a video may change its size on the way.
    `scale=${width}:${height}:flags=bicubic`,
    // New times one after the other, so that no frame is left out or doubled for the time it comes at.
    'setpts=N/(25*TB)',
  ];
  return [
    ...['-nostdin', '-hide_banner', '-loglevel', 'error', '-max_alloc', String(ALLOCATION), '-filter_threads', '1'],
    ...(seek === undefined ? [] : ['-ss', seek.toFixed(6)]),
    ...['-threads', '1', ...INPUT, '-i', `file:${path}`, '-map', '0:v:0', '-vf', filters.join(), '-r', '25'],
    ...(frames === undefined ? [] : ['-frames:v', String(frames)]),
    ...['-pix_fmt', decode.channels === 3 ? 'rgb24' : 'gray', '-f', 'rawvideo', 'pipe:1'],
  ];
}

/** Cuts a stream of bytes into frames and hands out each; the array is used again for the next. */
async function* framesOf(output: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Uint8Array, void> {
  const frame = new Uint8Array(bytes);
  let filled = 0;
  for await (const piece of output) {
    for (let from = 0; from < piece.length; ) {
      const taken = Math.min(bytes - filled, piece.length - from);
      frame.set(piece.subarray(from, from + taken), filled);
      from += taken;
      filled += taken;
      if (filled === bytes) {
        yield frame;
        filled = 0;
      }
    }
  }
}

async function decodeFrames(
  program: string,
  path: string,
  probe: Probe,
  indices: Int32Array,
  decode: VideoDecode,
): Promise<RawClip> {
  const wanted = wantedFrames(path, probe, indices, decode);
  const { numbers } = wanted;
  const [first, last] = [numbers[0], numbers[numbers.length - 1]];
  // Half a frame early: times are rounded.
  const seek = probe.regular && first / probe.fps >= SEEK_FROM ? (first - 0.5) / probe.fps : undefined;
  const start = seek === undefined ? 0 : first;
  const named = numbers.length <= NAMED_FRAMES;
  const select = named
    ? Array.from(numbers, (n) => `eq(n,${n - start})`).join('+')
    : `between(n,${first - start},${last - start})`;
  const frames = named ? numbers.length : last - first + 1;
  const output = outputOf(program, rawFrames(path, probe, { select, frames, seek }, decode), decode.timeout, path);
  let next = 0;
  for await (const frame of framesOf(output, wanted.bytes))
    wanted.take(named ? numbers[next++] : first + next++, frame);
  return wanted.finish();
}

async function* decodeEvery(
  program: string,
  path: string,
  probe: Probe,
  step: number,
  chunk: number,
  decode: VideoDecode,
): AsyncGenerator<{ readonly clip: RawClip; readonly indices: Int32Array }, void> {
  const { width, height } = probe;
  const { channels } = decode;
  const bytes = width * height * channels;
  const output = outputOf(
    program,
    rawFrames(path, probe, { select: `not(mod(n,${step}))` }, decode),
    decode.timeout,
    path,
  );
  let data = new Uint8Array(chunk * bytes);
  let held = 0;
  let given = 0;
  const piece = () => {
    const indices = Int32Array.from({ length: held }, (_, i) => (given + i) * step);
    given += held;
    const clip = { frames: held, height, width, channels, data: data.subarray(0, held * bytes) };
    held = 0;
    data = new Uint8Array(chunk * bytes);
    return { clip, indices };
  };
  for await (const frame of framesOf(output, bytes)) {
    data.set(frame, held++ * bytes);
    if (held === chunk) yield piece();
  }
  if (held > 0) yield piece();
  if (given === 0) throw new JepaError(`${path}: the video has no frames that can be decoded`);
}
