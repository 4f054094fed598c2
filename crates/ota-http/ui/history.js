// What was done to this gateway: the jobs, how they ended, and the course of one.

import { get, maybe } from './api.js';
import { columns, drawn } from './charts.js';
import { h, put } from './dom.js';
import { badge, button, card, empty, facts, loading, problem, table } from './parts.js';
import { may, state, watch } from './store.js';
import { ago, bytes, span, time, when, words } from './text.js';

const PAGE = 25;
const ENDS = [['succeeded', 'ok'], ['rolled_back', 'warn'], ['failed', 'bad'], ['cancelled', 'mute']];

export function show(root, opened) {
  const chart = h('div'), list = h('div'), one = h('div');
  let offset = 0;
  root.append(h('div', { class: 'stack' }, opened ? one : null, card('Success rate', {}, chart), card('Jobs', {}, list)));
  const load = async () => {
    try {
      const [recent, page] = await Promise.all([get('/updates/jobs?limit=200'), offset ? get(`/updates/jobs?offset=${offset}&limit=${PAGE}`) : null]);
      rates(chart, recent);
      const shown = page || { ...recent, jobs: recent.jobs.slice(0, PAGE) };
      put(list, shown.total ? jobTable(shown.jobs, opened) : empty('No jobs yet', 'Downloads, deployments and rollbacks will be listed here.'), pager(shown.total));
    } catch (error) { put(list, problem(error)); }
  };
  const pager = (total) => (total > PAGE ? h('div', { class: 'row' },
    button('Newer', () => { offset = Math.max(0, offset - PAGE); return load(); }, { why: offset ? null : 'These are the newest.', key: 'newer' }),
    h('span', { class: 'quiet' }, `${offset + 1} to ${Math.min(total, offset + PAGE)} of ${total}`),
    button('Older', () => { offset += PAGE; return load(); }, { why: offset + PAGE < total ? null : 'These are the oldest.', key: 'older' })) : null);
  put(list, loading('the jobs'));
  load();
  if (opened) { course(one, opened); }
  let was = state.job?.status;
  const off = watch('job', () => { if (state.job?.status !== was) { was = state.job?.status; load(); if (opened) { course(one, opened); } } });
  return off;
}

function jobTable(jobs, opened) {
  return table('Jobs', ['Job', 'Version', 'Kind', 'Result', 'Slots', 'Started', 'Took'], jobs.map((job) => h('tr', { class: job.job_id === opened ? 'selected' : null },
    h('th', { scope: 'row' }, h('a', { href: `#/history/${encodeURIComponent(job.job_id)}` }, job.job_id)), h('td', job.version), h('td', words(job.kind)), h('td', badge(job.status)),
    h('td', `${job.source_partition} → ${job.target_partition}`), h('td', { title: when(job.created_at) }, ago(job.created_at)), h('td', { class: 'figure' }, job.ended ? span((new Date(job.updated_at) - new Date(job.created_at)) / 1000) : 'under way'))));
}

/** Ends by day, and the share that succeeded of what was not called off by people. */
function rates(place, { jobs }) {
  const ended = jobs.filter((job) => job.ended);
  if (!ended.length) { put(place, empty('Nothing has ended yet', 'The rate needs a first update.')); return; }
  const tried = ended.filter((job) => job.status !== 'cancelled');
  const good = tried.filter((job) => job.status === 'succeeded');
  const days = new Map();
  for (const job of ended) {
    const key = new Date(job.updated_at).toLocaleDateString(undefined, { month: 'short', day: 'numeric' });
    days.set(key, [...(days.get(key) || []), job]);
  }
  const data = [...days].reverse().slice(-30).map(([label, list]) => ({ label, parts: ENDS.map(([name, tone]) => ({ name: words(name).toLowerCase(), tone, n: list.filter((job) => job.status === name).length })) }));
  const counts = ENDS.map(([name, tone]) => [name, tone, ended.filter((job) => job.status === name).length]);
  const share = tried.length ? Math.round((good.length / tried.length) * 100) : null;
  put(place, h('div', { class: 'rate' },
    h('p', { class: 'big' }, h('strong', { class: 'figure' }, share === null ? '–' : `${share}%`), h('span', { class: 'quiet' }, `${good.length} of ${tried.length} succeeded`)),
    h('ul', { class: 'legend' }, counts.map(([name, tone, n]) => h('li', h('span', { class: `swatch ${tone}`, 'aria-hidden': 'true' }), `${words(name)} ${n}`))),
    drawn((width) => columns(data, { width, label: `Ended jobs by day: ${data.map((d) => `${d.label} ${d.parts.filter((p) => p.n).map((p) => `${p.n} ${p.name}`).join(', ')}`).join('; ')}` }))));
}

