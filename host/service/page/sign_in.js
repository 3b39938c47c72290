// SPDX-License-Identifier: Apache-2.0
// Signing in with a link of `bulkhead sign-in`, and what a signed-in user can do. The session's secret is in this
// page's memory only: it is gone when the page is closed or loaded anew.
import {byId, make, plain, setText} from './dom.js';

const ANSWERS_WITHIN_MS = 3000;
const LINK = /^#sign-in=([0-9a-f]+)$/;

let secret = '';
let state = null;    // of the session, as the service told it last
let said = '';       // what went wrong last, or how a session ended
let changed = () => {};  // the page asks again

export const signedIn = () => secret !== '';
export const authorization = () => (secret ? {authorization: `Bearer ${secret}`} : {});

async function post(path, bearer) {
  let response;
  try {
    response = await fetch(path, {method: 'POST', cache: 'no-store', credentials: 'omit',
      headers: {authorization: `Bearer ${bearer}`}, signal: AbortSignal.timeout(ANSWERS_WITHIN_MS)});
  } catch {
    throw new Error('the service does not answer');
  }
  if (!response.ok) throw Object.assign(new Error((await response.text()).trim()), {status: response.status});
  return response.json();
}

// The service knows the session no longer.
export function ended(why) {
  secret = '';
  state = null;
  said = why;
  show();
}

async function tryTo(action) {
  said = '';
  try {
    await action();
  } catch (error) {
    if (error.status === 401) ended(`Signed out: ${error.message}.`);
    else said = `${error.message}.`;
  }
  show();
  changed();
}

const leave = () => tryTo(async () => {
  await post('api/sign-out', secret);
  ended('Signed out.');
});
const release = (driver) => tryTo(() => post(`api/release?driver=${encodeURIComponent(driver)}`, secret));

export function update(session) {
  state = session;
  show();
}

const actionRuns = () => state?.action?.running === true;

function actionText() {
  const action = state?.action;
  if (!action) return '';
  const name = plain(action.name);
  if (action.running) return `${name}: in progress`;
  return action.error ? `${name} failed: ${plain(action.error)}` : `${name}: done`;
}

function show() {
  byId('session').hidden = !signedIn() && said === '';
  byId('session-actions').hidden = !signedIn();
  byId('sign-in-hint').hidden = signedIn();
  const minutes = Math.ceil((state?.left_ms ?? 0) / 60000);
  setText(byId('session-text'), state ? `Signed in as user ${state.user}, for ${minutes} more min.` : '');
  setText(byId('session-said'), [said, actionText()].filter(Boolean).join(' '));
  byId('reload').disabled = actionRuns();
  for (const button of document.querySelectorAll('button.release')) button.disabled = actionRuns();
}

// `again`: called when there is something new to ask for. Returns when a link in the address was used up.
export async function begin(again) {
  changed = again;
  byId('reload').addEventListener('click', () => tryTo(() => post('api/reload', secret)));
  byId('sign-out').addEventListener('click', leave);
  window.addEventListener('hashchange', take);
  await take();
}

async function take() {
  const link = LINK.exec(location.hash);
  if (!link) return;
  // Neither the history nor what a user copies from the address bar has it from here on.
  history.replaceState(null, '', location.pathname);
  await tryTo(async () => {
    secret = (await post('api/sign-in', link[1])).session;
  });
}

export function releaseButton(driver) {
  const button = make('button', {type: 'button', class: 'release'}, 'Release');
  button.addEventListener('click', () => release(driver));
  return button;
}
