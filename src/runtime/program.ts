import type { HostTensor } from '../base/tensor.js';
import type { Backend } from '../graph/lower.js';
import type { DType, Tensor } from '../graph/tensor.js';
import type { UpdateSpec, UpdateValues } from './update.js';

/** Where programs run and their state lives. Made by `createEngine`. */
export interface Engine {
  readonly backend: Backend;
  /** Threads that take slices of a batch; 1 where one session does everything. */
  readonly workers: number;
  /**
   * Memory for parameters. Parameters of one group that lie next to each other are updated fastest. With `values` (one for
   * every parameter) it holds them, else zeros; where those lie in files as they would in memory they may be used from
   * there, which takes neither time nor a copy, but such parameters cannot learn and the files must stay as they are.
   */
  createState(parameters: readonly Tensor[], values?: ReadonlyMap<string, HostTensor<'float32'>>): Promise<State>;
  compile(spec: ProgramSpec, state: State): Promise<Program>;
  close(): Promise<void>;
}

/** Values that live between runs: weights and their moving averages, by parameter name. Programs share them. */
export interface State {
  readonly names: readonly string[];
  /** Copies of the values of all (or the named) parameters. */
  read(names?: readonly string[]): Promise<Map<string, HostTensor<'float32'>>>;
  /** Sets parameters; names and sizes must be the state's own. */
  write(values: ReadonlyMap<string, HostTensor<'float32'>>): Promise<void>;
}

export interface ProgramSpec {
  /** Names the program in messages and profiles. */
  readonly name: string;
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Makes a training program: it also differentiates the loss and updates the parameters. */
  readonly update?: UpdateSpec;
  /** Symbol of the dimension along which a batch is cut into slices. Default: "batch". */
  readonly batch?: string;
}

export type Feeds = Readonly<Record<string, HostTensor<DType>>>;

export interface RunResult {
  readonly outputs: Readonly<Record<string, HostTensor<DType>>>;
  /** Norm of the gradient before clipping; NaN without an update. */
  readonly gradientNorm: number;
  /** False if the loss or a gradient was not finite; nothing was updated then. */
  readonly finite: boolean;
}

export interface Program {
  readonly name: string;
  /** "sliced over N workers", "N exchanges a step", ...: how the batch is split, in words. */
  readonly distribution: string;
  /**
   * Runs the program. A training program updates its state if `update` is given. With `accumulate`, the gradients of
   * several runs (micro-batches) are averaged, and the last of them updates.
   */
  run(
    feeds: Feeds,
    update?: UpdateValues,
    accumulate?: { readonly index: number; readonly count: number },
  ): Promise<RunResult>;
  /** Optimizer state by `<slot>/<parameter>`. */
  readSlots(): Promise<Map<string, HostTensor<'float32'>>>;
  writeSlots(values: ReadonlyMap<string, HostTensor<'float32'>>): Promise<void>;
  /** Floating-point operations of products and convolutions in one run with these inputs (multiply and add count as two). */
  flops(feeds: Feeds): number;
  /** Bytes alive at the worst moment of one run, by the order of the graph, without weights; one worker's slice times workers. */
  peakBytes(feeds: Feeds): number;
  /** Time by scope and by operator over `runs` runs. */
  profile(feeds: Feeds, runs?: number, update?: UpdateValues): Promise<Profile>;
  /** Where the first value that is not finite appears for these inputs, as "scope: operator". */
  locateNonFinite(feeds: Feeds): Promise<string>;
  close(): Promise<void>;
}

export interface Profile {
  /** Milliseconds of one run: sums over kernels, mean over workers. */
  readonly total: number;
  readonly scopes: readonly { readonly name: string; readonly milliseconds: number }[];
  readonly operators: readonly { readonly name: string; readonly milliseconds: number; readonly calls: number }[];
}
