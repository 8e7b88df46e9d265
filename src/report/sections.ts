import type { RawImage } from '../data/dataset.js';
import { type Bar, barPlot } from './bars.js';
import type {
  ClassResults,
  Curve,
  EmbeddingMap,
  Fact,
  MaskFigure,
  NextStep,
  Probe,
  ProbeResult,
  ProbeTable,
  ReportData,
  Timings,
  WrittenFile,
} from './data.js';
import { formatBytes, formatDuration, formatFixed, formatNumber } from './format.js';
import { type Html, html, Html as Markup } from './html.js';
import { dataUri, heatImage, isSmall, spriteSheet } from './images.js';
import type { PageData } from './page.js';
import { movingAverage } from './scale.js';
import { heatMap, type LineSeries, legend, linePlot, scatterPlot } from './svg.js';

/** A part of the page, with its name in the table of contents. */
export interface Section {
  readonly id: string;
  readonly title: string;
  /** How to read it. */
  readonly lead: string;
  readonly body: Html;
}

/** What the sections leave for the page's script. */
export type Collected = { -readonly [K in keyof PageData]: PageData[K] } & { plots: PageData['plots'][number][] };

type SectionOf = (data: ReportData, page: Collected) => Promise<Section | undefined> | Section | undefined;

/** All sections in the order of the page: what was learned, what it looks like, how it came about, how to go on. */
export const SECTIONS: readonly SectionOf[] = [
  probeSection,
  mapSection,
  neighbourSection,
  featureSection,
  attentionSection,
  classSection,
  curveSection,
  maskSection,
  viewSection,
  timingSection,
  nextSection,
  configurationSection,
];

function probeSection({ probes }: ReportData): Section | undefined {
  if (!probes?.probes.length) return undefined;
  const rows = probes.probes.flatMap((probe) => {
    const bars = probe.results.map(
      (result, i): Bar => ({
        label: result.encoder,
        value: result.value,
        text: `${formatFixed(result.value, 1)} %`,
        tone: i === 0 ? 0 : 'faint',
        interval: intervalOf(result, probe),
      }),
    );
    return [html`<div><h3>${probe.name}</h3>${margin(probe.results)}${note(probe.note)}</div>`, barPlot(bars, 100)];
  });
  return {
    id: 'probes',
    title: 'What the frozen encoder knows',
    lead: `${probes.note ?? 'Accuracy on held-out images; the encoder is not changed by any probe.'} Longer is better; grey bars are what it must beat${hasIntervals(probes) ? '; whiskers are 95 % intervals' : ''}.`,
    body: html`<figure class="card"><div class="probes">${rows}</div></figure>`,
  };
}

function margin(results: readonly ProbeResult[]): Html | undefined {
  if (results.length < 2) return undefined;
  const best = results.slice(1).reduce((a, b) => (b.value > a.value ? b : a));
  const points = results[0].value - best.value;
  return html`<p class="delta${points < 0 ? ' less' : ''}">${points < 0 ? '' : '+'}${formatFixed(points, 1)} points on ${best.encoder}</p>`;
}

function hasIntervals({ probes }: ProbeTable): boolean {
  return probes.some((probe) => probe.samples || probe.results.some((result) => result.interval));
}

function intervalOf(result: ProbeResult, probe: Probe): readonly [number, number] | undefined {
  return result.interval ?? (probe.samples ? wilson(result.value, probe.samples) : undefined);
}

/** 95 % interval of an accuracy of `percent` seen on `samples` images (Wilson 1927), in per cent. */
export function wilson(percent: number, samples: number): [number, number] {
  const z = 1.959963984540054;
  const p = percent / 100;
  const denominator = 1 + (z * z) / samples;
  const centre = (p + (z * z) / (2 * samples)) / denominator;
  const half = (z * Math.sqrt((p * (1 - p)) / samples + (z * z) / (4 * samples * samples))) / denominator;
  return [100 * Math.max(0, centre - half), 100 * Math.min(1, centre + half)];
}

