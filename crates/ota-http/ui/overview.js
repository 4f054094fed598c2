// The gateway at a glance.

import { drawn, spark } from './charts.js';
import { h, put } from './dom.js';
import { badge, card, empty, facts, table } from './parts.js';
import { drawSlots, slotsOf } from './slots.js';
import { state, watch } from './store.js';
import { ago, bytes, digest, time, when, words } from './text.js';

export function show(root) {
  const drawing = drawn((width) => (state.status ? drawSlots(state.status, width) : h('p', '')), 'slots-place');
  const boxes = Object.fromEntries(['slots', 'safety', 'health', 'resources', 'last', 'events'].map((name) => [name, h('div')]));
  const charts = h('div', { class: 'meters' });
  const lines = [meter('#load', 'Processor load'), meter('#memory', 'Memory free'), meter('#disk', 'Staging space free')];
  charts.append(...lines.map((line) => line.node));
  root.append(h('div', { class: 'grid overview' },
    card('Slots', { class: 'wide' }, drawing, boxes.slots),
    card('Safety lights', { actions: h('a', { class: 'button quiet-button', href: '#/safety' }, 'Details') }, boxes.safety),
    card('Health', {}, boxes.health),
    card('Resources', {}, charts),
    card('Last update', { actions: h('a', { class: 'button quiet-button', href: '#/history' }, 'History') }, boxes.last),
    card('Events', { class: 'wide' }, boxes.events)));

  const status = () => {
    if (!state.status) { return; }
    drawing.redraw();
    put(boxes.slots, slotTable(state.status));
    put(boxes.health, health(state.status));
    put(boxes.last, lastUpdate(state.status));
    const { cpu_load: load, memory_free: memory, disk_free: disk } = state.status.resources;
    lines[0].say(load.toFixed(2), load > 1 ? 'per processor; above 1 is busy' : 'per processor');
    lines[1].say(bytes(memory), '');
    lines[2].say(bytes(disk), '');
  };
  const safety = () => { if (state.safety) { put(boxes.safety, lamps(state.safety)); } };
  const events = () => put(boxes.events, eventList(state.events));
  status(); safety(); events();
  const off = [watch('status', status), watch('safety', safety), watch('events', events)];
  return () => off.forEach((stop) => stop());
}

function meter(key, name) {
  const figure = h('strong', { class: 'figure' }), note = h('span', { class: 'quiet' });
  const line = drawn((width) => spark(state.samples[key] || [], { width, label: `${name} since this page is open` }), 'spark');
  return { node: h('div', { class: 'meter' }, h('p', h('span', name), ' ', figure, ' ', note), line), say: (text, more) => { figure.textContent = text; note.textContent = more; line.redraw(); } };
}

function slotTable(status) {
  return table('Slots', ['Slot', 'Version', 'State', 'Boots', 'Last boot', 'Image'], slotsOf(status).filter((slot) => slot.part).map((slot) => h('tr',
    h('th', { scope: 'row' }, slot.name, slot.running ? h('span', { class: 'quiet' }, ' running') : ''), h('td', slot.part.version ?? '–'), h('td', badge(slot.part.state)),
    h('td', { class: 'figure' }, slot.part.boot_count), h('td', { title: when(slot.part.last_boot) }, ago(slot.part.last_boot)), h('td', h('code', { title: slot.part.checksum }, digest(slot.part.checksum))))));
}

export function lamps(safety) {
  const window = safety.maintenance_window;
  return [
    h('p', { class: `verdict ${safety.update_allowed ? 'ok' : 'bad'}` }, safety.update_allowed ? 'Updates may be installed now' : 'Updates are held back'),
    safety.constraints.length ? h('ul', { class: 'lamps' }, safety.constraints.map((c) => h('li', h('span', { class: `lamp ${c.overridden ? 'overridden' : c.status}`, 'aria-hidden': 'true' }), h('span', { class: 'lamp-name' }, words(c.name), h('span', { class: 'hidden' }, `: ${c.status}`)), h('span', { class: 'figure' }, c.reading), h('span', { class: 'quiet lamp-text' }, c.overridden ? 'overridden' : c.message)))) : empty('No constraints', 'The configuration names none.'),
    h('p', { class: 'quiet' }, window.active ? 'An update window is open.' : window.next_window ? `Next update window ${ago(window.next_window)}, ${when(window.next_window)}.` : 'No update window is planned.'),
  ];
}

function health(status) {
  const boot = status.boot;
  return [facts([
    ['Status', badge(status.system_status)],
    ['Ready', status.degraded.length ? badge('no', 'bad') : badge('yes', 'ok')],
    ['Boot environment', boot ? (boot.redundant ? 'Redundant, two copies' : h('span', { class: 'bad-text' }, 'One copy only')) : h('span', { class: 'bad-text' }, 'Unreadable')],
    ['Boot loader', boot ? (boot.canary ? h('span', { class: boot.loader_too_old ? 'bad-text' : '' }, `Present${boot.loader_version ? `, ${boot.loader_version}` : ''}${boot.loader_too_old ? ' (older than 2024.01)' : ''}`) : h('span', { class: 'bad-text' }, 'Never left its mark')) : null],
    ['Signatures', status.allow_unsigned ? h('span', { class: 'bad-text' }, 'Unsigned images are allowed') : 'Required'],
    ['Last good check', h('span', { title: when(status.last_good_check) }, ago(status.last_good_check))],
  ]), status.degraded.length ? h('ul', { class: 'plain' }, status.degraded.map((d) => h('li', { class: 'bad-text' }, `${words(d.reason)}: ${d.message}`))) : null];
}

function lastUpdate(status) {
  const last = status.last_update;
  if (!last) { return empty('No update yet', 'The first one will be shown here.'); }
  return facts([['Version', h('strong', last.version)], ['Result', badge(last.status)], ['When', h('span', { title: when(last.timestamp) }, `${ago(last.timestamp)}, ${when(last.timestamp)}`)]]);
}

const KINDS = { status_change: 'Status', safety_alert: 'Safety', job_complete: 'Job', system_event: 'System' };

export function eventList(events) {
  if (!events.length) { return empty('Quiet', 'Events appear here as they happen.'); }
  return h('ol', { class: 'events', tabindex: '0', 'aria-label': 'Events, newest first', data: { key: 'events' } }, events.slice(0, 60).map((e) => h('li', h('time', { datetime: e.timestamp, title: when(e.timestamp) }, time(e.timestamp)), h('span', { class: `event-kind ${e.type}` }, KINDS[e.type] || 'Event'), h('span', e.constraint ? `${words(e.constraint)}: ${e.message}` : e.message))));
}
