import type { Backend } from '../graph/lower.js';
import { openSessions, type SessionResults, type Sessions } from './sessions.js';
import type { Answer, Call } from './sessions-web.js';

/** The web worker's side of `openSessionsInWorker`. */
let sessions: Sessions;

async function answer({ method, args }: Call): Promise<unknown> {
  if (method === 'start') {
    sessions = await openSessions(args[0] as Backend, args[1] as string | undefined);
    return undefined;
  }
  return (sessions[method] as (...args: readonly unknown[]) => Promise<unknown>)(...args);
}

/** Memory of a result that the page takes over; what `run` and `download` return is nobody else's. */
function transferable({ method }: Call, result: unknown): Transferable[] {
  if (method === 'download') return [(result as { data: Float32Array }).data.buffer as ArrayBuffer];
  if (method !== 'run') return [];
  return Object.values((result as SessionResults).values).map((value) => value.data.buffer as ArrayBuffer);
}

addEventListener('message', async ({ data }: MessageEvent<Call>) => {
  let reply: Answer;
  let transfer: Transferable[] = [];
  try {
    const result = await answer(data);
    reply = { id: data.id, result };
    transfer = transferable(data, result);
  } catch (error) {
    reply = { id: data.id, error: error instanceof Error ? error.message : String(error) };
  }
  postMessage(reply, { transfer });
});
