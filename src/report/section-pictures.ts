import type { EmbeddingMap, Picture, ReportData } from './data.js';
import { formatNumber } from './format.js';
import { type Html, html } from './html.js';
import { dataUri, heatImage, isSmall, spriteSheet } from './images.js';
import type { Collected, Section } from './section.js';

/** What samples are called where nothing is said. */
export const IMAGES = { one: 'image', many: 'images' };

export async function mapSection({ map, samples = IMAGES }: ReportData, page: Collected): Promise<Section | undefined> {
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
    lead: `${map.note ?? `${formatNumber(map.points.length / 2, 5)} ${samples.many}`}, placed so that ${samples.many} with similar embeddings lie close together. Islands of one colour are groups that the encoder tells apart; distances between islands mean little.`,
    body: html`<figure id="map-figure" class="map">
<div class="tools">${choice}${sheet ? html`<button type="button" data-do="pictures" aria-pressed="false">Show pictures</button>` : undefined}<span class="gap"></span><button type="button" data-do="out" aria-label="Zoom out">−</button><button type="button" data-do="in" aria-label="Zoom in">+</button></div>
<canvas style="aspect-ratio:${aspect(map)}" role="img" aria-label="Scatter plot of embeddings"></canvas>
<div class="tip"><canvas></canvas><div></div></div>${sheet ? html`<img hidden alt="" src="${sheet.uri}">` : undefined}
<div class="groups"></div><noscript>The map is drawn by the script of this page, which is switched off.</noscript></figure>`,
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

export async function neighbourSection({ neighbours, samples = IMAGES }: ReportData): Promise<Section | undefined> {
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
    lead: `Left: a query. Right: the ${samples.many} whose embeddings are most like it, nearest first, with cosine similarity.${labelled ? ` Green ✓: same class; orange ✗: another class (${right} of ${all} are right here).` : ''}`,
    body: html`<div class="neighbours">${rows}</div>`,
  };
}

export async function featureSection({ featureMaps, samples = IMAGES }: ReportData): Promise<Section | undefined> {
  if (!featureMaps?.length) return undefined;
  const pairs = [];
  for (const { image, colours } of featureMaps) {
    pairs.push(html`<figure class="tiles">${await tile(image)}${await tile(colours)}</figure>`);
  }
  return {
    id: 'features',
    title: 'Feature maps',
    lead: `The first three principal components of the patch features, over all these ${samples.many} together, as red, green and blue; one square is one patch. Parts with the same colour are alike to the encoder: look for colours that follow parts and stay the same from ${samples.one} to ${samples.one}.`,
    body: html`<div class="samples">${pairs}</div>`,
  };
}

export async function attentionSection({ attention }: ReportData): Promise<Section | undefined> {
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

export async function viewSection({ views, samples = IMAGES }: ReportData): Promise<Section | undefined> {
  if (!views?.length) return undefined;
  const groups = [];
  for (const { image, views: made } of views) {
    const tiles = [await tile(image, samples.one)];
    for (const [i, view] of made.entries()) tiles.push(await tile(view, `view ${i + 1}`));
    groups.push(html`<figure class="tiles">${tiles}</figure>`);
  }
  return {
    id: 'views',
    title: 'Augmented views',
    lead: `Each ${samples.one} and the views made of it: what the views change is what the encoder learns to ignore.`,
    body: html`<div class="samples">${groups}</div>`,
  };
}

async function tile(image: Picture, caption?: string, kind?: string): Promise<Html> {
  if (typeof image === 'string') {
    return html`<div class="tile text${kind ? ` ${kind}` : ''}"><p>${image}</p>${caption === undefined ? undefined : html`<span title="${caption}">${caption}</span>`}</div>`;
  }
  const pixels = isSmall(image) ? html` class="pixels"` : undefined;
  return html`<div class="tile${kind ? ` ${kind}` : ''}"><img src="${await dataUri(image)}" alt="${caption ?? 'image'}"${pixels}>${caption === undefined ? undefined : html`<span title="${caption}">${caption}</span>`}</div>`;
}
