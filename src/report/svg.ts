import { formatNumber } from './format.js';
import { Html, html } from './html.js';
import { linearTicks, logTicks, niceDomain, position, type Scale, type ScaleKind, thin, tickLabels } from './scale.js';

/** A colour of the page's palette (see style.ts), or the grey of things that only compare. */
export type Tone = number | 'faint';

export interface LineSeries {
  readonly name: string;
  readonly x: readonly number[];
  /** Values that are not finite leave a gap. */
  readonly y: readonly number[];
  readonly tone: Tone;
  /** Drawn thin and pale, as background to a smoothed curve. */
  readonly pale?: boolean;
}

export interface LinePlot {
  readonly series: readonly LineSeries[];
  readonly xLabel: string;
  readonly x?: ScaleKind;
  readonly y?: ScaleKind;
  /** Values that the y axis must include. */
  readonly include?: readonly number[];
  /** Dashed horizontal lines. */
  readonly references?: readonly { readonly value: number; readonly label: string }[];
  /** What a listener who cannot see the figure is told. */
  readonly description: string;
}

/** What the page's script needs to read values off a line plot. Pixels are of the SVG's own coordinates. */
export interface LineReadout {
  readonly x: Scale;
  readonly y: Scale;
  readonly xLabel: string;
  readonly series: readonly { readonly x: readonly number[]; readonly y: readonly (number | null)[] }[];
}

const WIDTH = 330;
const HEIGHT = 200;
const POINTS = 360;
/** Series of at most so many values get a dot for each. */
const FEW = 16;
/** Width of one character at the axis' font size; generous, as fonts differ. */
const CHARACTER = 6.3;

const px = (value: number) => Math.round(value * 10) / 10;
export const color = (tone: Tone) => (typeof tone === 'number' ? `var(--c${tone % 8})` : `var(--${tone})`);
const short = (value: number) => Number(value.toPrecision(5));

/** Curves over a common x axis. Returns the drawing and the values behind it. */
export function linePlot(plot: LinePlot): { svg: Html; readout: LineReadout } {
  const series = plot.series.map((one) => ({ ...one, ...thin(one.x, one.y, POINTS) }));
  const xs = series.flatMap((one) => one.x);
  const ys = [
    ...series.flatMap((one) => one.y.filter(Number.isFinite)),
    ...(plot.include ?? []),
    ...(plot.references ?? []).map((reference) => reference.value),
  ];
  const yKind = plot.y === 'log' && Math.min(...ys) > 0 ? 'log' : 'linear';
  const yDomain = domainOf(ys, yKind);
  const yTicks = yKind === 'log' ? logTicks(...yDomain) : linearTicks(...yDomain, 4);
  const yLabels = tickLabels(yTicks, yKind);
  const left = Math.max(26, 10 + CHARACTER * Math.max(...yLabels.labels.map((label) => label.length)));
  const y: Scale = { kind: yKind, domain: yDomain, range: [HEIGHT - 36, 12] };

  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const xKind = plot.x === 'log' && first > 0 ? 'log' : 'linear';
  // A run that is measured from its first steps on begins at zero; one that was resumed does not.
  const begin = xKind === 'linear' && first > 0 && first < last / 5 ? 0 : first;
  const xDomain: [number, number] = last > begin ? [begin, last] : [begin - 1, begin + 1];
  const x: Scale = { kind: xKind, domain: xDomain, range: [left, WIDTH - 12] };
  const xTicks = first === last ? [first] : xKind === 'log' ? logTicks(...xDomain) : linearTicks(...xDomain, 5);
  const xLabels = tickLabels(xTicks, xKind);

  const references = (plot.references ?? []).map(({ value, label }) => {
    const at = px(position(y, value));
    return html`<line class="reference" x1="${px(left)}" x2="${WIDTH - 12}" y1="${at}" y2="${at}"/>
<text class="remark" x="${WIDTH - 14}" y="${at < 26 ? at + 12 : at - 4}" text-anchor="end">${label}</text>`;
  });
  const lines = series.map((one) => {
    const line = html`<path class="${one.pale ? 'pale' : 'curve'}" stroke="${color(one.tone)}" d="${path(one.x, one.y, x, y)}"/>`;
    // Few values, as of a probe now and then: show where they are.
    const seen =
      one.x.length > FEW
        ? []
        : one.x.map((value, i) => [value, one.y[i]]).filter(([, value]) => Number.isFinite(value));
    return html`${line}${seen.map(([a, b]) => html`<circle r="2.4" cx="${px(position(x, a))}" cy="${px(position(y, b))}" fill="${color(one.tone)}"/>`)}`;
  });
  const svg = frame(
    plot.description,
    html`${yAxis(y, yTicks, yLabels.labels, left)}${xAxis(x, xTicks, xLabels.labels, plot.xLabel + (xLabels.factor ? ` (${xLabels.factor})` : ''))}
${yLabels.factor ? html`<text class="tick" x="${px(left)}" y="8">${yLabels.factor}</text>` : undefined}
${references}${lines}
<g class="cursor"><line y1="12" y2="${HEIGHT - 36}"/>${series.map((one) => html`<circle r="3" fill="${color(one.tone)}"/>`)}</g>`,
  );
  const readout = {
    x,
    y,
    xLabel: plot.xLabel,
    series: series.map((one) => ({
      x: one.x.map(short),
      y: one.y.map((value) => (Number.isFinite(value) ? short(value) : null)),
    })),
  };
  return { svg, readout };
}

