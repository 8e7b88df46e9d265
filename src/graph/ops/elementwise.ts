import type { Dim } from '../dims.js';
import type { Emitter } from '../lower.js';
import {
  apply1,
  broadcastShapes,
  constant,
  type DType,
  type Operator,
  operatorError,
  requireType,
  sameShape,
  scalarValue,
  type Tensor,
  type TensorLike,
  tensorOf,
} from '../tensor.js';
import { broadcastTo, broadcastToOperator } from './move.js';
import { sumTo } from './reduce.js';

/**
 * Elementwise operators. Inputs broadcast as in NumPy; a number takes the type of the tensor it meets. The gradient of
 * an input is summed back to its shape.
 */

/** Emits a node whose inputs may be numbers (float32 scalars). */
export const call = (emit: Emitter, opType: string, ...inputs: (string | number)[]): string =>
  emit.node(
    opType,
    inputs.map((x) => (typeof x === 'number' ? emit.floats([x], []) : x)),
  );

/** A number as a scalar of the type of the tensor that it meets. */
function like(x: TensorLike, other: TensorLike): Tensor {
  if (typeof x !== 'number') return x;
  if (typeof other !== 'number' && other.dtype === 'int32') {
    return constant({ dtype: 'int32', shape: [], data: Int32Array.of(x) });
  }
  return constant(x);
}

/** What was broadcast, if `x` is the result of a broadcast. */
const unexpanded = (x: Tensor): Tensor => (x.node.op === (broadcastToOperator as Operator) ? x.node.inputs[0] : x);

// Arithmetic ---------------------------------------------------------------------------------------------------------

type BinaryVjp = (grad: Tensor, a: Tensor, b: Tensor, out: Tensor) => [Tensor | undefined, Tensor | undefined];

const NUMBERS: readonly DType[] = ['float32', 'int32'];
const FLOATS: readonly DType[] = ['float32'];

/** `types`: element types that both inputs may have; `result`: that of the output, where it is another one. */
function binaryOperator(
  name: string,
  opType: string,
  vjp: BinaryVjp,
  types: readonly DType[] = NUMBERS,
  result?: DType,
): Operator<null> {
  return {
    name,
    infer: ([a, b]) => {
      if (a.dtype !== b.dtype) throw operatorError(name, `types ${a.dtype} and ${b.dtype} differ`, a, b);
      if (!types.includes(a.dtype)) throw operatorError(name, `does not take ${a.dtype} inputs`, a, b);
      return [{ dtype: result ?? a.dtype, shape: broadcastShapes(name, a, b) }];
    },
    vjp: (node, [grad]) => {
      const [a, b] = node.inputs;
      const [da, db] = vjp(grad as Tensor, a, b, node.outputs[0]);
      return [da && sumTo(da, a.shape), db && sumTo(db, b.shape)];
    },
    lower: (_, inputs, emit) => [emit.node(opType, inputs)],
  };
}

/** Elementwise operators commute with broadcasting, so it is put off: most results need none in the end. */
function binary(op: Operator<null>, a: TensorLike, b: TensorLike): Tensor {
  const x = like(a, b);
  const y = like(b, a);
  const [{ shape }] = op.infer([x, y], null);
  return broadcastTo(apply1(op, [unexpanded(x), unexpanded(y)], null), shape);
}

/** Whether `x` is the number `value` and combining it with `other` keeps the shape of `other`. */
function isNeutral(x: TensorLike, value: number, other: TensorLike): boolean {
  if (typeof other === 'number') return false;
  if (typeof x === 'number') return x === value;
  return scalarValue(x) === value && x.dtype === other.dtype && x.shape.length <= other.shape.length;
}

const known = (x: TensorLike): number | undefined =>
  typeof x === 'number' ? x : x.dtype === 'float32' && x.shape.length === 0 ? scalarValue(x) : undefined;

/** The result where both operands are known numbers. */
function folded(a: TensorLike, b: TensorLike, f: (a: number, b: number) => number): Tensor | undefined {
  const x = known(a);
  const y = known(b);
  return x === undefined || y === undefined ? undefined : constant(f(x, y));
}

const addOperator = binaryOperator('add', 'Add', (g) => [g, g]);
const subOperator = binaryOperator('sub', 'Sub', (g) => [g, neg(g)]);
const mulOperator = binaryOperator('mul', 'Mul', (g, a, b) =>
  a === b ? [mul(mul(g, 2), a), undefined] : [mul(g, b), mul(g, a)],
);
const divOperator = binaryOperator('div', 'Div', (g, _, b, out) => {
  const da = div(g, b);
  return [da, neg(mul(da, out))];
});

