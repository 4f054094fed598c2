// The frame: logging in, which view is shown, the lights at the top, the banners, light and dark.

import { get, logIn, logOut, on, tellLogOut, untold } from './api.js';
import { byId, h, icon, put, say } from './dom.js';
import * as job from './job.js';
import * as live from './live.js';
import { dialog, form, field, problem, loading } from './parts.js';
import { changed, loadSafety, may, overrideLeft, state, watch } from './store.js';
import { showNotification, updateSystemStatus } from './spec.js';
import { ago, clock, span, words } from './text.js';
import './updates.js';

const VIEWS = [
  ['overview', 'Overview', () => import('./overview.js')],
  ['updates', 'Updates', () => import('./updates.js')],
  ['safety', 'Safety', () => import('./safety.js')],
  ['upload', 'Upload', () => import('./upload.js')],
  ['history', 'History', () => import('./history.js')],
  ['audit', 'Audit', () => import('./audit.js')],
  ['system', 'System', () => import('./system.js')],
];

let leave = null;
let shown = null;

/** `#/history/OTA-JOB-12345` is the view and what to open in it. */
function place() {
  const [, name, rest] = /^#\/([a-z]+)(?:\/(.*))?$/.exec(location.hash) || [];
  return { view: VIEWS.find(([id]) => id === name) || VIEWS[0], rest: rest ? decoded(rest) : null };
}

/** A text that is not encoded, as somebody may type one, is taken as it is. */
function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

async function show() {
  if (!state.session) { return; }
  const { view: [id, title, load], rest } = place();
  for (const link of byId('nav').querySelectorAll('a')) {
    if (link.dataset.view === id) { link.setAttribute('aria-current', 'page'); } else { link.removeAttribute('aria-current'); }
  }
  closeMenu();
  const root = byId('view');
  const first = shown === null;
  shown = `${id}/${rest ?? ''}`;
  const mine = shown;
  document.body.dataset.view = id;
  document.title = `${title} · ${state.status?.gateway.name ?? 'OTA gateway'}`;
  leave?.();
  leave = null;
  put(root, h('h1', { class: 'hidden', tabindex: '-1' }, title), loading(title.toLowerCase()));
  try {
    const module = await load();
    if (shown !== mine) { return; }
    put(root, h('h1', { class: 'hidden', tabindex: '-1' }, title));
    leave = module.show(root, rest) || null;
    if (!first) { root.querySelector('h1').focus({ preventScroll: true }); window.scrollTo(0, 0); }
  } catch (error) {
    console.error(error);
    put(root, problem({ message: `This view could not be loaded: ${error.message}`, actions: ['Reload the page'] }));
  }
}

function drawNav() {
  put(byId('nav'), h('ul', VIEWS.map(([id, title]) => h('li', h('a', { href: `#/${id}`, data: { view: id } }, icon(id), h('span', title))))),
    h('p', { class: 'nav-foot' }, h('a', { href: '/docs' }, 'API reference'), ' · ', h('a', { href: '/metrics' }, 'Metrics')));
}

function closeMenu() {
  document.body.classList.remove('menu-open');
  byId('menu-button').setAttribute('aria-expanded', 'false');
}

// Lights and banners.

function lights() {
  const { status, safety } = state;
  if (status) {
    say(byId('gateway-name'), status.gateway.name);
    say(byId('gateway-model'), `${status.gateway.model} · ${status.gateway.serial}`);
    updateSystemStatus(status.system_status);
  }
  if (safety) {
    const light = byId('safety-light');
    const held = safety.constraints.filter((c) => c.status !== 'ok' && !c.overridden);
    const tone = safety.override ? 'overridden' : safety.update_allowed ? 'ok' : 'held';
    light.dataset.status = tone;
    say(light, tone === 'overridden' ? 'Override active' : tone === 'ok' ? 'Safe to update' : `Held: ${held.map((c) => words(c.name)).join(', ') || (state.safety.inhibitors || []).map((lease) => lease.owner).join(', ') || 'window'}`);
  }
}

function link() {
  const now = Date.now();
  const age = now - Math.max(state.link.heard, 0);
  const stale = !state.link.reached || (!state.link.live && state.link.heard > 0 && age > 3000) || age > live.STALE;
  document.body.classList.toggle('stale', Boolean(state.status) && stale);
  const [tone, word] = state.link.live && !stale ? ['live', 'Live'] : state.link.heard === 0 ? ['connecting', 'Connecting'] : stale ? ['stale', 'Stale'] : ['connecting', 'Reconnecting'];
  byId('link').dataset.status = tone;
  say(byId('link-word'), word);
  say(byId('link-age'), tone === 'stale' ? `· ${ago(state.link.heard, now)}` : '');
}

