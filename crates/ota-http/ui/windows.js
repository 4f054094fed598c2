// Windows as a strip of the coming days.

import { s } from './dom.js';
import { when } from './text.js';

const DAY = 86400e3;
const DAYS = 7;
/** As many openings as `safety/windows` tells at once. */
export const MOST = 100;

/** The start of the day so many days from today. */
const day = (ahead) => { const d = new Date(); d.setHours(0, 0, 0, 0); d.setDate(d.getDate() + ahead); return d; };

/** The openings of an answer of `safety/windows`, in order: `{name, kind, from, to}` in milliseconds. */
export const agenda = (answer) => (answer.windows || []).map((o) => ({ name: o.name, kind: o.kind, from: new Date(o.opens_at).getTime(), to: new Date(o.closes_at).getTime() }))
  .sort((a, b) => a.from - b.from);

/** Where openings that were cut end, when the strip goes on behind that: the start of the last one. */
export const cutAt = (openings) => (openings.length >= MOST && openings.at(-1).from < day(DAYS).getTime() ? openings.at(-1).from : null);

/** How much of its day is over at a time, by the clock on the wall, as the axis counts it: where the clocks change, an hour is left out or comes twice. */
function share(ms) {
  const at = new Date(ms);
  return (at.getHours() * 3600e3 + at.getMinutes() * 60e3 + at.getSeconds() * 1e3) / DAY;
}

/** One row a day, hours across, the windows in it. */
export function strip(openings, width) {
  const left = width < 480 ? 38 : 74, right = width - 8, row = 22, top = 18;
  const height = top + DAYS * row + 4;
  const hours = width < 480 ? 6 : 3;
  const days = Array.from({ length: DAYS }, (_, i) => day(i));
  const x = (part) => left + part * (right - left), hour = (n) => x((n * 3600e3) / DAY);
  const label = `Windows of the next ${DAYS} days: ${openings.map((o) => `${o.kind} ${o.name} from ${when(o.from)} to ${when(o.to)}`).join('; ') || 'none'}`;
  const now = Date.now();
  return s('svg', { class: 'plot strip', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    Array.from({ length: 24 / hours + 1 }, (_, i) => [s('line', { class: 'grid', x1: hour(i * hours), x2: hour(i * hours), y1: top, y2: height - 4 }), i % (width < 480 ? 1 : 2) === 0 ? s('text', { class: 'axis', x: hour(i * hours), y: 12, 'text-anchor': i === 24 / hours ? 'end' : 'middle' }, `${i * hours}`) : null]),
    days.map((d, i) => {
      const from = d.getTime(), to = day(i + 1).getTime(), y = top + i * row;
      const begin = (o) => x(o.from <= from ? 0 : share(o.from)), end = (o) => x(o.to >= to ? 1 : share(o.to));
      return [s('text', { class: 'axis', x: left - 8, y: y + 15, 'text-anchor': 'end' }, d.toLocaleDateString(undefined, width < 480 ? { weekday: 'short' } : { weekday: 'short', day: 'numeric', month: 'short' })),
        s('rect', { class: 'band-back', x: left, y: y + 4, width: right - left, height: row - 8, rx: 2 }),
        openings.filter((o) => o.from < to && o.to > from).map((o) => s('rect', { class: `window ${o.kind}`, x: begin(o), y: y + 3, width: Math.max(2, end(o) - begin(o)), height: row - 6, rx: 2 }, s('title', {}, `${o.name}: ${when(o.from)} to ${when(o.to)}`))),
        now >= from && now < to ? s('line', { class: 'now-line', x1: x(share(now)), x2: x(share(now)), y1: y + 1, y2: y + row - 1 }) : null];
    }));
}