/** a + b */
export function add(a: TensorLike, b: TensorLike): Tensor {
  if (isNeutral(b, 0, a)) return a as Tensor;
  if (isNeutral(a, 0, b)) return b as Tensor;
  return folded(a, b, (x, y) => x + y) ?? binary(addOperator, a, b);
}

/** a - b */
export function sub(a: TensorLike, b: TensorLike): Tensor {
  if (isNeutral(b, 0, a)) return a as Tensor;
  return folded(a, b, (x, y) => x - y) ?? binary(subOperator, a, b);
}

/** a * b */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  if (isNeutral(b, 1, a)) return a as Tensor;
  if (isNeutral(a, 1, b)) return b as Tensor;
  return folded(a, b, (x, y) => x * y) ?? binary(mulOperator, a, b);
}

/** a / b; a division by a power of two becomes a product, which is exact and cheaper. */
export function div(a: TensorLike, b: TensorLike): Tensor {
  const divisor = known(b);
  if (divisor !== undefined && Number.isInteger(Math.log2(Math.abs(divisor))) && tensorOf(a).dtype === 'float32') {
    return mul(a, 1 / divisor);
  }
  return folded(a, b, (x, y) => x / y) ?? binary(divOperator, a, b);
}

const powOperator = binaryOperator(
  'pow',
  'Pow',
  (g, a, b, out) => {
    const exponent = scalarValue(b);
    if (exponent !== undefined) return [mul(mul(g, exponent), powScalar(a, exponent - 1)), undefined];
    return [mul(g, mul(b, pow(a, sub(b, 1)))), mul(g, mul(out, log(a)))];
  },
  FLOATS,
);

/** a ** b with a tensor exponent, a > 0. */
export const pow = (a: TensorLike, b: TensorLike): Tensor => binary(powOperator, a, b);

/** Weight of `a` where `larger` holds for it: 1, or 1/2 for equal values. */
function share(
  larger: (a: Tensor, b: Tensor) => Tensor,
  orEqual: (a: Tensor, b: Tensor) => Tensor,
  a: Tensor,
  b: Tensor,
) {
  return mul(add(cast(larger(a, b), 'float32'), cast(orEqual(a, b), 'float32')), 0.5);
}

const maximumOperator = binaryOperator('maximum', 'Max', (g, a, b) => {
  const weight = share(greater, greaterEqual, a, b);
  return [mul(g, weight), mul(g, sub(1, weight))];
});
const minimumOperator = binaryOperator('minimum', 'Min', (g, a, b) => {
  const weight = share(less, lessEqual, a, b);
  return [mul(g, weight), mul(g, sub(1, weight))];
});

/** Elementwise larger value; equal values share the gradient. */
export const maximum = (a: TensorLike, b: TensorLike): Tensor => binary(maximumOperator, a, b);
/** Elementwise smaller value; equal values share the gradient. */
export const minimum = (a: TensorLike, b: TensorLike): Tensor => binary(minimumOperator, a, b);

const atan2Operator: Operator<null> = {
  ...binaryOperator(
    'atan2',
    '',
    (g, a, b) => {
      const scaled = div(g, add(square(a), square(b)));
      return [mul(scaled, b), neg(mul(scaled, a))];
    },
    FLOATS,
  ),
  lower: (_, [y, x], emit) => {
    const c = (opType: string, ...inputs: (string | number)[]) => call(emit, opType, ...inputs);
    const below = (v: string) => emit.cast(c('Less', v, 0), 'float32');
    const origin = emit.cast(c('Equal', c('Add', c('Abs', x), c('Abs', y)), 0), 'float32');
    const slope = c('Atan', c('Div', y, c('Add', x, origin)));
    const side = c('Sub', Math.PI, c('Mul', below(y), 2 * Math.PI));
    return [c('Add', slope, c('Mul', below(x), side))];
  },
};

/** Angle of the point (x = b, y = a), in (-pi, pi]; 0 at the origin. */
export const atan2 = (a: TensorLike, b: TensorLike): Tensor => binary(atan2Operator, a, b);

// Comparisons and logic ----------------------------------------------------------------------------------------------

