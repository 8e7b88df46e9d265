import { parameter } from '../../src/graph/index.js';
import { WEBGPU } from './targets.js';

// Ends with status 0 where WebGPU works.
const engine = await WEBGPU.start();
const state = await engine.createState([parameter('w', [4])]);
const value = (await state.read()).get('w');
await engine.close();
process.exitCode = value?.data.length === 4 ? 0 : 1;
