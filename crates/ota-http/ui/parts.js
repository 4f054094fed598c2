// The pieces that views are made of: cards, buttons that know roles, refusals, dialogs.

import { h, icon, put } from './dom.js';
import { may, state } from './store.js';
import { showNotification } from './spec.js';
import { words } from './text.js';

let counter = 0;
export const fresh = (name) => `${name}-${(counter += 1)}`;

/** A titled panel. `more.actions` stand in its head; refusals of its buttons appear in it. */
export function card(title, more, ...children) {
  const id = fresh('card');
  return h('section', { class: `card ${more.class || ''}`, 'aria-labelledby': id, data: { card: '' } },
    h('div', { class: 'card-head' }, h('h2', { id }, title), h('div', { class: 'card-actions' }, more.actions)),
    h('div', { class: 'problems' }), children);
}

/** Why a control is off; `null` when it is on. */
export const lacks = (role) => (!state.session || may(role) ? null : `This needs the role ${role}; you are logged in as ${state.session?.role}.`);

/** A button that does `run`, shows that it is at it, and shows a refusal where it stands. `why` names a reason to be off. */
export function button(label, run, { role = 'viewer', kind = '', why = null, key, name } = {}) {
  const off = lacks(role) || why;
  const node = h('button', { type: 'button', class: `button ${kind}`, title: off, 'aria-disabled': off ? 'true' : null, 'aria-label': name, data: key ? { key } : {} }, label);
  node.addEventListener('click', async () => {
    if (node.getAttribute('aria-busy') === 'true') { return; }
    if (off) { showNotification(off, 'warning'); return; }
    node.setAttribute('aria-busy', 'true');
    const place = node.closest('[data-card]')?.querySelector('.problems');
    if (place) { put(place); }
    try { await run(node); }
    catch (error) { if (place?.isConnected) { put(place, problem(error)); } else { showNotification(error.message, 'error'); } }
    finally { node.removeAttribute('aria-busy'); }
  });
  return node;
}

/** The note beside controls that the role switches off. */
export const roleNote = (role) => (lacks(role) === null ? null : h('p', { class: 'note' }, lacks(role)));

const FACTS = { attempts_left: 'Attempts left', constraint: 'Constraint', status: 'Reading', resolution: 'Resolution', estimated_wait: 'Estimated wait', reason: 'Reason', where: 'Where', required: 'Required', available: 'Available', expected: 'Expected', actual: 'Actual', job_id: 'Job', path: 'Field', partition: 'Partition', with: 'Busy with', window: 'Window', until: 'Until', limit: 'Limit', retry_after_seconds: 'Try again in seconds' };

/** A refusal: message, what to do, the id to quote. */
export function problem(error) {
  const facts = Object.entries(FACTS).filter(([key]) => error.details && error.details[key] !== undefined && error.details[key] !== null && typeof error.details[key] !== 'object');
  return h('div', { class: 'problem', role: 'alert' },
    h('p', { class: 'problem-title' }, h('strong', error.message), error.code ? h('code', error.name && error.name !== error.code ? `${error.code} ${error.name}` : error.code) : null),
    facts.length ? h('dl', { class: 'facts' }, facts.map(([key, label]) => [h('dt', label), h('dd', String(error.details[key]))])) : null,
    error.actions?.length ? [h('p', 'What you can do:'), h('ul', error.actions.map((text) => h('li', text)))] : null,
    error.requestId ? h('p', { class: 'quiet' }, 'Request ', h('code', error.requestId)) : null);
}

export const empty = (title, text) => h('div', { class: 'empty' }, h('p', h('strong', title)), text ? h('p', text) : null);
export const loading = (what) => h('p', { class: 'loading', role: 'status' }, `Loading ${what}…`);
export const missing = (what) => empty('Not available on this gateway', `Its software does not offer ${what}.`);

const TONES = { ok: 'ok', good: 'ok', success: 'ok', succeeded: 'ok', intact: 'ok', idle: 'ok', violated: 'bad', bad: 'bad', failed: 'bad', error: 'bad', critical: 'bad', degraded: 'bad', refused: 'warn', unknown: 'warn', rolled_back: 'warn', trial: 'warn', warning: 'warn', paused: 'warn', cancelled: 'mute', empty: 'mute' };
/** A word in its colour. */
export const badge = (word, tone = TONES[word] || 'info') => h('span', { class: `badge ${tone}` }, words(word));

/** Terms and what they are. Pairs without a value are left out. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(([, value]) => value !== undefined && value !== null).map(([term, value]) => [h('dt', term), h('dd', value)]));
}

/** A table that scrolls inside itself on narrow screens. */
export function table(caption, heads, rows) {
  return h('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0', data: { key: `table-${caption}` } }, h('table',
    h('caption', { class: 'hidden' }, caption),
    h('thead', h('tr', heads.map((head) => h('th', { scope: 'col' }, head)))), h('tbody', rows)));
}

