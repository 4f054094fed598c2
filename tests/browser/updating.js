// A whole update, clicked through; the specification's script in a second page watches it.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { specification } from './device.js';
import { RESTARTING, accessible, listen, live, needs, picture, record, told, view } from './page.js';

/** The specification's JavaScript, block by block, unchanged but for the host. */
function scripts(host) {
  const blocks = specification.split(/^\.\. code-block:: javascript$/m).slice(1);
  return blocks.map((block) => {
    const lines = block.split('\n').slice(1);
    const end = lines.findIndex((line) => line.trim() !== '' && !line.startsWith('   '));
    return lines.slice(0, end < 0 ? undefined : end).map((line) => line.slice(3)).join('\n').replace('ws://localhost/', `ws://${host}/`);
  });
}

export default function updating(world) {
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

  test('a job is cancelled while its restart is counted down: the switch is taken back and nothing restarts', async () => {
    const { page, device } = world;
    needs(world, 'watcher', 'the script of the specification');
    await view(page, 'updates');
    // One forecast for the card: it would be the same for each of the offers.
    await page.locator('.offer').nth(1).waitFor();
    await page.getByRole('button', { name: 'What would happen?' }).click();
    await page.locator('.plan .badge').first().waitFor();
    const job = (await device.api('/updates/download', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ update_id: 'update_12345' }) })).body.job_id;
    await page.getByRole('button', { name: 'Install', exact: true }).click();
    await page.locator('#reboot-countdown').waitFor();
    await page.getByText('Cancelling the job stops it.').waitFor();
    await page.locator('#job').getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('dialog', { name: `Cancel ${job}?` }).getByRole('button', { name: 'Cancel the job' }).click();
    await page.locator('#job-badge').getByText('Cancelled').waitFor();
    await page.locator('#reboot-countdown').waitFor({ state: 'detached' });
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
    await page.locator('.offer', { hasText: 'update_12345' }).getByRole('button', { name: 'Download' }).click();
    await page.locator('#job-badge').getByText('Downloading').waitFor();
    const job = (await page.locator('#job-id').textContent()).split(' ')[0];
    assert.match(job, /^OTA-JOB-/);
    await watcher.evaluate((id) => { monitorProgress(id); }, job);
    await page.waitForFunction(() => parseFloat(document.getElementById('progress-text').textContent) > 5 && /[kM]B\/s$/.test(document.getElementById('progress-speed').textContent) && document.getElementById('progress-eta').textContent.includes('left'));
    assert.match(await page.locator('#progress-bar').getAttribute('style'), /^width: [\d.]+%;$/);
    await page.locator('#job').getByRole('button', { name: 'Pause' }).click();
    await page.locator('#job-badge').getByText('Paused').waitFor();
    const there = await page.locator('#progress-text').textContent();
    await page.getByRole('img', { name: /^Throughput, now/ }).waitFor();
    await picture(page, 'updates-download', 'dashboard-download', page.locator('#job'));
    assert.equal((await limit(null)).status, 200);
    await page.locator('#job').getByRole('button', { name: 'Resume' }).click();
    await page.locator('#job-badge').getByText('Downloaded').waitFor();
    assert.ok(parseFloat(there) > 0, there);
    await page.locator('#progress-text').getByText('100.0%', { exact: true }).waitFor();
    await watcher.waitForFunction(() => document.getElementById('progress-bar').style.width === '100%');
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
    // The simulated board is quicker than a picture: what is said meanwhile is written down by the page.
    await record(page);
    await page.getByRole('button', { name: 'Install', exact: true }).click();
    await told(page, 'banners', /Restart in 00:[0-3]\d/);
    await picture(page, 'updates-reboot', 'dashboard-reboot');
    await view(page, 'overview');
    await told(page, 'notifications', /The gateway is back: slot B with v5\.0\.5/, RESTARTING);
    await page.getByText('Last job: v5.0.5').waitFor();
    await page.locator('#job-badge').getByText('Succeeded').waitFor();
    await page.getByRole('img', { name: /Slot B: v5.0.5, good, running, boots next/ }).waitFor();
    await page.getByRole('region', { name: 'Last update' }).getByText('v5.0.5', { exact: true }).waitFor();
    await told(page, 'banners', /This page comes back by itself/);
    const job = await device.api(`/updates/jobs/${world.job}`);
    assert.equal(job.body.status, 'succeeded');
    // The script of the specification does not connect again.
    await watcher.waitForFunction('specSocket.readyState === 3');
    await watcher.close();
    world.installed = true;
    await page.locator('#job').getByRole('button', { name: 'Dismiss' }).click();
    await page.locator('#job').waitFor({ state: 'hidden' });
  });
}
