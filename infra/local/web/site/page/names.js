// What people are called. A user id is plain ASCII; the name that goes with it is in the profile.

import { Problem } from './problem.js';

const MOST = 64; // characters of a user id

/**
 * A user id for any name, always the same: "Zoë Möller" -> "zoe-moller". A name with letters that
 * cannot stand in one gets a number made of them, "日本" -> "user-1vd9x8k"; '' if it has no letter at all.
 */
export function userOf(name) {
  const letters = name.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  const plain = letters.replace(/[^a-z0-9._-]+/g, '-').replace(/^[-.]+|[-.]+$/g, '');
  const lost = letters.replace(/[^\p{L}\p{N}]|[a-z0-9]/gu, '');
  if (!lost) return plain.slice(0, MOST);
  return `${(plain || 'user').slice(0, MOST - 8)}-${hash(letters).toString(36)}`;
}

/** The user id for the claim `sub` of a token, as the servers make it: see functions/README.md. */
export function escapeUser(subject) {
  if (subject === '.' || subject === '..') return subject.replaceAll('.', '~2E');
  const hex = (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`;
  return encodeURIComponent(subject).replace(/[!~*'()]/g, hex).replaceAll('%', '~');
}

/** FNV-1a over the code points, 32 bits. */
function hash(text) {
  let sum = 0x811c9dc5;
  for (const c of text) sum = Math.imul(sum ^ c.codePointAt(0), 0x01000193);
  return sum >>> 0;
}

/** A name without what would turn around the text beside it. Right-to-left letters need no such marks. */
export const plain = (name) => name.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');

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
    return this.#names.get(user) || user;
  }

  set(user, name) {
    this.#names.set(user, plain(name ?? ''));
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
