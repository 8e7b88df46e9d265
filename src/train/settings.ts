import type { z } from 'zod';
import { UsageError } from '../base/errors.js';

/** Settings that people write, checked by a schema: what is wrong with them in lines that say where, and what was meant. */

/** Where in its text a field of a configuration stands, for messages. */
export type PlaceOf = (path: readonly PropertyKey[]) => string;

/** Reads settings of any schema and fills in its defaults. Throws `UsageError`, one line for each problem. */
export function parseSettings<T>(schema: z.ZodType<T>, given: unknown, placeOf: PlaceOf = () => 'settings:'): T {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const pathOf = (issue: Issue) => (issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path);
  const lines = result.error.issues.map((issue) => `${placeOf(pathOf(issue))} ${explain(issue, schema, given)}`);
  throw new UsageError(lines.join('\n'));
}

type Issue = z.core.$ZodIssue;

function explain(issue: Issue, schema: unknown, input: unknown): string {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys
      .map((key) => {
        const known = knownKeys(path, schema, input);
        const near = nearest(key, known);
        return `unknown key ${[...path, key].join('.')}${near ? `; did you mean ${[...path, near].join('.')}?` : known.length > 0 ? `; known are ${known.join(', ')}` : ''}`;
      })
      .join('; ');
  }
  const where = path.join('.') || 'it';
  const choices = choicesOf(issue);
  if (choices.length > 0) {
    const given = path.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], input);
    const near = given === undefined ? undefined : nearest(String(given), choices);
    const what = given === undefined ? 'is missing' : `${JSON.stringify(given)} is not known`;
    return `${where}: ${what}; ${near ? `did you mean ${near}? (` : ''}known are ${choices.join(', ')}${near ? ')' : ''}`;
  }
  return `${where}: ${issue.message.replace(/^Invalid input: /, '')}`;
}

/** The values that a field with a choice of them may have. */
function choicesOf(issue: Issue): string[] {
  if (issue.code === 'invalid_value') return issue.values.map(String);
  const { options } = issue as { readonly options?: readonly unknown[] };
  return issue.code === 'invalid_union' && options ? options.map(String) : [];
}

/** Keys that the schema has at a path, following the branch that the input's discriminator chooses. */
function knownKeys(path: readonly string[], whole: unknown, input: unknown): string[] {
  let value: unknown = input;
  const unwrap = (s: unknown): unknown => {
    let current = s as { def?: { innerType?: unknown; options?: unknown[]; discriminator?: string } };
    while (current?.def?.innerType) current = current.def.innerType as typeof current;
    if (current?.def?.options && current.def.discriminator) {
      const key = current.def.discriminator;
      const chosen = (value as Record<string, unknown> | undefined)?.[key];
      type Literal = { def: { values?: unknown[]; innerType?: { def: { values: unknown[] } } } };
      const options = current.def.options as { shape: Record<string, Literal> }[];
      const valuesOf = ({ def }: Literal): unknown[] => def.values ?? def.innerType?.def.values ?? [];
      return options.find((o) => valuesOf(o.shape[key]).includes(chosen)) ?? options[0];
    }
    return current;
  };
  let schema = unwrap(whole);
  for (const key of path) {
    value = (value as Record<string, unknown> | undefined)?.[key];
    const { shape, def } = schema as { shape?: Record<string, unknown>; def?: { element?: unknown } };
    schema = unwrap(def?.element ?? shape?.[key]);
  }
  return Object.keys((schema as { shape?: object })?.shape ?? {});
}

/** The candidate that is fewest edits away, if that is close. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const scored = candidates.map((candidate) => ({
    candidate,
    distance: editDistance(word.toLowerCase(), candidate.toLowerCase()),
  }));
  scored.sort((a, b) => a.distance - b.distance);
  const best = scored[0];
  return best && best.distance <= Math.max(2, Math.floor(word.length / 3)) ? best.candidate : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