function domainOf(values: readonly number[], kind: ScaleKind): [number, number] {
  if (!values.length) return [0, 1];
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (kind === 'linear') return niceDomain(low, high, 4);
  return high > low ? [low / 1.08, high * 1.08] : [low / 2, high * 2];
}

function path(xs: readonly number[], ys: readonly number[], x: Scale, y: Scale): string {
  let text = '';
  let pen = 'M';
  xs.forEach((value, i) => {
    if (!Number.isFinite(ys[i]) || (y.kind === 'log' && ys[i] <= 0)) {
      pen = 'M';
      return;
    }
    // The empty stroke after a move makes a point between two gaps a dot.
    text += `${pen}${px(position(x, value))},${px(position(y, ys[i]))}${pen === 'M' ? 'h0' : ''}`;
    pen = 'L';
  });
  return text;
}

function frame(description: string, inside: Html, width = WIDTH, height = HEIGHT, enlarge = true): Html {
  const maxWidth = enlarge ? undefined : html` style="max-width:${width}px"`;
  return html`<svg class="plot" viewBox="0 0 ${width} ${height}"${maxWidth} role="img" aria-label="${description}">${inside}</svg>`;
}

function yAxis(y: Scale, ticks: readonly number[], labels: readonly string[], left: number, right = WIDTH - 12): Html {
  return html`${ticks.map((tick, i) => {
    const at = px(position(y, tick));
    return html`<line class="rule" x1="${px(left)}" x2="${px(right)}" y1="${at}" y2="${at}"/><text class="tick" x="${px(left - 6)}" y="${px(at + 3.5)}" text-anchor="end">${labels[i]}</text>`;
  })}`;
}

function xAxis(
  x: Scale,
  ticks: readonly number[],
  labels: readonly string[],
  label: string,
  bottom = HEIGHT - 36,
): Html {
  const middle = px((x.range[0] + x.range[1]) / 2);
  return html`<line class="axis" x1="${px(x.range[0])}" x2="${px(x.range[1])}" y1="${bottom}" y2="${bottom}"/>
${ticks.map((tick, i) => {
  const at = px(position(x, tick));
  return html`<line class="axis" x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 4}"/><text class="tick" x="${at}" y="${bottom + 16}" text-anchor="middle">${labels[i]}</text>`;
})}<text class="label" x="${middle}" y="${bottom + 31}" text-anchor="middle">${label}</text>`;
}

export interface ScatterPlot {
  readonly points: readonly { readonly x: number; readonly y: number; readonly label: string }[];
  /** Both axes run over this domain. */
  readonly domain: readonly [number, number];
  readonly xLabel: string;
  readonly yLabel: string;
  readonly description: string;
}

/** Labelled points on two axes of one unit, with the diagonal where both are equal: above it, y wins. */
export function scatterPlot(plot: ScatterPlot): Html {
  const size = 420;
  const [left, right, top, bottom] = [44, size - 12, 20, size - 44];
  const x: Scale = { kind: 'linear', domain: plot.domain, range: [left, right] };
  const y: Scale = { kind: 'linear', domain: plot.domain, range: [bottom, top] };
  const ticks = linearTicks(...plot.domain, 5);
  const { labels } = tickLabels(ticks, 'linear');
  const points = plot.points.map((point) => {
    const [cx, cy] = [px(position(x, point.x)), px(position(y, point.y))];
    const title = html`<title>${`${point.label}: ${plot.xLabel} ${formatNumber(point.x)}, ${plot.yLabel} ${formatNumber(point.y)}`}</title>`;
    // One or two characters are their own marker; a longer name goes into the tooltip of a dot.
    return [...point.label].length <= 2
      ? html`<text class="glyph" x="${cx}" y="${px(cy + 4)}" text-anchor="middle">${point.label}${title}</text>`
      : html`<circle class="dot" cx="${cx}" cy="${cy}" r="4">${title}</circle>`;
  });
  return frame(
    plot.description,
    html`${yAxis(y, ticks, labels, left, right)}${xAxis(x, ticks, labels, plot.xLabel, bottom)}
