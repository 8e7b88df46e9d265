import { z } from 'zod';
import type { Life } from '../agent/life.js';
import { dayLife } from '../agent/lives/day.js';
import { shiftLife } from '../agent/lives/shift.js';
import { skillLife } from '../agent/lives/skill.js';
import { UsageError } from '../base/errors.js';
import { parseSettings } from '../train/settings.js';

/** What a recipe of an agent says, every field with its default. */

const whole = z.number().int().positive();
const positive = z.number().positive();
const share = z.number().min(0).max(1);
const spot = z.tuple([z.number(), z.number()]);

const planner = (horizon: number, samples: number) =>
  z
    .strictObject({
      horizon: whole.default(horizon),
      samples: whole.default(samples),
      elites: whole.min(2).default(5),
      iterations: whole.default(3),
    })
    .prefault({});
const habit = (width: number, known: number, cost: number, capacity: number) =>
  z.strictObject({
    known: share.default(known),
    surprise: positive.default(1),
    cost: z.number().min(0).default(cost),
    width: positive.default(width),
    capacity: whole.default(capacity),
  });

const day = z.strictObject({
  life: z.literal('day'),
  world: z
    .strictObject({
      size: positive.default(10),
      food: spot.default([2, 2]),
      water: spot.default([8, 8]),
      pit: z.strictObject({ at: spot.default([5, 5]), radius: positive.default(2) }).prefault({}),
      loss: z.tuple([positive, positive]).default([0.02, 0.03]),
      gain: positive.default(0.3),
      slip: z.number().min(0).max(0.3).default(0.1),
      round: z.number().int().min(0).default(400),
      day: z.strictObject({ steps: whole.default(200), night: share.default(0.6) }).prefault({}),
    })
    .prefault({}),
  senses: z
    .strictObject({
      silent: z.number().min(0).max(0.9).default(0.3),
      eyes: positive.default(0.2),
      feet: positive.default(0.5),
      nose: positive.default(0.4),
      body: positive.default(0.01),
    })
    .prefault({}),
  parts: z
    .strictObject({ play: whole.default(100), practice: whole.default(400), steps: whole.default(2000) })
    .prefault({}),
  content: share.default(0.5),
  planner: planner(6, 32),
  critic: z
    .strictObject({ gamma: share.default(0.9), steps: whole.default(20), every: whole.default(100) })
    .prefault({}),
  needs: z.strictObject({ margin: z.number().min(0).default(0.2), pull: z.number().min(0).default(0.05) }).prefault({}),
  habit: habit(0.6, 0.8, 0.02, 1500).prefault({}),
});

const skill = z.strictObject({
  life: z.literal('skill'),
  rooms: z
    .strictObject({
      wall: z.number().min(20).max(44).default(32),
      door: z.number().min(10).max(54).default(18),
      home: spot.default([48, 44]),
    })
    .prefault({}),
  watch: z
    .strictObject({
      clips: whole.default(250),
      frames: whole.min(3).default(32),
      steps: whole.default(2000),
      width: whole.default(16),
    })
    .prefault({}),
  move: z.strictObject({ steps: whole.default(2000), updates: whole.default(500) }).prefault({}),
  act: z.strictObject({ steps: whole.min(1200).default(12000), updates: whole.default(10000) }).prefault({}),
  practice: z.strictObject({ episodes: whole.default(100) }).prefault({}),
  rehearsal: z.strictObject({ episodes: whole.default(100) }).prefault({}),
  exam: z.strictObject({ episodes: whole.default(50) }).prefault({}),
  steps: whole.default(40),
  planner: planner(8, 64),
  critic: z
    .strictObject({
      gamma: share.default(0.97),
      steps: whole.default(25),
      every: whole.default(400),
      memory: whole.default(8000),
      centres: whole.default(200),
    })
    .prefault({}),
  habit: habit(0.45, 0.5, 100, 4000).prefault({}),
});

const layout = (wall: number, door: number) =>
  z
    .strictObject({ wall: z.number().min(20).max(44).default(wall), door: z.number().min(10).max(54).default(door) })
    .prefault({});

const shift = z.strictObject({
  life: z.literal('shift'),
  rooms: z.strictObject({ before: layout(32, 18), after: layout(24, 46) }).prefault({}),
  gain: z.number().min(-2).max(2).default(-1),
  slip: z.number().min(0).max(1).default(0.1),
  parts: z
    .strictObject({
      play: whole.default(60),
      practice: whole.default(300),
      before: whole.default(600),
      after: whole.default(1000),
    })
    .prefault({}),
  planner: planner(3, 48),
  habit: habit(0.3, 0.5, 1, 40)
    .extend({ promise: z.number().default(2) })
    .prefault({}),
});

export type AgentConfig = z.infer<typeof day> | z.infer<typeof skill> | z.infer<typeof shift>;

/** Checks an agent's recipe, as `parseConfig` checks those of training. */
export const parseAgentConfig = (given: unknown, placeOf?: (keys: readonly PropertyKey[]) => string): AgentConfig =>
  parseSettings(z.discriminatedUnion('life', [day, skill, shift]), given, placeOf);

/** The life that a recipe describes. */
export function lifeOf(config: AgentConfig): Life {
  if (config.life === 'day') return dayLife(config);
  return config.life === 'skill' ? skillLife(config) : shiftLife(config);
}

/** `--steps` and `--episodes` as settings: of days, an episode is a day; a world that shifts has none. */
export function lengthSettings(life: AgentConfig, steps?: number, episodes?: number): string[] {
  if (life.life === 'skill')
    return [
      ...(steps === undefined ? [] : [`steps=${steps}`]),
      ...(episodes === undefined ? [] : [`exam.episodes=${episodes}`]),
    ];
  if (life.life === 'shift') {
    if (episodes !== undefined)
      throw new UsageError('--episodes: a world that shifts has none; say with --steps how long it is lived in');
    return steps === undefined ? [] : [`parts.after=${steps}`];
  }
  const all = steps ?? (episodes === undefined ? undefined : episodes * life.world.day.steps);
  return all === undefined ? [] : [`parts.steps=${all}`];
}
