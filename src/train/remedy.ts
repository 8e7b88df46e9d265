import type { Config } from './config.js';

/** What to try where embeddings of a method fall together: more of what holds them apart, or what does not yet. */
export function remedyOf(method: Config['method']): string {
  const others = 'a larger train.batchSize or a lower optimizer.lr';
  const [vicreg, sigreg] = [
    'variance-covariance terms (method.regularizer.kind=vicreg)',
    'SIGReg (method.regularizer.kind=sigreg)',
  ];
  if ('regularizer' in method) {
    const { regularizer } = method;
    switch (regularizer.kind) {
      case 'none':
        return `try ${vicreg}, ${sigreg} or ${others}`;
      case 'vicreg':
        return `try more of its variance term (method.regularizer.variance=${2 * regularizer.variance}), ${sigreg}, ${others}`;
      case 'sigreg':
        return `try more of its SIGReg (method.regularizer.weight=${2 * regularizer.weight}), ${vicreg}, ${others}`;
    }
  }
  if (method.name === 'lejepa')
    return `try more of its SIGReg (method.lambda=${Math.min(2 * method.lambda, (1 + method.lambda) / 2)}) or ${others}`;
  if (method.name === 'world-model')
    return `try more of its variance term (method.variance=${2 * method.variance || 16}) or ${others}`;
  return `try ${others}`;
}
