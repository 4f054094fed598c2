// The stream of events: stays connected by itself, goes on where it broke off, and knows how old the page is.

import { API, get } from './api.js';
import { changed, keepSamples, loadAll, loadJob, loadSafety, loadStatus, speedPoint, state } from './store.js';
import * as spec from './spec.js';
import { span, words } from './text.js';

const FIRST_RETRY = 500;
const LAST_RETRY = 5000;
/** Without a sign of life for so long, the page says that it is stale. */
export const STALE = 10000;
const EVENTS = 200;
/** The sentences that the answers of `updates/progress` have for the same: what shows a job does not change its words with where they come from. */
const OPERATIONS = {
  downloading: 'Downloading update package', verifying: 'Verifying the signature',
  writing_partition: 'Writing the inactive partition', reading_back: 'Reading the partition back to compare',
};

let socket = null;
let last = null;
let retry = FIRST_RETRY;
let timers = [];
let retrying = null;
/** Counts starts and stops: what an earlier one still waits for goes no further. */
let run = 0;

/** Begins; loads everything once. */
export async function start() {
  const mine = (run += 1);
  await loadAll();
  if (mine !== run) { return; }
  await backlog();
  if (mine !== run) { return; }
  connect();
  timers = [setInterval(() => poll(loadSafety), 2000), setInterval(() => poll(loadStatus), 10000), setInterval(() => poll(loadJob, true), 1000), setInterval(keepSamples, 15000)];
}

/** Ends: logged out. */
export function stop() {
  run += 1;
  clearTimeout(retrying);
  timers.forEach(clearInterval);
  timers = [];
  if (socket) { socket.onclose = null; socket.close(); socket = null; }
  last = null;
  state.events = [];
  Object.assign(state.link, { live: false, since: null });
  changed('link');
}

/** What happened before the page was opened, for the list of events; the stream goes on from there. */
async function backlog() {
  const page = await get('/events?limit=1000').catch(() => null);
  if (!page) { return; }
  last = page.next;
  for (const message of page.events) { if (message.type !== 'progress_update') { note(message); } }
  const announced = page.events.findLast((message) => ['reboot_scheduled', 'factory_reset_waiting'].includes(message.event));
  const pending = state.status.factory_reset || (['reboot_pending', 'rebooting'].includes(state.status.system_status) && !state.job?.waiting_for);
  if (announced?.event === 'reboot_scheduled' && pending) { countDown(announced); }
  changed('events');
}

// A hidden page asks less often: the stream tells it what matters. A job's numbers are asked for while there is one.
let round = 0;
/** What is under way is not asked for again: a slow network would be asked for more than it can bring. */
const asking = new Set();
function poll(load, job = false) {
  round += 1;
  if (document.hidden && round % 8) { return; }
  if (job && !state.job && !state.status?.active_job) { return; }
  if (asking.has(load)) { return; }
  asking.add(load);
  load().catch(() => {}).finally(() => asking.delete(load));
}

export function heard() {
  state.link.heard = Date.now();
}

function connect() {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const since = last === null ? '' : `?since=${last}`;
  socket = new WebSocket(`${scheme}//${location.host}${API}/ws${since}`, ['ota.v1']);
  socket.onopen = () => {
    retry = FIRST_RETRY;
    heard();
    Object.assign(state.link, { live: true, since: Date.now(), tried: 0 });
    changed('link');
  };
  socket.onmessage = (event) => {
    heard();
    try { take(JSON.parse(event.data)); } catch (error) { console.error('a message that is not understood', error); }
  };
  socket.onclose = () => {
    const was = state.link.live;
    Object.assign(state.link, { live: false, tried: state.link.tried + 1, since: was ? Date.now() : state.link.since });
    if (was && state.reboot) { state.reboot.gone = true; changed('reboot'); }
    changed('link');
    retrying = setTimeout(reconnect, retry);
    retry = Math.min(retry * 1.6, LAST_RETRY);
  };
}

/** Asks for everything first: what was missed meanwhile, and whether the session still holds, which the socket does not tell. */
async function reconnect() {
  const mine = run;
  try {
    await loadAll();
    if (mine !== run) { return; }
    back();
    connect();
  } catch {
    if (mine !== run) { return; }
    Object.assign(state.link, { tried: state.link.tried + 1 });
    changed('link');
    retrying = setTimeout(reconnect, retry);
    retry = Math.min(retry * 1.6, LAST_RETRY);
  }
}

/** The gateway is there again. */
function back() {
  if (!state.reboot?.gone) { return; }
  const active = state.status.partitions.active;
  state.reboot = null;
  changed('reboot');
  if (active) { spec.showNotification(`The gateway is back: slot ${active.name} with ${active.version ?? 'an unknown version'}`, 'success'); }
}

/** Counts a restart down from where it is by now: it may have been announced before this page listened. */
function countDown(message) {
  const now = new Date(state.status.timestamp).getTime() + Date.now() - state.statusAsked;
  const left = message.countdown - Math.max(0, now - new Date(message.timestamp).getTime()) / 1000;
  // A moment later it is under way, as is one that is announced with no time left.
  if (left > -2) { spec.startRebootCountdown(Math.max(0, left)); }
}

function note(message) {
  state.events.unshift(message);
  if (state.events.length > EVENTS) { state.events.length = EVENTS; }
}

// As in the specification's script, type by type.
function take(message) {
  const seen = last !== null && message.seq !== undefined && message.seq <= last;
  if (message.seq !== undefined) { last = Math.max(last ?? 0, message.seq); }
  switch (message.type) {
    case 'progress_update':
      spec.updateProgressBar(message.progress);
      spec.updateStatusMessage(OPERATIONS[message.current_operation] ?? words(message.current_operation));
      spec.updateETA(message.eta_seconds ? span(message.eta_seconds) : '');
      if (message.details?.bytes_per_second > 0) { speedPoint(message.details.bytes_per_second, message.job_id); }
      if (state.job?.job_id !== message.job_id) { loadStatus().then(loadJob).catch(() => {}); }
      return;
    case 'status_change':
      spec.updateSystemStatus(message.system_status);
      if (!seen) { spec.showNotification(message.message, message.severity); }
      loadStatus().then(loadJob).catch(() => {});
      break;
    case 'safety_alert':
      if (!seen && message.status !== 'ok') { spec.showSafetyAlert(message.constraint, message.message); }
      spec.showActionButtons(message.action_required ? message.suggested_action : null);
      loadSafety().then(loadJob).catch(() => {});
      break;
    case 'job_complete':
      spec.showCompletionMessage(message.message, message.status);
      if (message.status === 'success') { spec.enableNextStep(); }
      loadStatus().then(loadJob).catch(() => {});
      break;
    case 'system_event':
      if (message.event === 'reboot_scheduled') { countDown(message); }
      if (message.event === 'factory_reset_waiting') { state.reboot = null; changed('reboot'); }
      if (message.event === 'events_dropped') { loadAll().catch(() => {}); }
      if (/^(reboot|factory_reset)_/.test(message.event)) { loadStatus().catch(() => {}); }
      if (!seen) { spec.showNotification(message.message, 'info'); }
      loadSafety().catch(() => {});
      break;
    default:
      return;
  }
  if (!seen) { note(message); changed('events'); }
}
