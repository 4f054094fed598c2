// What is on offer, and how to get and install it.

import { get, post } from './api.js';
import { h, put } from './dom.js';
import { startProgressMonitoring } from './job.js';
import { badge, button, card, choice, empty, facts, field, form, lacks, loading, missing, problem, roleNote } from './parts.js';
import { loadJob, loadStatus, state, watch } from './store.js';
import { showError, showNotification } from './spec.js';
import { ago, bytes, day, when, words } from './text.js';

let offers = null;
/** How many update servers were asked. */
let sources = null;
let list = null;

export const STRATEGIES = [
  ['seamless', 'Seamless', 'Writes the other slot in the background; the running system stays in use.'],
  ['maintenance_window', 'In the update window', 'Waits for the next update window, writes and restarts inside it.'],
  ['immediate', 'Immediate', 'Full speed, restart as soon as safety allows.'],
];

export function show(root) {
  list = h('div');
  const install = h('div');
  const again = button('Check now', () => look(), { key: 'check' });
  // One for all offers: what the gateway forecasts is the same for each of them.
  const forecast = h('div');
  const ask = button('What would happen?', () => explain(forecast), { key: 'explain-next' });
  root.append(h('div', { class: 'stack' }, install, card('Available updates', { actions: [h('span', { class: 'quiet', id: 'checked' }), ask, again] }, forecast, list)));
  let was = '', active = null;
  const job = () => {
    const now = JSON.stringify([state.job?.job_id, state.job?.status, state.session?.role]);
    if (now === was) { return; }
    was = now;
    // With the end of a job something else may run, which is then no longer newer.
    if (active && active !== state.job?.job_id) { look(); }
    active = state.job?.job_id;
    put(forecast);
    put(install, state.job?.status === 'downloaded' ? installCard(state.job) : null);
    if (offers) { renderUpdatesList(offers); }
  };
  job();
  if (offers) { renderUpdatesList(offers); } else { put(list, loading('what is on offer')); }
  look();
  const off = [watch('job', job), watch('events', () => { if (state.events[0]?.event === 'update_available') { look(); } })];
  return () => { off.forEach((stop) => stop()); list = null; };
}

/** Asks the update servers; gives what is on offer. A refusal is shown in the list, and `null`. */
async function look() {
  try {
    const answer = await get('/updates/check');
    sources = answer.sources;
    renderUpdatesList(answer.updates);
    loadStatus().catch(() => {});
    return answer.updates;
  } catch (error) {
    if (list) { put(list, problem(error), offers ? h('p', { class: 'quiet' }, 'What was on offer before is no longer shown.') : null); }
    return null;
  } finally {
    const checked = document.getElementById('checked');
    if (checked) { checked.textContent = `Checked ${new Date().toLocaleTimeString()}`; }
  }
}

// The names of the specification's control script. As there, they tell what went wrong in the page and throw nothing.
async function checkForUpdates() {
  const updates = await look();
  if (updates === null) { showError('Failed to check for updates'); }
  return updates ?? undefined;
}
async function startDownload(updateId, version) {
  try {
    const id = await download(updateId, version);
    await startProgressMonitoring(id);
    return id;
  } catch (error) {
    console.error('Error starting download:', error);
    showError('Failed to start download');
    return undefined;
  }
}
export function renderUpdatesList(updates) {
  offers = updates || [];
  if (!list) { return; }
  put(list, offers.length ? h('ul', { class: 'offers' }, offers.map(offer)) : sources === 0 ? empty('No update source is configured', 'Add a [[source]] to the configuration, or send an image under Upload.') : empty('Up to date', `Slot ${state.status?.partitions.active?.name ?? '?'} runs ${state.status?.partitions.active?.version ?? 'an unknown version'}; the update servers have nothing newer.`));
}
Object.assign(window, { checkForUpdates, renderUpdatesList, startDownload });

async function download(updateId, version, more = {}) {
  const { job_id } = await post('/updates/download', { update_id: updateId, version, ...more });
  await loadStatus();
  await loadJob();
  return job_id;
}

