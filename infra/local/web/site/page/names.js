// What people are called. A user id is plain ASCII; the name that goes with it is in the profile.

import { Problem } from './problem.js';

/** A user id for any name, "Zoë Möller" -> "zoe-moller"; '' if nothing of it can stand in one. */
export function userOf(name) {
  return name.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-').replace(/^[-.]+|[-.]+$/g, '').slice(0, 64);
}

export class Names extends EventTarget {
  #http;
  version = 0; // grows whenever a name becomes known
  #names = new Map(); // user -> name, or undefined while it is asked for

  constructor(http) {
    super();
    this.#http = http;
  }

  /** The name of a user, as far as it is known; asks for it the first time. */
  of(user) {
    if (!this.#names.has(user)) void this.#ask(user);
    return this.#names.get(user) ?? user;
  }

  set(user, name) {
    this.#names.set(user, name);
    this.version++;
    this.dispatchEvent(new Event('change'));
  }

  async #ask(user) {
    this.#names.set(user, undefined);
    try {
      this.set(user, (await this.#http.once('GET', `/v1/users/${encodeURIComponent(user)}`)).name);
    } catch (problem) { // no profile: the id is the name. No answer: ask again another time.
      if (problem instanceof Problem && problem.regional) this.#names.delete(user);
    }
  }
}
