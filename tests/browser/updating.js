// A whole update, clicked through; the specification's script in a second page watches it.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { specification } from './device.js';
import { COUNTDOWN, RESTARTING, accessible, listen, live, needs, picture, record, told, until, view } from './page.js';

/** The specification's JavaScript, block by block, unchanged but for the host. */
function scripts(host) {
  const blocks = specification.split(/^\.\. code-block:: javascript$/m).slice(1);
  return blocks.map((block) => {
    const lines = block.split('\n').slice(1);
    const end = lines.findIndex((line) => line.trim() !== '' && !line.startsWith('   '));
    return lines.slice(0, end < 0 ? undefined : end).map((line) => line.slice(3)).join('\n').replace('ws://localhost/', `ws://${host}/`);
  });
}

/** What the page offers to scripts that are written after the specification: see docs/dashboard.md. */
const FUNCTIONS = [
  'updateProgressBar', 'updateStatusMessage', 'updateETA', 'showNotification', 'updateSystemStatus', 'showSafetyAlert', 'showActionButtons', 'showCompletionMessage',
  'enableNextStep', 'startRebootCountdown', 'showError', 'checkForUpdates', 'renderUpdatesList', 'startDownload', 'monitorProgress', 'startProgressMonitoring',
  'updateProgressUI', 'enableInstallButton',
];

/** Answers a request that wants the PIN: asked for once it was refused without. */
async function withPin(place, label, pin) {
  await place.getByRole('button', { name: label, exact: true }).click();
  await place.getByRole('alert').getByText('OTA_010').waitFor();
  await place.getByLabel('PIN').fill(pin);
  await place.getByRole('button', { name: label, exact: true }).click();
}

