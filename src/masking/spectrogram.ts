import { JepaError } from '../base/errors.js';
import type { Size } from './blocks.js';
import { stackLists } from './blocks.js';
import { between, type IntegerDraws, type PermutationDraws, type Range, type UniformDraws } from './draws.js';
import { type FutureConfig, futureRoom, sampleFuture } from './future.js';
import { checkMultiBlock2d, type Masks2d, type MultiBlock2dConfig, sampleMultiBlock2d } from './multiblock2d.js';
import { sampleRandom2d } from './random2d.js';

/**
 * Masks over the patches of a spectrogram, rows = time and columns = frequency: patch `time * columns + frequency`. The axes of
 * sound are not alike, so that besides what images have there are whole bands and the future.
 */
export type SpectrogramMasks = SimpleSpectrogramMasks | Curriculum;

export type SimpleSpectrogramMasks =
  /** Any patches (Audio-JEPA: a share of [.4, .6], drawn once a batch). */
  | { readonly kind: 'random'; readonly ratio: Range }
  /** Blocks, as in images (A-JEPA's easy masks). */
  | ({ readonly kind: 'blocks' } & Omit<MultiBlock2dConfig, 'grid'>)
  | ({ readonly kind: 'stripes' } & StripesConfig)
  | ({ readonly kind: 'future' } & FutureConfig);

/**
 * Whole rows and columns of the grid are hidden (A-JEPA's time-frequency aware masks): neighbours in time and frequency tell
 * too much of each other. A-JEPA has no released code; here a block of a share `scale` of the grid spans one axis.
 */
export interface StripesConfig {
  readonly stripes: number;
  /** Share of the grid in one stripe; it is at least one patch wide. */
  readonly scale: Range;
}

/**
 * A-JEPA's curriculum: masks are `hard` with the probability f(s) of step s, else `easy`;
 * f(s) = min(1, sqrt(s / S (1 - c0^2) + c0^2)), the square-root competence of Platanios et al. 2019.
 */
export interface Curriculum {
  readonly kind: 'curriculum';
  readonly easy: SimpleSpectrogramMasks;
  readonly hard: SimpleSpectrogramMasks;
  /** Competence at the start, f(0). */
  readonly start: number;
}

export const A_JEPA_START = 0.01;

/** A-JEPA's masks as far as the paper tells them. */
export const A_JEPA_MASKS: Curriculum = {
  kind: 'curriculum',
  easy: {
    kind: 'blocks',
    targets: 4,
    contexts: 1,
    targetScale: [0.15, 0.2],
    targetAspect: [0.75, 1.5],
    contextScale: [0.85, 1],
    minKeep: 10,
    allowOverlap: false,
  },
  hard: { kind: 'stripes', stripes: 3, scale: [0.05, 0.075] },
  start: A_JEPA_START,
};

/** Probability of hard masks when a share `progress` of the training (0 to 1, or beyond) lies behind. */
export const competence = (progress: number, start = A_JEPA_START): number =>
  Math.min(1, Math.sqrt(progress * (1 - start ** 2) + start ** 2));

export interface SpectrogramDraws {
  /** Numbers that a whole batch shares: kind of mask, sizes. */
  readonly sizes: UniformDraws & IntegerDraws;
  /** Numbers of single samples. */
  readonly places: IntegerDraws & PermutationDraws;
}

/** Blocks of targets that `sampleSpectrogram` gives; differs between the masks of a curriculum. */
export function targetBlocks(masks: SimpleSpectrogramMasks): number {
  return masks.kind === 'blocks' ? masks.targets : masks.kind === 'future' ? masks.horizons : 1;
}

/**
 * Masks of one batch: context [batch, 1, Kc], targets [batch, blocks, Kt]. `progress` is the share of the training that lies
 * behind. Throws a `JepaError` where nothing would be visible or hidden.
 */
export function sampleSpectrogram(
  masks: SpectrogramMasks,
  grid: Size,
  batch: number,
  progress: number,
  draws: SpectrogramDraws,
): Masks2d {
  switch (masks.kind) {
    case 'curriculum': {
      const hard = draws.sizes.uniform() < competence(progress, masks.start);
      return sampleSpectrogram(hard ? masks.hard : masks.easy, grid, batch, progress, draws);
    }
    case 'random':
      return sampleRandom2d({ patches: grid[0] * grid[1], ratio: masks.ratio }, batch, draws);
    case 'blocks':
      return sampleMultiBlock2d({ ...masks, grid }, batch, draws);
    case 'stripes':
      return sampleStripes(masks, grid, batch, draws);
    case 'future':
      return sampleFuture(masks, grid, batch, draws.sizes);
  }
}