async function mapSection({ map }: ReportData, page: Collected): Promise<Section | undefined> {
  if (!map?.points.length) return undefined;
  const sheet = map.thumbnails?.length ? await spriteSheet(map.thumbnails) : undefined;
  page.map = {
    points: Array.from(map.points, (value) => Math.round(value * 10000) / 10),
    colourings: map.colourings.map((one) => ({ ...one, values: Array.from(one.values) })),
    names: map.names,
    sheet: sheet && { cell: sheet.cell, columns: sheet.columns },
  };
  const choice =
    map.colourings.length > 1
      ? html`<label>Colour by <select>${map.colourings.map((one) => html`<option>${one.name}</option>`)}</select></label>`
      : undefined;
  return {
    id: 'map',
    title: 'Map of the embeddings',
    lead: `${map.note ?? `${formatNumber(map.points.length / 2, 5)} images`}, placed so that images with similar embeddings lie close together. Islands of one colour are groups that the encoder tells apart; distances between islands mean little.`,
    body: html`<figure id="map-figure" class="map">
<div class="tools">${choice}${sheet ? html`<button type="button" data-do="pictures" aria-pressed="false">Show pictures</button>` : undefined}<span class="gap"></span><button type="button" data-do="out" aria-label="Zoom out">−</button><button type="button" data-do="in" aria-label="Zoom in">+</button></div>
<canvas style="aspect-ratio:${aspect(map)}" role="img" aria-label="Scatter plot of embeddings"></canvas>
<div class="tip"><canvas></canvas><div></div></div>${sheet ? html`<img hidden alt="" src="${sheet.uri}">` : undefined}
<div class="groups"></div></figure>`,
  };
}

function aspect({ points }: EmbeddingMap): string {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 1; i < points.length; i += 2) {
    low = Math.min(low, points[i]);
    high = Math.max(high, points[i]);
  }
  return String(Math.round(100 / Math.min(1, Math.max(0.5, high - low))) / 100);
}

async function neighbourSection({ neighbours }: ReportData): Promise<Section | undefined> {
  if (!neighbours?.length) return undefined;
  const labelled = neighbours.some((row) => row.label !== undefined);
  let right = 0;
  let all = 0;
  const rows = [];
  for (const row of neighbours) {
    const tiles = [];
    for (const { image, similarity, label } of row.neighbours) {
      const judged = row.label !== undefined && label !== undefined;
      const isRight = judged && label === row.label;
      if (judged) all++;
      if (isRight) right++;
      const mark = judged ? (isRight ? ' ✓' : ` ✗ ${label}`) : '';
      tiles.push(
        await tile(image, `${similarity.toFixed(2)}${mark}`, judged ? (isRight ? 'right' : 'wrong') : undefined),
      );
    }
    rows.push(
      html`<div>${await tile(row.query, row.label ?? 'query', 'query')}<div class="tiles">${tiles}</div></div>`,
    );
  }
  return {
    id: 'neighbours',
    title: 'Nearest neighbours',
    lead: `Left: a query. Right: the images whose embeddings are most like it, nearest first, with cosine similarity.${labelled ? ` Green ✓: same class; orange ✗: another class (${right} of ${all} are right here).` : ''}`,
    body: html`<div class="neighbours">${rows}</div>`,
  };
}

async function featureSection({ featureMaps }: ReportData): Promise<Section | undefined> {
  if (!featureMaps?.length) return undefined;
  const pairs = [];
  for (const { image, colours } of featureMaps) {
    pairs.push(html`<figure class="tiles">${await tile(image)}${await tile(colours)}</figure>`);
  }
  return {
    id: 'features',
    title: 'Feature maps',
    lead: 'The first three principal components of the patch features, over all these images together, as red, green and blue; one square is one patch. Parts with the same colour are alike to the encoder: look for colours that follow parts and stay the same from image to image.',
    body: html`<div class="samples">${pairs}</div>`,
  };
}

