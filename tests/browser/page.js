// What the tests do with pages: open, log in, look, judge.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { docs, out } from './device.js';

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((file) => fs.existsSync(file));

/** Patience with a busy machine. */
export const PATIENCE = Number(process.env.OTA_BROWSER_PATIENCE || 60000);
/** Seconds that a restart is announced before: enough to look and to click on a busy machine. */
export const COUNTDOWN = 30;
/** For what comes behind a restart: the same patience, once the countdown is over. */
export const RESTARTING = { timeout: PATIENCE + COUNTDOWN * 1000 };
export const VIEWS = ['overview', 'updates', 'safety', 'upload', 'history', 'audit', 'system'];

export async function launch() {
  assert.ok(CHROMIUM, 'Chromium is missing: apt-get install chromium');
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
}

/** What went wrong in any page: errors, and refusals of the content security policy. */
export const complaints = [];

/** A page of a session of its own. */
export async function open(browser, device, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: 'light', locale: 'en-GB', timezoneId: 'UTC', ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  listen(page);
  await page.goto(device.url);
  return page;
}

export function listen(page) {
  page.on('pageerror', (error) => complaints.push(error.stack));
  page.on('console', (message) => { if (/content security policy|trusted ?types?/i.test(message.text())) { complaints.push(message.text()); } });
  page.on('dialog', (box) => { complaints.push(`a dialog of the browser: ${box.message()}`); box.dismiss(); });
}

export async function logIn(page, token) {
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await live(page);
}

export const live = (page) => page.locator('#link[data-status="live"]').waitFor();

/** Shows a view and waits until it has loaded. */
export async function view(page, name) {
  await page.evaluate((hash) => { location.hash = hash; }, `#/${name}`);
  await page.locator(`body[data-view="${name.split('/')[0]}"] #view .card`).first().waitFor();
  await page.locator('#view .loading').first().waitFor({ state: 'detached' });
}

/** Lets the page write down what its banners and notices say from now on: a notice is gone after some seconds. */
export async function record(page) {
  await page.evaluate(() => {
    const places = window.told === undefined ? ['banners', 'notifications'] : [];
    window.told = [];
    for (const place of places) {
      const node = document.getElementById(place);
      new MutationObserver(() => { window.told.push([place, node.textContent]); }).observe(node, { childList: true, subtree: true, characterData: true });
    }
  });
}

/** Waits until `place`, `banners` or `notifications`, has said since `record` what the pattern matches. */
export const told = (page, place, pattern, options) => page.waitForFunction(([where, source, flags]) => window.told.some(([from, text]) => from === where && new RegExp(source, flags).test(text)), [place, pattern.source, pattern.flags], options);

/** For a test that goes on where an earlier one ended: says so, when that one has failed. */
export function needs(world, what, test) {
  assert.ok(world[what] !== undefined, `this test goes on where "${test}" ended, and that has failed`);
  return world[what];
}

/** Waits until a question has the right answer. */
export async function until(ask, holds, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (holds(answer)) { return answer; }
    assert.ok(Date.now() < end, `${what}: ${JSON.stringify(answer)}`);
    await new Promise((again) => { setTimeout(again, 50); });
  }
}

/** A picture, kept with the results; `doc` is its name in the documentation, which shows only `part` of it when there is one. */
export async function picture(page, name, doc, part) {
  const file = path.join(out, `${name}.png`);
  // Notices come and go; they are tested elsewhere.
  await page.evaluate(() => document.getElementById('notifications').replaceChildren());
  // What sticks to the window's edge would stand in the middle of a picture of the whole page.
  await page.evaluate(() => scrollTo(0, 0));
  // A dialog covers the window, not the page.
  const fullPage = (await page.locator('dialog[open]').count()) === 0;
  await page.screenshot({ path: file, fullPage, animations: 'disabled' });
  if (docs && doc) { fs.mkdirSync(docs, { recursive: true }); fs.copyFileSync(file, path.join(docs, `${doc}.png`)); }
  if (docs && doc && part) { await part.screenshot({ path: path.join(docs, `${doc}.png`), animations: 'disabled' }); }
}

/** No finding of axe that is serious or critical. */
export async function accessible(page, where) {
  if (!(await page.evaluate('typeof axe !== "undefined"'))) { await page.evaluate(axe); }
  const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
  const found = violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => `${v.id}: ${v.help}\n  ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join('\n  ')}`);
  assert.deepEqual(found, [], where);
}

/** Most that the dashboard may transfer. */
export const BUDGET = 150 * 1024;

/** Counts what the page transfers from now on. */
export async function metered(page) {
  const meter = { sent: 0, requests: 0 };
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  session.on('Network.loadingFinished', (event) => { meter.sent += event.encodedDataLength; meter.requests += 1; });
  return meter;
}

/** The page is not wider than the window. */
export async function fits(page, where) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window, `${where}: ${wide} px in a window of ${window}`);
}
