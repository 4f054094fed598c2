// Every view on a phone, in the dark and in the light, judged by axe.

import { test } from 'node:test';
import { VIEWS, accessible, fits, logIn, open, picture, view } from './page.js';

export default function looking(world) {
  for (const [scheme, width, height] of [['light', 1360, 900], ['dark', 1360, 900], ['light', 360, 740], ['dark', 360, 740]]) {
    test(`every view is accessible and fits at ${width} px, ${scheme}`, async () => {
      const page = await open(world.browser, world.device, { viewport: { width, height }, colorScheme: scheme, reducedMotion: 'reduce' });
      await logIn(page, world.device.token);
      for (const name of VIEWS) {
        await view(page, name);
        await fits(page, name);
        // The colours are those of the wide dark window.
        if (!(width === 360 && scheme === 'dark')) { await accessible(page, name); }
        await picture(page, `${name}-${width}-${scheme}`, name === 'overview' && !(width > 360 && scheme === 'light') ? `dashboard-overview-${width === 360 ? 'phone-' : ''}${scheme}` : null);
      }
      if (width === 360) {
        await page.getByRole('button', { name: 'Menu' }).click();
        await page.getByRole('link', { name: 'Overview' }).waitFor();
        await accessible(page, 'menu');
      }
      await page.context().close();
    });
  }
}
