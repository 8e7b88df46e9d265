import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileError, withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, isCount, isJsonObject, type Json, type JsonObject, parseJson, quoted } from '../base/json.js';
import { readJsonFile } from './weights.js';

/**
 * Models from the Hugging Face hub. This is the only file of the package that uses the network, and only `jepa import`
 * calls it.
 */
export interface DownloadOptions {
  /** Where the hub is. Default: HF_ENDPOINT, else huggingface.co. */
  readonly endpoint?: string;
  /** For models that ask for one. Default: HF_TOKEN. */
  readonly token?: string;
  /** Folder that keeps models. Default: `modelCache()`. */
  readonly cache?: string;
  /** Branch, tag or commit. */
  readonly revision?: string;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Milliseconds before the first further try (each waits twice as long), and without a byte until one is given up. */
  readonly retryDelay?: number;
  readonly stallTimeout?: number;
}

export interface DownloadProgress {
  /** Bytes of all files, and how many are here. */
  readonly done: number;
  readonly total: number;
  readonly file: string;
}

export interface DownloadedModel {
  readonly name: string;
  readonly folder: string;
  readonly commit: string;
  /** As the model's page says it (`cc-by-nc-4.0`). */
  readonly licence?: string;
}

/** `owner/name`, as models are called on the hub. */
export const isModelName = (text: string): boolean => /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(text);

/** The folder that keeps downloaded models: JEPA_MODELS, else in the user's cache folder. */
export const modelCache = (): string =>
  process.env.JEPA_MODELS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'jepa', 'models');

/** Beside the files of a downloaded model; written last, so that what has it is complete. */
const SOURCE_FILE = 'jepa-source.json';
/** What is fetched of a model: configurations and weights, nothing that would be executed. */
const WANTED =
  /^(config|preprocessor_config|video_preprocessor_config)\.json$|^model(-\d{5}-of-\d{5})?\.safetensors$|^model\.safetensors\.index\.json$/;
/** Largest answer about a model, and most shards of one. */
const LARGEST_ANSWER = 16e6;
const MOST_FILES = 1000;
/** Tries without a byte of progress before giving up. */
const TRIES = 5;

/** A file of a model with what it must be: the hub says SHA-256 of large files and git's hash of the others. */
interface RemoteFile {
  readonly path: string;
  readonly size: number;
  readonly checksum: { readonly kind: 'sha256' | 'git'; readonly hex: string };
}

/** A failure that another try cannot mend. */
class Final extends JepaError {}

/** The folder of a model that was downloaded before, without asking the network. */
export function cachedModel(name: string, cache = modelCache()): DownloadedModel | undefined {
  const home = join(cache, folderOf(name));
  if (!fs.existsSync(home)) return undefined;
  const found = withFileErrors('open', home, () => fs.readdirSync(home))
    .map((commit) => join(home, commit))
    .filter((folder) => fs.existsSync(join(folder, SOURCE_FILE)))
    .sort((a, b) => fs.statSync(join(b, SOURCE_FILE)).mtimeMs - fs.statSync(join(a, SOURCE_FILE)).mtimeMs);
  return found.length > 0 ? sourceOf(found[0]) : undefined;
}

/** Where a folder was downloaded from; undefined for any other. */
export function sourceOf(folder: string): DownloadedModel | undefined {
  const path = join(folder, SOURCE_FILE);
  if (!fs.existsSync(path)) return undefined;
  const { name, commit, licence } = readJsonFile(path);
  if (typeof name !== 'string' || typeof commit !== 'string')
    throw new JepaError(`${path}: it does not say the name and commit of a model; remove it and import again`);
  return { name, commit, folder, ...(typeof licence === 'string' && { licence }) };
}

const folderOf = (name: string): string => name.replace('/', '--');

/**
 * Downloads configurations and safetensors of a model into `<cache>/<owner>--<name>/<commit>`, unless they are there.
 * Files are written under another name until their size and checksum are right; what was interrupted is gone on with.
 * Throws JepaError where there is no such model, no network, no room, or a file keeps arriving damaged.
 */
