import { float32 } from '../../base/tensor.js';
import type { Emitter } from '../lower.js';
import { apply1, axisOf, constant, type Operator, operatorError, sameShape, type Tensor } from '../tensor.js';
import { call, cos, mul, neg, sin } from './elementwise.js';
import { concat, emitSplit, split } from './move.js';

/**
 * Harmonics: sums of the cosines and sines of many multiples m = first, first + 1, ... of angles, and series of them. The
 * two are each other's gradients. Only the first multiple costs a sine and a cosine; the next ones follow by
 * cos(m + 1) = cos(m - 1) - t sin(m) and sin(m + 1) = sin(m - 1) + t cos(m) with t = 2 sin(1), with few tensors alive. The
 * error grows with the number of steps, to 1e-6 for 16 (1e-5 where an angle is near pi / 2).
 */
interface HarmonicsAttrs {
  /** Number of multiples. */
  readonly count: number;
  readonly first: 0.5 | 1;
  /** Axis along which sums are taken; results lie along it: the cosines, then the sines. */
  readonly axis: number;
}

/** 2 sin(1), from the cosine and sine of the first multiple. */
const emitTwice = (emit: Emitter, cosine: string, sine: string, first: 0.5 | 1): string =>
  call(emit, 'Mul', sine, first === 1 ? 2 : call(emit, 'Mul', cosine, 4));

/**
 * Inputs: the angles, cosine and sine of their first multiple (gradients go to the angles, for all three), and
 * possibly a weight for each angle.
 */
const sumsOperator: Operator<HarmonicsAttrs> = {
  name: 'harmonic_sums',
  infer: ([x, , , weight], { count, axis }) => {
    if (weight && !sameShape(x.shape, weight.shape)) {
      throw operatorError('harmonic_sums', 'needs one weight for each angle', x, weight);
    }
    return [{ dtype: 'float32', shape: x.shape.with(axis, 2 * count) }];
  },
  vjp: ({ inputs: [x, cosine, sine, weight], attrs }, [grad]) => {
    const series = (coefficients: Tensor): Tensor => apply1(seriesOperator, [x, cosine, sine, coefficients], attrs);
    const slope = series(derivative(grad as Tensor, attrs));
    return weight ? [mul(weight, slope), undefined, undefined, series(grad as Tensor)] : [slope];
  },
  lower: ({ attrs: { count, first, axis } }, [, cosine, sine, weight], emit) => {
    const c = (opType: string, ...inputs: (string | number)[]): string => call(emit, opType, ...inputs);
    const sum = (wave: string): string =>
      emit.node('ReduceSum', [weight ? c('Mul', wave, weight) : wave, emit.ints([axis])], { keepdims: 1 });
    const twice = emitTwice(emit, cosine, sine, first);
    // What comes before the first multiple: 0, or -1/2.
    let before: [string | number, string | number] = first === 1 ? [1, 0] : [cosine, c('Neg', sine)];
    let now: [string, string] = [cosine, sine];
    const cosines = [sum(cosine)];
    const sines = [sum(sine)];
    for (let j = 1; j < count; j++) {
      const next: [string, string] = [
        c('Sub', before[0], c('Mul', twice, now[1])),
        c('Add', before[1], c('Mul', twice, now[0])),
      ];
      [before, now] = [now, next];
      cosines.push(sum(now[0]));
      sines.push(sum(now[1]));
    }
    return [emit.node('Concat', [...cosines, ...sines], { axis })];
  },
};

/** Inputs: angles, cosine and sine as above, and coefficients, the same for all angles along the axis. */
const seriesOperator: Operator<HarmonicsAttrs> = {
  name: 'harmonic_series',
  infer: ([x, , , coefficients], { count, axis }) => {
    if (!sameShape(coefficients.shape, x.shape.with(axis, 2 * count))) {
      throw operatorError('harmonic_series', `needs ${2 * count} coefficients along axis ${axis}`, x, coefficients);
    }
    return [{ dtype: 'float32', shape: x.shape }];
  },
  vjp: ({ inputs: [x, cosine, sine, coefficients], attrs }, [grad]) => {
    const g = grad as Tensor;
    const slope = apply1(seriesOperator, [x, cosine, sine, derivative(coefficients, attrs)], attrs);
    return [mul(g, slope), undefined, undefined, apply1(sumsOperator, [x, cosine, sine, g], attrs)];
  },
  // The recurrence transposed: from the last multiple down, what each wave contributes through the later ones.
  lower: ({ attrs: { count, first, axis } }, [, cosine, sine, coefficients], emit) => {
    const c = (opType: string, ...inputs: (string | number)[]): string => call(emit, opType, ...inputs);
    const twice = emitTwice(emit, cosine, sine, first);
    const rows = emitSplit(emit, coefficients, axis, Array(2 * count).fill(1));
    const plus = (row: string, other: string | undefined): string => (other ? c('Add', other, row) : row);
    let later: [string, string] | undefined;
    let now: [string, string] = [rows[count - 1], rows[2 * count - 1]];
    for (let j = count - 2; j >= 0; j--) {
      const next: [string, string] = [
        c('Add', c('Mul', twice, now[1]), plus(rows[j], later?.[0])),
        c('Sub', plus(rows[count + j], later?.[1]), c('Mul', twice, now[0])),
      ];
      [later, now] = [now, next];
    }
    // `later` are the parts of what comes before the first multiple: (1, 0), or (cos, -sin) of the first.
    if (later && first === 0.5) now = [c('Add', now[0], later[0]), c('Sub', now[1], later[1])];
    const total = c('Add', c('Mul', now[0], cosine), c('Mul', now[1], sine));
    return [later && first === 1 ? c('Add', total, later[0]) : total];
  },
};

/** Coefficients of the derivative of a series: (m sine, -m cosine). */
function derivative(coefficients: Tensor, { count, first, axis }: HarmonicsAttrs): Tensor {
  const [cosines, sines] = split(coefficients, axis, [count, count]);
  const shape = coefficients.shape.map((_, i) => (i === axis ? count : 1));
  const multiples = constant(
    float32(
      shape,
      Array.from({ length: count }, (_, j) => first + j),
    ),
  );
  return concat([mul(sines, multiples), neg(mul(cosines, multiples))], axis);
}

/**
 * Sums over `axis` of cos(m x), then of sin(m x), for m = first, first + 1, ... (`count` of them; `first` is 1 or 1/2):
 * 2 * count values along that axis.
 */
export function harmonicSums(x: Tensor, axis: number, count: number, first: 0.5 | 1 = 1): Tensor {
  const start = mul(x, first);
  return apply1(sumsOperator, [x, cos(start), sin(start)], {
    count,
    first,
    axis: axisOf('harmonic_sums', axis, x.shape.length, x),
  });
}
