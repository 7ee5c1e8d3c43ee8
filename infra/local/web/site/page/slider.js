// The time slider: a room as it was just after any event. The log keeps everything, so any moment
// can be asked for; what has been deleted since stays deleted.

import { h, icon, iconButton } from './dom.js';
import { exactText } from './format.js';
import { isID, timeOf } from './ids.js';
import { Timeline } from './timeline.js';

const SETTLE = 120; // milliseconds without a move before the room is asked for

const DID = {
  'message.posted': 'wrote', 'message.edited': 'edited a message', 'message.deleted': 'deleted a message',
  'message.pinned': 'pinned a message', 'message.unpinned': 'unpinned a message',
  'reaction.added': 'reacted', 'reaction.removed': 'took a reaction back',
  'member.joined': 'joined or added someone', 'member.left': 'left or removed someone', 'room.created': 'created the room', 'room.updated': 'changed the room',
};

export class TimeSlider {
  #client;
  #on; // show(timeline): the room as it was; leave(); failed(problem)
  #room = '';
  #steps = []; // { id, type, actor }, in order
  #at = null; // the step shown, or { id: <time> } between steps
  #timer = 0;
  #asked = 0;
  #range = h('input', { type: 'range', min: '0', 'aria-label': 'Event', oninput: () => this.#moved(), onchange: () => this.#moved() });
  #when = h('input', { type: 'datetime-local', step: '1', 'aria-label': 'Go to a time', onchange: () => this.#jump() });
  #what = h('output', { class: 'what', 'aria-live': 'polite' });
  element = h('section', { class: 'time-slider', 'aria-label': 'The room in the past', hidden: true, onkeydown: (e) => e.key === 'Escape' && this.leave() },
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
    this.#room = room;
    this.#steps = this.#client.store.history(room);
    if (!this.#steps.length) return;
    const found = this.#steps.findIndex((s) => s.id === id);
    this.element.hidden = false;
    this.#go(found >= 0 ? found : Math.max(0, this.#steps.length - 2));
    this.#range.focus();
  }

  leave() {
    if (!this.active) return;
    this.element.hidden = true;
    this.#asked++;
    clearTimeout(this.#timer);
    this.#on.leave();
  }

  #step(by) {
    const at = this.#steps.findIndex((s) => s.id >= this.#at.id);
    this.#go(Math.min(this.#steps.length - 1, Math.max(0, (at < 0 ? this.#steps.length - 1 : at) + by)));
  }

  #go(index) {
    this.#range.max = String(this.#steps.length - 1);
    this.#range.value = String(index);
    this.#at = this.#steps[index];
    this.#describe();
    this.#load();
  }

  #moved() {
    const step = this.#steps[Number(this.#range.value)];
    if (step === this.#at) return;
    this.#at = step;
    this.#describe();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), SETTLE);
  }

  #jump() {
    const at = new Date(this.#when.value);
    if (Number.isNaN(at.getTime())) return;
    this.#at = { id: at.toISOString() };
    this.#load();
  }

  #describe() {
    const { id, type, actor } = this.#at;
    const at = isID(id) ? new Date(timeOf(id)) : new Date(id);
    const did = type ? `, after ${this.#client.names.of(actor)} ${DID[type] ?? 'did something'}` : '';
    this.#what.textContent = `${exactText(at)}${did}`;
    this.#range.setAttribute('aria-valuetext', this.#what.textContent);
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
    this.#when.value = local.toISOString().slice(0, 19);
  }

  async #load() {
    const asked = ++this.#asked;
    const asOf = this.#at.id;
    try {
      const page = await this.#client.past(this.#room, asOf);
      if (asked !== this.#asked) return; // the slider has moved on, or was left
      const timeline = new Timeline();
      timeline.replace(page);
      this.#learn(page.messages);
      this.#on.show(timeline, () => this.#older(timeline, asOf));
    } catch (problem) {
      if (asked === this.#asked) this.#on.failed(problem);
    }
  }

  async #older(timeline, asOf) {
    const page = await this.#client.past(this.#room, asOf, timeline.before);
    timeline.prepend(page);
    this.#learn(page.messages);
  }

  /** What a page shows are moments, too: the slider reaches as far back as has been looked. */
  #learn(messages) {
    const all = new Map(messages.map((m) => [m.id, { id: m.id, type: 'message.posted', actor: m.author }]));
    for (const step of this.#steps) all.set(step.id, step);
    this.#steps = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    if (!isID(this.#at.id)) this.#at = this.#nearest(Date.parse(this.#at.id));
    this.#range.max = String(this.#steps.length - 1);
    this.#range.value = String(Math.max(0, this.#steps.findIndex((s) => s.id === this.#at.id)));
    this.#describe();
  }

  #nearest(ms) {
    return this.#steps.findLast((s) => timeOf(s.id) <= ms) ?? this.#steps[0];
  }
}
