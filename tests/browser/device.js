// A simulated device of its own, with the real daemon: made, switched on, switched off. See docs/simulated-device.md.

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../..');
const bin = process.env.OTA_BIN_DIR || path.join(root, 'target/debug');

/** Where screenshots and the device go. */
export const out = process.env.OTA_BROWSER_OUT || path.join(root, 'target/browser');
/** Where the pictures of the book go when they are made anew. */
export const docs = process.env.OTA_BROWSER_DOCS || null;
/** The API's specification, as its user wrote it. */
export const specification = fs.readFileSync(path.join(root, 'tests/spec/ota-api.rst'), 'utf8');

const HOSTILE = '<img src=x onerror="window.hacked=1">"\'&<script>window.hacked=1</script>';
/** Text that would run if it became markup. */
export const hostile = (where) => `${where} ${HOSTILE}`;

const program = (name) => {
  const file = path.join(bin, name);
  if (!fs.existsSync(file)) { throw new Error(`${file} is missing: run \`cargo xtask browser\`, or \`cargo build --workspace --bins\` first`); }
  return file;
};

/** Makes a device whose images have `size` MiB, whose downloads are limited and whose restarts are announced `countdown` seconds before, and waits until its API answers. */
export async function start({ size, bytesPerSecond, countdown, safety = '' }) {
  const dir = path.join(out, 'device');
  fs.mkdirSync(out, { recursive: true });
  execFileSync(program('ota-simdevice'), ['make', '--dir', dir, '--size', String(size)], { stdio: 'ignore' });
  describe(dir);
  fs.writeFileSync(path.join(dir, 'windows.toml'), safety);
  const args = ['run', '--safety', path.join(dir, 'windows.toml'), '--dir', dir, '--gatewayd', program('ota-gatewayd'), '--with-stdin', '--bytes-per-second', String(bytesPerSecond), '--countdown', String(countdown)];
  const child = spawn(program('ota-simdevice'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const url = await new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
      const ready = /^ready (\S+)$/m.exec(text);
      if (ready) { resolve(ready[1]); }
    });
    child.on('exit', () => reject(new Error(`the device went off: ${text}`)));
  });
  const read = (name) => fs.readFileSync(path.join(dir, name), 'utf8').trim();
  return {
    url, dir, token: read('admin.token'), pin: read('pin'),
    file: (name) => path.join(dir, name),
    /** Sets a sensor, as its bridge does: a new file over the old one, which is never empty. */
    sensor: (name, value) => {
      const file = path.join(dir, 'sensors', name);
      fs.writeFileSync(`${file}.new`, value);
      fs.renameSync(`${file}.new`, file);
    },
    /** The API, asked past the browser. */
    api: async (route, options = {}) => {
      const ask = () => fetch(`${url}/api/v1/ota${route}`, { ...options, headers: { Authorization: `Bearer ${read('admin.token')}`, ...options.headers } });
      // Between two boots nobody listens.
      let answer = null;
      for (const end = Date.now() + 60_000; answer === null;) {
        answer = await ask().catch((error) => { if (Date.now() > end) { throw error; } return null; });
        if (answer === null) { await new Promise((again) => { setTimeout(again, 50); }); }
      }
      return { status: answer.status, body: await answer.json() };
    },
    /** Makes one more image, of which comes what `behaviour` says. */
    image: (file, version, behaviour) => execFileSync(program('ota-simdevice'), ['image', '--release-version', version, '--behaviour', behaviour, file], { stdio: 'ignore' }),
    /** Signs a file as the publisher does, beside it. */
    sign: (file) => {
      const key = path.join(dir, 'keys/release');
      fs.rmSync(`${file}.p7s`, { force: true });
      execFileSync(program('ota-admin'), ['sign', file, '--key', path.join(key, 'signer.key'), '--cert', path.join(key, 'signer.pem')], { stdio: 'ignore' });
    },
    stop: () => new Promise((resolve) => { child.on('exit', resolve); child.stdin.end(); }),
  };
}

/** Publishes a newer release whose description is hostile, with the publisher's own keys. */
function describe(dir) {
  const admin = (...args) => execFileSync(program('ota-admin'), ['repo', ...args], { stdio: 'ignore' });
  const where = ['--repo', path.join(dir, 'repo'), '--keys', path.join(dir, 'keys/tuf')];
  const image = path.join(dir, 'images/rootfs-v5.0.5.squashfs');
  admin('add', ...where, '--model', 'IGW-5000', '--release-version', 'v5.0.6-rc.1', '--id', 'update_hostile', '--description', hostile('description'), '--signature', `${image}.p7s`, image);
  admin('publish', ...where);
}
