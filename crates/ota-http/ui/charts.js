// Drawings of numbers, in SVG. Each is drawn in pixels of its place and again when that changes, so that text keeps its size.

import { h, put, s } from './dom.js';
import { time } from './text.js';

/**
 * A place that draws itself: `draw(width)` gives an SVG. `place.redraw()` when the numbers changed. On wall screens, whose text is
 * larger, everything in the drawing is, too.
 */
export function drawn(draw, className = 'chart') {
  const place = h('div', { class: className });
  let width = 0;
  place.redraw = () => {
    if (width <= 0) { return; }
    const larger = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15;
    const drawing = draw(Math.floor(width / larger));
    if (larger !== 1 && drawing.tagName === 'svg') {
      for (const side of ['width', 'height']) { drawing.setAttribute(side, Number(drawing.getAttribute(side)) * larger); }
    }
    put(place, drawing);
  };
  // In the next frame: drawing changes the place's height, which would be observed again at once.
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) { width = now; requestAnimationFrame(place.redraw); }
  }).observe(place);
  return place;
}

function scale([from, to], [low, high]) {
  const size = to - from || 1;
  return (v) => low + ((v - from) / size) * (high - low);
}

/** Round numbers between two, about `count` of them, and two at least: one alone is no scale. */
export function ticks(low, high, count = 3) {
  if (!(high > low)) { return [low]; }
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const marks = () => {
    const first = Math.ceil(low / step), last = Math.floor(high / step + 1e-6);
    return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  };
  while (marks().length < 2) { step /= 2; }
  return marks();
}

/** Runs of points that follow each other without a gap. */
function runs(points, gap) {
  const out = [];
  for (const p of points) {
    const run = out.at(-1);
    if (p.v === null || p.v === undefined) { out.push([]); continue; }
    if (run?.length && p.t - run.at(-1).t <= gap) { run.push(p); } else { out.push([p]); }
  }
  return out.filter((run) => run.length);
}

/**
 * Values over time. `points`: `{t, v, k}`; `limits`: `[{v, label}]`; `format` makes the axis' words; `label` says it to those
 * who do not see it. Stretches whose `k` is not `ok` are shaded.
 */