async function attentionSection({ attention }: ReportData): Promise<Section | undefined> {
  if (!attention?.length) return undefined;
  const groups = [];
  for (const { image, maps } of attention) {
    const tiles = [await tile(image)];
    for (const { name, rows, columns, values } of maps) {
      let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (const value of Array.from(values)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      tiles.push(await tile(heatImage(values, rows, columns, low, high), name));
    }
    groups.push(html`<figure class="tiles">${tiles}</figure>`);
  }
  return {
    id: 'attention',
    title: 'Attention',
    lead: 'Where the last block looks, averaged over all query patches. Bright is more, each map on its own scale. Heads that look at different places divide the work; identical or uniform maps do not.',
    body: html`<div class="samples">${groups}</div>`,
  };
}

function classSection({ classes }: ReportData, page: Collected): Section | undefined {
  if (!classes?.names.length) return undefined;
  const { names, confusion, baseline } = classes;
  const totals = confusion.map((row) => row.reduce((a, b) => a + b, 0));
  const accuracy = confusion.map((row, i) => (totals[i] ? (100 * row[i]) / totals[i] : Number.NaN));
  const pairs = confusedPairs(classes, totals);
  const order = names.map((_, i) => i).filter((i) => totals[i] > 0);
  order.sort((a, b) => accuracy[a] - accuracy[b] || a - b);
  const shown = order.length <= 12 ? order : [...order.slice(0, 6), ...order.slice(-6)];
  const bars = shown.map(
    (i): Bar => ({ label: names[i], value: accuracy[i], text: `${formatFixed(accuracy[i], 0)} %`, tone: 0 }),
  );
  const hardest = html`<figure class="card"><h3>${order.length <= 12 ? 'Accuracy by class' : 'Six hardest and six easiest classes'}</h3>${barPlot(bars, 100)}</figure>`;
  const figures = [];
  if (baseline) {
    const points = order.map((i) => ({ x: baseline.accuracy[i], y: accuracy[i], label: names[i] }));
    figures.push(
      html`<figure class="card"><h3>This encoder against ${baseline.name}, by class</h3><div style="margin-top:8px">${scatterPlot(
        {
          points,
          domain: [0, 100],
          xLabel: `${baseline.name}, %`,
          yLabel: 'this encoder, %',
          description: 'Accuracy of every class',
        },
      )}</div><p class="note">Above the diagonal the encoder is better.</p></figure>`,
    );
  }
  if (pairs.length) {
    figures.unshift(
      html`<figure class="card"><h3>Most frequent confusions</h3><table><thead><tr><th>true</th><th>taken for</th><th class="number">share of the class</th></tr></thead><tbody>${pairs.map(
        ({ from, to, count }) =>
          html`<tr><td>${names[from]}</td><td>${names[to]}</td><td class="number">${formatFixed((100 * count) / totals[from], 1)} % (${count})</td></tr>`,
      )}</tbody></table></figure>`,
    );
  }
  // Above this many classes cells would be smaller than a pointer can find.
  const matrix = names.length > 1 && names.length <= 64 ? confusionMatrix(classes, totals, page) : undefined;
  return {
    id: 'classes',
    title: 'Class by class',
    lead: 'Where the linear probe on frozen features is right and what it mixes up.',
    body: matrix
      ? html`<div class="pair"><div class="stack">${matrix}${hardest}</div><div class="stack">${figures}</div></div>`
      : html`<div class="grid">${hardest}${figures}</div>`,
  };
}

function confusedPairs({ names, confusion }: ClassResults, totals: readonly number[]) {
  const pairs = [];
  for (let from = 0; from < names.length; from++) {
    for (let to = 0; to < names.length; to++) {
      if (from !== to && confusion[from][to] > 0) pairs.push({ from, to, count: confusion[from][to] });
    }
  }
  pairs.sort((a, b) => b.count / totals[b.from] - a.count / totals[a.from] || a.from - b.from || a.to - b.to);
  return pairs.slice(0, 8);
}

function confusionMatrix({ names, confusion }: ClassResults, totals: readonly number[], page: Collected): Html {
  const { svg, readout } = heatMap({
    values: confusion.map((row, i) => row.map((count) => (totals[i] ? count / totals[i] : 0))),
    rowLabels: names,
    columnLabels: names,
    xLabel: 'class predicted',
    yLabel: 'true class',
    description: 'Confusion matrix',
  });
  page.heat = { ...readout, names, counts: confusion };
  return html`<figure class="card" data-heat><h3>Confusion matrix</h3><div style="margin-top:8px">${svg}</div><p class="note"><output>Each row is one class, shaded by where its images went; shades are square roots, so that rare mistakes can be seen. A clean diagonal is a perfect probe.</output></p></figure>`;
}

function curveSection({ curves }: ReportData, page: Collected): Section | undefined {
  const drawn = curves?.filter((curve) => curve.series.some((one) => one.y.some(Number.isFinite)));
  if (!drawn?.length) return undefined;
  return {
    id: 'training',
    title: 'How training went',
    lead: 'A falling loss alone proves nothing: a collapsed encoder has a low loss too. Spread, rank and the gap between matched and shuffled energies tell the two apart. Pointing at one figure reads all of them at that step.',
    body: html`<div class="grid">${drawn.map((curve) => curveFigure(curve, page))}</div>`,
  };
}

function curveFigure(curve: Curve, page: Collected): Html {
  const series = curve.series.flatMap((one, i): LineSeries[] => {
    const tone = i;
    if (!one.smooth || one.x.length < 60) return [{ ...one, tone }];
    const average = movingAverage(one.y, Math.max(5, Math.round(one.y.length / 25)));
    return [
      { ...one, tone, pale: true },
      { name: 'moving average', x: one.x, y: average, tone },
    ];
  });
  const values = series.map((one) => one.y.filter(Number.isFinite));
  const told = series
    .map((one, i) => `${one.name} from ${formatNumber(values[i][0])} to ${last(values[i])}`)
    .join('; ');
  const { svg, readout } = linePlot({
    series,
    xLabel: curve.xLabel ?? 'step',
    x: curve.xScale,
    y: curve.yScale,
    include: curve.include,
    references: curve.references,
    description: `${curve.title}: ${told}`,
  });
  page.plots.push(readout);
  const items = series.map((one, i) => ({ ...one, value: last(values[i]) }));
  return html`<figure class="card" data-plot="${page.plots.length - 1}"><h3>${curve.title} <span>${curve.unit}</span></h3>${legend(items)}${svg}${note(curve.note)}</figure>`;
}

function last(values: readonly number[]): string {
  return formatNumber(values.at(-1) ?? Number.NaN, 4);
}

/** Colours of target blocks. They lie on pictures, not on the page, so they are the same in light and dark. */
const BLOCKS = ['#ff9a2e', '#45a8f5', '#1fd6a0', '#ff74b8'];

async function maskSection({ masks }: ReportData): Promise<Section | undefined> {
  if (!masks?.samples.length) return undefined;
  const samples = [];
  for (const [i, sample] of masks.samples.entries()) {
    const id = `mask-${i}`;
    const { image } = sample;
    const uri = await dataUri(image);
    const picture = html`<svg viewBox="0 0 ${masks.columns} ${masks.rows}" preserveAspectRatio="none" style="aspect-ratio:${image.width}/${image.height}" role="img" aria-label="image"><image id="${id}" href="${uri}" width="${masks.columns}" height="${masks.rows}" preserveAspectRatio="none"${isSmall(image) ? html` class="pixels"` : undefined}/></svg>`;
    const seen = new Set(Array.from(sample.context));
    const hidden = patches(masks, (patch) => !seen.has(patch));
    const again = html`<use href="#${id}"/>`;
    const overlay = (inside: Html, label: string) =>
      html`<svg viewBox="0 0 ${masks.columns} ${masks.rows}" preserveAspectRatio="none" style="aspect-ratio:${image.width}/${image.height}" role="img" aria-label="${label}">${again}${inside}</svg>`;
    const blocks = sample.targets.map((target, block) => {
      const inside = new Set(Array.from(target));
      const tone = BLOCKS[block % BLOCKS.length];
      return html`<path class="block" vector-effect="non-scaling-stroke" fill="${tone}" stroke="${tone}" d="${outline(masks, inside)}"/>`;
    });
    samples.push(html`<figure class="tiles">
<div class="tile">${picture}<span>image</span></div>
<div class="tile">${overlay(html`<path class="hidden" d="${hidden}"/>`, 'context')}<span>context ${seen.size}/${masks.rows * masks.columns}</span></div>
<div class="tile">${overlay(html`${blocks}`, 'targets')}<span>${sample.targets.length} ${sample.targets.length === 1 ? 'target' : 'targets'}</span></div></figure>`);
  }
  return {
    id: 'masks',
    title: 'What is hidden, what is predicted',
    lead: 'The context encoder sees only the patches of the middle picture; from them the predictor must say what the target encoder makes of each outlined block. Nothing is predicted in pixels.',
    body: html`<div class="samples masks">${samples}</div>`,
  };
}

/** The squares of all patches that `chosen` names, as one path; runs in a row are one rectangle, so no seams show. */
function patches({ rows, columns }: MaskFigure, chosen: (patch: number) => boolean): string {
  let path = '';
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!chosen(row * columns + column)) continue;
      const begin = column;
      while (column < columns && chosen(row * columns + column)) column++;
      path += `M${begin},${row}H${column}V${row + 1}H${begin}Z`;
    }
  }
  return path;
}

