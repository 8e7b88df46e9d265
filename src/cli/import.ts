import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../base/errors.js';
import { describeModel, FAMILY_TITLES, type ModelFacts } from '../hub/describe.js';
import { type DownloadProgress, downloadModel, isModelName, sourceOf } from '../hub/download-node.js';
import { type CheckpointOptions, loadEncoder, readTorchClassifier } from '../hub/encoder-files.js';
import { type ModelFolder, writeModelFolder } from '../hub/model-folder.js';
import { formatBytes, formatFixed } from '../report/format.js';
import { bold, dim, notice, print, printJson, stages, table } from './output.js';

export interface ImportOptions
  extends Pick<CheckpointOptions, 'family' | 'entry' | 'heads' | 'predictorHeads' | 'frames' | 'imageSize'> {
  readonly out?: string;
  readonly download?: boolean;
  readonly classifier?: string;
  readonly json?: boolean;
}

/** `jepa import <file, folder or name> [--out folder]` */
export async function importModel(
  what: string,
  { out, download = false, classifier, json = false, ...reading }: ImportOptions,
): Promise<void> {
  const path = download || (!existsSync(what) && isModelName(what)) ? await fetchModel(what) : what;
  const read = loadEncoder(path, reading);
  const attentive =
    classifier === undefined ? read.attentive : readTorchClassifier(classifier, { heads: reading.heads });
  const model = { ...read, ...(attentive && { attentive }) };
  const facts = describeModel(path, model);
  let written: (ModelFolder & { readonly folder: string }) | undefined;
  if (out !== undefined) {
    if (existsSync(out) && (!statSync(out).isDirectory() || readdirSync(out).length > 0))
      throw new UsageError(`${out}: it is there already; name a new folder`);
    const source = sourceOf(path);
    const about = { licence: facts.licence, source: source ? `${source.name} ${source.commit}` : what };
    written = { folder: out, ...writeModelFolder(out, model, about) };
  }
  if (json) printJson({ path, ...facts, ...(written && { written }) });
  else {
    showModel(path, facts);
    if (written) showWritten(written);
    else
      print(
        dim(`\nnothing was written; --out <folder> writes it for this package and, where it can hold it, transformers`),
      );
  }
}

async function fetchModel(name: string): Promise<string> {
  const stage = stages();
  let shown = '';
  try {
    const { folder } = await downloadModel(name, {
      onProgress: ({ done, total, file }: DownloadProgress) => {
        // A line a file where lines stay, numbers where they are replaced.
        if (file !== shown) stage.show(`downloading ${name}: ${file}`);
        shown = file;
        stage.update(`downloading ${name}: ${formatBytes(done)} of ${formatBytes(total)} (${file})`);
      },
    });
    return folder;
  } finally {
    stage.end();
  }
}

/** A published model in a few lines. */
export function showModel(path: string, facts: ModelFacts): void {
  const { family, title, width, depth, heads, patchSize, frames, tubeletSize, tokens, positions, parameters } = facts;
  const patch = frames === undefined ? `${patchSize} x ${patchSize}` : `${tubeletSize} x ${patchSize} x ${patchSize}`;
  const preparation = facts.preparation.map(stepText).join(', ');
  const from = facts.preparationFrom === 'files' ? '' : dim('  (as published; the files do not say)');
  print(`${bold(path)}  ${FAMILY_TITLES[family]}, ${title}`);
  print(
    table([
      [
        'architecture',
        `${depth} block${depth === 1 ? '' : 's'} of width ${width}, ${heads} heads, patches of ${patch}, ${tokens} tokens`,
      ],
      ['positions', positions],
      ...Object.entries(parameters).map(([part, count]) => [part, `${formatFixed(count, 0)} numbers`]),
      ...(facts.classes === undefined ? [] : [['classes', formatFixed(facts.classes, 0)]]),
      ['preparation', `${preparation}${from}`],
      ...(facts.checkpoint
        ? [
            [
              'checkpoint',
              Object.entries(facts.checkpoint)
                .map(([k, v]) => `${k} ${v}`)
                .join(', '),
            ],
          ]
        : []),
      ...(facts.ignored.length > 0 ? [['ignored', facts.ignored.join(', ')]] : []),
      ['licence', facts.licence],
    ]),
  );
}

function stepText(step: ModelFacts['preparation'][number]): string {
  if (step.kind === 'resize') {
    return step.fit === 'shortEdge'
      ? `shorter side to ${step.size} (${step.filter})`
      : `to ${step.size} (${step.filter})`;
  }
  if (step.kind === 'centerCrop') return `crop of ${step.size}`;
  return step.kind === 'normalize' ? `(x - [${step.mean}]) / [${step.std}]` : step.kind;
}

function showWritten({ folder, form, leftOut }: ModelFolder & { readonly folder: string }): void {
  print(`\n${folder}: ${form === 'jepa' ? 'in the form of this package' : "in Hugging Face's form"}`);
  const files = readdirSync(folder).sort();
  print(
    table(
      files.map((file) => [`  ${file}`, formatBytes(statSync(join(folder, file)).size)]),
      [1],
    ),
  );
  if (leftOut.length > 0) notice(`! this form has no place for ${leftOut.join(', ')}`);
}
