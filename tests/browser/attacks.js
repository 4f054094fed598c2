// Text and pages that mean harm.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { hostile } from './device.js';
import { VIEWS, accessible, listen, live, logIn, open, until, view } from './page.js';

const untouched = async (page) => {
  assert.equal(await page.evaluate('window.hacked'), undefined);
  assert.equal(await page.locator('#view img, #job img, #banners img, #notifications img, main script').count(), 0);
};

/** Every text of an answer with markup behind it; numbers, times and the words that the page compares stay. */
function poison(value, key = '') {
  const kept = /(_at|timestamp|since|last_boot|release_date|next_window|status|state|role|kind|type|name|id|first|trial|severity|outcome|format|reading)$/.test(key);
  if (typeof value === 'string') { return kept && !['reason'].includes(key) ? value : hostile(value); }
  if (Array.isArray(value)) { return value.map((item) => poison(item, key)); }
  if (value && typeof value === 'object') { return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, poison(v, k)])); }
  return value;
}

export default function attacks(world) {
  test('markup in the description of a release is shown as text', async () => {
    const { page } = world;
    await view(page, 'updates');
    await page.getByText(hostile('description'), { exact: true }).waitFor();
    await untouched(page);
  });

  test('markup in any text of any answer is shown as text, in every view', async () => {
    const { page, device } = world;
    const poisoned = await page.context().newPage();
    listen(poisoned);
    await poisoned.route('**/api/v1/ota/**', async (route) => {
      if (route.request().url().includes('/auth/session')) { await route.continue(); return; }
      const answer = await route.fetch().catch(() => null);
      if (!answer) { await route.abort(); return; }
      const body = await answer.json().catch(() => null);
      if (body === null) { await route.fulfill({ response: answer }); return; }
      const bad = poison(body);
      if (bad.partitions) { bad.partitions.active.version = hostile('version'); bad.gateway.name = hostile('name'); bad.degraded = [{ reason: 'x', message: hostile('degraded') }]; }
      const list = (name) => (Array.isArray(bad[name]) ? bad[name] : []);
      for (const one of list('constraints')) { one.reading = hostile('reading'); one.name = hostile(one.name); }
      for (const one of list('jobs')) { one.job_id = hostile('job'); one.version = hostile('version'); one.cancel_reason = hostile('reason'); }
      for (const one of list('records')) { one.actor = hostile('actor'); one.action = hostile('action'); }
      await route.fulfill({ response: answer, json: bad });
    });
    await poisoned.goto(device.url);
    await live(poisoned);
    for (const name of VIEWS) {
      await view(poisoned, name);
      await poisoned.getByText('onerror=').first().waitFor();
      await untouched(poisoned);
    }
    await poisoned.evaluate((text) => { showNotification(text, text); showSafetyAlert(text, text); showActionButtons(text); updateStatusMessage(text); updateSystemStatus(text); }, hostile('script'));
    await untouched(poisoned);
    await poisoned.unrouteAll({ behavior: 'ignoreErrors' });
    await poisoned.close();
  });

  test('a page of another origin can neither read, nor change anything, nor listen', async () => {
    const { page, device } = world;
    // The same address with another port is the same site to the browser: the cookie comes along, the Origin tells.
    const server = http.createServer((_, answer) => { answer.setHeader('content-type', 'text/html'); answer.end('<!doctype html><title>evil</title>'); });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const evil = await page.context().newPage();
    const statuses = [];
    evil.on('response', (answer) => { if (answer.url().startsWith(device.url)) { statuses.push(answer.status()); } });
    await evil.goto(`http://127.0.0.1:${server.address().port}/`);
    const told = await evil.evaluate(async (url) => {
      const api = `${url}/api/v1/ota`;
      const body = JSON.stringify({ update_id: 'update_12345' });
      const attempt = (path, options) => fetch(api + path, { credentials: 'include', ...options }).then((answer) => answer.type, () => 'refused');
      const read = await attempt('/system/status', {});
      const sent = await attempt('/updates/download', { method: 'POST', mode: 'no-cors', body });
      const json = await attempt('/updates/download', { method: 'POST', body, headers: { 'content-type': 'application/json' } });
      const socket = await new Promise((resolve) => { const ws = new WebSocket(`${api.replace('http', 'ws')}/ws`); ws.onopen = () => resolve('open'); ws.onerror = () => resolve('refused'); });
      const frame = document.createElement('iframe');
      frame.src = url;
      await new Promise((resolve) => { frame.onload = resolve; document.body.append(frame); });
      return { read, sent, json, socket };
    }, device.url);
    assert.deepEqual(told, { read: 'refused', sent: 'opaque', json: 'refused', socket: 'refused' });
    assert.ok(statuses.length >= 2 && statuses.filter((status) => status !== 200).every((status) => status === 403), String(statuses));
    assert.equal(evil.frames()[1]?.url().startsWith(device.url), false, 'the dashboard lets itself be framed');
    assert.equal((await device.api('/updates/jobs')).body.total, 0);
    await evil.close();
    server.close();
  });

  test('without a connection the page says that it is stale, and goes on by itself', async () => {
    const { page } = world;
    await view(page, 'overview');
    await page.context().setOffline(true);
    await page.locator('#link[data-status="stale"]').waitFor();
    await page.getByText('No connection to the gateway.').waitFor();
    await accessible(page, 'stale');
    await page.context().setOffline(false);
    await live(page);
    await page.getByText('No connection to the gateway.').waitFor({ state: 'detached' });
  });

  test('an answer that takes too long is waited for as long as the gateway may need, and is not told as a gateway that is away', async () => {
    const { page } = world;
    const told = await page.evaluate(async () => {
      const { get, on, post } = await import('/ui/api.js');
      const { fetch, setTimeout } = window;
      const away = [];
      on('reached', (yes) => { if (!yes) { away.push(yes); } });
      // Nobody answers, and time is over at once.
      window.fetch = (_, { signal }) => new Promise((_answer, fail) => { signal.addEventListener('abort', () => fail(signal.reason)); });
      window.setTimeout = (then) => setTimeout(then, 0);
      try {
        const asked = [get('/system/status'), get('/updates/check'), post('/upload/verify'), post('/factory-reset')];
        const errors = await Promise.all(asked.map((answer) => answer.catch((error) => `${error.code}: ${error.message}`)));
        return { errors, away };
      } finally { Object.assign(window, { fetch, setTimeout }); }
    });
    const errors = [30, 180, 600, 600].map((seconds) => `NO_ANSWER: No answer within ${seconds} s.`);
    assert.deepEqual(told, { errors, away: [] });
    await live(page);
  });

  test('answers that stay out are waited for, and not asked for again meanwhile', async () => {
    const page = await open(world.browser, world.device);
    await page.clock.install();
    await page.reload();
    await logIn(page, world.device.token);
    let asked = 0;
    let release;
    const released = new Promise((go) => { release = go; });
    await page.route('**/safety/status', async (question) => { asked += 1; await released; await question.continue(); });
    const behind = page.waitForRequest('**/system/status');
    await page.clock.runFor(12_000);
    await behind;
    assert.equal(asked, 1);
    release();
    const next = page.waitForRequest('**/safety/status');
    await page.clock.runFor(4000);
    await next;
    await page.context().close();
  });

  test('who logs out while the gateway is away is logged out as soon as it is there again, also when the page is loaded anew', async () => {
    const { browser, device } = world;
    const page = await open(browser, device);
    await logIn(page, device.token);
    const session = () => page.evaluate(() => fetch('/api/v1/ota/auth/session').then((answer) => answer.status));
    const note = page.getByText('The gateway has not heard of it yet');
    await page.context().setOffline(true);
    await page.getByRole('button', { name: 'Log out' }).click();
    await note.waitFor();
    await page.context().setOffline(false);
    await note.waitFor({ state: 'detached' });
    assert.equal(await session(), 401);
    await logIn(page, device.token);
    await page.route('**/auth/session', (asked) => (asked.request().method() === 'DELETE' ? asked.abort() : asked.continue()));
    await page.getByRole('button', { name: 'Log out' }).click();
    await note.waitFor();
    assert.equal(await session(), 200);
    await page.reload();
    await note.waitFor();
    await page.unroute('**/auth/session');
    await page.reload();
    await page.getByLabel('Token').waitFor();
    await until(session, (status) => status === 401, 'the session');
    await page.context().close();
  });

  test('who logs out and in again while the page tries to connect has one stream of events', async () => {
    const { browser, device } = world;
    const page = await open(browser, device);
    const sockets = [];
    await page.routeWebSocket(/\/ws(\?|$)/, (socket) => { socket.connectToServer(); sockets.push(socket); });
    await page.clock.install();
    await page.reload();
    await logIn(page, device.token);
    await page.context().setOffline(true);
    await sockets.at(-1).close();
    await page.locator('#link[data-status="stale"]').waitFor();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Token').waitFor();
    await page.context().setOffline(false);
    await logIn(page, device.token);
    const before = sockets.length;
    for (let round = 0; round < 2; round += 1) {
      const answered = page.waitForResponse('**/system/status');
      await page.clock.runFor(11_000);
      await answered;
    }
    assert.equal(sockets.length, before);
    await page.context().close();
  });

  test('what happened while the connection was broken is asked for from where it broke, and told once', async () => {
    const { browser, device } = world;
    const page = await open(browser, device);
    const sockets = [];
    await page.routeWebSocket(/\/ws(\?|$)/, (socket) => { socket.connectToServer(); sockets.push(socket); });
    await page.reload();
    await logIn(page, device.token);
    await view(page, 'overview');
    // Not what a reading that came late makes of it: back within limits, settling.
    const told = page.locator('.events li', { hasText: 'Crane movement detected' }).filter({ hasNotText: 'settling' });
    const motions = page.locator('.events li', { hasText: 'Crane motion' });
    const [before, moved] = [await told.count(), await motions.count()];
    const position = () => new URL(sockets.at(-1).url()).searchParams.get('since');
    const first = Number(position());
    await page.context().setOffline(true);
    await sockets.at(-1).close();
    await page.locator('#link[data-status="stale"]').waitFor();
    device.sensor('crane_motion', 'moving\n');
    const missed = async () => (await device.api(`/events?since=${first}&limit=1000`)).body.events;
    await until(missed, (events) => events.some((event) => event.constraint === 'crane_motion' && event.status === 'violated'), 'the event of the gap');
    await page.context().setOffline(false);
    await live(page);
    await until(() => told.count(), (count) => count > before, 'the event of the gap on the page');
    assert.ok(Number(position()) >= first, `connected again with since=${position()} after ${first}`);
    // Another event comes behind it: by then each of the gap has had its chance to come twice.
    device.sensor('crane_motion', 'stopped\n');
    await until(() => motions.count(), (count) => count >= moved + 2, 'the event behind it');
    assert.equal(await told.count(), before + 1);
    await page.context().close();
  });
}
