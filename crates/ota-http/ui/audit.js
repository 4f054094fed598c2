// Who did what, and whether the record of it is whole.

import { API, get } from './api.js';
import { h, put } from './dom.js';
import { badge, button, card, empty, field, lacks, loading, problem, table } from './parts.js';
import { may } from './store.js';
import { time, when } from './text.js';

const PAGE = 100;
const ACTIONS = [['', 'All actions'], ['updates.', 'Updates'], ['job.', 'Courses of jobs'], ['upload', 'Uploads'], ['safety.', 'Safety'], ['auth.', 'Sessions, tokens, PIN'], ['factory', 'Factory reset'], ['snapshots', 'Snapshots'], ['settings', 'Settings']];

export function show(root) {
  if (!may('admin')) { root.append(card('Audit log', {}, empty('For admins', lacks('admin')))); return null; }
  const chain = h('div'), list = h('div');
  const filter = { actor: '', action: '', outcome: '', text: '' };
  let total = 0, before = null, newest = [];

  const query = (more) => new URLSearchParams(Object.entries({ actor: filter.actor, action: filter.action, ...more }).filter(([, value]) => value !== '' && value !== undefined)).toString();
  const links = h('span', { class: 'row' });
  const exports = () => put(links, [['csv', 'Export CSV'], ['jsonl', 'Export JSON lines']].map(([format, text]) => h('a', { class: 'button', href: `${API}/audit?${query({ format, limit: 1000 })}`, download: `audit.${format}` }, text)));

  const check = async () => {
    put(chain, loading('the chain'));
    try {
      const verdict = await get('/audit/verify');
      total = (verdict.first ?? 1) - 1 + verdict.records;
      put(chain, h('p', { class: `verdict ${verdict.intact ? 'ok' : 'bad'}`, role: 'status' }, verdict.intact ? `The chain is whole: ${verdict.records} records` : `The chain is broken at record ${verdict.first_bad}`),
        h('p', { class: 'quiet' }, verdict.intact ? `Every record carries the digest of the one before. Checked ${time(new Date())}.` : `The ${verdict.records} records before it fit. Export the log, keep it, and find out who had access to the state partition.`));
    } catch (error) { put(chain, problem(error)); }
  };

  /** The newest page: the log is read oldest first, so the place to begin is counted back from its end. */
  const load = async () => {
    put(list, loading('the records'));
    try {
      const from = Math.max(0, (before ?? total) - (filter.actor || filter.action ? 1000 : PAGE));
      const page = await get(`/audit?${query({ after: from, limit: filter.actor || filter.action ? 1000 : PAGE })}`);
      newest = page.records.filter((r) => before === null || r.seq <= before).reverse();
      draw(from);
    } catch (error) { put(list, problem(error)); }
  };
  const draw = (from) => {
    const wanted = filter.text.toLowerCase();
    const rows = newest.filter((r) => (!filter.outcome || r.outcome === filter.outcome) && (!wanted || JSON.stringify(r).toLowerCase().includes(wanted)));
    put(list, rows.length ? table('Audit records', ['No.', 'When', 'Who', 'What', 'Result', 'Reason', 'Job', 'From', 'Request'], rows.map(row)) : empty('No records', 'Nothing in this stretch of the log fits the filter.'),
      h('div', { class: 'row' }, button('Older', () => { before = from; return load(); }, { why: from > 0 ? null : 'These are the oldest.', key: 'audit-older' }), before === null ? null : button('Newest', () => { before = null; return load(); }, { key: 'audit-newest' })));
    list.dataset.from = from;
  };

  const change = (name) => (event) => {
    filter[name] = event.target.value.trim();
    exports();
    if (name === 'outcome' || name === 'text') { draw(Number(list.dataset.from || 0)); } else { before = null; load(); }
  };
  root.append(h('div', { class: 'stack' }, card('Chain', { actions: button('Check again', check, { key: 'check-chain' }) }, chain),
    card('Audit log', { actions: links }, h('div', { class: 'filters' },
      field({ name: 'action', label: 'What', options: ACTIONS, value: '', onchange: change('action') }),
      field({ name: 'outcome', label: 'Result', options: [['', 'Any'], ['ok', 'Ok'], ['refused', 'Refused'], ['failed', 'Failed']], value: '', onchange: change('outcome') }),
      field({ name: 'actor', label: 'Who, exactly', maxlength: 80, onchange: change('actor') }),
      field({ name: 'text', label: 'Contains', maxlength: 80, oninput: change('text') })), list)));
  exports();
  check().then(load);
  return null;
}

function row(record) {
  return h('tr', h('td', { class: 'figure' }, record.seq), h('td', h('time', { datetime: record.timestamp }, when(record.timestamp))), h('td', record.actor, record.role ? h('span', { class: 'quiet' }, ` ${record.role}`) : ''),
    h('td', h('code', record.action)), h('td', badge(record.outcome)), h('td', { class: 'text' }, record.reason ?? ''), h('td', record.job_id ? h('a', { href: `#/history/${encodeURIComponent(record.job_id)}` }, record.job_id) : ''), h('td', record.address ?? ''), h('td', h('code', { title: record.request_id ?? '' }, (record.request_id ?? '').slice(0, 12))));
}
