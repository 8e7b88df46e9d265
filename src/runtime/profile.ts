import type { Profile } from './program.js';

/** An event of ONNX Runtime's profile (Chrome trace format). */
interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

/** Sums kernel times by scope (two levels) and by operator, per run. `runs` counts runs over all files. */
export function mergeProfiles(files: readonly unknown[], scopes: ReadonlyMap<string, string>, runs: number): Profile {
  const byScope = new Map<string, number>();
  const byOperator = new Map<string, { milliseconds: number; calls: number }>();
  let total = 0;
  for (const events of files as TraceEvent[][]) {
    for (const event of events) {
      if (event.cat !== 'Node' || !event.name.endsWith('_kernel_time')) continue;
      const milliseconds = event.dur / 1000 / runs;
      const scope = scopes.get(event.name.replace(/_kernel_time$/, '')) ?? '';
      const name = scope === '' ? '(other)' : scope;
      const operator = event.args?.op_name ?? 'unknown';
      total += milliseconds;
      byScope.set(name, (byScope.get(name) ?? 0) + milliseconds);
      const entry = byOperator.get(operator) ?? { milliseconds: 0, calls: 0 };
      byOperator.set(operator, { milliseconds: entry.milliseconds + milliseconds, calls: entry.calls + 1 / runs });
    }
  }
  return {
    total,
    scopes: [...byScope]
      .map(([name, milliseconds]) => ({ name, milliseconds }))
      .sort((a, b) => b.milliseconds - a.milliseconds),
    operators: [...byOperator]
      .map(([name, entry]) => ({ name, ...entry }))
      .sort((a, b) => b.milliseconds - a.milliseconds),
  };
}
