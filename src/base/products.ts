import { JepaError } from './errors.js';

/**
 * Matrix products on the host, in WebAssembly SIMD: for measurements (k-NN, logistic probes, spectra), where starting a
 * session of the runtime would cost more than the product, or where double precision is needed. Single-threaded.
 */
export interface ProductMemory<T extends Float32Array | Float64Array> {
  /** A zeroed matrix in the kernel's memory. */
  matrix(rows: number, columns: number): Panel<T>;
  /** c += a b, or c += transpose(a) b. Shapes are those of the panels without padding. */
  accumulate(a: Panel<T>, b: Panel<T>, c: Panel<T>, transposeA?: boolean): void;
}

/** A row-major matrix in the memory of a kernel: element (i, j) is data[i * stride + j]. Padding may hold anything. */
export interface Panel<T extends Float32Array | Float64Array> {
  readonly rows: number;
  readonly columns: number;
  readonly stride: number;
  /** All rows, padded to a multiple of 4, of `stride` elements. */
  readonly data: T;
}

/** The rows [from, from + count) of a panel, sharing its memory; `from` is a multiple of 4. */
export function panelRows<T extends Float32Array | Float64Array>(
  panel: Panel<T>,
  from: number,
  count: number,
): Panel<T> {
  const end = Math.ceil((from + count) / ROW_TILE) * ROW_TILE;
  return { ...panel, rows: count, data: panel.data.subarray(from * panel.stride, end * panel.stride) as T };
}

/** The block of a panel from (row, column) to its end, sharing its memory; both are multiples of 8. */
export function panelBlock<T extends Float32Array | Float64Array>(
  panel: Panel<T>,
  row: number,
  column: number,
): Panel<T> {
  const data = panel.data.subarray(row * panel.stride + column) as T;
  return { rows: panel.rows - row, columns: panel.columns - column, stride: panel.stride, data };
}

/** Rows and bytes of a row that one inner loop computes: 4 x 2 vectors of 16 bytes, which fit in the 16 registers. */
const ROW_TILE = 4;
const COLUMN_BYTES = 32;
/** Longest inner loop of one kernel call: its packed panel of the right operand stays in the first-level cache. */
const DEPTH = 256;
const PAGE = 65536;

/** Memory for panels of about `elements` numbers together; it grows when they need more. */
export function createProducts(kind: 'float32', elements: number): ProductMemory<Float32Array>;
export function createProducts(kind: 'float64', elements: number): ProductMemory<Float64Array>;
export function createProducts(
  kind: 'float32' | 'float64',
  elements: number,
): ProductMemory<Float32Array | Float64Array> {
  const size = kind === 'float32' ? 4 : 8;
  const scratch = 64;
  let end = scratch + DEPTH * COLUMN_BYTES;
  // One allocation for all panels: growing later would detach the arrays handed out before.
  const memory = new WebAssembly.Memory({ initial: Math.ceil((end + elements * size) / PAGE) });
  const { exports } = new WebAssembly.Instance(kernelModule(), { env: { memory } });
  const kernel = exports[kind] as (...args: number[]) => void;

  return {
    matrix: (rows, columns) => {
      const stride = Math.ceil((columns * size) / COLUMN_BYTES) * (COLUMN_BYTES / size);
      const length = Math.ceil(rows / ROW_TILE) * ROW_TILE * stride;
      const start = end;
      end += length * size;
      if (end > memory.buffer.byteLength) {
        throw new JepaError(
          `products: panels need ${end} bytes, but memory for ${memory.buffer.byteLength} was asked for`,
        );
      }
      const data =
        kind === 'float32'
          ? new Float32Array(memory.buffer, start, length)
          : new Float64Array(memory.buffer, start, length);
      return { rows, columns, stride, data };
    },
    accumulate: (a, b, c, transposeA = false) => {
      const [rows, depth] = transposeA ? [a.columns, a.rows] : [a.rows, a.columns];
      if (depth !== b.rows || rows !== c.rows || b.columns !== c.columns) {
        throw new JepaError(
          `products: [${rows}, ${depth}] times [${b.rows}, ${b.columns}] does not give [${c.rows}, ${c.columns}]`,
        );
      }
      const [rowStep, depthStep] = transposeA ? [size, a.stride * size] : [a.stride * size, size];
      for (let from = 0; from < depth; from += DEPTH) {
        kernel(
          a.data.byteOffset + from * depthStep,
          rowStep,
          depthStep,
          b.data.byteOffset + from * b.stride * size,
          b.stride * size,
          c.data.byteOffset,
          c.stride * size,
          Math.ceil(rows / ROW_TILE) * ROW_TILE,
          Math.ceil((b.columns * size) / COLUMN_BYTES) * COLUMN_BYTES,
          scratch + Math.min(DEPTH, depth - from) * COLUMN_BYTES,
          scratch,
        );
      }
    },
  };
}

/** Elements that a panel takes with its padding. */
export function panelSize(kind: 'float32' | 'float64', rows: number, columns: number): number {
  const vector = COLUMN_BYTES / (kind === 'float32' ? 4 : 8);
  return Math.ceil(rows / ROW_TILE) * ROW_TILE * Math.ceil(columns / vector) * vector;
}

// --- the kernel, assembled by hand ------------------------------------------------------------------------------------
// Encodings: WebAssembly core specification 2.0, chapters 5.3 to 5.5.

let compiled: WebAssembly.Module | undefined;

