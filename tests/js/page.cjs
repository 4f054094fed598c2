// The browser page around one of the spec's JavaScript programs: `node page.cjs monitor|dashboard PROGRAM BASE_URL PREFIX`.
//
// jsdom brings document, localStorage, cookies and WebSocket; `fetch`, which it lacks, is Node's with the page's address in
// front. The program is evaluated as a classic script of the page, unchanged. What it calls and does not define is the
// page's business: here such a call is written down. Every line of output is one JSON object. The token comes in the
// environment (OTA_TOKEN); the page ends with its WebSocket, with `enableInstallButton`, or with standard input.
'use strict';

const fs = require('node:fs');
const { JSDOM, CookieJar, VirtualConsole } = require('jsdom');

const [kind, program, base, prefix] = process.argv.slice(2);
const token = process.env.OTA_TOKEN;
const PAGE = `<!doctype html><title>OTA</title>
  <div id="progress-bar"></div><span id="progress-text"></span><span id="current-operation"></span>
  <div id="notifications"></div>`;
const BUSINESS = {
  monitor: ['updateETA', 'updateSystemStatus', 'showSafetyAlert', 'showActionButtons', 'showCompletionMessage',
    'enableNextStep', 'startRebootCountdown'],
  dashboard: ['renderUpdatesList', 'showError', 'startProgressMonitoring', 'updateProgressUI', 'enableInstallButton'],
};

const say = (what) => fs.writeSync(1, JSON.stringify(what) + '\n');

function end(window) {
  window.close();
  process.exit(0);
}

// A browser is logged in before it sees the page: the WebSocket of a page can send no header of its own.
async function login(jar) {
  const answer = await fetch(`${base}${prefix}/auth/session`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', origin: base },
    body: JSON.stringify({ token }),
  });
  if (!answer.ok) throw new Error(`login: ${answer.status} ${await answer.text()}`);
  for (const cookie of answer.headers.getSetCookie()) jar.setCookieSync(cookie, base);
}

function consoleOf(onLog) {
  const console = new VirtualConsole();
  console.on('log', (...args) => { say({ log: args.map(String) }); onLog(args[0]); });
  console.on('error', (...args) => say({ error: args.map(String) }));
  // What the program did not catch.
  console.on('jsdomError', (error) => say({ uncaught: String(error.cause ?? error.detail ?? error) }));
  return console;
}

function seen({ document }) {
  const text = (id) => document.getElementById(id).textContent;
  const cards = [...document.getElementById('notifications').children];
  return {
    bar: document.getElementById('progress-bar').style.width,
    text: text('progress-text'),
    operation: text('current-operation'),
    notifications: cards.map((card) => ({ class: card.className, text: card.textContent })),
  };
}

async function main() {
  const cookieJar = new CookieJar();
  if (kind === 'monitor') await login(cookieJar);
  let window;
  const virtualConsole = consoleOf((first) => {
    if (first === 'WebSocket connection closed') setImmediate(() => end(window));
  });
  ({ window } = new JSDOM(PAGE, { url: `${base}/`, runScripts: 'outside-only', cookieJar, virtualConsole }));
  window.fetch = (path, init) => fetch(new URL(path, window.location.href), init);
  for (const name of BUSINESS[kind]) window[name] = (...args) => say({ call: name, args });
  new window.MutationObserver(() => say({ page: seen(window) }))
    .observe(window.document.body, { subtree: true, childList: true, attributes: true });
  process.stdin.on('end', () => end(window)).resume();
  if (kind === 'dashboard') {
    window.localStorage.setItem('token', token);
    const told = { monitoring: window.startProgressMonitoring, install: window.enableInstallButton };
    window.startProgressMonitoring = (job) => { told.monitoring(job); window.monitorProgress(job); };
    // At once: another look that is still on its way would say it a second time.
    window.enableInstallButton = (job) => { told.install(job); end(window); };
  }
  window.eval(fs.readFileSync(program, 'utf8'));
  if (kind === 'dashboard') {
    const [update] = await window.checkForUpdates();
    say({ started: await window.startDownload(update.id, update.version) });
  }
}

main().catch((error) => { say({ uncaught: String(error.stack ?? error) }); process.exit(1); });
