import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openConfiguredData } from '../src/cli/data.js';
import { maskFigure, viewsOf } from '../src/cli/pictures.js';
import { readSettings } from '../src/cli/settings.js';
import type { Dataset, RawImage } from '../src/data/dataset.js';
import type { EpisodeDataset, EpisodeWindow } from '../src/data/episodes/dataset.js';
import { OBSERVATIONS } from '../src/data/episodes/preparation.js';
import { escapeHtml } from '../src/report/html.js';
import { dataUri, isSmall } from '../src/report/images.js';
import type { MaskFigure } from '../src/report/index.js';
import { lookOf } from '../src/report/looks.js';
import { outline } from '../src/report/section-masks.js';
import { buildMethod, trainingPreparations } from '../src/train/build.js';
import type { Config } from '../src/train/config.js';
import { dataFacts } from '../src/train/facts.js';

/**
 * `npm run pictures`: the pictures of docs/methods, drawn from the recipes: samples of their data, and what their masks (or
 * views, or actions) make of them before any training. Nothing is drawn by hand.
 */

const OUT = 'docs/methods/pictures';
const WIDTH = 860;
const GAP = 14;
const MARGIN = 12;
const CAPTION = 20;
const FONT = 'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" font-size="13" fill="#3a3d46"';
const MONO = 'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13" fill="#24262d"';
/** Of target blocks; those of reports. */
const TONES = ['#ff9a2e', '#45a8f5', '#1fd6a0', '#ff74b8'];

/** Something drawn in a box of its own, and what stands above it. */
interface Tile {
  readonly caption: string;
  readonly draw: (x: number, y: number, width: number, height: number) => string;
}

const caption = (text: string, x: number, y: number): string =>
  `<text x="${x}" y="${y}" ${FONT}>${escapeHtml(text)}</text>`;

const box = (x: number, y: number, width: number, height: number): string =>
  `x="${x}" y="${y}" width="${width}" height="${height}"`;

/** Rows of tiles, all of one shape; captions stand above a row where they are others than above the row before. */
function sheet(title: string, rows: readonly (readonly Tile[])[], ratio: number): string {
  const columns = rows[0].length;
  const width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns;
  const height = width / ratio;
  const parts: string[] = [];
  let y = MARGIN;
  for (const [r, row] of rows.entries()) {
    const isNew = row.some((tile, i) => tile.caption !== rows[r - 1]?.[i].caption);
    if (isNew) y += CAPTION;
    for (const [i, tile] of row.entries()) {
      const x = MARGIN + i * (width + GAP);
      if (isNew) parts.push(caption(tile.caption, x, y - 7));
      parts.push(tile.draw(x, y, width, height), `<rect ${box(x, y, width, height)} fill="none" stroke="#c9ccd6"/>`);
    }
    y += height + GAP;
  }
  return svg(title, y, parts);
}

const svg = (title: string, height: number, parts: readonly string[]): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${Math.ceil(height)}" role="img" aria-label="${escapeHtml(title)}">
<title>${escapeHtml(title)}</title>
<rect width="100%" height="100%" rx="6" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;

async function picture(image: RawImage): Promise<Tile['draw']> {
  const uri = await dataUri(image, 512, true);
  const pixels = isSmall(image) || image.width < 300 ? ' style="image-rendering:pixelated"' : '';
  return (x, y, width, height) =>
    `<image ${box(x, y, width, height)} preserveAspectRatio="none" href="${uri}"${pixels}/>`;
}

// --- masks ----------------------------------------------------------------------------------------------------------

/** Shapes on a grid of cells that is stretched over a box. */
const onGrid =
  ({ rows, columns }: MaskFigure, inside: string) =>
  (x: number, y: number, width: number, height: number) =>
    `<g transform="translate(${x} ${y}) scale(${width / columns} ${height / rows})">${inside}</g>`;

const shape = (figure: MaskFigure, cells: Iterable<number>, looks: string): string =>
  `<path d="${outline(figure, new Set(cells))}" ${looks}/>`;

