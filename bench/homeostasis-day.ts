import { fixedConfigurator } from '../src/agent/configurator.js';
import { drift, followNeeds, live, planner } from './homeostasis.js';

/** A long day in the world of two needs: mean violation of needs a step, and steps in the pit. Usage: [steps] */
const steps = Number(process.argv[2] ?? 2000);
const ways = {
  'needs and plans': (seed: number) => live(followNeeds(), planner(seed), steps, seed),
  'plans, fixed weights': (seed: number) => live(fixedConfigurator({ reason: 'fixed' }), planner(seed), steps, seed),
  'needs, one step ahead': (seed: number) => {
    const needs = followNeeds();
    return live({ configure: (s) => ({ ...needs.configure(s), horizon: 1 }) }, planner(seed), steps, seed);
  },
  random: (seed: number) => live(fixedConfigurator({ reason: 'none', horizon: 1 }), drift(seed), steps, seed),
};
for (const [name, way] of Object.entries(ways)) {
  const runs = [];
  for (const seed of [1, 2, 3]) runs.push(await way(seed));
  const values = runs.map(({ violation }) => violation);
  const mean = values.reduce((a, b) => a + b, 0) / 3;
  const error = Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / 6);
  const fallen = runs.reduce((a, { fallen }) => a + fallen, 0);
  console.log(`${name.padEnd(22)} violation ${mean.toFixed(4)} ± ${error.toFixed(4)}   steps in the pit ${fallen}`);
}
