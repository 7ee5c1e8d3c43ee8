// The regions panel: the state of each region, buttons that break and repair it, and what happens to
// the conversation meanwhile.

import { fill, h, toast } from './dom.js';
import { lagText } from './format.js';
import { inWords } from './problem.js';

const STATES = {
  up: ['Up', 'Answers, and replicates with the others.'],
  failing: ['Failing', 'Answers every request with an error.'],
  isolated: ['Isolated', 'Answers, but is cut off from the other regions.'],
};
const ACTS = [['failing', 'Fail'], ['isolated', 'Isolate'], ['up', 'Repair']];
const KEPT = 12; // lines of the journal

const clock = new Intl.DateTimeFormat([], { timeStyle: 'medium' });

export class Panel {
  #client;
  #regions;
  #served = '';
  #journal = [];
  #choice = h('div', { class: 'choice' });
  #cards = h('ul', { class: 'cards' });
  #log = h('ol', { class: 'journal', 'aria-label': 'What happened' });
  element = h('div', { class: 'panel-body regions-panel' }, this.#choice, this.#cards, h('h3', {}, 'What happened'), this.#log);

  constructor(client, regions) {
    this.#client = client;
    this.#regions = regions;
    regions.addEventListener('change', () => this.#draw());
    client.live.addEventListener('status', () => this.#onStatus());
    client.outbox.addEventListener('change', () => this.#soon());
    this.#note('The page was opened.');
  }

  show(on) {
    this.#regions.watch(on);
    if (on) this.#draw();
  }

  #drawing = 0;

  #soon() {
    this.#drawing ||= setTimeout(() => { this.#drawing = 0; if (this.element.isConnected) this.#draw(); }, 200);
  }

  #onStatus() {
    const { region, state } = this.#client.live.status;
    if (state === 'live' && region && region !== this.#served) {
      this.#note(this.#served ? `Served by ${region} instead of ${this.#served}. Nothing was lost.` : `Served by ${region}.`, region);
      this.#served = region;
    }
    this.#soon();
  }

  #note(text, region = '') {
    this.#journal.unshift({ at: new Date(), text, region });
    this.#journal.length = Math.min(this.#journal.length, KEPT);
  }

  #draw() {
    const focused = document.activeElement?.id;
    fill(this.#choice, this.#chooser());
    fill(this.#cards, this.#regions.list.map((r) => this.#card(r)));
    fill(this.#log, this.#journal.map(({ at, text, region }) => h('li', { 'data-region': region ? this.#regions.toneOf(region) : null },
      h('time', {}, clock.format(at)), h('span', {}, text))));
    if (focused && this.element.contains(document.getElementById(focused))) document.getElementById(focused).focus();
  }

  #chooser() {
    const { preferred } = this.#client.endpoints;
    const region = this.#serving();
    const waiting = this.#client.outbox.size;
    return [
      h('p', { class: 'served' }, h('span', {}, region ? ['You are served by ', h('b', { 'data-region': this.#regions.toneOf(region) }, region)] : 'No region serves you right now'),
        h('small', {}, waiting ? `${waiting} on the way` : 'Everything you sent is accepted.')),
      h('label', { class: 'prefer' }, 'Prefer ', h('select', { id: 'prefer', onchange: (e) => this.#prefer(e.target.value) },
        h('option', { value: '', selected: !preferred }, 'any healthy region'),
        this.#regions.list.map((r) => h('option', { value: r.region, selected: preferred === r.region }, r.region)))),
    ];
  }

  /** The region that serves the page; '' while none does. */
  #serving() {
    const { region, state } = this.#client.live.status;
    return state === 'offline' ? '' : region;
  }

  #prefer(region) {
    this.#client.endpoints.prefer(region);
    this.#note(region ? `You prefer ${region}.` : 'No region is preferred.', region);
    this.#draw();
  }

  #card(r) {
    const serves = r.region === this.#serving();
    const [name, what] = STATES[r.state] ?? STATES.up;
    const shown = r.state === 'up' && !r.healthy ? ['Not answering', 'It may be starting, or has stopped.'] : [name, what];
    const state = r.state === 'up' && !r.healthy ? 'failing' : r.state;
    return h('li', { class: 'card', 'data-state': state, 'data-region': this.#regions.toneOf(r.region), 'data-name': r.region },
      h('div', { class: 'head' }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('h3', {}, r.region), serves && h('span', { class: 'tag serves' }, 'serves you'), h('span', { class: 'state' }, shown[0])),
      h('p', { class: 'what' }, shown[1]),
      h('div', { class: 'figures' }, this.#regions.local && this.#rate(r), this.#lags(r)),
      this.#regions.local && h('div', { class: 'acts', role: 'group', 'aria-label': `What ${r.region} does` }, ACTS.map(([to, label]) => h('button', {
        type: 'button', id: `act-${r.region}-${to}`, class: `act-${to}`, disabled: r.state === to, onclick: () => this.#set(r, to),
      }, label))));
  }

  #rate(r) {
    return h('div', { class: 'rate' }, h('span', { class: 'number' }, r.rate < 10 ? r.rate.toFixed(1) : String(Math.round(r.rate))), h('small', {}, 'events/s'), curve(r.curve));
  }

  /** How long the oldest event that has not reached another region has waited, and the last beat heard. */
  #lags(r) {
    if (!r.healthy) return h('p', { class: 'lags none' }, 'Its state is not known.');
    const others = this.#regions.list.filter((o) => o !== r);
    return h('dl', { class: 'lags' }, others.map((o) => {
      const waits = r.stages[`replicate to ${o.region}`];
      const heard = r.frontiers[o.region];
      return [h('dt', {}, 'to ', o.region),
        h('dd', { class: waits > 5 ? 'late' : '', title: heard === undefined ? 'No heartbeat yet' : `Last heartbeat of ${o.region}: ${lagText(heard)} ago. There is one a minute.` },
          waits === undefined ? '–' : waits > 0 ? lagText(waits) : 'in sync')];
    }));
  }

  async #set(r, state) {
    try {
      await this.#regions.set(r.region, state);
      this.#note({ failing: `${r.region} fails.`, isolated: `${r.region} is isolated.`, up: `${r.region} is repaired.` }[state], r.region);
      this.#draw();
    } catch (problem) {
      toast(inWords(problem));
    }
  }
}

const WIDTH = 120;
const HEIGHT = 26;
const POINTS = 40;

/** A curve of how many events went by. */
function curve(points) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
  const most = Math.max(1, ...points);
  const x = (i) => WIDTH - (points.length - 1 - i) * (WIDTH / (POINTS - 1));
  line.setAttribute('points', points.map((p, i) => `${x(i).toFixed(1)},${(HEIGHT - 2 - (p / most) * (HEIGHT - 4)).toFixed(1)}`).join(' '));
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('class', 'curve');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(line);
  return svg;
}
