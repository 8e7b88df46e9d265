import type { Frame, Point, Stage } from '../agent/life.js';
import type { HeatReadout, LineReadout } from './svg.js';

/** What the page's script is given, as JSON inside the page. */
export interface PageData {
  readonly plots: readonly LineReadout[];
  readonly heat?: HeatReadout & { readonly names: readonly string[]; readonly counts: readonly (readonly number[])[] };
  readonly map?: MapData;
  readonly replay?: ReplayData;
}

/** An agent's life to be replayed. */
export interface ReplayData {
  readonly stage: Pick<Stage, 'terms' | 'levels' | 'movers'>;
  /** Whether there is anything that a shield keeps the agent from. */
  readonly guarded: boolean;
  readonly chapters: readonly { readonly name: string; readonly frames: readonly ReplayFrame[] }[];
}

/** A frame as the page carries it. */
export type ReplayFrame = Omit<Frame, 'own' | 'phase' | 'picture' | 'surprise' | 'capacity'> & {
  /** Grey values, two hexadecimal digits each. */
  readonly picture?: { readonly side: number; readonly hex: string };
  /** Null where nothing had been expected. */
  readonly surprise: number | null;
};

export interface MapData {
  /** x, y, x, y, ... in thousandths of the map's width, y upwards. */
  readonly points: readonly number[];
  readonly colourings: readonly {
    readonly name: string;
    readonly groups: readonly string[];
    readonly values: readonly number[];
  }[];
  readonly names?: readonly string[];
  readonly sheet?: { readonly cell: number; readonly columns: number };
}

/**
 * The script of a report. It is written into the page as text (`toString`), so it uses nothing from outside of itself
 * but the browser; text from data reaches the page through `textContent` only.
 */
