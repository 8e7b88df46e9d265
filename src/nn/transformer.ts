import { type Dim, mulDims } from '../graph/dims.js';
import { add, gelu, mul } from '../graph/ops/elementwise.js';
import { reshape, split, transpose } from '../graph/ops/move.js';
import { layerNorm, softmax } from '../graph/ops/normalise.js';
import { linear, matmul } from '../graph/ops/product.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { type ParameterSpec, under, type Weights } from './weights.js';

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
}

/** Standard deviation of every linear weight's first value (I-JEPA, `init_weights`). */
export const INIT_STD = 0.02;

export const normalInit = (shape: readonly number[], std = INIT_STD): ParameterSpec => ({
  shape,
  init: { kind: 'normal', std },
  trainable: true,
});
export const fillInit = (shape: readonly number[], value: number): ParameterSpec => ({
  shape,
  init: { kind: 'fill', value },
  trainable: true,
});

export function linearSpec(name: string, out: number, into: number, bias = true): [string, ParameterSpec][] {
  const weight: [string, ParameterSpec] = [`${name}.weight`, normalInit([out, into])];
  return bias ? [weight, [`${name}.bias`, fillInit([out], 0)]] : [weight];
}

export const normSpec = (name: string, width: number): [string, ParameterSpec][] => [
  [`${name}.weight`, fillInit([width], 1)],
  [`${name}.bias`, fillInit([width], 0)],
];

/**
 * Parameters of a stack of blocks under their published names. `rescale` divides the output projections of block i = 1, 2,
 * ... by sqrt(2 i) at the start: the constructor of the reference does, but its training helper undoes it.
 */
export function blocksSpec(
  prefix: string,
  { width, depth, mlpWidth, qkvBias }: TransformerConfig,
  rescale = false,
): [string, ParameterSpec][] {
  return Array.from({ length: depth }, (_, i) => {
    const name = `${prefix}.${i}`;
    const outStd = rescale ? INIT_STD / Math.sqrt(2 * (i + 1)) : INIT_STD;
    return [
      ...normSpec(`${name}.norm1`, width),
      ...linearSpec(`${name}.attn.qkv`, 3 * width, width, qkvBias),
      [`${name}.attn.proj.weight`, normalInit([width, width], outStd)],
      [`${name}.attn.proj.bias`, fillInit([width], 0)],
      ...normSpec(`${name}.norm2`, width),
      ...linearSpec(`${name}.mlp.fc1`, mlpWidth, width),
      [`${name}.mlp.fc2.weight`, normalInit([width, mlpWidth], outStd)],
      [`${name}.mlp.fc2.bias`, fillInit([width], 0)],
    ] as [string, ParameterSpec][];
  }).flat();
}

export const norm = (x: Tensor, w: Weights, eps: number): Tensor =>
  layerNorm(x, { weight: w('weight'), bias: w('bias'), eps });

/** Picks the tokens that are wanted from [batch, tokens, width]. */
export type Select = (tokens: Tensor) => Tensor;

/** Multiplies a residual branch [batch, tokens, width] of block i; drop path gives [batch, 1, 1] factors. */
export interface DropPath {
  readonly attention: (block: number) => Tensor;
  readonly mlp: (block: number) => Tensor;
}

export interface BlockOptions {
  /** Return these tokens only: all tokens are attended to, but only these are asked about. */
  readonly select?: Select;
  readonly drop?: { readonly attention: Tensor; readonly mlp: Tensor };
}

/** x + attn(norm1(x)), then x + mlp(norm2(x)). Shapes: x [batch, tokens, width]. */
export function block(x: Tensor, w: Weights, config: TransformerConfig, { select, drop }: BlockOptions = {}): Tensor {
  const branch = (y: Tensor, factor?: Tensor): Tensor => (factor ? mul(y, factor) : y);
  const { eps } = config;
  const attended = scope('attn', () => attend(norm(x, under(w, 'norm1.'), eps), under(w, 'attn.'), config, select).out);
  const kept = select ? select(x) : x;
  const middle = add(kept, branch(attended, drop?.attention));
  return scope('mlp', () =>
    add(middle, branch(mlp(norm(middle, under(w, 'norm2.'), eps), under(w, 'mlp.')), drop?.mlp)),
  );
}

/** fc2(gelu(fc1(x))). */
export const mlp = (x: Tensor, w: Weights): Tensor =>
  linear(gelu(linear(x, w('fc1.weight'), w('fc1.bias'))), w('fc2.weight'), w('fc2.bias'));

/** Multi-head self-attention with one qkv projection; `probabilities` is the attention map [batch, heads, queries, keys]. */
export function attend(
  x: Tensor,
  w: Weights,
  { heads, width, qkvBias }: TransformerConfig,
  select?: Select,
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
  const probabilities = softmax(matmul(q, k, { transposeB: true, alpha: 1 / Math.sqrt(headWidth) }));
  const mixed = transpose(matmul(probabilities, v), [0, 2, 1, 3]); // [batch, queries, heads, headWidth]
  const joined = reshape(mixed, [mixed.shape[0], mixed.shape[1], width]);
  return { out: linear(joined, w('proj.weight'), w('proj.bias')), probabilities };
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
  { select, drop, onBlock }: BlocksOptions = {},
): Tensor {
  let tokens = x;
  for (let i = 0; i < config.depth; i++) {
    const last = i === config.depth - 1;
    tokens = scope(`${name}.${i}`, () =>
      block(tokens, under(w, `${name}.${i}.`), config, {
        select: last ? select : undefined,
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
