// What the page knows of the gateway, kept up to date: status, safety, the active job, and what was measured meanwhile.

import { get, maybe } from './api.js';
import { number } from './text.js';

// The longest span of a plot, an hour, at a sample every two seconds.
const SAMPLES = 1800;
const KEEP = 'ota-samples';

export const state = {
  session: null,
  status: null,
  /** When the status was asked for: what was announced later is not in it. */
  statusAsked: 0,
  safety: null,
  /** When the safety status was asked for. */
  safetyAsked: 0,
  job: null,
  /** When the job was asked for. */
  jobAsked: 0,
  /** The newest job that has ended, until the page is told to forget it. */
  ended: null,
  events: [],
  link: { live: false, since: null, heard: 0, reached: true, tried: 0 },
  reboot: null,
  /** Whether an image is on its way from this page. */
  uploading: false,
  samples: restore(),
  speeds: [],
};

const watchers = new Map();
/** Calls `f` at each change of `topic`: `status`, `safety`, `job`, `events`, `link`, `reboot`, `session`. Gives the way to stop it. */
export function watch(topic, f) {
  if (!watchers.has(topic)) { watchers.set(topic, new Set()); }
  watchers.get(topic).add(f);
  return () => watchers.get(topic).delete(f);
}
export function changed(topic) { for (const f of [...(watchers.get(topic) || [])]) { f(state); } }

const RANK = { viewer: 1, operator: 2, admin: 3 };
/** Whether the session's role may do what needs `role`. */
export const may = (role) => RANK[state.session?.role] >= RANK[role];

function restore() {
  try { return JSON.parse(sessionStorage.getItem(KEEP)) || {}; } catch { return {}; }
}
export function keepSamples() {
  try { sessionStorage.setItem(KEEP, JSON.stringify(state.samples)); } catch { /* full or forbidden: they are lost with the page */ }
}

/** Takes down what was measured. */
export function sample(name, point) {
  const list = (state.samples[name] ||= []);
  const last = list.at(-1);
  const before = list.at(-2);
  // A third point in a row that says the same moves the second, as long as the first is near: quiet times cost few points, and
  // those are nearer to each other than what a plot takes for a gap.
  if (last && before && last.v === point.v && before.v === point.v && last.k === point.k && before.k === point.k && point.t - before.t < 10000) { list.pop(); }
  list.push(point);
  if (list.length > SAMPLES) { list.splice(0, list.length - SAMPLES); }
}

export async function loadStatus() {
  const asked = Date.now();
  const status = await get('/system/status');
  Object.assign(state, { status, statusAsked: asked });
  const t = Date.now();
  sample('#load', { t, v: status.resources.cpu_load });
  sample('#memory', { t, v: status.resources.memory_free });
  sample('#disk', { t, v: status.resources.disk_free });
  changed('status');
  return status;
}

export async function loadSafety() {
  const asked = Date.now();
  const safety = await get('/safety/status');
  Object.assign(state, { safety, safetyAsked: asked });
  const t = Date.now();
  for (const c of safety.constraints) { sample(c.name, { t, v: c.value ?? number(c.reading), k: c.status }); }
  changed('safety');
  return safety;
}

/** Seconds that the override has left as the gateway counts them: this browser's clock may be wrong. */
export const overrideLeft = () => state.safety.override.remaining_seconds - (Date.now() - state.safetyAsked) / 1000;

/** The active job; the one that was active until now once more, when there is none, so that its end is seen. */
export async function loadJob() {
  const before = state.job;
  const asked = Date.now();
  const id = state.status?.active_job || before?.job_id;
  if (!id) { state.job = null; changed('job'); return null; }
  const job = await maybe(`/updates/progress?job_id=${encodeURIComponent(id)}`).catch((error) => {
    if (error.code === 'OTA_013') { return null; }
    throw error;
  });
  if (job?.ended) { state.ended = job; state.job = null; } else { state.job = job; if (job) { state.ended = null; } }
  state.jobAsked = asked;
  measure(job);
  changed('job');
  return job;
}

/** A point of the throughput curve. */
function measure(job) {
  if (!job || !job.progress) { return; }
  const key = `${job.job_id} ${job.current_operation}`;
  if (state.speeds.key !== job.job_id) { state.speeds = []; state.speeds.key = job.job_id; }
  const bps = job.progress.bytes_per_second;
  if (bps > 0) { speedPoint(bps, key); }
}
export function speedPoint(bps, key) {
  const t = Date.now();
  const last = state.speeds.at(-1);
  if (last && t - last.t < 150) { return; }
  state.speeds.push({ t, v: bps, k: key });
  if (state.speeds.length > SAMPLES) { state.speeds.shift(); }
}

/** Everything anew. */
export async function loadAll() {
  await Promise.all([loadStatus(), loadSafety()]);
  await loadJob();
}
