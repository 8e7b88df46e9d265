import type { Check, Frame, LifeResult, Lived, Measure, Stage } from '../agent/life.js';
import type { RawImage } from '../data/dataset.js';
import type { Diagnosis } from '../eval/collapse.js';
import type { Trace } from './build.js';
import type { ScaleKind } from './scale.js';

/**
 * Everything a report shows, as plain data (numbers, strings, arrays of bytes). Only the title is needed: what is absent
 * leaves no trace in the page. `build.ts` makes the larger parts from embeddings, features and training histories.
 */
export interface ReportData {
  readonly title: string;
  /** What the samples are called; images by default. */
  readonly samples?: { readonly one: string; readonly many: string };
  /** Name of the method, e.g. `I-JEPA`. */
  readonly method?: string;
  /** When the run ended, as it should be read. Not taken from the clock, so that equal data make equal files. */
  readonly date?: string;
  /** One paragraph. Absent: written from the probe table, where there is one. */
  readonly summary?: string;
  /** Whether the representation is sound, in words. */
  readonly verdict?: Diagnosis;
  /** Large numbers under the summary; four or five read best. */
  readonly headline?: readonly Headline[];
  readonly probes?: ProbeTable;
  readonly map?: EmbeddingMap;
  readonly neighbours?: readonly NeighbourRow[];
  readonly featureMaps?: readonly FeatureMap[];
  readonly attention?: readonly AttentionMaps[];
  readonly curves?: readonly Curve[];
  readonly masks?: MaskFigure;
  readonly views?: readonly ViewRow[];
  readonly classes?: ClassResults;
  readonly timings?: Timings;
  /** Of an agent. */
  readonly life?: LifeReport;
  /** Of a planner with a world model. */
  readonly plans?: PlanReport;
  readonly next?: readonly NextStep[];
  readonly files?: readonly WrittenFile[];
  /** The whole configuration of the run, as YAML. */
  readonly configuration?: string;
  /** Machine, versions, seed, data set: what is needed to repeat the run. */
  readonly environment?: readonly Fact[];
}

export interface Fact {
  readonly name: string;
  readonly value: string;
}

export interface Headline {
  readonly name: string;
  readonly value: string;
  readonly unit?: string;
  readonly note?: string;
}

export interface ProbeTable {
  /** How the probes were made, in one sentence. */
  readonly note?: string;
  readonly probes: readonly Probe[];
}

/** One way to use frozen features, measured on this encoder and on what it must beat. */
export interface Probe {
  readonly name: string;
  /** How to read it, one sentence. */
  readonly note?: string;
  /** Test images; with it, accuracies without an interval get a 95 % Wilson interval. */
  readonly samples?: number;
  /** The first is this encoder, the others are baselines. */
  readonly results: readonly ProbeResult[];
}

export interface ProbeResult {
  readonly encoder: string;
  /** Per cent. */
  readonly value: number;
  /** 95 % interval, per cent. */
  readonly interval?: readonly [number, number];
}

/** Points on a plane, one for each image. */
export interface EmbeddingMap {
  /** [n, 2] in the unit square, y upwards. */
  readonly points: ArrayLike<number>;
  /** n small images, shown under the pointer. */
  readonly thumbnails?: readonly RawImage[];
  /** n names: files or other. */
  readonly names?: readonly string[];
  /** Ways to colour the points; the first is shown. */
  readonly colourings: readonly Colouring[];
  /** What the map holds, one sentence: `3,000 held-out images`. */
  readonly note?: string;
}

export interface Colouring {
  /** `class`, `cluster`, `bold`, ... */
  readonly name: string;
  readonly groups: readonly string[];
  /** n indices into `groups`; -1 where unknown. */
  readonly values: ArrayLike<number>;
}

/** What is shown of a sample: a picture, or its text. */
export type Picture = RawImage | string;

/** A query and the samples most like it, nearest first. */
export interface NeighbourRow {
  readonly query: Picture;
  readonly label?: string;
  readonly neighbours: readonly {
    readonly image: Picture;
    /** Cosine similarity. */
    readonly similarity: number;
    readonly label?: string;
  }[];
}

/** Features of a sample's tokens as colours. */
export interface FeatureMap {
  readonly image: Picture;
  /** One pixel a patch. */
  readonly colours: RawImage;
}

export interface AttentionMaps {
  readonly image: Picture;
  readonly maps: readonly {
    readonly name: string;
    readonly rows: number;
    readonly columns: number;
    /** Attention that every patch receives in the last block, averaged over the query patches; row by row. */
    readonly values: ArrayLike<number>;
  }[];
}

