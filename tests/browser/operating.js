// Upload, history, audit, system: each view's main action.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { hostile, out } from './device.js';
import { RESTARTING, live, logIn, needs, open, picture, record, told, until, view } from './page.js';

export default function operating(world) {
  test('an image is dropped, sent, verified and deployed; the deployment is cancelled with a reason', async () => {
    const { page, device } = world;
    await view(page, 'upload');
    // A drop as the browser makes it, with the signature beside the image.
    const image = device.file('images/rootfs-v5.0.5.squashfs');
    await page.getByLabel('Choose files').setInputFiles([image]);
    const signature = fs.readFileSync(`${image}.p7s`).toString('base64');
    await page.evaluate((base64) => {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'rootfs-v5.0.5.squashfs.p7s'));
      document.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }, signature);
    await page.getByText('Signature: rootfs-v5.0.5.squashfs.p7s').waitFor();
    assert.equal(await page.getByLabel('Version label').inputValue(), 'v5.0.5');
    await page.getByLabel('Version label').fill(hostile('version'));
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    await page.getByRole('alert').getByText('INVALID_REQUEST').waitFor();
    await page.getByLabel('Version label').fill('v5.1.0-custom');
    // A label has no equals sign: with one it is refused and what was typed stays, without one it is taken and shown as text.
    const description = hostile('upload').replaceAll('=', ' ');
    await page.getByLabel('Description').fill(hostile('upload'));
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    await page.getByRole('alert').getByText('equals sign').first().waitFor();
    await page.getByLabel('Description').fill(description);
    // While it is on its way, somebody looks at something else: it goes on, its progress and the way to stop it are there again.
    let release;
    const released = new Promise((go) => { release = go; });
    const sent = (url) => url.pathname === '/api/v1/ota/upload';
    await page.route(sent, async (asked) => { if (asked.request().method() === 'POST') { await released; } await asked.continue(); });
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    const stop = page.getByRole('button', { name: 'Stop', exact: true });
    await stop.waitFor();
    await view(page, 'overview');
    assert.equal(await page.evaluate(() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))), false, 'the browser leaves the page without asking');
    await view(page, 'upload');
    await page.getByRole('progressbar', { name: 'Upload' }).waitFor();
    await stop.waitFor();
    release();
    const row = page.locator('[data-file="rootfs-v5.0.5.squashfs"]');
    await row.getByText('Signature valid, fits this gateway').waitFor();
    await stop.waitFor({ state: 'detached' });
    await page.unroute(sent);
    assert.equal(await page.evaluate(() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))), true, 'the browser asks though nothing is under way');
    assert.equal(await row.locator('p.text').textContent(), description);
    await picture(page, 'upload', 'dashboard-upload');
    await row.getByRole('button', { name: 'Deploy' }).click();
    const dialog = page.getByRole('dialog', { name: /Deploy/ });
    await dialog.getByRole('radio', { name: 'In the update window' }).check();
    await dialog.getByRole('button', { name: 'Deploy', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    await page.locator('#job-id').getByText('DEP-').waitFor();
    await page.getByText('Waits for the next update window.').waitFor();
    const job = async () => (await device.api('/updates/jobs?limit=1')).body.jobs[0];
    const { deployment_id, kind, status, version, install } = await job();
    assert.match(deployment_id, /^DEP-/);
    assert.deepEqual([kind, status, version, install.strategy], ['deployment', 'scheduled', 'v5.1.0-custom', 'maintenance_window']);
    await row.locator('[data-key^="deploy-"][aria-disabled="true"]').waitFor();
    await page.locator('#job').getByRole('button', { name: 'Cancel' }).click();
    const cancel = page.getByRole('dialog', { name: /Cancel OTA-JOB-/ });
    await cancel.getByLabel('Reason').fill(hostile('reason'));
    await cancel.getByRole('button', { name: 'Cancel the job' }).click();
    await page.locator('#job-badge').getByText('Cancelled').waitFor();
    assert.deepEqual([(await job()).status, (await job()).cancel_reason], ['cancelled', hostile('reason')]);
    // What the job had switched off is on again.
    await row.locator('[data-key^="deploy-"]:not([aria-disabled])').waitFor();
    await page.locator('#job').getByRole('button', { name: 'Dismiss' }).click();
    await row.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog', { name: /Remove/ }).getByRole('button', { name: 'Remove', exact: true }).click();
    await row.waitFor({ state: 'detached' });
    world.cancelled = true;
  });

  test('who logs out while an image is sent is asked first, and nothing of it is left for who comes next', async () => {
    const { browser, device } = world;
    const page = await open(browser, device);
    await logIn(page, device.token);
    await page.route((url) => url.pathname === '/api/v1/ota/upload', (asked) => (asked.request().method() === 'POST' ? null : asked.continue()));
    await view(page, 'upload');
    await page.getByLabel('Choose files').setInputFiles([device.file('images/rootfs-v5.0.5.squashfs')]);
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    await page.getByRole('button', { name: 'Stop', exact: true }).waitFor();
    await record(page);
    const ask = async (answer) => {
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByRole('dialog', { name: 'Log out?' }).getByRole('button', { name: answer, exact: true }).click();
    };
    await ask('Cancel');
    await page.getByRole('progressbar', { name: 'Upload' }).waitFor();
    await ask('Log out');
    await page.getByLabel('Token').waitFor();
    await page.waitForFunction(() => window.dispatchEvent(new Event('beforeunload', { cancelable: true })));
    await logIn(page, device.token);
    await view(page, 'upload');
    await page.getByText('Images on the gateway').waitFor();
    assert.equal(await page.locator('#view .problem, #view .upload-progress').count(), 0);
    assert.deepEqual(await page.evaluate(() => window.told.filter(([place, text]) => place === 'notifications' && /upload|verdict/i.test(text))), []);
    await page.context().close();
  });

  test('a checksum file with its signature vouches for an image that has none of its own', async () => {
    const { page, device } = world;
    await view(page, 'upload');
    const image = device.file('images/rootfs-v5.0.5.squashfs');
    const folder = fs.mkdtempSync(path.join(out, 'sums-'));
    const sums = path.join(folder, 'SHA512SUMS');
    fs.writeFileSync(sums, execFileSync('sha512sum', [path.basename(image)], { cwd: path.dirname(image) }));
    device.sign(sums);
    await page.getByLabel('Choose files').setInputFiles([`${sums}.p7s`]);
    await page.getByText('The image is still missing.').waitFor();
    await page.getByText('The checksum file that the signature is of is still missing.').waitFor();
    await page.getByRole('button', { name: 'Choose others' }).click();
    await page.getByText('The image is still missing.').waitFor({ state: 'detached' });
    await page.getByLabel('Choose files').setInputFiles([sums, image, `${sums}.p7s`]);
    await page.getByText('Checksum file: SHA512SUMS', { exact: true }).waitFor();
    await page.getByText('Signature of the checksum file: SHA512SUMS.p7s').waitFor();
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    const row = page.locator('[data-file="rootfs-v5.0.5.squashfs"]');
    await row.getByText('Signature valid, fits this gateway').waitFor();
    await row.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog', { name: /Remove/ }).getByRole('button', { name: 'Remove', exact: true }).click();
    await row.waitFor({ state: 'detached' });

    // The sum of other bytes: told, and nothing is taken.
    fs.writeFileSync(sums, `${'0'.repeat(128)}  ${path.basename(image)}\n`);
    device.sign(sums);
    await page.getByLabel('Choose files').setInputFiles([sums, image, `${sums}.p7s`]);
    await page.getByLabel('Version label').fill('v5.1.0-custom');
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    await page.getByRole('alert').getByText('OTA_007').first().waitFor();
    fs.rmSync(folder, { recursive: true });
    for (const { name } of (await device.api('/upload')).body.uploads) { await device.api(`/upload/${name}`, { method: 'DELETE' }); }
  });

  test('the history tells the rate of success and the course of a job', async () => {
    const { page } = world;
    needs(world, 'installed', 'installing restarts the gateway');
    needs(world, 'cancelled', 'an image is dropped');
    await view(page, 'history');
    await page.getByText('1 of 1 succeeded').waitFor();
    const chart = page.getByRole('img', { name: /Ended jobs by day: .*1 succeeded/ });
    await chart.waitFor();
    // One job of the three that the scale goes to: a third of the chart, whatever other rules of the style say.
    const [column, whole] = await Promise.all([chart.locator('rect.column.ok'), chart].map((found) => found.boundingBox()));
    assert.ok(column.height > whole.height / 5, `a column of ${column.height} in a chart of ${whole.height}`);
    await page.getByRole('link', { name: world.job }).click();
    await page.getByRole('heading', { name: 'Course' }).waitFor();
    await page.locator('.course', { hasText: /updates\.download.*updates\.install.*Update installed and confirmed/s }).waitFor();
    await picture(page, 'history', 'dashboard-history');
    await page.locator('table', { hasText: 'Deployment' }).getByRole('link').first().click();
    await page.getByText(hostile('reason')).first().waitFor();
  });

  test('the audit log is whole, can be filtered, and is exported as a file', async () => {
    const { page, device } = world;
    await view(page, 'audit');
    await page.getByText(/The chain is whole: \d+ records/).waitFor();
    await page.getByLabel('What', { exact: true }).selectOption('safety.');
    await page.locator('td', { hasText: 'safety.override' }).first().waitFor();
    await page.locator('td', { hasText: 'updates.download' }).first().waitFor({ state: 'detached' });
    await page.getByLabel('Result', { exact: true }).selectOption('refused');
    await until(() => page.locator('tbody tr td:nth-child(5)').allTextContents(), (found) => found.length > 0 && found.every((outcome) => outcome === 'Refused'), 'the filter by result');
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Export CSV' }).click()]);
    const csv = fs.readFileSync(await download.path(), 'utf8');
    assert.match(csv, /^seq,timestamp,actor,/);
    assert.ok(!csv.includes('updates.download'), 'the filter counts for the export');
    assert.ok(csv.trim().split('\r\n').slice(1).every((line) => line.includes(',refused,')), `the filter by result counts for the export: ${csv}`);
    await page.getByLabel('Contains').fill('CRANE_MOTION is not to be found');
    await page.getByText('No records').waitFor();
    await page.getByLabel('Contains').fill('');
    await page.locator('td', { hasText: 'safety.override' }).first().waitFor();
    await page.getByLabel('Result', { exact: true }).selectOption('');
    await page.getByLabel('What', { exact: true }).selectOption('');
    await page.locator('td', { hasText: 'updates.cancel' }).first().waitFor();
    // What has been recorded meanwhile is there when somebody looks again.
    const newest = () => page.locator('tbody tr td:first-child').first().textContent().then(Number);
    const before = await newest();
    await device.api('/updates/cancel', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
    await page.getByRole('button', { name: 'Look again' }).click();
    await until(newest, (number) => number > before, 'the newest record');
    await picture(page, 'audit', 'dashboard-audit');
  });

  test('a token is made and shown once; its viewer sees everything and may change nothing, with the reason', async () => {
    const { page, browser, device } = world;
    await view(page, 'system');
    await page.getByRole('button', { name: 'Make a token…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Make a token' });
    await dialog.getByLabel('Name').fill('wall-screen');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    const shown = page.getByRole('dialog', { name: 'Token wall-screen' });
    const token = await shown.locator('#new-token').textContent();
    // Over plain http a browser has no clipboard.
    await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true }));
    await record(page);
    await shown.getByRole('button', { name: 'Copy' }).click();
    await told(page, 'notifications', /The token is selected/);
    assert.equal((await page.evaluate(() => String(getSelection()))).trim(), token);
    await shown.getByRole('button', { name: 'Close' }).first().click();
    await shown.waitFor({ state: 'detached' });
    await page.getByRole('row', { name: /wall-screen/ }).waitFor();
    assert.ok(!(await page.content()).includes(token));

    const viewer = await open(browser, device, { viewport: { width: 2560, height: 1440 }, colorScheme: 'dark' });
    await logIn(viewer, token);
    await picture(viewer, 'wall', 'dashboard-wall');
    await view(viewer, 'updates');
    const button = viewer.getByRole('button', { name: 'Download' }).and(viewer.locator('[aria-disabled="true"]')).first();
    await button.waitFor();
    assert.match(await button.getAttribute('title'), /needs the role operator; you are logged in as viewer/);
    await view(viewer, 'audit');
    await viewer.getByText('This needs the role admin').waitFor();
    await view(viewer, 'system');
    assert.match(await viewer.getByRole('button', { name: 'Compliance report as CSV' }).getAttribute('title'), /needs the role admin/);
    await page.getByRole('button', { name: 'Revoke wall-screen' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke', exact: true }).click();
    await viewer.getByLabel('Token').waitFor();
    await viewer.context().close();
  });

  test('the PIN is changed only with the present one', async () => {
    const { page, device } = world;
    await view(page, 'system');
    const set = async (present, next, again) => {
      await page.getByLabel('Present PIN').fill(present);
      await page.getByLabel('New PIN', { exact: false }).first().fill(next);
      await page.getByLabel('New PIN once more').fill(again);
      await page.getByRole('button', { name: 'Set the PIN' }).click();
    };
    await set(device.pin, '84210', '84211');
    await page.getByRole('alert').getByText('The two new PINs differ.').waitFor();
    await set('0000', '84210', '84210');
    await page.getByRole('alert').getByText('OTA_010').waitFor();
    await record(page);
    await set(device.pin, '84210', '84210');
    await told(page, 'notifications', /The PIN is set/);
    world.pin = '84210';
    await picture(page, 'system', 'dashboard-system');
  });

  test('a limit on downloads is set and lifted', async () => {
    const { page, device } = world;
    await view(page, 'system');
    const limit = page.getByLabel('Limit in MB/s');
    await limit.fill('2.5');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText(/Downloads take at most 2\.5 ?MB\/s/).waitFor();
    assert.equal((await device.api('/settings/bandwidth')).body.bytes_per_second, 2_500_000);
    await limit.fill('');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText('Downloads take what the network gives.').waitFor();
    assert.equal((await device.api('/settings/bandwidth')).body.bytes_per_second, null);
  });

  test('a snapshot is taken with a description, and puts settings back; its PIN is asked for when the gateway wants it', async () => {
    const { page, device } = world;
    await view(page, 'system');
    const site = device.file('settings/site.toml');
    const before = fs.readFileSync(site, 'utf8');
    await page.getByRole('button', { name: 'Take a snapshot…' }).click();
    const taking = page.getByRole('dialog', { name: 'Take a snapshot' });
    await taking.getByLabel('Description').fill(hostile('before the season'));
    await taking.getByRole('button', { name: 'Take it' }).click();
    const row = page.getByRole('table', { name: 'Snapshots' }).locator('tbody tr', { hasText: hostile('before the season') });
    await row.waitFor();
    fs.writeFileSync(site, 'site = "wrong"\n');
    await picture(page, 'system-snapshots', 'dashboard-snapshots');
    await row.getByRole('button', { name: /^Restore SNAP-/ }).click();
    const dialog = page.getByRole('dialog', { name: /^Restore SNAP-/ });
    assert.equal(await dialog.getByLabel('PIN').count(), 0);
    await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
    await dialog.getByRole('alert').waitFor();
    assert.notEqual(fs.readFileSync(site, 'utf8'), before);
    await dialog.getByLabel('PIN').fill(world.pin ?? device.pin);
    await record(page);
    await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    await told(page, 'notifications', /restored|put back/i);
    assert.equal(fs.readFileSync(site, 'utf8'), before);
  });

  test('a debug bundle and the report of each format are saved as files', async () => {
    const { page, device } = world;
    await view(page, 'system');
    const saved = async (button) => {
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: button }).click()]);
      return [download.suggestedFilename(), fs.readFileSync(await download.path())];
    };
    const [name, bundle] = await saved('Make a debug bundle');
    assert.match(name, /^debug-bundle-SN123456789\.tar\.gz$/);
    assert.deepEqual([...bundle.subarray(0, 2)], [0x1f, 0x8b]);
    const texts = execFileSync('tar', ['-xzO'], { input: bundle, maxBuffer: 64 << 20 }).toString();
    assert.ok(texts.includes('IGW-5000') && texts.includes('ota_up 1'), 'little is in the bundle');
    assert.ok(!texts.includes(device.token), 'the token is in the bundle');
    for (const [format, sign] of [['HTML', '<!doctype html'], ['CSV', 'begins,tried'], ['JSON', '{']]) {
      const [file, text] = await saved(`Compliance report as ${format}`);
      assert.ok(file.endsWith(`.${format.toLowerCase()}`) && text.toString().toLowerCase().includes(sign), `${file}: ${text.toString().slice(0, 80)}`);
    }
  });

  test('a factory reset needs the typed sentence', async () => {
    const { page, device } = world;
    await view(page, 'system');
    await page.getByRole('button', { name: 'Factory reset…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Factory reset' });
    await dialog.getByLabel('Type: I understand').fill('I understand');
    await dialog.getByLabel('PIN').fill(world.pin ?? device.pin);
    await dialog.getByRole('button', { name: 'Erase everything' }).click();
    await dialog.getByRole('alert').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await dialog.waitFor({ state: 'detached' });
  });

  test('a rollback with the PIN goes back to the old version', async () => {
    const { page, device } = world;
    needs(world, 'installed', 'installing restarts the gateway');
    await view(page, 'system');
    await page.getByRole('button', { name: 'Roll back…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Roll back to v5.0.4?' });
    await dialog.getByLabel('PIN').fill(world.pin ?? device.pin);
    await dialog.getByLabel('Reason').fill('New version has compatibility issues');
    await dialog.getByRole('button', { name: 'Roll back' }).click();
    // The simulated device restarts within moments, so the page may or may not have missed it: what it shows then counts.
    await page.getByRole('link', { name: 'Overview' }).click();
    await page.getByRole('row', { name: /^A running v5\.0\.4/ }).waitFor(RESTARTING);
    await page.locator('#job-badge').getByText('Succeeded').waitFor();
  });

  test('an image whose health checks fail is taken back by the gateway itself; job, slots and history say why', async () => {
    const { page, device } = world;
    const before = (await device.api('/system/status')).body.partitions.active;
    const image = path.join(out, 'unhealthy.squashfs');
    device.image(image, '5.0.7', 'unhealthy');
    device.sign(image);
    await view(page, 'upload');
    await page.getByLabel('Choose files').setInputFiles([image, `${image}.p7s`]);
    await page.getByLabel('Version label').fill('v5.0.7');
    await page.getByRole('button', { name: 'Upload and verify' }).click();
    const row = page.locator('[data-file="unhealthy.squashfs"]');
    await row.getByText('Signature valid, fits this gateway').waitFor();
    await record(page);
    await row.getByRole('button', { name: 'Deploy' }).click();
    await page.getByRole('dialog', { name: /Deploy/ }).getByRole('button', { name: 'Deploy', exact: true }).click();
    await view(page, 'overview');
    // Two restarts: into the new version, and back out of it.
    await page.locator('#job-badge').getByText('Rolled back').waitFor({ timeout: 2 * RESTARTING.timeout });
    await live(page);
    await page.getByRole('img', { name: new RegExp(`Slot ${before.name}: ${before.version}, good, running, boots next.*Slot .: v5.0.7, bad`) }).waitFor();
    const [job] = (await device.api('/updates/jobs?limit=1')).body.jobs;
    assert.deepEqual([job.status, job.version, job.failure.reason], ['rolled_back', 'v5.0.7', 'health_check']);
    const why = /health check system did not pass in 20 s/;
    assert.match(job.failure.message, why);
    await page.locator('#job').getByText(why).waitFor();
    await page.getByRole('region', { name: 'Last update' }).getByText('Rolled back').waitFor();
    await page.locator('#safety-light[data-status="ok"]').waitFor();
    await picture(page, 'rolled-back', 'dashboard-rolled-back');
    await view(page, 'history');
    await page.getByRole('row', { name: /v5\.0\.7.*Rolled back/ }).waitFor();
    await view(page, `history/${job.job_id}`);
    await page.locator('.course').getByText(why).first().waitFor();
    await page.locator('#job').getByRole('button', { name: 'Dismiss' }).click();
  });
}