export async function downloadModel(name: string, options: DownloadOptions = {}): Promise<DownloadedModel> {
  if (!isModelName(name))
    throw new JepaError(`${quoted(name)} is no name of a model; names are owner/name, as facebook/ijepa_vith14_1k`);
  const { cache = modelCache(), revision = 'main', onProgress } = options;
  const hub = openHub(name, options);
  const about = await hub.json(`api/models/${name}/revision/${encodeURIComponent(revision)}`);
  const commit = isJsonObject(about) ? about.sha : undefined;
  if (typeof commit !== 'string' || !/^[0-9a-f]{40}$/.test(commit))
    throw new JepaError(`${name}: the answer of ${hub.endpoint} names no commit; check HF_ENDPOINT`);
  const licence = licenceOf(about as JsonObject);
  const folder = join(cache, folderOf(name), commit);
  const model = { name, folder, commit, ...(licence !== undefined && { licence }) };
  if (fs.existsSync(join(folder, SOURCE_FILE))) return model;

  const files = filesOf(await hub.json(`api/models/${name}/tree/${commit}`), name);
  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  const total = files.reduce((sum, { size }) => sum + size, 0);
  checkRoom(folder, files, total);
  let before = 0;
  for (const file of files) {
    await fetchFile(hub, `${name}/resolve/${commit}/${encodeURIComponent(file.path)}`, file, folder, (done) =>
      onProgress?.({ done: before + done, total, file: file.path }),
    );
    before += file.size;
  }
  writeFileAtomic(join(folder, SOURCE_FILE), `${JSON.stringify({ name, commit, licence }, null, 2)}\n`);
  return model;
}

function licenceOf({ cardData }: JsonObject): string | undefined {
  const licence = isJsonObject(cardData) ? cardData.license : undefined;
  return typeof licence === 'string' && licence.length < 100 ? licence : undefined;
}

/** The files that are wanted of a listing; the weights must be among them. */
function filesOf(listing: Json, name: string): RemoteFile[] {
  if (!Array.isArray(listing)) throw new JepaError(`${name}: the list of its files is not a list`);
  const files = listing.flatMap((entry): RemoteFile[] => {
    if (!isJsonObject(entry) || typeof entry.path !== 'string' || !WANTED.test(entry.path)) return [];
    const { path, size, oid, lfs } = entry;
    const large = isJsonObject(lfs) ? lfs : undefined;
    const hex = large ? large.oid : oid;
    if (!isCount(size) || typeof hex !== 'string')
      throw new JepaError(`${name}: the list of its files says no size and checksum of ${quoted(path)}`);
    return [{ path, size, checksum: { kind: large ? 'sha256' : 'git', hex } }];
  });
  if (files.length > MOST_FILES) throw new JepaError(`${name}: ${files.length} files of weights are too many`);
  const has = (pattern: RegExp) => files.some(({ path }) => pattern.test(path));
  if (!has(/^config\.json$/) || !has(/\.safetensors$/)) {
    throw new JepaError(
      `${name}: it has no config.json and safetensors; this package reads I-JEPA and V-JEPA 2 in Hugging Face's form, and Meta's files after you have downloaded them`,
    );
  }
  return files;
}

