/** Markup that may be written as it is. Everything else that `html` meets is escaped, so names from data cannot inject. */
export class Html {
  constructor(readonly text: string) {}
  toString(): string {
    return this.text;
  }
}

type Interpolation = Html | readonly Html[] | string | number | false | undefined;

/**
 * Template tag for HTML and SVG: interpolated strings and numbers are escaped (safe in text and in double-quoted
 * attributes), `Html` and lists of it are inserted, `false` and `undefined` leave nothing.
 */
export function html(parts: TemplateStringsArray, ...values: Interpolation[]): Html {
  let text = parts[0];
  values.forEach((value, i) => {
    text += markup(value) + parts[i + 1];
  });
  return new Html(text);
}

function markup(value: Interpolation): string {
  if (value === undefined || value === false) return '';
  if (value instanceof Html) return value.text;
  if (typeof value === 'string' || typeof value === 'number') return escapeHtml(String(value));
  return value.map((item) => item.text).join('');
}

/** Escapes text for HTML content and double- or single-quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** JSON that may stand inside a `<script type="application/json">` element: no `<` can end the element. */
export function scriptJson(value: unknown): Html {
  return new Html(JSON.stringify(value).replace(/</g, '\\u003c'));
}