/** The border of a set of patches, as closed loops that keep the set on their right; collinear edges are joined. */
export function outline({ rows, columns }: { rows: number; columns: number }, inside: ReadonlySet<number>): string {
  const has = (row: number, column: number) =>
    row >= 0 && column >= 0 && row < rows && column < columns && inside.has(row * columns + column);
  // Edges by the corner they start from: a corner where two patches touch diagonally starts two.
  const edges = new Map<string, [number, number][]>();
  const edge = (x0: number, y0: number, x1: number, y1: number) => {
    const key = `${x0},${y0}`;
    edges.set(key, [...(edges.get(key) ?? []), [x1, y1]]);
  };
  for (const patch of [...inside].sort((a, b) => a - b)) {
    const row = Math.floor(patch / columns);
    const column = patch % columns;
    if (!has(row - 1, column)) edge(column, row, column + 1, row);
    if (!has(row, column + 1)) edge(column + 1, row, column + 1, row + 1);
    if (!has(row + 1, column)) edge(column + 1, row + 1, column, row + 1);
    if (!has(row, column - 1)) edge(column, row + 1, column, row);
  }
  let path = '';
  for (const [start, ends] of edges) {
    while (ends.length) {
      const loop = [start.split(',').map(Number)];
      let [x, y] = ends.pop()!;
      while (`${x},${y}` !== start) {
        loop.push([x, y]);
        [x, y] = edges.get(`${x},${y}`)!.pop()!;
      }
      const corners = loop.filter(([cx, cy], i) => {
        const [px, py] = loop[(i + loop.length - 1) % loop.length];
        const [nx, ny] = loop[(i + 1) % loop.length];
        return !((px === cx && cx === nx) || (py === cy && cy === ny));
      });
      path += `M${corners.map((corner) => corner.join(',')).join('L')}Z`;
    }
  }
  return path;
}