/** Refuses to begin what cannot end. Platforms that do not say how much room there is find out later. */
function checkRoom(folder: string, files: readonly RemoteFile[], total: number): void {
  const here = files.reduce((sum, { path }) => sum + sizeAt(join(folder, path)) + sizeAt(partialOf(folder, path)), 0);
  let free: number;
  try {
    const { bavail, bsize } = fs.statfsSync(folder);
    free = bavail * bsize;
  } catch {
    return;
  }
  if (total - here > free) {
    throw new JepaError(
      `cannot write ${folder}: ${gigabytes(total - here)} are missing of the model and ${gigabytes(free)} are free; free some space or set JEPA_MODELS to another folder`,
    );
  }
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
const sizeAt = (path: string): number => fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const partialOf = (folder: string, path: string): string => join(folder, `${path}.partial`);

// --- one file ---------------------------------------------------------------------------------------------------------

type OnDone = (done: number) => void;

async function fetchFile(hub: Hub, url: string, file: RemoteFile, folder: string, onDone: OnDone): Promise<void> {
  const path = join(folder, file.path);
  // A file has its name only when it is right.
  if (sizeAt(path) === file.size && fs.existsSync(path)) return onDone(file.size);
  const partial = partialOf(folder, file.path);
  let damaged = 0;
  let tries = 0;
  for (;;) {
    const before = sizeAt(partial);
    try {
      const sum = await receive(hub, url, file, partial, onDone);
      if (sum === file.checksum.hex) break;
      withFileErrors('remove', partial, () => fs.rmSync(partial));
      if (++damaged === 2) {
        throw new Final(
          `${hub.name}: ${file.path} arrived twice with another checksum (${sum} instead of ${file.checksum.hex}); try again later or from another HF_ENDPOINT`,
        );
      }
    } catch (error) {
      if (error instanceof Final) throw error;
      tries = sizeAt(partial) > before ? 1 : tries + 1;
      if (tries >= TRIES) throw error;
      await hub.pause(tries);
    }
  }
  withFileErrors('write', path, () => {
    fs.renameSync(partial, path);
  });
}

/** Fetches what is missing of a file and returns the checksum of the whole. */
async function receive(hub: Hub, url: string, file: RemoteFile, partial: string, onDone: OnDone): Promise<string> {
  const { size } = file;
  let at = sizeAt(partial) > size ? 0 : sizeAt(partial);
  const fd = withFileErrors('write', partial, () => fs.openSync(partial, fs.existsSync(partial) ? 'r+' : 'w+'));
  try {
    const hash = hashOf(file);
    if (at < size || size === 0) {
      const answer = await hub.get(url, at > 0 ? { Range: `bytes=${at}-` } : {});
      // A server that knows no ranges sends the whole again.
      if (at > 0 && !(answer.status === 206 && startOf(answer.range) === at)) at = 0;
      hashStored(fd, at, hash, partial);
      withFileErrors('write', partial, () => fs.ftruncateSync(fd, at));
      onDone(at);
      for await (const chunk of answer.chunks()) {
        if (at + chunk.length > size)
          throw new JepaError(`${hub.name}: more bytes of ${file.path} arrive than its ${size}; try again`);
        append(fd, chunk, at, partial);
        hash.update(chunk);
        at += chunk.length;
        onDone(at);
      }
      if (at < size) throw new JepaError(`${hub.name}: the connection ended at byte ${at} of ${size} of ${file.path}`);
      withFileErrors('write', partial, () => fs.fsyncSync(fd));
    } else hashStored(fd, size, hash, partial);
    return hash.digest('hex');
  } finally {
    fs.closeSync(fd);
  }
}

/** The first byte of a `Content-Range`. */
const startOf = (range: string | null): number => Number(/^bytes (\d+)-/.exec(range ?? '')?.[1] ?? Number.NaN);

function append(fd: number, chunk: Uint8Array, at: number, path: string): void {
  try {
    for (let done = 0; done < chunk.length; ) done += fs.writeSync(fd, chunk, done, chunk.length - done, at + done);
  } catch (error) {
    // A disk that is full is so for the next try, too; what is there is kept.
    throw new Final(fileError('write', path, error).message);
  }
}

/** git's hash is of the content behind a header that says its length. */
function hashOf({ size, checksum }: RemoteFile): Hash {
  return checksum.kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Hashes the first bytes of an open file. */
function hashStored(fd: number, bytes: number, hash: Hash, path: string): void {
  const buffer = new Uint8Array(Math.min(bytes, 1 << 22));
  for (let at = 0; at < bytes; ) {
    const got = withFileErrors('read', path, () => fs.readSync(fd, buffer, 0, Math.min(buffer.length, bytes - at), at));
    if (got === 0) throw new JepaError(`${path}: the file became shorter while it was read; try again`);
    hash.update(buffer.subarray(0, got));
    at += got;
  }
}

// --- the hub ----------------------------------------------------------------------------------------------------------

interface Answer {
  readonly status: number;
  readonly range: string | null;
  chunks(): AsyncIterable<Uint8Array>;
}

interface Hub {
  readonly name: string;
  readonly endpoint: string;
  get(path: string, headers: Readonly<Record<string, string>>): Promise<Answer>;
  json(path: string): Promise<Json>;
  /** Waits before the next try. */
  pause(tries: number): Promise<void>;
}

function openHub(name: string, options: DownloadOptions): Hub {
  const { retryDelay = 1000, stallTimeout = 60_000 } = options;
  const endpoint = (options.endpoint ?? process.env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '');
  const token = options.token ?? process.env.HF_TOKEN;
  const pause = (tries: number) => new Promise<void>((resolve) => setTimeout(resolve, retryDelay * 2 ** (tries - 1)));

  async function get(path: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
    const url = `${endpoint}/${path}`;
    const abort = new AbortController();
    // Rearmed by every byte.
    let timer: NodeJS.Timeout | undefined;
    const arm = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(new Error(`nothing arrived for ${stallTimeout / 1000} s`)), stallTimeout);
    };
    const failure = (error: unknown): JepaError => unreachable(endpoint, name, error);
    arm();
    try {
      const authorization: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};
      // Compressed answers would make ranges and sizes mean something else.
      const all = { 'Accept-Encoding': 'identity', ...authorization, ...headers };
      const response = await fetch(url, { headers: all, signal: abort.signal });
      if (!response.ok) {
        await response.body?.cancel();
        throw refusal(response.status, name, url, token !== undefined);
      }
      const { body } = response;
      return {
        status: response.status,
        range: response.headers.get('content-range'),
        async *chunks() {
          try {
            for await (const chunk of body ?? []) {
              arm();
              yield chunk as Uint8Array;
            }
          } catch (error) {
            throw error instanceof JepaError ? error : failure(error);
          } finally {
            clearTimeout(timer);
          }
        },
      };
    } catch (error) {
      clearTimeout(timer);
      throw error instanceof JepaError ? error : failure(error);
    }
  }

  async function jsonOnce(path: string): Promise<Json> {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of (await get(path, {})).chunks()) {
      bytes += chunk.length;
      if (bytes > LARGEST_ANSWER) throw new Final(`${name}: the answer of ${endpoint} is too long`);
      parts.push(chunk);
    }
    const what = `answer of ${endpoint} about ${name}`;
    return parseJson(decodeUtf8(Buffer.concat(parts), what), what);
  }

  return {
    name,
    endpoint,
    get,
    pause,
    json: async (path) => {
      for (let tries = 1; ; tries++) {
        try {
          return await jsonOnce(path);
        } catch (error) {
          if (error instanceof Final || tries >= TRIES) throw error;
          await pause(tries);
        }
      }
    },
  };
}

/** What an answer that is none means. Some are final, the others worth another try. */
function refusal(status: number, name: string, url: string, hasToken: boolean): JepaError {
  if (status === 401 || status === 403) {
    const fix = hasToken
      ? "accept its licence on its page with the token's account"
      : 'check the name; if the model asks for it, set HF_TOKEN to a token of yours';
    return new Final(`${name}: the hub does not give it out (${status}); ${fix}`);
  }
  if (status === 404) return new Final(`${name}: there is no such model or file (${url} answers 404); check the name`);
  if (status >= 500 || status === 408 || status === 429)
    return new JepaError(`${name}: the hub is not able to answer now (${url} answers ${status}); try again later`);
  return new Final(`${name}: ${url} answers ${status}; check the name and HF_ENDPOINT`);
}

function unreachable(endpoint: string, name: string, error: unknown): JepaError {
  const { message, cause } = error as Error & { cause?: { code?: string; message?: string } };
  const reason = cause?.code ?? cause?.message ?? message;
  return new JepaError(
    `${name}: cannot download from ${endpoint} (${String(reason).split('\n')[0]}); check the network, or import files that you have`,
  );
}