<line class="reference" x1="${left}" y1="${bottom}" x2="${right}" y2="${top}"/>
<text class="label" x="${left}" y="11">${`↑ ${plot.yLabel}`}</text>${points}`,
    size,
    size,
  );
}

/** Keeps the beginning and the end of a name that is too long: in a path both say more than the middle. */
function shorten(text: string, length: number): string {
  const chars = [...text];
  if (chars.length <= length) return text;
  const head = Math.ceil((length - 1) / 2);
  return `${chars.slice(0, head).join('')}…${chars.slice(chars.length - (length - 1 - head)).join('')}`;
}

export interface HeatMap {
  /** Rows of equal length, shades from 0 (nothing) to 1 (full). */
  readonly values: readonly (readonly number[])[];
  readonly rowLabels: readonly string[];
  readonly columnLabels: readonly string[];
  readonly xLabel: string;
  readonly yLabel: string;
  readonly description: string;
}

/** Pixel geometry of a heat map's cells, for the page's script. */
export interface HeatReadout {
  readonly left: number;
  readonly top: number;
  readonly cell: number;
}

/** A matrix as shaded cells, first row on top. The square root spreads small shades so that rare cells can be seen. */
export function heatMap(map: HeatMap): { svg: Html; readout: HeatReadout } {
  const [rows, columns] = [map.values.length, map.values[0]?.length ?? 0];
  const longest = Math.max(...map.rowLabels.map((label) => [...label].length));
  const left = 26 + Math.min(90, longest * 5);
  const top = 18;
  const cell = px(Math.min(44, (640 - left) / columns));
  const font = Math.min(11, Math.max(6, cell * 0.8));
  const fits = Math.floor((left - 22) / (font * 0.55));
  const cells = map.values.flatMap((row, i) =>
    row.map((value, j) =>
      value > 0
        ? html`<rect x="${px(left + j * cell)}" y="${px(top + i * cell)}" width="${px(cell - 0.5)}" height="${px(cell - 0.5)}" fill-opacity="${Math.round(Math.sqrt(value) * 100) / 100}"/>`
        : new Html(''),
    ),
  );
  const every = Math.ceil((font * 1.05) / cell);
  const rowText = map.rowLabels.map((label, i) =>
    i % every === 0
      ? html`<text x="${px(left - 4)}" y="${px(top + (i + 0.5) * cell + font * 0.35)}" text-anchor="end">${shorten(label, fits)}</text>`
      : new Html(''),
  );
  const bottom = top + rows * cell;
  const columnFits = Math.floor((cell * 1.1) / (font * 0.55));
  const columnText = map.columnLabels.map((label, j) =>
    columnFits >= Math.min(4, [...label].length)
      ? html`<text x="${px(left + (j + 0.5) * cell)}" y="${px(bottom + font + 1)}" text-anchor="middle">${shorten(label, columnFits)}</text>`
      : new Html(''),
  );
  const [width, height] = [px(left + columns * cell + 2), px(bottom + 32)];
  const svg = frame(
    map.description,
    html`<rect class="back" x="${px(left)}" y="${top}" width="${px(columns * cell)}" height="${px(rows * cell)}"/>
<g class="heat">${cells}</g><g class="heat-labels" font-size="${px(font)}">${rowText}${columnText}</g>
<text class="label" x="${px(left)}" y="11">${`↓ ${map.yLabel}`}</text>
<text class="label" x="${px(left + (columns * cell) / 2)}" y="${px(bottom + 27)}" text-anchor="middle">${`${map.xLabel} →`}</text>`,
    width,
    height,
    false,
  );
  return { svg, readout: { left, top, cell } };
}

/** Names with their colours; `values` (the last ones at first) are kept up to date by the page's script. */
export function legend(items: readonly { name: string; tone: Tone; value?: string; pale?: boolean }[]): Html {
  return html`<ul class="legend">${items.map(
    (item) =>
      html`<li><i style="background:${color(item.tone)}"${item.pale ? html` class="pale"` : undefined}></i>${item.name}${item.value === undefined ? undefined : html` <b>${item.value}</b>`}</li>`,
  )}</ul>`;
}
