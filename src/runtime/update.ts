import type { Tensor } from '../graph/tensor.js';

/** What an optimizer does to one vector of parameters, as a graph; the same rule serves every backend. */
export interface UpdateRule {
  readonly name: string;
  /** Names of the per-parameter state, e.g. the moments `m` and `v`; they start at zero. */
  readonly slots: readonly string[];
  /** Names of the scalars that `update` reads. */
  readonly scalars: readonly string[];
  /** True where the rule uses norms of whole tensors: it is then applied to one tensor at a time. */
  readonly wholeTensors: boolean;
  /** Values of the scalars at update `step` (1 is the first) under a group's hyperparameters. */
  scalarsAt(step: number, hyper: GroupHyper): Readonly<Record<string, number>>;
  /**
   * New values. A slot, like the parameter, may be read only on the way to its own new value: the result is written over it.
   */
  update(
    parameter: Tensor,
    gradient: Tensor,
    slots: Readonly<Record<string, Tensor>>,
    scalars: Readonly<Record<string, Tensor>>,
  ): { readonly parameter: Tensor; readonly slots: Readonly<Record<string, Tensor>> };
}

/** Values that change from step to step, for one group of parameters. */
export interface GroupHyper {
  readonly lr: number;
  readonly weightDecay: number;
  /** Replace those of the rule (Adam). */
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** LARS: false leaves the group without scaling and without weight decay. Default: true. */
  readonly trustRatio?: boolean;
}

export interface UpdateSpec {
  /** The scalar that is minimised; it must be among the program's outputs. */
  readonly loss: Tensor;
  readonly rule: UpdateRule;
  /** Every parameter that learns, in groups with their own hyperparameters. */
  readonly groups: readonly (readonly Tensor[])[];
  /** Moving averages: target <- momentum * target + (1 - momentum) * online, after the update. */
  readonly followers: readonly { readonly target: Tensor; readonly online: Tensor }[];
  /** Sets of groups (their numbers) that are clipped apart, each by its own norm (V-JEPA). Default: all together. */
  readonly clipApart?: readonly (readonly number[])[];
}

/** Clip sets that a program may have. */
export const MOST_CLIP_SETS = 64;

/** Which set each group is clipped with. */
export const clipSetOf = ({ groups, clipApart }: UpdateSpec): readonly number[] =>
  groups.map((_, group) => (clipApart ? clipApart.findIndex((set) => set.includes(group)) : 0));

/** What one update needs besides the data. */
export interface UpdateValues {
  /** Number of this update; 1 is the first. */
  readonly step: number;
  /** One entry for each group. */
  readonly groups: readonly GroupHyper[];
  /** Momentum of the followers; 1 leaves them alone. */
  readonly momentum: number;
  /** Bound on the norm of the gradient (of each of the sets that are clipped apart); none by default. */
  readonly clipNorm?: number;
}
