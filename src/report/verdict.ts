import type { Diagnosis, Verdict } from '../eval/collapse.js';

export type Severity = 'good' | 'doubtful' | 'bad';

const SEVERITIES: Record<Verdict, Severity> = {
  healthy: 'good',
  'low rank': 'doubtful',
  'blind prediction': 'doubtful',
  'dimensional collapse': 'bad',
  'complete collapse': 'bad',
  'not finite': 'bad',
};

/** How a verdict is shown: mark and colour on the page and on a terminal. */
export function severityOf({ verdict }: Diagnosis): Severity {
  return SEVERITIES[verdict];
}
