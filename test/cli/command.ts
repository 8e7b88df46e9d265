import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder of its own for a test file, removed at the end. */
export const folder = mkdtempSync(join(tmpdir(), 'jepa-cli-'));
after(() => rmSync(folder, { recursive: true, force: true }));

export interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** Resolves once stderr matches. */
  until(pattern: RegExp): Promise<void>;
}

/** Starts the command in the folder of the test. */
export function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: folder,
    env: { ...process.env, NO_COLOR: '1', ...env },
  });
  let stdout = '';
  let stderr = '';
  const waiting: { pattern: RegExp; resolve: () => void; reject: (error: Error) => void }[] = [];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
    for (const { pattern, resolve } of waiting) if (pattern.test(stderr)) resolve();
  });
  const outcome = new Promise<Outcome>((resolve) => {
    child.on('close', (code) => {
      for (const { pattern, reject } of waiting) reject(new Error(`ended without ${pattern}: ${stderr}`));
      resolve({ code, stdout, stderr });
    });
  });
  const until = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      if (pattern.test(stderr)) resolve();
      waiting.push({ pattern, resolve, reject });
    });
  return { child, outcome, until };
}

export const jepa = (...args: readonly string[]): Promise<Outcome> => start(args).outcome;

/** Two classes of small images (bright and dark noise): `data/<class>/<i>.png`. */
export async function writeImages(perClass = 30): Promise<void> {
  for (const [label, base] of [
    ['bright', 140],
    ['dark', 20],
  ] as const) {
    mkdirSync(join(folder, 'data', label), { recursive: true });
    for (let i = 0; i < perClass; i++) {
      const bytes = Uint8Array.from({ length: 256 }, (_, p) => base + ((p * 31 + i * 17 + p * i) % 97));
      const raw = { width: 16, height: 16, channels: 1 as const };
      await sharp(bytes, { raw })
        .png()
        .toFile(join(folder, 'data', label, `${i}.png`));
    }
  }
}

/** A configuration whose steps take milliseconds. */
export function writeConfig(name: string, changes = ''): string {
  const text = `data:
  source: data
  size: 16
  channels: 1
method:
  name: lejepa
  encoder: { kind: conv, widths: [4, 8, 8], blocks: [0, 0], width: 16 }
  projector: [16]
optimizer:
  lr: 0.001
train:
  steps: 5
  batchSize: 16
  diagnoseEvery: 5
  workers: 2
${changes}`;
  writeFileSync(join(folder, name), text);
  return name;
}
