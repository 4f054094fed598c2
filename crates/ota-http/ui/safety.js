// What holds updates back: each constraint over time, windows, inhibitors, the override.

import { del, maybe, post } from './api.js';
import { band, drawn, plot } from './charts.js';
import { h, put } from './dom.js';
import { badge, button, card, dialog, empty, facts, field, form, lacks, missing, pin, problem, roleNote, table } from './parts.js';
import { loadSafety, overrideLeft, state, watch } from './store.js';
import { MOST, agenda, cutAt, strip } from './windows.js';
import { ago, clock, when, words } from './text.js';

const SPANS = [[5, '5 min'], [15, '15 min'], [60, '1 hour']];
let minutes = 5;

export function show(root) {
  const verdict = h('div'), list = h('div', { class: 'grid' }), windows = h('div'), leases = h('div');
  const hold = holding(leases);
  const range = h('select', { id: 'plot-span', onchange: (event) => { minutes = Number(event.target.value); redraw(); } }, SPANS.map(([n, text]) => h('option', { value: n, selected: n === minutes }, text)));
  root.append(h('div', { class: 'stack' },
    card('Safety', { actions: h('label', { class: 'inline' }, 'Plots show ', range) }, verdict), list,
    card('Windows', {}, windows), card('Inhibitors', {}, leases, hold)));

  let panels = new Map();
  const redraw = () => { for (const panel of panels.values()) { panel.update(); } };
  const draw = () => {
    if (!state.safety) { return; }
    verdictOf(verdict, state.safety);
    const names = state.safety.constraints.map((c) => c.name).join();
    if (names !== [...panels.keys()].join() || (!names && !list.firstChild)) {
      panels = new Map(state.safety.constraints.map((c) => [c.name, panelOf(c.name)]));
      put(list, names ? [...panels.values()].map((panel) => panel.node) : empty('No constraints', 'The configuration of this gateway names none: nothing holds an update back.'));
    }
    redraw();
  };
  draw();
  loadWindows(windows);
  loadLeases(leases);
  const off = [watch('safety', draw)];
  const timers = [setInterval(() => loadWindows(windows), 60000), setInterval(() => loadLeases(leases), 15000)];
  return () => { off.forEach((stop) => stop()); timers.forEach(clearInterval); };
}

// The verdict and the override.

function verdictOf(place, safety) {
  const held = safety.constraints.filter((c) => c.status !== 'ok');
  const now = JSON.stringify([safety.update_allowed, held.map((c) => [c.name, c.message, c.overridden]), safety.override && [safety.override.expires_at, safety.override.reason], safety.override_proposed?.expires_at, safety.maintenance_window, safety.service_window, (safety.inhibitors || []).map((l) => l.id), state.session?.role]);
  if (place.dataset.now !== now) { place.dataset.now = now; put(place, verdictParts(safety, held)); }
  const left = place.querySelector('#override-left');
  if (left && safety.override) { left.textContent = clock(overrideLeft()); }
}

function verdictParts(safety, held) {
  const open = held.filter((c) => !c.overridden);
  const leases = safety.inhibitors || [];
  const parts = [h('p', { class: `verdict ${safety.update_allowed ? 'ok' : 'bad'}` }, safety.update_allowed ? 'Updates may be installed now' : 'Updates are held back'),
    open.length ? h('ul', { class: 'plain' }, open.map((c) => h('li', h('strong', words(c.name)), `: ${c.message}. ${c.resolution}`))) : null,
    safety.service_window ? h('p', { class: 'bad-text' }, `Service window ${safety.service_window.name}: people are at the machine until ${when(safety.service_window.closes_at)}.`) : null,
    leases.length ? h('ul', { class: 'plain' }, leases.map((lease) => h('li', h('strong', lease.owner), ` holds updates back: ${lease.reason}`))) : null];
  if (safety.override_proposed) {
    const open = safety.override_proposed;
    parts.push(h('p', { class: 'bad-text' }, h('strong', open.by), ` asks to override ${open.constraints.map(words).join(', ')} for ${clock(open.duration)}: ${open.reason}. Somebody else must ask for the same until ${when(open.expires_at)}.`));
  }
  if (safety.override) {
    parts.push(h('div', { class: 'override' }, h('p', h('strong', 'Override active'), ' for another ', h('strong', { class: 'figure countdown', id: 'override-left' }, clock(safety.override.remaining_seconds)), `, until ${when(safety.override.expires_at)}.`),
      facts([['Covers', safety.override.constraints_overridden.map(words).join(', ')], ['Reason', safety.override.reason]]),
      button('End the override now', async () => { await post('/safety/override', { enable: false }); await loadSafety(); }, { role: 'admin', kind: 'primary', key: 'override-off' })));
  } else {
    const why = open.length === 0 ? 'Nothing is violated, so there is nothing to override.' : open.some((c) => c.overridable) ? null : 'What is violated may not be overridden.';
    parts.push(h('div', { class: 'row' }, button('Override…', override, { role: 'admin', kind: 'danger', why, key: 'override-on' }), why && !lacks('admin') ? h('span', { class: 'quiet' }, why) : null));
  }
  parts.push(roleNote('admin'));
  return parts;
}

