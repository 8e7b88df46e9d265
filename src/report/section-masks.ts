import type { MaskFigure, ReportData } from './data.js';
import { type Html, html } from './html.js';
import { dataUri, isSmall } from './images.js';
import type { Section } from './section.js';

/** Colours of target blocks. They lie on pictures, not on the page, so they are the same in light and dark. */
const BLOCKS = ['#ff9a2e', '#45a8f5', '#1fd6a0', '#ff74b8'];

export async function maskSection({ masks }: ReportData): Promise<Section | undefined> {
  if (!masks?.samples.length) return undefined;
  const samples = [];
  for (const [i, sample] of masks.samples.entries()) {
    const id = `mask-${i}`;
    const { image } = sample;
    if (isWords(image)) {
      samples.push(wordFigure(image, sample));
      continue;
    }
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
    lead: 'The context encoder sees only the patches of the middle picture (of a text, the words that are not marked); from them the predictor must say what the target encoder makes of each outlined block. Nothing is predicted in pixels.',
    body: html`<div class="samples masks">${samples}</div>`,
  };
}

const isWords = (image: MaskFigure['samples'][number]['image']): image is readonly string[] => Array.isArray(image);

/** A text whose hidden words are marked. */
function wordFigure(words: readonly string[], { targets }: MaskFigure['samples'][number]): Html {
  const block = new Map(targets.flatMap((target, i) => Array.from(target, (word) => [word, i] as const)));
  const shown = words.map((word, i) => {
    const own = block.get(i);
    return own === undefined
      ? html`${word}`
      : html`<mark style="background:${BLOCKS[own % BLOCKS.length]}">${word}</mark>`;
  });
  return html`<p class="words">${shown}</p>`;
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
