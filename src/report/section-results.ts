import { wilson } from '../eval/intervals.js';
import { type Bar, barPlot } from './bars.js';
import type { ClassResults, Probe, ProbeResult, ProbeTable, ReportData } from './data.js';
import { formatFixed } from './format.js';
import { type Html, html } from './html.js';
import { type Collected, note, type Section } from './section.js';
import { heatMap, scatterPlot } from './svg.js';

export function probeSection({ probes }: ReportData): Section | undefined {
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
  return result.interval ?? (probe.samples ? wilsonPercent(result.value, probe.samples) : undefined);
}

function wilsonPercent(percent: number, samples: number): [number, number] {
  const [low, high] = wilson((percent / 100) * samples, samples);
  return [100 * low, 100 * high];
}

export function classSection({ classes }: ReportData, page: Collected): Section | undefined {
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