/** A figure that runs: a screen reader tells the sentence that it stands in once, and not again with each second. */
const running = (text, id) => h('strong', { class: 'figure', role: 'timer', 'aria-live': 'off', id }, text);
const isRunning = (part) => part instanceof Node && part.getAttribute('role') === 'timer';

/** What stands above every view now: tone, key, sentence. */
function sentences() {
  const now = Date.now();
  const out = [];
  const { job, reboot, status, safety } = state;
  if (reboot) {
    const left = (reboot.at - now) / 1000;
    const off = !reboot.gone && left < -20 && status && !['reboot_pending', 'rebooting'].includes(status.system_status);
    const called = !reboot.gone && left > 0 && state.statusAsked > reboot.told && !status.active_job && !status.factory_reset;
    // The restart waits, of which the system's status tells nothing. It is announced again.
    const held = !reboot.gone && state.jobAsked > reboot.told && job?.waiting_for;
    if (off || called || held) { state.reboot = null; }
    else if (left > 0 && !reboot.gone) { out.push(['warn', 'reboot', 'Restart in ', running(clock(left), 'reboot-countdown'), status?.active_job && status.system_status === 'reboot_pending' ? '. Cancelling the job stops it.' : '.']); }
    else { out.push(['info', 'restarting', h('strong', 'The gateway restarts. '), 'This page comes back by itself', reboot.gone ? ['; away for ', running(span((now - state.link.since) / 1000))] : [], '.']); }
  } else if (status && document.body.classList.contains('stale')) {
    out.push(['warn', 'stale', h('strong', 'No connection to the gateway. '), 'What you see is from ', running(ago(state.link.heard, now)), '. Trying again by itself.']);
  }
  if (safety?.override) {
    out.push(['warn', 'override', h('strong', 'Safety override: '), `${safety.override.constraints_overridden.map(words).join(', ')} for another `, running(clock(overrideLeft())), '. ', h('a', { href: '#/safety' }, 'End it')]);
  }
  if (status?.factory_reset) {
    const by = status.factory_reset.requested_by;
    out.push(['bad', 'factory-reset', h('strong', 'Factory reset: '), `${status.factory_reset.message}${by ? `; asked for by ${by}` : ''}.`]);
  }
  (status?.degraded || []).forEach((d, i) => out.push(['bad', `degraded-${i}`, h('strong', `${words(d.reason)}: `), d.message]));
  if (status?.allow_unsigned) { out.push(['warn', 'unsigned', h('strong', 'Unsigned images are allowed '), 'by this device’s configuration.']); }
  return out;
}

/** Only what differs is touched, four times a second: focus stays, and a screen reader hears of changes alone. */
function banners() {
  const place = byId('banners');
  const now = sentences();
  for (const node of [...place.children]) { if (!now.some(([, key]) => key === node.dataset.key)) { node.remove(); } }
  now.forEach(([tone, key, ...parts], i) => {
    const text = parts.flat();
    let node = [...place.children].find((one) => one.dataset.key === key);
    if (!node) {
      node = h('p', { class: `banner ${tone}`, role: 'status', data: { key } });
      place.insertBefore(node, place.children[i] ?? null);
    }
    const timer = text.find(isRunning);
    const sentence = text.map((part) => (isRunning(part) ? '' : part.textContent ?? part)).join('');
    if (told.get(node) !== sentence) { told.set(node, sentence); put(node, text); }
    else if (timer) { say(node.querySelector('[role=timer]'), timer.textContent); }
  });
}
/** The sentence of each banner, without its running figure. */
const told = new WeakMap();

// Light and dark.

const THEMES = ['auto', 'light', 'dark'];
function theme(next) {
  let now = 'auto';
  try { if (next) { localStorage.setItem('ota-theme', next); } now = localStorage.getItem('ota-theme') || 'auto'; } catch { now = next || 'auto'; }
  if (now === 'auto') { delete document.documentElement.dataset.theme; } else { document.documentElement.dataset.theme = now; }
  const button = byId('theme');
  button.setAttribute('aria-label', `Colours: ${now}`);
  button.title = `Colours: ${now}`;
  button.onclick = () => theme(THEMES[(THEMES.indexOf(now) + 1) % 3]);
}

// Logging in and out.

/** Shows the form at once, and tells the gateway until it has heard. */
function leaveGateway(why) {
  const told = logOut();
  showLogin(why);
  follow(told, why);
}

async function follow(told, why) {
  const known = await told;
  const note = byId('login-note');
  if (!note) { return; }
  say(note, [why, known ? '' : 'You are logged out here. The gateway has not heard of it yet: it is told again until it answers.'].filter(Boolean).join(' '));
  if (!known) { again = setTimeout(() => follow(tellLogOut(), why), 3000); }
}

