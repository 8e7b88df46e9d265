import { smallIjepa } from '../browser/recipe.js';
import { trainRecipe } from '../browser/train.js';

// In a process of its own: see `webgpuEnvironment`.
process.stdout.write(JSON.stringify(await trainRecipe(smallIjepa(10), 'webgpu')));
