import { JepaError } from '../base/errors.js';

/**
 * Schedules: a value (learning rate, weight decay, EMA momentum, temperature) for every step of training, in double.
 * Each function returns the schedule of one published recipe, with that recipe's own idea of which number the first
 * update uses: "step s = 1, 2, ..." (the counter is raised before the value is computed) or "update k = 0, 1, ...".
 */
export type Schedule = (step: number) => number;

/** Half a cosine from `from` (x = 0) to `to` (x = 1); beyond 1 it comes back. */
function cosine(from: number, to: number, x: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * x))) / 2;
}

function linear(from: number, to: number, x: number): number {
  return from + x * (to - from);
}

/**
 * Steps of warm-up and of the whole schedule, both truncated, as I-JEPA and V-JEPA count them. `ipeScale` > 1 stretches
 * the schedule beyond the end of training.
 */
export function scheduleSteps(run: {
  iterationsPerEpoch: number;
  epochs: number;
  warmupEpochs: number;
  ipeScale: number;
}): {
  warmupSteps: number;
  totalSteps: number;
} {
  return {
    warmupSteps: Math.trunc(run.warmupEpochs * run.iterationsPerEpoch),
    totalSteps: Math.trunc(run.ipeScale * run.epochs * run.iterationsPerEpoch),
  };
}

// --- I-JEPA, V-JEPA, V-JEPA 2: steps s = 1, 2, ... --------------------------------------------------------------------

/** Learning rate: linear warm-up from `startLr` to `refLr`, cosine to `finalLr`. Beyond the end the cosine rises again. */
export function warmupCosine(at: {
  startLr: number;
  refLr: number;
  finalLr: number;
  warmupSteps: number;
  totalSteps: number;
}): Schedule {
  return (step) => {
    if (step < at.warmupSteps) return linear(at.startLr, at.refLr, step / Math.max(1, at.warmupSteps));
    const progress = (step - at.warmupSteps) / Math.max(1, at.totalSteps - at.warmupSteps);
    return Math.max(at.finalLr, cosine(at.refLr, at.finalLr, progress));
  };
}

/** Weight decay: cosine without warm-up from `refWd` to `finalWd`, up or down, never past `finalWd`. */
export function cosineWeightDecay(at: { refWd: number; finalWd: number; totalSteps: number }): Schedule {
  const clamp = at.finalWd <= at.refWd ? Math.max : Math.min;
  return (step) => clamp(at.finalWd, cosine(at.refWd, at.finalWd, step / at.totalSteps));
}

/**
 * EMA momentum of update i = 0, 1, ...: a line from `start` to `end` over `updates` = iterations per epoch x epochs x
 * ipeScale, not truncated. The reference's list ends at i = trunc(updates); here the value stays where it was.
 */
export function linearMomentum(at: { start: number; end: number; updates: number }): Schedule {
  const last = Math.trunc(at.updates);
  return (update) => at.start + (Math.min(update, last) * (at.end - at.start)) / at.updates;
}

/** Learning rate of V-JEPA 2-AC: linear warm-up, constant, linear to `finalLr` over the last `annealSteps`; not clamped. */
export function warmupStableDecay(at: {
  startLr: number;
  refLr: number;
  finalLr: number;
  warmupSteps: number;
  annealSteps: number;
  totalSteps: number;
}): Schedule {
  const decayFrom = at.totalSteps - at.annealSteps;
  return (step) => {
    if (step < at.warmupSteps) return linear(at.startLr, at.refLr, step / Math.max(1, at.warmupSteps));
    if (step < decayFrom) return at.refLr;
    return linear(at.refLr, at.finalLr, (step - decayFrom) / Math.max(1, at.annealSteps));
  };
}

/** Learning rate of V-JEPA 2's cool-down: a line from `refLr` to `finalLr`, which goes on below it. */
export function linearDecay(at: { refLr: number; finalLr: number; totalSteps: number }): Schedule {
  return (step) => linear(at.refLr, at.finalLr, step / at.totalSteps);
}

/**
 * Warm-up to `refLr`, then constant (V-JEPA 2's main phase, which is its cosine with both ends equal); a cool-down goes on
 * from its weights with `linearDecay`.
 */
export const warmupConstant = (at: { startLr: number; refLr: number; warmupSteps: number }): Schedule =>
  warmupStableDecay({ ...at, finalLr: at.refLr, annealSteps: 0, totalSteps: Number.POSITIVE_INFINITY });