function kernelModule(): WebAssembly.Module {
  if (!compiled) {
    const text = (value: string) => list([...new TextEncoder().encode(value)].map((byte) => [byte]));
    const section = (id: number, content: number[]) => [id, ...unsigned(content.length), ...content];
    const functions = [productFunction(FLOAT32), productFunction(FLOAT64)];
    compiled = new WebAssembly.Module(
      Uint8Array.from([
        ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
        ...section(1, list([[0x60, ...list(PARAMETERS.map(() => [I32])), ...list([])]])),
        ...section(2, list([[...text('env'), ...text('memory'), 0x02, 0x00, 0x01]])),
        ...section(3, list(functions.map(() => [0]))),
        ...section(
          7,
          list([
            [...text('float32'), 0x00, 0x00],
            [...text('float64'), 0x00, 0x01],
          ]),
        ),
        ...section(10, list(functions.map((body) => [...unsigned(body.length), ...body]))),
      ]),
    );
  }
  return compiled;
}

const I32 = 0x7f;
const V128 = 0x7b;
/** Opcodes of the SIMD prefix 0xfd that differ between the two element types. */
const FLOAT32 = { splat: 0x09, splatAlign: 2, add: 0xe4, multiply: 0xe6 };
const FLOAT64 = { splat: 0x0a, splatAlign: 3, add: 0xf0, multiply: 0xf2 };

const PARAMETERS = ['a', 'aRow', 'aStep', 'b', 'bStep', 'c', 'cRow', 'rows', 'rowBytes', 'packedEnd', 'packed'];
const COUNTERS = ['column', 'from', 'to', 'row', 'aTile', 'cTile', 'a0', 'a1', 'a2', 'a3'];
const VECTORS = ['b0', 'b1', 'x', ...Array.from({ length: ROW_TILE }, (_, row) => [`s${row}0`, `s${row}1`]).flat()];

/**
 * c[rows, rowBytes] += a b for whole tiles. For every 32 bytes of columns: copy those columns of b to `packed` one step
 * after the other, then for every four rows run through all steps with the eight sums in registers.
 */
function productFunction(type: typeof FLOAT32): number[] {
  const names = [...PARAMETERS, ...COUNTERS, ...VECTORS];
  const index = (name: string) => unsigned(names.indexOf(name));
  const get = (name: string) => [0x20, ...index(name)];
  const set = (name: string, value: number[]) => [...value, 0x21, ...index(name)];
  const constant = (value: number) => [0x41, ...signed(value)];
  const sum = (left: number[], right: number[]) => [...left, ...right, 0x6a];
  const fourTimes = (value: number[]) => [...value, ...constant(2), 0x74];
  const advance = (name: string, by: number[]) => set(name, sum(get(name), by));
  /** Repeats `body` while `condition`, at least once. */
  const repeat = (body: number[], condition: number[]) => [0x03, 0x40, ...body, ...condition, 0x0d, 0, 0x0b];
  const below = (left: string, right: string) => [...get(left), ...get(right), 0x49];
  const simd = (code: number, ...rest: number[]) => [0xfd, ...unsigned(code), ...rest];
  const load = (address: string, offset: number) => [...get(address), ...simd(0x00, 4, ...unsigned(offset))];
  const store = (address: string, offset: number, value: number[]) => [
    ...get(address),
    ...value,
    ...simd(0x0b, 4, ...unsigned(offset)),
  ];
  const splat = (address: string) => [...get(address), ...simd(type.splat, type.splatAlign, 0)];
  const add = (left: number[], right: number[]) => [...left, ...right, ...simd(type.add)];
  const multiply = (left: number[], right: number[]) => [...left, ...right, ...simd(type.multiply)];
  const zero = simd(0x0c, ...new Array<number>(16).fill(0));
  const rows = Array.from({ length: ROW_TILE }, (_, row) => row);

  const pack = [
    ...set('from', sum(get('b'), get('column'))),
    ...set('to', get('packed')),
    ...repeat(
      [
        ...store('to', 0, load('from', 0)),
        ...store('to', 16, load('from', 16)),
        ...advance('from', get('bStep')),
        ...advance('to', constant(COLUMN_BYTES)),
      ],
      below('to', 'packedEnd'),
    ),
  ];
  const step = [
    ...set('b0', load('from', 0)),
    ...set('b1', load('from', 16)),
    ...rows.flatMap((row) => [
      ...set('x', splat(`a${row}`)),
      ...set(`s${row}0`, add(get(`s${row}0`), multiply(get('x'), get('b0')))),
      ...set(`s${row}1`, add(get(`s${row}1`), multiply(get('x'), get('b1')))),
      ...advance(`a${row}`, get('aStep')),
    ]),
    ...advance('from', constant(COLUMN_BYTES)),
  ];
  const tile = [
    ...set('a0', get('aTile')),
    ...rows.slice(1).flatMap((row) => set(`a${row}`, sum(get(`a${row - 1}`), get('aRow')))),
    ...rows.flatMap((row) => [...set(`s${row}0`, zero), ...set(`s${row}1`, zero)]),
    ...set('from', get('packed')),
    ...repeat(step, below('from', 'packedEnd')),
    ...rows.flatMap((row) => [
      ...store('cTile', 0, add(load('cTile', 0), get(`s${row}0`))),
      ...store('cTile', 16, add(load('cTile', 16), get(`s${row}1`))),
      ...advance('cTile', get('cRow')),
    ]),
    ...advance('aTile', fourTimes(get('aRow'))),
    ...advance('row', constant(ROW_TILE)),
  ];
  const columns = [
    ...pack,
    ...set('aTile', get('a')),
    ...set('cTile', sum(get('c'), get('column'))),
    ...set('row', constant(0)),
    ...repeat(tile, below('row', 'rows')),
    ...advance('column', constant(COLUMN_BYTES)),
  ];
  const locals = list([
    [...unsigned(COUNTERS.length), I32],
    [...unsigned(VECTORS.length), V128],
  ]);
  return [...locals, ...repeat(columns, below('column', 'rowBytes')), 0x0b];
}

function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)];
}

function list(items: number[][]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}