const noGradient: BinaryVjp = () => [undefined, undefined];
const comparison = (name: string, opType: string, types = NUMBERS): Operator<null> =>
  binaryOperator(name, opType, noGradient, types, 'bool');
const equalOperator = comparison('equal', 'Equal', [...NUMBERS, 'bool']);
const notEqualOperator: Operator<null> = {
  ...comparison('not_equal', '', [...NUMBERS, 'bool']),
  lower: (_, inputs, emit) => [emit.node('Not', [emit.node('Equal', inputs)])],
};
const lessOperator = comparison('less', 'Less');
const lessEqualOperator = comparison('less_equal', 'LessOrEqual');
const greaterOperator = comparison('greater', 'Greater');
const greaterEqualOperator = comparison('greater_equal', 'GreaterOrEqual');

/** Comparisons of broadcast operands: bool, without gradients. */
export const equal = (a: TensorLike, b: TensorLike): Tensor => binary(equalOperator, a, b);
export const notEqual = (a: TensorLike, b: TensorLike): Tensor => binary(notEqualOperator, a, b);
export const less = (a: TensorLike, b: TensorLike): Tensor => binary(lessOperator, a, b);
export const lessEqual = (a: TensorLike, b: TensorLike): Tensor => binary(lessEqualOperator, a, b);
export const greater = (a: TensorLike, b: TensorLike): Tensor => binary(greaterOperator, a, b);
export const greaterEqual = (a: TensorLike, b: TensorLike): Tensor => binary(greaterEqualOperator, a, b);

function logical(name: string, opType: string): (a: Tensor, b: Tensor) => Tensor {
  const op = binaryOperator(name, opType, noGradient, ['bool']);
  return (a, b) => binary(op, a, b);
}

/** Of bool operands, broadcast. */
export const logicalAnd = logical('logical_and', 'And');
export const logicalOr = logical('logical_or', 'Or');

const notOperator: Operator<null> = {
  name: 'logical_not',
  infer: ([x]) => {
    requireType('logical_not', 'bool', x);
    return [x];
  },
  vjp: () => [undefined],
  lower: (_, inputs, emit) => [emit.node('Not', inputs)],
};

export const logicalNot = (x: Tensor): Tensor => apply1(notOperator, [x], null);

const whereOperator: Operator<null> = {
  name: 'where',
  infer: ([condition, a, b]) => {
    if (condition.dtype !== 'bool') throw operatorError('where', 'the condition must be bool', condition, a, b);
    if (a.dtype !== b.dtype) throw operatorError('where', `types ${a.dtype} and ${b.dtype} differ`, condition, a, b);
    return [{ dtype: a.dtype, shape: broadcastShapes('where', condition, a, b) }];
  },
  vjp: ({ inputs: [condition, a, b] }, [grad]) => [
    undefined,
    sumTo(where(condition, grad as Tensor, 0), a.shape),
    sumTo(where(condition, 0, grad as Tensor), b.shape),
  ],
  lower: (_, inputs, emit) => [emit.node('Where', inputs)],
};

/** `a` where the condition holds, else `b`. Far slower than a product with a 0/1 mask, but stops NaN and infinity. */
export const where = (condition: Tensor, a: TensorLike, b: TensorLike): Tensor =>
  apply1(whereOperator, [condition, like(a, b), like(b, a)], null);

/** `value` where the mask holds, else x; the mask broadcasts to x. */
export function maskedFill(x: Tensor, mask: Tensor, value: number): Tensor {
  requireType('masked_fill', 'bool', mask);
  if (!sameShape(broadcastShapes('masked_fill', x, mask), x.shape)) {
    throw operatorError('masked_fill', 'the mask does not broadcast to x', x, mask);
  }
  return where(mask, value, x);
}

const castOperator: Operator<{ dtype: DType }> = {
  name: 'cast',
  infer: ([x], { dtype }) => [{ dtype, shape: x.shape }],
  vjp: () => [undefined],
  lower: (node, [x], emit) => [emit.cast(x, node.attrs.dtype)],
};

/** Changes the element type (a conversion to int32 truncates); no gradient. */
export const cast = (x: Tensor, dtype: DType): Tensor => (x.dtype === dtype ? x : apply1(castOperator, [x], { dtype }));

// Functions of one variable ------------------------------------------------------------------------------------------

type UnaryVjp = (grad: Tensor, x: Tensor, out: Tensor) => Tensor | undefined;

