// The dashboard, view by view, in one browser on one device; the order is that of a working day. Each file of tests registers
// its own with the world they share.

import { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { start } from './device.js';
import { COUNTDOWN, complaints, launch } from './page.js';
import arriving from './arriving.js';
import looking from './looking.js';
import operating from './operating.js';
import safety from './safety.js';
import resetting from './resetting.js';
import updating from './updating.js';
import attacks from './attacks.js';

/** So many hours from now, as a window's time of day in UTC. */
const hour = (ahead) => `${String((new Date().getUTCHours() + ahead) % 24).padStart(2, '0')}:00`;
/** Neither is open while the tests run. */
const WINDOWS = [['night', 'update', 3, 5], ['calibration', 'service', 8, 10]].map(([name, kind, from, to]) => `[[safety.windows]]\nname = "${name}"\nkind = "${kind}"\nzone = "UTC"\nweekly = "daily ${hour(from)}-${hour(to)}"\n`).join('\n');

/** What needs the PIN by default, an install and a restore, which then ask for it when the gateway does. */
const PIN = '\n[pin]\nrequire_for = ["rollback", "factory_reset", "override", "deploy_unverified", "install", "restore"]\n';
/** For all of it: a busy machine takes minutes. Each wait in the tests has its own limit. */
const TIMEOUT = 1_200_000;

const world = {};

// A device that is still on keeps this program, too.
setTimeout(() => process.exit(1), TIMEOUT + 60_000).unref();

describe('the dashboard', { concurrency: 1, timeout: TIMEOUT }, () => {
  before(async () => {
    [world.device, world.browser] = await Promise.all([start({ size: 16, bytesPerSecond: 3_000_000, countdown: COUNTDOWN, safety: WINDOWS + PIN }), launch()]);
  });

  for (const tests of [arriving, attacks, safety, updating, operating, looking, resetting]) { tests(world); }

  after(async () => {
    await world.browser?.close();
    await world.device?.stop();
    assert.deepEqual(complaints, [], 'pages complained');
  });
});
