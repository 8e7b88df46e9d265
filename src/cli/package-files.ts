import { fileURLToPath } from 'node:url';

/** The folder of the recipes that come with the package. */
export function recipesFolder(): string {
  return fileURLToPath(new URL('../../../recipes', import.meta.url));
}
