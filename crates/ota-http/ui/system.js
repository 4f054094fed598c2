// What changes the gateway as a whole: going back, resetting, snapshots, tokens, PIN, bandwidth, the debug bundle.

import { call, change, del, maybe, post } from './api.js';
import { h, put } from './dom.js';
import { badge, button, card, dialog, empty, facts, field, form, lacks, loading, missing, pin, problem, roleNote, save, table } from './parts.js';
import { loadJob, loadStatus, may, state, watch } from './store.js';
import { showNotification } from './spec.js';
import { ago, bytes, speed, when, words } from './text.js';

export const SENTENCE = 'I understand this will erase all data';

export function show(root) {
  const parts = Object.fromEntries(['rollback', 'bandwidth', 'snapshots', 'tokens', 'pin', 'bundle', 'report', 'reset'].map((name) => [name, h('div')]));
  root.append(h('div', { class: 'grid system' },
    card('Rollback', {}, parts.rollback), card('Bandwidth', {}, parts.bandwidth), card('Snapshots', { class: 'wide' }, parts.snapshots), card('Tokens', { class: 'wide' }, parts.tokens),
    card('PIN', {}, parts.pin), card('Support', {}, parts.bundle, parts.report), card('Factory reset', { class: 'wide danger-zone' }, parts.reset)));
  // What a job, or a reset that is ordered, switches off comes back with its end.
  let was = '';
  const busy = () => {
    const now = JSON.stringify([state.status?.partitions.inactive, state.job?.job_id, state.status?.factory_reset]);
    if (now === was || !state.status) { return; }
    was = now;
    put(parts.rollback, rollbackPart());
    put(parts.reset, resetPart());
  };
  busy();
  snapshots(parts.snapshots);
  tokens(parts.tokens);
  bandwidth(parts.bandwidth);
  put(parts.pin, pinPart());
  put(parts.bundle, bundlePart());
  put(parts.report, reportPart());
  const off = [watch('status', busy), watch('job', busy)];
  return () => off.forEach((stop) => stop());
}

/** Loads a part; where the gateway does not have the endpoint, says so. */
async function part(place, path, what, draw) {
  if (!place.firstChild) { put(place, loading(what)); }
  try {
    const answer = await maybe(path);
    put(place, answer === null ? missing(what) : draw(answer));
  } catch (error) { put(place, error.status === 403 ? h('p', { class: 'note' }, lacks('admin') || error.message) : problem(error)); }
}

function rollbackPart() {
  const other = state.status.partitions.inactive;
  const why = state.job ? `Job ${state.job.job_id} is active.` : !other ? 'There is no other slot.' : other.state === 'good' ? null : `Slot ${other.name} is ${other.state}.`;
  return [h('p', 'Restarts into the other slot, after its digest was compared with the record. The present version stays there as the way forward.'),
    facts([['Goes to', other ? h('span', h('strong', other.version ?? 'no version'), ` in slot ${other.name} `, badge(other.state)) : 'nothing']]),
    h('div', { class: 'row' }, button('Roll back…', () => rollback(other), { role: 'admin', kind: 'danger', why, key: 'rollback' })),
    roleNote('admin') || (why ? h('p', { class: 'note' }, why) : null)];
}

async function rollback(other) {
  await dialog({
    title: `Roll back to ${other.version ?? `slot ${other.name}`}?`, text: 'The gateway restarts. If the old version does not come up healthy, it returns by itself.',
    fields: [pin(), field({ name: 'reason', label: 'Reason', maxlength: 500, hint: 'Goes into the audit log.' })], label: 'Roll back', kind: 'danger', role: 'admin',
    run: (given) => post('/updates/rollback', { ...given, target_version: other.version ?? undefined }),
  });
  await loadStatus();
  await loadJob();
}

function bandwidth(place) {
  return part(place, '/settings/bandwidth', 'a limit on downloads', (answer) => [
    h('p', answer.bytes_per_second === null ? 'Downloads take what the network gives.' : h('span', 'Downloads take at most ', h('strong', speed(answer.bytes_per_second)), '.')),
    form([field({ name: 'limit', label: 'Limit in MB/s', type: 'number', min: 0.01, max: 100000, step: 'any', value: answer.bytes_per_second === null ? '' : answer.bytes_per_second / 1e6, hint: 'Empty: no limit. Also counts for a download that is under way.' })], 'Set', async (given) => {
      await change('/settings/bandwidth', { bytes_per_second: given.limit === undefined ? null : Math.round(given.limit * 1e6) });
      showNotification('The limit is set', 'success');
      await bandwidth(place);
    }, { role: 'operator' }), roleNote('operator')]);
}

