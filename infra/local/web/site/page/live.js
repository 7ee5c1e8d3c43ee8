// Hears of everything that happens, without a hole: over a socket where there is one, by long poll
// on /v1/sync where there is none, and by asking again and again where there is not even that.
//
// A cursor is only kept once all before it is here: that of /v1/sync, of the end of a catch-up, or
// of a pong up to whose positions nothing is missing. A gap in a room's positions, or a pong that
// still tells of higher ones a moment later, starts a catch-up from the last such cursor. What then
// comes twice is dropped by id.

import { backoff } from './endpoints.js';
import { pause } from './http.js';
import { Problem } from './problem.js';
import { Socket } from './socket.js';

const WAIT = 25; // seconds of a long poll, the most a server takes
const PING_EVERY = 4_000;
const MOMENT = 1_000; // that an event may be on its way when a pong tells of its position
const PLAIN_EVERY = 2_000;
const NO_SOCKET_FOR = 60_000; // after two that did not open where the API answers

const OWN = ''; // stands for the user's own stream, among rooms

const topsOf = ({ positions = {}, own }) => [...Object.entries(positions), ...(own ? [[OWN, own]] : [])];

export class Live extends EventTarget {
  status = { state: 'connecting', how: '', region: '', endpoint: '' };
  #endpoints;
  #http;
  #session;
  #apply;
  #reload;
  #cursor = '';
  #socket = null;
  #positions = new Map();
  #catching = null;
  #held = false; // an event waits for its key, and no position shows that it is missing
  #refused = 0; // sockets that did not open, in a row
  #noSocketBefore = 0;
  #turn = new AbortController(); // ends what is under way when another endpoint is better