async function viewSection({ views }: ReportData): Promise<Section | undefined> {
  if (!views?.length) return undefined;
  const groups = [];
  for (const { image, views: made } of views) {
    const tiles = [await tile(image, 'image')];
    for (const [i, view] of made.entries()) tiles.push(await tile(view, `view ${i + 1}`));
    groups.push(html`<figure class="tiles">${tiles}</figure>`);
  }
  return {
    id: 'views',
    title: 'Augmented views',
    lead: 'Each image and the views made of it. The encoder is asked to give all views of one image the same embedding: what the views change is what it learns to ignore.',
    body: html`<div class="samples">${groups}</div>`,
  };
}

function timingSection({ timings }: ReportData): Section | undefined {
  if (!timings) return undefined;
  const facts = timingFacts(timings);
  const total = timings.scopes.reduce((sum, scope) => sum + scope.seconds, 0);
  if (!facts.length && !total) return undefined;
  const scopes = [...timings.scopes].sort((a, b) => b.seconds - a.seconds);
  const shown = scopes.length <= 14 ? scopes : [...scopes.slice(0, 13), rest(scopes.slice(13))];
  const bars = shown.map(
    ({ name, seconds }): Bar => ({
      label: name,
      value: seconds,
      text: `${formatDuration(seconds)} · ${formatFixed((100 * seconds) / total, 0)} %`,
      tone: 0,
    }),
  );
  const chart = bars.length
    ? html`<figure class="card"><h3>Time by scope <span>${timings.of ?? 'one training step'}</span></h3>${barPlot(bars, bars[0].value || 1)}</figure>`
    : undefined;
  const table = facts.length ? html`<figure class="card">${factTable(facts)}</figure>` : undefined;
  return {
    id: 'time',
    title: 'Where the time went',
    lead: 'Measured on this machine during this run.',
    body: html`<div class="pair">${chart}${table}</div>`,
  };
}

function rest(scopes: Timings['scopes']): Timings['scopes'][number] {
  return { name: `${scopes.length} others`, seconds: scopes.reduce((sum, scope) => sum + scope.seconds, 0) };
}

