// Who is signed in, and the token that says so. Each tab has its own session, so that two people
// can talk in two tabs; what is unsent is kept by user, see outbox.js.

import { escapeUser, userOf } from './names.js';
import { Problem } from './problem.js';

const KEY = 'parley.session';
const RENEW_PAUSE = 10_000;

export class Session {
  #api;
  #storage;
  #renewed = 0;
  user = '';
  name = '';
  token = '';
  pasted = false; // the token came from elsewhere and cannot be renewed here

  constructor(api, storage) {
    this.#api = api;
    this.#storage = storage;
  }

  /** Takes up the session of this tab; false if there is none. */
  resume() {
    try {
      Object.assign(this, JSON.parse(this.#storage.getItem(KEY)) ?? {});
    } catch { /* not ours: there is no session */ }
    return Boolean(this.token);
  }

  /** Signs in under any name: only where anyone can get a token for any user. */
  async signIn(name) {
    const user = userOf(name);
    if (!user) throw new Problem({ status: 422, code: 'no_name', detail: 'Use at least one letter or digit.' });
    Object.assign(this, { user, name, pasted: false });
    await this.#fetchToken();
  }

  /** Signs in with a token of the identity provider. Its claims are read here, and judged by the servers. */
  paste(token) {
    try {
      const text = atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'));
      const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (c) => c.charCodeAt(0))));
      Object.assign(this, { user: escapeUser(claims.sub), name: claims.name ?? claims.sub, token, pasted: true });
    } catch {
      throw new Problem({ status: 422, code: 'no_token', detail: 'This is not a token: a token has three parts separated by dots.' });
    }
    this.#save();
  }

  /** Gets another token in place of one that is no longer taken. */
  async renew() {
    if (this.pasted || Date.now() - this.#renewed < RENEW_PAUSE) return false;
    this.#renewed = Date.now();
    try {
      await this.#fetchToken();
      return true;
    } catch {
      return false;
    }
  }

  signOut() {
    this.#storage.removeItem(KEY);
    this.token = '';
  }

  async #fetchToken() {
    let response;
    try {
      response = await fetch(`${this.#api}/local/token`, {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user: this.user }),
      });
    } catch {
      throw Problem.noAnswer();
    }
    if (!response.ok) throw await Problem.of(response);
    this.token = (await response.json()).token;
    this.#save();
  }

  #save() {
    const { user, name, token, pasted } = this;
    this.#storage.setItem(KEY, JSON.stringify({ user, name, token, pasted }));
  }
}
