#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { fileError } from '../base/atomic.js';
import { JepaError, UsageError } from '../base/errors.js';
import { leaveOnInterrupt } from './interrupt.js';
import { packageVersion, recipeNames, recipesFolder } from './package-files.js';

/**
 * The `jepa` command. This file only says what there is: the code of a command is loaded when it runs, so that help is
 * there at once. Results go to stdout, progress and notices to stderr.
 * Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.
 */

const ENCODER = 'a run, a published model (folder, PyTorch checkpoint, safetensors, the name of an imported one)';
const JSON_OPTION = ['--json', 'print the result as JSON on stdout'] as const;

function whole(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be a whole number.');
  return value;
}

function count(text: string): number {
  if (whole(text) === 0) throw new InvalidArgumentError('It must be a whole number above 0.');
  return Number(text);
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0) || value === Number.POSITIVE_INFINITY) {
    throw new InvalidArgumentError('It must be a number above 0.');
  }
  return value;
}

/** Of published encoders of clips, whose positions fit every length. */
const clipOptions = (command: Command): Command =>
  command
    .option('--frames <number>', 'frames of a clip (default: as published; encoders with rotary positions)', count)
    .option('--frame-step <number>', 'frames of the video from one to the next (default: 4)', count);

function examples(...lines: readonly (readonly [command: string, what: string])[]): string {
  const width = Math.max(...lines.map(([command]) => command.length));
  return `\nExamples:\n${lines.map(([command, what]) => `  $ ${command.padEnd(width)}  # ${what}`).join('\n')}`;
}

/** Recipes (of agents, or the others) with the first line of what they say about themselves. */
function recipeList(agents = false): string {
  const names = recipeNames(agents);
  const width = Math.max(...names.map((name) => name.length));
  const about = (name: string) => /^# ?(.*)/.exec(readFileSync(`${recipesFolder()}/${name}.yaml`, 'utf8'))?.[1] ?? '';
  return `\nRecipes:\n${names.map((name) => `  ${name.padEnd(width)}  ${about(name)}`).join('\n')}`;
}

