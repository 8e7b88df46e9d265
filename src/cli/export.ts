import { statSync } from 'node:fs';
import { formatBytes } from '../report/format.js';
import { exportOnnx, exportSafetensors, exportTransformers } from '../train/export.js';
import { openEncoder } from '../train/frozen.js';
import { notice, print, printJson, table } from './output.js';
import { checkModelFolder, checkOnnxOutput } from './outputs.js';

export interface ExportCommandOptions {
  readonly out: string;
  readonly format?: 'onnx' | 'transformers' | 'safetensors';
  readonly json?: boolean;
}

const WRITERS = { onnx: exportOnnx, transformers: exportTransformers, safetensors: exportSafetensors };

/** `jepa export <encoder> --out <path>` */
export async function exportEncoder(path: string, { out, format, json = false }: ExportCommandOptions): Promise<void> {
  const chosen = format ?? (out.endsWith('.onnx') ? 'onnx' : 'transformers');
  await (chosen === 'onnx' ? checkOnnxOutput(out) : checkModelFolder(out));
  const encoder = openEncoder(path);
  const files = WRITERS[chosen](encoder, out).map((file) => ({ path: file, bytes: statSync(file).size }));
  if (encoder.facts.licence) notice(`! ${encoder.facts.licence}`);
  if (json) printJson({ format: chosen, files });
  else print(table(files.map(({ path: file, bytes }) => [file, formatBytes(bytes)])));
}
