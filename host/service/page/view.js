// SPDX-License-Identifier: Apache-2.0
// The state of drivers and guards, from an element of "running" of `bulkhead status --json`.
import {byId, keyed, make, plain, setText} from './dom.js';
import {releaseButton, signedIn} from './sign_in.js';

export const LEVELS = ['none', 'degraded', 'full'];
// As `bulkhead status` has them: a shim that is silent for longer does not answer.
const SHIM_SILENT_MS = 1000;
const COUNTERS_OLD_MS = 750;

export const lowest = (things) =>
  LEVELS[Math.min(2, ...things.map((thing) => Math.max(0, LEVELS.indexOf(thing.protection))))];

// Whether the counters of a driver are of now.
export const counts = (driver) => driver.counters_age_ms < COUNTERS_OLD_MS;

export function uptime(ms) {
  const seconds = Math.floor(ms / 1000), minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  const two = (number) => String(number).padStart(2, '0');
  const day = `${two(hours % 24)}:${two(minutes % 60)}:${two(seconds % 60)}`;
  return hours >= 24 ? `${Math.floor(hours / 24)} d ${day}` : day;
}

function card(title) {
  return make('li', {}, make('div', {class: 'head'}, make('h3', {}, title), make('span', {class: 'badge'})),
    make('p', {class: 'note'}), make('ul', {class: 'reasons'}), make('dl'));
}

function fillList(list, texts) {
  if (list.dataset.texts === JSON.stringify(texts)) return;
  list.dataset.texts = JSON.stringify(texts);
  list.replaceChildren(...texts.map((text) => make('li', {}, text)));
}

function fillPairs(list, pairs) {
  keyed(list, pairs.flatMap(([name, value]) => [[`dt ${name}`, name], [`dd ${name}`, value]]), ([key]) => key,
    ([key]) => make(key.slice(0, 2)), (element, [, text]) => setText(element, text));
}

function setBadge(card, protection) {
  card.querySelector('.badge').dataset.level = LEVELS.includes(protection) ? protection : 'none';
}

function showDriver(item, driver) {
  setText(item.querySelector('h3'), `${driver.name} ${driver.version}`);
  setBadge(item, driver.protection);
  const notes = [];
  if (driver.mode === 'audit') notes.push('Audit: what it denies is recorded, and goes on.');
  if (driver.shim_silent_ms >= SHIM_SILENT_MS) notes.push(`The shim has not answered for ${driver.shim_silent_ms} ms.`);
  if (driver.shim_error) notes.push(`Error of the shim: ${driver.shim_error}.`);
  if (!counts(driver)) notes.push(`The counters are ${driver.counters_age_ms} ms old.`);
  setText(item.querySelector('.note'), notes.join(' '));
  fillList(item.querySelector('.reasons'), driver.reasons);
  const good = driver.last_known_good;
  fillPairs(item.querySelector('dl'), [
    ['state', driver.state],
    ['mode', driver.mode],
    ['process', driver.pid === null ? 'none' : `${driver.pid}, generation ${driver.generation}`],
    ['content', `${driver.content} (good: ${good})${driver.content_loading === null ? '' : `; ${driver.content_loading} is loading`}`],
    ['restarts', `${driver.restarts}${driver.start_failures ? `, ${driver.start_failures} failed starts` : ''}`],
    ['last end', driver.last_end || 'none'],
    ['sandbox', driver.sandbox.level],
  ]);
  item.querySelector('.actions').hidden = !(signedIn() && driver.state === 'quarantined');
  const [lacks, all] = item.querySelectorAll('details');
  lacks.hidden = driver.sandbox.lacks.length === 0;
  fillList(lacks.querySelector('ul'), driver.sandbox.lacks);
  fillPairs(all.querySelector('dl'), Object.entries(driver.counters).map(([name, count]) => [
    name.replaceAll('_', ' '),
    typeof count === 'number' ? count
      : Object.entries(count).filter(([, part]) => part).map(([part, number]) => `${number} ${part}`).join(', ') || 0,
  ]));
}

function showGuard(item, guard) {
  setText(item.querySelector('h3'), guard.folder);
  setBadge(item, guard.protection);
  const notes = [];
  if (guard.mode === 'audit') notes.push('Audit: what is denied here is recorded, and goes on.');
  if (guard.losses) notes.push(`It was found to be gone: ${guard.losses === 1 ? 'once' : `${guard.losses} times`}.`);
  setText(item.querySelector('.note'), notes.join(' '));
  fillList(item.querySelector('.reasons'), guard.reasons);
}

export function showState(status) {
  const parts = [`process ${status.pid}`, `attachment ${status.attachment}`, `up ${uptime(status.uptime_ms)}`];
  if (status.config) parts.push(`configuration ${status.config}`);
  setText(byId('instance'), parts.join(' · '));
  keyed(byId('drivers'), status.drivers, (driver) => driver.name, (driver) => {
    const item = card(driver.name);
    item.append(make('p', {class: 'actions'}, releaseButton(driver.name)),
      make('details', {}, make('summary', {}, 'What the sandbox lacks'), make('ul', {class: 'reasons'})),
      make('details', {}, make('summary', {}, 'All counters'), make('dl')));
    return item;
  }, showDriver);
  keyed(byId('guards'), status.guards, (guard) => guard.folder, (guard) => card(guard.folder), showGuard);
}

// A level that was true once is not said as if it were true now.
export function showBadges(fresh) {
  for (const badge of document.querySelectorAll('.badge')) {
    setText(badge, fresh ? badge.dataset.level : `was ${badge.dataset.level}`);
  }
}

export function summaryOf(status) {
  const level = status.guards.length === 0 ? 'none' : lowest([...status.guards, ...status.drivers]);
  const worst = [...status.guards, ...status.drivers].find((thing) => thing.protection === level);
  if (status.guards.length === 0) return {level, text: 'protection none: nothing is guarded'};
  if (level === 'full') return {level, text: 'protection full'};
  const why = worst.reasons.length ? `: ${plain(worst.reasons[0])}` : '';
  return {level, text: `protection ${level}: ${worst.folder ?? worst.name}${why}`};
}
