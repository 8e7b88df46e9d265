import { createEngine } from '../../src/browser.js';
import type { Backend } from '../../src/graph/index.js';
import { adamw } from '../../src/optim/adam.js';
import { CASES, initial } from '../runtime/programs.js';

/** Ten steps of a small transformer. The same function runs in Node and in the page. */
export async function train(backend: Backend): Promise<{ losses: number[]; features: number[]; isolated: boolean }> {
  const engine = await createEngine({ backend });
  const { parameters: declare, loss: graph, feeds } = CASES.transformer;
  const parameters = declare();
  const loss = graph(parameters);
  const state = await engine.createState(parameters);
  await state.write(initial(parameters));
  const update = { loss, rule: adamw(), groups: [parameters], followers: [] };
  const program = await engine.compile({ name: 'transformer', outputs: { loss }, update }, state);
  const losses: number[] = [];
  for (let step = 1; step <= 10; step++) {
    const { outputs } = await program.run(feeds(16, step), {
      step,
      groups: [{ lr: 0.01, weightDecay: 0.05 }],
      momentum: 1,
    });
    losses.push(Number(outputs.loss.data[0]));
  }
  const values = await state.read(['norm']);
  await engine.close();
  return {
    losses,
    features: Array.from(values.get('norm')?.data ?? []),
    isolated: globalThis.crossOriginIsolated === true,
  };
}

/** The message of what a run with a missing input throws, to see that errors cross from the worker and stay one line. */
export async function mistake(backend: Backend): Promise<string> {
  const engine = await createEngine({ backend });
  const { parameters: declare, loss: graph } = CASES.mean;
  const parameters = declare();
  const state = await engine.createState(parameters);
  const program = await engine.compile({ name: 'mistake', outputs: { loss: graph(parameters) } }, state);
  const message = await program.run({}).then(
    () => 'nothing was thrown',
    (error: Error) => `${error.name}: ${error.message}`,
  );
  await engine.close();
  return message;
}
