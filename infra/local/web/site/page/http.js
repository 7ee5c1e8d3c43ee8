// Requests to the API: to the best endpoint, again elsewhere if that fails, until a deadline.

import { Problem } from './problem.js';
import { backoff } from './endpoints.js';

const TIMEOUT = 8_000;
const PATIENCE = 20_000;

export const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
});

export class Http {
  #endpoints;
  #session;
  #onRegion;
  #started = 0; // requests, ever
  #latest = 0; // the number of the newest request that reported its region

  /**
   * @param {import('./endpoints.js').Endpoints} endpoints
   * @param {{token: string, renew: () => Promise<boolean>}} session
   * @param {(region: string) => void} onRegion called with the region that answered
   */
  constructor(endpoints, session, onRegion = () => {}) {
    this.#endpoints = endpoints;
    this.#session = session;
    this.#onRegion = onRegion;
  }

  /** One request to one endpoint; throws a Problem. */
  async once(method, path, { body, key, signal, timeout = TIMEOUT, endpoint = this.#endpoints.current() } = {}) {
    const started = ++this.#started;
    const response = await this.#fetch(endpoint, method, path, { body, key, signal, timeout });
    if (response.status === 401 && await this.#session.renew()) {
      return this.once(method, path, { body, key, signal, timeout, endpoint });
    }
    if (!response.ok) {
      const problem = await Problem.of(response);
      if (problem.regional) this.#endpoints.failed(endpoint);
      throw problem;
    }
    this.#endpoints.works(endpoint);
    this.#region(started, response);
    return this.#json(response, endpoint);
  }

  /** A long poll that began before a region failed may end after: it is no news. */
  #region(started, response) {
    if (started < this.#latest) return;
    this.#latest = started;
    this.#onRegion(response.headers.get('Parley-Region') ?? '');
  }

  async #fetch(endpoint, method, path, { body, key, signal, timeout }) {
    const headers = { Authorization: `Bearer ${this.#session.token}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (key) headers['Idempotency-Key'] = key;
    const limit = AbortSignal.timeout(timeout);
    try {
      return await fetch(endpoint.url + path, {
        method, headers, cache: 'no-store',
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
    } catch {
      if (!signal?.aborted) this.#endpoints.failed(endpoint);
      throw Problem.noAnswer();
    }
  }

  async #json(response, endpoint) {
    try {
      return await response.json();
    } catch { // it broke off
      this.#endpoints.failed(endpoint);
      throw Problem.noAnswer();
    }
  }

  /**
   * Asks until there is an answer or patience ends. Safe for queries, and for commands that
   * carry an id: sent again under it, they happen once.
   */
  async request(method, path, options = {}) {
    const end = Date.now() + (options.patience ?? PATIENCE);
    for (let tries = 0; ; tries++) {
      try {
        return await this.once(method, path, options);
      } catch (problem) {
        const wait = problem.retryAfter && !problem.regional ? problem.retryAfter * 1000 : backoff(tries, Math.random, 150, 4_000);
        if (!problem.retryable || options.signal?.aborted || Date.now() + wait > end) throw problem;
        await pause(wait, options.signal);
      }
    }
  }

  get(path, options) {
    return this.request('GET', path, options);
  }
}