function unaryOperator<A = null>(
  name: string,
  lower: string | ((x: string, emit: Emitter, attrs: A) => string),
  vjp: (grad: Tensor, x: Tensor, out: Tensor, attrs: A) => Tensor | undefined,
  types: readonly DType[] = FLOATS,
): Operator<A> {
  return {
    name,
    infer: ([x]) => {
      if (!types.includes(x.dtype)) throw operatorError(name, `does not take ${x.dtype} inputs`, x);
      return [x];
    },
    vjp: (node, [grad]) => [vjp(grad as Tensor, node.inputs[0], node.outputs[0], node.attrs)],
    lower: (node, [x], emit) => [typeof lower === 'string' ? emit.node(lower, [x]) : lower(x, emit, node.attrs)],
  };
}

function unary(
  name: string,
  lower: string | ((x: string, emit: Emitter) => string),
  vjp: UnaryVjp,
  types: readonly DType[] = FLOATS,
) {
  const op = unaryOperator<null>(name, lower, vjp, types);
  return (x: TensorLike): Tensor => {
    const t = tensorOf(x);
    return broadcastTo(apply1(op, [unexpanded(t)], null), t.shape);
  };
}

const flat: UnaryVjp = () => undefined;
/** 1 where x > 0, else 0. */
const positive = (x: Tensor): Tensor => cast(greater(x, 0), 'float32');

/** Functions of every element, with their gradients; 0 where the function is constant. */
export const neg = unary('neg', 'Neg', (g) => neg(g), NUMBERS);
/** |x|; gradient 0 at 0. */
export const abs = unary('abs', 'Abs', (g, x) => mul(g, sign(x)), NUMBERS);
export const sign = unary('sign', 'Sign', flat, NUMBERS);
export const exp = unary('exp', 'Exp', (g, _, y) => mul(g, y));
export const log = unary('log', 'Log', (g, x) => div(g, x));
export const sqrt = unary('sqrt', 'Sqrt', (g, _, y) => div(mul(g, 0.5), y));
export const reciprocal = unary('reciprocal', 'Reciprocal', (g, _, y) => neg(mul(g, square(y))));
export const sin = unary(
  'sin',
  (x, emit) => emitSine(emit, 'Sin', x),
  (g, x) => mul(g, cos(x)),
);
export const cos = unary(
  'cos',
  (x, emit) => emitSine(emit, 'Cos', x),
  (g, x) => neg(mul(g, sin(x))),
);
export const tanh = unary('tanh', 'Tanh', (g, _, y) => mul(g, sub(1, square(y))));
export const sigmoid = unary('sigmoid', 'Sigmoid', (g, _, y) => mul(g, mul(y, sub(1, y))));
export const erf = unary('erf', 'Erf', (g, x) => mul(g, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))));
/** Gradient 0 everywhere, as for ceil and round. */
export const floor = unary('floor', 'Floor', flat);
export const ceil = unary('ceil', 'Ceil', flat);
/** Nearest integer, halves to even. */
export const round = unary('round', 'Round', flat);
/** max(x, 0); gradient 0 at 0. */
export const relu = unary('relu', 'Relu', (g, _, y) => mul(g, positive(y)));

/** x * x */
export const square = (x: Tensor): Tensor => mul(x, x);
/** 1 / sqrt(x) */
export const rsqrt = (x: Tensor): Tensor => reciprocal(sqrt(x));

/** Coefficients from the highest power down. */
const polynomial = (emit: Emitter, x: string, coefficients: readonly number[]): string =>
  coefficients
    .slice(1)
    .reduce<string | number>((sum, c) => call(emit, 'Add', call(emit, 'Mul', sum, x), c), coefficients[0]) as string;

/**
 * Sine or cosine. WGSL promises no more than 2^-11 for its own: on WebGPU the angle is brought to [-pi/2, pi/2], with pi in
 * three parts of few digits (Cody and Waite), where a Taylor polynomial has float32's accuracy.
 */
