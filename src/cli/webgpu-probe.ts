import { parameter } from '../graph/tensor.js';
import { createEngine } from '../runtime/index.js';

// Ends with status 0 where WebGPU works. A process of its own, because a missing adapter can abort the process.
const engine = await createEngine({ backend: 'webgpu' });
const state = await engine.createState([parameter('w', [4])]);
const value = (await state.read()).get('w');
await engine.close();
process.exitCode = value?.data.length === 4 ? 0 : 1;
