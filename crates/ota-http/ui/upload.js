// Images that people bring themselves: send, verify, deploy.

import { del, get, post, upload } from './api.js';
import { h, put } from './dom.js';
import { STRATEGIES } from './updates.js';
import { badge, button, card, choice, dialog, empty, facts, field, form, loading, pin, problem, roleNote } from './parts.js';
import { loadJob, loadStatus, state, watch } from './store.js';
import { showNotification } from './spec.js';
import { ago, bytes, span, speed } from './text.js';

const SIGNATURES = /\.(sig|asc|p7s|gpg|sign)$/i;
// SHA256SUMS, sha512sum.txt, image.img.sums, image.img.sha256: what coreutils' tools are told to write.
const CHECKSUMS = /((^|[._-])sha(256|512)sums?|\.sha(256|512)|\.sums)(\.txt)?$/i;
/** What each file is to the gateway, and to people. */
const PARTS = { file: 'Image', signature: 'Signature', checksums: 'Checksum file', checksums_signature: 'Signature of the checksum file' };
/** The progress of the upload that is under way, with the way to stop it. It goes on while other views are shown. */
let running = null;
let abort = null;
/** Why an upload failed whose form was no longer there to say so. */
let failed = null;
/** What the gateway had when it was asked last. */
let known = [];
/** By the name of the image, also of those that came while another view was shown. */
const verdicts = new Map();
/** Where the images and the progress are shown, while this view is. */
let list = null;
let progress = null;

export function show(root) {
  list = h('div');
  progress = h('div');
  root.append(h('div', { class: 'stack' }, card('Send an image', {}, sender(), roleNote('operator')), card('Images on the gateway', {}, list)));
  drawProgress();
  put(list, loading('the images'));
  refresh();
  // What a job switches off comes back with its end.
  let was = state.job?.job_id;
  const off = watch('job', () => { if (state.job?.job_id !== was) { was = state.job?.job_id; redraw(); } });
  return () => { off(); list = null; progress = null; };
}

function drawProgress() {
  if (!progress) { return; }
  put(progress, running, failed ? problem(failed) : null);
  failed = null;
}

// With whoever logs out goes what they sent, and what was said to them.
watch('session', () => {
  if (state.session) { return; }
  abort?.();
  verdicts.clear();
  known = [];
  failed = null;
});

const stay = (event) => event.preventDefault();
/** While an image is on its way, the browser asks before it leaves the page, and nobody is logged out. */
function sending(node) {
  running = node;
  state.uploading = node !== null;
  if (node) { window.addEventListener('beforeunload', stay); } else { window.removeEventListener('beforeunload', stay); }
  drawProgress();
}

/** A version label from a file name: `custom-v5.1.0.img` gives `v5.1.0`. */
export const guess = (name) => (/v?\d+\.\d+(?:\.\d+)?(?:-[A-Za-z0-9.]+)?(?=[._-]|$)/.exec(name.replace(/\.(img|squashfs|tar\.gz|gz)$/i, '')) || [''])[0];

/** Which part of the form a file is, by its name. */
export function part(name) {
  const of = name.replace(SIGNATURES, '');
  const signed = of !== name;
  if (CHECKSUMS.test(of)) { return signed ? 'checksums_signature' : 'checksums'; }
  return signed ? 'signature' : 'file';
}

/** What is chosen, with what is missing; `clear` forgets it. */
function choosing(files, clear) {
  const names = Object.keys(PARTS).filter((name) => files[name]);
  if (!names.length) { return []; }
  return [
    files.file ? null : h('p', { class: 'bad-text' }, 'The image is still missing.'),
    files.checksums_signature && !files.checksums ? h('p', { class: 'bad-text' }, 'The checksum file that the signature is of is still missing.') : null,
    ...names.map((name) => h('p', `${PARTS[name]}: `, h('strong', files[name].name), name === 'file' ? ` ${bytes(files[name].size)}` : '')),
    h('button', { type: 'button', class: 'button', onclick: clear }, 'Choose others'),
  ];
}

