import { type Dim, mulDims } from '../graph/dims.js';
import { add, gelu, mul, silu } from '../graph/ops/elementwise.js';
import { broadcastTo, concat, expandDims, reshape, split, transpose } from '../graph/ops/move.js';
import { layerNorm, maskScores, softmax } from '../graph/ops/normalise.js';
import { linear, matmul } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { type Rotary, rotate } from './rope.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/** Shape of a stack of pre-norm transformer blocks, as I-JEPA and V-JEPA have them. */
export interface TransformerConfig {
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  /** Hidden width of each MLP. */
  readonly mlpWidth: number;
  readonly qkvBias: boolean;
  /** Epsilon of the layer norms. */
  readonly eps: number;
  /** Feed-forward part of a block; `gelu` by default. `swiglu` (an option of V-JEPA 2) has three matrices. */
  readonly mlp?: 'gelu' | 'swiglu';
}

/** Hidden width of a SwiGLU that stands for an MLP of `mlpWidth`: two thirds, up to a multiple of 8 (V-JEPA 2, `modules.py`). */
export const swigluWidth = (mlpWidth: number): number => 8 * Math.ceil(Math.trunc((2 * mlpWidth) / 3) / 8);

/** Standard deviation of every linear weight's first value (I-JEPA, `init_weights`). */
export const INIT_STD = 0.02;

/** A trained parameter that begins with normal numbers. */
export const normalInit = (shape: readonly number[], std = INIT_STD): ParameterSpec => ({
  shape,
  init: { kind: 'normal', std },
  trainable: true,
});

/** The same parameters; what would begin with normal numbers of deviation `INIT_STD` has those of `std`, the rest in proportion. */
export const withSpread = (spec: ModuleSpec, std: number): ModuleSpec =>
  new Map(
    Array.from(spec, ([name, own]) => [
      name,
      own.init.kind === 'normal' ? { ...own, init: { ...own.init, std: (own.init.std * std) / INIT_STD } } : own,
    ]),
  );

/** A trained parameter that begins with one value everywhere. */
export const fillInit = (shape: readonly number[], value: number): ParameterSpec => ({
  shape,
  init: { kind: 'fill', value },
  trainable: true,
});

/** Parameters of a linear layer: weight [out, into] and bias [out]. */
export function linearSpec(name: string, out: number, into: number, bias = true): [string, ParameterSpec][] {
  const weight: [string, ParameterSpec] = [`${name}.weight`, normalInit([out, into])];
  return bias ? [weight, [`${name}.bias`, fillInit([out], 0)]] : [weight];
}

/** Parameters of a layer norm: weight and bias [width]. */
export const normSpec = (name: string, width: number): [string, ParameterSpec][] => [
  [`${name}.weight`, fillInit([width], 1)],
  [`${name}.bias`, fillInit([width], 0)],
];

/**
 * Parameters of a stack of blocks under their published names. `rescale` divides the output projections of block i = 1, 2,
 * ... by sqrt(2 i) at the start: the constructor of the reference does, but its training helper undoes it.
 */
export function blocksSpec(prefix: string, config: TransformerConfig, rescale = false): [string, ParameterSpec][] {
  const { width, depth, qkvBias } = config;
  return Array.from({ length: depth }, (_, i) => {
    const name = `${prefix}.${i}`;
    const outStd = rescale ? INIT_STD / Math.sqrt(2 * (i + 1)) : INIT_STD;
    return [
      ...normSpec(`${name}.norm1`, width),
      ...linearSpec(`${name}.attn.qkv`, 3 * width, width, qkvBias),
      [`${name}.attn.proj.weight`, normalInit([width, width], outStd)],
      [`${name}.attn.proj.bias`, fillInit([width], 0)],
      ...normSpec(`${name}.norm2`, width),
      ...feedForwardSpec(`${name}.mlp`, config, outStd),
    ] as [string, ParameterSpec][];
  }).flat();
}

/** The feed-forward part of a block; `outStd` is the first spread of the matrix that leads back to the width. */
export function feedForwardSpec(
  name: string,
  { width, mlpWidth, mlp: kind }: Pick<TransformerConfig, 'width' | 'mlpWidth' | 'mlp'>,
  outStd = INIT_STD,
): [string, ParameterSpec][] {
  const out = (layer: string): [string, ParameterSpec][] => [
    [`${name}.${layer}.weight`, normalInit([width, mlpWidth], outStd)],
    [`${name}.${layer}.bias`, fillInit([width], 0)],
  ];
  return kind === 'swiglu'
    ? [...linearSpec(`${name}.fc1`, mlpWidth, width), ...linearSpec(`${name}.fc2`, mlpWidth, width), ...out('fc3')]
    : [...linearSpec(`${name}.fc1`, mlpWidth, width), ...out('fc2')];
}

