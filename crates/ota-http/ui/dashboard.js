// The dashboard: logs in with a token, then shows what the API says. Text from the API is never taken as HTML.
'use strict';
const API = '/api/v1/ota';
const $ = (id) => document.getElementById(id);
let socket = null, last = null, retry = 1000;

async function call(path, options) {
  const answer = await fetch(API + path, options);
  const body = await answer.json();
  if (answer.status === 401) { showLogin(); }
  if (!answer.ok) { throw new Error(body.message || answer.statusText); }
  return body;
}

function row(cells, mark) {
  const tr = document.createElement('tr');
  for (const cell of cells) {
    const td = document.createElement('td');
    td.textContent = cell === null || cell === undefined ? '–' : String(cell);
    tr.append(td);
  }
  if (mark) { tr.children[mark.at].className = mark.good ? 'ok' : 'bad'; }
  return tr;
}

function showLogin() {
  $('login').hidden = false; $('panels').hidden = true; $('logout').hidden = true;
  if (socket) { socket.onclose = null; socket.close(); socket = null; }
}

async function refresh() {
  const [status, safety] = await Promise.all([call('/system/status'), call('/safety/status')]);
  $('login').hidden = true; $('panels').hidden = false; $('logout').hidden = false;
  $('name').textContent = `${status.gateway.name} (${status.gateway.model}, ${status.gateway.serial})`;
  $('system').textContent = `Status: ${status.system_status}` + (status.allow_unsigned ? ' – unsigned images are allowed' : '');
  $('degraded').replaceChildren(...status.degraded.map((d) => {
    const li = document.createElement('li'); li.className = 'bad'; li.textContent = `${d.reason}: ${d.message}`; return li;
  }));
  const slots = [['active', status.partitions.active], ['inactive', status.partitions.inactive]].filter(([, s]) => s);
  $('slots').replaceChildren(...slots.map(([role, s]) =>
    row([`${s.name} (${role})`, s.version, s.state, s.boot_count, s.last_boot], { at: 2, good: s.state === 'good' })));
  $('allowed').textContent = safety.update_allowed ? 'Updates may be installed now.' : 'Updates are held back.';
  $('allowed').className = safety.update_allowed ? 'ok' : 'bad';
  $('constraints').replaceChildren(...safety.constraints.map((c) =>
    row([c.name, c.overridden ? `${c.status} (overridden)` : c.status, c.reading, c.message], { at: 1, good: c.status === 'ok' })));
  if (status.active_job) {
    const p = await call(`/updates/progress?job_id=${encodeURIComponent(status.active_job)}`);
    progress(p.progress.percentage, `${p.job_id} to ${p.version}: ${p.status} – ${p.current_operation}`, `${p.progress.speed}, ${p.eta} left`);
  } else {
    progress(null, 'No job is active.', '');
  }
}

function progress(percent, text, numbers) {
  $('bar').hidden = percent === null;
  if (percent !== null) { $('bar').value = percent; }
  $('job').textContent = text; $('numbers').textContent = numbers;
}

function heard(message) {
  if (message.seq) { last = Math.max(last || 0, message.seq); }
  if (message.type === 'progress_update') {
    progress(message.progress, `${message.job_id}: ${message.current_operation} ${message.progress.toFixed(1)} %`,
      `${message.details.bytes_written} of ${message.details.bytes_total}, ${message.details.speed}, ${message.eta} left`);
    return;
  }
  const li = document.createElement('li');
  li.textContent = `${message.timestamp} ${message.type}: ${message.message}`;
  $('events').prepend(li);
  while ($('events').children.length > 100) { $('events').lastChild.remove(); }
  refresh().catch(() => {});
}

function watch() {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const since = last === null ? '' : `?since=${last}`;
  socket = new WebSocket(`${scheme}//${location.host}${API}/ws${since}`, ['ota.v1']);
  socket.onopen = () => { retry = 1000; $('link').textContent = 'Connected.'; };
  socket.onmessage = (event) => heard(JSON.parse(event.data));
  socket.onclose = () => {
    $('link').textContent = 'Connection lost; trying again.';
    setTimeout(() => start().catch(() => {}), retry);
    retry = Math.min(retry * 2, 30000);
  };
}

async function start() {
  try {
    await refresh();
    watch();
  } catch (error) {
    if ($('login').hidden) { $('link').textContent = error.message; setTimeout(start, retry); retry = Math.min(retry * 2, 30000); }
  }
}

$('login-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const token = $('token').value;
  $('token').value = '';
  try {
    await call('/auth/session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }) });
    $('login-error').textContent = '';
    await start();
  } catch (error) { $('login-error').textContent = error.message; }
});
$('logout').addEventListener('click', () => call('/auth/session', { method: 'DELETE' }).finally(showLogin));
start();