async function override() {
  const open = state.safety.constraints.filter((c) => c.status !== 'ok' && !c.overridden && c.overridable);
  await dialog({
    title: 'Override safety constraints',
    text: `This lets updates write, switch and restart although these are violated: ${open.map((c) => words(c.name)).join(', ')}. It covers nothing else, ends by itself and never survives a restart.`,
    fields: [
      pin(),
      field({ name: 'reason', label: 'Reason', required: true, maxlength: 500, hint: 'Goes into the audit log with your name.' }),
      field({ name: 'duration', label: 'Duration', value: '1800', options: [['300', '5 minutes'], ['900', '15 minutes'], ['1800', '30 minutes'], ['3600', '1 hour']] }),
      field({ name: 'acknowledge_risks', label: 'I know who is near the machine, and they know of this.', type: 'checkbox', required: true }),
    ],
    label: 'Override', kind: 'danger', role: 'admin',
    run: async (given) => {
      const answer = await post('/safety/override', { ...given, enable: true, duration: Number(given.duration) });
      await loadSafety();
      if (answer.status === 'override_proposed') { window.showNotification(answer.warning, 'warning'); }
    },
  });
}

// One constraint.

const BLOCKS = { download: 'download', write: 'writing', switch: 'the switch', reboot: 'the restart', rollback: 'rollback', reset: 'factory reset', deploy: 'deployment' };

const REACTIONS = { hold_reboot: 'goes on; the switch and the restart wait', pause_write: 'stands still', abort: 'is given up' };

/** Limits of a constraint, as lines of its plot. */
function limitsOf(c) {
  const limits = c.limits || {};
  return [['min', 'least'], ['max', 'most']].filter(([key]) => Number.isFinite(limits[key])).map(([key, label]) => ({ v: limits[key], label: `${label} ${limits[key]}${c.unit ? ` ${c.unit}` : ''}` }));
}

function limitText(c) {
  const limits = c.limits;
  if (!limits) { return null; }
  const withUnit = (n) => `${n}${c.unit ? ` ${c.unit}` : ''}`;
  const parts = [];
  if (Number.isFinite(limits.min)) { parts.push(`at least ${withUnit(limits.min)}`); }
  if (Number.isFinite(limits.max)) { parts.push(`at most ${withUnit(limits.max)}`); }
  if (limits.equals !== undefined && limits.equals !== null) { parts.push(`must be ${limits.equals}`); }
  if (limits.not_equals !== undefined && limits.not_equals !== null) { parts.push(`must not be ${limits.not_equals}`); }
  if (Number.isFinite(limits.max_change)) { parts.push(`changes by at most ${withUnit(limits.max_change)} in ${limits.over_seconds} s`); }
  return parts.join(', ') || null;
}

function panelOf(name) {
  const head = h('div', { class: 'constraint-head' }), figures = h('div');
  const chart = drawn((width) => {
    const c = state.safety?.constraints.find((one) => one.name === name);
    const points = state.samples[name] || [];
    const to = Date.now(), from = to - minutes * 60000;
    const label = `${words(name)} over the last ${minutes} minutes, now ${c?.reading}`;
    return points.some((p) => p.v !== null && p.v !== undefined)
      ? plot(points, { width, height: 150, from, to, limits: c ? limitsOf(c) : [], label, shade: true, format: (v) => `${v}${c?.unit && width > 400 ? ` ${c.unit}` : ''}` })
      : band(points, { width, from, to, label });
  });
  let was = '';
  const node = card(words(name), { class: 'constraint' }, head, chart, figures);
  return {
    node,
    update: () => {
      const c = state.safety?.constraints.find((one) => one.name === name);
      if (!c) { return; }
      chart.redraw();
      const now = JSON.stringify([c, ago(c.since)]);
      if (now === was) { return; }
      was = now;
      put(head, h('span', { class: `lamp ${c.overridden ? 'overridden' : c.status}`, 'aria-hidden': 'true' }), badge(c.status), c.overridden ? badge('overridden', 'warn') : null, h('strong', { class: 'reading' }, c.reading));
      put(figures, facts([
        ['Now', c.message], ['Since', c.since ? `${ago(c.since)}, ${when(c.since)}` : 'the start'], ['Limits', limitText(c)],
        ['Holds back', c.blocks.map((b) => BLOCKS[b] || b).join(', ')], ['Override', c.overridable ? 'possible' : 'not possible'],
        ['Work under way', REACTIONS[c.on_violation]], ['If violated', c.resolution || null], ['Usually lasts', c.estimated_wait && c.status !== 'ok' ? c.estimated_wait : null],
      ]));
    },
  };
}

