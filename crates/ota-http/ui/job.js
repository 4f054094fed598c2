// The one live progress: phases, bar, speed, time left, throughput, and what can be done to the job now.

import { get, post } from './api.js';
import { drawn, plot } from './charts.js';
import { byId, h, put, say } from './dom.js';
import { badge, button, dialog, field, lacks, problem } from './parts.js';
import { loadJob, loadStatus, changed, state, watch } from './store.js';
import { showActionButtons, showNotification, updateETA, updateProgressBar, updateStatusMessage } from './spec.js';
import { bytes, span, speed, words } from './text.js';

const PHASES = ['Download', 'Verify', 'Ready', 'Write', 'Switch', 'Reboot', 'Health check', 'Confirmed'];
const AT = { queued: 0, downloading: 0, paused: 0, verifying: 1, downloaded: 2, scheduled: 2, installing: 3, rebooting: 5, confirming: 6, succeeded: 8 };
const WAITS = {
  safety: 'Waits for safety. It goes on by itself when the constraint clears.',
  reboot: 'Written and switched. The new version starts with the next reboot.',
  window: 'Waits for the next update window.',
  resume: 'Paused. Resume goes on where it stopped.',
  judgement: 'The new version runs but is not healthy. Confirm it or go back.',
};

/** The number of the phase a job is in. */
export function phaseOf(job) {
  if (job.status === 'installing' && /switch/i.test(job.current_operation)) { return 4; }
  return AT[job.status] ?? 0;
}

function steps(job) {
  const at = phaseOf(job);
  const bad = ['failed', 'cancelled', 'rolled_back'].includes(job.status);
  return h('ol', { class: 'steps', 'aria-label': 'Phases' }, PHASES.map((name, i) => {
    const mark = bad ? 'todo' : i < at ? 'done' : i === at ? 'now' : 'todo';
    return h('li', { class: mark, 'aria-current': mark === 'now' ? 'step' : null }, h('span', name), mark === 'done' ? h('span', { class: 'hidden' }, ' done') : null);
  }));
}

/** Jobs with numbers of their own; the others wait or have ended. */
const moves = (job) => ['queued', 'downloading', 'verifying', 'paused'].includes(job.status) || (job.status === 'installing' && phaseOf(job) === 3);

export async function cancelJob(job) {
  await dialog({
    title: `Cancel ${job.job_id}?`,
    text: phaseOf(job) >= 4 ? 'The slots are switched already. Cancelling undoes that; the gateway stays on the running version.' : 'What was downloaded is dropped. The running version is not touched.',
    fields: [field({ name: 'reason', label: 'Reason', maxlength: 500, hint: 'Goes into the record.' })],
    label: 'Cancel the job', kind: 'danger', role: 'operator',
    run: (given) => post('/updates/cancel', { job_id: job.job_id, reason: given.reason }),
  });
  await refresh();
}

async function refresh() {
  await loadStatus();
  await loadJob();
}

async function judge(good) {
  await dialog({
    title: good ? 'Keep the new version?' : 'Go back to the old version?',
    text: good ? 'Its health checks failed. Confirming makes it the version that boots from now on.' : 'The gateway restarts into the slot it came from.',
    fields: [field({ name: 'reason', label: 'Reason', maxlength: 500 })],
    label: good ? 'Confirm' : 'Go back', kind: good ? 'primary' : 'danger', role: 'operator',
    run: (given) => post(good ? '/updates/confirm' : '/updates/reject', given),
  });
  await refresh();
}

async function rebootNow(job) {
  await dialog({
    title: `Restart into ${job.version}?`,
    text: 'The restart is counted down first; until then the job can be cancelled.',
    label: 'Reboot now', role: 'operator',
    run: async (given) => {
      const { install } = await get(`/updates/jobs/${encodeURIComponent(job.job_id)}`);
      await post('/updates/install', { ...given, job_id: job.job_id, strategy: install?.strategy, reboot_after: true, rollback_on_failure: install?.rollback_on_failure ?? true });
    },
  });
  await refresh();
}

function buttons(job) {
  const role = 'operator';
  const out = [];
  const act = (path) => async () => { await post(path, { job_id: job.job_id }); await refresh(); };
  if (['queued', 'downloading'].includes(job.status)) { out.push(button('Pause', act('/updates/pause'), { role, key: 'pause' })); }
  if (job.status === 'paused') { out.push(button('Resume', act('/updates/resume'), { role, kind: 'primary', key: 'pause' })); }
  if (job.status === 'downloaded') { out.push(h('a', { class: 'button primary', href: '#/updates', data: { key: 'install' } }, 'Install…')); }
  if (job.waiting_for?.reason === 'reboot') { out.push(button('Reboot now…', () => rebootNow(job), { role, kind: 'primary', key: 'reboot' })); }
  if (job.status === 'confirming') {
    out.push(button('Confirm', () => judge(true), { role, key: 'confirm' }), button('Go back', () => judge(false), { role, kind: 'danger', key: 'reject' }));
  }
  // While the restart is only announced, a cancel takes the switch back.
  const late = job.status === 'confirming' || (job.status === 'rebooting' && !job.waiting_for && state.status?.system_status !== 'reboot_pending');
  if (!late) { out.push(button('Cancel', () => cancelJob(job), { role, kind: 'danger-quiet', key: 'cancel' })); }
  return out;
}