/** Layer norm over the last axis with the parameters `weight` and `bias`. */
export const norm = (x: Tensor, w: Weights, eps: number): Tensor =>
  layerNorm(x, { weight: w('weight'), bias: w('bias'), eps });

/** Picks the tokens that are wanted from [batch, tokens, width]. */
export type Select = (tokens: Tensor) => Tensor;

/** Multiplies a residual branch [batch, tokens, width] of block i; drop path gives [batch, 1, 1] factors. */
export interface DropPath {
  readonly attention: (block: number) => Tensor;
  readonly mlp: (block: number) => Tensor;
}

/** Keys (turned by their positions) and values of the tokens before, [batch, heads, tokens, headWidth] each; none at first. */
export interface SeenTokens {
  keys?: Tensor;
  values?: Tensor;
}

export interface AttentionOptions {
  /** Return these tokens only: all tokens are attended to, but only these are asked about. */
  readonly select?: Select;
  /** Turns queries and keys by their positions. */
  readonly rotary?: Rotary;
  /** bool [tokens, tokens with those before]: where a query may look. Not together with `select`. */
  readonly mask?: Tensor;
  /** Tokens before, which are attended to as well; those of this call are added. */
  readonly seen?: SeenTokens;
}

export interface BlockOptions extends AttentionOptions {
  readonly drop?: { readonly attention: Tensor; readonly mlp: Tensor };
}

/** x + attn(norm1(x)), then x + mlp(norm2(x)). Shapes: x [batch, tokens, width]. */
export function block(
  x: Tensor,
  w: Weights,
  config: TransformerConfig,
  { drop, ...attention }: BlockOptions = {},
): Tensor {
  const branch = (y: Tensor, factor?: Tensor): Tensor => (factor ? mul(y, factor) : y);
  const { eps } = config;
  const attended = scope(
    'attn',
    () => attend(norm(x, under(w, 'norm1.'), eps), under(w, 'attn.'), config, attention).out,
  );
  const kept = attention.select?.(x) ?? x;
  const middle = add(kept, branch(attended, drop?.attention));
  return scope('mlp', () =>
    add(middle, branch(mlp(norm(middle, under(w, 'norm2.'), eps), under(w, 'mlp.'), config), drop?.mlp)),
  );
}

/** fc2(gelu(fc1(x))), or fc3(silu(fc1(x)) * fc2(x)). */
export function mlp(x: Tensor, w: Weights, { mlp: kind }: Pick<TransformerConfig, 'mlp'> = {}): Tensor {
  const layer = (y: Tensor, name: string): Tensor => linear(y, w(`${name}.weight`), w(`${name}.bias`));
  return kind === 'swiglu'
    ? layer(mul(silu(layer(x, 'fc1')), layer(x, 'fc2')), 'fc3')
    : layer(gelu(layer(x, 'fc1')), 'fc2');
}

/** Multi-head self-attention with one qkv projection; `probabilities` is the attention map [batch, heads, queries, keys]. */
export function attend(
  x: Tensor,
  w: Weights,
  { heads, width, qkvBias }: TransformerConfig,
  { select, rotary, mask, seen }: AttentionOptions = {},
): { out: Tensor; probabilities: Tensor } {
  const headWidth = width / heads;
  const weight = w('qkv.weight');
  const bias = qkvBias ? w('qkv.bias') : undefined;
  let parts: readonly Tensor[];
  if (select) {
    // Queries of the wanted tokens only: the projection's rows are [queries, keys, values].
    const [queryWeight, otherWeight] = split(weight, 0, [width, 2 * width]);
    const [queryBias, otherBias] = bias ? split(bias, 0, [width, 2 * width]) : [undefined, undefined];
    const q = splitHeads(linear(select(x), queryWeight, queryBias), 1, heads, headWidth);
    parts = [...q, ...splitHeads(linear(x, otherWeight, otherBias), 2, heads, headWidth)];
  } else {
    parts = splitHeads(linear(x, weight, bias), 3, heads, headWidth);
  }
  const [q, k, v] = parts; // [batch, heads, tokens, headWidth]
  const [queries, own] = rotary ? [turn(q, rotary, select), turn(k, rotary)] : [q, k];
  const keys = seen?.keys ? concat([seen.keys, own], 2) : own;
  const values = seen?.values ? concat([seen.values, v], 2) : v;
  if (seen) Object.assign(seen, { keys, values });
  const attended = (asked: Tensor, visible?: Tensor): { probabilities: Tensor; values: Tensor } => {
    const scores = matmul(asked, keys, { transposeB: true, alpha: 1 / Math.sqrt(headWidth) });
    const probabilities = softmax(visible ? maskScores(scores, visible) : scores);
    return { probabilities, values: matmul(probabilities, values) };
  };
  const sizes = mask ? [] : queryPieces(heads, queries.shape[2], keys.shape[2]);
  const pieces =
    sizes.length > 1 ? split(queries, 2, sizes).map((piece) => attended(piece)) : [attended(queries, mask)];
  const whole = (of: (part: { probabilities: Tensor; values: Tensor }) => Tensor): Tensor =>
    pieces.length === 1 ? of(pieces[0]) : concat(pieces.map(of), 2);
  const probabilities = whole((part) => part.probabilities);
  const mixed = transpose(
    whole((part) => part.values),
    [0, 2, 1, 3],
  ); // [batch, queries, heads, headWidth]
  const joined = reshape(mixed, [mixed.shape[0], mixed.shape[1], width]);
  return { out: linear(joined, w('proj.weight'), w('proj.bias')), probabilities };
}

