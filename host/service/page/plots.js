// SPDX-License-Identifier: Apache-2.0
// What the page has seen of the service, and its plots. A plot is a row of PLOTS.
import {byId, make, setOptions, setText} from './dom.js';
import {counts, LEVELS, lowest} from './view.js';

const SAMPLES_MAX = 300;
const GAP_MS = 8000;  // more between two samples: the page was asleep, or the service silent
const WIDTH = 320, HEIGHT = 110, LEFT = 40, TOP = 6, BOTTOM = 96;
const SERIES_MAX = 8;

const OUTCOMES = ['answered', 'cached', 'by_policy', 'cancelled', 'unknown'];
const TROUBLES = ['denied', 'let_through', 'overdue'];
const SHARES = {'half of them': 0.5, '99 %': 0.99};
const LOWEST_US = 1.024;  // what the first part of `took` is below; each next one has twice as much
const MIB = 1024 * 1024;

const total = (count) => (typeof count === 'number' ? count : Object.values(count).reduce((sum, part) => sum + part, 0));
const few = (number) => (number >= 1000 ? `${(number / 1000).toFixed(1)}k` : number >= 10 || number % 1 === 0 ? number.toFixed(0) : number.toFixed(1));
const micros = (us) => (us >= 1e6 ? `${few(us / 1e6)} s` : us >= 1000 ? `${few(us / 1000)} ms` : `${few(us)} µs`);
const clock = (t) => new Date(t).toISOString().slice(11, 19);

// Of the chosen driver, or of all; null when one of them has no number.
function sum(sample, driver, name) {
  const of = driver ? [sample.drivers[driver]] : Object.values(sample.drivers);
  const numbers = of.map((numbers) => numbers?.[name] ?? null);
  return numbers.length === 0 || numbers.includes(null) ? null : numbers.reduce((a, b) => a + b, 0);
}
const rows = (names) => (sample, driver) => Object.fromEntries(names.map((name) => [name.replaceAll('_', ' '), sum(sample, driver, name)]));

// Bounds that these shares of the calls between two samples were below; the last part has none, and shows its lower one.
function latency(sample, driver) {
  const of = (driver ? [sample.drivers[driver]] : Object.values(sample.drivers)).map((numbers) => numbers?.took ?? null);
  const parts = of.includes(null) ? [] : of.reduce((all, one) => one.map((count, part) => count + (all[part] ?? 0)), []);
  const timed = parts.reduce((all, count) => all + count, 0);
  return Object.fromEntries(Object.entries(SHARES).map(([name, share]) => {
    let below = 0;
    const part = parts.findIndex((count) => (below += count) >= share * timed);
    return [name, timed ? LOWEST_US * 2 ** Math.min(part, parts.length - 2) : null];
  }));
}

const PLOTS = [
  {title: 'Calls that ended, per second', series: rows(OUTCOMES)},
  {title: 'Denied, let through, overdue, per second', series: rows(TROUBLES)},
  {title: 'Time of calls: less than', series: latency, show: micros},
  {title: 'Restarts and failed starts', series: rows(['restarts', 'failed_starts'])},
  {title: 'Protection', series: (sample) => sample.protection, top: 2, show: (level) => LEVELS[level]},
  {title: 'Memory, MiB', series: (sample) => sample.memory},
];