function showLogin(why) {
  clearTimeout(again);
  live.stop();
  leave?.();
  leave = null;
  shown = null;
  Object.assign(state, { session: null, status: null, safety: null, job: null, ended: null, reboot: null, speeds: [] });
  changed('job');
  changed('session');
  for (const id of ['nav', 'lights', 'who', 'menu-button']) { byId(id).hidden = true; }
  document.querySelectorAll('dialog').forEach((node) => node.close());
  put(byId('banners'));
  document.body.dataset.view = 'login';
  document.title = 'Log in · OTA gateway';
  const token = field({ name: 'token', label: 'Token', type: 'password', required: true, maxlength: 512, hint: 'An admin makes one under System; on the gateway, root does with ota-gatewayd token create. The first one lies in admin.token in the gateway’s state folder.' });
  put(byId('view'), h('section', { class: 'card login', 'aria-labelledby': 'login-title', data: { card: '' } },
    h('h1', { id: 'login-title' }, 'Log in to the gateway'), h('p', { class: 'note', role: 'status', id: 'login-note' }, why ?? ''),
    form([token], 'Log in', async (given, node) => { const session = await logIn(given.token ?? ''); node.reset(); await open(session); })));
  byId('view').querySelector('input').focus();
}

async function enter(session) {
  state.session = session;
  say(byId('session-name'), `${session.name} · ${session.role}`);
  for (const id of ['nav', 'lights', 'who', 'menu-button']) { byId(id).hidden = false; }
  changed('session');
  put(byId('view'), loading('the gateway'));
  await live.start();
  await show();
}

/** An unattended page of somebody who may change things logs itself out; a viewer's, on a wall, stays. */
let touched = Date.now();
/** The last touch of any tab: they have one session. Told every few seconds at most. */
const TOUCHED = 'ota-touched';
let shared = 0;
function touch() {
  touched = Date.now();
  if (Math.abs(touched - shared) < 5000) { return; }
  shared = touched;
  try { localStorage.setItem(TOUCHED, String(touched)); } catch { /* forbidden: each tab counts for itself */ }
}
function idle() {
  const limit = state.session?.idle_seconds;
  // Whoever sends an image waits for it.
  if (state.uploading) { touch(); }
  const over = () => Date.now() - touched > limit * 1000;
  if (!limit || !may('operator') || !over()) { return; }
  try {
    const elsewhere = Number(localStorage.getItem(TOUCHED));
    // One of the future is from before the clock was set.
    if (elsewhere <= Date.now()) { touched = Math.max(touched, elsewhere); }
  } catch { /* as above */ }
  if (over()) { leaveGateway(`You were logged out after ${span(limit)} without a touch.`); }
}

/** Asks first, when something is lost with it. */
async function askLogOut() {
  const text = 'An image is on its way. It stops, and the gateway keeps nothing of it.';
  if (state.uploading && !(await dialog({ title: 'Log out?', text, label: 'Log out', kind: 'danger', run: async () => {} }))) { return; }
  leaveGateway();
}

async function begin() {
  theme();
  drawNav();
  put(byId('logout'), icon('out'), h('span', { class: 'hidden' }, 'Log out'));
  byId('logout').title = 'Log out';
  put(byId('theme'), icon('theme'));
  put(byId('menu-button'), icon('menu'), h('span', 'Menu'));
  byId('menu-button').onclick = () => {
    const open = document.body.classList.toggle('menu-open');
    byId('menu-button').setAttribute('aria-expanded', String(open));
    if (open) { byId('nav').querySelector('a').focus(); }
  };
  // Not by its address: that names the view.
  document.querySelector('.skip').onclick = (event) => { event.preventDefault(); byId('main').focus(); };
  byId('logout').onclick = askLogOut;
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && document.body.classList.contains('menu-open')) { closeMenu(); byId('menu-button').focus(); } });
  for (const kind of ['pointerdown', 'keydown']) { document.addEventListener(kind, touch, { passive: true }); }
  window.addEventListener('hashchange', show);
  document.addEventListener('visibilitychange', () => { if (!document.hidden && state.session) { loadSafety().catch(() => {}); } });
  on('lost', () => { if (state.session) { showLogin('The session has ended.'); } });
  on('reached', (yes) => { state.link.reached = yes; if (yes) { live.heard(); } });
  job.begin();
  for (const topic of ['status', 'safety']) { watch(topic, lights); }
  setInterval(() => { if (state.session) { link(); banners(); idle(); } }, 250);
  await open();
}

let again = null;
/** Goes on with the session of a log-in, or, after a reload, with the one that the cookie names. Tries until it is told that there is none. */
async function open(session) {
  clearTimeout(again);
  if (!session && untold()) { leaveGateway(); return; }
  try {
    await enter(session ?? await get('/auth/session'));
  } catch (error) {
    // Where the session has just ended, its end has led to the form already.
    if (error.status === 401) { if (document.body.dataset.view !== 'login') { showLogin(); } return; }
    if (state.session) { showNotification(error.message, 'error'); }
    put(byId('view'), problem(error));
    again = setTimeout(open, 3000);
  }
}

begin();
