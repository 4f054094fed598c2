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
  let before = null;

  const query = (more) => new URLSearchParams(Object.entries({ ...filter, ...more }).filter(([, value]) => value !== '' && value !== null)).toString();
  const links = h('span', { class: 'row' });
  // Without a limit: all that fits, to the end.
  const exports = () => put(links, [['csv', 'Export CSV'], ['jsonl', 'Export JSON lines']].map(([format, text]) => h('a', { class: 'button', href: `${API}/audit?${query({ format })}`, download: `audit.${format}` }, text)));

  const check = async () => {
    put(chain, loading('the chain'));
    try {
      const verdict = await get('/audit/verify');
      put(chain, h('p', { class: `verdict ${verdict.intact ? 'ok' : 'bad'}`, role: 'status' }, verdict.intact ? `The chain is whole: ${verdict.records} records` : `The chain is broken at record ${verdict.first_bad}`),
        h('p', { class: 'quiet' }, verdict.intact ? `Every record carries the digest of the one before. Checked ${time(new Date())}.` : `The ${verdict.records} records before it fit. Export the log, keep it, and find out who had access to the state partition.`));
    } catch (error) { put(chain, problem(error)); }
  };

  // What is typed may overtake the answer to what was typed before.
  let asked = 0;
  /** The newest page of what fits the filter, or the one before `before`. */
  const load = async () => {
    const mine = (asked += 1);
    try {
      const page = await get(`/audit?${query({ newest: true, limit: PAGE, before })}`);
      if (mine === asked) { draw(page); }
    } catch (error) { if (mine === asked) { put(list, problem(error)); } }
  };
  const draw = ({ records, previous }) => put(list, records.length ? table('Audit records', ['No.', 'When', 'Who', 'What', 'Result', 'Reason', 'Job', 'From', 'Request'], records.reverse().map(row)) : empty('No records', 'Nothing in this stretch of the log fits the filter.'),
    h('div', { class: 'row' }, button('Older', () => { before = previous; return load(); }, { why: previous ? null : 'These are the oldest.', key: 'audit-older' }), button(before === null ? 'Look again' : 'Newest', () => { before = null; return load(); }, { key: 'audit-newest' })));

  let typing = null;
  const change = (name, wait = 0) => (event) => {
    filter[name] = event.target.value.trim();
    before = null;
    exports();
    clearTimeout(typing);
    typing = setTimeout(load, wait);
  };
  root.append(h('div', { class: 'stack' }, card('Chain', { actions: button('Check again', check, { key: 'check-chain' }) }, chain),
    card('Audit log', { actions: links }, h('div', { class: 'filters' },
      field({ name: 'action', label: 'What', options: ACTIONS, value: '', onchange: change('action') }),
      field({ name: 'outcome', label: 'Result', options: [['', 'Any'], ['ok', 'Ok'], ['refused', 'Refused'], ['failed', 'Failed']], value: '', onchange: change('outcome') }),
      field({ name: 'actor', label: 'Who, exactly', maxlength: 80, onchange: change('actor') }),
      field({ name: 'text', label: 'Contains', maxlength: 80, oninput: change('text', 300) })), list)));
  exports();
  put(list, loading('the records'));
  check();
  load();
  return () => clearTimeout(typing);
}

function row(record) {
  return h('tr', h('td', { class: 'figure' }, record.seq), h('td', h('time', { datetime: record.timestamp }, when(record.timestamp))), h('td', record.actor, record.role ? h('span', { class: 'quiet' }, ` ${record.role}`) : ''),
    h('td', h('code', record.action)), h('td', badge(record.outcome)), h('td', { class: 'text' }, record.reason ?? ''), h('td', record.job_id ? h('a', { href: `#/history/${encodeURIComponent(record.job_id)}` }, record.job_id) : ''), h('td', record.address ?? ''), h('td', h('code', { title: record.request_id ?? '' }, (record.request_id ?? '').slice(0, 12))));
}