function waiting(job) {
  const why = job.waiting_for;
  if (!why || why.reason === 'resume') { return null; }
  return h('div', { class: 'waiting', role: 'status' }, h('p', WAITS[why.reason] || `Waits: ${words(why.reason)}.`),
    why.constraints?.length ? h('ul', why.constraints.map((c) => h('li', h('strong', words(c.constraint)), `: ${c.message}. ${c.resolution || ''}`))) : null);
}

/** The curve of the job's speed. */
export const throughput = () => drawn((width) => {
  const points = state.speeds;
  if (points.length < 2) { return h('span'); }
  return plot(points, { width, height: 130, from: points[0].t, to: points.at(-1).t, zero: true, gap: 6000, format: (v) => (v ? `${bytes(v)}/s` : '0'), label: `Throughput, now ${speed(points.at(-1).v)}` });
});

let shape = '';
let curve = null;

function show() {
  const panel = byId('job');
  const job = state.job || state.ended;
  panel.hidden = !job;
  // What was suggested for a job goes with it.
  if (!state.job) { showActionButtons(null); }
  if (!job) { shape = ''; return; }
  byId('job-title').textContent = state.job ? `Update to ${job.version}` : `Last job: ${job.version}`;
  const now = JSON.stringify([job.job_id, job.status, phaseOf(job), job.waiting_for, job.failure, state.status?.system_status, state.session?.role]);
  if (now !== shape) {
    shape = now;
    put(byId('job-badge'), badge(job.status));
    put(byId('job-id'), job.job_id, job.deployment_id ? ` · ${job.deployment_id}` : '', ` · slot ${job.target_partition}`);
    put(byId('job-steps'), steps(job));
    put(byId('job-actions'), state.job ? buttons(job) : button('Dismiss', () => { state.ended = null; changed('job'); }, { key: 'dismiss' }));
    put(byId('job-note'), waiting(job), state.job && lacks('operator') ? h('p', { class: 'note' }, lacks('operator')) : null,
      job.failure ? problem({ message: job.failure.message, code: job.failure.code || job.failure.reason || 'FAILED', name: job.failure.name, actions: job.failure.suggested_actions, requestId: job.failure.request_id, details: {} }) : null);
    put(byId('job-curve'), curve = throughput());
  }
  updateStatusMessage(job.current_operation);
  updateProgressBar(job.progress.percentage);
  const moving = moves(job);
  byId('progress').classList.toggle('still', !moving);
  updateETA(moving && job.eta_seconds ? span(job.eta_seconds) : '');
  say(byId('progress-speed'), moving ? speed(job.progress.bytes_per_second) : '');
  say(byId('progress-bytes'), moving ? `${bytes(job.progress.bytes_downloaded)} of ${bytes(job.progress.bytes_total)}` : '');
  curve?.redraw();
}

export function begin() {
  for (const topic of ['job', 'status']) { watch(topic, show); }
  watch('session', () => { shape = ''; });
}

// The names of the specification's control script.
export function updateProgressUI(progress) {
  if (progress?.progress) { updateProgressBar(progress.progress.percentage); updateStatusMessage(progress.current_operation); updateETA(progress.eta_seconds ? span(progress.eta_seconds) : ''); }
}
/** Asks every two seconds, as there, until the job is downloaded or has ended. */
export async function monitorProgress(jobId) {
  const interval = setInterval(async () => {
    try {
      const progress = await get(`/updates/progress?job_id=${encodeURIComponent(jobId)}`);
      updateProgressUI(progress);
      if (progress.status === 'downloaded' || progress.ended) { clearInterval(interval); enableInstallButton(); }
    } catch (error) {
      console.error('Error monitoring progress:', error);
      // Asked again, it would be refused again.
      if (error.status >= 400 && error.status < 500) { clearInterval(interval); }
    }
  }, 2000);
}
/** The active job is followed by the page itself. */
export async function startProgressMonitoring(jobId) {
  await refresh().catch((error) => showNotification(error.message, 'error'));
  if (jobId && ![state.job?.job_id, state.job?.deployment_id].includes(jobId)) { monitorProgress(jobId); }
}
export function enableInstallButton() { refresh().catch((error) => showNotification(error.message, 'error')); }
Object.assign(window, { updateProgressUI, monitorProgress, startProgressMonitoring, enableInstallButton });
