import assert from 'node:assert/strict';
import { test } from 'node:test';
import sharp from 'sharp';
import type { RawImage } from '../../src/data/dataset.js';
import { type DrawnEpisode, type FilmCell, renderFilm, renderReport } from '../../src/report/index.js';

const plain = (side: number, value: number): RawImage => ({
  width: side,
  height: side,
  channels: 3,
  data: new Uint8Array(3 * side * side).fill(value),
});

test('paths of episodes move with what was imagined at the time; worlds without paths show moments', async () => {
  const bar = (name: string, value: number) => ({ name, value, interval: [value - 5, value + 5] as const });
  const trace = { x: [1, 2], y: [0.1, 0.2] };
  const drawn: DrawnEpisode = {
    name: 'Episode <1>',
    success: false,
    distance: 12.34,
    pictures: [{ name: 'start', picture: plain(10, 0) }],
    paths: {
      path: [
        [1, 1],
        [2, 1],
        [3, 2],
        [4, 2],
        [5, 2],
      ],
      goal: [8, 8],
      other: [
        [1, 1],
        [8, 8],
      ],
      imagined: [0, 1, 3].map((time) => ({
        time,
        path: [
          [time, 0],
          [time, 5],
        ],
      })),
    },
  };
  const moments: DrawnEpisode = {
    name: 'Episode 2',
    success: true,
    distance: 1,
    pictures: ['step 0', 'step 7', 'goal'].map((name) => ({ name, picture: plain(4, 200) })),
  };
  const group = (values: string, episodes: number) => ({
    values,
    episodes,
    planner: bar('planner', 70),
    floor: bar('greedy', 20),
  });
  const page = await renderReport({
    title: 'Plans',
    plans: {
      bars: [bar('cem', 70), bar('random', 5)],
      factors: [{ name: 'door', groups: [group('10 to 20', 7), group('21 to 54', 6)] }],
      shifts: [{ name: 'door half', groups: [group('2', 4)] }],
      episodes: [drawn, moments],
      rollouts: [{ name: 'Places', unit: 'pixels', model: trace, shuffled: trace, still: trace }],
    },
  });
  for (const part of ['10 to 20 (7)', '2 (4)', 'missed, 12.3 from the goal', 'Episode &#60;1&#62;', 'step 7'])
    assert.ok(page.includes(part), part);
  // Each thought from its step (0, 1 and 3 of 4) to that of the next one.
  assert.deepEqual(
    [...page.matchAll(/attributeName="opacity" values="([^"]+)"[^>]* keyTimes="([^"]+)"/g)].map(([, values, times]) => [
      values,
      times,
    ]),
    [
      ['1;0', '0;0.25'],
      ['0;1;0', '0;0.25;0.75'],
      ['0;1;0', '0;0.75;1'],
    ],
  );
  assert.ok(page.includes('attributeName="cx" values="1;2;3;4;5"'));
  assert.ok(page.includes('attributeName="cy" values="1;1;2;2;2"'));
});

test('films have a frame a moment and a cell an episode, with paths or with the goal seen through, green when it is reached', async () => {
  const cell = (success: boolean, more: Partial<FilmCell>): FilmCell => ({ picture: plain(50, 0), success, ...more });
  const film = await renderFilm(
    [false, true].map((reached) => [
      cell(reached, { paths: { path: [[0, 0]], imagined: [], goal: [25, 25] } }),
      cell(false, { goal: plain(50, 200) }),
    ]),
  );
  const { format, width, pageHeight, pages, delay, loop } = await sharp(film, { animated: true }).metadata();
  // Cells of 4 x 50 pixels, gaps of 8.
  assert.deepEqual([format, width, pageHeight, pages, loop], ['gif', 424, 216, 2, 0]);
  assert.ok(delay?.every((each) => each === delay[0] && each > 0));
  const colours: number[][][] = [];
  for (const page of [0, 1]) {
    const { data, info } = await sharp(film, { page }).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const at = (x: number, y: number): number[] => [
      ...data.subarray(3 * (y * info.width + x), 3 * (y * info.width + x) + 3),
    ];
    // Left edge of the first cell; ring of radius 6 around its middle; middle of the second cell.
    colours.push([at(6, 100), at(108 + 6, 108), at(316, 108)]);
  }
  const near = (given: number[], wanted: number[], by: number) =>
    assert.ok(
      given.every((value, i) => Math.abs(value - wanted[i]) <= by),
      `${given} is not ${wanted}`,
    );
  near(colours[0][0], [0x41, 0x45, 0x4c], 12);
  near(colours[1][0], [0x0b, 0xd2, 0x9a], 12);
  for (const frame of colours) {
    near(frame[1], [0x0b, 0xd2, 0x9a], 40);
    // Three tenths of 200 over black.
    near(frame[2], [60, 60, 60], 6);
  }
});
