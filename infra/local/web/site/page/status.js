// Whether the page hears of everything, and which region serves it. It says so when it is not sure.

import { fill, h } from './dom.js';

const WORDS = {
  connecting: 'Connecting…',
  'catching-up': 'Catching up…',
  offline: 'Offline, retrying…',
  'signed-out': 'Signed out',
};
const NOTICED = 1_000; // milliseconds of trouble before it is shown
const HOW = { socket: 'by WebSocket', poll: 'by long poll', plain: 'by asking every two seconds' };

export class Status {
  #client;
  #regions;
  #text = '';
  #timer = 0;
  element = h('p', { class: 'status', role: 'status' });

  constructor(client, regions) {
    this.#client = client;
    this.#regions = regions;
    client.live.addEventListener('status', () => this.#soon());
    client.outbox.addEventListener('change', () => this.#soon());
    this.#draw();
  }

  /** What lasts a moment only is no news: trouble is shown once it has lasted a little. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#draw(), this.#client.live.status.state === 'live' ? 0 : NOTICED);
  }

  #draw() {
    const { state, how, region } = this.#client.live.status;
    const live = state === 'live';
    const words = live ? region || 'Live' : WORDS[state];
    this.element.dataset.state = live ? 'live' : state;
    this.element.title = live ? `${region} serves you, ${HOW[how]}` : '';
    if (words === this.#text) return;
    this.#text = words;
    fill(this.element, h('span', { class: 'lamp', 'aria-hidden': 'true' }),
      live && h('span', { class: 'hidden' }, 'Live, served by '),
      h('span', { 'data-region': live && region ? this.#regions.toneOf(region) : null }, words));
  }
}
