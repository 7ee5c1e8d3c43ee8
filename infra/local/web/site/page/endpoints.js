// Where to send requests. The first endpoint is the global name, which leads to a healthy region
// by itself; the others are the regions' own addresses. A region can be preferred. When an endpoint
// fails, the next one is used at once, and the health of the failed one is checked with backoff and
// jitter until it is healthy again.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

/** Half to all of a pause that doubles with each failure. */
export function backoff(failures, random = Math.random, first = FIRST_PAUSE, longest = LONGEST_PAUSE) {
  return Math.min(longest, first * 2 ** failures) * (0.5 + random() / 2);
}

export class Endpoints extends EventTarget {
  #all; // { name, url, failures, askAt }
  #preferred = '';
  #now;
  #random;

  /** @param {{name: string, url: string, socket?: string}[]} list the global endpoint first, named '' */
  constructor(list, { now = Date.now, random = Math.random } = {}) {
    super();
    this.#now = now;
    this.#random = random;
    this.#all = list.map((e) => ({ ...e, failures: 0, askAt: 0 }));
  }

  get preferred() {
    return this.#preferred;
  }

  get list() {
    return this.#all.map(({ name, url, failures }) => ({ name, url, well: failures === 0 }));
  }

  /** Prefers a region; '' leaves the choice to the global endpoint. */
  prefer(name) {
    this.#preferred = this.#all.some((e) => e.name === name) ? name : '';
    this.#changed();
  }

  /** The best endpoint that is not known to be down; if all are, the one to be asked next. */
  current() {
    const ordered = [...this.#all].sort((a, b) => this.#rank(a) - this.#rank(b));
    return ordered.find((e) => e.failures === 0) ?? ordered.reduce((a, b) => (b.askAt < a.askAt ? b : a));
  }

  #rank(endpoint) {
    return endpoint.name === this.#preferred ? -1 : this.#all.indexOf(endpoint);
  }

  /** Many requests that fail at once are one failure. */
  failed(endpoint) {
    if (endpoint.failures > 0 && this.#now() < endpoint.askAt) return;
    endpoint.askAt = this.#now() + backoff(endpoint.failures++, this.#random);
    this.#changed();
  }

  works(endpoint) {
    if (endpoint.failures === 0) return;
    endpoint.failures = 0;
    this.#changed();
  }

  /** Whether nothing is known to work. */
  get allDown() {
    return this.#all.every((e) => e.failures > 0);
  }

  /** Asks those that are down and due how they are. */
  async ask(isWell) {
    const due = this.#all.filter((e) => e.failures > 0 && e.askAt <= this.#now());
    await Promise.all(due.map(async (e) => {
      e.askAt = Infinity; // one question at a time
      const well = await isWell(e);
      e.askAt = this.#now();
      if (well) this.works(e);
      else this.failed(e);
    }));
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
