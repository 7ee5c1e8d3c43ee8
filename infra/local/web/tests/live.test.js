import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Endpoints } from '../site/page/endpoints.js';
import { Live } from '../site/page/live.js';
import { Problem } from '../site/page/problem.js';

/** A region with one room, whose events arrive one by one; cursors and positions count them. */
class Region {
  events = [];
  sockets = new Set();
  down = false;
  sync = true;
  resets = 0;
  held = Infinity; // how many events have their keys

  arrive() {
    const n = this.events.length + 1;
    this.events.push({ room: 'r', position: n, event: { id: `id${n}` } });
    for (const s of this.sockets) s.push(n);
  }

  page(cursor, limit = 3) {
    const from = Number(cursor);
    const events = this.events.slice(from, Math.min(from + limit, this.held));
    const last = from + events.length;
    return { events, cursor: String(last), more: last < Math.min(this.events.length, this.held), held: last === this.held, reset: false };
  }

  async once(method, path, { signal } = {}) {
    if (this.down) throw new Problem({ status: 503, code: 'region_failing', retryable: true });
    const url = new URL(path, 'http://x');
    if (url.pathname !== '/v1/sync') return {};
    if (!this.sync) throw new Problem({ status: 404, code: 'no_such_path' });
    const wait = Number(url.searchParams.get('wait'));
    const cursor = url.searchParams.get('cursor');
    if (cursor === 'ancient') return { events: [], cursor: String(this.events.length), more: false, reset: true };
    for (let i = 0; wait && i < 100 && Number(cursor) >= this.events.length && !signal.aborted; i++) await sleep(5);
    if (signal.aborted) throw Problem.noAnswer();
    return this.page(cursor);
  }
}

const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

let region;
let sockets = true; // whether the region has any

/** The socket of a browser, as far as the page uses it. */
class FakeSocket {
  static OPEN = 1;
  readyState = 0;

  constructor() {
    this.region = region;
    setTimeout(() => {
      if (!sockets || this.region.down) return this.close();
      this.readyState = 1;
      return this.onopen();
    }, 1);
  }

  deliver(frame) {
    setTimeout(() => this.readyState === 1 && this.onmessage({ data: JSON.stringify(frame) }), 0);
  }

  push(n) {
    this.deliver({ type: 'event', cursor: String(n), ...this.region.events[n - 1] });
  }

  send(text) {
    const { action, ref, cursor } = JSON.parse(text);
    const top = this.region.events.length;
    if (action === 'auth') {
      this.deliver({ type: 'hello', ref, region: 'one', user: 'ada' });
    } else if (action === 'subscribe') {
      this.region.sockets.add(this);
      this.deliver({ type: 'subscribed', ref, part: true, positions: {} });
      this.deliver({ type: 'subscribed', ref, rooms: ['r'], positions: { r: top }, cursor: String(top) });
    } else if (action === 'catchup') {
      const page = this.region.page(cursor);
      for (const happened of page.events) this.deliver({ type: 'event', cursor, ...happened });
      this.deliver({ type: 'caught_up', ref, cursor: page.cursor, more: page.more, held: page.held, reset: false });
    } else {
      this.deliver({ type: 'pong', ref, positions: { r: top }, cursor: String(top) });
    }
  }

  close() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.region.sockets.delete(this);
    setTimeout(() => this.onclose({ code: 1006 }), 0);
  }
}

globalThis.WebSocket = FakeSocket;

function follow(first = '0') {
  region = new Region();
  const heard = [];
  const endpoints = new Endpoints([{ name: '', url: 'http://g' }]);
  const live = new Live({
    endpoints, session: { token: 't' }, http: region,
    apply: ({ event }) => heard.push(event.id),
    reload: async () => { region.resets++; return first; },
  });
  void live.run();
  return { live, heard, distinct: () => [...new Set(heard)] };
}

async function until(condition, what) {
  for (let i = 0; i < 1_000 && !condition(); i++) await sleep(10);
  assert.ok(condition(), what);
}

const all = (n) => Array.from({ length: n }, (_, i) => `id${i + 1}`);

test('over a socket that breaks again and again, every event is heard', async () => {
  sockets = true;
  const { live, distinct } = follow();
  await until(() => live.status.state === 'live' && live.status.how === 'socket');
  assert.equal(live.status.region, 'one');
  for (let i = 0; i < 120; i++) {
    region.arrive();
    if (i % 17 === 16) for (const s of region.sockets) s.close(); // with frames under way
    if (i % 5 === 0) await sleep(Math.random() * 60);
  }
  await until(() => distinct().length === 120 && live.status.state === 'live', 'all is heard');
  assert.deepEqual(distinct().sort(), all(120).sort());
  assert.equal(region.resets, 1);
});

test('a silent loss shows in the positions, and is made good', async () => {
  const { live, distinct } = follow();
  await until(() => live.status.state === 'live');
  const [socket] = region.sockets;
  region.sockets.delete(socket); // the region forgets it
  region.arrive();
  region.arrive();
  region.sockets.add(socket);
  region.arrive(); // a gap before this one
  await until(() => distinct().length === 3, 'the gap is filled');
});

test('what waits for its key is caught up with later, though the positions show nothing', async () => {
  const { live, distinct } = follow();
  await until(() => live.status.state === 'live');
  const [socket] = region.sockets;
  region.sockets.delete(socket);
  region.arrive();
  region.arrive();
  region.held = 1;
  region.sockets.add(socket);
  region.arrive(); // a gap before this one
  await until(() => distinct().length === 2, 'what has its key is here');
  region.held = Infinity;
  await until(() => distinct().length === 3, 'the rest follows');
});

test('where there is no socket, long polls deliver everything', async () => {
  sockets = false;
  const { live, distinct } = follow();
  await until(() => live.status.state === 'live' && live.status.how === 'poll', 'polls');
  for (let i = 0; i < 30; i++) {
    region.arrive();
    if (i === 10) region.down = true;
    if (i === 12) setTimeout(() => { region.down = false; }, 200);
    await sleep(5);
  }
  await until(() => distinct().length === 30, 'all is heard');
  assert.deepEqual(distinct(), all(30));
});

test('everything is reloaded if events cannot be delivered completely', async () => {
  const { live, distinct } = follow('ancient');
  await until(() => live.status.state === 'live');
  assert.equal(region.resets, 2); // at the beginning, and at the reset
  region.arrive();
  await until(() => distinct().length === 1);
});

test('where there are no cursors, the page looks again and again', async () => {
  const { live } = follow('');
  await until(() => live.status.how === 'plain' && region.resets > 1, 'it looks again');
  assert.equal(live.status.state, 'live');
});

test.after(() => setImmediate(() => process.exit()));
