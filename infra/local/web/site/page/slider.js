// The time slider: a room as it was just after any event. The log keeps everything, so any moment
// can be asked for; what has been deleted since stays deleted.

import { h, icon, iconButton } from './dom.js';
import { exactText } from './format.js';
import { timeOf } from './ids.js';
import { idAt, Moments, postOf } from './moments.js';
import { Timeline } from './timeline.js';

const SETTLE = 120; // milliseconds without a move before the room is asked for

const DID = {
  'message.posted': 'wrote', 'message.edited': 'edited a message', 'message.deleted': 'deleted a message',
  'message.pinned': 'pinned a message', 'message.unpinned': 'unpinned a message',
  'reaction.added': 'reacted', 'reaction.removed': 'took a reaction back',
  'member.joined': 'joined or added someone', 'member.left': 'left or removed someone', 'room.created': 'created the room', 'room.updated': 'changed the room',
};
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

export class TimeSlider {
  #client;
  #on; // show(timeline): the room as it was; leave(); failed(problem)
  #room = '';
  #moments;
  #at = null; // { id, type, actor }: the event after which the room is shown; only an id between events
  #timer = 0;
  #asked = 0;
  #loading = Promise.resolve();
  #range = h('input', { type: 'range', min: '0', 'aria-label': 'Event', oninput: () => this.#moved(), onchange: () => this.#moved(), onkeydown: (e) => this.#key(e) });
  #when = h('input', { type: 'datetime-local', step: '1', 'aria-label': 'Go to a time', onchange: () => this.#jump() });
  #what = h('output', { class: 'what', 'aria-live': 'polite' });
  element = h('section', { class: 'time-slider', 'aria-label': 'The room in the past', hidden: true, onkeydown: (e) => this.#escape(e) },
    h('div', { class: 'row' }, icon('clock'), this.#what, this.#when),
    h('div', { class: 'row' },
      iconButton('back', 'One event back', () => this.#step(-1)), this.#range,
      iconButton('forward', 'One event forward', () => this.#step(1)),
      h('button', { type: 'button', class: 'primary', onclick: () => this.leave() }, 'Back to now')));

  constructor(client, on) {
    this.#client = client;
    this.#on = on;
  }

  get active() {
    return !this.element.hidden;
  }

  /** Shows a room as it was after an event; without one, after the last but one. */
  enter(room, id = '') {
    const { before, after } = this.#client.store.timeline(room);
    const moments = new Moments(this.#client.store.history(room), before === null && after === null);
    if (!moments.last) return;
    this.#room = room;
    this.#moments = moments;
    this.element.hidden = false;
    this.#go(moments.upTo(id) ?? moments.beside(moments.last.id, -1) ?? moments.last);
    if (!moments.whole) void this.#findEnds(moments);
    this.#range.focus();
  }

  /** Asks how far back a long room goes, and how far on if its end is not at hand. */
  async #findEnds(moments) {
    try {
      moments.learn([...await this.#client.ends(this.#room)].map(postOf));
      if (moments === this.#moments) this.#range.value = String(moments.valueOf(this.#at));
    } catch { /* then it goes as far as is known */ }
  }

  leave() {
    if (!this.active) return;
    this.element.hidden = true;
    this.#asked++;
    clearTimeout(this.#timer);
    this.#on.leave();
  }

  #escape(event) {
    if (event.key !== 'Escape') return;
    event.stopPropagation(); // the present is back; what stands beside stays
    this.leave();
  }

  /** Goes to the event before or behind; in a long room the next may not be known yet. */
  async #step(by) {
    const moments = this.#moments;
    try {
      if (!moments.whole) {
        await this.#loading;
        const next = by > 0 && await this.#client.next(this.#room, this.#at.id);
        if (next) moments.learn([postOf(next)]);
      }
    } catch (problem) {
      this.#on.failed(problem);
      return;
    }
    const to = moments.beside(this.#at.id, by);
    if (to && this.active && moments === this.#moments) this.#go(to);
  }

  #key(event) {
    if (this.#moments.whole || !STEPS[event.key]) return; // where it goes through time, arrows go by events
    event.preventDefault();
    void this.#step(STEPS[event.key]);
  }

  #go(moment) {
    this.#at = moment;
    this.#range.max = String(this.#moments.max);
    this.#range.value = String(this.#moments.valueOf(moment));
    this.#describe();
    this.#loading = this.#load();
  }

  #moved() {
    const moment = this.#moments.at(Number(this.#range.value));
    if (moment.id === this.#at.id) return;
    this.#at = moment;
    this.#asked++; // what is on its way is no longer wanted
    this.#describe();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.#loading = this.#load(); }, SETTLE);
  }

  #jump() {
    const at = new Date(this.#when.value).getTime();
    if (at >= 0) this.#go({ id: idAt(at + 999) }); // the field says seconds
  }

  #describe() {
    const { id, type, actor } = this.#at;
    const at = new Date(timeOf(id));
    const did = type ? `, after ${this.#client.names.of(actor)} ${DID[type] ?? 'did something'}` : '';
    this.#what.textContent = `${exactText(at)}${did}`;
    this.#range.setAttribute('aria-valuetext', this.#what.textContent);
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
    this.#when.value = local.toISOString().slice(0, 19);
  }

  async #load() {
    const asked = ++this.#asked;
    const moments = this.#moments;
    const asOf = this.#at.id;
    try {
      const page = await this.#client.past(this.#room, asOf);
      if (asked !== this.#asked) return; // the slider has moved on, or was left
      const timeline = new Timeline();
      timeline.replace(page);
      moments.learn(page.messages.map(postOf));
      this.#at = moments.upTo(asOf) ?? this.#at; // the handle stays where it was put
      this.#describe();
      this.#on.show(timeline, () => this.#older(timeline, asOf));
    } catch (problem) {
      if (asked === this.#asked) this.#on.failed(problem);
    }
  }

  async #older(timeline, asOf) {
    timeline.prepend(await this.#client.past(this.#room, asOf, timeline.before));
  }
}
