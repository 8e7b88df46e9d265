import { apply, type Operator, type Tensor } from '../tensor.js';
import { add, call, emitSine, mul, sub } from './elementwise.js';

/** Harmonics: the cosines and sines of many multiples of one angle, at the price of products. */

interface HarmonicsAttrs {
  readonly count: number;
  readonly first: 0.5 | 1;
}

const harmonicsOperator: Operator<HarmonicsAttrs> = {
  name: 'harmonics',
  infer: ([x], { count }) => Array.from({ length: 2 * count }, () => ({ dtype: 'float32', shape: x.shape })),
  vjp: ({ outputs, attrs: { count, first } }, grads) => {
    let total: Tensor | undefined;
    for (let j = 0; j < count; j++) {
      const [gCosine, gSine] = [grads[j], grads[count + j]];
      if (gSine) {
        const part = mul(outputs[j], mul(gSine, first + j));
        total = total ? add(total, part) : part;
      }
      if (gCosine) {
        const part = mul(outputs[count + j], mul(gCosine, first + j));
        total = sub(total ?? 0, part);
      }
    }
    return [total];
  },
  // cos(m+1) = cos(m-1) - 2 sin(1) sin(m) and sin(m+1) = sin(m-1) + 2 sin(1) cos(m): two passes each, where Sin and Cos
  // cost thirteen. The error grows with the number of steps, to 1e-6 (1e-5 where the angle is near pi / 2).
  lower: ({ attrs: { count, first } }, [x], emit) => {
    const c = (opType: string, ...inputs: (string | number)[]): string => call(emit, opType, ...inputs);
    const start = first === 1 ? x : c('Mul', x, first);
    const cosines = [emitSine(emit, 'Cos', start)];
    const sines = [emitSine(emit, 'Sin', start)];
    if (count > 1) {
      const twice = c('Mul', sines[0], first === 1 ? 2 : c('Mul', cosines[0], 4));
      // What comes before the first: multiple 0, or -1/2.
      const cosine = first === 1 ? 1 : cosines[0];
      cosines.push(c('Sub', cosine, c('Mul', twice, sines[0])));
      sines.push(first === 1 ? c('Mul', twice, cosines[0]) : c('Sub', c('Mul', twice, cosines[0]), sines[0]));
      for (let j = 2; j < count; j++) {
        cosines.push(c('Sub', cosines[j - 2], c('Mul', twice, sines[j - 1])));
        sines.push(c('Add', sines[j - 2], c('Mul', twice, cosines[j - 1])));
      }
    }
    return [...cosines, ...sines];
  },
};

/** cos(m x) and sin(m x) for m = first, first + 1, ..., `count` of them; `first` is 1 or 1/2. */
export function harmonics(
  x: Tensor,
  count: number,
  first: 0.5 | 1 = 1,
): { readonly cosines: readonly Tensor[]; readonly sines: readonly Tensor[] } {
  const outputs = apply(harmonicsOperator, [x], { count, first });
  return { cosines: outputs.slice(0, count), sines: outputs.slice(count) };
}
