// SPDX-License-Identifier: Apache-2.0
// The events of the service (docs/metrics.md, Events): what changed, a timeline and a table, the newest first.
import {byId, make, plain, setOptions, setText} from './dom.js';

const EVENTS_MAX = 2000;  // as many as the service keeps
const ROWS_MAX = 200;
const CHANGES_MAX = 15;
const LEVELS = ['info', 'warning', 'error'];
const CHANGES = new Set(['ServiceReady', 'Reloaded', 'ReloadRefused', 'ContentStarts', 'ContentGood', 'RolledBack',
  'ContentAcquitted', 'Quarantined', 'Protection', 'ShimReplaced', 'ShimLost']);
const WIDTH_MIN = 280, LANE = 18, LEFT = 110;

const rank = (event) => Math.max(0, LEVELS.indexOf(event.level));
const day = (event) => plain(event.time).slice(0, 19).replace('T', ' ');
const timeOf = (event) => make('time', {datetime: plain(event.time)}, day(event));

// A shape for each level: it is not told by its colour alone.
function shape(level, x, y) {
  if (level === 'error') return `M${x - 5} ${y - 5}h10v10h-10z`;
  if (level === 'warning') return `M${x} ${y - 6}l6 11h-12z`;
  return `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`;
}

export class Events {
  constructor() {
    this.clear();
    for (const id of ['level', 'about']) byId(id).addEventListener('change', () => this.show());
    window.addEventListener('resize', () => this.show());
  }

  clear() {
    this.events = [];
    this.newest = 0;
    this.lost = 0;
    this.changed = true;
  }

  // An answer of /api/events. True: there are more.
  add(answer) {
    this.lost += answer.lost;
    this.events.push(...answer.events);
    this.events.splice(0, Math.max(0, this.events.length - EVENTS_MAX));
    this.changed ||= answer.events.length > 0;
    this.newest = answer.events.at(-1)?.sequence ?? answer.newest;
    return answer.events.length > 0 && this.newest < answer.newest;
  }

  showIfChanged() {
    if (this.changed) this.show();
    this.changed = false;
  }

  show() {
    setOptions(byId('about'), [...new Set(this.events.map((event) => event.driver).filter(Boolean))].sort());
    const level = Number(byId('level').value), about = byId('about').value;
    const matching = this.events.filter((event) => rank(event) >= level && (!about || event.driver === about));
    const shown = matching.slice(-ROWS_MAX).reverse();
    byId('events').replaceChildren(...shown.map((event) => make('tr', {}, make('td', {}, timeOf(event)),
      make('td', {'data-level': LEVELS[rank(event)]}, LEVELS[rank(event)]), make('td', {}, make('bdi', {}, event.line)))));
    const older = matching.length - shown.length;
    setText(byId('counted'), `${matching.length} events${older ? `, of which the newest ${shown.length} are below` : ''}` +
      `${this.lost ? `; ${this.lost} older ones are no longer known` : ''}`);
    const changes = this.events.filter((event) => CHANGES.has(event.event)).slice(-CHANGES_MAX).reverse();
    byId('changes').replaceChildren(...changes.map((event) => make('li', {}, timeOf(event), make('bdi', {}, event.line))));
    if (changes.length === 0) byId('changes').append(make('li', {class: 'hint'}, 'nothing that is still known'));
    byId('timeline').replaceChildren(this.timeline(shown));
  }

  timeline(shown) {
    const lanes = [...new Set(shown.map((event) => event.driver ?? ''))].sort();
    const times = shown.map((event) => Date.parse(event.time));
    const begin = Math.min(...times), end = Math.max(...times);
    const width = Math.max(WIDTH_MIN, byId('timeline').clientWidth - 16), right = width - 4;  // pixels: texts keep their size
    const height = Math.max(1, lanes.length) * LANE + 18;
    const x = (t) => LEFT + 8 + (end === begin ? 1 : (t - begin) / (end - begin)) * (right - LEFT - 16);
    const svg = make('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img'});
    lanes.forEach((lane, i) => {
      const y = i * LANE + LANE / 2 + 2;
      const name = plain(lane || 'service');
      svg.append(make('text', {x: LEFT - 6, y: y + 3, 'text-anchor': 'end'}, name.length > 18 ? `${name.slice(0, 17)}…` : name),
        make('line', {class: 'axis', x1: LEFT, x2: right, y1: y, y2: y}));
    });
    for (let i = shown.length - 1; i >= 0; --i) {
      const level = LEVELS[rank(shown[i])], y = lanes.indexOf(shown[i].driver ?? '') * LANE + LANE / 2 + 2;
      svg.append(make('path', {class: 'mark', 'data-level': level, d: shape(level, x(times[i]), y)},
        make('title', {}, `${day(shown[i])} ${shown[i].line}`)));
    }
    if (shown.length > 0) {
      svg.append(make('text', {x: LEFT, y: height - 3}, day(shown.at(-1))),
        make('text', {x: right, y: height - 3, 'text-anchor': 'end'}, day(shown[0])));
    }
    const errors = shown.filter((event) => event.level === 'error').length;
    svg.setAttribute('aria-label', `Timeline of ${shown.length} events, ${errors} of them errors; the table below has them`);
    return svg;
  }
}