function program(): Command {
  const jepa = new Command('jepa');
  jepa
    .description(
      'Train, measure and use encoders of images, video, sound, motion and text that learn without labels (joint embedding predictive architectures).',
    )
    .exitOverride()
    .showHelpAfterError('(jepa --help lists commands, jepa <command> --help their options and examples)')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help on a command')
    .addHelpText(
      'after',
      `${examples(
        ['jepa quickstart', 'eight minutes: a trained encoder, its report, an ONNX file'],
        ['jepa train images data.source=photos/', 'an encoder of your own images'],
        ['jepa train vjepa', 'of clips; audio-jepa, s-jepa, text-jepa: of sound, skeletons, text'],
        ['jepa embed runs/photos new-photos/ -o new.npy', 'use what was learned'],
      )}\n\nExit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted. JEPA_DEBUG=1 prints stacks of errors.`,
    );

  jepa
    .command('quickstart')
    .description('train on letters that come with the package, probe the encoder, write a report (about eight minutes)')
    .argument('[overrides...]', 'settings of the recipe, as key=value')
    .option('-o, --out <folder>', 'where to write', 'runs/quickstart')
    .option('--minutes <number>', 'minutes of training (default: 3)', positive)
    .option('--seed <number>', 'seed of weights, order and augmentation (default: 0)', whole)
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      `${examples(['jepa quickstart', 'writes runs/quickstart/report.html'], ['jepa quickstart --minutes 30 --out runs/long', 'train for longer'])}\n
A run that was interrupted is gone on with; a finished one in the same folder is replaced.`,
    )
    .action(async (overrides: string[], options) => (await import('./quickstart.js')).quickstart(overrides, options));

  jepa
    .command('train')
    .description('train a recipe or a configuration of your own')
    .argument('<recipe>', 'name of a recipe, a YAML file, or the folder of a run (with --resume)')
    .argument('[overrides...]', 'settings that replace those of the recipe, as key=value')
    .option('-o, --out <folder>', 'where to write (default: runs/<recipe>-<time>)')
    .option('--resume', 'go on with the run in the folder, bit for bit as if it had not stopped')
    .option('--print-config', 'print the whole configuration, defaults included, and leave')
    .option('--no-probe', 'leave out probes, report and export at the end')
    .option(...JSON_OPTION)
    .addHelpText('after', () => recipeList())
    .addHelpText(
      'after',
      examples(
        ['jepa train ijepa', 'a recipe as it is'],
        ['jepa train images data.source=photos/', 'your own images'],
        ['jepa train ijepa method.regularizer.kind=vicreg train.minutes=10', 'other settings'],
        ['jepa train ijepa --print-config > mine.yaml', 'a configuration to edit'],
        ['jepa train mine.yaml --out runs/mine', 'and to train'],
        ['jepa train runs/mine --resume', 'after Ctrl-C or a power cut'],
      ),
    )
    .action(async (recipe: string, overrides: string[], options) =>
      (await import('./train.js')).train(recipe, overrides, options),
    );

  jepa
    .command('agent')
    .description('let an autonomous agent learn and live in a world: live view, floors beside it, a report to replay')
    .argument('<recipe>', 'name of an agent recipe, or a YAML file')
    .argument('[overrides...]', 'settings that replace those of the recipe, as key=value')
    .option('-o, --out <folder>', 'where to write (default: runs/<recipe>-<time>)')
    .option('--seed <number>', 'seed of everything (default: 0)', whole)
    .option('--seeds <list>', 'several lives, with means and standard errors, as 0,1,2')
    .option('--steps <number>', 'steps of the measured life, or of an episode', count)
    .option('--episodes <number>', 'measured episodes, or days', count)
    .option(...JSON_OPTION)
    .addHelpText('after', () => recipeList(true))
    .addHelpText(
      'after',
      examples(
        ['jepa agent agent-homeostasis', 'days with hunger, thirst and a pit to be left by night'],
        ['jepa agent agent-skill', 'from watching to a skill: see, move, act, plan, habit'],
        ['jepa agent agent-homeostasis --seeds 0,1,2 --steps 2000 --json', 'numbers, with floors'],
        ['jepa agent agent-homeostasis world.slip=0.2 senses.silent=0.5', 'a harder world'],
      ),
    )
    .action(async (recipe: string, overrides: string[], options) =>
      (await import('./agent.js')).agent(recipe, overrides, options),
    );

  jepa
    .command('collect')
    .description('run a behaviour in a world and keep what happened')
    .argument('<env>', 'two-rooms, wall, point-maze-u, push-t, pendulum, ... (all of them: docs/planning.md)')
    .requiredOption('-o, --out <file>', 'where to write: .npz, .h5 or .hdf5')
    .option('--episodes <number>', 'episodes', count, 100)
    .option('--steps <number>', 'actions of an episode', count, 90)
    .option('--behaviour <name>', 'random, held, greedy or walk (default: walk in two-rooms, else random)')
    .option('--factor <name=value...>', 'a property of the world, as "door half=2"; draw draws it for every episode')
    .option('--seed <number>', 'seed of layouts, starts and actions', whole, 0)
    .option('--no-pixels', 'leave the pictures out')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa collect two-rooms -o walks.npz', 'as the published data'],
        ['jepa collect push-t -o push.h5 --episodes 500 --steps 200', 'for h5py and others'],
        ['jepa train two-rooms data.source=walks.npz data.options=null', 'learn from them'],
      ),
    )
    .action(async (env: string, options) => (await import('./collect.js')).collect(env, options));

  jepa
    .command('plan')
    .description('reach goals in a world by planning with a trained model; against greedy and random actions')
    .argument('<run>', 'the run of a world model or of V-JEPA 2-AC, or its checkpoint folder')
    .option('--env <name>', 'the world (default: that of the training data)')
    .option('--episodes <number>', 'episodes, run side by side', count, 20)
    .option('--steps <number>', 'actions of an episode (default: as the world has it)', count)
    .option('--seed <number>', 'seed of layouts, starts, goals and searches', whole, 0)
    .addOption(
      new Option('--planner <name>', 'how plans are searched')
        .choices(['cem', 'icem', 'mppi', 'predictive', 'gradient'])
        .default('cem'),
    )
    .option('--horizon <number>', 'actions of a plan (default: 30, or as many as the model looks ahead)', count)
    .option('--samples <number>', 'plans of an iteration', count, 64)
    .option('--iterations <number>', 'iterations of a search', count, 6)
    .option('--elites <number>', 'plans that are kept (default: a tenth)', count)
    .option('--std <number>', 'spread of the first plans (default: five sixths of the longest action)', positive)
    .option('--limit <number>', 'longest action (default: that of the training data)', positive)
    .option('--repeat <number>', 'steps that every action of a plan is held for', count, 1)
    .option('--replan <number>', 'actions of a plan that are carried out before the next plan (default: 4)', count)
    .option('--no-warm-start', 'begin every search anew')
    .addOption(
      new Option(
        '--distance <name>',
        'what brings a plan closer (default: learned, where the model learned it)',
      ).choices(['latent', 'learned']),
    )
    .addOption(
      new Option('--cost <name>', 'of the last state, or summed (default: sum; last for V-JEPA 2-AC)').choices([
        'last',
        'sum',
      ]),
    )
    .option('--factor <name=value...>', 'a property of the world, as "door half=2"; draw draws it for every episode')
    .option(
      '--shifts <episodes>',
      'measure this many episodes more in every changed world (a property at an end)',
      count,
    )
    .option('--workers <number>', 'threads (default: one a core)', count)
    .option('-o, --out <folder>', 'where to write (default: plan-<env> in the run)')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa plan runs/two-rooms --episodes 100', 'success, floors, time, a report with the paths'],
        ['jepa plan runs/two-rooms --planner icem --horizon 15 --json', 'another search'],
        ['jepa plan runs/two-rooms --factor "door half=2"', 'in a world with a narrower door'],
        ['jepa plan runs/two-rooms --shifts 20', 'and what changes of the world it bears'],
        ['jepa plan runs/vjepa2-ac --episodes 20', 'pictures alone, on a frozen video encoder'],
      ),
    )
    .action(async (run: string, options) => (await import('./plan.js')).plan(run, options));

  clipOptions(jepa.command('probe'))
    .description('measure what a frozen encoder knows, beside its raw input and random weights')
    .argument('<encoder>', ENCODER)
    .argument('[data]', 'labelled images, videos, ... (default: those that the run trained on)')
    .option('--seed <number>', 'seed of random weights and of the draws of few labels (default: 0)', whole)
    .option('--draws <number>', 'draws of few labels; 0 leaves that part out (default: 3)', whole)
    .option('--clips <number>', 'clips of each video that the attentive probe sees (default: its middle)', count)
    .option('--views <number>', 'crops of a test clip that the attentive probe averages over (default: 1)', count)
    .option('--locate', 'also where the moving object of a clip is and what it does, from its tokens')
    .option('--anticipate', 'also where it will be, from what was seen and what the predictor makes of it')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa probe runs/quickstart', 'linear probe, nearest neighbours, few labels, rank'],
        ['jepa probe ijepa_vith14/ imagenet/ --json', 'a Hugging Face model on other images'],
        ['jepa probe runs/vjepa videos/ --clips 2 --views 3', 'as V-JEPA is evaluated'],
        ['jepa probe runs/vjepa --locate --anticipate', 'boxes, and what comes next, where both are known'],
      ),
    )
    .action(async (encoder: string, data: string | undefined, options) =>
      (await import('./probe.js')).probe(encoder, data, options),
    );

  jepa
    .command('finetune')
    .description('train the whole encoder with labels; against the frozen one and random weights')
    .argument('<encoder>', ENCODER)
    .argument('[data]', 'labelled images, videos, ... (default: those that the run trained on)')
    .option('--labels <some>', 'use so many labels of each class (10), or a share of all (1%)')
    .option('--epochs <number>', 'passes over the labelled images (default: 10, at least 300 steps)', positive)
    .option('--lr <number>', 'learning rate of the classifier; earlier layers have less (default: 0.001)', positive)
    .option('--batch-size <number>', 'images of a step (default: 128)', count)
    .option('--seed <number>', 'seed of order, augmentation and random weights (default: 0)', whole)
    .option('-o, --out <file>', 'write encoder and classifier as ONNX')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa finetune runs/mine', 'all labels'],
        ['jepa finetune runs/mine --labels 1% --epochs 50', 'few labels are where pre-training counts'],
        ['jepa finetune runs/mine photos/ -o classifier.onnx', 'other images; keep the classifier'],
      ),
    )
    .action(async (encoder: string, data: string | undefined, options) =>
      (await import('./finetune.js')).finetune(encoder, data, options),
    );

  clipOptions(jepa.command('embed'))
    .description('turn images, videos, recordings or texts into vectors')
    .argument('<encoder>', ENCODER)
    .argument('<data>', 'a folder, a data set, or one file of what the encoder learned from')
    .requiredOption(
      '-o, --out <file>',
      '.parquet (paths, classes, vectors) or .npy (vectors; the rest in <file>.json beside it)',
    )
    .option('--along', 'clips one after the other along whole videos, instead of one of each')
    .addOption(
      new Option('--split <part>', 'part of a data set that has parts (default: train)').choices(['train', 'test']),
    )
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa embed runs/mine photos/ -o photos.parquet', 'for pandas, DuckDB, Polars, ...'],
        ['jepa embed runs/mine photos/ -o photos.npy', 'for NumPy'],
        ['jepa embed runs/vjepa videos/ -o videos.parquet', 'a clip of each video'],
        ['jepa embed runs/vjepa long.mp4 --along -o long.npy', 'a whole video, clip by clip'],
      ),
    )
    .action(async (encoder: string, data: string, options) =>
      (await import('./embed.js')).embed(encoder, data, options),
    );

  jepa
    .command('search')
    .description('find the images most like one')
    .argument('<encoder>', ENCODER)
    .argument('<images>', 'a folder of images, a data set, or a file that jepa embed wrote')
    .requiredOption('-l, --like <image>', 'the image to compare with')
    .option('-k <number>', 'how many to show', count, 10)
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa search runs/mine photos/ --like one.jpg', 'vectors are kept for the next search'],
        ['jepa search runs/mine photos.parquet --like one.jpg -k 50 --json', 'in vectors that are there already'],
      ),
    )
    .action(async (encoder: string, images: string, options) =>
      (await import('./search.js')).search(encoder, images, options),
    );

  jepa
    .command('export')
    .description('write an encoder for other programs')
    .argument('<encoder>', ENCODER)
    .requiredOption('-o, --out <path>', 'a file for onnx and pth, a folder for the others')
    .addOption(
      new Option(
        '--format <name>',
        'what to write (default: onnx or pth if the path ends so, else transformers)',
      ).choices(['onnx', 'transformers', 'safetensors', 'pth']),
    )
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa export runs/mine -o encoder.onnx', 'standard operators only, for any ONNX runtime'],
        ['jepa export runs/mine -o web/', 'a folder for transformers.js and Python (ViT encoders)'],
        ['jepa export runs/mine -o hf/ --format safetensors', 'weights with the names of Hugging Face'],
        ['jepa export runs/mine -o mine.pth.tar', "a checkpoint of PyTorch, laid out as Meta's (I-JEPA, V-JEPA)"],
      ),
    )
    .action(async (encoder: string, options) => (await import('./export.js')).exportEncoder(encoder, options));

  jepa
    .command('import')
    .description('say what published weights are, and write them as a folder for this package and transformers')
    .argument('<model>', 'a file or folder, or a name on the Hugging Face hub (which is downloaded)')
    .option('-o, --out <folder>', 'where to write (default: nothing is written)')
    .option('--download', 'the name is one on the hub, also where there is a folder of that name')
    .option('--classifier <file>', 'an attentive classifier (.pt) to go with it')
    .addOption(
      new Option('--family <name>', 'where the files do not show it').choices([
        'ijepa',
        'vjepa',
        'vjepa2',
        'vjepa2-ac',
        'vjepa2.1',
      ]),
    )
    .addOption(
      new Option('--entry <name>', 'encoder of a checkpoint (default: the target, as the papers evaluate)').choices([
        'target_encoder',
        'encoder',
        'ema_encoder',
      ]),
    )
    .option('--heads <number>', 'attention heads, where widths are not the published ones', count)
    .option('--predictor-heads <number>', 'the same of the predictor', count)
    .option('--frames <number>', 'frames of a clip, where the files do not show them', count)
    .option('--image-size <number>', 'side of the images, where the files do not show it', count)
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      `${examples(
        ['jepa import facebook/vjepa2-vitl-fpc64-256', 'download it; then jepa embed facebook/vjepa2-...'],
        ['jepa import IN1K-vit.h.14-300e.pth.tar', "what is in one of Meta's checkpoints"],
        ['jepa import vitl16.pth.tar -o vjepa-l/', 'and write it as a folder'],
      )}\n
Models are kept in JEPA_MODELS (default: ~/.cache/jepa/models). HF_ENDPOINT and HF_TOKEN are known. Nothing else that this
program does uses the network.`,
    )
    .action(async (model: string, options) => (await import('./import.js')).importModel(model, options));

  jepa
    .command('inspect')
    .description('show what is in a data set, a run, a checkpoint or a file')
    .argument(
      '<path>',
      'data (images, videos, recordings, texts, glyphs, procedural:motions), a run, a checkpoint, a file',
    )
    .option('--all', 'every tensor and key, not only the first')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        ['jepa inspect photos/', 'how many images, which sizes and classes, damaged files'],
        ['jepa inspect runs/quickstart', 'a run: configuration, steps, files'],
        ['jepa inspect encoder.onnx --json', 'inputs, outputs, operators, weights'],
      ),
    )
    .action(async (path: string, options) => (await import('./inspect.js')).inspect(path, options));

  jepa
    .command('bench')
    .description('time training steps, beside PyTorch where it is installed (in the repository)')
    .argument('[models...]', 'a, b, c, or other names of bench/models.ts (default: all)')
    .option(...JSON_OPTION)
    .addHelpText('after', examples(['jepa bench', 'all models'], ['jepa bench c --json', 'one of them']))
    .action(async (models: string[], options) => (await import('./bench.js')).bench(models, options));

  jepa
    .command('doctor')
    .description('check this machine: runtime, speed, image decoding, GPU, memory, disk')
    .option(...JSON_OPTION)
    .addHelpText('after', examples(['jepa doctor', 'every line is ok, or says what to do']))
    .action(async (options) => (await import('./doctor.js')).doctor(options));

  return jepa;
}

