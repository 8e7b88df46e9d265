const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹';
const NONE = '–';

/**
 * A number for people: at most `digits` significant ones, but all before the point; thousands separated; powers of ten
 * where it is very large or small.
 */
export function formatNumber(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? NONE : value > 0 ? '∞' : '−∞';
  if (value === 0) return '0';
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  if (size >= 1e7 || size < 1e-3) return scientific(rounded, digits);
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const text = formatFixed(decimals ? rounded : value, decimals);
  return decimals ? text.replace(/\.?0+$/, '') : text;
}

/** A mean with its standard error, if it has one: two digits of the error, and the mean as exactly as that. */
export function formatMean(mean: number, error?: number): string {
  if (!error || !Number.isFinite(error) || error < 1e-6) return formatNumber(mean);
  const decimals = Math.max(0, 1 - Math.floor(Math.log10(Number(error.toPrecision(2)))));
  return `${formatFixed(mean, decimals)} ± ${formatFixed(error, decimals)}`;
}

/** A mean of something that is measured: as `formatMean` has it, shares in per cent; empty where there is none. */
export function formatMeasure(
  value: { readonly mean: number; readonly error?: number } | undefined,
  { share }: { readonly share?: boolean },
): string {
  if (!value) return '';
  if (!share) return formatMean(value.mean, value.error);
  const error = value.error ? ` ± ${formatFixed(100 * value.error, 1)}` : '';
  return `${formatFixed(100 * value.mean, 1)}${error} %`;
}

/** A number with a fixed count of decimals, thousands separated, with a real minus sign. */
export function formatFixed(value: number, decimals: number): string {
  if (!Number.isFinite(value)) return formatNumber(value);
  const [whole, fraction] = Math.abs(value).toFixed(decimals).split('.');
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ',') + (fraction ? `.${fraction}` : '');
  return value < 0 && Number(text.replaceAll(',', '')) !== 0 ? `−${text}` : text;
}

function scientific(value: number, digits: number): string {
  const [mantissa, exponent] = value.toExponential(digits - 1).split('e');
  const short = String(Number(mantissa)).replace('-', '−');
  return short === '1' ? power(Number(exponent)) : `${short} × ${power(Number(exponent))}`;
}

/** Ten to a whole power: `10⁻³`. */
export function power(exponent: number): string {
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[Number(digit)]).join('');
  return `10${exponent < 0 ? '⁻' : ''}${digits}`;
}

/** Seconds as a clock: `0:07`, `2:05`, `1:02:05`. */
export function formatClock(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '–:––';
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, '0');
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** A duration with its unit: `850 µs`, `12.3 ms`, `4.2 s`, `3 min 05 s`, `2 h 10 min`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds < 0.9995e-3) return `${formatNumber(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${formatNumber(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${formatNumber(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Bytes in binary units: `512 B`, `1.4 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = bytes;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${formatNumber(size)} ${units[unit]}`;
}
