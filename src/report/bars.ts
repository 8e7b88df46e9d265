import { type Html, html } from './html.js';
import { color, type Tone } from './svg.js';

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** Written behind the bar. */
  readonly text: string;
  readonly tone: Tone;
  /** Interval drawn as a whisker, in the bar's unit. */
  readonly interval?: readonly [number, number];
}

/**
 * Horizontal bars from zero, one a row, labels before and values behind them; `max` is the full length. HTML rather than
 * SVG: the bars follow the width of the page, the text keeps its size.
 */
export function barPlot(bars: readonly Bar[], max: number): Html {
  const share = (value: number) => Math.round((1000 * Math.min(Math.max(value, 0), max)) / max) / 10 || 0;
  return html`<div class="bars">${bars.map(({ label, value, text, tone, interval }) => {
    const whisker =
      interval &&
      html`<u style="left:${share(interval[0])}%;width:${Math.round(10 * (share(interval[1]) - share(interval[0]))) / 10}%"></u>`;
    return html`<span>${label}</span><div><i style="width:${share(value)}%;background:${color(tone)}"></i>${whisker}</div><b>${text}</b>`;
  })}</div>`;
}
