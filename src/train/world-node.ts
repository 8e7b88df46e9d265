import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { JepaError, UsageError } from '../base/errors.js';
import type { Scaling } from '../data/episodes/scaling.js';
import type { Engine } from '../runtime/index.js';
import { type LatentWorld, openLatentWorld } from '../world/latent.js';
import { isWorldModel, type WorldModelMethod } from '../world/world-model.js';
import { buildMethod, scalingOf } from './build.js';
import { latestCheckpoint, loadCheckpoint } from './checkpoint.js';
import type { Config } from './config.js';
import type { DataFacts } from './facts.js';

/** A trained world model, opened from the folder of its run. */
export interface WorldRun {
  readonly folder: string;
  readonly config: Config;
  readonly facts: DataFacts;
  readonly step: number;
  readonly method: WorldModelMethod;
  readonly scaling: Scaling;
  open(engine: Engine): Promise<LatentWorld>;
}

/** Opens a run or its `checkpoint` folder. Throws a `JepaError` where there is none, or where it is none of a world model. */
export function openWorldRun(path: string): WorldRun {
  const folder = [path, join(path, 'checkpoint')].find(
    (each) => existsSync(each) && latestCheckpoint(each) !== undefined,
  );
  if (folder === undefined)
    throw new JepaError(
      `${path}: no run here (looked for checkpoint/state-<step>.json); train one with: jepa train two-rooms`,
    );
  const { meta, weights } = loadCheckpoint(folder);
  const method = buildMethod(meta.config, meta.facts);
  if (!isWorldModel(method))
    throw new UsageError(
      `${path}: this is a run of ${method.name}; plans need a world model, whose states are vectors: jepa train two-rooms`,
    );
  const { config, facts, step } = meta;
  const scaling = scalingOf(config, facts);
  return {
    folder: path,
    config,
    facts,
    step,
    method,
    scaling,
    async open(engine) {
      const parameters = method.trained.flatMap(({ tensors }) => [...tensors.values()]);
      return openLatentWorld(engine, await engine.createState(parameters, weights), method, scaling);
    },
  };
}
