// The moments of a room at which the time slider can stand, each an event. Where all events are
// known the slider goes from one to the next. In a room that is too long for that it goes through
// time, and each event it comes near is asked for.

import { encode, timeOf } from './ids.js';

const PARTS = 1_000; // of the time of a long room

/** The greatest id of a millisecond: all that had happened by then has a lower one. */
export const idAt = (ms) => encode(((BigInt(ms) + 1n) << 80n) - 1n);

/** What a message on a page was when it was posted. */
export const postOf = (message) => ({ id: message.id, type: 'message.posted', actor: message.author });

export class Moments {
  #known = []; // { id, type, actor }, in order
  whole;

  /** @param {boolean} whole whether these are all events there are */
  constructor(steps, whole) {
    this.whole = whole;
    this.learn(steps);
  }

  learn(steps) {
    const all = new Map([...steps, ...this.#known].map((s) => [s.id, s]));
    this.#known = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  get first() {
    return this.#known[0];
  }

  get last() {
    return this.#known.at(-1);
  }

  /** The last event up to an id. */
  upTo(id) {
    return this.#known.findLast((s) => s.id <= id);
  }

  /** The event before an id or behind it, as far as it is known. */
  beside(id, by) {
    return by < 0 ? this.#known.findLast((s) => s.id < id) : this.#known.find((s) => s.id > id);
  }

  // --- the slider, from 0 to max

  get max() {
    return this.whole ? this.#known.length - 1 : PARTS;
  }

  /** The moment at which the slider stands. */
  at(value) {
    if (this.whole) return this.#known[value];
    if (value >= PARTS) return this.last;
    const [from, to] = [timeOf(this.first.id), timeOf(this.last.id)];
    return { id: idAt(Math.round(from + ((to - from) * value) / PARTS)) };
  }

  /** Where the slider stands at a moment. */
  valueOf({ id }) {
    if (this.whole) return Math.max(0, this.#known.findLastIndex((s) => s.id <= id));
    const [from, to] = [timeOf(this.first.id), timeOf(this.last.id)];
    return to > from ? Math.min(PARTS, Math.max(0, Math.round(((timeOf(id) - from) / (to - from)) * PARTS))) : PARTS;
  }
}
