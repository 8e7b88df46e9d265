/**
 * Dimensions of symbolic tensors: numbers, or sums of products of named symbols ("batch", "4*batch*visible + batch").
 * One compiled graph serves every value of its symbols. Symbolic dimensions are interned: equal dimensions are `===`.
 */
export interface SymbolicDim {
  /** Canonical text; equal dimensions have equal keys. */
  readonly key: string;
  /** Product of symbols (sorted) -> integer coefficient. The empty product is the constant term. */
  readonly terms: ReadonlyMap<string, number>;
}

export type Dim = number | SymbolicDim;
/** What a caller may write for a dimension: a number, a symbol's name, or a computed dimension. */
export type DimLike = Dim | string;

const interned = new Map<string, SymbolicDim>();

function fromTerms(terms: Map<string, number>): Dim {
  const kept = [...terms]
    .filter(([, coefficient]) => coefficient !== 0)
    .sort(([a], [b]) => (a < b ? 1 : a > b ? -1 : 0));
  if (kept.length === 0) return 0;
  if (kept.length === 1 && kept[0][0] === '') return kept[0][1];
  const key = kept
    .map(([symbols, c]) => (symbols === '' ? `${c}` : c === 1 ? symbols : `${c}*${symbols}`))
    .join(' + ')
    .replaceAll('+ -', '- ');
  let dim = interned.get(key);
  if (!dim) {
    dim = { key, terms: new Map(kept) };
    interned.set(key, dim);
  }
  return dim;
}

const termsOf = (dim: Dim): ReadonlyMap<string, number> => (typeof dim === 'number' ? new Map([['', dim]]) : dim.terms);

export function toDim(dim: DimLike): Dim {
  return typeof dim === 'string' ? fromTerms(new Map([[dim, 1]])) : dim;
}

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  const sum = new Map(termsOf(a));
  for (const [symbols, c] of termsOf(b)) sum.set(symbols, (sum.get(symbols) ?? 0) + c);
  return fromTerms(sum);
}

export function mulDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a * b;
  const product = new Map<string, number>();
  for (const [sa, ca] of termsOf(a)) {
    for (const [sb, cb] of termsOf(b)) {
      const symbols = [...sa.split('*'), ...sb.split('*')]
        .filter((s) => s !== '')
        .sort()
        .join('*');
      product.set(symbols, (product.get(symbols) ?? 0) + ca * cb);
    }
  }
  return fromTerms(product);
}

export const subDims = (a: Dim, b: Dim): Dim => addDims(a, mulDims(b, -1));

/** a / b where that is exact for every value of the symbols; otherwise undefined. `b` must be a single product. */
export function divDims(a: Dim, b: Dim): Dim | undefined {
  if (a === b) return 1;
  const divisor = [...termsOf(b)];
  if (divisor.length !== 1 || divisor[0][1] === 0) return undefined;
  const [divisorSymbols, divisorCoefficient] = divisor[0];
  const quotient = new Map<string, number>();
  for (const [symbols, c] of termsOf(a)) {
    const left = symbols.split('*').filter((s) => s !== '');
    for (const symbol of divisorSymbols.split('*').filter((s) => s !== '')) {
      const at = left.indexOf(symbol);
      if (at < 0) return undefined;
      left.splice(at, 1);
    }
    if (c % divisorCoefficient !== 0) return undefined;
    quotient.set(left.join('*'), c / divisorCoefficient);
  }
  return fromTerms(quotient);
}

export const productOf = (dims: readonly Dim[]): Dim => dims.reduce(mulDims, 1);

/** Symbols that occur in a dimension. */
export function symbolsOf(dim: Dim): string[] {
  if (typeof dim === 'number') return [];
  return [...new Set([...dim.terms.keys()].flatMap((s) => s.split('*')).filter((s) => s !== ''))];
}

/** The value of a dimension once its symbols are bound; undefined while one is not. */
export function evaluateDim(dim: Dim, symbols: ReadonlyMap<string, number>): number | undefined {
  if (typeof dim === 'number') return dim;
  let sum = 0;
  for (const [product, c] of dim.terms) {
    let value = c;
    for (const symbol of product.split('*')) {
      if (symbol === '') continue;
      const bound = symbols.get(symbol);
      if (bound === undefined) return undefined;
      value *= bound;
    }
    sum += value;
  }
  return sum;
}

export const dimText = (dim: Dim): string => (typeof dim === 'number' ? String(dim) : dim.key);
export const shapeText = (shape: readonly Dim[]): string => `[${shape.map(dimText).join(', ')}]`;
export const sameShape = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** The dimension with `symbol` replaced by another dimension. */
export function substituteDim(dim: Dim, symbol: string, by: Dim): Dim {
  if (typeof dim === 'number') return dim;
  let sum: Dim = 0;
  for (const [product, coefficient] of dim.terms) {
    const factors = product.split('*').filter((s) => s !== '');
    sum = addDims(sum, factors.map((s) => (s === symbol ? by : toDim(s))).reduce<Dim>(mulDims, coefficient));
  }
  return sum;
}

/** Applies `map` to every symbolic dimension inside an operator's attributes. */
export function mapDims(attrs: unknown, map: (dim: SymbolicDim) => Dim): unknown {
  if (Array.isArray(attrs)) return attrs.map((item) => mapDims(item, map));
  if (typeof attrs !== 'object' || attrs === null || ArrayBuffer.isView(attrs)) return attrs;
  if ('terms' in attrs && 'key' in attrs) return map(attrs as SymbolicDim);
  return Object.fromEntries(Object.entries(attrs).map(([key, value]) => [key, mapDims(value, map)]));
}