function sender() {
  let files = {};
  const chosen = h('div', { class: 'chosen', role: 'status' });
  const input = h('input', { id: 'file', name: 'file', type: 'file', multiple: true, class: 'file' });
  const drop = h('div', { class: 'drop' }, h('p', h('label', { class: 'button', for: 'file' }, 'Choose files'), input, ' or drop them here'), h('p', { class: 'hint' }, 'An image (.img, .squashfs, .tar.gz) and, if it is not inside, its detached signature (.sig, .asc, .p7s). A checksum file (SHA256SUMS, SHA512SUMS) with its own signature is taken, too.'), chosen);
  const version = field({ name: 'version', label: 'Version label', required: true, maxlength: 64 });
  const clear = () => { files = {}; input.value = ''; put(chosen); };
  const take = (given) => {
    for (const file of given) { files[part(file.name)] = file; }
    const label = version.querySelector('input');
    if (files.file && !label.value) { label.value = guess(files.file.name); }
    put(chosen, choosing(files, clear));
  };
  input.addEventListener('change', () => take(input.files));
  drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => { event.preventDefault(); drop.classList.remove('over'); take(event.dataTransfer.files); });
  const node = form([drop, version,
    field({ name: 'description', label: 'Description', maxlength: 500, hint: 'One line, without an equals sign.' }),
    field({ name: 'sha256', label: 'SHA-256', maxlength: 71, hint: 'If you have it: what arrives is compared with it.' }),
    progress], 'Upload and verify', async (given, self) => {
    if (!files.file) { throw Object.assign(new Error('No image is chosen.'), { actions: ['Choose a file or drop one'] }); }
    if (running) { throw Object.assign(new Error('An upload is under way.'), { actions: ['Wait for its end, or stop it'] }); }
    let sent;
    const mine = state.session;
    try { sent = await send(files, given); }
    catch (error) {
      if (state.session !== mine) { return; }
      if (self.isConnected) { throw error; }
      showNotification(error.message, 'error');
      failed = error;
      drawProgress();
      return;
    }
    if (state.session !== mine) { return; }
    clear();
    self.reset();
    // It was on the image that this one takes the place of.
    verdicts.delete(sent.file.name);
    showNotification(`${sent.file.name} is on the gateway`, 'success');
    await refresh();
    await verify(sent.file.name);
  }, { role: 'operator' });
  return node;
}

