import { JepaError } from '../base/errors.js';
import { checkVideo, requestedFrames, type VideoDataset } from '../data/video/dataset.js';
import { openCollection, paintStates, runEpisode } from './collect.js';
import type { FactorSettings } from './envs/world.js';

/** Episodes of a world as videos: what a video encoder can learn the looks and the motions of a world from. */
export interface WorldVideoOptions {
  readonly world: string;
  /** As `jepa collect` names it; the usual one of the world by default. */
  readonly behaviour?: string;
  readonly count: number;
  /** Frames a video; one less actions. */
  readonly frames?: number;
  readonly seed?: number;
  readonly factors?: FactorSettings;
}

const FRAMES = 32;

/** Videos that are run and painted when they are read. Throws a `JepaError` for a world of more than three channels. */
export function worldVideos(options: WorldVideoOptions): VideoDataset {
  const { count, frames = FRAMES, seed = 0, factors } = options;
  const { world, behaviour } = openCollection(options.world, options.behaviour);
  const [channels, height, width] = world.picture;
  if (channels > 3)
    throw new JepaError(`${world.name}: its pictures have ${channels} channels; videos have 3 at the most`);
  const name = `${options.world} videos`;
  const facts = { count: frames, fps: 0, height, width };
  const plane = height * width;
  return {
    name,
    length: count,
    channels,
    size: { width, height },
    async read(index, request) {
      checkVideo({ name, length: count }, index);
      const indices = requestedFrames(request, facts, `${name}[${index}]`);
      const episode = runEpisode(world, behaviour, { steps: frames - 1, seed, factors }, index);
      const numbers = world.state.length;
      const states = new Float64Array(indices.length * numbers);
      indices.forEach((frame, i) => {
        states.set(episode.states.subarray(frame * numbers, (frame + 1) * numbers), i * numbers);
      });
      const painted = paintStates(world, states, episode.factors); // [frames, channels, height, width]
      const data = new Uint8Array(painted.length);
      for (let i = 0; i < indices.length; i++) {
        for (let c = 0; c < channels; c++) {
          const from = (i * channels + c) * plane;
          for (let p = 0; p < plane; p++) data[(i * plane + p) * channels + c] = painted[from + p];
        }
      }
      return { frames: indices.length, height, width, channels, data, facts, indices };
    },
    source: { module: import.meta.url, options },
  };
}

/** Opens what `worldVideos` gives as its source. */
export const openVideoSource = (options: unknown): VideoDataset => worldVideos(options as WorldVideoOptions);
