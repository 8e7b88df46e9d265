import type { Block } from './memory-node.js';

/** A value in a block of shared memory: byte offset and shape. */
export interface Placed {
  readonly offset: number;
  readonly shape: readonly number[];
}

export interface PhaseDefinition {
  readonly model: Uint8Array;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Done after the phase, in order. */
  readonly exchanges: readonly {
    readonly value: string;
    readonly result: string;
    readonly kind: 'sum' | 'gather';
    readonly axis: number;
  }[];
}

/** Everything a worker must know to run its part of a program. Values have one namespace of names. */
/** Prefix of the inputs of an `adding` phase: the gradients so far. */
export const PREVIOUS = 'previous ';

export interface ProgramDefinition {
  readonly phases: readonly PhaseDefinition[];
  /** The only phase of a training program once more, adding its gradients to the inputs `previous <gradient>`. */
  readonly adding: PhaseDefinition | null;
  /** Types of every value that crosses a session's boundary. */
  readonly types: Readonly<Record<string, 'float32' | 'int32' | 'bool'>>;
  /** Inputs; `axis` is the one that is cut into slices, null where every worker gets the whole value. */
  readonly feeds: readonly { readonly name: string; readonly axis: number | null }[];
  /** Parameters: offset in floats in a block, the state's or a mapped file. */
  readonly parameters: readonly {
    readonly name: string;
    readonly block: Block;
    readonly offset: number;
    readonly shape: readonly number[];
  }[];
  /** Gradients: output name and offset in floats in the worker's gradient block. */
  readonly gradients: readonly { readonly name: string; readonly offset: number; readonly shape: readonly number[] }[];
  readonly outputs: readonly { readonly name: string; readonly placement: number | 'replicated' | 'partial' }[];
  /** Inputs about the batch itself: the numbers of a worker's rows, anything with as many rows as the whole, and their ratio. */
  readonly rowInputs: { readonly own: string; readonly whole: string; readonly share: string };
  readonly state: Block;
  readonly update: UpdateDefinition | null;
}

export interface UpdateDefinition {
  /** One gradient block for each worker. */
  readonly gradients: readonly Block[];
  /** Floats in a gradient block; slots have the same layout. */
  readonly length: number;
  readonly slots: readonly { readonly name: string; readonly block: Block }[];
  readonly scalars: readonly string[];
  /** Which set each group is clipped with: gradients of a set share a norm. */
  readonly clipSets: readonly number[];
  /** Output that must be finite for an update to happen. */
  readonly loss: string;
  /** Pieces of the flat state that one session handles at a time; `target` is the follower's offset or -1. */
  readonly pieces: readonly {
    readonly group: number;
    readonly offset: number;
    readonly length: number;
    readonly target: number;
  }[];
  /** Update models without and with a follower. */
  readonly plain: Uint8Array;
  readonly following: Uint8Array;
  /** For pieces of no group (-1): followers of parameters that are not updated. */
  readonly follow: Uint8Array | null;
}

export type Message =
  | { readonly kind: 'load'; readonly id: number; readonly program: ProgramDefinition }
  | { readonly kind: 'unload'; readonly id: number }
  | ({ readonly kind: 'run' } & RunRequest)
  /** With a folder, sessions opened from now on write profiles there; with null, they end them. */
  | { readonly kind: 'profile'; readonly folder: string | null };

export interface RunRequest {
  readonly id: number;
  /** First sample and number of samples of each worker. */
  readonly rows: readonly { readonly start: number; readonly count: number }[];
  readonly batch: number;
  /** Samples that a worker handles in one go, where nothing is exchanged. */
  readonly rowsAtOnce: number;
  readonly feedBlock: Block;
  readonly feeds: Readonly<Record<string, Placed>>;
  readonly outputBlock: Block;
  /** Sliced outputs lie whole, each worker writes its slice; partial ones have one copy for each worker, one after the other. */
  readonly outputs: Readonly<Record<string, Placed>>;
  readonly exchangeBlock: Block;
  readonly exchanges: Readonly<Record<string, Placed>>;
  readonly sizes: Readonly<Record<string, number>>;
  readonly update: {
    /** Micro-batches: clear the sum of gradients before this one, and update after it. */
    readonly begin: boolean;
    readonly finish: boolean;
    readonly scale: number;
    readonly clipNorm: number;
    readonly scalars: readonly Readonly<Record<string, number>>[];
    readonly momentum: number;
  } | null;
}

export interface RunReply {
  /** Norm of the whole gradient before clipping; NaN where no update was asked for. */
  readonly gradientNorm: number;
  /** False when a loss or gradient was not finite: nothing was updated then. */
  readonly finite: boolean;
}

export type Reply =
  | { readonly ok: true; readonly result: RunReply | null }
  | { readonly ok: false; readonly error: string };

/** What a worker says that stopped because another did. */
export const OTHER_FAILED = 'another worker failed';

/** Where the parts of the shared control array lie (Int32). */
export const CONTROL = { arrived: 0, generation: 1, abort: 2, length: 8 } as const;

export const BYTES: Record<'float32' | 'int32' | 'bool', number> = { float32: 4, int32: 4, bool: 1 };
