// Words and numbers for people. Everything returns a string.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Decimal units, three digits at most: `41.9 MB`. */
export function bytes(n) {
  if (!Number.isFinite(n)) { return '–'; }
  let unit = 0;
  while (n >= 1000 && unit < UNITS.length - 1) { n /= 1000; unit += 1; }
  return `${unit === 0 || n >= 100 || Number.isInteger(n) ? Math.round(n) : n.toFixed(1)} ${UNITS[unit]}`;
}

export const speed = (n) => (n > 0 ? `${bytes(n)}/s` : '–');

/** `1 h 05 min`, `2 min 30 s`, `12 s`. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) { return '–'; }
  const n = Math.max(0, Math.round(seconds));
  const [d, hours, min, sec] = [Math.floor(n / 86400), Math.floor(n / 3600) % 24, Math.floor(n / 60) % 60, n % 60];
  if (d) { return `${d} d ${hours} h`; }
  if (hours) { return `${hours} h ${String(min).padStart(2, '0')} min`; }
  return min ? `${min} min ${String(sec).padStart(2, '0')} s` : `${sec} s`;
}

/** `12:05`, for count-downs. */
export function clock(seconds) {
  const n = Math.max(0, Math.ceil(seconds));
  const [hours, min, sec] = [Math.floor(n / 3600), Math.floor(n / 60) % 60, n % 60];
  const two = (x) => String(x).padStart(2, '0');
  return hours ? `${hours}:${two(min)}:${two(sec)}` : `${two(min)}:${two(sec)}`;
}

const DATE = { year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' };
const known = (at) => at && !Number.isNaN(new Date(at).getTime());

/** Date and time in the browser's zone. */
export const when = (at) => (known(at) ? new Date(at).toLocaleString(undefined, { ...DATE, second: '2-digit' }) : '–');
export const day = (at) => (known(at) ? new Date(at).toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' }) : '–');
export const time = (at) => (known(at) ? new Date(at).toLocaleTimeString() : '–');

/** `just now`, `4 min ago`, `in 3 h`. */
export function ago(at, now = Date.now()) {
  if (!known(at)) { return 'never'; }
  const seconds = (now - new Date(at).getTime()) / 1000;
  const n = Math.abs(seconds);
  if (n < 5) { return 'just now'; }
  const words = n < 60 ? `${Math.floor(n)} s` : n < 3600 ? `${Math.floor(n / 60)} min` : n < 86400 * 2 ? `${Math.floor(n / 3600)} h` : `${Math.floor(n / 86400)} days`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

/** `maintenance_window` as `Maintenance window`. */
export function words(name) {
  const text = String(name ?? '').replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The first characters of a digest, enough to compare by eye. */
export const digest = (text) => (text ? `${text.slice(0, 23)}…` : '–');

export const percent = (n) => `${(Number.isFinite(n) ? n : 0).toFixed(1)}%`;

/** The number a reading begins with: `78.5 °C` is 78.5; `null` for a word. */
export function number(reading) {
  const found = /^\s*(-?\d+(?:\.\d+)?)/.exec(reading ?? '');
  return found ? Number(found[1]) : null;
}

/** What follows that number. */
export const unit = (reading) => (/^\s*-?\d+(?:\.\d+)?\s*(.*)$/.exec(reading ?? '') || [])[1] || '';
