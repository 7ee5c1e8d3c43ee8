// Commands on their way. Each is the event it will become, under an id minted once: it is shown at
// once, kept in storage until a server has accepted it, and sent again under the same id for as
// long as it takes. So it is neither lost, whatever fails, nor ever there twice.

import { backoff } from './endpoints.js';
import { pause } from './http.js';

const NOT_YET = 30_000; // how long "there is no such room" may mean "not here yet"

/** The HTTP request that brings an event about. */
export function requestOf({ room, event, after }) {
  const { id, type, data } = event;
  const base = `/v1/rooms/${room}/messages`;
  const target = `${base}/${data.message}`;
  switch (type) {
    case 'message.posted': return { method: 'PUT', path: `${base}/${id}`, body: { ...data, after } };
    case 'message.edited': return { method: 'PATCH', path: target, body: { text: data.text }, key: id };
    case 'message.deleted': return { method: 'DELETE', path: target, key: id };
    case 'message.pinned': return { method: 'PUT', path: `${target}/pin`, key: id };
    case 'message.unpinned': return { method: 'DELETE', path: `${target}/pin`, key: id };
    default: {
      const method = type === 'reaction.added' ? 'PUT' : 'DELETE';
      return { method, path: `${target}/reactions/${encodeURIComponent(data.emoji)}`, key: id };
    }
  }
}

export class Outbox extends EventTarget {
  #store;
  #http;
  #minter;
  #storage;
  #key;
  #entries = []; // in the order in which they were made
  #working = new Set(); // rooms
  #wake = new AbortController();

  constructor({ store, http, minter, storage }) {
    super();
    this.#store = store;
    this.#http = http;
    this.#minter = minter;
    this.#storage = storage;
    this.#key = `parley.outbox.${store.user}`;
  }

  /** Takes up what an earlier visit could not send. */
  resume() {
    let kept = [];
    try {
      kept = JSON.parse(this.#storage.getItem(this.#key) ?? '[]');
    } catch { /* not ours, or cut short: there is nothing to take up */ }
    for (const { room, event, after } of kept) this.#begin({ room, event, after });
  }

  /** Sends a command; the event is seen here at once. Returns its id. */
  add(room, type, data, cause = '') {
    const after = this.#store.lastSeen || undefined;
    const id = this.#minter.mint(...[after, cause].filter(Boolean));
    this.#begin({ room, event: { id, type, actor: this.#store.user, data }, after });
    this.#save();
    return id;
  }

  #begin(entry) {
    Object.assign(entry, { state: 'sending', tries: 0, since: Date.now(), unsure: false });
    this.#entries.push(entry);
    this.#store.apply(entry.room, entry.event, { state: 'sending' });
    void this.#work(entry.room);
  }

  /** Messages that are not accepted yet, to be shown in whatever window opens on their room. */
  pending(room) {
    return this.#entries.filter((e) => e.room === room && e.event.type === 'message.posted');
  }

  get size() {
    return this.#entries.length;
  }

  /** Tries again at once: the connection is back, or the user wants it. */
  retry(id) {
    for (const entry of this.#entries) {
      if (id && entry.event.id !== id) continue;
      if (entry.state === 'failed' && !id && !entry.problem.retryable) continue;
      if (entry.state === 'failed') Object.assign(entry, { state: 'sending', since: Date.now(), tries: 0 });
      this.#show(entry);
      void this.#work(entry.room);
    }
    this.#wake.abort();
    this.#wake = new AbortController();
  }

  /** Gives up a message that has failed. */
  discard(id) {
    const entry = this.#entries.find((e) => e.event.id === id);
    if (!entry) return;
    this.#remove(entry);
    this.#store.withdraw(entry.room, id);
  }

  /** A server has delivered this event: it was accepted, even if the answer was lost. */
  confirm(id) {
    const entry = this.#entries.find((e) => e.event.id === id);
    if (entry) this.#remove(entry);
  }

  /** Sends a room's commands one after the other: their order is kept. */
  async #work(room) {
    if (this.#working.has(room)) return;
    this.#working.add(room);
    for (;;) {
      const entry = this.#entries.find((e) => e.room === room && e.state !== 'failed');
      if (!entry) break;
      await this.#send(entry);
    }
    this.#working.delete(room);
  }

  async #send(entry) {
    const { method, path, body, key } = requestOf(entry);
    try {
      const answer = await this.#http.once(method, path, { body, key });
      this.#remove(entry);
      this.#store.apply(entry.room, { ...entry.event, region: answer.region ?? entry.event.region });
    } catch (problem) {
      if (!this.#entries.includes(entry)) return; // confirmed or discarded meanwhile
      await this.#refused(entry, problem);
    }
  }

  async #refused(entry, problem) {
    entry.unsure ||= problem.unsure;
    entry.problem = problem;
    if (this.#remint(entry, problem)) return;
    const hopeless = !problem.retryable || (problem.status === 404 && Date.now() - entry.since > NOT_YET);
    if (hopeless) {
      await this.#fail(entry);
      return;
    }
    if (++entry.tries > 2) this.#show(Object.assign(entry, { state: 'waiting' }));
    await pause(backoff(entry.tries - 1, Math.random, 200, 8_000), this.#wake.signal);
  }

  /** An id refused for its time, order or mark is replaced, unless it may have been stored all the same. */
  #remint(entry, problem) {
    const clock = problem.code === 'id_in_future' || problem.code === 'id_in_past';
    if (entry.unsure || entry.reminted || !(clock || problem.code === 'id_order' || problem.code === 'id_not_yours')) return false;
    if (clock && problem.time) this.#minter.setTime(Date.parse(problem.time));
    this.#store.withdraw(entry.room, entry.event.id);
    const causes = [entry.after, entry.event.data.message, entry.event.data.reply_to, entry.event.data.thread];
    entry.event = { ...entry.event, id: this.#minter.mint(...causes.filter(Boolean)) };
    entry.reminted = true;
    this.#store.apply(entry.room, entry.event, { state: 'sending' });
    this.#save();
    return true;
  }

  async #fail(entry) {
    this.dispatchEvent(Object.assign(new Event('failed'), { entry, problem: entry.problem }));
    if (entry.event.type === 'message.posted') {
      this.#show(Object.assign(entry, { state: 'failed' }));
      return;
    }
    this.#remove(entry);
    const id = entry.event.data.message;
    try { // what was shown did not happen: show what did
      this.#store.withdraw(entry.room, id, await this.#http.get(`/v1/rooms/${entry.room}/messages/${id}`));
    } catch { /* the next reload of the room puts it right */ }
  }

  #show({ room, event, state, problem }) {
    if (event.type === 'message.posted') this.#store.setSending(room, event.id, { state, problem });
  }

  #remove(entry) {
    this.#entries = this.#entries.filter((e) => e !== entry);
    this.#save();
  }

  #save() {
    try {
      this.#storage.setItem(this.#key, JSON.stringify(this.#entries.map(({ room, event, after }) => ({ room, event, after }))));
    } catch { /* storage is full or forbidden: what is unsent lives as long as this page */ }
    this.dispatchEvent(new Event('change'));
  }
}