/**
 * Stripes of one batch. Their axes (time or frequency, evenly) and widths are those of all samples, their places are not;
 * stripes of one axis do not overlap, so that every sample has as many visible patches. Targets are all hidden patches.
 */
export function sampleStripes(
  { stripes, scale }: StripesConfig,
  grid: Size,
  batch: number,
  { sizes, places }: SpectrogramDraws,
): Masks2d {
  const widths: [number[], number[]] = [[], []];
  for (let i = 0; i < stripes; i++) {
    const axis = sizes.integer(2);
    widths[axis].push(Math.max(1, Math.round(between(scale, sizes.uniform()) * grid[axis])));
  }
  const hidden = widths.map((list) => list.reduce((a, b) => a + b, 0));
  if (stripes < 1 || hidden[0] >= grid[0] || hidden[1] >= grid[1]) {
    throw new JepaError(
      `masks: ${stripes} stripes that hide ${hidden[0]} of ${grid[0]} time steps and ${hidden[1]} of ${grid[1]} bands leave ` +
        'nothing to see or to predict; use more patches, or fewer or narrower stripes',
    );
  }
  const samples = Array.from({ length: batch }, () => {
    const [times, bands] = [0, 1].map((axis) => place(widths[axis], grid[axis], places));
    return split(grid, (time, band) => times[time] === 1 || bands[band] === 1);
  });
  return {
    context: stackLists(
      samples.map(({ visible }) => [visible]),
      samples[0].visible.length,
    ),
    target: stackLists(
      samples.map(({ hidden }) => [hidden]),
      samples[0].hidden.length,
    ),
  };
}

/** Marks stripes in random order with random gaps: all ways to spread the free cells over the gaps are equally likely. */
function place(widths: readonly number[], size: number, draws: IntegerDraws & PermutationDraws): Uint8Array {
  const marked = new Uint8Array(size);
  const free = size - widths.reduce((a, b) => a + b, 0);
  // Which of the free cells and stripes, in a row, are stripes: a subset of the row drawn without replacement.
  const chosen = draws.permutation(free + widths.length).slice(0, widths.length);
  const isStripe = new Map([...chosen].map((at, i) => [at, widths[i]]));
  for (let item = 0, cell = 0; item < free + widths.length; item++) {
    const width = isStripe.get(item) ?? 0;
    marked.fill(1, cell, cell + width);
    cell += width || 1;
  }
  return marked;
}

function split([times, bands]: Size, isHidden: (time: number, band: number) => boolean) {
  const visible: number[] = [];
  const hidden: number[] = [];
  for (let time = 0; time < times; time++) {
    for (let band = 0; band < bands; band++) (isHidden(time, band) ? hidden : visible).push(time * bands + band);
  }
  return { visible: Int32Array.from(visible), hidden: Int32Array.from(hidden) };
}

/** Checks everything that can be drawn, so that a bad configuration fails before training. */
export function checkSpectrogramMasks(masks: SpectrogramMasks, grid: Size): void {
  switch (masks.kind) {
    case 'curriculum':
      checkSpectrogramMasks(masks.easy, grid);
      checkSpectrogramMasks(masks.hard, grid);
      return;
    case 'blocks':
      checkMultiBlock2d({ ...masks, grid });
      return;
    case 'future':
      futureRoom(masks, grid);
      return;
    case 'stripes': {
      // The widest stripes, all on one axis.
      for (const axis of [0, 1]) {
        const width = Math.max(1, Math.round(masks.scale[1] * grid[axis]));
        if (masks.stripes < 1 || masks.stripes * width >= grid[axis]) {
          throw new JepaError(
            `masks: ${masks.stripes} stripes of ${width} can hide all ${grid[axis]} ${axis === 0 ? 'time steps' : 'bands'}; use fewer or narrower ones, or smaller patches`,
          );
        }
      }
      return;
    }
    case 'random': {
      const patches = grid[0] * grid[1];
      for (const ratio of masks.ratio) {
        const keep = Math.trunc(patches * (1 - ratio));
        if (keep < 1 || keep >= patches)
          throw new JepaError(`masks: hiding ${ratio} of ${patches} patches keeps ${keep}; choose another ratio`);
      }
    }
  }
}
