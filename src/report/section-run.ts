import { type Bar, barPlot } from './bars.js';
import type { Curve, Fact, NextStep, ReportData, Timings, WrittenFile } from './data.js';
import { formatBytes, formatDuration, formatFixed, formatNumber } from './format.js';
import { type Html, html, Html as Markup } from './html.js';
import { movingAverage } from './scale.js';
import { type Collected, note, type Section } from './section.js';
import { type LineSeries, legend, linePlot } from './svg.js';

export function curveSection({ curves }: ReportData, page: Collected): Section | undefined {
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

export function timingSection({ timings }: ReportData): Section | undefined {
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
  const { stepSeconds, samplesPerSecond, flopsPerStep, peakFlops, peakBytes } = timings;
  const facts: Fact[] = [];
  if (stepSeconds !== undefined) facts.push({ name: 'One step', value: formatDuration(stepSeconds) });
  if (samplesPerSecond !== undefined)
    facts.push({ name: 'Images per second', value: formatNumber(samplesPerSecond, 4) });
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

export function nextSection({ next, files }: ReportData): Section | undefined {
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
    lead: 'Commands to go on with, and the files of this run.',
    body: html`${steps}${written}`,
  };
}

export function configurationSection({ configuration, environment }: ReportData): Section | undefined {
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
