import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import { smallIjepa } from './recipe.js';
import { serve } from './server.js';
import { compare, mistakes, regression, type Trained, trainRecipe } from './train.js';

const CHROMIUM = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
const reason = existsSync(CHROMIUM)
  ? false
  : `${CHROMIUM} is not installed (apt-get install chromium, or set CHROMIUM_PATH)`;

describe('browser', { skip: reason, timeout: 240_000 }, () => {
  let browser: Browser;
  let expected: Trained;
  before(async () => {
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: [
        '--no-sandbox',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-dev-shm-usage',
        // WebGPU on the software driver where there is no GPU.
        '--enable-unsafe-webgpu',
        '--use-webgpu-adapter=swiftshader',
      ],
    });
    expected = await trainRecipe(smallIjepa(10), 'cpu');
    assert.ok(expected.losses.length === 10 && expected.losses[9] < expected.losses[0]);
  });
  after(() => browser.close());

  for (const isolated of [true, false]) {
    test(`trains on wasm ${isolated ? 'with cross-origin isolation (threads)' : 'without (one thread)'} as on the cpu`, async () => {
      await withPage(browser, isolated, async (page) => {
        const result = await inPage(page, 'trainRecipe', [smallIjepa(10), 'wasm']);
        assert.equal(result.isolated, isolated);
        compare(result, expected, 1e-3);
      });
    });
  }

  test('trains on webgpu as on the cpu', async (t) => {
    await withPage(browser, true, async (page) => {
      const adapter = await page.evaluate(async () => {
        const { gpu } = navigator as unknown as { gpu?: { requestAdapter(): Promise<object | null> } };
        return (await gpu?.requestAdapter()) != null;
      });
      if (!adapter) return t.skip('this chromium has no WebGPU adapter');
      // A recipe's many kernels take the software driver half a minute; test/train runs one on Node's WebGPU.
      const [losses, exact] = [await inPage(page, 'regression', ['webgpu']), await regression('cpu')];
      assert.ok(losses.length === 10 && losses.every((loss, i) => Math.abs(loss / exact[i] - 1) < 1e-3), `${losses}`);
    });
  });

  test('errors read as in Node', async () => {
    await withPage(browser, false, async (page) => {
      const said = await inPage(page, 'mistakes', ['wasm']);
      assert.deepEqual(said, await mistakes('cpu'));
      assert.equal(said[1], 'encoder: exp');
    });
  });
});

interface Functions {
  readonly trainRecipe: typeof trainRecipe;
  readonly regression: typeof regression;
  readonly mistakes: typeof mistakes;
}

/** Runs a function of `train.ts` in the page. */
function inPage<F extends keyof Functions>(
  page: Page,
  name: F,
  args: Parameters<Functions[F]>,
): Promise<Awaited<ReturnType<Functions[F]>>> {
  return page.evaluate(
    async ({ name, args }) => {
      const file = '/test/browser/train.js';
      return (await import(file))[name](...args);
    },
    { name, args },
  );
}

async function withPage(browser: Browser, isolated: boolean, body: (page: Page) => Promise<void>): Promise<void> {
  const server = await serve(isolated);
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  try {
    await page.goto(server.url);
    await body(page);
    assert.deepEqual(problems, []);
  } finally {
    await page.close();
    await server.close();
  }
}
