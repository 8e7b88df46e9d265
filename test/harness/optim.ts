import * as schedules from '../../src/optim/schedules.js';
import { attempt, difference, type GoldenResult, type Harness, readCases } from './harness.js';

interface ScheduleCase {
  name: string;
  kind: string;
  attrs: Record<string, unknown>;
  rtol: number;
  firstStep?: number;
  steps?: number[];
  values: number[];
}

type RunLength = Parameters<typeof schedules.scheduleSteps>[0];

/** Every kind of schedules.json; its attributes have the names of the function's own. */
const SCHEDULES: Record<string, (attrs: never) => schedules.Schedule> = {
  'warmup-cosine': schedules.warmupCosine,
  'cosine-weight-decay': schedules.cosineWeightDecay,
  'linear-momentum': (a: RunLength & { start: number; end: number }) =>
    schedules.linearMomentum({ ...a, updates: a.iterationsPerEpoch * a.epochs * a.ipeScale }),
  'warmup-stable-decay': (a: Parameters<typeof schedules.warmupStableDecay>[0] & { lrScale?: number }) => {
    const schedule = schedules.warmupStableDecay(a);
    return (step) => (a.lrScale ?? 1) * schedule(step);
  },
  'linear-decay': schedules.linearDecay,
  'linear-warmup-cosine-min': schedules.linearWarmupCosineMin,
  'epoch-warmup-cosine': schedules.epochWarmupCosine,
  'epoch-warmup-cosine-lagged': schedules.epochWarmupCosineLagged,
  'half-cycle-cosine': schedules.halfCycleCosine,
  'cosine-momentum': schedules.cosineMomentum,
  'warmup-cosine-fraction': schedules.warmupCosineFraction,
  'linspace-warmup-cosine': schedules.linspaceWarmupCosine,
  'linspace-constant': schedules.linspaceConstant,
  'cosine-inclusive': schedules.cosineInclusive,
  'warmup-cosine-inclusive': schedules.warmupCosineInclusive,
  'linear-momentum-ramp': schedules.linearMomentumRamp,
  'step-decay': schedules.stepDecay,
  'multi-step-decay': schedules.multiStepDecay,
  'one-cycle': schedules.oneCycle,
  'one-cycle-momentum': schedules.oneCycleMomentum,
  'cosine-restarts': schedules.cosineRestarts,
};

async function* checkSchedules(folder: string): AsyncIterable<GoldenResult> {
  for (const record of readCases<{ schedules: ScheduleCase[] }>(folder, 'schedules.json').schedules) {
    yield attempt(record.name, () => {
      const build = SCHEDULES[record.kind];
      if (!build) return [`unknown schedule kind ${record.kind}`];
      const { attrs, values, rtol } = record;
      const schedule = build(attrs as never);
      const steps = record.steps ?? values.map((_, i) => record.firstStep! + i);
      // The two lists computed in float32 by the reference have a tolerance of 1e-6, and 1e-7 absolute (README).
      const tolerance = { rtol, atol: rtol === 1e-6 ? 1e-7 : 0 };
      const failures = [
        difference(
          'value',
          { shape: [steps.length], data: steps.map(schedule) },
          { shape: [values.length], data: values },
          tolerance,
        ),
      ];
      if ('ipeScale' in attrs) {
        const { warmupSteps, totalSteps } = schedules.scheduleSteps(attrs as unknown as RunLength);
        if (warmupSteps !== attrs.warmupSteps)
          failures.push(`warm-up of ${warmupSteps} steps instead of ${attrs.warmupSteps}`);
        if (totalSteps !== attrs.totalSteps)
          failures.push(`total of ${totalSteps} steps instead of ${attrs.totalSteps}`);
      }
      return failures;
    });
  }
}

const harness: Harness = async function* (folder) {
  yield* checkSchedules(folder);
};

export default harness;
