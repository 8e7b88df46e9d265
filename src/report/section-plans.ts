import type { RawImage } from '../data/dataset.js';
import { barPlot } from './bars.js';
import type { DrawnEpisode, DrawnPath, DrawnPaths, PlanBar, PlanFactor, ReportData } from './data.js';
import { formatFixed, formatNumber } from './format.js';
import { type Html, html } from './html.js';
import { dataUri } from './images.js';
import { type Collected, note, type Section } from './section.js';
import { type LineSeries, legend, linePlot, type Tone } from './svg.js';

const barOf = ({ name, value, interval }: PlanBar, tone: Tone) => ({
  label: name,
  value,
  text: `${formatFixed(value, 1)} %`,
  tone,
  interval,
});

/** How often a planner reached its goals, beside floors. */
export function successSection({ plans }: ReportData): Section | undefined {
  if (!plans) return undefined;
  return {
    id: 'success',
    title: 'Goals reached',
    lead: 'Share of episodes that ended at the goal; the same layouts, starts and goals for all. Whiskers are 95 % intervals.',
    body: html`<figure class="card">${barPlot(
      plans.bars.map((bar, i) => barOf(bar, i === 0 ? 0 : 'faint')),
      100,
    )}</figure>`,
  };
}

/** Success by what differs between episodes. */
export function factorSection({ plans }: ReportData): Section | undefined {
  if (!plans?.factors.length) return undefined;
  return {
    id: 'factors',
    title: 'What makes it harder',
    lead: 'The same episodes in groups of about equal size, by what was drawn anew for each of them. Grey is the floor in the same episodes. Few episodes make wide whiskers.',
    body: factorFigure(plans.factors),
  };
}

/** Success in worlds that differ from what was learned. */
export function shiftSection({ plans }: ReportData): Section | undefined {
  if (!plans?.shifts?.length) return undefined;
  return {
    id: 'shifts',
    title: 'In changed worlds',
    lead: 'One property of the world at a time at an end of its range, everything else as usual; the model was not trained again. What falls far below the world as it is was learned by heart.',
    body: factorFigure(plans.shifts),
  };
}

function factorFigure(factors: readonly PlanFactor[]): Html {
  const rows = factors.flatMap(({ name, groups }) => {
    const bars = groups.flatMap(({ values, episodes, planner, floor }) => [
      barOf({ ...planner, name: `${values} (${episodes})` }, 0),
      barOf(floor, 'faint'),
    ]);
    return [html`<div><h3>${name}</h3></div>`, barPlot(bars, 100)];
  });
  return html`<figure class="card"><div class="probes even">${rows}</div>${note('In brackets: episodes.')}</figure>`;
}

/** Episodes as paths over their first picture, or as a few of their pictures. */
export async function episodeSection({ plans }: ReportData): Promise<Section | undefined> {
  if (!plans?.episodes.length) return undefined;
  const cards: Html[] = [];
  for (const episode of plans.episodes) cards.push(await episodeCard(episode));
  const isDrawn = plans.episodes.some(({ paths }) => paths);
  return {
    id: 'episodes',
    title: 'Episodes',
    lead: `${isDrawn ? 'The path that was taken, with a dot that moves along it; what the planner imagines at that moment, as a linear probe reads it from its states; and the path of going straight to the goal.' : 'Moments of each episode, and what its goal looks like.'} Episodes that failed come first.`,
    body: html`${
      isDrawn &&
      legend([
        { name: 'path taken', tone: 0 },
        { name: 'imagined', tone: 1 },
        { name: 'goal', tone: 2 },
        { name: 'straight to the goal', tone: 'faint' },
      ])
    }<div class="grid">${cards}</div>`,
  };
}

const px = (value: number): number => Math.round(value * 100) / 100;
export const pointsOf = (path: DrawnPath): string => path.map(([x, y]) => `${px(x)},${px(y)}`).join(' ');

/** Seconds in which a dot goes along a path. */
const SECONDS = 8;

async function episodeCard({ name, success, distance, pictures, paths }: DrawnEpisode): Promise<Html> {
  const body = paths
    ? drawing(name, pictures[0].picture, await dataUri(pictures[0].picture, 192, true), paths)
    : await strip(pictures);
  return html`<figure class="card"><h3>${name} <span>${success ? 'reached' : 'missed'}, ${formatNumber(distance)} from the goal</span></h3>${body}</figure>`;
}

/** Colours of paths over a picture. */
interface PathLooks {
  readonly path: string;
  readonly imagined: string;
  readonly goal: string;
  readonly other: string;
}

