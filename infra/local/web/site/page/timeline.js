// The part of a room's messages that is at hand: a window without holes onto a list that may have
// a hundred thousand. It moves by pages and is trimmed at the far end, so that neither memory nor
// the page grows with the room.

import { fold, merge } from './fold.js';

const MOST = 300;

/** Where an id stands or would stand in a sorted list. */
export function place(messages, id) {
  let low = 0;
  let high = messages.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (messages[middle].id < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Timeline {
  messages = [];
  loaded = false;
  before = null; // asks for the page before; null at the beginning of the room
  after = null; // asks for the page behind; null at its live end
  missed = 0; // messages that came behind the end of the window

  get(id) {
    const found = this.messages[place(this.messages, id)];
    return found?.id === id ? found : undefined;
  }

  /**
   * Begins anew with a page. What is known and belongs in its range stays: the page may come
   * from a region that has not heard of it yet, and unsent messages are on no page at all.
   */
  replace(page) {
    const first = page.messages[0]?.id ?? '';
    const last = page.after === null ? '\uffff' : page.messages.at(-1)?.id ?? '';
    const kept = this.messages.filter((m) => m.id >= first && m.id <= last);
    this.messages = this.#union(page.messages, kept);
    Object.assign(this, { before: page.before, after: page.after, loaded: true, missed: 0 });
  }

  /** Adds the page before; the end is cut off if the window gets too long. */
  prepend(page) {
    this.messages = this.#union(page.messages, this.messages);
    this.before = page.before;
    if (this.messages.length > MOST) {
      this.messages.length = MOST;
      this.after = this.messages.at(-1).id;
    }
  }

  /** Adds the page behind; the beginning is cut off if the window gets too long. */
  append(page) {
    this.messages = this.#union(this.messages, page.messages);
    this.after = page.after;
    if (this.after === null) this.missed = 0;
    this.trim();
  }

  /** Cuts off the beginning of a window that has got too long at its end. */
  trim() {
    const extra = this.messages.length - MOST;
    if (extra <= 0) return;
    this.messages = this.messages.slice(extra);
    this.before = this.messages[0].id;
  }

  /** Both lists hold the newest knowledge of some; the first may also be a server's. */
  #union(a, b) {
    const byID = new Map();
    for (const m of [...a, ...b]) {
      const known = byID.get(m.id) ?? this.get(m.id);
      byID.set(m.id, known ? this.#newest(m, known) : merge(m));
    }
    return [...byID.values()].sort((x, y) => (x.id < y.id ? -1 : 1));
  }

  #newest(m, known) {
    if (m === known) return m;
    return m.marks ? m : merge(m, known);
  }

  /** Puts a message in its place; reports whether the window shows it. */
  add(message) {
    const at = place(this.messages, message.id);
    if (this.messages[at]?.id === message.id) return true;
    if (at === this.messages.length && this.after !== null) {
      this.missed++;
      return false;
    }
    if (at === 0 && this.before !== null) return false;
    this.messages.splice(at, 0, message);
    return true;
  }

  /** Changes one message, if it is at hand; reports whether that changed anything. */
  update(id, change) {
    const at = place(this.messages, id);
    const old = this.messages[at];
    if (old?.id !== id) return false;
    this.messages[at] = change(old);
    return this.messages[at] !== old;
  }

  fold(id, event) {
    return this.update(id, (message) => fold(message, event));
  }

  remove(id) {
    const at = place(this.messages, id);
    if (this.messages[at]?.id === id) this.messages.splice(at, 1);
  }
}