class Plot {
  constructor(row) {
    this.row = row;
    this.legend = make('ul', {class: 'legend'});
    this.figure = make('figure', {}, make('figcaption', {}, row.title));
    this.svg = make('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: 'img'});
    this.at = null;  // the time that the cursor is at
    this.samples = [];
    this.figure.append(this.svg, this.legend);
    this.svg.addEventListener('keydown', (event) => this.key(event));
    this.svg.addEventListener('blur', () => this.move(null));
  }

  key(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (event.key !== 'Escape' && !step) return;
    event.preventDefault();
    const last = this.samples.length - 1;
    const now = this.at === null ? last : this.samples.findIndex((sample) => sample.t === this.at);
    const next = event.key === 'Escape' ? last : Math.max(0, now + step);
    this.move(next >= last ? null : this.samples[next].t);
  }

  move(at) {
    this.at = at;
    this.draw(this.samples, this.driver, this.fresh);
  }

  draw(samples, driver, fresh) {
    Object.assign(this, {samples, driver, fresh});
    const values = samples.map((sample) => this.row.series(sample, driver));
    const names = [...new Set(values.flatMap((value) => Object.keys(value)))].slice(0, SERIES_MAX);
    const numbers = values.flatMap((value) => names.map((name) => value[name] ?? 0));
    const top = this.row.top ?? this.ceiling(Math.max(0, ...numbers));
    const begin = samples[0]?.t ?? 0, end = samples.at(-1)?.t ?? 0;
    const x = (t) => LEFT + (end === begin ? 1 : (t - begin) / (end - begin)) * (WIDTH - LEFT - 4);
    const y = (value) => BOTTOM - (value / top) * (BOTTOM - TOP);
    const show = this.row.show ?? few;
    const shown = samples.findIndex((sample) => sample.t === this.at);
    const index = shown < 0 ? samples.length - 1 : shown;
    const parts = [make('path', {class: 'axis', d: `M${LEFT} ${TOP}V${BOTTOM}H${WIDTH - 4}`}),
      make('text', {x: LEFT - 4, y: TOP + 8, 'text-anchor': 'end'}, show(top)),
      make('text', {x: LEFT - 4, y: BOTTOM, 'text-anchor': 'end'}, show(0))];
    if (samples.length > 0) {
      parts.push(make('text', {x: LEFT, y: HEIGHT - 3}, clock(begin)),
        make('text', {x: WIDTH - 4, y: HEIGHT - 3, 'text-anchor': 'end'}, clock(end)));
    }
    names.forEach((name, number) => {
      parts.push(make('path', {class: `series s${number}`, d: this.path(samples, values, name, x, y)}));
    });
    if (shown >= 0) parts.push(make('line', {class: 'cursor', x1: x(this.at), x2: x(this.at), y1: TOP, y2: BOTTOM}));
    this.svg.replaceChildren(...parts);
    const texts = names.map((name) => {
      const value = values[index]?.[name] ?? null;
      return `${name} ${value === null || (!fresh && shown < 0) ? '–' : show(value)}`;
    });
    const when = shown < 0 ? '' : ` at ${clock(this.at)}`;
    this.legend.replaceChildren(...texts.map((text, number) => make('li', {},
      make('svg', {viewBox: '0 0 22 8', 'aria-hidden': 'true'}, make('path', {class: `series s${number}`, d: 'M0 4H22'})), ` ${text}`)),
    ...(when ? [make('li', {}, when)] : []));
    this.svg.setAttribute('aria-label', `${this.row.title}${when}: ${texts.join(', ')}`);
  }

  ceiling(most) {
    if (most <= 1) return 1;
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 5, 10].find((digit) => digit * power >= most) * power;
  }

  // A line with gaps where there is no number. A level stays until the next sample.
  path(samples, values, name, x, y) {
    let d = '';
    samples.forEach((sample, i) => {
      const value = values[i][name] ?? null;
      const before = i > 0 ? values[i - 1][name] ?? null : null;
      if (value === null) return;
      const joined = before !== null && sample.t - samples[i - 1].t < GAP_MS;
      if (!joined) d += `M${x(sample.t).toFixed(1)} ${y(value).toFixed(1)}h1.5`;
      else if (this.row.top) d += `H${x(sample.t).toFixed(1)}V${y(value).toFixed(1)}`;
      else d += `L${x(sample.t).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    return d;
  }
}

export class Plots {
  constructor() {
    this.plots = PLOTS.map((row) => new Plot(row));
    byId('plots').append(...this.plots.map((plot) => plot.figure));
    byId('of').addEventListener('change', () => this.draw(this.fresh));
    this.clear();
  }

  clear() {
    this.samples = [];
    this.before = null;
    this.changed = true;
  }

  add(status) {
    const seconds = this.before ? (status.uptime_ms - this.before.uptime_ms) / 1000 : 0;
    if (this.before && seconds <= 0) return;  // the same numbers again
    const sample = {t: Date.now(), drivers: {}, memory: {}};
    for (const driver of status.drivers) {
      const old = this.before?.drivers.find((one) => one.name === driver.name);
      const numbers = {restarts: driver.restarts, failed_starts: driver.start_failures};
      for (const name of [...OUTCOMES, ...TROUBLES]) {
        const added = old && counts(driver) && counts(old) ? total(driver.counters[name]) - total(old.counters[name]) : -1;
        numbers[name] = added < 0 ? null : added / seconds;
      }
      const took = old && counts(driver) && counts(old) ? Object.entries(driver.counters.took).map(([part, count]) => count - old.counters.took[part]) : [-1];
      numbers.took = took.some((count) => count < 0) ? null : took;
      sample.drivers[driver.name] = numbers;
    }
    sample.protection = {
      guards: status.guards.length ? LEVELS.indexOf(lowest(status.guards)) : null,
      drivers: status.drivers.length ? LEVELS.indexOf(lowest(status.drivers)) : null,
    };
    for (const [process, bytes] of Object.entries(status.resident_bytes)) sample.memory[process] = bytes / MIB;
    this.changed = true;
    this.samples.push(sample);
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    this.before = status;
    setOptions(byId('of'), status.drivers.map((driver) => driver.name));
  }

  drawIfChanged(fresh) {
    if (this.changed || fresh !== this.fresh) this.draw(fresh);
  }

  draw(fresh) {
    this.fresh = fresh;
    this.changed = false;
    for (const plot of this.plots) plot.draw(this.samples, byId('of').value, fresh);
  }
}