function snapshots(place) {
  return part(place, '/snapshots', 'snapshots', (answer) => [
    answer.snapshots?.length ? table('Snapshots', ['Id', 'Taken', 'Why', 'By', 'Size', ''], answer.snapshots.map((snap) => h('tr', h('th', { scope: 'row' }, snap.id),
      h('td', { title: when(snap.created_at) }, ago(snap.created_at)), h('td', { class: 'text' }, words(snap.cause), snap.description ? `: ${snap.description}` : ''), h('td', snap.by ?? '–'), h('td', bytes(snap.size), snap.encrypted ? h('span', { class: 'quiet' }, ' encrypted') : ''),
      h('td', button('Restore…', () => restore(snap, place), { role: 'admin', key: `restore-${snap.id}`, name: `Restore ${snap.id}` })))))
      : empty('No snapshots', 'A snapshot keeps settings and user data as they are now.'),
    h('div', { class: 'row' }, button('Take a snapshot…', () => takeSnapshot(place), { role: 'admin', key: 'snapshot' })), roleNote('admin')]);
}

async function takeSnapshot(place) {
  const done = await dialog({ title: 'Take a snapshot', fields: [field({ name: 'description', label: 'Description', maxlength: 200 })], label: 'Take it', role: 'admin', run: (given) => post('/snapshots', given) });
  if (done) { showNotification('The snapshot is taken', 'success'); await snapshots(place); }
}

async function restore(snap, place) {
  let answer = null;
  await dialog({
    title: `Restore ${snap.id}?`, text: 'The files in it are put back as they were then. What is not in it stays.',
    fields: snap.encrypted ? [field({ name: 'identity', label: 'Identity', type: 'password', maxlength: 4096, hint: 'AGE-SECRET-KEY-1…; empty if the gateway holds it.' })] : [],
    label: 'Restore', kind: 'danger', role: 'admin', run: async (given) => { answer = await post(`/snapshots/${encodeURIComponent(snap.id)}/restore`, given); },
  });
  if (answer) { showNotification(answer.message ?? `${snap.id} is restored`, 'success'); await snapshots(place); await loadStatus(); }
}

function tokens(place) {
  if (!may('admin')) { put(place, h('p', { class: 'note' }, lacks('admin'))); return; }
  part(place, '/auth/tokens', 'tokens', (answer) => [
    table('Tokens', ['Name', 'Role', 'Made', 'Last used', 'Ends', ''], answer.tokens.map((token) => h('tr', h('th', { scope: 'row' }, token.name, token.name === state.session.name ? h('span', { class: 'quiet' }, ' yours') : ''), h('td', badge(token.role, 'info')), h('td', { title: when(token.created_at) }, ago(token.created_at)), h('td', ago(token.last_used_at)), h('td', token.expires_at ? `${when(token.expires_at)}` : 'never'),
      h('td', button('Revoke…', () => revoke(token, place), { role: 'admin', kind: 'danger-quiet', key: `revoke-${token.name}`, name: `Revoke ${token.name}` }))))),
    h('div', { class: 'row' }, button('Make a token…', () => makeToken(place), { role: 'admin', key: 'token' }))]);
}

async function makeToken(place) {
  let made = null;
  await dialog({
    title: 'Make a token',
    fields: [field({ name: 'name', label: 'Name', required: true, maxlength: 64, pattern: '[A-Za-z0-9._\\-]+', hint: 'Letters, digits, dot, dash, underscore. It stands in the audit log.' }),
      field({ name: 'role', label: 'Role', value: 'viewer', options: [['viewer', 'Viewer: reads and watches'], ['operator', 'Operator: also updates'], ['admin', 'Admin: everything']] }),
      field({ name: 'expires_in', label: 'Ends', value: '7776000', options: [['86400', 'in a day'], ['604800', 'in a week'], ['7776000', 'in 90 days'], ['', 'never']] })],
    label: 'Make it', role: 'admin', run: async (given) => { made = await post('/auth/tokens', { ...given, expires_in: given.expires_in ? Number(given.expires_in) : undefined }); },
  });
  if (!made) { return; }
  await dialog({ title: `Token ${made.name}`, text: 'This is the only time it is shown. Whoever has it can do what its role allows.', fields: [h('p', h('code', { class: 'wrap secret', id: 'new-token' }, made.token)), h('div', { class: 'row' }, button('Copy', copyToken))] });
  tokens(place);
}

