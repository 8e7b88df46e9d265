import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Script } from 'node:vm';
import sharp from 'sharp';
import { JepaError } from '../../src/base/errors.js';
import type { RawImage } from '../../src/data/dataset.js';
import type { ReportData } from '../../src/report/data.js';
import { escapeHtml, html } from '../../src/report/html.js';
import { dataUri, heatImage, spriteSheet } from '../../src/report/images.js';
import { renderReport, writeReport } from '../../src/report/report.js';
import { outline } from '../../src/report/section-masks.js';
import { heatMap, linePlot, scatterPlot } from '../../src/report/svg.js';
import { sampleReport } from './sample.js';

const VOID = new Set(['meta', 'img']);

/** Names of all elements of a page in order; fails where tags do not nest. Scripts and styles are text. */
function elements(page: string): string[] {
  const names: string[] = [];
  const open: string[] = [];
  const text = page.replace(/<(script|style)([^>]*)>[\s\S]*?<\/\1>/g, '<$1$2></$1>');
  for (const [tag, slash, name, rest] of text.matchAll(/<(\/?)([a-z][a-z0-9]*)((?:[^>"]|"[^"]*")*)>/g)) {
    if (slash) assert.equal(open.pop(), name, `${tag} closes another element`);
    else {
      names.push(name);
      if (!VOID.has(name) && !rest.endsWith('/')) open.push(name);
    }
  }
  assert.deepEqual(open, []);
  // A `<` that opens no known tag would be data that was not escaped.
  const stray = text.replace(/<!doctype html>/, '').match(/<(?!\/?[a-z][a-z0-9]*[\s>/])[\s\S]{0,40}/);
  assert.equal(stray, null);
  return names;
}

function jsonOf(page: string): { map?: { points: number[] }; plots: unknown[]; heat?: { names: string[] } } {
  return JSON.parse(/<script type="application\/json"[^>]*>([\s\S]*?)<\/script>/.exec(page)![1]);
}

test('a full report: complete, within 3 MB, nothing from elsewhere, equal each time', async () => {
  const data = await sampleReport(600);
  const page = await renderReport(data);
  assert.ok(page.length < 3e6, `${page.length} bytes`);
  const names = elements(page);
  for (const id of ['probes', 'map', 'neighbours', 'features', 'attention', 'classes', 'training', 'masks', 'views']) {
    assert.match(page, new RegExp(`<section id="${id}">`));
    assert.match(page, new RegExp(`<a href="#${id}">`));
  }
  assert.equal(names.filter((name) => name === 'section').length, 12);
  // Addresses: only data URIs and places in this page.
  for (const [, address] of page.matchAll(/\s(?:src|href|action|poster|srcset)="([^"]*)"/g)) {
    assert.match(address, /^(data:image\/(png|webp);base64,[\w+/=]+|#[\w-]+)$/, address.slice(0, 60));
  }
  assert.doesNotMatch(page.replaceAll(/base64,[\w+/=]+/g, ''), /https?:|@import|url\(|\/\/[a-z]/);
  assert.equal(jsonOf(page).map!.points.length, 1200);
  assert.equal(jsonOf(page).plots.length, data.curves!.length);
  assert.equal(await renderReport(await sampleReport(600)), page);
});

test("only the page's own script may run, and it is valid by itself", async () => {
  const page = await renderReport({ title: 'x' });
  const scripts = [...page.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(([, text]) => text);
  assert.equal(scripts.length, 1);
  const hash = createHash('sha256').update(scripts[0]).digest('base64');
  const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)![1].replaceAll('&#39;', "'");
  assert.equal(policy, `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${hash}'`);
  assert.ok(new Script(scripts[0]));
});

test('nothing but a title leaves no empty parts', async () => {
  const page = await renderReport({ title: 'bare' });
  const names = elements(page);
  for (const gone of ['section', 'nav', 'figure', 'table', 'dl', 'svg', 'details'])
    assert.ok(!names.includes(gone), gone);
  const hollow: ReportData = {
    title: 'hollow',
    headline: [],
    probes: { probes: [] },
    neighbours: [],
    featureMaps: [],
    attention: [],
    curves: [{ title: 'none', series: [{ name: 'loss', x: [1], y: [Number.NaN] }] }],
    masks: { rows: 2, columns: 2, samples: [] },
    views: [],
    classes: { names: [], confusion: [] },
    timings: { scopes: [] },
    next: [],
    files: [],
    environment: [],
    configuration: '',
    map: { points: [], colourings: [] },
  };
  assert.ok(!elements(await renderReport(hollow)).includes('section'));
});

test('names from data cannot inject', async () => {
  const evil = `</script><script>alert(1)</script><img src=x onerror="alert(2)">"' onload='x' &amp; \u2028`;
  const image: RawImage = { width: 2, height: 2, channels: 1, data: new Uint8Array(4) };
  const page = await renderReport({
    title: evil,
    method: evil,
    date: evil,
    summary: evil,
    verdict: { verdict: 'dimensional collapse', message: evil },
    headline: [{ name: evil, value: evil, unit: evil, note: evil }],
    probes: { note: evil, probes: [{ name: evil, note: evil, samples: 10, results: [{ encoder: evil, value: 50 }] }] },
    map: {
      points: [0, 0, 1, 1],
      thumbnails: [image, image],
      names: [evil, evil],
      colourings: [
        { name: evil, groups: [evil], values: [0, -1] },
        { name: evil, groups: [evil], values: [0, 0] },
      ],
      note: evil,
    },
    neighbours: [{ query: image, label: evil, neighbours: [{ image, similarity: 1, label: 'b' + evil }] }],
    attention: [{ image, maps: [{ name: evil, rows: 1, columns: 1, values: [1] }] }],
    curves: [
      {
        title: evil,
        note: evil,
        unit: evil,
        xLabel: evil,
        series: [{ name: evil, x: [1, 2], y: [1, 2] }],
        references: [{ value: 1.5, label: evil }],
      },
    ],
    classes: {
      names: [evil, 'x'],
      confusion: [
        [1, 1],
        [0, 2],
      ],
      baseline: { name: evil, accuracy: [10, 20] },
    },
    timings: { scopes: [{ name: evil, seconds: 1 }], of: evil },
    next: [{ what: evil, command: evil }],
    files: [{ path: evil, what: evil, bytes: 3 }],
    configuration: `${evil}\nkey: ${evil}\n# ${evil}`,
    environment: [{ name: evil, value: evil }],
  });
  elements(page);
  assert.equal(page.match(/<script/g)!.length, 2);
  assert.doesNotMatch(page.replace(/<script[\s\S]*<\/script>/, ''), /<img src=x|onerror="|onload='/);
  assert.deepEqual(jsonOf(page).heat!.names, [evil, 'x']);
});

test("escaping is undone by a browser's rules", () => {
  assert.equal(escapeHtml(`<a href="x" o='y'>&`), '&#60;a href=&#34;x&#34; o=&#39;y&#39;&#62;&#38;');
  assert.equal(
    html`<b>${'<i>'}${html`<u/>`}${[html`1`, html`2`]}${undefined}${false}${0}</b>`.text,
    '<b>&#60;i&#62;<u/>120</b>',
  );
});

test('a written report replaces the old one at once; a bad place is one clear error', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'jepa-report-'));
  try {
    const path = join(folder, 'runs', 'a', 'report.html');
    await writeReport(path, { title: 'first' });
    await writeReport(path, { title: 'second' });
    assert.match(readFileSync(path, 'utf8'), /<title>second<\/title>/);
    assert.deepEqual(readdirSync(join(folder, 'runs', 'a')), ['report.html']);
    writeFileSync(join(folder, 'file'), '');
    const below = join(folder, 'file', 'report.html');
    await assert.rejects(writeReport(below, { title: 'x' }), (error: Error) => {
      assert.ok(error instanceof JepaError);
      assert.ok(error.message.includes(below) && !error.message.includes('\n'));
      return true;
    });
    assert.ok(!existsSync(below));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("accuracies of counted samples get Wilson's interval, drawn as a whisker", async () => {
  // 81 of 263: 25.53 to 36.62 % (Newcombe 1998, table I, method 3).
  const results = [{ encoder: 'this encoder', value: (100 * 81) / 263 }];
  const page = await renderReport({ title: 'x', probes: { probes: [{ name: 'Linear', samples: 263, results }] } });
  assert.match(page, /<i style="width:30.8%;[^>]*><\/i><u style="left:25.5%;width:11.1%"><\/u>/);
  // "100.0 %" stands on one line.
  assert.match(page, /\.bars b\{[^}]*white-space:nowrap/);
  const given = [{ encoder: 'this encoder', value: 50, interval: [40, 70] as const }];
  const other = await renderReport({ title: 'x', probes: { probes: [{ name: 'Linear', results: given }] } });
  assert.match(other, /<u style="left:40%;width:30%"><\/u>/);
});

test('outlines of patch sets: blocks, holes and corners that touch', () => {
  const grid = { rows: 4, columns: 4 };
  assert.equal(outline(grid, new Set([5, 6, 9, 10])), 'M1,1L3,1L3,3L1,3Z');
  assert.equal(outline(grid, new Set([])), '');
  const area = (path: string) =>
    path
      .slice(1, -1)
      .split('ZM')
      .map((loop) => loop.split('L').map((corner) => corner.split(',').map(Number)))
      .map((loop) =>
        loop.reduce((sum, [x, y], i) => {
          const [nx, ny] = loop[(i + 1) % loop.length];
          return sum + (x * ny - nx * y) / 2;
        }, 0),
      );
  const ring = outline(grid, new Set([0, 1, 2, 4, 6, 8, 9, 10]));
  assert.deepEqual(
    area(ring).sort((a, b) => a - b),
    [-1, 9],
  );
  const touching = outline(grid, new Set([0, 5]));
  assert.equal(
    area(touching).reduce((a, b) => a + b),
    2,
  );
});

test('pictures come back as they were', async () => {
  const decode = async (uri: string) => {
    const bytes = Buffer.from(uri.slice(uri.indexOf(',') + 1), 'base64');
    return sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  };
  const data = Uint8Array.from({ length: 5 * 4 * 3 }, (_, i) => (i * 37) % 256);
  const small = await decode(await dataUri({ width: 5, height: 4, channels: 3, data }));
  assert.deepEqual([small.info.width, small.info.height, small.info.channels], [5, 4, 3]);
  assert.deepEqual(new Uint8Array(small.data), data);
  const five = { width: 2, height: 1, channels: 5, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) };
  assert.deepEqual([...(await decode(await dataUri(five))).data], [1, 2, 3, 6, 7, 8]);
  const large = { width: 600, height: 300, channels: 3, data: new Uint8Array(600 * 300 * 3).fill(77) };
  const uri = await dataUri(large, 100);
  const reduced = await decode(uri);
  assert.ok(uri.startsWith('data:image/webp'));
  assert.deepEqual([reduced.info.width, reduced.info.height], [100, 50]);
  assert.ok(reduced.data.every((value) => Math.abs(value - 77) <= 2));
});

test('a sprite sheet holds every thumbnail in its cell, and keeps to its size', async () => {
  const images = Array.from({ length: 7 }, (_, i) => ({
    width: 6,
    height: 4,
    channels: 1,
    data: new Uint8Array(24).fill(20 * (i + 1)),
  }));
  const sheet = await spriteSheet(images, 4);
  assert.deepEqual([sheet.cell, sheet.columns], [4, 3]);
  const bytes = Buffer.from(sheet.uri.split(',')[1], 'base64');
  const { data, info } = await sharp(bytes).greyscale().raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height], [12, 12]);
  for (let y = 0; y < 12; y++) {
    for (let x = 0; x < 12; x++) {
      const i = Math.floor(y / 4) * 3 + Math.floor(x / 4);
      assert.equal(data[(y * 12 + x) * info.channels], i < 7 ? 20 * (i + 1) : 0, `${x} ${y}`);
    }
  }
  let state = 1;
  const noise = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 24;
  };
  const noisy = Array.from({ length: 400 }, () => ({
    width: 32,
    height: 32,
    channels: 3,
    data: Uint8Array.from({ length: 3072 }, noise),
  }));
  const small = await spriteSheet(noisy, 32, 60_000);
  assert.ok(small.uri.length <= 60_000 && small.uri.startsWith('data:image/webp') && small.cell >= 8);
});

test('the heat scale rises in lightness and holds its ends', () => {
  const { data } = heatImage([0, 1, 2, 3, 4], 1, 5, 0, 4);
  const light = [0, 1, 2, 3, 4].map((i) => 0.2126 * data[3 * i] + 0.7152 * data[3 * i + 1] + 0.0722 * data[3 * i + 2]);
  assert.ok(light.every((value, i) => i === 0 || value > light[i - 1] + 10));
  assert.deepEqual(heatImage([5, 5], 1, 2, 5, 5).data, Uint8Array.from([13, 8, 36, 13, 8, 36]));
});

test('line plots: points where they belong, gaps kept, read-out equal to the data', () => {
  const plot = {
    series: [{ name: 'a', x: [0, 10, 20, 30], y: [0, 1, Number.NaN, 2], tone: 0 }],
    xLabel: 'step',
    description: 'test',
  };
  const { svg, readout } = linePlot(plot);
  const [left, right] = readout.x.range;
  const [bottom, top] = readout.y.range;
  assert.deepEqual(readout.y.domain, [0, 2]);
  const near = (value: number) => Math.round(value * 10) / 10;
  const third = near(left + (right - left) / 3);
  assert.ok(
    svg.text.includes(`d="M${near(left)},${bottom}h0L${third},${near((bottom + top) / 2)}M${right},${top}h0"`),
    svg.text,
  );
  assert.deepEqual(readout.series, [{ x: [0, 10, 20, 30], y: [0, 1, null, 2] }]);
  elements(svg.text);
  // A log axis that is asked for is refused where a value is not positive.
  assert.equal(linePlot({ ...plot, y: 'log' }).readout.y.kind, 'linear');
  const positive = [{ name: 'a', x: [1, 2], y: [1e-3, 10], tone: 0 }];
  const log = linePlot({ ...plot, series: positive, y: 'log' });
  assert.equal(log.readout.y.kind, 'log');
  for (const label of ['0.01', '0.1', '1', '10']) assert.ok(log.svg.text.includes(`>${label}</text>`), label);
});

test('scatter and heat map draw what they are given', () => {
  const scatter = scatterPlot({
    points: [
      { x: 0, y: 100, label: 'A' },
      { x: 50, y: 50, label: 'a long name' },
    ],
    domain: [0, 100],
    xLabel: 'raw',
    yLabel: 'own',
    description: 'test',
  }).text;
  elements(scatter);
  assert.match(scatter, /class="glyph" x="44" y="24"[^>]*>A</);
  assert.match(scatter, /class="dot"[^>]*><title>a long name: raw 50, own 50</);
  const { svg, readout } = heatMap({
    values: [
      [1, 0],
      [0.25, 0],
    ],
    rowLabels: ['a', 'b'],
    columnLabels: ['a', 'b'],
    xLabel: 'to',
    yLabel: 'from',
    description: 'test',
  });
  elements(svg.text);
  assert.deepEqual(
    [...svg.text.matchAll(/fill-opacity="([\d.]+)"/g)].map(([, value]) => Number(value)),
    [1, 0.5],
  );
  assert.ok(svg.text.includes(`x="${readout.left}" y="${readout.top + readout.cell}"`));
});
