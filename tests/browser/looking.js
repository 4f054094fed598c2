// Every view on a phone, on a wall screen, in the dark and in the light, judged by axe; and what all of it costs at the end of a day.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { BUDGET, VIEWS, accessible, fits, live, logIn, metered, open, picture, view } from './page.js';

export default function looking(world) {
  for (const [scheme, width, height] of [['light', 1360, 900], ['dark', 1360, 900], ['light', 360, 740], ['dark', 360, 740], ['dark', 2560, 1440]]) {
    test(`every view is accessible and fits at ${width} px, ${scheme}`, async () => {
      const page = await open(world.browser, world.device, { viewport: { width, height }, colorScheme: scheme, reducedMotion: 'reduce' });
      await logIn(page, world.device.token);
      for (const name of VIEWS) {
        await view(page, name);
        await fits(page, name);
        // The colours are those of the wide dark window.
        if (!(width !== 1360 && scheme === 'dark')) { await accessible(page, name); }
        await picture(page, `${name}-${width}-${scheme}`, name === 'overview' && width < 2560 && !(width > 360 && scheme === 'light') ? `dashboard-overview-${width === 360 ? 'phone-' : ''}${scheme}` : null);
      }
      if (width === 360) {
        await page.getByRole('button', { name: 'Menu' }).click();
        await page.getByRole('link', { name: 'Overview' }).waitFor();
        await accessible(page, 'menu');
      }
      await page.context().close();
    });
  }

  test('the colours follow the browser until somebody chooses, and the choice stays', async () => {
    const page = await open(world.browser, world.device, { colorScheme: 'dark' });
    await logIn(page, world.device.token);
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const choose = (now) => page.getByRole('button', { name: `Colours: ${now}` }).click();
    const dark = await ground();
    await choose('auto');
    const light = await ground();
    assert.notEqual(light, dark, 'light, chosen in a dark browser');
    await page.reload();
    await live(page);
    assert.equal(await ground(), light);
    await page.emulateMedia({ colorScheme: 'light' });
    await choose('light');
    assert.equal(await ground(), dark, 'dark, chosen in a light browser');
    await choose('dark');
    assert.equal(await ground(), light, 'as the browser has it');
    await page.context().close();
  });

  test('after a day of updates, alerts and people every view together still costs less than 150 KiB', async () => {
    const page = await open(world.browser, { url: 'about:blank' });
    const meter = await metered(page);
    await page.goto(world.device.url);
    await logIn(page, world.device.token);
    for (const name of VIEWS) { await view(page, name); }
    console.log(`${meter.sent} bytes in ${meter.requests} requests with every view, logged in`);
    assert.ok(meter.sent < BUDGET, `${meter.sent} bytes`);
    await page.context().close();
  });
}
