import { JepaError, UsageError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import type { Dataset } from '../data/dataset.js';
import { type Batch, createLoader, type Loader } from '../data/loader.js';
import { wordsOf } from '../data/modality.js';
import { type Diagnosis, diagnose } from '../eval/collapse.js';
import { rankme } from '../eval/spectrum.js';
import { featureStd } from '../eval/spread.js';
import type { Tensor } from '../graph/tensor.js';
import { type Method, modulesOf, startingValues } from '../methods/method.js';
import { tensorsOf } from '../nn/weights.js';
import { adamw } from '../optim/adam.js';
import { decayGroups } from '../optim/groups.js';
import {
  cosineMomentum,
  cosineWeightDecay,
  linearMomentum,
  type Schedule,
  warmupConstant,
  warmupCosine,
  warmupStableDecay,
} from '../optim/schedules.js';
import { createEngine, type Engine, type Program, type State } from '../runtime/index.js';
import { buildMethod, trainingPreparations } from './build.js';
import type { Checkpoint } from './checkpoint.js';
import type { Config } from './config.js';
import { type DataFacts, dataFacts, type VideoEncoder } from './facts.js';
import { encoderProgram, encodeSamples, fixedSamples, onlineKnn, pairEnergies } from './measure.js';
import { remedyOf } from './remedy.js';

/** What is known after a step. */
export interface StepInfo {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly loss: number;
  /** Parts of the loss, by name. */
  readonly scalars: Readonly<Record<string, number>>;
  readonly gradientNorm: number;
  readonly lr: number;
  readonly weightDecay: number;
  readonly momentum: number;
  readonly samplesPerSecond: number;
  /** Seconds of training so far, with loading and compiling. */
  readonly seconds: number;
  readonly etaSeconds: number;
}

/** A look at the representation. */
export interface DiagnosisInfo extends Diagnosis {
  readonly step: number;
  readonly featureStd: number;
  readonly rankme: number;
  readonly width: number;
  readonly meanCosine: number;
  /** Errors of prediction on a sample's own targets and on those of other samples; where a batch has several. */
  readonly energyMatched?: number;
  readonly energyShuffled?: number;
}

export interface TrainEvents {
  onStart?(info: {
    readonly step: number;
    readonly totalSteps: number | undefined;
    readonly distribution: string;
    readonly parameters: number;
  }): void;
  onStep?(info: StepInfo): void;
  onDiagnosis?(info: DiagnosisInfo): void;
  /** Accuracy of the online k-NN probe, per cent. */
  onProbe?(info: { readonly step: number; readonly knn: number }): void;
  onCheckpoint?(info: { readonly step: number; readonly folder: string }): void;
  /** Things worth telling that are no errors (a skipped file). */
  onNotice?(line: string): void;
}

/** Where a run keeps what it makes. */
export interface RunStore {
  /** Names the run in messages. */
  readonly name: string;
  /** Where to go on from. */
  readonly checkpoint?: Checkpoint;
  /** Numbers for the log, of one group ("train", "representation", "probe"). */
  record(step: number, group: string, values: Readonly<Record<string, number>>): void;
  /** Returns where the checkpoint lies. */
  save(checkpoint: Checkpoint): string;
  /** Says which checkpoint is the last. */
  lastGood(): string | undefined;
}

export interface LoopOptions {
  readonly config: Config;
  readonly dataset: Dataset;
  /** Held-out samples for the online probe; without labels there is none. */
  readonly heldOut?: Dataset;
  /** Without it nothing is kept but the state. */
  readonly store?: RunStore;
  /** Weights to begin with, by their names; those of other names begin at random. */
  readonly initial?: ReadonlyMap<string, HostTensor<'float32'>>;
  /** The frozen encoder of methods on one. */
  readonly encoder?: VideoEncoder;
  readonly events?: TrainEvents;
  /** Stops after the current step, saving it. */
  readonly signal?: AbortSignal;
  /** An engine to use (and leave open); by default one as the configuration says. */
  readonly engine?: Engine;
}

export interface TrainResult {
  readonly method: Method;
  readonly facts: DataFacts;
  readonly engine: Engine;
  readonly state: State;
  readonly steps: number;
  readonly seconds: number;
  readonly interrupted: boolean;
  readonly last: DiagnosisInfo | undefined;
  /** Ends the engine, unless it was given. */
  close(): Promise<void>;
}

/** The speed of a run given in minutes is known after so many steps and this share of its time: the first steps are slower. */
const CALIBRATION = { steps: 15, share: 0.08 };

/**
 * Trains a method on a data set, in Node or in a page. Throws `JepaError` for a loss that is not finite, after naming
 * where it arose.
 */
export async function trainLoop(options: LoopOptions): Promise<TrainResult> {
  const started = performance.now();
  const { config, dataset, store, events = {}, signal } = options;
  const { train: settings, optimizer } = config;
  const lengths = [settings.epochs, settings.steps, settings.minutes].filter((x) => x !== undefined);
  if (lengths.length !== 1) throw new UsageError('configuration: train needs exactly one of epochs, steps and minutes');
  const checkpoint = store?.checkpoint;
  if (dataset.length < settings.batchSize) {
    throw new UsageError(
      `${dataset.name}: a batch of ${settings.batchSize} is more than its ${dataset.length} ${wordsOf(dataset).many}; set train.batchSize=${dataset.length} or less`,
    );
  }

  const engine = options.engine ?? (await createEngine({ backend: settings.backend, workers: settings.workers }));
  const close = async (): Promise<void> => {
    if (!options.engine) await engine.close();
  };
  let loader: Loader | undefined;
  try {
    const facts = checkpoint?.meta.facts ?? (await dataFacts(config, dataset, options.encoder?.facts));
    const method = buildMethod(config, facts);
    if (checkpoint && (checkpoint.meta.workers !== engine.workers || checkpoint.meta.backend !== engine.backend)) {
      throw new UsageError(
        `${store?.name}: the run was started with ${checkpoint.meta.workers} workers on ${checkpoint.meta.backend}; with ${engine.workers} on ${engine.backend} sums differ in the last bit. Resume with train.workers=${checkpoint.meta.workers}`,
      );
    }
    const setup = await prepare(method, config, engine);
    const { state, program } = setup;
    if (checkpoint) {
      await state.write(checkpoint.weights);
      await program.writeSlots(checkpoint.slots);
    } else {
      await state.write(options.initial ? begunWith(setup.initial, options.initial) : setup.initial);
      await state.write(frozenWeights(method, options.encoder?.weights));
    }

    const memory = new Map<string, HostTensor<'float32'>>(
      Object.entries(method.memory ?? {}).map(([name, { input }]) => {
        const shape = input.shape as readonly number[];
        return [name, checkpoint?.memory.get(name) ?? float32(shape, new Float32Array(sizeOf(shape)))];
      }),
    );
    const preparations = trainingPreparations(config, facts, method.views.length);
    loader = await createLoader(dataset, {
      batchSize: settings.batchSize,
      seed: settings.seed,
      views: method.views.map((count, kind) => ({ count, ...preparations[kind] })),
      start: checkpoint?.meta.position,
      threads: config.data.threads,
      maxCorrupt: config.data.maxCorrupt,
      log: (line) => events.onNotice?.(line),
    });
    const updatesPerEpoch = loader.stepsPerEpoch / settings.accumulate;
    let totalSteps =
      checkpoint?.meta.totalSteps ??
      settings.steps ??
      (settings.epochs && Math.max(1, Math.floor(settings.epochs * updatesPerEpoch)));
    let step = checkpoint?.meta.step ?? 0;
    const before = checkpoint?.meta.seconds ?? 0;
    const elapsed = (): number => before + (performance.now() - started) / 1000;

    const save = async (): Promise<void> => {
      if (!store || !loader) return;
      const meta = {
        format: 1 as const,
        step,
        totalSteps: totalSteps ?? 0,
        position: loader.position,
        samples: dataset.length,
        workers: engine.workers,
        backend: engine.backend,
        seconds: elapsed(),
        config,
        facts,
      };
      const folder = store.save({ meta, weights: await state.read(), slots: await program.readSlots(), memory });
      events.onCheckpoint?.({ step, folder });
    };

    const fixed = await fixedSamples(dataset, method.encoder, config, facts, 512);
    const probe =
      options.heldOut?.labels && dataset.labels
        ? await onlineKnn(dataset, options.heldOut, method.encoder, config, facts)
        : undefined;
    const represent = await encoderProgram(engine, state, method.encoder);
    const look = async (energies?: Partial<DiagnosisInfo>): Promise<DiagnosisInfo> => {
      const rows = await encodeSamples(represent, fixed);
      const spread = featureStd(rows);
      const signs = {
        featureStd: spread.normalizedStdTimesSqrtD,
        rankme: rankme(rows).value,
        width: method.encoder.features,
        meanCosine: spread.meanCosine,
        ...energies,
      };
      return { step, ...signs, ...diagnose({ ...signs, samples: rows.shape[0] }, remedyOf(config.method)) };
    };
    let last: DiagnosisInfo | undefined;

    const atStart = checkpoint?.meta.samples ?? dataset.length;
    if (atStart !== dataset.length) {
      events.onNotice?.(
        `${dataset.name}: ${dataset.length} ${wordsOf(dataset).many}, ${atStart} when the run was started; they come in another order from here on`,
      );
    }
    events.onStart?.({ step, totalSteps, distribution: program.distribution, parameters: setup.parameters });
    const random = createRandom(settings.seed, 'steps');
    let interrupted = false;
    let speed = 0;
    const recent: number[] = [];

    while (totalSteps === undefined || step < totalSteps) {
      if (signal?.aborted) {
        interrupted = true;
        break;
      }
      // The length of a run given in minutes is settled once its speed is known; from then on it is a run of so many steps.
      const minutes = (settings.minutes ?? 0) * 60;
      if (totalSteps === undefined && step >= CALIBRATION.steps && elapsed() >= CALIBRATION.share * minutes) {
        const perStep = [...recent].sort((x, y) => x - y)[recent.length >> 1];
        totalSteps = step + Math.max(1, Math.floor((minutes - elapsed()) / (perStep * SLOWDOWN)));
        await save();
      }
      const schedule = schedules(config, totalSteps ?? PROVISIONAL_STEPS);
      const hyper = { lr: schedule.lr(step + 1), weightDecay: schedule.weightDecay(step + 1) };
      const momentum = schedule.momentum(step);
      const stepStart = performance.now();
      const update = {
        step: step + 1,
        groups: [hyper, { lr: hyper.lr, weightDecay: 0 }],
        momentum: method.followers.length > 0 ? momentum : 1,
        ...(optimizer.clip > 0 ? { clipNorm: optimizer.clip } : {}),
      };
      const stepRandom = random.split(step);
      let loss = 0;
      let epoch = 0;
      let gradientNorm = Number.NaN;
      const scalars: Record<string, number> = {};
      let lastFeeds: Parameters<Program['run']>[0] = {};
      for (let part = 0; part < settings.accumulate; part++) {
        const batch = (await loader.next()) as Batch;
        const own = settings.accumulate === 1 ? stepRandom : stepRandom.split(part);
        const progress = totalSteps === undefined ? elapsed() / minutes : step / totalSteps;
        lastFeeds = { ...method.feeds(batch, own, progress), ...Object.fromEntries(memory) };
        const result = await program.run(lastFeeds, update, { index: part, count: settings.accumulate });
        loss += Number(result.outputs.loss.data[0]) / settings.accumulate;
        for (const name of Object.keys(method.scalars)) {
          scalars[name] = (scalars[name] ?? 0) + Number(result.outputs[name].data[0]) / settings.accumulate;
        }
        for (const name of part === settings.accumulate - 1 ? memory.keys() : []) {
          memory.set(name, result.outputs[`${MEMORY}${name}`] as HostTensor<'float32'>);
        }
        gradientNorm = result.gradientNorm;
        if (!result.finite || !Number.isFinite(loss))
          await failNonFinite(program, lastFeeds, step + 1, Number.isFinite(loss), store);
        epoch = batch.epoch;
        loader.recycle(batch);
      }
      step++;
      const took = (performance.now() - stepStart) / 1000;
      recent.push(took);
      if (recent.length > 50) recent.shift();
      speed = (settings.batchSize * settings.accumulate * recent.length) / recent.reduce((a, b) => a + b, 0);
      const left =
        totalSteps === undefined
          ? (settings.minutes as number) * 60 - elapsed()
          : ((totalSteps - step) * recent.reduce((a, b) => a + b, 0)) / recent.length;
      const info: StepInfo = {
        step,
        totalSteps: totalSteps ?? 0,
        epoch,
        loss,
        scalars,
        gradientNorm,
        ...hyper,
        momentum,
        samplesPerSecond: speed,
        seconds: elapsed(),
        etaSeconds: Math.max(0, left),
      };
      store?.record(step, 'train', {
        loss,
        ...scalars,
        gradientNorm,
        ...hyper,
        ...(method.followers.length > 0 ? { momentum } : {}),
        samplesPerSecond: speed,
        seconds: info.seconds,
      });
      events.onStep?.(info);

      const atEnd = step === totalSteps;
      if (step % settings.diagnoseEvery === 0 || atEnd) {
        const energies = await pairEnergies(setup.pair, lastFeeds, createRandom(settings.seed, 'shuffle', step));
        last = await look(energies);
        const { featureStd, rankme, meanCosine } = last;
        store?.record(step, 'representation', { featureStd, rankme, meanCosine, ...energies });
        events.onDiagnosis?.(last);
      }
      if (probe && (step % settings.probeEvery === 0 || atEnd)) {
        const knn = await probe(represent);
        store?.record(step, 'probe', { knn });
        events.onProbe?.({ step, knn });
      }
      if (step % settings.checkpointEvery === 0 || atEnd) await save();
    }
    if (interrupted) await save();
    else last ??= await look(); // of a run that was at its end already
    await loader.close();
    await setup.pair.close();
    await represent.close();
    await program.close();
    return { method, facts, engine, state, steps: step, seconds: elapsed(), interrupted, last, close };
  } catch (error) {
    await loader?.close();
    await close();
    throw error;
  }
}

/** Initial values, of which some are given. Throws a `JepaError` where none fits, or one has another shape. */
function begunWith(
  initial: ReadonlyMap<string, HostTensor<'float32'>>,
  given: ReadonlyMap<string, HostTensor<'float32'>>,
): Map<string, HostTensor<'float32'>> {
  let found = 0;
  const values = Array.from(initial, ([name, value]): [string, HostTensor<'float32'>] => {
    const other = given.get(name);
    if (!other) return [name, value];
    if (other.shape.join() !== value.shape.join()) {
      throw new JepaError(
        `train.from: ${name} has shape [${other.shape.join(', ')}] there and [${value.shape.join(', ')}] here; use the same encoder and predictor`,
      );
    }
    found++;
    return [name, other];
  });
  if (found === 0) throw new JepaError('train.from: that run has none of the weights of this method');
  return new Map(values);
}

/** The given weights of frozen modules. Throws a `JepaError` where one is missing or has another shape. */
function frozenWeights(
  { name, frozen = [] }: Method,
  given: VideoEncoder['weights'] = new Map(),
): Map<string, HostTensor<'float32'>> {
  const values = new Map<string, HostTensor<'float32'>>();
  for (const { prefix, spec } of frozen) {
    for (const [key, { shape }] of spec) {
      const value = given.get(key);
      if (value?.shape.join() !== shape.join()) {
        throw new JepaError(
          `${name}: its frozen encoder needs ${prefix}${key} [${shape}]; ${value ? `[${value.shape}] is given` : 'it is not given'}`,
        );
      }
      values.set(`${prefix}${key}`, value);
    }
  }
  return values;
}

/** Before the names of outputs that are fed to the next step. */
const MEMORY = 'memory/';

/** What diagnoses, probes and checkpoints cost, as a factor on the bare time of a step. */
const SLOWDOWN = 1.06;
/** Length that the schedules assume until a run given in minutes knows its own. */
const PROVISIONAL_STEPS = 5000;

/** Learning rate and weight decay of step s = 1, 2, ...; momentum of update i = 0, 1, ... (I-JEPA, `train.py`). */
export function schedules({ optimizer: o }: Config, steps: number) {
  const totalSteps = Math.max(1, Math.trunc(steps * o.stretch));
  const warmupSteps = Math.trunc(o.warmup * steps);
  const rates = { startLr: o.startLr, refLr: o.lr, warmupSteps, totalSteps };
  const lr: Record<typeof o.schedule, () => Schedule> = {
    cosine: () => warmupCosine({ ...rates, finalLr: o.finalLr }),
    constant: () => warmupConstant(rates),
    stable: () => warmupStableDecay({ ...rates, finalLr: o.finalLr, annealSteps: Math.trunc(o.anneal * steps) }),
    linear: () => warmupStableDecay({ ...rates, finalLr: o.finalLr, annealSteps: totalSteps - warmupSteps }),
  };
  const momentum = { start: o.momentum[0], end: o.momentum[1] };
  return {
    lr: lr[o.schedule](),
    weightDecay: cosineWeightDecay({ refWd: o.weightDecay, finalWd: o.finalWeightDecay, totalSteps }),
    momentum:
      o.momentumSchedule === 'linear'
        ? linearMomentum({ ...momentum, updates: totalSteps })
        : cosineMomentum({ ...momentum, epochs: totalSteps, iterationsPerEpoch: 1 }),
  };
}

async function failNonFinite(
  program: Program,
  feeds: Parameters<Program['run']>[0],
  step: number,
  lossFinite: boolean,
  store: RunStore | undefined,
): Promise<never> {
  const where = await program.locateNonFinite(feeds);
  const saved = store?.lastGood();
  throw new JepaError(
    `training stopped at step ${step}: the ${lossFinite ? 'gradient' : 'loss'} is not finite, first in ${where}. ` +
      `${saved === undefined ? 'There is no checkpoint yet.' : `The last good checkpoint is ${saved}.`} Try a lower optimizer.lr or optimizer.clip=1`,
  );
}

/** State and programs of a training run; `initial` is to be written to the state. Parameters lie in memory as the update likes it: groups, then their followers. */
export async function prepare(method: Method, config: Config, engine: Engine) {
  const { decay, noDecay } = decayGroups(method.trained);
  const ordered = [...decay, ...noDecay];
  const followerOf = new Map<Tensor, Tensor>();
  for (const { module, online } of method.followers) {
    for (const [name, tensor] of online.tensors) {
      const follower = module.tensors.get(name);
      if (follower && ordered.includes(tensor)) followerOf.set(tensor, follower);
    }
  }
  const everything = [...ordered, ...ordered.flatMap((t) => followerOf.get(t) ?? []), ...tensorsOf(modulesOf(method))];
  const state = await engine.createState([...new Set(everything)]);
  const initial = startingValues(method, createRandom(config.train.seed, 'weights'));
  const remembered = Object.fromEntries(
    Object.entries(method.memory ?? {}).map(([name, { next }]) => [`${MEMORY}${name}`, next]),
  );
  const { betas, eps } = config.optimizer;
  const program = await engine.compile(
    {
      name: `${method.name} step`,
      outputs: { loss: method.loss, ...method.scalars, ...remembered },
      update: {
        loss: method.loss,
        rule: adamw({ betas, eps }),
        groups: [decay, noDecay],
        followers: [...followerOf].map(([online, target]) => ({ online, target })),
      },
    },
    state,
  );
  const pair = await engine.compile({ name: `${method.name} pairs`, outputs: method.pair }, state);
  const parameters = ordered.reduce((sum, t) => sum + (t.shape as number[]).reduce((a, b) => a * b, 1), 0);
  return { state, program, pair, initial, parameters };
}
