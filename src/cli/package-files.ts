import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { JepaError } from '../base/errors.js';

/** The folder of the recipes that come with the package. */
export function recipesFolder(): string {
  return fileURLToPath(new URL('../../../recipes', import.meta.url));
}

/** Names of the recipes that come with the package: those of `jepa agent`, or those of `jepa train`. */
export const recipeNames = (agents: boolean): string[] =>
  readdirSync(recipesFolder())
    .filter((name) => name.endsWith('.yaml') && name.startsWith('agent-') === agents)
    .map((name) => name.slice(0, -'.yaml'.length))
    .sort();

/** The version of this package. */
export function packageVersion(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** The version of an installed package. Its package.json is read as a file: not every package lets it be imported. */
export function versionOf(name: string): string {
  const entry = createRequire(import.meta.url).resolve(name);
  for (let folder = dirname(entry); folder !== dirname(folder); folder = dirname(folder)) {
    try {
      const facts = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, string>;
      if (facts.name === name) return facts.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new JepaError(`${name}: no package.json above ${entry}; install it again`);
}
