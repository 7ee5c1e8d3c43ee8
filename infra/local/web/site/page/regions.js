// The state of the regions: their health, their replication lag, and their events a second. They can be broken and repaired only on one's own machine.

import { Problem } from './problem.js';
import { toneOf } from './format.js';

const EVERY = 1_500;
const KEPT = 40; // points of a curve

export class Regions extends EventTarget {
  list = []; // { region, url, state, healthy, stages, frontiers, rate, curve }
  local;
  #api;
  #timer = 0;
  #counts = new Map(); // region -> { count, at }

  constructor(config, list) {
    super();
    this.#api = config.api;
    this.local = config.local;
    this.list = list.map((r) => ({ state: 'up', healthy: true, stages: {}, frontiers: {}, rate: 0, curve: new Array(KEPT).fill(0), ...r }));
  }

  /** A small number by which a region is coloured. */
  toneOf(region) {
    const at = this.list.findIndex((r) => r.region === region);
    return at >= 0 ? at % 6 : toneOf(region, 6);
  }

  /** Looks now and again, for as long as somebody watches. */
  watch(on) {
    clearInterval(this.#timer);
    if (!on) return;
    void this.look();
    this.#timer = setInterval(() => this.look(), EVERY);
  }

  async look() {
    await Promise.all([this.#states(), this.#countEvents(), ...this.list.map((r) => this.#health(r))]);
    this.dispatchEvent(new Event('change'));
  }

  async #states() {
    if (!this.local) return;
    const answer = await getJSON(`${this.#api}/local/regions`);
    for (const now of answer?.regions ?? []) Object.assign(this.#named(now.region) ?? {}, { state: now.state, healthy: now.healthy });
  }

  async #health(r) {
    const report = await getJSON(`${r.url}/health`);
    r.healthy = report !== null;
    if (report) Object.assign(r, { stages: report.stages ?? {}, frontiers: report.frontiers ?? {} });
  }

  async #countEvents() {
    if (!this.local) return;
    const answer = await getJSON(`${this.#api}/local/counts`);
    const at = performance.now();
    for (const [region, count] of Object.entries(answer?.counts ?? {})) {
      const r = this.#named(region);
      const before = this.#counts.get(region);
      this.#counts.set(region, { count, at });
      if (!r || !before) continue;
      r.rate = Math.max(0, (count - before.count) / ((at - before.at) / 1000));
      r.curve = [...r.curve, r.rate].slice(-KEPT);
    }
  }

  #named(region) {
    return this.list.find((r) => r.region === region);
  }

  /** Breaks or repairs a region: "up", "failing" or "isolated". */
  async set(region, state) {
    let response;
    try {
      response = await fetch(`${this.#api}/local/regions/${region}`, {
        method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ state }),
      });
    } catch {
      throw Problem.noAnswer();
    }
    if (!response.ok) throw await Problem.of(response);
    await this.look();
  }
}

/** The answer, or null if there is none or it is an error. */
async function getJSON(url) {
  try {
    const response = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(3_000) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
