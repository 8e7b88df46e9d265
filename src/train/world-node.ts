import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { JepaError, UsageError } from '../base/errors.js';
import type { Scaling } from '../data/episodes/scaling.js';
import { type AcMethod, isActionConditioned } from '../methods/vjepa2-ac.js';
import type { Engine } from '../runtime/index.js';
import { acOutline, acStates, learnPoses } from '../world/ac-states.js';
import { usualBehaviour } from '../world/collect.js';
import { worldEpisodes } from '../world/episodes.js';
import {
  type LatentModel,
  type LatentOutline,
  type LatentWorld,
  openLatentWorld,
  worldModelOutline,
  worldModelStates,
} from '../world/latent.js';
import { isWorldModel } from '../world/world-model.js';
import { buildMethod, scalingOf } from './build.js';
import { latestCheckpoint, loadCheckpoint } from './checkpoint.js';
import type { Config } from './config.js';
import { FITTED_SEED, HELD_SEED } from './episodes-node.js';
import type { DataFacts } from './facts.js';
import { installMethod } from './frozen.js';

/** A trained model that actions are planned with, opened from the folder of its run. */
export interface WorldRun {
  readonly folder: string;
  readonly config: Config;
  readonly facts: DataFacts;
  readonly step: number;
  readonly outline: LatentOutline;
  readonly scaling: Scaling;
  /** For a world by name; models that are told poses learn there how these follow from actions. */
  open(engine: Engine, env: string): Promise<LatentWorld>;
}

/** Opens a run or its `checkpoint` folder. Throws a `JepaError` where there is none, or where it knows no actions. */
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
  if (!isWorldModel(method) && !isActionConditioned(method))
    throw new UsageError(
      `${path}: this is a run of ${method.name}; plans need a model that knows actions: jepa train two-rooms`,
    );
  const { config, facts, step } = meta;
  const scaling = scalingOf(config, facts);
  return {
    folder: path,
    config,
    facts,
    step,
    outline: isWorldModel(method) ? worldModelOutline(method) : acOutline(method),
    scaling,
    async open(engine, env) {
      const model = isWorldModel(method) ? worldModelStates(method) : await knowingPoses(method, facts, env);
      return openLatentWorld(engine, await installMethod(engine, method, weights), model, scaling);
    },
  };
}

/** Episodes that tell how poses follow from actions, for learning and held out, and their actions. */
const [LEARNED, HELD, STEPS] = [1024, 256, 90];

async function knowingPoses(method: AcMethod, { episodes }: DataFacts, env: string): Promise<LatentModel> {
  const scale = episodes?.told;
  if (!scale) return acStates(method);
  const { frames } = method.config;
  const of = (count: number, seed: number) =>
    worldEpisodes({
      ...{ world: env, behaviour: usualBehaviour(env), count, seed, observe: 'states', frames, moments: 0 },
      steps: Math.max(STEPS, frames - 1),
    });
  return acStates(method, {
    scale,
    after: await learnPoses(of(LEARNED, FITTED_SEED), of(HELD, HELD_SEED), scale),
  });
}