/** A weight that is 0 up to step `from`, rises on a line and stays at `value` from step `to` on (V-JEPA 2.1's context loss). */
export const ramp =
  (at: { value: number; from: number; to: number }): Schedule =>
  (step) =>
    at.value * Math.min(1, Math.max(0, (step - at.from) / (at.to - at.from)));

// --- other recipes: updates k = 0, 1, ... ----------------------------------------------------------------------------

/** EB-JEPA video: linear warm-up from `startFactor` x lr, then cosine to `minLr`. The first update is practically zero. */
export function linearWarmupCosineMin(at: {
  lr: number;
  minLr: number;
  startFactor: number;
  warmupSteps: number;
  totalSteps: number;
}): Schedule {
  return (update) =>
    update < at.warmupSteps
      ? linear(at.startFactor * at.lr, at.lr, update / at.warmupSteps)
      : cosine(at.lr, at.minLr, (update - at.warmupSteps) / (at.totalSteps - at.warmupSteps));
}

/** EB-JEPA image, by epoch: warm-up that reaches `baseLr` at its last epoch, then a cosine with the recipe's own `pi`. */
export function epochWarmupCosine(at: {
  baseLr: number;
  minLr: number;
  startLr: number;
  warmupEpochs: number;
  epochs: number;
  pi: number;
}): Schedule {
  return (epoch) => {
    if (epoch < at.warmupEpochs) return linear(at.startLr, at.baseLr, epoch / (at.warmupEpochs - 1));
    const progress = (epoch - at.warmupEpochs) / (at.epochs - at.warmupEpochs);
    return at.minLr + ((at.baseLr - at.minLr) * (1 + Math.cos(at.pi * progress))) / 2;
  };
}

/** What EB-JEPA image training really uses: its scheduler acts after the epoch, so epoch 0 runs at `initialLr`. */
export function epochWarmupCosineLagged(at: Parameters<typeof epochWarmupCosine>[0] & { initialLr: number }): Schedule {
  const formula = epochWarmupCosine(at);
  return (epoch) => (epoch === 0 ? at.initialLr : formula(epoch - 1));
}

/** MAE, MoCo v3: warm-up from 0 and half a cosine over fractional epochs. */
export function halfCycleCosine(at: {
  lr: number;
  minLr: number;
  warmupEpochs: number;
  epochs: number;
  iterationsPerEpoch: number;
}): Schedule {
  return (update) => {
    const epoch = update / at.iterationsPerEpoch;
    if (epoch < at.warmupEpochs) return (at.lr * epoch) / at.warmupEpochs;
    return cosine(at.lr, at.minLr, (epoch - at.warmupEpochs) / (at.epochs - at.warmupEpochs));
  };
}

/** EMA momentum of MoCo v3 and BYOL: cosine from `start` to `end` over fractional epochs. */
export function cosineMomentum(at: {
  start: number;
  end: number;
  epochs: number;
  iterationsPerEpoch: number;
}): Schedule {
  return (update) => cosine(at.start, at.end, update / at.iterationsPerEpoch / at.epochs);
}

/** VICReg, Barlow Twins: warm-up from 0, cosine to `endFraction` x base. */
export function warmupCosineFraction(at: {
  baseLr: number;
  endFraction: number;
  warmupSteps: number;
  totalSteps: number;
}): Schedule {
  return (update) =>
    update < at.warmupSteps
      ? (at.baseLr * update) / at.warmupSteps
      : cosine(at.baseLr, at.endFraction * at.baseLr, (update - at.warmupSteps) / (at.totalSteps - at.warmupSteps));
}

/** DINO, SwAV: `warmupSteps` equally spaced values with `base` included, then a cosine that starts at `base` again. */
export function linspaceWarmupCosine(at: {
  start: number;
  base: number;
  final: number;
  warmupSteps: number;
  totalSteps: number;
}): Schedule {
  return (update) =>
    update < at.warmupSteps
      ? linear(at.start, at.base, update / Math.max(1, at.warmupSteps - 1))
      : cosine(at.base, at.final, (update - at.warmupSteps) / (at.totalSteps - at.warmupSteps));
}

/** DINO's teacher temperature, by epoch: equally spaced values from `start` to `end`, then constant. */
export function linspaceConstant(at: { start: number; end: number; warmupEpochs: number }): Schedule {
  return (epoch) =>
    epoch < at.warmupEpochs ? linear(at.start, at.end, epoch / Math.max(1, at.warmupEpochs - 1)) : at.end;
}