  /**
   * @param {object} parts
   * @param {(happened: {room?: string, event: object}) => void} parts.apply takes an event, maybe again
   * @param {() => Promise<string>} parts.reload loads everything again and gives the cursor it goes with
   */
  constructor({ endpoints, http, session, apply, reload }) {
    super();
    this.#endpoints = endpoints;
    this.#http = http;
    this.#session = session;
    this.#apply = apply;
    this.#reload = reload;
    this.#endpoints.addEventListener('change', () => {
      const better = this.#endpoints.current();
      if (better.failures === 0 && better.name !== this.status.endpoint) this.kick();
    });
  }

  /** Starts anew at once: another endpoint is better, or the network is back. */
  kick() {
    this.#turn.abort();
    this.#socket?.close();
  }

  async run() {
    for (let failures = 0; ;) {
      const endpoint = this.#endpoints.current();
      this.#turn = new AbortController();
      if (endpoint.name !== this.status.endpoint) this.#say({ endpoint: endpoint.name, state: this.status.state === 'live' ? 'catching-up' : this.status.state });
      try {
        if (!this.#cursor) this.#cursor = await this.#reload();
        if (this.#wantsSocket()) await this.#overSocket(endpoint);
        else await this.#overPolls(endpoint);
        failures = 0;
      } catch (problem) {
        if (this.#turn.signal.aborted) continue;
        if (problem.code === 'unauthenticated') return this.#say({ state: 'signed-out' });
        if (problem.code === 'invalid_cursor') this.#cursor = '';
        this.#say({ state: this.#endpoints.allDown || failures > 1 ? 'offline' : 'catching-up' });
        await pause(backoff(failures++, Math.random, 150, 8_000), this.#turn.signal);
      }
    }
  }

  /** Tells a room that the user is typing, where there is a socket. */
  typing(room) {
    this.#socket?.send({ action: 'typing', room });
  }

  #say(change) {
    Object.assign(this.status, change);
    this.dispatchEvent(new Event('status'));
  }

  /** Applies a page of events; reloads everything if the server cannot deliver the events in between. */
  async #take({ events, cursor, reset }) {
    for (const happened of events ?? []) this.#apply(happened);
    this.#cursor = cursor;
    if (!reset) return;
    this.#say({ state: 'catching-up' });
    await this.#reload();
  }

  // --- long poll, and plain polls where there is no /v1/sync

  async #overPolls(endpoint) {
    if (!this.#cursor) { // the server has no cursors: look again and again
      this.#say({ state: 'live', how: 'plain' });
      await pause(PLAIN_EVERY, this.#turn.signal);
      return;
    }
    const wait = this.status.state === 'live' && this.status.how === 'poll' ? WAIT : 0;
    const page = await this.#http.once('GET', `/v1/sync?limit=200&wait=${wait}&cursor=${encodeURIComponent(this.#cursor)}`, {
      endpoint, signal: this.#turn.signal, timeout: (wait + 8) * 1000,
    });
    await this.#take(page);
    this.#say({ state: page.more ? 'catching-up' : 'live', how: 'poll' });
  }

  // --- socket

  #wantsSocket() {
    return Boolean(this.#cursor) && typeof WebSocket !== 'undefined' && Date.now() >= this.#noSocketBefore;
  }

  async #overSocket(endpoint) {
    const socket = new Socket(endpoint.socket ?? endpoint.url.replace(/^http/, 'ws') + '/v1/live', this.#session.token);
    this.#socket = socket;
    try {
      const hello = await this.#opened(socket);
      if (!hello) return;
      this.#endpoints.works(endpoint);
      if (hello.region !== this.status.region && this.status.state === 'live') this.#say({ state: 'catching-up' });
      this.#listen(socket);
      this.#positions = new Map();
      this.#base(await socket.ask({ action: 'subscribe' }));
      await this.#catchUp(socket);
      this.#say({ state: 'live', how: 'socket', region: hello.region });
      await Promise.race([socket.ended, this.#watch(socket)]);
    } catch (error) {
      if (error instanceof Problem) throw error;
      if (!this.#turn.signal.aborted) await this.#whyOver(endpoint);
    } finally {
      socket.close();
      this.#socket = null;
    }
  }

  /** The server's hello; null if there was none, so that long polls take over for a while. */
  async #opened(socket) {
    try {
      const hello = await socket.hello();
      this.#refused = 0;
      return hello;
    } catch {
      if (++this.#refused > 1) this.#noSocketBefore = Date.now() + NO_SOCKET_FOR;
      if (!this.#turn.signal.aborted) await pause(backoff(this.#refused, Math.random, 50, 1_000), this.#turn.signal);
      return null;
    }
  }

  /** A socket ended: is it the region, or only the socket? A request tells; it throws if it fails. */
  async #whyOver(endpoint) {
    this.#say({ state: 'catching-up' });
    await this.#http.once('GET', '/v1/rooms?limit=1', { endpoint, timeout: 3_000 });
    await pause(backoff(0, Math.random, 200));
  }

  #listen(socket) {
    socket.addEventListener('event', ({ frame }) => {
      this.#apply(frame);
      this.#position(socket, frame.room ?? OWN, frame.position);
    });
    socket.addEventListener('typing', ({ frame }) => this.dispatchEvent(Object.assign(new Event('typing'), { frame })));
    socket.addEventListener('removed', ({ frame }) => this.dispatchEvent(Object.assign(new Event('removed'), { frame })));
  }

  #base(answer) {
    for (const [room, top] of topsOf(answer)) this.#positions.set(room, Math.max(top, this.#positions.get(room) ?? 0));
  }

  #position(socket, room, position) {
    const top = this.#positions.get(room);
    if (!position || position <= top) return;
    this.#positions.set(room, position);
    if (top !== undefined && position > top + 1) this.#fill(socket);
  }

  /** Something was lost on the way: catch up, and say so until it is there. */
  #fill(socket) {
    this.#say({ state: 'catching-up' });
    this.#catchUp(socket).then(() => this.#say({ state: 'live' }), () => socket.close());
  }

  /** One catch-up at a time; who asks while one is under way may need the next. */
  #catchUp(socket) {
    const before = this.#catching ?? Promise.resolve();
    const mine = before.catch(() => {}).then(() => this.#catchUpOnce(socket));
    this.#catching = mine;
    return mine;
  }

  async #catchUpOnce(socket) {
    for (let more = true; more;) {
      const answer = await socket.ask({ action: 'catchup', cursor: this.#cursor, limit: 200 });
      await this.#take({ cursor: answer.cursor, reset: answer.reset });
      more = answer.more;
      this.#held = Boolean(answer.held);
    }
  }

  /** An event came without its data, whose key is not there yet: pings catch up until it is. */
  hold() { this.#held = true; }

  /** Pings for as long as the socket lives; throws when it no longer answers. */
  async #watch(socket) {
    for (;;) {
      await pause(PING_EVERY, this.#turn.signal);
      const pong = await socket.ask({ action: 'ping' });
      if (this.#lacks(pong)) await pause(MOMENT, this.#turn.signal);
      if (this.#lacks(pong)) {
        this.#base(pong);
        this.#fill(socket);
      } else if (pong.incomplete || this.#held) { // the socket listens to some rooms only
        await this.#catchUp(socket);
      } else if (pong.cursor && this.status.state === 'live') {
        this.#cursor = pong.cursor;
      }
    }
  }

  #lacks(pong) {
    return topsOf(pong).some(([room, top]) => top > (this.#positions.get(room) ?? 0));
  }
}