/** One small figure with one or more curves over steps. */
export interface Curve {
  readonly title: string;
  /** How to read it, one sentence. */
  readonly note?: string;
  readonly unit?: string;
  readonly series: readonly {
    readonly name: string;
    readonly x: readonly number[];
    readonly y: readonly number[];
    /** Draw a moving average over the pale raw values. */
    readonly smooth?: boolean;
  }[];
  /** Default `step`. */
  readonly xLabel?: string;
  readonly xScale?: ScaleKind;
  readonly yScale?: ScaleKind;
  /** Values that the axis must reach. */
  readonly include?: readonly number[];
  readonly references?: readonly { readonly value: number; readonly label: string }[];
}

/** What a masked method shows its context encoder and asks its predictor for. */
export interface MaskFigure {
  /** Patches down and across. */
  readonly rows: number;
  readonly columns: number;
  readonly samples: readonly {
    /** The picture that is cut into patches, or the words that are the patches. */
    readonly image: RawImage | readonly string[];
    /** Indices of visible patches. */
    readonly context: ArrayLike<number>;
    /** Indices of the patches of every target block. */
    readonly targets: readonly ArrayLike<number>[];
  }[];
}

/** A sample and the augmented views made of it. */
export interface ViewRow {
  readonly image: Picture;
  readonly views: readonly Picture[];
}

/** What the linear probe on frozen features got right and wrong. */
export interface ClassResults {
  readonly names: readonly string[];
  /** counts[true][predicted]. */
  readonly confusion: readonly (readonly number[])[];
  /** Accuracy of a baseline for every class, per cent. */
  readonly baseline?: { readonly name: string; readonly accuracy: readonly number[] };
}

export interface Timings {
  /** Seconds by scope, of one step or of all. */
  readonly scopes: readonly { readonly name: string; readonly seconds: number }[];
  /** What the seconds of the scopes add up to say, e.g. `one training step`. Default: `one training step`. */
  readonly of?: string;
  readonly stepSeconds?: number;
  readonly samplesPerSecond?: number;
  readonly flopsPerStep?: number;
  /** FLOP/s of a large matrix product on the same device, measured. */
  readonly peakFlops?: number;
  readonly peakBytes?: number;
}

export interface NextStep {
  readonly what: string;
  readonly command: string;
}

export interface WrittenFile {
  readonly path: string;
  readonly what: string;
  readonly bytes?: number;
}

/** A mean over seeds with its standard error, if there are several. */
export interface MeanOf {
  readonly mean: number;
  readonly error?: number;
}

/** How an agent lived, beside others. */
export interface LifeReport {
  readonly stage: Stage;
  /** The first is drawn as bars. */
  readonly measures: readonly Measure[];
  readonly lived: readonly (Omit<Lived, 'values'> & { readonly values: Readonly<Record<string, MeanOf>> })[];
  readonly seeds: number;
  readonly checks: readonly Check[];
  readonly learned: LifeResult['learned'];
  /** Parts of the life to replay. */
  readonly chapters: readonly { readonly name: string; readonly frames: readonly Frame[] }[];
}

/** How often goals were reached, per cent. */
export interface PlanBar {
  readonly name: string;
  readonly value: number;
  readonly interval: readonly [low: number, high: number];
}

/** Success where something has a certain value, per cent, with that of the floor in the same episodes. */
export interface PlanGroup {
  /** The value or range of values. */
  readonly values: string;
  readonly episodes: number;
  readonly planner: PlanBar;
  readonly floor: PlanBar;
}

/** Success by what differs between episodes, or between worlds. */
export interface PlanFactor {
  readonly name: string;
  readonly groups: readonly PlanGroup[];
}

/** A way over a picture, in its pixels. */
export type DrawnPath = readonly (readonly [x: number, y: number])[];

/** An episode as it is drawn. */
export interface DrawnEpisode {
  readonly name: string;
  readonly success: boolean;
  /** From the goal in the end. */
  readonly distance: number;
  /** Some moments of it with their names; the first is the ground of the paths. */
  readonly pictures: readonly { readonly name: string; readonly picture: RawImage }[];
  /** Where the world can tell where in its pictures something moves. */
  readonly paths?: DrawnPaths;
}

export interface DrawnPaths {
  /** One place a step. */
  readonly path: DrawnPath;
  readonly goal: DrawnPath[number];
  /** The path of a floor. */
  readonly other: DrawnPath;
  /** What the planner imagined, and the step at which it did. */
  readonly imagined: readonly { readonly time: number; readonly path: DrawnPath }[];
}

/** How a planner did. */
export interface PlanReport {
  /** The first is the planner's, the others are floors. */
  readonly bars: readonly PlanBar[];
  /** By what differs between these episodes. */
  readonly factors: readonly PlanFactor[];
  /** The same task in worlds that differ from what was learned. */
  readonly shifts?: readonly PlanFactor[];
  readonly episodes: readonly DrawnEpisode[];
  readonly rollouts: readonly PlanRollout[];
}

/** Errors of predictions by depth: of the model, of the model told the actions of others, of standing still. */
export interface PlanRollout {
  readonly name: string;
  readonly unit: string;
  readonly model: Trace;
  readonly shuffled: Trace;
  readonly still: Trace;
}
