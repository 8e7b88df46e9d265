import { barPlot } from './bars.js';
import type { DrawnEpisode, ReportData } from './data.js';
import { formatFixed, formatNumber } from './format.js';
import { type Html, html } from './html.js';
import { dataUri } from './images.js';
import { type Collected, note, type Section } from './section.js';
import { type LineSeries, legend, linePlot } from './svg.js';

/** How often a planner reached its goals, beside floors. */
export function successSection({ plans }: ReportData): Section | undefined {
  if (!plans) return undefined;
  const bars = plans.bars.map(({ name, value, interval }, i) => ({
    label: name,
    value,
    text: `${formatFixed(value, 1)} %`,
    tone: i === 0 ? 0 : ('faint' as const),
    interval,
  }));
  return {
    id: 'success',
    title: 'Goals reached',
    lead: 'Share of episodes that ended at the goal; the same layouts, starts and goals for all. Whiskers are 95 % intervals.',
    body: html`<figure class="card">${barPlot(bars, 100)}</figure>`,
  };
}

/** Episodes as paths over their first picture. */
export async function episodeSection({ plans }: ReportData): Promise<Section | undefined> {
  if (!plans?.episodes.length) return undefined;
  const cards: Html[] = [];
  for (const episode of plans.episodes) cards.push(await episodeCard(episode));
  return {
    id: 'episodes',
    title: 'Episodes',
    lead: 'The path that was taken (blue, with a dot that moves along it), what the planner imagined at several times (orange), going straight to the goal (grey), and the goal (green ring). Episodes that failed come first.',
    body: html`<div class="grid">${cards}</div>`,
  };
}

const px = (value: number): number => Math.round(value * 100) / 100;
const points = (path: DrawnEpisode['path']): string => path.map(([x, y]) => `${px(x)},${px(y)}`).join(' ');

/** Seconds in which a dot goes along a path. */
const SECONDS = 6;

async function episodeCard({
  name,
  success,
  distance,
  picture,
  path,
  goal,
  other,
  imagined,
}: DrawnEpisode): Promise<Html> {
  const { width, height } = picture;
  const thin = Math.max(width, height) / 130;
  const [first, ...rest] = path;
  const motion = `M${px(first[0])} ${px(first[1])}${rest.map(([x, y]) => `L${px(x)} ${px(y)}`).join('')}`;
  return html`<figure class="card"><h3>${name} <span>${success ? 'reached' : 'missed'}, ends ${formatFixed(distance, 1)} from the goal</span></h3>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Path of ${name}" style="margin-top:8px;width:100%"><image href="${await dataUri(picture)}" width="${width}" height="${height}" style="image-rendering:pixelated"/>
<g fill="none" stroke-linejoin="round" stroke-linecap="round"><polyline points="${points(other)}" stroke="var(--faint)" stroke-width="${px(thin)}"/>${imagined.map(
    (way) =>
      html`<polyline points="${points(way)}" stroke="var(--c1)" stroke-width="${px(thin)}" stroke-opacity=".8"/>`,
  )}<polyline points="${points(path)}" stroke="var(--c0)" stroke-width="${px(1.6 * thin)}"/><circle cx="${px(goal[0])}" cy="${px(goal[1])}" r="${px(4 * thin)}" stroke="var(--c2)" stroke-width="${px(1.6 * thin)}"/></g>
<circle r="${px(2.4 * thin)}" fill="var(--c0)" stroke="#fff" stroke-width="${px(0.6 * thin)}"><animateMotion dur="${SECONDS}s" repeatCount="indefinite" path="${motion}"/></circle></svg></figure>`;
}

/** Errors of predictions by depth. */
export function rolloutSection({ plans }: ReportData, page: Collected): Section | undefined {
  if (!plans) return undefined;
  const { unit, model, shuffled, still } = plans.rollout;
  const series: LineSeries[] = [
    { name: 'the model', ...model, tone: 0 },
    { name: 'told other actions', ...shuffled, tone: 1 },
    { name: 'nothing moves', ...still, tone: 'faint' },
  ];
  const { svg, readout } = linePlot({ series, xLabel: 'steps ahead', include: [0], description: `${unit} by depth` });
  page.plots.push(readout);
  const items = series.map((one) => ({ ...one, value: formatNumber(one.y[one.y.length - 1]) }));
  return {
    id: 'imagination',
    title: 'How far it sees',
    lead: 'Predictions from one observation and the actions that followed, on held-out episodes, against the same model told the actions of other episodes, and against nothing moving.',
    body: html`<div class="grid"><figure class="card" data-plot="${page.plots.length - 1}"><h3>Error <span>${unit}</span></h3>${legend(items)}${svg}${note('A model that uses its actions stays below both.')}</figure></div>`,
  };
}