function emitSine(emit: Emitter, opType: 'Sin' | 'Cos', x: string): string {
  if (emit.backend !== 'webgpu') return emit.node(opType, [x]);
  const c = (name: string, ...inputs: (string | number)[]) => call(emit, name, ...inputs);
  // sin(n pi + r) = (-1)^n sin(r) and cos((n + 1/2) pi + r) = -(-1)^n sin(r).
  const halves = c('Mul', x, 1 / Math.PI);
  const n = c('Floor', opType === 'Sin' ? c('Add', halves, 0.5) : halves);
  const turns = opType === 'Sin' ? n : c('Add', n, 0.5);
  const r = [3.140625, 1015 / 2 ** 20, -3.258413591e-7].reduce(
    (rest, part) => c('Sub', rest, c('Mul', turns, part)),
    x,
  );
  const odd = c('Sub', n, c('Mul', c('Floor', c('Mul', n, 0.5)), 2));
  const sign = opType === 'Sin' ? c('Sub', 1, c('Mul', odd, 2)) : c('Sub', c('Mul', odd, 2), 1);
  const series = [-1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1];
  return c('Mul', c('Mul', r, sign), polynomial(emit, c('Mul', r, r), series));
}

/** `series` (accurate near 0) where |x| < 1/2, else `direct`. ONNX has no log1p and no expm1. */
const nearZero = (emit: Emitter, x: string, series: string, direct: string): string =>
  emit.node('Where', [call(emit, 'Less', call(emit, 'Abs', x), 0.5), series, direct]);

/** log(1 + x) = 2 atanh(s), s = x / (2 + x): |s| <= 1/3, and the series in s^2 needs no cancellation. */
function emitLog1p(x: string, emit: Emitter): string {
  const s = call(emit, 'Div', x, call(emit, 'Add', x, 2));
  const odd = polynomial(emit, call(emit, 'Mul', s, s), [2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2]);
  return nearZero(emit, x, call(emit, 'Mul', s, odd), call(emit, 'Log', call(emit, 'Add', x, 1)));
}

/** log(1 + x), accurate near 0. */
export const log1p = unary('log1p', emitLog1p, (g, x) => div(g, add(x, 1)));

/** exp(x) - 1, accurate near 0. */
export const expm1 = unary(
  'expm1',
  (x, emit) => {
    const series = polynomial(emit, x, [1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1]);
    return nearZero(emit, x, call(emit, 'Mul', x, series), call(emit, 'Sub', call(emit, 'Exp', x), 1));
  },
  (g, x) => mul(g, exp(x)),
);

/** log(1 + exp(x)) without overflow, as max(x, 0) + log1p(exp(-|x|)). */
export const softplus = unary(
  'softplus',
  (x, emit) =>
    call(
      emit,
      'Add',
      call(emit, 'Relu', x),
      emitLog1p(call(emit, 'Exp', call(emit, 'Neg', call(emit, 'Abs', x))), emit),
    ),
  (g, x) => mul(g, sigmoid(x)),
);

/**
 * Inverse error function, |x| < 1: the two polynomials in w = -log(1 - x^2) of M. Giles, "Approximating the erfinv
 * function" (GPU Computing Gems, 2011), single precision.
 */
export const erfinv = unary(
  'erfinv',
  (x, emit) => {
    const c = (opType: string, ...inputs: (string | number)[]) => call(emit, opType, ...inputs);
    const w = c('Neg', c('Log', c('Mul', c('Sub', 1, x), c('Add', 1, x))));
    const centre = polynomial(
      emit,
      c('Sub', w, 2.5),
      [
        2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087, -0.00125372503, -0.00417768164,
        0.246640727, 1.50140941,
      ],
    );
    const tails = polynomial(
      emit,
      c('Sub', c('Sqrt', w), 3),
      [
        -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
        1.00167406, 2.83297682,
      ],
    );
    return c('Mul', x, emit.node('Where', [c('Less', w, 5), centre, tails]));
  },
  (g, _, y) => mul(g, mul(exp(square(y)), Math.sqrt(Math.PI) / 2)),
);

/** x ** exponent with a constant exponent; whole and half exponents become products and roots. x ** 0 is 1 everywhere. */
export function powScalar(x: Tensor, exponent: number): Tensor {
  if (exponent === 0) return broadcastTo(constant(1), x.shape);
  if (exponent < 0) return reciprocal(powScalar(x, -exponent));
  const whole = Math.floor(exponent);
  const rest = exponent - whole;
  if (whole > 16 || (rest !== 0 && rest !== 0.5)) return pow(x, exponent);
  let product: Tensor | undefined = rest === 0.5 ? sqrt(x) : undefined;
  for (let n = whole, factor = x; n > 0; n >>= 1) {
    if (n & 1) product = product ? mul(product, factor) : factor;
    if (n > 1) factor = square(factor);
  }
  return product as Tensor;
}

interface ClipAttrs {
  readonly min: number | null;
  readonly max: number | null;
}