/** Prints one line (or the stack, if asked for) and gives the exit code. */
function explain(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2; // commander has printed it
  const error = expected(thrown);
  const { message, stack } = error as Error;
  if (process.env.JEPA_DEBUG) process.stderr.write(`${stack}\n`);
  else if (error instanceof JepaError) process.stderr.write(`error: ${message}\n`);
  else process.stderr.write(`error: ${String(message).split('\n', 1)[0]} (unexpected; JEPA_DEBUG=1 shows where)\n`);
  return error instanceof UsageError ? 2 : 1;
}

/** What may happen anywhere, in words: files that cannot be read or written, and memory that is not there. */
function expected(error: unknown): unknown {
  const { code, path, message } = error as NodeJS.ErrnoException;
  if (error instanceof JepaError) return error;
  if (code && path) return Object.assign(fileError('use', path, error), { stack: (error as Error).stack });
  if (error instanceof RangeError && /array length|allocation failed/i.test(message)) {
    const line = `there is no memory for what was asked (${message}); lower the size of the data, of the batch or of the model`;
    return Object.assign(new JepaError(line), { stack: error.stack });
  }
  return error;
}

function fail(error: unknown): never {
  process.exit(explain(error));
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  fail(fileError('write', 'the output', error));
});
// Progress that nobody reads any more is no reason to stop.
process.stderr.on('error', () => undefined);
process.on('uncaughtException', fail);
leaveOnInterrupt();

try {
  await program().parseAsync();
} catch (error) {
  process.exitCode = explain(error);
}
