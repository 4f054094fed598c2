// The drawing of the two slots: which one runs, which one boots next, what is in them.

import { s } from './dom.js';
import { bytes, words } from './text.js';

const FACES = { good: 'ok', bad: 'bad', trial: 'warn', empty: 'mute' };

/** What the boot loader takes at the next start: a trial first, else the first of the order that is bootable. */
export function nextBoot(boot) {
  if (!boot) { return null; }
  const can = (slot) => boot[slot.toLowerCase()]?.bootable && boot[slot.toLowerCase()].tries_left > 0;
  if (boot.trial && can(boot.trial)) { return boot.trial; }
  const other = boot.first === 'A' ? 'B' : 'A';
  return can(boot.first) ? boot.first : can(other) ? other : boot.first;
}

/** The slots as the drawing and its description need them. */
export function slotsOf(status) {
  const { active, inactive } = status.partitions;
  const next = nextBoot(status.boot);
  return ['A', 'B'].map((name) => {
    const part = [active, inactive].find((p) => p?.name === name) || null;
    const loader = status.boot?.[name.toLowerCase()] || null;
    return { name, part, loader, running: active?.name === name, next: next === name, trial: status.boot?.trial === name };
  });
}

function describe(slot) {
  const { part } = slot;
  if (!part) { return `Slot ${slot.name}: nothing is known`; }
  return `Slot ${slot.name}: ${part.version ?? 'no version'}, ${part.state}${slot.running ? ', running' : ''}${slot.next ? ', boots next' : ''}${slot.trial ? ' on trial' : ''}, booted ${part.boot_count} times`;
}

function box(slot, x, y, w) {
  const { part, loader } = slot;
  const face = part ? FACES[part.state] || 'mute' : 'mute';
  const full = part?.image_size && part?.capacity ? Math.min(1, part.image_size / part.capacity) : 0;
  const line = (dy, name, text, more = {}) => s('text', { class: name, x: x + 16, y: y + dy, ...more }, text);
  return s('g', { class: `slot ${slot.running ? 'running' : ''}` },
    s('rect', { class: 'slot-box', x, y, width: w, height: 132, rx: 10 }),
    s('rect', { class: `slot-edge ${face}`, x, y: y + 10, width: 4, height: 112, rx: 2 }),
    line(26, 'slot-name', `Slot ${slot.name}`),
    s('text', { class: `slot-state ${face}`, x: x + w - 14, y: y + 26, 'text-anchor': 'end' }, part ? words(part.state) : 'Unknown'),
    line(58, 'slot-version', fit(part?.version ?? (part?.state === 'empty' ? 'Empty' : 'No version'), w - 30)),
    line(80, 'slot-fact', slot.running ? 'Running now' : slot.trial ? 'Starts next, on trial' : loader && !loader.bootable ? 'Not bootable' : 'Standing by'),
    s('text', { class: 'slot-fact', x: x + w - 14, y: y + 80, 'text-anchor': 'end' }, part ? `${part.boot_count} ${part.boot_count === 1 ? 'boot' : 'boots'}` : ''),
    s('rect', { class: 'slot-track', x: x + 16, y: y + 94, width: w - 30, height: 6, rx: 3 }),
    full ? s('rect', { class: 'slot-fill', x: x + 16, y: y + 94, width: (w - 30) * full, height: 6, rx: 3 }) : null,
    line(118, 'slot-small', part?.capacity ? `${part.image_size ? bytes(part.image_size) : '–'} of ${bytes(part.capacity)}` : ''),
    s('text', { class: 'slot-small', x: x + w - 14, y: y + 118, 'text-anchor': 'end' }, loader ? (slot.trial ? `${loader.tries_left} trial ${loader.tries_left === 1 ? 'boot' : 'boots'} left` : loader.bootable ? 'Bootable' : 'Locked') : ''));
}

/** Long versions are cut where the box ends; the table below has them whole. */
function fit(text, width) {
  const most = Math.floor(width / 13);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** The drawing for a place of this width: side by side, or one above the other on a phone. */
export function drawSlots(status, width) {
  const slots = slotsOf(status);
  const wide = width >= 520;
  const next = slots.find((slot) => slot.next);
  const label = `${slots.map(describe).join('. ')}.`;
  const chip = 54;
  const w = wide ? Math.floor((width - 24) / 2) : width - 34;
  const places = wide ? [[1, chip + 34], [w + 23, chip + 34]] : [[32, chip + 22], [32, chip + 22 + 148]];
  const height = wide ? chip + 34 + 134 : chip + 22 + 148 + 134;
  const target = next ? places[slots.indexOf(next)] : null;
  const middle = width / 2;
  let path = '';
  if (target && wide) { const tx = target[0] + w / 2; path = `M${middle} ${chip - 14}V${chip + 8}H${tx}V${target[1] - 5}`; }
  if (target && !wide) { path = `M12 ${chip - 14}V${target[1] + 24}H${target[0] - 6}`; }
  return s('svg', { class: 'slots', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
    s('defs', {}, s('marker', { id: 'arrow', viewBox: '0 0 10 10', refX: 8, refY: 5, markerWidth: 7, markerHeight: 7, orient: 'auto' }, s('path', { class: 'arrow-head', d: 'M0 0L10 5L0 10z' }))),
    s('g', { class: 'loader' },
      s('rect', { class: 'loader-box', x: wide ? middle - 150 : 1, y: 1, width: wide ? 300 : width - 3, height: chip - 15, rx: 8 }),
      s('text', { class: 'loader-text', x: wide ? middle : width / 2, y: 25, 'text-anchor': 'middle' },
        status.boot ? (next ? `Boot loader: slot ${next.name} boots next${next.trial ? ', on trial' : ''}` : 'Boot loader: nothing is bootable') : 'Boot environment unreadable')),
    path ? s('path', { class: `boot-arrow ${next.trial ? 'trial' : ''}`, d: path, 'marker-end': 'url(#arrow)' }) : null,
    slots.map((slot, i) => box(slot, places[i][0], places[i][1], w)));
}
