import { type Html, html } from './html.js';
import type { PageData } from './page.js';

/** A part of the page. */
export interface Section {
  /** Also its name in the table of contents. */
  readonly id: string;
  readonly title: string;
  /** How to read it. */
  readonly lead: string;
  readonly body: Html;
}

/** What the sections leave for the page's script. */
export type Collected = { -readonly [K in keyof PageData]: PageData[K] } & { plots: PageData['plots'][number][] };

export function note(text: string | undefined): Html | undefined {
  return text ? html`<p class="note">${text}</p>` : undefined;
}
