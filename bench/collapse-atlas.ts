import { writeFileAtomic } from '../src/base/atomic.js';
import { ARCHITECTURES } from '../src/energy/architectures.js';
import { Html, html } from '../src/report/html.js';
import { STYLE } from '../src/report/style.js';
import { heatMap } from '../src/report/svg.js';
import { createEngine } from '../src/runtime/engine.js';
import { applies, type Cell, collapseCell, PREVENTIONS, WIDTH } from './collapse.js';

/**
 * The collapse atlas: which architectures collapse, and what prevents it. Prints a table and writes a page.
 * Usage: node dist/bench/collapse-atlas.js [page.html] [steps] [seeds]
 */

const [page = 'collapse-atlas.html', steps = '400', seeds = '3'] = process.argv.slice(2);
const SEEDS = Array.from({ length: Number(seeds) }, (_, i) => i + 1);

const engine = await createEngine({ workers: 1 });
const cells: Cell[] = [];
const began = Date.now();
console.log('architecture       prevention     spread  rank/8   probe R2   energy contrast  (means over seeds)');
for (const architecture of ARCHITECTURES) {
  for (const prevention of PREVENTIONS) {
    if (!applies(architecture, prevention)) continue;
    const runs: Cell[] = [];
    for (const seed of SEEDS)
      runs.push(await collapseCell(engine, architecture, prevention, { steps: Number(steps), seed }));
    const mean = (of: (cell: Cell) => number): number => runs.map(of).reduce((a, b) => a + b, 0) / runs.length;
    const cell: Cell = {
      architecture,
      prevention,
      spread: mean((c) => c.spread),
      effectiveRank: mean((c) => c.effectiveRank),
      r2: mean((c) => c.r2),
      contrast: mean((c) => c.contrast),
    };
    cells.push(cell);
    console.log(
      `${architecture.padEnd(18)} ${prevention.padEnd(14)} ${cell.spread.toFixed(3).padStart(6)} ${cell.effectiveRank.toFixed(2).padStart(7)} ${cell.r2.toFixed(3).padStart(10)} ${cell.contrast.toFixed(2).padStart(12)}`,
    );
  }
}
await engine.close();
console.log(`${((Date.now() - began) / 1000).toFixed(0)} s`);

/** Labels that fit beside and below cells. */
const short = (name: string): string =>
  ({
    contrastive: 'contrast',
    'stop-gradient': 'stop',
    'latent-generative': 'latent',
    'auto-encoder': 'auto-enc.',
    'joint-embedding': 'joint emb.',
  })[name] ?? name;

const picture = (title: string, value: (cell: Cell) => number) => {
  const rows = ARCHITECTURES.map((architecture) =>
    PREVENTIONS.map((prevention) => {
      const cell = cells.find((c) => c.architecture === architecture && c.prevention === prevention);
      return cell ? Math.min(1, Math.max(0, value(cell))) : 0;
    }),
  );
  return html`<section><h2>${title}</h2>${
    heatMap({
      values: rows,
      rowLabels: ARCHITECTURES.map(short),
      columnLabels: PREVENTIONS.map(short),
      xLabel: 'what prevents collapse',
      yLabel: 'architecture',
      description: title,
    }).svg
  }</section>`;
};

writeFileAtomic(
  page,
  html`<!doctype html><html lang="en"><meta charset="utf-8"><title>Collapse atlas</title><style>${new Html(STYLE)}</style>
<header><h1>Collapse atlas</h1><p>Five architectures on pairs of 16 x 16 shapes. Darker is better; an empty cell has collapsed, or does not apply
(a target that does not learn needs a representation of y).</p></header><main>
${picture('Effective rank of the representation, of 8', (c) => c.effectiveRank / WIDTH)}
${picture('Column, row and size by a linear probe (R2)', (c) => c.r2)}
${picture('Energy of wrong pairs over that of true pairs (1 to 20, logarithmic)', (c) => Math.log(c.contrast) / Math.log(20))}
<table><tr><th>architecture</th><th>prevention</th><th>spread</th><th>rank</th><th>R2</th><th>contrast</th></tr>
${cells.map((c) => html`<tr><td>${c.architecture}</td><td>${c.prevention}</td><td>${c.spread.toFixed(3)}</td><td>${c.effectiveRank.toFixed(2)}</td><td>${c.r2.toFixed(3)}</td><td>${c.contrast.toFixed(2)}</td></tr>`)}</table>
</main></html>`.text,
);
console.log(`wrote ${page}`);