// Windows.

async function loadWindows(place) {
  try {
    const answer = await maybe(`/safety/windows?limit=${MOST}`);
    if (!answer) { put(place, fallbackWindow()); return; }
    const openings = agenda(answer), cut = cutAt(openings);
    put(place, answer.clock_trusted === false ? h('p', { class: 'note' }, 'The gateway does not trust its clock: until it does, no window is open.') : null, openings.length
      ? [drawn((width) => strip(openings, width)), cut ? h('p', { class: 'note' }, `The gateway tells ${MOST} openings at once: the strip ends with ${when(cut)}. Windows that open later are not in it.`) : null, table('Next windows', ['Window', 'Kind', 'Opens', 'Closes'], openings.slice(0, 10).map((o) => h('tr', h('th', { scope: 'row' }, o.name), h('td', badge(o.kind, o.kind === 'service' ? 'warn' : 'info')), h('td', o.from <= Date.now() ? 'open now' : `${when(o.from)} (${ago(o.from)})`), h('td', when(o.to)))))]
      : empty('No windows', 'Updates with the strategy “update window” need one in the configuration.'),
    h('p', { class: 'quiet' }, 'Times are in this browser’s zone. Update windows are when scheduled work may run; in service windows people are at the machine and nothing is written.'));
  } catch (error) { put(place, problem(error)); }
}

function fallbackWindow() {
  const window = state.safety?.maintenance_window;
  return [h('p', window?.active ? 'An update window is open now.' : window?.next_window ? `The next update window opens ${when(window.next_window)}.` : 'No update window is planned.'), missing('a preview of the windows')];
}

// Inhibitors.

async function loadLeases(place) {
  try {
    const answer = await maybe('/safety/inhibitors');
    place.nextElementSibling.hidden = !answer;
    if (!answer) { put(place, missing('inhibitors')); return; }
    const list = answer.inhibitors || [];
    put(place, list.length
      ? table('Inhibitors', ['Owner', 'Reason', 'Holds back', 'Ends', ''], list.map((lease) => h('tr', h('th', { scope: 'row' }, lease.owner), h('td', lease.reason), h('td', lease.scope.map((b) => BLOCKS[b] || b).join(', ')), h('td', `${ago(lease.expires_at)}`),
        h('td', { class: 'row' }, button('Renew…', () => renew(lease, place), { role: 'operator', key: `renew-${lease.id}`, name: `Renew the inhibitor of ${lease.owner}…` }), button('Release', async () => { await del(`/safety/inhibitors?id=${encodeURIComponent(lease.id)}`); await loadLeases(place); await loadSafety(); }, { role: 'operator', key: `release-${lease.id}`, name: `Release the inhibitor of ${lease.owner}` })))))
      : empty('None', 'Nobody holds updates back by hand.'));
  } catch (error) { put(place, problem(error)); }
}

const length = (more) => field({ name: 'minutes', label: 'For how many minutes', type: 'number', required: true, min: 1, step: 1, value: 60, hint: `At most an hour at a time, unless the configuration has another safety.max_inhibit; ${more}.` });

const renew = (lease, place) => dialog({
  title: 'Renew the inhibitor', text: `${lease.owner} goes on holding updates back: ${lease.reason}. Now it ends ${ago(lease.expires_at)}.`,
  fields: [length('counted from now')], label: 'Renew', role: 'operator',
  run: async ({ minutes }) => { await post('/safety/inhibitors', { id: lease.id, ttl: 60 * minutes }); await loadLeases(place); },
});

/** The form stands beside the list in `place`, which is drawn again and again: what is typed stays. */
function holding(place) {
  const more = h('details', { class: 'more' }, h('summary', 'Hold updates back'), form([
    field({ name: 'owner', label: 'Who', required: true, maxlength: 200, value: state.session?.name }), field({ name: 'reason', label: 'Reason', required: true, maxlength: 200 }),
    length('it can be renewed'),
  ], 'Hold back', async ({ minutes, ...given }, node) => {
    await post('/safety/inhibitors', { ...given, ttl: 60 * minutes });
    node.elements.reason.value = '';
    more.open = false;
    await loadLeases(place);
    await loadSafety();
  }, { role: 'operator' }));
  return h('div', more, roleNote('operator'));
}
