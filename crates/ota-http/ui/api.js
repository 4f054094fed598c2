// The gateway's API as functions. Knows nothing of the page.

export const API = '/api/v1/ota';

/** How long an answer may take, in milliseconds. */
const TIME_LIMIT = 30000;
/** Of what asks other servers, or reads or writes a whole image, log or folder before it answers: more than the gateway itself allows for it. */
const SLOW = [
  [/^\/updates\/(check|download)/, 180000], [/^\/(reports|debug-bundle)/, 180000],
  [/^\/(upload\/|snapshots|factory-reset|audit|updates\/rollback)/, 600000],
];
const limitOf = (path) => SLOW.find(([what]) => what.test(path))?.[1] ?? TIME_LIMIT;

/** A refusal: the gateway's envelope, or the reason why none came. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.message || 'The gateway did not say why.');
    this.status = status;
    this.code = body.code || '';
    this.name = body.name || '';
    this.details = body.details || {};
    this.actions = body.suggested_actions || [];
    this.requestId = body.request_id || '';
    this.retryAfter = body.retry_after || null;
  }
  /** Whether this gateway does not have the endpoint. */
  get missing() { return this.status === 404 && this.code === 'NOT_FOUND'; }
}

const listeners = { lost: [], reached: [] };
/** `on('lost', f)`: the session has ended, or was none. `on('reached', f)`: the gateway answered, or `false`: it did not. */
export const on = (what, f) => listeners[what].push(f);
const tell = (what, value) => listeners[what].forEach((f) => f(value));

async function send(path, options) {
  let answer;
  const stop = new AbortController();
  const limit = limitOf(path);
  const timer = setTimeout(() => stop.abort(), limit);
  try {
    answer = await fetch(API + path, { ...options, signal: stop.signal, credentials: 'same-origin' });
    tell('reached', true);
    return { answer, body: options.raw && answer.ok ? await answer.blob() : await read(answer) };
  } catch (error) {
    // The page gave up, which says nothing of the gateway: it may still be at it.
    if (stop.signal.aborted) { throw new ApiError(0, { code: 'NO_ANSWER', name: 'NO_ANSWER', message: `No answer within ${limit / 1000} s.`, suggested_actions: ['The gateway may still be at it: look what has become of it before you ask again', 'Check the network between this browser and the gateway'] }); }
    if (answer) { throw error; }
    tell('reached', false);
    throw new ApiError(0, { code: 'UNREACHABLE', name: 'UNREACHABLE', message: 'The gateway does not answer.', suggested_actions: ['Check the network between this browser and the gateway', 'Wait: a restarting gateway answers again by itself'] });
  } finally { clearTimeout(timer); }
}

async function read(answer) {
  const text = await answer.text();
  try { return JSON.parse(text); } catch { return { message: answer.ok ? text : `The gateway answered ${answer.status}.` }; }
}

/** Asks; gives the body, throws an `ApiError`. */
export async function call(method, path, body, more = {}) {
  const options = { method, ...more };
  if (body !== undefined) {
    options.headers = { 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  const { answer, body: said } = await send(path, options);
  if (answer.ok) { return said; }
  if (answer.status === 401 && !(method === 'POST' && path === '/auth/session')) { tell('lost'); }
  throw new ApiError(answer.status, { ...said, retry_after: Number(answer.headers.get('Retry-After')) || null });
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);
export const del = (path, body) => call('DELETE', path, body);
export const change = (path, body) => call('PUT', path, body);
/** As `get`, but `null` where this gateway does not have the endpoint. */
export const maybe = (path) => get(path).catch((error) => { if (error.missing) { return null; } throw error; });

/** Kept over a reload, for all tabs: somebody has logged out here, and the gateway has not heard of it. The cookie that it would take back is out of a script's reach. */
const LEFT = 'ota-logged-out';
let left = null;
export function untold() {
  try { return localStorage.getItem(LEFT); } catch { return left; }
}
function remember(what) {
  left = what;
  try { if (what) { localStorage.setItem(LEFT, what); } else { localStorage.removeItem(LEFT); } } catch { /* forbidden: this page remembers */ }
}

let telling = null;
/** Tells the gateway of a log-out that it has not heard of; gives whether it knows now. */
export async function tellLogOut() {
  if (!untold()) { return true; }
  telling ||= del('/auth/session').then(() => true, (error) => error.status === 401).finally(() => { telling = null; });
  const known = await telling;
  if (known) { remember(null); }
  return known;
}

/** Logs out; gives whether the gateway knows of it. */
export function logOut() {
  remember('yes');
  return tellLogOut();
}

/** Logs in; gives the session. From then on the browser's cookie proves it; no script can read that, and the token is kept nowhere. */
export async function logIn(token) {
  // First what was before: later it would end the new session.
  await tellLogOut();
  const session = await post('/auth/session', { token });
  remember(null);
  return session;
}

/** Sends a form with progress: `fetch` tells none of it. Gives `{ promise, abort }`. */
export function upload(path, form, onProgress) {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.open('POST', API + path);
    request.upload.onprogress = (event) => { if (event.lengthComputable) { onProgress(event.loaded, event.total); } };
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* the status says it */ }
      if (request.status >= 200 && request.status < 300) { resolve(body); return; }
      if (request.status === 401) { tell('lost'); }
      reject(new ApiError(request.status, body));
    };
    request.onerror = () => reject(new ApiError(0, { code: 'UNREACHABLE', message: 'The upload broke off.', suggested_actions: ['Check the network and send the file again', 'A file over the limit, or a stalled connection, is cut off by the gateway'] }));
    request.onabort = () => reject(new ApiError(0, { code: 'ABORTED', message: 'The upload was stopped; the gateway keeps nothing of it.' }));
    request.send(form);
  });
  return { promise, abort: () => request.abort() };
}