export function plot(points, { width, height = 120, from, to, limits = [], format = String, label, zero = false, gap = 15000, shade = false }) {
  const seen = points.filter((p) => p.t >= from - gap && p.v !== null && p.v !== undefined);
  const all = [...seen.map((p) => p.v), ...limits.map((l) => l.v), ...(zero ? [0] : [])];
  let [low, high] = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
  const pad = (high - low || Math.abs(high) || 1) * 0.12;
  high += pad; if (!zero) { low -= pad; }
  const left = 62, bottom = height - 20;
  const x = scale([from, to], [left, width - 8]), y = scale([low, high], [bottom, 8]);
  const path = (run) => run.map((p, i) => `${i ? 'L' : 'M'}${x(Math.max(p.t, from)).toFixed(1)} ${y(p.v).toFixed(1)}`).join('');
  const groups = runs(seen, gap);
  return s('svg', { class: 'plot', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    shade ? spans(points, from, to, gap).filter((span) => span.k !== 'ok').map((span) => s('rect', { class: `shade ${span.k}`, x: x(span.from), y: 8, width: Math.max(1, x(span.to) - x(span.from)), height: bottom - 8 })) : null,
    ticks(low, high, height > 150 ? 4 : 2).map((v) => [s('line', { class: 'grid', x1: left, x2: width - 8, y1: y(v), y2: y(v) }), s('text', { class: 'axis', x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, format(v))]),
    groups.map((run) => s('path', { class: 'area', d: `${path(run)}L${x(run.at(-1).t).toFixed(1)} ${bottom}L${x(Math.max(run[0].t, from)).toFixed(1)} ${bottom}Z` })),
    limits.map((l) => [s('line', { class: 'limit', x1: left, x2: width - 8, y1: y(l.v), y2: y(l.v) }), s('text', { class: 'axis limit-text', x: width - 10, y: y(l.v) - 4, 'text-anchor': 'end' }, l.label)]),
    groups.map((run) => s('path', { class: 'line', d: path(run) })),
    groups.length ? s('circle', { class: 'now', cx: x(groups.at(-1).at(-1).t), cy: y(groups.at(-1).at(-1).v), r: 3 }) : null,
    axisTimes(from, to, x, height, left, width));
}

function axisTimes(from, to, x, height, left, width) {
  return [s('text', { class: 'axis', x: left, y: height - 5 }, time(from)), s('text', { class: 'axis', x: width - 8, y: height - 5, 'text-anchor': 'end' }, time(to))];
}

/** Stretches of one state, from points in time. */
export function spans(points, from, to, gap = 15000) {
  const out = [];
  points.forEach((p, i) => {
    const end = points[i + 1] ? Math.min(points[i + 1].t, p.t + gap) : Math.min(to, p.t + gap);
    if (end < from) { return; }
    const last = out.at(-1);
    if (last && last.k === p.k && p.t - last.to < 1000) { last.to = end; } else { out.push({ k: p.k, from: Math.max(from, p.t), to: end }); }
  });
  return out;
}

/** A state over time as a band, for what has no number. */
export function band(points, { width, height = 44, from, to, label, gap }) {
  const x = scale([from, to], [0, width]);
  return s('svg', { class: 'plot', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    s('rect', { class: 'band-back', x: 0, y: 4, width, height: 18, rx: 3 }),
    spans(points, from, to, gap).map((span) => s('rect', { class: `band ${span.k}`, x: x(span.from), y: 4, width: Math.max(1.5, x(span.to) - x(span.from)), height: 18 })),
    axisTimes(from, to, x, height, 0, width + 8));
}

/** A line without axes, for the corner of a card. */
export function spark(points, { width, height = 34, label, zero = true }) {
  if (points.length < 2) { return s('svg', { width, height, 'aria-hidden': 'true' }); }
  const values = points.map((p) => p.v);
  const low = zero ? 0 : Math.min(...values), high = Math.max(...values, low + 1e-9);
  const x = scale([points[0].t, points.at(-1).t], [1, width - 3]), y = scale([low, high * 1.05], [height - 2, 3]);
  const line = points.map((p, i) => `${i ? 'L' : 'M'}${x(p.t).toFixed(1)} ${y(p.v).toFixed(1)}`).join('');
  return s('svg', { class: 'plot', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    s('path', { class: 'area', d: `${line}L${width - 3} ${height}L1 ${height}Z` }), s('path', { class: 'line', d: line }));
}

/** Stacked columns: `columns`: `{label, parts: [{n, tone}]}`. */
export function columns(data, { width, height = 150, label }) {
  const left = 30, bottom = height - 22;
  const most = Math.max(1, ...data.map((c) => c.parts.reduce((sum, p) => sum + p.n, 0)));
  const y = scale([0, most], [bottom, 8]);
  const slot = (width - left - 8) / data.length;
  const bar = Math.min(44, Math.max(4, slot * 0.62));
  const every = Math.ceil(64 / slot);
  return s('svg', { class: 'plot', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    ticks(0, most, 3).filter(Number.isInteger).map((v) => [s('line', { class: 'grid', x1: left, x2: width - 8, y1: y(v), y2: y(v) }), s('text', { class: 'axis', x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, v)]),
    data.map((c, i) => {
      let top = 0;
      const cx = left + slot * (i + 0.5);
      return [c.parts.map((p) => { const y1 = y(top + p.n), y0 = y(top); top += p.n; return p.n ? s('rect', { class: `column ${p.tone}`, x: cx - bar / 2, y: y1, width: bar, height: Math.max(0, y0 - y1 - 1) }, s('title', {}, `${c.label}: ${p.n} ${p.name}`)) : null; }),
        i % every === 0 ? s('text', { class: 'axis', x: cx, y: height - 6, 'text-anchor': 'middle' }, c.label) : null];
    }));
}
