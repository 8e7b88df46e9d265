import { JepaError } from '../../base/errors.js';
import { ALLOCATION, ffmpegPrograms, inputFrom, outputOf, textOf } from '../ffmpeg-process-node.js';
import type { RawClip } from './clip.js';
import type { VideoFacts } from './dataset.js';
import { frameSize, type VideoDecode, type VideoDecoder, wantedFrames } from './decoder.js';

/** Videos through ffmpeg and ffprobe. Hostile files meet limits on time, memory, pixels and bytes. */

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
];
const INPUT = inputFrom(CONTAINERS);

/** A video whose frames come at regular times is entered in the middle where that leaves out at least so many seconds. */
const SEEK_FROM = 3;
/** Up to so many frames are named one by one; beyond, all between the first and the last come through the pipe. */
const NAMED_FRAMES = 64;

/** The decoder, or undefined where ffmpeg and ffprobe are not both on PATH. */
export function findFfmpeg(): VideoDecoder | undefined {
  const programs = ffmpegPrograms();
  if (!programs) return undefined;
  const { ffmpeg, ffprobe } = programs;
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
    const text = await textOf(
      outputOf(program, args, { what: 'video', where: path, seconds: decode.timeout }),
      1 << 16,
    );
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
  const limits = { what: 'video', where: path, seconds: decode.timeout };
  const output = outputOf(program, rawFrames(path, probe, { select, frames, seek }, decode), limits);
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
  const limits = { what: 'video', where: path, seconds: decode.timeout };
  const select = `not(mod(n,${step}))`;
  const output = outputOf(program, rawFrames(path, probe, { select }, decode), limits);
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
