// The first look: speed, size, logging in.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { BUDGET, accessible, listen, metered, live, logIn, open, picture, until } from './page.js';

/**
 * The first paint stays below a second: with empty caches and a warm browser, as often as it takes. The figure is the page's, not the
 * start of Chromium or a busy machine.
 */
async function painted({ browser, device }, what, options, look) {
  const paints = [];
  while (paints.length < 20 && !(Math.min(...paints) < 1000)) {
    const context = await browser.newContext(options);
    const fresh = await context.newPage();
    listen(fresh);
    const meter = await metered(fresh);
    await fresh.goto(device.url);
    const first = () => fresh.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity);
    paints.push(await look(fresh, first, meter));
    await context.close();
  }
  console.log(`${what}: first contentful paint ${paints.map((ms) => ms.toFixed(0)).join(', ')} ms`);
  assert.ok(Math.min(...paints) < 1000, `painted after ${paints} ms`);
}

export default function arriving(world) {
  test('the page is painted within a second and costs less than 150 KiB, all views together', async () => {
    const { browser, device } = world;
    world.page = await open(browser, device);
    let figures;
    await painted(world, 'the log-in page', {}, async (fresh, first, meter) => {
      await fresh.getByLabel('Token').waitFor();
      const paint = await first();
      const sent = `${meter.sent} bytes in ${meter.requests} requests to the log-in page`;
      for (const name of ['safety', 'upload', 'history', 'audit', 'system']) { await fresh.evaluate((file) => import(`/ui/${file}.js`), name); }
      figures = { first: sent, ...meter };
      return paint;
    });
    const { first, sent, requests } = figures;
    console.log(`${first}, ${sent} bytes in ${requests} with every view`);
    assert.ok(sent < BUDGET, `${sent} bytes`);
  });

  test('a wrong token is refused with what to do and the id of the request', async () => {
    const { page } = world;
    await accessible(page, 'log in');
    await picture(page, 'login', 'dashboard-login');
    await page.getByLabel('Token').fill('ota_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    const refusal = page.getByRole('alert');
    await refusal.waitFor();
    const text = await refusal.textContent();
    assert.match(text, /unknown, expired or revoked/);
    assert.match(text, /UNAUTHORIZED/);
    assert.match(text, /What you can do:/);
    assert.match(text, /req_[0-9a-f]{32}/);
    assert.equal(await page.getByLabel('Token').inputValue(), '');
  });

  test('a token opens the overview with slots, safety lights and events, and a reload keeps it open', async () => {
    const { page, device } = world;
    await logIn(page, device.token);
    const drawing = page.getByRole('img', { name: /Slot A: v5.0.4, good, running, boots next.*Slot B: v5.0.3, good/ });
    await drawing.waitFor();
    await page.getByText('Updates may be installed now').waitFor();
    await page.getByText('Redundant, two copies').waitFor();
    await until(() => page.locator('.lamp.ok').count(), (count) => count === 2, 'lamps');
    await page.locator('#gateway-name').getByText('iot-gateway-01', { exact: true }).waitFor();
    const running = page.getByRole('table', { name: 'Slots' }).locator('tbody tr', { hasText: 'running' });
    assert.match(await running.locator('td.figure').textContent(), /^\d+$/, 'how often it booted');
    const resources = page.getByRole('region', { name: 'Resources' }).locator('.figure');
    await until(() => resources.allTextContents(), (texts) => texts.length === 3 && texts.every((text) => /\d/.test(text)), 'resources');
    await page.getByRole('region', { name: 'Last update' }).getByText('v5.0.4', { exact: true }).waitFor();
    await page.reload();
    await live(page);
    await drawing.waitFor();
    await page.getByText('Updates may be installed now').waitFor();
    await picture(page, 'overview', 'dashboard-overview-light');
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.ok(!stored.includes(device.token), 'the token is kept where scripts can read it');
  });

  test('with a session the page is painted within a second, too', async () => {
    const storageState = await world.page.context().storageState();
    assert.equal(storageState.cookies.length, 1, 'the cookie of the session');
    await painted(world, 'the overview', { storageState }, async (fresh, first) => {
      await live(fresh);
      await fresh.getByRole('img', { name: /Slot A: v5.0.4/ }).waitFor();
      return first();
    });
  });

  test('the keyboard reaches every view, and the heading of a view is told', async () => {
    const { page } = world;
    await page.locator('#nav a').first().focus();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.locator('body[data-view="updates"]').waitFor();
    await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Updates');
    await page.waitForFunction(() => document.title === 'Updates · iot-gateway-01');
    await page.locator('#nav [aria-current="page"]').getByText('Updates', { exact: true }).waitFor();
  });
}