const clipOperator = unaryOperator<ClipAttrs>(
  'clip',
  (x, emit, { min, max }) => {
    const bounds = [min === null ? '' : emit.floats([min], []), max === null ? '' : emit.floats([max], [])];
    return emit.node('Clip', [x, ...(max === null ? bounds.slice(0, 1) : bounds)]);
  },
  (g, x, _, { min, max }) => {
    const above = min === null ? undefined : greater(x, min);
    const below = max === null ? undefined : less(x, max);
    const inside = above && below ? logicalAnd(above, below) : (above ?? below);
    return inside ? mul(g, cast(inside, 'float32')) : g;
  },
);

/**
 * Limits x to [min, max] (null: no bound); gradient 0 at and outside of the bounds. That is what
 * PyTorch 2.15 computes (measured) and what the golden values hold; the golden README says 1 at a bound.
 */
export const clip = (x: Tensor, min: number | null, max: number | null): Tensor =>
  min === null && max === null ? x : apply1(clipOperator, [x], { min, max });

/** `clip` to [min, max]; the three below are made of it as PyTorch's. */
export const hardtanh = (x: Tensor, min = -1, max = 1): Tensor => clip(x, min, max);
export const relu6 = (x: Tensor): Tensor => hardtanh(x, 0, 6);
export const hardsigmoid = (x: Tensor): Tensor => div(relu6(add(x, 3)), 6);
export const hardswish = (x: Tensor): Tensor => mul(x, hardsigmoid(x));

const leakyReluOperator = unaryOperator<{ slope: number }>(
  'leaky_relu',
  (x, emit, { slope }) => emit.node('LeakyRelu', [x], { alpha: { float: slope } }),
  (g, x, _, { slope }) => mul(g, add(mul(positive(x), 1 - slope), slope)),
);

/** x if x > 0, else slope * x; gradient `slope` at 0. */
export const leakyRelu = (x: Tensor, slope = 0.01): Tensor => apply1(leakyReluOperator, [x], { slope });

const eluOperator = unaryOperator<{ alpha: number }>(
  'elu',
  (x, emit, { alpha }) => emit.node('Elu', [x], { alpha: { float: alpha } }),
  (g, x, _, { alpha }) => mul(g, add(mul(exp(minimum(x, 0)), alpha), mul(positive(x), 1 - alpha))),
);

/** x if x > 0, else alpha (exp(x) - 1); gradient `alpha` at 0. */
export const elu = (x: Tensor, alpha = 1): Tensor => apply1(eluOperator, [x], { alpha });

/** log(sigmoid(x)) without overflow. */
export const logSigmoid = (x: Tensor): Tensor => neg(softplus(neg(x)));
/** x * sigmoid(x) */
export const silu = (x: Tensor): Tensor => mul(x, sigmoid(x));
/** x * tanh(softplus(x)) */
export const mish = (x: Tensor): Tensor => mul(x, tanh(softplus(x)));
/** x * sigmoid(1.702 x) */
export const quickGelu = (x: Tensor): Tensor => mul(x, sigmoid(mul(x, 1.702)));

const ROOT_2_OVER_PI = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

const geluOperator = unaryOperator<{ approximate: 'none' | 'tanh' }>(
  'gelu',
  (x, emit, { approximate }) => emit.node('Gelu', [x], { approximate }),
  (g, x, _, { approximate }) => {
    if (approximate === 'none') {
      const below = add(mul(erf(mul(x, Math.SQRT1_2)), 0.5), 0.5);
      const density = mul(exp(mul(square(x), -0.5)), ROOT_2_OVER_PI / 2);
      return mul(g, add(below, mul(x, density)));
    }
    const squared = square(x);
    const t = tanh(mul(mul(x, add(mul(squared, CUBIC), 1)), ROOT_2_OVER_PI));
    const slope = mul(add(mul(squared, 3 * CUBIC), 1), ROOT_2_OVER_PI);
    return mul(g, mul(add(add(t, 1), mul(mul(x, sub(1, square(t))), slope)), 0.5));
  },
);

/** x Phi(x) with the exact normal distribution function, or its tanh approximation. */
export const gelu = (x: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor =>
  apply1(geluOperator, [x], { approximate });

/** A tensor filled with one number. */
export const full = (shape: readonly Dim[], value: number): Tensor => broadcastTo(constant(value), shape);
export const zeros = (shape: readonly Dim[]): Tensor => full(shape, 0);
