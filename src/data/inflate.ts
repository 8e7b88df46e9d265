import { JepaError } from '../base/errors.js';

/** Whether bytes start as a gzip stream does. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * The inflated parts of a gzip stream, in order, as they come: a reader that stops asking stops the inflating, so a small
 * file that would inflate to gigabytes costs what is read of it. Throws a `JepaError` if the stream is cut or damaged.
 */
export async function* gunzip(bytes: Uint8Array, where: string): AsyncGenerator<Uint8Array> {
  const part = 1 << 16;
  let at = 0;
  const compressed = new ReadableStream<BufferSource>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + part));
      at += part;
    },
  });
  const reader = compressed.pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch {
    throw new JepaError(`${where}: the gzip stream is cut or damaged, fetch the file again`);
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