function timingFacts(timings: Timings): Fact[] {
  const { stepSeconds, imagesPerSecond, flopsPerStep, peakFlops, peakBytes } = timings;
  const facts: Fact[] = [];
  if (stepSeconds !== undefined) facts.push({ name: 'One step', value: formatDuration(stepSeconds) });
  if (imagesPerSecond !== undefined) facts.push({ name: 'Images per second', value: formatNumber(imagesPerSecond, 4) });
  if (flopsPerStep !== undefined)
    facts.push({ name: 'Work in a step', value: `${formatNumber(flopsPerStep / 1e9)} GFLOP` });
  if (flopsPerStep !== undefined && stepSeconds) {
    const rate = flopsPerStep / stepSeconds;
    facts.push({ name: 'Achieved', value: `${formatNumber(rate / 1e9)} GFLOP/s` });
    if (peakFlops) {
      facts.push({ name: 'Matrix-product peak', value: `${formatNumber(peakFlops / 1e9)} GFLOP/s` });
      facts.push({ name: 'Share of the peak', value: `${formatFixed((100 * rate) / peakFlops, 0)} %` });
    }
  }
  if (peakBytes !== undefined) facts.push({ name: 'Peak memory', value: formatBytes(peakBytes) });
  return facts;
}

function nextSection({ next, files }: ReportData): Section | undefined {
  if (!next?.length && !files?.length) return undefined;
  const steps = next?.length
    ? html`<ol class="steps">${next.map((step: NextStep) => html`<li><span>${step.what}</span><div class="command"><code>${step.command}</code><button type="button">Copy</button></div></li>`)}</ol>`
    : undefined;
  const written = files?.length
    ? html`<figure class="card"${steps ? new Markup(' style="margin-top:18px"') : undefined}><h3>Files written</h3><table><tbody>${files.map(
        (file: WrittenFile) =>
          html`<tr><td class="path"><code>${file.path}</code></td><td>${file.what}</td><td class="number">${file.bytes === undefined ? '' : formatBytes(file.bytes)}</td></tr>`,
      )}</tbody></table></figure>`
    : undefined;
  return {
    id: 'next',
    title: 'What to do next',
    lead: 'Commands to use the encoder, and the files of this run.',
    body: html`${steps}${written}`,
  };
}

function configurationSection({ configuration, environment }: ReportData): Section | undefined {
  if (!configuration && !environment?.length) return undefined;
  const yaml = configuration
    ? html`<details><summary>Configuration</summary><pre class="yaml">${highlightYaml(configuration)}</pre></details>`
    : undefined;
  const table = environment?.length
    ? html`<figure class="card"${yaml ? new Markup(' style="margin-top:18px"') : undefined}>${factTable(environment)}</figure>`
    : undefined;
  return {
    id: 'configuration',
    title: 'How to repeat it',
    lead: 'The whole configuration, and the machine and versions it ran with.',
    body: html`${yaml}${table}`,
  };
}

/** Keys and comments in colour; everything else as it is. */
function highlightYaml(text: string): Html[] {
  return text.split('\n').map((line) => {
    const [, indent, key, value] = /^(\s*(?:- )?)([\w.-]+:)(.*)$/.exec(line) ?? [];
    if (key) return html`${indent}<span class="key">${key}</span>${value}\n`;
    return line.trimStart().startsWith('#') ? html`<span class="comment">${line}</span>\n` : html`${line}\n`;
  });
}

function factTable(facts: readonly Fact[]): Html {
  return html`<table><tbody>${facts.map((fact) => html`<tr><th scope="row">${fact.name}</th><td>${fact.value}</td></tr>`)}</tbody></table>`;
}

function note(text: string | undefined): Html | undefined {
  return text ? html`<p class="note">${text}</p>` : undefined;
}

async function tile(image: RawImage, caption?: string, kind?: string): Promise<Html> {
  const pixels = isSmall(image) ? html` class="pixels"` : undefined;
  return html`<div class="tile${kind ? ` ${kind}` : ''}"><img src="${await dataUri(image)}" alt="${caption ?? 'image'}"${pixels}>${caption === undefined ? undefined : html`<span title="${caption}">${caption}</span>`}</div>`;
}