export default function updating(world) {
  test('each function of the specification\'s scripts is there, tells in the page what went wrong, and throws nothing', async () => {
    const { page, device } = world;
    const own = await page.context().newPage();
    listen(own);
    await own.goto(device.url);
    await live(own);
    const [monitor, control] = scripts(new URL(device.url).host);
    const defined = [...`${monitor}\n${control}`.matchAll(/function (\w+)\(/g)].map(([, name]) => name);
    assert.deepEqual(defined.filter((name) => !FUNCTIONS.includes(name)), []);
    assert.deepEqual(await own.evaluate((names) => names.filter((name) => typeof window[name] !== 'function'), FUNCTIONS), []);
    const notices = own.locator('#notifications');
    assert.equal(await own.evaluate(() => { showNotification('as it was said', 'info'); return document.getElementById('notifications').lastElementChild.textContent; }), 'as it was said');
    assert.equal(await own.evaluate("startDownload('no-such-update', 'v0')"), undefined);
    await notices.getByText('Failed to start download', { exact: true }).waitFor();
    await own.route('**/updates/check', (asked) => asked.fulfill({ status: 503, json: { error: true, code: 'SERVICE_UNAVAILABLE', message: 'not now' } }));
    assert.equal(await own.evaluate('checkForUpdates()'), undefined);
    await notices.getByText('Failed to check for updates', { exact: true }).waitFor();
    // Of the job that it is told, not of the active one: there is none.
    await own.route('**/updates/progress?job_id=OTA-JOB-TOLD', (asked) => asked.fulfill({ json: { job_id: 'OTA-JOB-TOLD', status: 'downloaded', ended: false, current_operation: 'As told', progress: { percentage: 42, bytes_per_second: 0 } } }));
    await own.evaluate("startProgressMonitoring('OTA-JOB-TOLD')");
    await own.waitForFunction(() => document.getElementById('progress-text').textContent === '42.0%' && document.getElementById('current-operation').textContent === 'As told');
    await own.unroute('**/updates/check');
    await own.route('**/updates/check', (asked) => asked.fulfill({ json: { available: false, updates: [], sources: 0 } }));
    await view(own, 'updates');
    await own.getByText('No update source is configured').waitFor();
    await own.close();
  });

  test('the script of the specification runs in the dashboard unchanged but for the host', async () => {
    const { page, device } = world;
    const watcher = await page.context().newPage();
    listen(watcher);
    await watcher.goto(device.url);
    await live(watcher);
    const [monitor, control] = scripts(new URL(device.url).host);
    assert.match(monitor, /progress-bar/);
    assert.match(control, /checkForUpdates/);
    await watcher.evaluate((token) => localStorage.setItem('token', token), device.token);
    await watcher.evaluate(`${monitor}\n;window.specSocket = ws; window.opened = new Promise((yes) => { ws.readyState === 1 ? yes(true) : ws.addEventListener('open', () => yes(true)); });`);
    await watcher.evaluate('window.opened');
    await watcher.evaluate(control);
    const found = await watcher.evaluate('checkForUpdates()');
    assert.deepEqual(found.map((u) => u.id).sort(), ['update_12345', 'update_hostile']);
    world.watcher = watcher;
  });

  test('an install that leaves the restart to people waits for them, and both ask for the PIN when the gateway wants it', async () => {
    const { page, device } = world;
    needs(world, 'watcher', 'the script of the specification');
    await view(page, 'updates');
    // One forecast for the card: it would be the same for each of the offers.
    await page.locator('.offer').nth(1).waitFor();
    await page.getByRole('button', { name: 'What would happen?' }).click();
    await page.locator('.plan .badge').first().waitFor();
    const job = (await device.api('/updates/download', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ update_id: 'update_12345' }) })).body.job_id;
    const asked = async () => (await device.api(`/updates/jobs/${job}`)).body.install;
    const card = page.locator('#view .card').first();
    await card.getByRole('radio', { name: 'Immediate' }).check();
    await card.getByLabel('Restart by itself').uncheck();
    await withPin(card, 'Install', device.pin);
    await page.locator('#job-note').getByText('The new version starts with the next reboot.').waitFor();
    const { strategy, reboot_after } = await asked();
    assert.deepEqual({ strategy, reboot_after }, { strategy: 'immediate', reboot_after: false });
    await page.locator('#job').getByRole('button', { name: 'Reboot now…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Restart into v5.0.5?' });
    await withPin(dialog, 'Reboot now', device.pin);
    await dialog.waitFor({ state: 'detached' });
    await page.locator('#reboot-countdown').waitFor();
    assert.deepEqual([(await asked()).strategy, (await asked()).reboot_after], ['immediate', true]);
    world.counting = job;
  });

  test('a count-down ends when safety holds the restart, begins anew behind it, and goes on where it was when the page is loaded again', async () => {
    const { page, device } = world;
    const job = needs(world, 'counting', 'an install that leaves the restart to people');
    const clock = page.locator('#reboot-countdown');
    await record(page);
    device.sensor('crane_motion', 'moving\n');
    await page.locator('#job-note').getByText('Waits for safety.').waitFor();
    await clock.waitFor({ state: 'detached' });
    assert.equal((await device.api('/system/status')).body.system_status, 'reboot_pending');
    assert.equal((await device.api(`/updates/jobs/${job}`)).body.waiting_for.reason, 'safety');
    device.sensor('crane_motion', 'stopped\n');
    await clock.waitFor();
    assert.deepEqual(await page.evaluate(() => window.told.filter(([place, text]) => place === 'banners' && text.includes('The gateway restarts'))), []);
    const left = async () => Number((await clock.textContent()).slice(-2));
    const before = await until(left, (seconds) => seconds < COUNTDOWN - 1, 'the count-down goes on');
    await page.reload();
    await clock.waitFor();
    const after = await left();
    assert.ok(after <= before, `${after} s after ${before} s`);
  });

  test('the restart back after a failed trial is counted down, too, and is not told as one that a cancel stops', async () => {
    const { page, device } = world;
    const own = await page.context().newPage();
    listen(own);
    await own.route('**/system/status', async (asked) => {
      const answer = await asked.fetch();
      await asked.fulfill({ response: answer, json: { ...(await answer.json()), system_status: 'rebooting' } });
    });
    await own.route('**/events?*', async (asked) => {
      const answer = await asked.fetch();
      const page = await answer.json();
      const back = { seq: page.next, type: 'system_event', event: 'reboot_scheduled', countdown: COUNTDOWN, message: 'Back', timestamp: new Date().toISOString() };
      await asked.fulfill({ response: answer, json: { ...page, events: [...page.events, back] } });
    });
    await own.goto(device.url);
    await own.locator('#reboot-countdown').waitFor();
    assert.match(await own.locator('.banner[data-key="reboot"]').textContent(), /^Restart in 00:\d\d\.$/);
    await own.unrouteAll({ behavior: 'ignoreErrors' });
    await own.close();
  });

  test('a job is cancelled while its restart is counted down: the switch is taken back and nothing restarts', async () => {
    const { page, device } = world;
    const job = needs(world, 'counting', 'an install that leaves the restart to people');
    await page.locator('#reboot-countdown').waitFor();
    await page.getByText('Cancelling the job stops it.').waitFor();
    // What is suggested for a job is no longer there behind its end.
    const suggested = page.locator('#suggested-action');
    await page.evaluate(() => { showActionButtons('Look at the crane'); });
    await suggested.waitFor();
    await page.locator('#job').getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('dialog', { name: `Cancel ${job}?` }).getByRole('button', { name: 'Cancel the job' }).click();
    await page.locator('#job-badge').getByText('Cancelled').waitFor();
    await page.locator('#reboot-countdown').waitFor({ state: 'detached' });
    await suggested.waitFor({ state: 'hidden' });
    const status = (await device.api('/system/status')).body;
    assert.deepEqual([status.system_status, status.partitions.active.name, status.boot.first, status.boot.trial], ['idle', 'A', 'A', null]);
    await page.locator('#job').getByRole('button', { name: 'Dismiss' }).click();
  });

  test('a download shows phase, speed, time left and a curve, and can be paused and resumed', async () => {
    const { page, device } = world;
    const watcher = needs(world, 'watcher', 'the script of the specification');
    // So slow that it is not over before a page on a busy machine has seen it; it goes on at full speed.
    const limit = (bytes) => device.api('/settings/bandwidth', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ bytes_per_second: bytes }) });
    assert.equal((await limit(400_000)).status, 200);
    await view(page, 'updates');
    await page.evaluate(() => {
      window.operations = new Set();
      const place = document.getElementById('job');
      new MutationObserver(() => { for (const name of ['current-operation', 'progress-eta']) { window.operations.add(document.getElementById(name).textContent); } }).observe(place, { childList: true, subtree: true, characterData: true });
    });
    await page.locator('.offer', { hasText: 'update_12345' }).getByRole('button', { name: 'Download' }).click();
    await page.locator('#job-badge').getByText('Downloading').waitFor();
    const job = (await page.locator('#job-id').textContent()).split(' ')[0];
    assert.match(job, /^OTA-JOB-/);
    await watcher.evaluate((id) => { monitorProgress(id); }, job);
    await page.waitForFunction(() => parseFloat(document.getElementById('progress-text').textContent) > 5 && /[kM]B\/s$/.test(document.getElementById('progress-speed').textContent) && document.getElementById('progress-eta').textContent.includes('left'));
    assert.match(await page.locator('#progress-bar').getAttribute('style'), /^width: [\d.]+%;$/);
    await page.locator('#job').getByRole('button', { name: 'Pause' }).click();
    await page.locator('#job-badge').getByText('Paused').waitFor();
    assert.equal((await device.api(`/updates/jobs/${job}`)).body.status, 'paused');
    const there = await page.locator('#progress-text').textContent();
    await page.getByRole('img', { name: /^Throughput, now/ }).waitFor();
    await picture(page, 'updates-download', 'dashboard-download', page.locator('#job'));
    assert.equal((await limit(null)).status, 200);
    await page.locator('#job').getByRole('button', { name: 'Resume' }).click();
    await page.locator('#job-badge').getByText('Downloaded').waitFor();
    assert.ok(parseFloat(there) > 0, there);
    await page.locator('#progress-text').getByText('100.0%', { exact: true }).waitFor();
    await watcher.waitForFunction(() => document.getElementById('progress-bar').style.width === '100%');
    // One wording, wherever the numbers come from: the events or the answers.
    const operations = await page.evaluate(() => [...window.operations]);
    assert.ok(operations.includes('Downloading update package'), String(operations));
    assert.deepEqual(operations.filter((text) => /^(Downloading|Verifying|Writing partition|Reading back)$|\d\d:\d\d:\d\d/.test(text)), []);
    world.job = job;
  });

  test('installing restarts the gateway with a count-down, and the page comes back by itself to the confirmed version', async () => {
    const { page, watcher, device } = world;
    needs(world, 'job', 'a download shows phase');
    await view(page, 'updates');
    await page.getByRole('radio', { name: 'Seamless' }).check();
    await page.getByLabel('Restart by itself').check();
    await accessible(page, 'install');
    await picture(page, 'updates-install', 'dashboard-install', page.locator('#view .card').first());
    // What is on offer is looked at all the time.
    const offers = await page.context().newPage();
    listen(offers);
    await offers.goto(device.url);
    await view(offers, 'updates');
    await offers.locator('.offer', { hasText: 'update_12345' }).waitFor();
    // The simulated board is quicker than a picture: what is said meanwhile is written down by the page.
    await record(page);
    await withPin(page.locator('#view .card').first(), 'Install', device.pin);
    await told(page, 'banners', /Restart in 00:[0-3]\d/);
    await picture(page, 'updates-reboot', 'dashboard-reboot');
    await view(page, 'overview');
    await told(page, 'notifications', /The gateway is back: slot B with v5\.0\.5/, RESTARTING);
    await page.getByText('Last job: v5.0.5').waitFor();
    await page.locator('#job-badge').getByText('Succeeded').waitFor();
    await page.getByRole('img', { name: /Slot B: v5.0.5, good, running, boots next/ }).waitFor();
    await page.getByRole('region', { name: 'Last update' }).getByText('v5.0.5', { exact: true }).waitFor();
    await told(page, 'banners', /This page comes back by itself/);
    await offers.locator('.offer', { hasText: 'update_12345' }).waitFor({ state: 'detached' });
    await offers.close();
    const job = await device.api(`/updates/jobs/${world.job}`);
    assert.equal(job.body.status, 'succeeded');
    assert.deepEqual(job.body.install, { strategy: 'seamless', reboot_after: true, rollback_on_failure: true });
    // The script of the specification does not connect again.
    await watcher.waitForFunction('specSocket.readyState === 3');
    await watcher.close();
    world.installed = true;
    await page.locator('#job').getByRole('button', { name: 'Dismiss' }).click();
    await page.locator('#job').waitFor({ state: 'hidden' });
  });
}