/** lightly: cosine that reaches `end` at the last update and stays there. */
export function cosineInclusive(at: { start: number; end: number; totalSteps: number }): Schedule {
  return (update) => (update >= at.totalSteps - 1 ? at.end : cosine(at.start, at.end, update / (at.totalSteps - 1)));
}

/** lightly: warm-up counted from (k + 1) / W, so that update 0 is not zero, then `cosineInclusive`. */
export function warmupCosineInclusive(at: {
  warmupStart: number;
  start: number;
  end: number;
  warmupSteps: number;
  totalSteps: number;
}): Schedule {
  const decay = cosineInclusive({ start: at.start, end: at.end, totalSteps: at.totalSteps - at.warmupSteps });
  return (update) =>
    update < at.warmupSteps
      ? linear(at.warmupStart, at.start, (update + 1) / at.warmupSteps)
      : decay(update - at.warmupSteps);
}

/** data2vec: momentum on a line from `start` to `end` over `rampSteps`, then constant. */
export function linearMomentumRamp(at: { start: number; end: number; rampSteps: number }): Schedule {
  return (update) => linear(at.start, at.end, Math.min(1, update / at.rampSteps));
}

// --- PyTorch's own schedulers: updates k = 0, 1, ... ------------------------------------------------------------------

/** A factor `gamma` after every `stepSize` updates. */
export function stepDecay(at: { lr: number; stepSize: number; gamma: number }): Schedule {
  return (update) => at.lr * at.gamma ** Math.floor(update / at.stepSize);
}

/** A factor `gamma` at each milestone. */
export function multiStepDecay(at: { lr: number; milestones: readonly number[]; gamma: number }): Schedule {
  return (update) => at.lr * at.gamma ** at.milestones.filter((milestone) => milestone <= update).length;
}

export interface OneCycle {
  totalSteps: number;
  /** Share of the updates spent rising. */
  pctStart: number;
  anneal: 'cos' | 'linear';
  /** Down to the initial value as fast as up, then to the final one; otherwise straight down to the final value. */
  threePhase: boolean;
}

/** Values at the corners of the cycle, joined by half cosines or lines. An update after the last is an error. */
function cycle(at: OneCycle, initial: number, peak: number, final: number): Schedule {
  const join = at.anneal === 'cos' ? cosine : linear;
  // Corners need not be whole updates.
  const top = at.pctStart * at.totalSteps - 1;
  const corners = at.threePhase
    ? [
        [0, initial],
        [top, peak],
        [2 * top, initial],
        [at.totalSteps - 1, final],
      ]
    : [
        [0, initial],
        [top, peak],
        [at.totalSteps - 1, final],
      ];
  return (update) => {
    const next = corners.findIndex(([end], index) => index > 0 && update <= end);
    if (next < 0)
      throw new JepaError(
        `one-cycle schedule: update ${update} is past the last, ${at.totalSteps - 1}; raise totalSteps`,
      );
    const [[from, first], [to, last]] = [corners[next - 1], corners[next]];
    return join(first, last, (update - from) / (to - from));
  };
}

/** Learning rate of the one-cycle policy. */
export function oneCycle(at: OneCycle & { maxLr: number; divFactor: number; finalDivFactor: number }): Schedule {
  const initial = at.maxLr / at.divFactor;
  return cycle(at, initial, at.maxLr, initial / at.finalDivFactor);
}

/** Momentum of the one-cycle policy: low where the learning rate is high. */
export function oneCycleMomentum(at: OneCycle & { baseMomentum: number; maxMomentum: number }): Schedule {
  return cycle(at, at.maxMomentum, at.baseMomentum, at.maxMomentum);
}

/** Cosine with warm restarts: periods of `period`, `period` x `multiplier`, ... updates, each starting at `lr` itself. */
export function cosineRestarts(at: { lr: number; minLr: number; period: number; multiplier: number }): Schedule {
  if (!(at.period > 0 && at.multiplier >= 1)) {
    throw new JepaError(
      `cosine restarts: period ${at.period} must be positive and multiplier ${at.multiplier} at least 1`,
    );
  }
  return (update) => {
    let start = 0;
    let period = at.period;
    while (update >= start + period) {
      start += period;
      period *= at.multiplier;
    }
    return cosine(at.lr, at.minLr, (update - start) / period);
  };
}