/** A labelled control. `spec`: name, label, type, options, required, hint, value, … */
export function field(spec) {
  const id = fresh('field');
  const { name, label, type = 'text', hint, options, ...rest } = spec;
  const about = hint ? `${id}-hint` : null;
  if (type === 'checkbox') {
    return h('div', { class: 'check' }, h('input', { id, name, type, 'aria-describedby': about, ...rest }), h('label', { for: id }, label), hint ? h('p', { id: about, class: 'hint' }, hint) : null);
  }
  const control = options
    ? h('select', { id, name, 'aria-describedby': about, ...rest }, options.map(([value, text]) => h('option', { value, selected: value === rest.value }, text)))
    : h(type === 'area' ? 'textarea' : 'input', { id, name, type: type === 'area' ? null : type, 'aria-describedby': about, autocomplete: 'off', ...rest });
  return h('div', { class: 'field' }, h('label', { for: id }, label, rest.required ? h('span', { class: 'quiet' }, ' (needed)') : null), control, hint ? h('p', { id: about, class: 'hint' }, hint) : null);
}

/** Radio buttons with an explanation each. */
export function choice(name, legend, options, value) {
  return h('fieldset', { class: 'choice' }, h('legend', legend), options.map(([key, label, hint]) => {
    const id = fresh('choice');
    return h('div', { class: 'check' }, h('input', { id, type: 'radio', name, value: key, checked: key === value, 'aria-describedby': `${id}-hint` }), h('label', { for: id }, label), h('p', { id: `${id}-hint`, class: 'hint' }, hint));
  }));
}

export const pin = (required = true, hint = 'Every try is recorded; too many wrong ones lock it.') =>
  field({ name: 'pin', label: 'PIN', type: 'password', required, maxlength: 64, hint, autocomplete: 'off' });

/** What a form holds; empty texts are left out. */
export function values(form) {
  const out = {};
  for (const control of form.elements) {
    if (!control.name) { continue; }
    if (control.type === 'checkbox') { out[control.name] = control.checked; }
    else if (control.type === 'radio') { if (control.checked) { out[control.name] = control.value; } }
    else if (control.type === 'number') { if (control.value !== '') { out[control.name] = Number(control.value); } }
    else if (control.type !== 'file' && control.value.trim() !== '') { out[control.name] = control.type === 'password' ? control.value : control.value.trim(); }
  }
  return out;
}

/** A form that hands its values to `run`; a refusal appears above its button. Where the gateway wants the PIN for what usually goes without, it is asked for then. */
export function form(fields, label, run, { role = 'viewer', kind = 'primary', why = null, cancel } = {}) {
  const place = h('div', { class: 'problems' });
  const off = lacks(role) || why;
  const submit = h('button', { class: `button ${kind}`, 'aria-disabled': off ? 'true' : null, title: off }, label);
  const node = h('form', { class: 'form', method: 'post' }, fields, place, h('div', { class: 'row end' }, cancel, submit));
  node.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (submit.getAttribute('aria-busy') === 'true') { return; }
    if (off) { showNotification(off, 'warning'); return; }
    submit.setAttribute('aria-busy', 'true');
    put(place);
    try { await run(values(node), node); }
    catch (error) {
      put(place, problem(error));
      node.querySelectorAll('input[type=password]').forEach((e) => { e.value = ''; });
      if (error.code === 'OTA_010' && !node.elements.pin) { place.before(pin()); node.elements.pin.focus(); }
    }
    finally { submit.removeAttribute('aria-busy'); }
  });
  return node;
}

/** A dialog with a form. Closes when `run` succeeds; gives whether it did. */
export function dialog({ title, text, fields = [], label, kind = 'primary', role = 'viewer', run }) {
  const id = fresh('dialog');
  const node = h('dialog', { 'aria-labelledby': id });
  return new Promise((resolve) => {
    let done = false;
    const cancel = h('button', { type: 'button', class: 'button', onclick: () => node.close() }, run ? 'Cancel' : 'Close');
    const body = run
      ? form(fields, label, async (given) => { await run(given); done = true; node.close(); }, { role, kind, cancel })
      : h('div', { class: 'form' }, fields, h('div', { class: 'row end' }, cancel));
    node.append(h('div', { class: 'dialog-head' }, h('h2', { id }, title), h('button', { type: 'button', class: 'button bare', 'aria-label': 'Close', onclick: () => node.close() }, icon('close'))), text ? h('p', text) : '', body);
    node.addEventListener('close', () => { node.remove(); resolve(done); });
    document.body.append(node);
    node.showModal();
    node.querySelector('input:not([type=hidden]), textarea, select')?.focus();
  });
}

/** Saves bytes as a file of this name. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