/** Browsers have a clipboard only where the connection is encrypted, or to the machine itself. */
async function copyToken() {
  const place = document.getElementById('new-token');
  getSelection().selectAllChildren(place);
  try { await navigator.clipboard.writeText(place.textContent); showNotification('Copied', 'success'); }
  catch { showNotification('This browser does not let the page copy. The token is selected: press Ctrl+C.', 'info'); }
}

async function revoke(token, place) {
  const done = await dialog({ title: `Revoke ${token.name}?`, text: token.name === state.session.name ? 'This is the token you are logged in with: you will be logged out.' : 'It and the sessions made with it end at once.', label: 'Revoke', kind: 'danger', role: 'admin', run: () => del(`/auth/tokens?name=${encodeURIComponent(token.name)}`) });
  if (done) { tokens(place); }
}

function pinPart() {
  return [h('p', 'Asked for at rollback, factory reset, override, and for images that no trusted key signed.'),
    form([field({ name: 'pin', label: 'Present PIN', type: 'password', maxlength: 64, hint: 'Empty if none is set yet.' }), field({ name: 'new_pin', label: 'New PIN', type: 'password', required: true, minlength: 4, maxlength: 64 }), field({ name: 'again', label: 'New PIN once more', type: 'password', required: true, maxlength: 64 })], 'Set the PIN', async (given, node) => {
      if (given.new_pin !== given.again) { throw Object.assign(new Error('The two new PINs differ.'), { actions: ['Enter the new PIN twice'] }); }
      await change('/auth/pin', { pin: given.pin, new_pin: given.new_pin });
      node.reset();
      showNotification('The PIN is set', 'success');
    }, { role: 'admin' }), roleNote('admin')];
}

function bundlePart() {
  return [h('p', 'A debug bundle has what support asks for: logs, jobs, states, configuration. Tokens, PIN and keys are not in it.'),
    h('div', { class: 'row' }, button('Make a debug bundle', async () => {
      try { save(await call('POST', '/debug-bundle', {}, { raw: true }), `debug-bundle-${state.status.gateway.serial}.tar.gz`); showNotification('The bundle is saved', 'success'); }
      catch (error) { throw error.missing ? Object.assign(new Error('Not available on this gateway.'), { actions: ['Collect the journal with journalctl -u ota-gatewayd'] }) : error; }
    }, { role: 'admin', key: 'bundle' })), roleNote('admin')];
}

function reportPart() {
  const get = (format) => button(format.toUpperCase(), async () => {
    try { save(await call('GET', `/reports/compliance?format=${format}`, undefined, { raw: true }), `compliance-${state.status.gateway.serial}.${format}`); }
    catch (error) { throw error.missing ? Object.assign(new Error('Reports are not available on this gateway.'), { actions: [] }) : error; }
  }, { role: 'admin', key: `report-${format}`, name: `Compliance report as ${format.toUpperCase()}` });
  return h('div', { class: 'row' }, h('span', 'Compliance report'), ['html', 'csv', 'json'].map(get));
}

function resetPart() {
  const why = state.job ? `Job ${state.job.job_id} is active.` : state.status.factory_reset ? 'A factory reset is ordered already.' : null;
  return [h('p', 'Erases all user data and settings at the next start. The firmware stays.'), h('div', { class: 'row' }, button('Factory reset…', reset, { role: 'admin', kind: 'danger', why, key: 'reset' })), roleNote('admin') || (why ? h('p', { class: 'note' }, why) : null)];
}

async function reset() {
  const done = await dialog({
    title: 'Factory reset', text: 'All user data and settings of this gateway are erased. This cannot be taken back.',
    fields: [field({ name: 'confirmation', label: `Type: ${SENTENCE}`, required: true, maxlength: 80, spellcheck: 'false' }), pin(), field({ name: 'backup_settings', label: 'Keep a backup of the settings', type: 'checkbox', checked: true })],
    label: 'Erase everything', kind: 'danger', role: 'admin',
    run: async (given) => {
      const answer = await post('/factory-reset', given).catch((error) => { throw error.missing ? Object.assign(new Error('This gateway does not offer a factory reset.'), { actions: [] }) : error; });
      showNotification(answer.message, 'warning');
    },
  });
  if (done) { await loadStatus(); await loadJob(); }
}