/** Sends one form; its progress is shown wherever this view is. */
async function send(files, given) {
  const body = new FormData();
  // Text first: the gateway refuses a bad label before the bytes come.
  body.append('version', given.version ?? '');
  if (given.description) { body.append('description', given.description); }
  if (given.sha256) { body.append('sha256', given.sha256.replace(/^sha256:/, '')); }
  // The image last: what is wrong with the small parts is told before the large one is sent.
  for (const name of Object.keys(PARTS).reverse()) { if (files[name]) { body.append(name, files[name], files[name].name); } }
  const bar = h('div', { class: 'bar-fill' }), text = h('span', { class: 'figure' }), track = h('div', { class: 'bar', role: 'progressbar', 'aria-label': 'Upload', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': 0 }, bar);
  const began = Date.now();
  const sent = upload('/upload', body, (done, total) => {
    const share = (done / total) * 100, seconds = (Date.now() - began) / 1000, bps = done / Math.max(seconds, 0.1);
    bar.style.width = `${share}%`;
    track.setAttribute('aria-valuenow', share.toFixed(0));
    text.textContent = done < total ? `${share.toFixed(0)}%, ${bytes(done)} of ${bytes(total)}, ${speed(bps)}, ${span((total - done) / bps)} left` : 'Sent. The gateway stores it…';
  });
  abort = sent.abort;
  sending(h('div', { class: 'upload-progress' }, track, h('div', { class: 'row' }, text, h('button', { type: 'button', class: 'button danger-quiet', onclick: abort }, 'Stop'))));
  try { return await sent.promise; } finally { abort = null; sending(null); }
}

async function refresh() {
  try {
    const { uploads } = await get('/upload');
    known = uploads;
    if (list) { put(list, uploads.length ? h('ul', { class: 'offers' }, uploads.map(row)) : empty('None', 'Images that were sent stay here until they are removed.')); }
  } catch (error) { if (list) { put(list, problem(error)); } }
}

/** Rows anew, with the verdicts that stand in them. */
function redraw() {
  for (const file of known) {
    const old = rowOf(file.name);
    if (!old) { continue; }
    const focused = old.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const fresh = row(file);
    old.replaceWith(fresh);
    if (focused) { [...fresh.querySelectorAll('[data-key]')].find((node) => node.dataset.key === focused)?.focus({ preventScroll: true }); }
  }
}

function row(file) {
  const busy = state.job ? `Job ${state.job.job_id} is active.` : null;
  const verdict = file.verified_at ? (file.signature_valid ? badge('signature valid', 'ok') : badge('not signed', 'warn')) : badge('not verified', 'mute');
  return h('li', { class: 'offer', data: { card: '', file: file.name } },
    h('div', { class: 'offer-head' }, h('h3', file.name), verdict, file.ready_for_deployment ? badge('ready to deploy', 'ok') : null),
    h('p', { class: 'text' }, file.description || ''),
    facts([['Version', file.version], ['Size', bytes(file.size)], ['Sent', ago(file.uploaded_at)], ['Verified', file.verified_at ? ago(file.verified_at) : 'not yet'], ['Digest', h('code', { class: 'wrap' }, file.checksum)]]),
    h('div', { class: 'problems' }), h('div', { class: 'verified' }, verdicts.get(file.name)),
    h('div', { class: 'row' },
      button('Verify', () => verify(file.name), { role: 'operator', key: `verify-${file.name}`, name: `Verify ${file.name}` }),
      button('Deploy…', () => deploy(file), { role: 'admin', kind: 'primary', why: busy || (file.ready_for_deployment ? null : 'It has to be verified first.'), key: `deploy-${file.name}`, name: `Deploy ${file.name}` }),
      button('Remove', () => remove(file), { role: 'operator', kind: 'danger-quiet', key: `remove-${file.name}`, name: `Remove ${file.name}` })));
}

const rowOf = (name) => [...(list?.querySelectorAll('[data-file]') ?? [])].find((node) => node.dataset.file === name);

async function verify(name) {
  const tell = (node) => {
    verdicts.set(name, node);
    const place = rowOf(name)?.querySelector('.verified');
    if (place) { put(place, node); }
  };
  tell(loading('the verdict'));
  let told;
  const mine = state.session;
  try {
    const { file } = await post('/upload/verify', { filename: name, verify_signature: true, check_compatibility: true });
    told = h('div', { class: 'result ok', role: 'status' }, h('strong', 'Verified. '), `Signature ${file.signature_valid ? 'valid' : 'missing'}, ${file.compatible ? 'fits this gateway' : 'does not fit'}, layout ${file.partition_layout}.`);
  } catch (error) { told = problem(error); }
  await refresh();
  if (state.session !== mine) { return; }
  tell(told);
  if (!list) { showNotification(`The verdict on ${name} stands under Upload`, 'info'); }
}

async function deploy(file) {
  await dialog({
    title: `Deploy ${file.name}`,
    text: `${file.version} is written to slot ${state.status?.partitions.inactive?.name ?? 'not in use'} and started on trial.`,
    fields: [choice('strategy', 'Strategy', STRATEGIES, 'seamless'),
      field({ name: 'reboot_after', label: 'Restart by itself once the slots are switched', type: 'checkbox', checked: true }),
      field({ name: 'rollback_on_failure', label: 'Go back if the health checks fail', type: 'checkbox', checked: true }),
      pin(!file.signature_valid, file.signature_valid ? 'Not needed: a trusted key signed it. If it is given, it is checked.' : 'Needed: no trusted key signed this image.')],
    label: 'Deploy', role: 'admin',
    run: async (given) => { await post('/upload/deploy', { filename: file.name, ...given }); },
  });
  await loadStatus();
  await loadJob();
}

async function remove(file) {
  const done = await dialog({ title: `Remove ${file.name}?`, text: 'The image and its signatures are deleted from the gateway.', label: 'Remove', kind: 'danger', role: 'operator', run: () => del(`/upload/${encodeURIComponent(file.name)}`) });
  if (done) { verdicts.delete(file.name); await refresh(); }
}