function offer(update) {
  const busy = state.job ? `Job ${state.job.job_id} is active.` : null;
  const priority = field({ name: 'priority', label: 'Priority', value: 'normal', options: [['low', 'Low'], ['normal', 'Normal'], ['high', 'High'], ['critical', 'Critical']], disabled: Boolean(lacks('operator') || busy) });
  const select = priority.querySelector('select');
  return h('li', { class: 'offer', data: { card: '' } },
    h('div', { class: 'offer-head' }, h('h3', update.version), update.critical ? badge('critical', 'bad') : null, update.requires_reboot ? badge('needs a restart', 'mute') : badge('no restart', 'mute')),
    h('p', { class: 'text' }, update.description || 'No description.'),
    facts([['Size', bytes(update.size)], ['Released', update.release_date ? `${day(update.release_date)} (${ago(update.release_date)})` : 'not said'], ['Source', update.source], ['Id', h('code', update.id)], ['Digest', h('code', { class: 'wrap' }, update.checksum)]]),
    h('div', { class: 'problems' }),
    h('div', { class: 'row offer-actions' }, priority,
      button('Download', async () => { await download(update.id, update.version, { priority: select.value }); showNotification(`Download of ${update.version} started`, 'info'); }, { role: 'operator', kind: 'primary', why: busy, key: `download-${update.id}` })),
    roleNote('operator') || (busy ? h('p', { class: 'note' }, busy) : null));
}

const FORECASTS = {
  start: 'ok', start_then_wait: 'warn', wait: 'warn', await_people: 'warn', refuse: 'bad', nothing: 'mute',
};

/** The dry run: of the job that is active, else of the next update. */
async function explain(place, strategy) {
  put(place, loading('the forecast'));
  try {
    const plan = await post('/updates/explain', strategy ? { strategy } : {});
    put(place, h('div', { class: 'plan', role: 'status' },
      h('p', badge(plan.forecast, FORECASTS[plan.forecast]), ' ', plan.message),
      plan.steps.length ? h('ul', { class: 'plain' }, plan.steps.map((step) => h('li', badge(step.outcome, { allow: 'ok', wait: 'warn', deny: 'bad' }[step.outcome]), ` ${words(step.step)}`,
        step.not_before ? ` not before ${when(step.not_before)}` : '', step.reasons.map((r) => `; ${words(r.constraint)}: ${r.message}`)))) : null,
      plan.obstacles.length ? h('ul', { class: 'plain' }, plan.obstacles.map((o) => h('li', { class: 'bad-text' }, o.message))) : null,
      facts([['Would take about', plan.estimated_duration], ['Next update window', plan.window?.next ? when(plan.window.next.opens_at) : null]]),
      plan.suggested_actions.length ? [h('p', 'What you can do:'), h('ul', plan.suggested_actions.map((text) => h('li', text)))] : null));
  } catch (error) {
    put(place, error.missing ? missing('dry runs') : null);
    if (!error.missing) { throw error; }
  }
}

function installCard(job) {
  const place = h('div');
  return card(`Install ${job.version}`, {},
    h('p', `Downloaded and verified. It goes to slot ${job.target_partition}; slot ${job.target_partition === 'A' ? 'B' : 'A'} keeps running until the restart and stays the way back.`),
    form([
      choice('strategy', 'Strategy', STRATEGIES, 'seamless'),
      field({ name: 'reboot_after', label: 'Restart by itself once the slots are switched', type: 'checkbox', checked: true, hint: 'Otherwise the new version waits for somebody to restart the gateway.' }),
      field({ name: 'rollback_on_failure', label: 'Go back if the health checks fail', type: 'checkbox', checked: true, hint: 'A version that does not come up at all is left in any case.' }),
    ], 'Install', async (given) => { await post('/updates/install', { job_id: job.job_id, ...given }); await loadStatus(); await loadJob(); }, { role: 'operator', cancel: button('What would happen?', (node) => explain(place, node.form.elements.strategy.value), { key: 'explain' }) }), roleNote('operator'), place);
}

