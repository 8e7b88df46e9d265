import { statSync } from 'node:fs';
import { writeTorchCheckpoint } from '../hub/checkpoint-layout.js';
import { formatBytes } from '../report/format.js';
import { exportOnnx, exportSafetensors, exportTransformers } from '../train/export.js';
import { openEncoder } from '../train/frozen.js';
import { openModel } from '../train/model.js';
import { notice, print, printJson, table } from './output.js';
import { checkModelFolder, checkOnnxOutput, checkOutputs } from './outputs.js';

export interface ExportCommandOptions {
  readonly out: string;
  readonly format?: keyof typeof WRITERS;
  readonly json?: boolean;
}

/** What a writer wrote, and the licence of the weights where it is known. */
interface Written {
  readonly files: readonly string[];
  readonly licence?: string;
}

const ofEncoder =
  (write: typeof exportOnnx) =>
  (path: string, out: string): Written => {
    const encoder = openEncoder(path);
    return { files: write(encoder, out), licence: encoder.facts.licence };
  };

const WRITERS = {
  onnx: ofEncoder(exportOnnx),
  transformers: ofEncoder(exportTransformers),
  safetensors: ofEncoder(exportSafetensors),
  pth(path: string, out: string): Written {
    const model = openModel(path);
    writeTorchCheckpoint(out, model);
    return { files: [out], licence: model.licence };
  },
};

/** The format that a path asks for. */
function formatOf(out: string): keyof typeof WRITERS {
  if (out.endsWith('.onnx')) return 'onnx';
  return /\.(pth|pt|pth\.tar)$/.test(out) ? 'pth' : 'transformers';
}

/** `jepa export <encoder> --out <path>` */
export async function exportEncoder(
  path: string,
  { out, format = formatOf(out), json = false }: ExportCommandOptions,
): Promise<void> {
  if (format === 'onnx') await checkOnnxOutput(out);
  else if (format === 'pth') await checkOutputs([out]);
  else await checkModelFolder(out);
  const { files: paths, licence } = WRITERS[format](path, out);
  const files = paths.map((file) => ({ path: file, bytes: statSync(file).size }));
  if (licence) notice(`! ${licence}`);
  if (json) printJson({ format, files });
  else print(table(files.map(({ path: file, bytes }) => [file, formatBytes(bytes)])));
}
