import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import type { ReportData } from './data.js';
import { formatFixed } from './format.js';
import { type Html, html, Html as Markup, scriptJson } from './html.js';
import { pageScript } from './page.js';
import type { Collected, Section } from './section.js';
import { livedSection, replaySection } from './section-life.js';
import { maskSection } from './section-masks.js';
import { attentionSection, featureSection, mapSection, neighbourSection, viewSection } from './section-pictures.js';
import { episodeSection, factorSection, rolloutSection, shiftSection, successSection } from './section-plans.js';
import { classSection, probeSection } from './section-results.js';
import { configurationSection, curveSection, nextSection, timingSection } from './section-run.js';
import { STYLE } from './style.js';
import { type Severity, severityOf } from './verdict.js';

type SectionOf = (data: ReportData, page: Collected) => Promise<Section | undefined> | Section | undefined;

/** All sections in the order of the page: what was learned, what it looks like, how it came about, how to go on. */
const SECTIONS: readonly SectionOf[] = [
  livedSection,
  replaySection,
  successSection,
  factorSection,
  shiftSection,
  episodeSection,
  rolloutSection,
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

/**
 * Writes a report as one HTML file that needs nothing else: no network, no other file. Creates the folder; replaces an
 * older report atomically. Throws JepaError where the file cannot be written.
 */
export async function writeReport(path: string, report: ReportData): Promise<void> {
  const page = await renderReport(report);
  withFileErrors('create the folder of', path, () => mkdirSync(dirname(path), { recursive: true }));
  writeFileAtomic(path, page);
}

/** The report as HTML. Equal data give equal text. */
export async function renderReport(report: ReportData): Promise<string> {
  const page: Collected = { plots: [] };
  const sections: Section[] = [];
  for (const make of SECTIONS) {
    const section = await make(report, page);
    if (section) sections.push(section);
  }
  const script = `(${pageScript.toString()})();`;
  const hash = createHash('sha256').update(script).digest('base64');
  // The browser itself keeps the page off the network, and runs no script but this one, whatever the data say.
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${report.title}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<header>
<div class="kicker"><span>${report.method ?? 'Training report'}${report.date ? html` <span>· ${report.date}</span>` : undefined}</span><button type="button" id="theme" aria-label="Switch between light and dark">◐</button></div>
<h1>${report.title}</h1>
${summary(report)}${verdict(report)}${headline(report)}
${sections.length > 2 ? html`<nav aria-label="Contents">${sections.map(({ id }) => html`<a href="#${id}">${id[0].toUpperCase() + id.slice(1)}</a>`)}</nav>` : undefined}
</header>
<main>
${sections.map(
  ({ id, title, lead, body }) => html`<section id="${id}"><h2>${title}</h2><p class="lead">${lead}</p>${body}</section>
`,
)}</main>
<footer>Made by jepa. This file is complete in itself: it can be mailed, archived and opened without a network.</footer>
<script type="application/json" id="report-data">${scriptJson(page)}</script>
<script>${new Markup(script)}</script>
</body>
</html>
`.text;
}

function summary({ summary, probes }: ReportData): Html | undefined {
  const text = summary ?? (probes ? probeSummary(probes.probes[0]) : undefined);
  return text ? html`<p class="summary">${text}</p>` : undefined;
}

/** The first probe in a sentence, baselines included: a number without them says nothing. */
function probeSummary(probe: NonNullable<ReportData['probes']>['probes'][number] | undefined): string | undefined {
  if (!probe?.results.length) return undefined;
  const [own, ...others] = probe.results;
  const against = others.map((other) => `${formatFixed(other.value, 1)} % for ${other.encoder}`).join(' and ');
  return `${probe.name} on the frozen encoder: ${formatFixed(own.value, 1)} %${against ? `, against ${against}` : ''}.`;
}

const ICONS: Record<Severity, string> = {
  good: 'M5 12.5l4.5 4.5L19 7.5M12 1.5a10.5 10.5 0 1 0 0 21a10.5 10.5 0 1 0 0-21',
  doubtful: 'M12 3L1.8 21h20.4ZM12 10v5M12 18v.01',
  bad: 'M8 8l8 8M16 8l-8 8M12 1.5a10.5 10.5 0 1 0 0 21a10.5 10.5 0 1 0 0-21',
};

function verdict({ verdict }: ReportData): Html | undefined {
  if (!verdict) return undefined;
  const severity = severityOf(verdict);
  const text = verdict.message.charAt(0).toUpperCase() + verdict.message.slice(1);
  const colon = text.indexOf(':') + 1;
  return html`<div class="verdict ${severity}"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="${ICONS[severity]}"/></svg><p><b>${text.slice(0, colon)}</b>${text.slice(colon)}</p></div>`;
}

function headline({ headline }: ReportData): Html | undefined {
  if (!headline?.length) return undefined;
  return html`<dl class="headline">${headline.map(
    ({ name, value, unit, note }) =>
      html`<div><dt>${name}</dt><dd class="figure">${value}${unit ? html`<small>${unit}</small>` : undefined}</dd>${note ? html`<dd class="note">${note}</dd>` : undefined}</div>`,
  )}</dl>`;
}