/** Scores of a sample above which attention is computed for some queries at a time, and of how many of them then. */
const [MANY_SCORES, SCORES_AT_ONCE] = [2 ** 24, 2 ** 22];

/**
 * Into how many queries each attention among many tokens is cut: 64 frames of V-JEPA 2 have 8192 tokens, whose scores would
 * take gigabytes, and pieces of them stay in the cache. Undivided where sizes are not known before.
 */
function queryPieces(heads: number, queries: Dim, keys: Dim): number[] {
  if (typeof queries !== 'number' || typeof keys !== 'number' || heads * queries * keys <= MANY_SCORES) return [];
  const each = Math.max(1, Math.floor(SCORES_AT_ONCE / (heads * keys)));
  const whole = Math.floor(queries / each);
  return [...Array<number>(whole).fill(each), ...(queries % each === 0 ? [] : [queries % each])];
}

/** Turns x [batch, heads, tokens, headWidth], tokens that were selected by their own angles. */
function turn(x: Tensor, { cos, sin }: Rotary, select?: Select): Tensor {
  const [batch] = x.shape;
  const own = (angles: Tensor): Tensor => {
    if (!select) return expandDims(angles, 1);
    return expandDims(select(broadcastTo(angles, [batch, ...angles.shape.slice(1)])), 1);
  };
  return rotate(x, own(cos), own(sin));
}

/** [batch, tokens, parts * width] -> `parts` tensors [batch, heads, tokens, headWidth]. */
function splitHeads(x: Tensor, parts: number, heads: number, headWidth: number): readonly Tensor[] {
  const [batch, tokens] = x.shape;
  const grouped = transpose(reshape(x, [batch, tokens, parts, heads, headWidth]), [2, 0, 3, 1, 4]);
  const shape = grouped.shape.slice(1);
  if (parts === 1) return [reshape(grouped, shape)];
  return split(grouped, 0, Array(parts).fill(1)).map((part) => reshape(part, shape));
}

export interface BlocksOptions {
  /** Tokens that the last block returns (all by default). */
  readonly select?: Select;
  readonly rotary?: Rotary;
  readonly mask?: Tensor;
  /** Of every block. */
  readonly seen?: readonly SeenTokens[];
  readonly drop?: DropPath;
  /** Sees the output of every block. */
  readonly onBlock?: (output: Tensor, index: number) => void;
}

/** A stack of blocks. `name` is the parameter prefix and the scope ("blocks", "predictor_blocks"). */
export function blocks(
  x: Tensor,
  w: Weights,
  name: string,
  config: TransformerConfig,
  { select, drop, onBlock, rotary, mask, seen }: BlocksOptions = {},
): Tensor {
  let tokens = x;
  for (let i = 0; i < config.depth; i++) {
    const last = i === config.depth - 1;
    tokens = scope(`${name}.${i}`, () =>
      block(tokens, under(w, `${name}.${i}.`), config, {
        select: last ? select : undefined,
        rotary,
        mask,
        seen: seen?.[i],
        drop: drop && { attention: drop.attention(i), mlp: drop.mlp(i) },
      }),
    );
    onBlock?.(tokens, i);
  }
  return tokens;
}

/** Joins leading axes: [a, b, ...] -> [a b, ...]. The first stays the slower one, so a batch stays sliceable. */
export function joinLeading(x: Tensor): Tensor {
  const [a, b, ...rest] = x.shape;
  return reshape(x, [mulDims(a, b), ...rest] as Dim[]);
}
