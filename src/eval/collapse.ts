/**
 * The verdict on a training run in words: are embeddings of different samples still different, in how many directions, and
 * does the prediction depend on what it was predicted from.
 */
export interface CollapseSigns {
  /** `normalizedStdTimesSqrtD` of `featureStd`: spread of directions, 1 for even ones, 0 for a single one. */
  readonly featureStd: number;
  /** RankMe of [samples, width] embeddings. */
  readonly rankme: number;
  readonly width: number;
  /** Embeddings that RankMe was computed from, where they are fewer than `width`: they bound it too. */
  readonly samples?: number;
  /** Mean cosine between embeddings of different samples. */
  readonly meanCosine: number;
  /** Prediction error against the right targets, and against targets of other samples; where there is a predictor. */
  readonly energyMatched?: number;
  readonly energyShuffled?: number;
}

export type Verdict =
  | 'healthy'
  | 'low rank'
  | 'blind prediction'
  | 'dimensional collapse'
  | 'complete collapse'
  | 'not finite';

export interface Diagnosis {
  readonly verdict: Verdict;
  /** One line: the verdict, the numbers behind it and what to try. */
  readonly message: string;
}

/**
 * Directions: for unit vectors the variances of the channels add up to 1 - mean cosine, so a spread of 0.1 is a mean
 * cosine of 0.99: embeddings are one vector with 1 % of its energy left to tell samples apart. Either sign is enough
 * (they differ where a few channels carry everything).
 */
const COMPLETE_STD = 0.1;
const COMPLETE_COSINE = 0.99;

/**
 * Share of the possible rank. Measured on Glyphs with width 192: runs that collapsed have RankMe 3 to 11 (2 to 6 %), runs
 * held open by variance-covariance terms 50 to 74 (26 to 39 %). The limit is the geometric middle of 11 and 50; a fifth
 * of the width is still well below every healthy run.
 */
const DIMENSIONAL_SHARE = 0.12;
const LOW_SHARE = 0.2;

/** A predictor that knows something is at least this much better on its own targets than on those of other samples. */
const BLIND_RATIO = 0.95;

/** The verdict on these signs. Where embeddings fall together the message says what to try, if that is known: `remedy`. */
export function diagnose(signs: CollapseSigns, remedy?: string): Diagnosis {
  const { featureStd, rankme, width, samples = width, meanCosine, energyMatched, energyShuffled } = signs;
  const bad = Object.entries(signs).find(([, value]) => value !== undefined && !Number.isFinite(value));
  if (bad) {
    return verdict('not finite', `${bad[0]} is ${bad[1]}; lower the learning rate or clip gradients`);
  }
  const possible = Math.min(width, samples);
  const rank = `rank ${Math.round(rankme)} of ${possible}${samples < width ? ` that ${samples} samples can have` : ''}`;
  const share = rankme / possible;
  const advice = remedy ? `; ${remedy}` : '';
  if (featureStd < COMPLETE_STD || meanCosine > COMPLETE_COSINE) {
    const numbers = `all embeddings are nearly one vector (mean cosine ${meanCosine.toFixed(3)}, spread ${featureStd.toFixed(3)}, ${rank})`;
    return verdict('complete collapse', `${numbers}${advice}`);
  }
  if (share < DIMENSIONAL_SHARE) return verdict('dimensional collapse', `${rank}${advice}`);
  if (energyMatched !== undefined && energyShuffled !== undefined && energyMatched > BLIND_RATIO * energyShuffled) {
    const energies = `the error is ${energyMatched.toPrecision(3)} on the right targets and ${energyShuffled.toPrecision(3)} on those of other samples`;
    return verdict(
      'blind prediction',
      `${energies}, the predictor ignores its context; train longer or make targets harder to guess from position`,
    );
  }
  if (share < LOW_SHARE) return verdict('low rank', `${rank}, watch it${remedy ? `; if it falls, ${remedy}` : ''}`);
  return verdict('healthy', rank);
}

function verdict(name: Verdict, reason: string): Diagnosis {
  return { verdict: name, message: `${name}: ${reason}` };
}
