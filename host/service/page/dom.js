// SPDX-License-Identifier: Apache-2.0
// Elements and their texts. Names, paths and the words of events may be chosen by hostile drivers and users: they
// reach the page as text nodes only, cut, and without characters that a reader can't see or that turn a line around.
// The Content-Security-Policy refuses markup that is made from strings.

const UNSEEN = /[\0-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const CHARACTERS_MAX = 600;

export function plain(text) {
  const seen = String(text).replace(UNSEEN, '\ufffd');
  return seen.length > CHARACTERS_MAX ? `${seen.slice(0, CHARACTERS_MAX)}…` : seen;
}

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'path', 'line', 'text', 'title']);

// make('p', {class: 'hint'}, 'text', element, …)
export function make(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : plain(child))));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Changes nothing that is as it should be: a selection stays, and a screen reader is not told again.
export function setText(element, text) {
  const seen = plain(text);
  if (element.textContent !== seen) element.textContent = seen;
}

// The children of a list, kept by key: what is open or has the focus stays so.
export function keyed(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
    update(child, item);
  });
  for (const child of known.values()) child.remove();
}

// A list of choices, of which the first stays.
export function setOptions(select, names) {
  const wanted = [select.options[0].textContent, ...names.map(plain)].join('\0');
  if ([...select.options].map((option) => option.textContent).join('\0') === wanted) return;
  const chosen = select.value;
  while (select.options.length > 1) select.options[1].remove();
  for (const name of names) {
    const option = make('option', {}, name);
    option.value = name;
    select.append(option);
  }
  select.value = names.includes(chosen) ? chosen : '';
}