export function pageScript(): void {
  const element = <T extends Element>(selector: string) => document.querySelector<T>(selector);
  const data = JSON.parse(element('#report-data')!.textContent!) as PageData;
  const redraws: (() => void)[] = [];
  const redrawAll = () => {
    for (const redraw of redraws) redraw();
  };

  function theme(): void {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const root = document.documentElement;
    dark.addEventListener('change', redrawAll);
    element<HTMLButtonElement>('#theme')!.addEventListener('click', () => {
      const now = root.dataset.theme ?? (dark.matches ? 'dark' : 'light');
      root.dataset.theme = now === 'dark' ? 'light' : 'dark';
      redrawAll();
    });
    addEventListener('beforeprint', () => {
      for (const details of document.querySelectorAll('details')) details.open = true;
    });
  }

  function number(value: number | null): string {
    if (value === null) return '–';
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace('-', '−').replace('+', '');
    const digits = size >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 };
    return value.toLocaleString('en', digits).replace('-', '−');
  }

  function plots(): void {
    const figures = [...document.querySelectorAll<HTMLElement>('[data-plot]')].map((figure) => {
      const svg = figure.querySelector('svg')!;
      return {
        plot: data.plots[Number(figure.dataset.plot)],
        svg,
        cursor: svg.querySelector<SVGGElement>('.cursor')!,
        outputs: [...figure.querySelectorAll('.legend b')],
        title: figure.querySelector('h3 span')!,
        unit: figure.querySelector('h3 span')!.textContent ?? '',
      };
    });
    const place = (scale: LineReadout['x'], value: number) => {
      const map = scale.kind === 'log' ? Math.log10 : (v: number) => v;
      const low = map(scale.domain[0]);
      const share = (map(value) - low) / (map(scale.domain[1]) - low);
      return scale.range[0] + share * (scale.range[1] - scale.range[0]);
    };
    const valueAt = (scale: LineReadout['x'], pixel: number) => {
      const share = Math.min(1, Math.max(0, (pixel - scale.range[0]) / (scale.range[1] - scale.range[0])));
      const [low, high] = scale.kind === 'log' ? scale.domain.map(Math.log10) : scale.domain;
      const value = low + share * (high - low);
      return scale.kind === 'log' ? 10 ** value : value;
    };
    const nearest = (values: readonly number[], x: number) => {
      let low = 0;
      let high = values.length - 1;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (values[middle] < x) low = middle;
        else high = middle;
      }
      return x - values[low] < values[high] - x ? low : high;
    };
    const show = (label: string | undefined, x: number) => {
      for (const { plot, cursor, outputs, title, unit } of figures) {
        const inside = label !== undefined && plot.xLabel === label;
        cursor.style.visibility = inside ? 'visible' : 'hidden';
        title.textContent = inside ? `${unit} · ${label} ${Math.round(x).toLocaleString('en')}` : unit;
        const line = cursor.querySelector('line')!;
        line.setAttribute('x1', String(place(plot.x, x)));
        line.setAttribute('x2', String(place(plot.x, x)));
        plot.series.forEach((series, i) => {
          const at = inside ? nearest(series.x, x) : series.x.length - 1;
          const value = series.y[at] ?? null;
          const circle = cursor.querySelectorAll('circle')[i];
          circle.style.display = value === null ? 'none' : '';
          circle.setAttribute('cx', String(place(plot.x, series.x[at])));
          if (value !== null) circle.setAttribute('cy', String(place(plot.y, value)));
          outputs[i].textContent = number(value);
        });
      }
    };
    for (const { plot, svg } of figures) {
      const move = (event: PointerEvent) => {
        const box = svg.getBoundingClientRect();
        const pixel = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        show(plot.xLabel, valueAt(plot.x, pixel));
      };
      svg.addEventListener('pointermove', move);
      svg.addEventListener('pointerdown', move);
      svg.addEventListener('pointerleave', () => show(undefined, plot.x.domain[1]));
    }
  }

  function heat(): void {
    const figure = element<HTMLElement>('[data-heat]');
    const map = data.heat;
    if (!figure || !map) return;
    const svg = figure.querySelector('svg')!;
    const output = figure.querySelector<HTMLElement>('output')!;
    const rest = output.textContent;
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      const row = Math.floor(((event.clientY - box.top) * scale - map.top) / map.cell);
      const column = Math.floor(((event.clientX - box.left) * scale - map.left) / map.cell);
      const counts = map.counts[row];
      if (counts?.[column] === undefined) {
        output.textContent = rest;
        return;
      }
      const total = counts.reduce((a, b) => a + b, 0);
      const share = total ? `${((100 * counts[column]) / total).toFixed(1)} %` : '–';
      output.textContent = `${map.names[row]} taken for ${map.names[column]}: ${counts[column]} of ${total} (${share})`;
    });
    svg.addEventListener('pointerleave', () => {
      output.textContent = rest;
    });
  }

  function map(): void {
    const root = element<HTMLElement>('#map-figure');
    if (!root || !data.map) return;
    const { points, colourings, names, sheet } = data.map;
    const count = points.length / 2;
    const canvas = root.querySelector('canvas')!;
    const pen = canvas.getContext('2d')!;
    const tip = root.querySelector<HTMLElement>('.tip')!;
    const thumb = tip.querySelector('canvas')!;
    const text = tip.querySelector('div')!;
    const sprite = root.querySelector<HTMLImageElement>('img');
    const choice = root.querySelector<HTMLSelectElement>('select');
    const pictures = root.querySelector<HTMLButtonElement>('[data-do=pictures]');
    const groups = root.querySelector<HTMLElement>('.groups')!;
    const high = Math.max(...points.filter((_, i) => i % 2 === 1)) / 1000;
    const low = Math.min(...points.filter((_, i) => i % 2 === 1)) / 1000;
    let view = { x: 0.5, y: (high + low) / 2, zoom: 1 };
    let asPictures = false;
    let pinned: number | undefined;
    let lit: number | undefined;
    let pointed: number | undefined;

    const colouring = () => colourings[choice ? choice.selectedIndex : 0];
    const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
    const scale = () => {
      const { width, height } = size();
      return Math.min((width - 40) / 1, (height - 40) / Math.max(high - low, 1e-6)) * view.zoom;
    };
    const screen = (i: number) => {
      const { width, height } = size();
      return [
        width / 2 + (points[2 * i] / 1000 - view.x) * scale(),
        height / 2 - (points[2 * i + 1] / 1000 - view.y) * scale(),
      ] as const;
    };
    const style = () => getComputedStyle(document.documentElement);
    const isDark = () => style().colorScheme === 'dark';
    const colour = (group: number, of: number) => {
      if (group < 0) return style().getPropertyValue('--faint');
      if (of <= 8) return style().getPropertyValue(`--c${group}`);
      // More groups than eight hues: turn by the golden angle, in three lightnesses; the names on the map tell the rest.
      const light = (isDark() ? [0.72, 0.82, 0.62] : [0.56, 0.68, 0.45])[group % 3];
      return `oklch(${light} 0.14 ${(group * 137.508) % 360})`;
    };

    function draw(): void {
      const { width, height } = size();
      const ratio = devicePixelRatio || 1;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      const { groups: known, values } = colouring();
      const palette = known.map((_, group) => colour(group, known.length));
      const focus = lit ?? pinned;
      const small = Math.min(1, 0.35 + width / 1100);
      const radius = Math.min(6, Math.max(1.8, 135 / Math.sqrt(count)) * small * Math.sqrt(view.zoom));
      const edge = Math.min(48, Math.max(11, (width * 0.62) / Math.sqrt(count)) * Math.sqrt(view.zoom));
      for (const front of [false, true]) {
        for (let i = 0; i < count; i++) {
          const isLit = focus === undefined || values[i] === focus;
          if (isLit !== front) continue;
          const [x, y] = screen(i);
          if (x < -edge || y < -edge || x > width + edge || y > height + edge) continue;
          if (asPictures && sheet && sprite) {
            pen.globalAlpha = isLit ? 1 : 0.13;
            const from = [(i % sheet.columns) * sheet.cell, Math.floor(i / sheet.columns) * sheet.cell];
            pen.drawImage(sprite, from[0], from[1], sheet.cell, sheet.cell, x - edge / 2, y - edge / 2, edge, edge);
          } else {
            pen.globalAlpha = isLit ? 0.82 : 0.1;
            pen.fillStyle = palette[values[i]] ?? colour(-1, 0);
            pen.beginPath();
            pen.arc(x, y, radius, 0, 2 * Math.PI);
            pen.fill();
          }
        }
      }
      pen.globalAlpha = 1;
      // Two groups are told apart by colour; their names would stand for lumps that are not there.
      if (!asPictures && known.length > 2) labels(known, focus);
      if (pointed !== undefined) {
        const [x, y] = screen(pointed);
        pen.strokeStyle = style().getPropertyValue('--ink');
        pen.lineWidth = 1.6;
        pen.beginPath();
        pen.arc(x, y, (asPictures ? edge * 0.72 : radius) + 3, 0, 2 * Math.PI);
        pen.stroke();
      }
    }

    /** The name of every group at the point of its members that has most members near it. */
    function labels(known: readonly string[], focus: number | undefined): void {
      pen.textAlign = 'center';
      pen.textBaseline = 'middle';
      pen.lineJoin = 'round';
      pen.lineWidth = 4;
      pen.strokeStyle = style().getPropertyValue('--surface');
      const anchors = anchorsOf(choice ? choice.selectedIndex : 0);
      const taken: { x: number; y: number; width: number }[] = [];
      known.forEach((name, group) => {
        if (anchors[group] < 0 || (focus !== undefined && focus !== group)) return;
        const label = name.length > 18 ? `${name.slice(0, 17)}…` : name;
        const [x, y] = screen(anchors[group]);
        const height = (name.length <= 2 ? 17 : 12.5) * (canvas.clientWidth < 500 ? 0.72 : 1);
        pen.font = `600 ${height}px system-ui, sans-serif`;
        // A name that would lie on another waits until the map is enlarged.
        const { width } = pen.measureText(label);
        const covers = (other: (typeof taken)[number]) =>
          Math.abs(other.y - y) < height && Math.abs(other.x - x) < (other.width + width) / 2;
        if (taken.some(covers)) return;
        taken.push({ x, y, width });
        pen.fillStyle = style().getPropertyValue('--ink');
        pen.strokeText(label, x, y);
        pen.fillText(label, x, y);
      });
    }

    const anchorCache = new Map<number, number[]>();
    function anchorsOf(which: number): number[] {
      const cached = anchorCache.get(which);
      if (cached) return cached;
      const { groups: known, values } = colourings[which];
      const members: number[][] = known.map(() => []);
      for (let i = 0; i < count; i++) members[values[i]]?.push(i);
      const anchors = members.map((group) => {
        // Mean shift from the mean, with a shrinking window, ends inside the largest lump even of a torn group.
        if (!group.length) return -1;
        let x = 0;
        let y = 0;
        for (const i of group) {
          x += points[2 * i] / group.length;
          y += points[2 * i + 1] / group.length;
        }
        for (const window of [300, 180, 110, 70, 45, 45]) {
          let [sumX, sumY, sum] = [0, 0, 0];
          for (const i of group) {
            const square = (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
            const weight = Math.exp(-square / (2 * window * window));
            sumX += weight * points[2 * i];
            sumY += weight * points[2 * i + 1];
            sum += weight;
          }
          if (sum > 1e-9) [x, y] = [sumX / sum, sumY / sum];
        }
        const away = (i: number) => (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
        return group.reduce((best, i) => (away(i) < away(best) ? i : best), group[0]);
      });
      anchorCache.set(which, anchors);
      return anchors;
    }

    function listGroups(): void {
      const { groups: known, values } = colouring();
      const sizes = known.map(() => 0);
      for (const value of values) if (value >= 0) sizes[value]++;
      groups.replaceChildren(
        ...known.map((name, group) => {
          const button = document.createElement('button');
          const dot = document.createElement('i');
          dot.style.background = colour(group, known.length);
          button.append(dot, name);
          button.title = `${sizes[group]} images`;
          button.type = 'button';
          button.setAttribute('aria-pressed', String(pinned === group));
          button.addEventListener('pointerenter', () => {
            lit = group;
            draw();
          });
          button.addEventListener('pointerleave', () => {
            lit = undefined;
            draw();
          });
          button.addEventListener('click', () => {
            pinned = pinned === group ? undefined : group;
            lit = undefined;
            listGroups();
            draw();
          });
          return button;
        }),
      );
    }

    function point(event: PointerEvent): void {
      const box = canvas.getBoundingClientRect();
      const [px, py] = [event.clientX - box.left, event.clientY - box.top];
      const focus = pinned;
      const { groups: known, values } = colouring();
      let best = 18 * 18;
      let found: number | undefined;
      for (let i = 0; i < count; i++) {
        if (focus !== undefined && values[i] !== focus) continue;
        const [x, y] = screen(i);
        const square = (x - px) ** 2 + (y - py) ** 2;
        if (square < best) {
          best = square;
          found = i;
        }
      }
      if (found !== pointed) {
        pointed = found;
        draw();
      }
      tip.style.visibility = found === undefined ? 'hidden' : 'visible';
      if (found === undefined) return;
      thumb.hidden = !sheet;
      if (sheet && sprite) {
        const small = thumb.getContext('2d')!;
        thumb.width = sheet.cell;
        thumb.height = sheet.cell;
        thumb.style.imageRendering = sheet.cell <= 64 ? 'pixelated' : 'auto';
        const from = [(found % sheet.columns) * sheet.cell, Math.floor(found / sheet.columns) * sheet.cell];
        small.drawImage(sprite, from[0], from[1], sheet.cell, sheet.cell, 0, 0, sheet.cell, sheet.cell);
      }
      const lines = colourings.map((one) => `${one.name}: ${one.groups[one.values[found]] ?? 'unknown'}`);
      if (names) lines.unshift(names[found]);
      text.replaceChildren(
        ...lines.map((line) => {
          const row = document.createElement('div');
          row.textContent = line;
          return row;
        }),
      );
      if (!names && known.length) text.firstElementChild?.setAttribute('style', 'font-weight:600');
      const [x, y] = screen(found);
      const left = x + 16 + tip.offsetWidth > box.width ? x - 16 - tip.offsetWidth : x + 16;
      tip.style.left = `${canvas.offsetLeft + Math.max(0, left)}px`;
      tip.style.top = `${canvas.offsetTop + Math.max(0, Math.min(y - tip.offsetHeight / 2, box.height - tip.offsetHeight))}px`;
    }

    function zoom(factor: number, at?: { x: number; y: number }): void {
      const { width, height } = size();
      const centre = at ?? { x: width / 2, y: height / 2 };
      const before = scale();
      const [x, y] = [view.x + (centre.x - width / 2) / before, view.y - (centre.y - height / 2) / before];
      view.zoom = Math.min(40, Math.max(1, view.zoom * factor));
      view.x = x - (centre.x - width / 2) / scale();
      view.y = y + (centre.y - height / 2) / scale();
      if (view.zoom === 1) view = { x: 0.5, y: (high + low) / 2, zoom: 1 };
      tip.style.visibility = 'hidden';
      pointed = undefined;
      draw();
    }

    let dragged: { x: number; y: number } | undefined;
    canvas.addEventListener('pointerdown', (event) => {
      if (view.zoom > 1) {
        dragged = { x: event.clientX, y: event.clientY };
        canvas.setPointerCapture(event.pointerId);
      }
      point(event);
    });
    canvas.addEventListener('pointerup', () => {
      dragged = undefined;
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!dragged) {
        point(event);
        return;
      }
      view.x -= (event.clientX - dragged.x) / scale();
      view.y += (event.clientY - dragged.y) / scale();
      dragged = { x: event.clientX, y: event.clientY };
      tip.style.visibility = 'hidden';
      pointed = undefined;
      draw();
    });
    canvas.addEventListener('pointerleave', () => {
      tip.style.visibility = 'hidden';
      pointed = undefined;
      draw();
    });
    const within = (event: MouseEvent) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener('dblclick', (event) => zoom(2, within(event)));
    canvas.addEventListener(
      'wheel',
      (event) => {
        // A plain wheel scrolls the page; with Ctrl (which a pinch on a touchpad sends too) it zooms the map.
        if (!event.ctrlKey) return;
        event.preventDefault();
        zoom(2 ** (-event.deltaY / 240), within(event));
      },
      { passive: false },
    );
    const buttons: Record<string, () => void> = {
      in: () => zoom(1.6),
      out: () => zoom(1 / 1.6),
      pictures: () => {
        asPictures = !asPictures;
        pictures!.setAttribute('aria-pressed', String(asPictures));
        draw();
      },
    };
    for (const button of root.querySelectorAll<HTMLButtonElement>('[data-do]')) {
      button.addEventListener('click', buttons[button.dataset.do!]);
    }
    choice?.addEventListener('change', () => {
      pinned = undefined;
      listGroups();
      draw();
    });
    const redraw = () => {
      listGroups();
      draw();
    };
    redraws.push(redraw);
    new ResizeObserver(draw).observe(canvas);
    addEventListener('beforeprint', draw);
    sprite?.decode().then(draw, () => {});
    redraw();
  }

  function copyButtons(): void {
    for (const button of document.querySelectorAll<HTMLButtonElement>('.command button')) {
      button.addEventListener('click', async () => {
        const command = button.parentElement!.querySelector('code')!.textContent!;
        await navigator.clipboard.writeText(command);
        button.textContent = 'Copied';
        setTimeout(() => {
          button.textContent = 'Copy';
        }, 1500);
      });
    }
  }

  /** One step of an agent at a time: the world from above, what it imagined, cost by term, what it did and why. */
  function replay(): void {
    const root = element<HTMLElement>('[data-replay]');
    if (!root || !data.replay) return;
    const { stage, guarded, chapters } = data.replay;
    const svgElement = (name: string, attributes: Readonly<Record<string, string | number>>) => {
      const made = document.createElementNS(moving.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
      return made;
    };
    const make = (name: string, className: string, text: string) => {
      const made = document.createElement(name);
      if (className) made.className = className;
      made.textContent = text;
      return made;
    };
    const moving = root.querySelector<SVGGElement>('.moving')!;
    const unit = Number(moving.dataset.unit);
    const danger = root.querySelectorAll('.plane .danger');
    const passing = root.querySelectorAll<SVGElement>('.plane [data-parts]');
    const told = root.querySelector<HTMLElement>('.told')!;
    const choice = root.querySelector<HTMLSelectElement>('select')!;
    const slider = root.querySelector<HTMLInputElement>('input')!;
    const output = root.querySelector('output')!;
    const strip = root.querySelector<HTMLCanvasElement>('.strip')!;
    const playButton = root.querySelector<HTMLButtonElement>('[data-do=play]')!;
    const style = () => getComputedStyle(document.documentElement);
    /** Three digits are enough of what changes at every step. */
    const few = (value: number) => number(Number(value.toPrecision(3)));
    const tones = [3, 0, 6, 7, 5];
    const tone = (i: number) => `var(--c${tones[i % tones.length]})`;
    // The part that matters is the last.
    let chapter = chapters.length - 1;
    let at = 0;
    let timer: ReturnType<typeof setInterval> | undefined;
    choice.selectedIndex = chapter;
    const frames = () => chapters[chapter].frames;
    const most = () => Math.max(1e-6, ...frames().flatMap(({ costs }) => costs.map(Math.abs)));

    function path(points: readonly Point[], from: Point, className: string): void {
      const all = [from, ...points];
      moving.append(
        svgElement('polyline', {
          class: className,
          points: all.map((p) => p.join(',')).join(' '),
          'stroke-width': 0.7 * unit,
        }),
      );
      for (const [cx, cy] of points) moving.append(svgElement('circle', { class: className, cx, cy, r: 0.8 * unit }));
    }

    function bars(
      names: readonly string[],
      values: readonly number[],
      full: number,
      colour: (i: number) => string,
    ): HTMLElement {
      const box = make('div', 'bars', '');
      names.forEach((name, i) => {
        const track = document.createElement('div');
        const fill = document.createElement('i');
        fill.style.width = `${Math.min(100, (100 * Math.max(0, values[i])) / full)}%`;
        fill.style.background = colour(i);
        track.append(fill);
        box.append(make('span', '', name), track, make('b', '', few(values[i])));
      });
      return box;
    }

    function row(name: string, ...parts: readonly (string | HTMLElement)[]): void {
      const value = document.createElement('dd');
      value.append(...parts);
      told.append(make('dt', '', name), value);
    }

    function picture({ side, hex }: NonNullable<ReplayFrame['picture']>): HTMLElement {
      const eye = document.createElement('canvas');
      eye.className = 'eye';
      eye.width = side;
      eye.height = side;
      const pen = eye.getContext('2d')!;
      const image = pen.createImageData(side, side);
      for (let i = 0; i < side * side; i++) {
        const value = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
        image.data.set([value, value, value, 255], 4 * i);
      }
      pen.putImageData(image, 0, 0);
      return eye;
    }

    function show(): void {
      const frame = frames()[at];
      slider.max = String(frames().length - 1);
      slider.value = String(at);
      output.textContent = `step ${(at + 1).toLocaleString('en')} of ${frames().length.toLocaleString('en')}`;
      for (const shape of danger) shape.classList.toggle('now', frame.danger);
      for (const shape of passing)
        shape.style.display = shape.dataset.parts!.split('|').includes(chapters[chapter].name) ? '' : 'none';
      moving.replaceChildren();
      if (frame.proposal) path(frame.proposal.points, frame.believed, 'proposal');
      if (frame.plan) path(frame.plan.points, frame.believed, 'course');
      if (frame.subgoal) {
        const [x, y] = frame.subgoal;
        const r = 1.6 * unit;
        moving.append(
          svgElement('path', {
            class: 'subgoal',
            'stroke-width': 0.7 * unit,
            d: `M${x - r},${y - r}l${2 * r},${2 * r}m0,${-2 * r}l${-2 * r},${2 * r}`,
          }),
        );
      }
      frame.movers.forEach(([cx, cy], i) => {
        moving.append(svgElement('circle', { class: 'mover', cx, cy, r: 1.6 * unit }));
        const name = svgElement('text', {
          x: cx,
          y: cy - 2.4 * unit,
          'text-anchor': 'middle',
          style: `font-size:${3.2 * unit}px`,
        });
        name.textContent = stage.movers[i];
        moving.append(name);
      });
      if (frame.deviation !== undefined)
        moving.append(
          svgElement('circle', {
            class: 'unsure',
            cx: frame.believed[0],
            cy: frame.believed[1],
            r: 2 * frame.deviation,
            'stroke-width': 0.4 * unit,
          }),
        );
      moving.append(
        svgElement('circle', {
          class: 'believed',
          cx: frame.believed[0],
          cy: frame.believed[1],
          r: 1.5 * unit,
          'stroke-width': 0.5 * unit,
        }),
      );
      moving.append(svgElement('circle', { class: 'agent', cx: frame.place[0], cy: frame.place[1], r: 1.3 * unit }));

      told.replaceChildren();
      const spot = ([x, y]: Point) => `(${few(x)}, ${few(y)})`;
      const off = Math.hypot(frame.place[0] - frame.believed[0], frame.place[1] - frame.believed[1]);
      const unsure = frame.deviation === undefined ? '' : ` ± ${few(frame.deviation)}`;
      const heard = frame.heard
        ? frame.heard.length
          ? `${frame.heard.join(', ')}. `
          : 'every sensor was silent. '
        : '';
      row('When', `${frame.clock ? `${frame.clock}, ` : ''}episode ${frame.episode + 1}, step ${frame.time + 1}`);
      row(
        'Saw',
        ...(frame.picture ? [picture(frame.picture)] : []),
        off < 1e-3 && !unsure
          ? `${heard}It is at ${spot(frame.place)}, and knows it.`
          : `${heard}Thinks it is at ${spot(frame.believed)}${unsure}; it is ${few(off)} away from there.`,
      );
      if (stage.levels.length)
        row(
          'Felt',
          bars(stage.levels, frame.levels, 1, () => 'var(--c2)'),
        );
      row(
        'Surprise',
        frame.surprise === null ? 'nothing was expected yet' : `${few(frame.surprise)} away from what was expected`,
      );
      row('Cost', bars(stage.terms, frame.costs, most(), tone));
      const broken = frame.plan?.violations ? `; ${frame.plan.violations} of its steps would break a guardrail` : '';
      row(
        'Imagined',
        frame.plan && frame.proposal
          ? `${frame.tried.toLocaleString('en')} plans of ${frame.plan.points.length} steps. Energy ${few(frame.proposal.energy)} as proposed, ${few(frame.plan.energy)} as planned${broken}.`
          : 'nothing: it acted at once.',
      );
      const verdicts = {
        kept: guarded ? 'The shield let it pass.' : '',
        moved: 'The shield took the nearest safe action instead',
        fallback: 'The shield found nothing safe and took the fallback',
      };
      const why = frame.broken.length ? ` (${frame.broken.join(', ')}).` : frame.verdict === 'kept' ? '' : '.';
      row('Did', `(${frame.action.map(few).join(', ')}). ${verdicts[frame.verdict]}${why}`);
      row(
        'Why',
        `Mode ${frame.mode}: ${frame.reason}. Knows the situation by ${few(frame.known)}; remembers ${frame.remembered.toLocaleString('en')}.`,
      );
      drawStrip();
    }

    function drawStrip(): void {
      const [width, height] = [strip.clientWidth, strip.clientHeight];
      if (!width) return;
      const ratio = devicePixelRatio || 1;
      strip.width = Math.round(width * ratio);
      strip.height = Math.round(height * ratio);
      const pen = strip.getContext('2d')!;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      const all = frames();
      const each = width / all.length;
      const value = (name: string) => style().getPropertyValue(name);
      const full = most();
      all.forEach((frame, i) => {
        const x = i * each;
        if (frame.danger) {
          pen.fillStyle = value('--tint');
          pen.fillRect(x, 12, each + 0.5, height - 12);
        }
        pen.fillStyle = value(frame.mode === 2 ? '--c1' : '--c2');
        pen.fillRect(x, 0, each + 0.5, 8);
        if (frame.verdict !== 'kept') {
          pen.fillStyle = value('--bad');
          pen.fillRect(x, 12, Math.max(1, Math.min(2, each)), 6);
        }
      });
      stage.terms.forEach((_, term) => {
        pen.strokeStyle = value(`--c${tones[term % tones.length]}`);
        pen.lineWidth = 1.4;
        pen.beginPath();
        all.forEach(({ costs }, i) => {
          const y = height - 2 - ((height - 24) * Math.max(0, costs[term])) / full;
          if (i === 0) pen.moveTo(each / 2, y);
          else pen.lineTo((i + 0.5) * each, y);
        });
        pen.stroke();
      });
      pen.fillStyle = value('--ink');
      pen.fillRect((at + 0.5) * each - 0.5, 0, 1, height);
    }

    const go = (step: number) => {
      at = Math.min(frames().length - 1, Math.max(0, step));
      show();
    };
    const stop = () => {
      clearInterval(timer);
      timer = undefined;
      playButton.textContent = 'Play';
    };
    const play = () => {
      if (timer) {
        stop();
        return;
      }
      if (at === frames().length - 1) at = 0;
      playButton.textContent = 'Pause';
      timer = setInterval(() => {
        if (at >= frames().length - 1) stop();
        else go(at + 1);
      }, 120);
    };
    const actions: Record<string, () => void> = {
      back: () => go(at - 1),
      on: () => go(at + 1),
      play,
    };
    for (const button of root.querySelectorAll<HTMLButtonElement>('[data-do]'))
      button.addEventListener('click', actions[button.dataset.do!]);
    slider.addEventListener('input', () => go(Number(slider.value)));
    choice.addEventListener('change', () => {
      stop();
      chapter = choice.selectedIndex;
      go(0);
    });
    const seek = (event: PointerEvent) => {
      const box = strip.getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * frames().length));
    };
    strip.addEventListener('pointerdown', seek);
    strip.addEventListener('pointermove', (event) => {
      if (event.buttons) seek(event);
    });
    root.addEventListener('keydown', (event) => {
      if (event.target === slider || event.target === choice) return;
      if (event.key === 'ArrowRight') go(at + 1);
      if (event.key === 'ArrowLeft') go(at - 1);
    });
    redraws.push(drawStrip);
    new ResizeObserver(drawStrip).observe(strip);
    show();
  }

  theme();
  plots();
  heat();
  map();
  replay();
  copyButtons();
}
