import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';

/** A tensor of fixed shape that every sample becomes. */
export interface Field {
  readonly name: string;
  readonly dtype: 'float32' | 'int32';
  readonly shape: readonly number[];
}

export type FieldArray = Float32Array | Int32Array;

/** Tensors of a batch by the names of their fields, each [batch, ...]. */
export type Fields = Readonly<Record<string, HostTensor<'float32' | 'int32'>>>;

/**
 * How one view of a sample becomes tensors: what a modality brings beside its readers. Made from plain data in every
 * thread that makes batches (`preparations.ts`).
 */
export interface Preparation<Sample = unknown> {
  /** The first is what the sample itself becomes; others say more of it. */
  readonly fields: readonly Field[];
  /** Fills one array a field (with whatever was in it before). Every random choice draws from `random`. */
  prepare(sample: Sample, random: Random, out: readonly FieldArray[]): void;
}