async function maskRow(
  figure: MaskFigure,
  sample: MaskFigure['samples'][number],
  names: readonly string[],
): Promise<Tile[]> {
  const whole = await picture(sample.image as RawImage);
  const seen = new Set(Array.from(sample.context));
  const all = Array.from({ length: figure.rows * figure.columns }, (_, cell) => cell);
  const hidden = shape(
    figure,
    all.filter((cell) => !seen.has(cell)),
    'fill="#dfe1e8"',
  );
  const blocks = sample.targets.map((cells, i) => {
    const tone = TONES[i % TONES.length];
    const looks = `fill="${tone}" fill-opacity="0.35" stroke="${tone}" stroke-width="2" vector-effect="non-scaling-stroke"`;
    return shape(figure, Array.from(cells), looks);
  });
  const over =
    (inside: string): Tile['draw'] =>
    (...box) =>
      whole(...box) + onGrid(figure, inside)(...box);
  return [
    { caption: names[0], draw: whole },
    { caption: names[1], draw: over(hidden) },
    { caption: names[2], draw: over(blocks.join('')) },
  ];
}

/** Texts of which some tokens are marked, in lines as wide as the picture. */
function wordSheet(
  title: string,
  texts: readonly (readonly { readonly word: string; readonly tone?: string }[])[],
): string {
  const advance = 7.8;
  const line = 22;
  const parts = [caption(title, MARGIN, MARGIN + 13)];
  let y = MARGIN + CAPTION + 18;
  for (const words of texts) {
    let x = MARGIN;
    for (const { word, tone } of words) {
      const width = word.length * advance;
      if (x + width > WIDTH - MARGIN) [x, y] = [MARGIN, y + line];
      if (tone) parts.push(`<rect ${box(x, y - 14, width, 19)} fill="${tone}" fill-opacity="0.55"/>`);
      // Spaces take part in the place of a word, not in its drawing: programs differ in what they make of them.
      const text = word.trim();
      const at = x + (word.length - word.trimStart().length) * advance;
      const fit = `textLength="${text.length * advance}" lengthAdjust="spacingAndGlyphs"`;
      if (text !== '') parts.push(`<text x="${at}" y="${y}" ${MONO} ${fit}>${escapeHtml(text)}</text>`);
      x += width;
    }
    y += line + 10;
  }
  return svg(title, y - 10, parts);
}

/** What a recipe's masks show and ask for. */
async function masked(config: Config, dataset: Dataset, count: number, names: readonly string[]): Promise<string> {
  const facts = await dataFacts(config, dataset);
  const figure = await maskFigure(config, { method: buildMethod(config, facts), facts }, dataset, count);
  if (!figure) throw new Error(`${config.method.name} has no masks`);
  const [first] = figure.samples;
  if (Array.isArray(first.image)) {
    const texts = figure.samples.map(({ image, targets }) => {
      const block = new Map(
        targets.flatMap((cells, i) => Array.from(cells, (cell) => [cell, TONES[i % TONES.length]])),
      );
      return (image as string[]).map((word, i) => ({ word, tone: block.get(i) })).filter(({ word }) => word !== '');
    });
    return wordSheet(names.join('; '), texts);
  }
  const { width, height } = first.image as RawImage;
  const rows = await Promise.all(figure.samples.map((sample) => maskRow(figure, sample, names)));
  return sheet(names.join('; '), rows, width / height);
}

// --- views, texts and actions ---------------------------------------------------------------------------------------

async function viewed(config: Config, dataset: Dataset, count: number): Promise<string> {
  const facts = await dataFacts(config, dataset);
  const { views } = buildMethod(config, facts);
  const preparations = trainingPreparations(config, facts, views.length);
  const indices = Array.from({ length: count }, (_, i) => Math.floor((i * dataset.length) / count));
  const shown = 7;
  const [fields] = await viewsOf(dataset, indices, [{ count: shown, ...preparations[0] }]);
  const made = lookOf(preparations[0], [1, 1], dataset).pictures(fields) as RawImage[];
  const rows = await Promise.all(
    indices.map(async (index, i) => [
      { caption: 'sample', draw: await picture((await dataset.read(index)) as RawImage) },
      ...(await Promise.all(
        made
          .slice(i * shown, (i + 1) * shown)
          .map(async (image, v) => ({ caption: `view ${v + 1}`, draw: await picture(image) })),
      )),
    ]),
  );
  return sheet('Samples and views of them', rows, 1);
}

async function dialogues(dataset: Dataset, count: number): Promise<string> {
  const words = (text: string, tone: string) => (text.match(/\S+\s*/g) ?? []).map((word) => ({ word, tone }));
  const texts: { word: string; tone: string }[][] = [];
  for (let i = 0; i < count; i++) {
    const { text, code = '' } = (await dataset.read(i)) as { readonly text: string; readonly code?: string };
    texts.push(words(text, TONES[1]), words(code, TONES[0]));
  }
  return wordSheet('Texts and, below each, its code: two views of one thing', texts);
}

