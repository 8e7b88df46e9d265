import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const compiled = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const root = join(compiled, '..');

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** The library without a bundler: an import map is all that a page needs. */
const PAGE = `<!doctype html><title>jepa</title><link rel="icon" href="data:,"><script type="importmap">${JSON.stringify(
  {
    imports: {
      'onnxruntime-web/wasm': '/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs',
      'onnxruntime-web/webgpu': '/node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs',
      zod: '/node_modules/zod/index.js',
    },
  },
)}</script>`;

/** Serves the compiled library, this test and onnxruntime-web; isolated pages get threads. */
export async function serve(isolated: boolean): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(async ({ url = '/' }, response) => {
    const path = normalize(new URL(url, 'http://localhost').pathname);
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    const file = path.startsWith('/node_modules/') ? join(root, path) : join(compiled, path);
    if (path === '/') response.setHeader('Content-Type', TYPES['.html']).end(PAGE);
    else if (existsSync(file) && statSync(file).isFile() && TYPES[extname(file)]) {
      response.setHeader('Content-Type', TYPES[extname(file)]).end(await readFile(file));
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
