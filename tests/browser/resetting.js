// The end of a working life: everything is erased, and the gateway comes back as new.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { RESTARTING, logIn, picture, view } from './page.js';

export default function resetting(world) {
  test('a factory reset with sentence and PIN erases everything, and the page asks for a token again', async () => {
    const { page, device } = world;
    await view(page, 'system');
    await page.getByRole('button', { name: 'Factory reset…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Factory reset' });
    await dialog.getByLabel('Type: I understand').fill('I understand this will erase all data');
    await dialog.getByLabel('PIN').fill(world.pin ?? device.pin);
    await picture(page, 'system-reset', 'dashboard-reset');
    await dialog.getByRole('button', { name: 'Erase everything' }).click();
    await dialog.waitFor({ state: 'detached' });
    const banners = page.locator('#banners');
    await banners.getByText(/Factory reset: a factory reset is scheduled for the next boot; asked for by \S*admin/).waitFor();
    await banners.locator('#reboot-countdown').waitFor();
    assert.doesNotMatch(await banners.textContent(), /Cancelling the job/);
    await page.locator('[data-key="reset"][aria-disabled="true"]').waitFor();
    await page.getByRole('button', { name: 'Log in' }).waitFor(RESTARTING);
    assert.equal((await device.api('/system/status')).status, 401, 'the old token opens a gateway that was reset');
    assert.ok(!fs.existsSync(device.file('settings/site.toml')), 'settings were left');
    await logIn(page, fs.readFileSync(device.file('state/admin.token'), 'utf8').trim());
    await view(page, 'history');
    await view(page, 'audit');
    await page.getByText(/The chain is whole: \d+ records?/).waitFor();
    await page.locator('td', { hasText: /reset/ }).first().waitFor();
    await view(page, 'system');
    // The backup of the settings outlived it.
    await page.getByRole('table', { name: 'Snapshots' }).getByRole('row', { name: /SNAP-/ }).first().waitFor();
  });
}
