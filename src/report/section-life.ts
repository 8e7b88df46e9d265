import type { Check, Frame, Lived, Place, Point, Stage } from '../agent/life.js';
import { barPlot } from './bars.js';
import type { LifeReport } from './data.js';
import { formatMeasure, formatNumber } from './format.js';
import { type Html, html } from './html.js';
import type { ReplayFrame } from './page.js';
import type { Collected, Section } from './section.js';
import { color, legend, type Tone } from './svg.js';

/** Sections about an agent's life: what came out beside its floors, and a replay of what it saw, imagined, did and why. */

const TONES: Record<Lived['kind'], Tone> = { agent: 0, variant: 2, floor: 'faint' };

export function livedSection({ life }: { readonly life?: LifeReport }): Section | undefined {
  if (!life?.lived.length) return undefined;
  const { measures, lived, checks, learned, seeds } = life;
  const [first] = measures;
  const values = lived.map(({ values }) => values[first.name]);
  const bars = lived.map(({ name, kind }, i) => ({
    label: name,
    value: values[i]?.mean ?? 0,
    text: formatMeasure(values[i], first),
    tone: TONES[kind],
    interval: values[i]?.error
      ? ([values[i].mean - values[i].error, values[i].mean + values[i].error] as const)
      : undefined,
  }));
  const longest = Math.max(...bars.map(({ value }) => value), 1e-9);
  const more = first.better === 'more' ? 'More' : 'Less';
  return {
    id: 'results',
    title: 'What came out',
    lead: `The agent beside variants of itself and floors, in the same world with the same chance. ${seeds > 1 ? `Means and standard errors over ${seeds} seeds.` : 'One seed.'}`,
    body: html`<div class="stack"><figure class="card"><h3>${first.name} <span>${first.about}. ${more} is better.</span></h3>${barPlot(bars, longest)}</figure>
<figure class="card"><div class="wide"><table><thead><tr><th></th>${measures.map(({ name, about }) => html`<th class="number" title="${about}">${name}</th>`)}</tr></thead><tbody>${lived.map(
      ({ name, kind, values }) =>
        html`<tr><th scope="row"><i class="dot" style="background:${color(TONES[kind])}"></i>${name}</th>${measures.map((measure) => html`<td class="number">${formatMeasure(values[measure.name], measure)}</td>`)}</tr>`,
    )}</tbody></table></div><p class="note">${measures.map(({ name, about }) => `${name}: ${about}`).join('; ')}.</p></figure>
${checks.length > 0 ? html`<figure class="card"><h3>What should come out</h3><table><tbody>${checks.map(checkRow)}</tbody></table></figure>` : undefined}
${learned.length > 0 ? html`<figure class="card"><h3>What the parts learned before</h3><table><tbody>${learned.map(({ part, value, beside }) => html`<tr><th scope="row">${part}</th><td>${formatNumber(value)}</td><td>${beside}</td></tr>`)}</tbody></table></figure>` : undefined}</div>`,
  };
}

function checkRow({ claim, value, passed }: Check): Html {
  return html`<tr><td class="${passed ? 'met' : 'missed'}">${passed ? 'met' : 'missed'}</td><td>${claim}</td><td class="number">${formatNumber(value)}</td></tr>`;
}

