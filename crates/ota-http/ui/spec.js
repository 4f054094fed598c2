// The functions of the API specification's monitoring script, with its ids: `progress-bar`, `progress-text`,
// `current-operation`, `notifications`. The dashboard drives its own page through them, and they are put on `window`, so
// that scripts written after the specification run in this page as they are.

import { byId, h, icon, say } from './dom.js';
import { state, changed } from './store.js';
import { words } from './text.js';

const STAY = 5000;
const STAY_BAD = 15000;

export function updateProgressBar(percentage) {
  const share = Math.min(100, Math.max(0, Number(percentage) || 0));
  byId('progress-bar').style.width = share + '%';
  byId('progress-text').textContent = share.toFixed(1) + '%';
  byId('progress').setAttribute('aria-valuenow', share.toFixed(0));
}

export function updateStatusMessage(operation) {
  say(byId('current-operation'), String(operation));
}

export function updateETA(eta) {
  say(byId('progress-eta'), eta ? `${eta} left` : '');
}

export function showNotification(message, severity) {
  const tone = ['success', 'info', 'warning', 'error', 'critical'].includes(severity) ? severity : 'info';
  const notification = h('div', { class: `notification ${tone}` }, h('span', { class: 'notification-text' }, message), h('button', { type: 'button', class: 'button bare', 'aria-label': 'Dismiss', onclick: () => notification.remove() }, icon('close')));
  const place = byId('notifications');
  // The same words again, one after the other, are one message.
  for (const old of place.children) { if (old.firstChild.textContent === String(message)) { old.remove(); } }
  place.append(notification);
  // On a phone they lie over what they are about.
  while (place.children.length > (innerWidth < 480 ? 2 : 4)) { place.firstChild.remove(); }
  // Open dialogs lie above everything but what became a popover later.
  if (place.showPopover) { try { place.hidePopover(); } catch { /* was not shown */ } place.showPopover(); }
  setTimeout(() => notification.remove(), tone === 'error' || tone === 'critical' ? STAY_BAD : STAY);
}

export function updateSystemStatus(systemStatus) {
  const pill = byId('system-status');
  say(pill, words(systemStatus));
  pill.dataset.status = systemStatus;
}

export function showSafetyAlert(constraint, message) {
  showNotification(`${words(constraint)}: ${message}`, 'warning');
}

export function showActionButtons(suggestedAction) {
  const place = byId('suggested-action');
  place.hidden = !suggestedAction;
  say(place.querySelector('.suggested-text'), suggestedAction || '');
}

export function showCompletionMessage(message, status) {
  showNotification(message, status === 'success' ? 'success' : status === 'cancelled' ? 'info' : 'error');
}

export function enableNextStep() {
  changed('job');
}

/** Seconds until the gateway restarts. */
export function startRebootCountdown(countdown) {
  state.reboot = { told: Date.now(), at: Date.now() + (Number(countdown) || 0) * 1000, gone: false, boot: state.status?.partitions?.active?.last_boot ?? null };
  changed('reboot');
}

export function showError(message) {
  showNotification(message, 'error');
}

Object.assign(window, {
  updateProgressBar, updateStatusMessage, updateETA, showNotification, updateSystemStatus, showSafetyAlert, showActionButtons,
  showCompletionMessage, enableNextStep, startRebootCountdown, showError,
});