// The course of one job: its record, and the events and audit records that name it.

async function course(place, id) {
  put(place, card(id, { actions: h('a', { class: 'button', href: '#/history' }, 'Close') }, loading('the job')));
  try {
    const job = await get(`/updates/jobs/${encodeURIComponent(id)}`);
    const [events, audit] = await Promise.all([get('/events?limit=1000').catch(() => ({ events: [] })), may('admin') ? records(job).catch(() => []) : []]);
    put(place, card(`${job.version} · ${job.job_id}`, { actions: h('a', { class: 'button', href: '#/history' }, 'Close') },
      facts([['Result', badge(job.status)], ['Kind', words(job.kind)], ['Deployment', job.deployment_id], ['Slots', `${job.source_partition} → ${job.target_partition}`], ['Size', bytes(job.size)], ['Priority', words(job.priority)],
        ['Strategy', job.install ? words(job.install.strategy) : null], ['Restarts by itself', job.install ? (job.install.reboot_after ? 'yes' : 'no') : null], ['Signed by', job.signers.length ? job.signers.join(', ') : null],
        ['Digest', h('code', { class: 'wrap' }, job.checksum)], ['Reason', job.cancel_reason], ['Requests', requests(audit)]]),
      job.failure ? problem({ message: job.failure.message, code: job.failure.code || job.failure.reason || 'FAILED', name: job.failure.name, actions: job.failure.suggested_actions, requestId: job.failure.request_id, details: {} }) : null,
      h('h3', 'Course'), line(points(job, events.events, audit)),
      may('admin') ? null : h('p', { class: 'note' }, 'Who asked for what stands in the audit log, which admins can read.')));
  } catch (error) { put(place, card(id, {}, problem(error))); }
}

async function records(job) {
  const page = await maybe(`/audit?newest=true&limit=1000&job_id=${encodeURIComponent(job.job_id)}`);
  return page?.records || [];
}

/** The ids by which the requests that named the job are found in the gateway's log. */
function requests(audit) {
  const ids = [...new Set(audit.map((record) => record.request_id).filter(Boolean))];
  return ids.length ? h('code', { class: 'wrap' }, ids.join(' ')) : null;
}

function points(job, events, audit) {
  const out = [{ at: job.created_at, text: `${words(job.kind)} to ${job.version} began`, tone: 'info' }];
  for (const step of job.steps || []) { out.push({ at: step.at, text: words(step.status), tone: 'info' }); }
  let phase = null;
  for (const e of events) {
    if (e.job_id !== job.job_id) { continue; }
    if (e.type === 'job_complete') { out.push({ at: e.timestamp, text: e.message, more: e.details.duration, tone: e.status === 'success' ? 'ok' : e.status === 'cancelled' ? 'mute' : 'bad' }); }
    else if (e.type === 'progress_update' && e.current_operation !== phase) { phase = e.current_operation; out.push({ at: e.timestamp, text: words(phase), tone: 'info' }); }
  }
  for (const record of audit) { out.push({ at: record.timestamp, text: `${record.actor}: ${record.action}`, more: record.reason, tone: record.outcome === 'ok' ? 'info' : 'warn' }); }
  if (job.ended) { out.push({ at: job.updated_at, text: job.current_operation, tone: job.status === 'succeeded' ? 'ok' : job.status === 'cancelled' ? 'mute' : 'bad' }); }
  else { out.push({ at: job.updated_at, text: job.current_operation, tone: 'now' }); }
  return out.sort((a, b) => new Date(a.at) - new Date(b.at));
}

function line(list) {
  const began = new Date(list[0].at).getTime();
  return h('ol', { class: 'course' }, list.map((p) => h('li', { class: p.tone },
    h('time', { datetime: p.at, title: when(p.at) }, time(p.at)), h('span', { class: 'quiet figure' }, `+${span((new Date(p.at) - began) / 1000)}`), h('span', p.text, p.more ? h('span', { class: 'quiet' }, ` ${p.more}`) : ''))));
}
