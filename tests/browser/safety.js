// Safety: the light, the plot, the override.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { accessible, listen, live, open, picture, record, told, until, view } from './page.js';

export default function safety(world) {
  test('a violation lights up within a second with what to do', async () => {
    const { page, device } = world;
    await view(page, 'safety');
    const light = page.locator('#safety-light');
    await page.locator('#safety-light[data-status="ok"]').waitFor();
    await record(page);
    device.sensor('crane_motion', 'moving\n');
    device.sensor('temperature', '61\n');
    await page.locator('#safety-light[data-status="held"]').waitFor();
    assert.equal(await light.textContent(), 'Held: Crane motion');
    await page.getByText('Wait for crane to stop').first().waitFor();
    await told(page, 'notifications', /Crane movement detected/);
    await page.getByRole('img', { name: /Crane motion over the last 5 minutes, now moving/ }).waitFor();
    // Each with what it reads, what it may be, and for how long it has been so.
    for (const [name, reading, limits] of [['Crane motion', 'moving', 'must be stopped'], ['High temperature', '61', 'at most 70 °C']]) {
      const panel = page.getByRole('region', { name });
      await panel.locator('.reading').getByText(reading).waitFor();
      const figure = (label) => panel.locator('dt', { hasText: label }).locator('+ dd').textContent();
      assert.equal(await figure('Limits'), limits);
      assert.match(await figure('Since'), name === 'Crane motion' ? /^(just now|\d+ s ago), / : /^(just now|\d+ (s|min) ago), /);
      assert.match(await figure('Holds back'), /the restart/);
    }
    await page.getByRole('img', { name: /High temperature over the last 5 minutes, now 61/ }).waitFor();
  });

  test('the plot of a sensor that keeps its value is a line over all the time that it was watched', async () => {
    const { page } = world;
    await view(page, 'overview');
    // Five minutes of readings as they are taken, one every two seconds, all the same.
    const name = await page.evaluate(async () => {
      const [{ sample, state }, { number }] = await Promise.all([import('/ui/store.js'), import('/ui/text.js')]);
      const { name, value, reading, status } = state.safety.constraints.find((c) => number(c.reading) !== null);
      delete state.samples[name];
      for (let t = Date.now() - 300_000; t < Date.now(); t += 2000) { sample(name, { t, v: value ?? number(reading), k: status }); }
      return name;
    });
    await view(page, 'safety');
    const shown = name.charAt(0).toUpperCase() + name.slice(1).replaceAll('_', ' ');
    const plot = page.getByRole('img', { name: new RegExp(`^${shown} over the last 5 minutes`) });
    await plot.waitFor();
    // One that is drawn anew at this moment has no width.
    const widths = () => plot.evaluate((node) => [...node.querySelectorAll('path.line'), node].map((one) => one.getBBox().width));
    const [drawn, all] = await until(widths, (found) => found.length === 2 && found[1] > 0, 'a line without a gap');
    assert.ok(drawn > all * 0.7, `a line of ${drawn} in a plot of ${all}`);
    const points = await page.evaluate(async (of) => (await import('/ui/store.js')).state.samples[of].length, name);
    assert.ok(points < 60, `${points} points for five quiet minutes`);
  });

  test('a plot has a scale of two marks at least, whatever its highest value', async () => {
    const poor = await world.page.evaluate(async () => {
      const { ticks } = await import('/ui/charts.js');
      const highest = [0.4e6, 4e6, 4.4e6, 5.2e6, 9.9e6, 1, 0.12, 123];
      return highest.filter((high) => { const marks = ticks(0, high * 1.12, 2); return marks.length < 2 || marks[0] !== 0 || marks.at(-1) > high * 1.13; });
    });
    assert.deepEqual(poor, []);
  });

  test('the override asks for PIN, reason and consent, tells a wrong PIN, counts down, and ends on demand', async () => {
    const { page, device } = world;
    await view(page, 'safety');
    device.sensor('crane_motion', 'moving\n');
    await page.locator('#safety-light[data-status="held"]').waitFor();
    await page.getByRole('button', { name: 'Override…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Override safety constraints' });
    await accessible(page, 'override dialog');
    const fill = async (pin) => {
      await dialog.getByLabel('PIN').fill(pin);
      await dialog.getByLabel('Reason').fill('Emergency security update');
      await dialog.getByLabel('Duration').selectOption('300');
      await dialog.getByLabel('I know who').check();
      await dialog.getByRole('button', { name: 'Override', exact: true }).click();
    };
    await fill('0000');
    const refusal = dialog.getByRole('alert');
    await refusal.waitFor();
    assert.match(await refusal.textContent(), /OTA_010 INVALID_PIN.*Attempts left\s*\d/s);
    await picture(page, 'safety-override', 'dashboard-override');
    await fill(device.pin);
    await dialog.waitFor({ state: 'detached' });
    await page.locator('#safety-light[data-status="overridden"]').waitFor();
    const left = page.locator('#override-left');
    const before = await left.textContent();
    assert.match(before, /^0\d:\d\d$/);
    await page.waitForFunction((was) => document.getElementById('override-left')?.textContent !== was, before);
    await page.getByText('Emergency security update').first().waitFor();
    await accessible(page, 'active override');
    await picture(page, 'safety', 'dashboard-safety');
    const override = async () => (await device.api('/safety/status')).body.override;
    assert.deepEqual((await override()).constraints_overridden, ['crane_motion']);
    // Above every other view its clock runs, and nothing else is touched: neither the focus, nor what a screen reader would tell again.
    await view(page, 'overview');
    await page.locator('.banner[data-key="override"]').getByRole('link', { name: 'End it' }).focus();
    await page.evaluate(() => {
      window.touched = [];
      const running = (node) => (node instanceof Element ? node : node.parentElement)?.closest('[role=timer]');
      const watcher = new MutationObserver((changes) => { window.touched.push(...changes.filter((change) => !running(change.target)).map((change) => change.target.textContent)); });
      for (const id of ['banners', 'link-word']) { watcher.observe(document.getElementById(id), { childList: true, subtree: true, characterData: true }); }
    });
    for (let second = 0; second < 2; second += 1) {
      const clock = await page.locator('.banner [role=timer]').textContent();
      await page.waitForFunction((was) => document.querySelector('.banner [role=timer]').textContent !== was, clock);
    }
    assert.deepEqual(await page.evaluate(() => [document.activeElement.textContent, window.touched]), ['End it', []]);
    // A browser whose clock is an hour ahead counts what the gateway says is left.
    const ahead = await page.context().newPage();
    listen(ahead);
    await ahead.addInitScript(() => { const { now } = Date; Date.now = () => now() + 3_600_000; });
    await ahead.goto(device.url);
    await live(ahead);
    assert.match(await ahead.locator('.banner[data-key="override"] [role=timer]').textContent(), /^0[1-4]:\d\d$/);
    await ahead.close();
    await page.keyboard.press('Enter');
    await page.locator('body[data-view="safety"]').waitFor();
    await page.getByRole('button', { name: 'End the override now' }).click();
    await page.locator('#safety-light[data-status="held"]').waitFor();
    assert.equal(await override(), undefined, 'the device still has the override');
    device.sensor('crane_motion', 'stopped\n');
    await page.locator('#safety-light[data-status="ok"]').waitFor();
    const audit = await device.api('/audit?action=safety.override');
    assert.deepEqual(audit.body.records.map((r) => r.outcome).filter((o) => o === 'refused'), ['refused']);
  });

  test('the windows of the coming days are a strip and a list', async () => {
    const { page } = world;
    await view(page, 'safety');
    const strip = page.getByRole('img', { name: /^Windows of the next 7 days: .*update night from .*service calibration from/ });
    await strip.waitFor();
    // Each is there on every day but, where its next time is tomorrow, the first.
    for (const kind of ['update', 'service']) { await strip.locator(`rect.window.${kind}`).nth(5).waitFor({ state: 'attached' }); }
    assert.equal(await strip.locator('line.now-line').count(), 1);
    const rows = page.getByRole('table', { name: 'Next windows' }).locator('tbody tr');
    await until(() => rows.count(), (count) => count === 10, 'openings');
    assert.match(await rows.first().textContent(), /night.*Update.*in \d+ (h|hours?|min)/i);
    assert.match(await rows.nth(1).textContent(), /calibration.*Service/i);
  });

  test('on a day that the clocks change, windows stand at the hours of the clock on the wall', async () => {
    const page = await open(world.browser, { url: 'about:blank' }, { timezoneId: 'Europe/Berlin' });
    await page.clock.setFixedTime('2026-10-24T10:00:00Z');
    await page.goto(world.device.url);
    const drawn = await page.evaluate(async () => {
      const { agenda, strip } = await import('/ui/windows.js');
      const drawing = strip(agenda({ windows: [
        { name: 'morning', kind: 'update', opens_at: '2026-10-25T10:00:00+01:00', closes_at: '2026-10-25T12:00:00+01:00' },
        { name: 'night', kind: 'update', opens_at: '2026-10-25T23:00:00+01:00', closes_at: '2026-10-26T01:00:00+01:00' },
      ] }), 1000);
      const number = (node, name) => Number(node.getAttribute(name));
      const days = [...drawing.querySelectorAll('.band-back')];
      return days.flatMap((day, n) => [...drawing.querySelectorAll('.window')].filter((one) => Math.abs(number(one, 'y') - number(day, 'y')) < 5).map((one) => {
        const hour = (x) => Math.round(((x - number(day, 'x')) / number(day, 'width')) * 24);
        return [n, hour(number(one, 'x')), hour(number(one, 'x') + number(one, 'width'))];
      }));
    });
    assert.deepEqual(drawn, [[1, 10, 12], [1, 23, 24], [2, 0, 1]]);
    await page.context().close();
  });

  test('a strip that shows fewer days than it has room for says where it ends', async () => {
    const { page } = world;
    const end = page.getByText(/The gateway tells 100 openings at once: the strip ends with/);
    // Every half hour from now on: two days of them.
    const at = (n) => new Date(Date.now() + n * 1800e3).toISOString();
    const windows = Array.from({ length: 100 }, (_, n) => ({ name: 'rounds', kind: 'service', opens_at: at(n + 1), closes_at: at(n + 1.5), duration_seconds: 900 }));
    const route = '**/safety/windows?*';
    await page.route(route, (asked) => asked.fulfill({ json: { clock_trusted: true, windows } }));
    await view(page, 'overview');
    await view(page, 'safety');
    await end.waitFor();
    await page.unroute(route);
    await view(page, 'overview');
    await view(page, 'safety');
    await page.getByRole('img', { name: /^Windows of the next 7 days: .*update night from/ }).waitFor();
    assert.equal(await end.count(), 0);
  });

  test('an inhibitor is taken, holds updates back, is renewed and released', async () => {
    const { page, device } = world;
    await view(page, 'safety');
    await page.locator('#safety-light[data-status="ok"]').waitFor();
    await page.getByText('Hold updates back', { exact: true }).click();
    await page.getByLabel('Who').fill('Quay 7 <b>crew</b>');
    await page.getByLabel('Reason').fill('calibration of the scale');
    const minutes = page.getByLabel('For how many minutes');
    await minutes.fill('240');
    await page.getByRole('button', { name: 'Hold back' }).click();
    // More than the gateway gives: it says how much that is.
    await page.getByText('An inhibitor lasts from 1 s to 3600 s without a renewal').first().waitFor();
    await minutes.fill('15');
    await page.getByRole('button', { name: 'Hold back' }).click();
    const row = page.getByRole('row', { name: /Quay 7 <b>crew<\/b>/ });
    await row.waitFor();
    await page.getByText('Updates are held back').waitFor();
    await page.locator('#safety-light[data-status="held"]').getByText('Held: Quay 7 <b>crew</b>').waitFor();
    const ends = async () => (await device.api('/safety/inhibitors')).body.inhibitors[0].expires_at;
    const before = await ends();
    await picture(page, 'safety-inhibitor', 'dashboard-inhibitor');
    // The list is drawn anew; what somebody types beside it stays.
    await page.getByText('Hold updates back', { exact: true }).click();
    await page.getByLabel('Reason').fill('half a sentence');
    await page.getByRole('button', { name: /^Renew the inhibitor of Quay 7/ }).click();
    const renewal = page.getByRole('dialog');
    await renewal.getByLabel('For how many minutes').fill('240');
    await renewal.getByRole('button', { name: 'Renew' }).click();
    await renewal.getByText('An inhibitor lasts from 1 s to 3600 s without a renewal').first().waitFor();
    assert.equal(await ends(), before);
    await renewal.getByLabel('For how many minutes').fill('50');
    await renewal.getByRole('button', { name: 'Renew' }).click();
    await renewal.waitFor({ state: 'detached' });
    const later = (Date.parse(await ends()) - Date.parse(before)) / 60_000;
    assert.ok(later >= 35 && later < 45, `${later} minutes more than the 15 of before`);
    assert.equal(await page.getByLabel('Reason').inputValue(), 'half a sentence');
    await page.getByRole('button', { name: /^Release the inhibitor of Quay 7/ }).click();
    await row.waitFor({ state: 'detached' });
    await page.locator('#safety-light[data-status="ok"]').waitFor();
    await page.getByText('Updates may be installed now').waitFor();
  });
}