/** Pictures of a window, and between them what was done. */
async function acted(dataset: EpisodeDataset): Promise<string> {
  const { observation, frames, action } = dataset.shape;
  const size = observation.reduce((product, length) => product * length, 1);
  // The window in which most happens.
  const windows = await Promise.all(Array.from({ length: dataset.length }, (_, i) => dataset.read(i)));
  const change = ({ observations }: EpisodeWindow) =>
    Float64Array.from(observations.subarray(size), (value, i) => Math.abs(value - observations[i])).reduce(
      (a, b) => a + b,
    );
  const { observations, actions } = windows.reduce((a, b) => (change(b) > change(a) ? b : a));
  const plain = {
    kind: 'episodes',
    part: 'window',
    scaling: { range: 'byte', mean: [0, 0, 0], std: [1, 1, 1] },
  } as const;
  const data = Float32Array.from(observations, (value) => value / 255);
  const tiles: Tile[] = [];
  for (let t = 0; t < frames; t++) {
    const field = {
      dtype: 'float32',
      shape: [1, ...observation],
      data: data.subarray(t * size, (t + 1) * size),
    } as const;
    const [image] = lookOf(plain, [1, 1], dataset).pictures({ [OBSERVATIONS]: field }) as RawImage[];
    const done = Array.from(actions.subarray(t * action, (t + 1) * action), (value) => value.toFixed(2)).join(', ');
    tiles.push({ caption: t < frames - 1 ? `then (${done})` : 'at last', draw: await picture(image) });
  }
  const half = Math.ceil(frames / 2);
  const rows = [tiles.slice(0, half), tiles.slice(half)];
  return sheet('A window of an episode: what is seen, and what is done then', rows, 1);
}

// --- all of them ----------------------------------------------------------------------------------------------------

const CLIP = [
  'clip: its moments in two rows',
  'what the context encoder sees',
  'what is predicted (one kind of masks)',
];
const AHEAD = ['clip: its moments in two rows', 'what the context encoder sees', 'what is predicted'];
const SOUND = ['spectrogram: time to the right, high above', 'what the context encoder sees', 'what is predicted'];
const MOTION = ['motion of each joint (down) over time', 'what the context encoder sees', 'what is predicted'];
const IMAGE = ['image', 'what the context encoder sees', 'four targets'];

const PICTURES: Readonly<
  Record<
    string,
    {
      readonly recipe: string;
      readonly settings?: readonly string[];
      draw(config: Config, data: Dataset): Promise<string>;
    }
  >
> = {
  ijepa: { recipe: 'ijepa', draw: (config, data) => masked(config, data, 2, IMAGE) },
  lejepa: { recipe: 'lejepa', draw: (config, data) => viewed(config, data, 3) },
  viewjepa: { recipe: 'quickstart', draw: (config, data) => viewed(config, data, 3) },
  vjepa: { recipe: 'vjepa', draw: (config, data) => masked(config, data, 3, CLIP) },
  'vjepa-ahead': {
    recipe: 'vjepa-ahead',
    settings: ['method.masks=[]'],
    draw: (config, data) => masked(config, data, 1, AHEAD),
  },
  'audio-jepa': { recipe: 'audio-jepa', draw: (config, data) => masked(config, data, 2, SOUND) },
  's-jepa': { recipe: 's-jepa', draw: (config, data) => masked(config, data, 2, MOTION) },
  'text-jepa': {
    recipe: 'text-jepa',
    draw: (config, data) => masked(config, data, 4, ['Marked: spans that are left out and predicted']),
  },
  'llm-jepa': { recipe: 'llm-jepa', draw: (_, data) => dialogues(data, 3) },
  'vjepa2-ac': {
    recipe: 'vjepa2-ac',
    draw: (_, data) => acted(data as EpisodeDataset),
  },
};

/** Enough to choose from; the rest of a made data set would only take time. */
const FEW = ['data.options.count=64', 'data.options.testCount=16'];

mkdirSync(OUT, { recursive: true });
const wanted = process.argv.slice(2);
for (const [name, { recipe, settings = [], draw }] of Object.entries(PICTURES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const made = recipe === 'ijepa' || recipe === 'lejepa' || recipe === 'quickstart' ? [] : FEW;
  const { config } = readSettings(recipe, [...made, ...settings]);
  const { train } = await openConfiguredData(config);
  writeFileSync(join(OUT, `${name}.svg`), await draw(config, train));
  console.log(join(OUT, `${name}.svg`));
}
