import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from 'yaml';
import { withFileErrors } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import { type Config, parseConfig } from '../train/config.js';
import { nearest } from '../train/settings.js';
import { recipeNames, recipesFolder } from './package-files.js';

export interface Settings<C = Config> {
  /** Of the recipe or file; runs are named after it. */
  readonly name: string;
  readonly config: C;
}

/** Checks what a file says; `placeOf` tells where a key stands. */
type Parse<C> = (given: unknown, placeOf: (keys: readonly PropertyKey[]) => string) => C;

/**
 * Reads a recipe, a YAML file or the `config.yaml` of a run, and applies `key=value` settings to it. Throws `UsageError`
 * that says where a mistake stands: `mine.yaml:6:7 optimizer.lr: expected number, received string`.
 */
export function readSettings(what: string, overrides?: readonly string[]): Settings;
export function readSettings<C>(what: string, overrides: readonly string[], parse: Parse<C>): Settings<C>;
export function readSettings(
  what: string,
  overrides: readonly string[] = [],
  parse: Parse<unknown> = parseConfig,
): Settings<unknown> {
  // What an agent lives by is read by a function of its own.
  const path = findConfig(what, parse !== (parseConfig as Parse<unknown>));
  const lines = new LineCounter();
  const text = withFileErrors('read', path, () => readFileSync(path, 'utf8'));
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [mistake] = document.errors;
  if (mistake) throw new UsageError(`${place(path, lines, mistake.pos[0])} ${mistake.message}`);
  if (!isMap(document.contents))
    throw new UsageError(`${path}: settings must be keys with values, as in data: or train:`);

  const given = overrides.map(parseOverride);
  for (const { path: keys, value, text } of given) override(document, keys, value, text);
  const config = parse(document.toJS(), (keys) => {
    const own =
      keys.length > 0 && given.find(({ path }) => keys.every((key, i) => i >= path.length || String(key) === path[i]));
    if (own) return 'command line:';
    const node = deepest(document, keys);
    return node?.range ? place(path, lines, node.range[0]) : `${path}:`;
  });
  return { name: basename(path) === 'config.yaml' ? basename(what) : basename(path, extname(path)), config };
}

/** Where a run goes if nobody says: `runs/<name>-20260314-150926`, in local time. */
export function runFolder(name: string): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
  return join('runs', `${name}-${local.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')}`);
}

/** The configuration as YAML, every default filled in. */
export const configText = (config: Config): string => yamlText(config);

/** Plain values as YAML for people. */
export function yamlText(value: unknown): string {
  const document = new Document(JSON.parse(JSON.stringify(value)));
  // Lists of plain values and steps of transforms read best on one line.
  visit(document, {
    Collection(_, node, path) {
      const inView = path.some((above) => isSeq(above));
      if (inView || (isSeq(node) && node.items.every(isScalar))) node.flow = true;
    },
  });
  return document.toString({ lineWidth: 160 });
}

const place = (path: string, lines: LineCounter, offset: number): string => {
  const { line, col } = lines.linePos(offset);
  return `${path}:${line}:${col}`;
};

function findConfig(what: string, agents: boolean): string {
  const stat = existsSync(what) ? statSync(what) : undefined;
  if (stat?.isFile()) return what;
  const inRun = join(what, 'config.yaml');
  if (stat?.isDirectory() && existsSync(inRun)) return inRun;
  const names = recipeNames(agents);
  if (names.includes(what)) return join(recipesFolder(), `${what}.yaml`);
  if (recipeNames(!agents).includes(what))
    throw new UsageError(`${what} is a recipe of another command: jepa ${agents ? 'train' : 'agent'} ${what}`);
  if (stat?.isDirectory()) throw new UsageError(`${what}: this folder is no run (it has no config.yaml)`);
  if (/[\\/]|\.ya?ml$/.test(what)) throw new UsageError(`${what}: there is no such file`);
  const near = nearest(what, names);
  throw new UsageError(
    `there is no recipe ${what}${near ? `; did you mean ${near}?` : ''} (recipes: ${names.join(', ')}; or give a YAML file)`,
  );
}

interface Override {
  readonly text: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

function parseOverride(text: string): Override {
  const match = /^([A-Za-z0-9_.]+)=(.*)$/s.exec(text);
  if (!match || match[1].split('.').includes('')) {
    throw new UsageError(`${text}: settings are written key=value, for example optimizer.lr=0.001`);
  }
  const parsed = parseDocument(match[2], { prettyErrors: false });
  if (parsed.errors.length > 0) throw new UsageError(`${text}: ${parsed.errors[0].message}`);
  return { text, path: match[1].split('.'), value: parsed.toJS() };
}

/** Ways to say how long a run is; giving one replaces the others. */
const LENGTHS = ['epochs', 'steps', 'minutes'];

/** Sets one value of a document; null takes it away, so that the default holds. */
function override(document: Document, path: readonly string[], value: unknown, text: string): void {
  if (value === null) {
    document.deleteIn(path);
    return;
  }
  for (let depth = 1; depth < path.length; depth++) {
    const above = document.getIn(path.slice(0, depth), true);
    if (above !== undefined && !isMap(above) && !isSeq(above)) {
      throw new UsageError(`${text}: ${path.slice(0, depth).join('.')} is a value and has no ${path[depth]}`);
    }
  }
  if (path[0] === 'train' && LENGTHS.includes(path[1]))
    for (const length of LENGTHS) document.deleteIn(['train', length]);
  document.setIn(path, document.createNode(value));
}

/** The node at a path, or the last above it that is there. */
function deepest(document: Document, path: readonly PropertyKey[]): Node | undefined {
  for (let depth = path.length; depth > 0; depth--) {
    const keys = path.slice(0, depth).map(String);
    const parent = document.getIn(keys.slice(0, -1), true);
    // The key itself, if the message is about the key.
    if (isMap(parent)) {
      const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === keys.at(-1));
      if (pair) return ((pair.value as Node | null)?.range ? pair.value : pair.key) as Node;
    } else if (isSeq(parent)) {
      const item = parent.get(Number(keys.at(-1)), true);
      if (item) return item as Node;
    }
  }
  return document.contents as Node;
}
