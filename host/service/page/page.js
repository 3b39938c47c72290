// SPDX-License-Identifier: Apache-2.0
// Asks the service for its state and its events, and shows them. What is shown is fresh, paused, or said to be old.
import {byId, setText} from './dom.js';
import {Events} from './events.js';
import {Plots} from './plots.js';
import * as session from './sign_in.js';
import {showBadges, showState, summaryOf} from './view.js';

const EVERY_MS = 2000;
const ANSWERS_WITHIN_MS = 3000;
const FRESH_MS = 7000;  // a page that was asleep has old numbers, too

const plots = new Plots();
const events = new Events();
let status = null;   // the last that was shown
let heard = 0;       // when it came
let failure = '';    // since then
let paused = false;

async function ask(path) {
  let response;
  try {
    response = await fetch(path, {cache: 'no-store', credentials: 'omit', headers: session.authorization(),
      signal: AbortSignal.timeout(ANSWERS_WITHIN_MS)});
    if (response.ok) return await response.json();
  } catch (error) {
    throw new Error(error.name === 'TimeoutError' ? `no answer within ${ANSWERS_WITHIN_MS / 1000} s` : 'no connection');
  }
  const error = new Error(`HTTP status ${response.status}`);
  throw response.status === 401 ? Object.assign(error, {signedOut: (await response.text()).trim()}) : error;
}

// With words or without: events are asked for from the start when that has changed.
let withWords = false;
async function lookAsUser() {
  if (session.signedIn() !== withWords) {
    withWords = session.signedIn();
    events.clear();
  }
  if (session.signedIn()) session.update(await ask('api/session'));
  await lookAtState();
}

async function look() {
  try {
    await lookAsUser();
  } catch (error) {
    if (!error.signedOut) throw error;
    session.ended(`Signed out: ${error.signedOut}.`);
    await lookAsUser();
  }
}

async function lookAtState() {
  const next = await ask('api/status');
  const another = status && (next.pid !== status.pid || next.uptime_ms < status.uptime_ms);
  if (another) {
    plots.clear();
    events.clear();
  }
  for (;;) {
    const answer = await ask(`api/events?after=${events.newest}`);
    if (answer.newest < events.newest) events.clear();  // of another service: it is asked from the start
    else if (!events.add(answer)) break;
  }
  plots.add(next);
  showState(next);
  status = next;
  heard = Date.now();
  failure = '';
}

const clock = (t) => new Date(t).toISOString().slice(11, 19);

function show() {
  const old = status !== null && Math.abs(Date.now() - heard) > FRESH_MS;
  const fresh = status !== null && !failure && !old && !paused;
  document.body.dataset.fresh = fresh ? 'yes' : paused ? 'paused' : status ? 'no' : 'none';
  const silent = failure || old;
  const since = status === null ? '' : ` What is below was true at ${clock(heard)} UTC.`;
  const why = failure ? ` (${failure})` : '';
  let text = '';
  if (paused) text = `Paused.${since}`;
  else if (failure) text = `The service does not answer${why}.${since}`;
  else if (old) text = `The numbers are old.${since}`;
  setText(byId('silence'), text);
  byId('silence').hidden = text === '';
  const summary = fresh ? summaryOf(status) : {level: 'unknown', text: paused ? 'paused' : silent ? 'protection unknown' : 'no answer yet'};
  setText(byId('summary'), summary.text);
  byId('summary').dataset.level = summary.level;
  const title = `Bulkhead: ${fresh ? summary.level : paused ? 'paused' : silent ? 'no answer' : 'no answer yet'}`;
  if (document.title !== title) document.title = title;
  showBadges(fresh);
  plots.drawIfChanged(fresh);
  events.showIfChanged();
}

let timer = 0;
let turning = false, turnAgain = false;
async function turn() {
  turnAgain = turning;
  if (turning) return;
  turning = true;
  clearTimeout(timer);
  try {
    if (!paused) await look();
  } catch (error) {
    failure = String(error.message);
  }
  turning = false;
  show();
  timer = setTimeout(turn, turnAgain ? 0 : EVERY_MS);
}

byId('pause').addEventListener('click', () => {
  paused = !paused;
  byId('pause').setAttribute('aria-pressed', String(paused));
  show();
  if (!paused) turn();
});
document.addEventListener('visibilitychange', () => {
  show();
  if (!document.hidden) turn();
});
setInterval(show, 1000);
session.begin(turn).then(turn);
