import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

/** recipes/ijepa.yaml as it is but for its size: the software driver of WebGPU multiplies at 0.2 GFLOP/s. */
export function smallIjepa(steps: number): Record<string, unknown> {
  const recipe = parse(readFileSync(new URL('../../../recipes/ijepa.yaml', import.meta.url), 'utf8'));
  return {
    ...recipe,
    method: {
      ...recipe.method,
      encoder: { kind: 'vit', patchSize: 4, width: 24, depth: 2, heads: 2 },
      predictor: { width: 12, depth: 1 },
    },
    train: { batchSize: 8, steps },
  };
}