/** The report's colours for dark pages on dark pictures, and those for light pages on light ones. */
export function looksOver({ data }: RawImage): PathLooks {
  const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
  return mean < 128
    ? { path: '#5ba4e6', imagined: '#f0953f', goal: '#0bd29a', other: '#b4b8be' }
    : { path: '#1f6fb2', imagined: '#d9730d', goal: '#1d7a5c', other: '#989ca4' };
}

function drawing(name: string, picture: RawImage, ground: string, { path, goal, other, imagined }: DrawnPaths): Html {
  const { width, height } = picture;
  const looks = looksOver(picture);
  const thin = Math.max(width, height) / 130;
  const line = (way: DrawnPath, stroke: string, times: number, opacity = 1, more?: Html): Html =>
    html`<polyline points="${pointsOf(way)}" stroke="${stroke}" stroke-width="${px(times * thin)}" opacity="${opacity}">${more}</polyline>`;
  const animate = (attribute: string, values: string, how: Html): Html =>
    html`<animate attributeName="${attribute}" values="${values}" dur="${SECONDS}s" repeatCount="indefinite" ${how}/>`;
  const moving = html`calcMode="linear"`;
  const steps = Math.max(1, path.length - 1);
  const thoughts = imagined.map(({ time, path: way }, i) => {
    // Shown until the next one.
    const [from, to] = [time / steps, (imagined[i + 1]?.time ?? steps) / steps].map(
      (share) => Math.round(1e4 * share) / 1e4,
    );
    const [values, times] = from > 0 ? ['0;1;0', `0;${from};${to}`] : ['1;0', `0;${to}`];
    const isFirst = i === 0 ? 1 : 0;
    return line(
      way,
      looks.imagined,
      1.2,
      isFirst,
      animate('opacity', values, html`keyTimes="${times}" calcMode="discrete"`),
    );
  });
  const dot = html`<circle cx="${px(path[0][0])}" cy="${px(path[0][1])}" r="${px(2.4 * thin)}" fill="${looks.path}" stroke="#fff" stroke-width="${px(0.6 * thin)}">${animate('cx', path.map(([x]) => px(x)).join(';'), moving)}${animate('cy', path.map(([, y]) => px(y)).join(';'), moving)}</circle>`;
  return html`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Path of ${name}" style="margin-top:8px;width:100%"><image href="${ground}" width="${width}" height="${height}" style="image-rendering:pixelated"/>
<g fill="none" stroke-linejoin="round" stroke-linecap="round">${line(other, looks.other, 1)}${line(path, looks.path, 1.6)}${thoughts}<circle cx="${px(goal[0])}" cy="${px(goal[1])}" r="${px(4 * thin)}" stroke="${looks.goal}" stroke-width="${px(1.6 * thin)}"/></g>${dot}</svg>`;
}

async function strip(pictures: DrawnEpisode['pictures']): Promise<Html> {
  const tiles: Html[] = [];
  for (const { name, picture } of pictures)
    tiles.push(
      html`<figure style="flex:1;min-width:0"><img alt="${name}" src="${await dataUri(picture, 192, true)}" style="width:100%;outline:1px solid var(--line)"><figcaption class="note">${name}</figcaption></figure>`,
    );
  return html`<div style="display:flex;gap:6px;margin-top:8px">${tiles}</div>`;
}

/** Errors of predictions by depth. */
export function rolloutSection({ plans }: ReportData, page: Collected): Section | undefined {
  if (!plans?.rollouts.length) return undefined;
  const figures = plans.rollouts.map(({ name, unit, model, shuffled, still }) => {
    const series: LineSeries[] = [
      { name: 'the model', ...model, tone: 0 },
      { name: 'told other actions', ...shuffled, tone: 1 },
      { name: 'nothing moves', ...still, tone: 'faint' },
    ];
    const { svg, readout } = linePlot({ series, xLabel: 'steps ahead', include: [0], description: `${name} by depth` });
    page.plots.push(readout);
    const items = series.map((one) => ({ ...one, value: formatNumber(one.y[one.y.length - 1]) }));
    return html`<figure class="card" data-plot="${page.plots.length - 1}"><h3>${name} <span>${unit}</span></h3>${legend(items)}${svg}</figure>`;
  });
  return {
    id: 'imagination',
    title: 'How far it sees',
    lead: 'Error of predictions from one observation and the actions that followed, on held-out episodes, against the same model told the actions of other episodes, and against nothing moving. A model that uses its actions stays below both.',
    body: html`<div class="grid">${figures}</div>`,
  };
}