export function replaySection({ life }: { readonly life?: LifeReport }, page: Collected): Section | undefined {
  const chapters = life?.chapters.filter(({ frames }) => frames.length > 0) ?? [];
  if (!life || chapters.length === 0) return undefined;
  const { stage } = life;
  const all = chapters.flatMap(({ frames }) => frames);
  const guarded = stage.places.some(({ kind }) => kind === 'danger') || all.some(({ verdict }) => verdict !== 'kept');
  const believes = all.some(
    ({ place, believed, deviation }) => deviation !== undefined || apart(place, believed) > 1e-3,
  );
  page.replay = {
    stage: { terms: stage.terms, levels: stage.levels, movers: stage.movers },
    guarded,
    chapters: chapters.map(({ name, frames }) => ({ name, frames: frames.map(packed) })),
  };
  const tools = html`<div class="tools"><label>Part of the life <select>${chapters.map(({ name }) => html`<option>${name}</option>`)}</select></label>
<button type="button" data-do="back" aria-label="One step back">◀</button><button type="button" data-do="play">Play</button><button type="button" data-do="on" aria-label="One step on">▶</button>
<input type="range" min="0" value="0" step="1" aria-label="Step"><output></output></div>`;
  return {
    id: 'replay',
    title: 'Step by step',
    lead: 'What it saw, what it imagined, what each term of its cost said, what it did, in which mode, and why. Arrow keys step; a click into the strip below goes there.',
    body: html`<div class="replay" data-replay>${tools}<div class="scene"><figure class="card">${plane(stage)}${legend([
      { name: 'agent', tone: 0 },
      ...(believes ? [{ name: 'where it thinks it is', tone: 5 as const }] : []),
      { name: 'proposal', tone: 'faint' },
      { name: 'plan', tone: 1 },
      { name: 'subgoal', tone: 4 },
      ...stage.movers.map((name) => ({ name, tone: 2 as const })),
    ])}</figure><div class="card told"></div></div>
<figure class="card"><h3>The whole part <span>${guarded ? 'background: danger; upper band: mode; ticks: the shield acted' : 'upper band: mode; curves: energy'}</span></h3>${legend(
      [
        { name: 'Mode 2', tone: 1 },
        { name: 'Mode 1', tone: 2 },
        ...stage.terms.map((name, i) => ({ name, tone: TERM_TONES[i % TERM_TONES.length] })),
      ],
    )}<canvas class="strip"></canvas></figure></div>`,
  };
}

/** Tones of the terms, as the script has them. */
const TERM_TONES = [3, 0, 6, 7, 5] as const;

/** What lies still, drawn to scale. */
function plane({ width, height, places }: Stage): Html {
  const unit = Math.max(width, height) / 100;
  const shape = ({ kind, at, radius, half, parts }: Place): Html => {
    const only = parts && html` data-parts="${parts.join('|')}"`;
    return half
      ? html`<rect class="${kind}" x="${at[0] - half[0]}" y="${at[1] - half[1]}" width="${2 * half[0]}" height="${2 * half[1]}"${only}/>`
      : html`<circle class="${kind}" cx="${at[0]}" cy="${at[1]}" r="${radius ?? unit}"${only}/>`;
  };
  return html`<svg class="plane" viewBox="${-unit} ${-unit} ${width + 2 * unit} ${height + 2 * unit}" role="img" aria-label="The world from above"><rect class="ground" x="0" y="0" width="${width}" height="${height}"/>${places.map(
    (place) =>
      html`${shape(place)}${place.kind === 'wall' ? undefined : html`<text x="${place.at[0]}" y="${place.at[1] - (place.radius ?? place.half?.[1] ?? 0) + 3.4 * unit}" text-anchor="middle" style="font-size:${3.2 * unit}px">${place.name}</text>`}`,
  )}<g class="moving" data-unit="${unit}"></g></svg>`;
}

const apart = (a: Point, b: Point): number => Math.hypot(a[0] - b[0], a[1] - b[1]);
const round = (value: number): number => (Number.isFinite(value) ? Math.round(value * 1000) / 1000 : 0);
const point = ([x, y]: Point): Point => [round(x), round(y)];

/** A frame as the page carries it: rounded, pictures as text. */
function packed(frame: Frame): ReplayFrame {
  const path = (given: Frame['plan']) =>
    given && { points: given.points.map(point), energy: round(given.energy), violations: given.violations };
  return {
    time: frame.time,
    episode: frame.episode,
    clock: frame.clock,
    place: point(frame.place),
    believed: point(frame.believed),
    deviation: frame.deviation === undefined ? undefined : round(frame.deviation),
    movers: frame.movers.map(point),
    danger: frame.danger,
    levels: frame.levels.map(round),
    heard: frame.heard,
    picture: frame.picture && {
      side: frame.picture.side,
      hex: Array.from(frame.picture.values, (v) => v.toString(16).padStart(2, '0')).join(''),
    },
    subgoal: frame.subgoal && point(frame.subgoal),
    proposal: path(frame.proposal),
    plan: path(frame.plan),
    tried: frame.tried,
    costs: frame.costs.map(round),
    mode: frame.mode,
    reason: frame.reason,
    verdict: frame.verdict,
    broken: frame.broken,
    action: frame.action.map(round),
    surprise: Number.isNaN(frame.surprise) ? null : round(frame.surprise),
    known: round(frame.known),
    remembered: frame.remembered,
  };
}
