import { test } from 'node:test';
import assert from 'node:assert/strict';
import { backoff, Endpoints } from '../site/page/endpoints.js';
import { Minter } from '../site/page/ids.js';
import { Outbox } from '../site/page/outbox.js';
import { Problem } from '../site/page/problem.js';
import { Store } from '../site/page/store.js';

/** A server that fails on demand, before or after it has stored. */
class Server {
  stored = new Map();
  calls = [];
  faults = [];

  async once(method, path, { body }) {
    const id = path.split('/').at(-1);
    this.calls.push(id);
    const fault = this.faults.shift();
    if (fault && !fault.stored) throw fault.problem;
    this.stored.set(id, body);
    if (fault) throw fault.problem;
    return { id, region: 'one' };
  }
}

class Storage {
  kept = new Map();
  getItem(key) { return this.kept.get(key) ?? null; }
  setItem(key, value) { this.kept.set(key, value); }
}

const unavailable = new Problem({ status: 503, code: 'region_failing', retryable: true });

async function setup(storage = new Storage()) {
  const store = new Store('ada');
  store.timeline('r').replace({ messages: [], before: null, after: null });
  const server = new Server();
  const outbox = new Outbox({ store, http: server, minter: new Minter('96b170a131c179'), storage });
  const texts = () => store.timeline('r').messages.map((m) => m.text);
  return { store, server, outbox, storage, texts, states: () => store.timeline('r').messages.map((m) => m.sending?.state) };
}

const until = async (condition) => {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((r) => setTimeout(r, 10));
  assert.ok(condition());
};

test('whatever fails, everything is sent once, in order, under one id', async () => {
  const { server, outbox, texts, states } = await setup();
  server.faults = [{ problem: unavailable }, { problem: Problem.noAnswer(), stored: true }, null, { problem: Problem.noAnswer() }];
  for (const text of ['a', 'b', 'c']) outbox.add('r', 'message.posted', { text });
  assert.deepEqual(texts(), ['a', 'b', 'c']);
  assert.deepEqual(states(), ['sending', 'sending', 'sending']);
  await until(() => outbox.size === 0);
  assert.deepEqual([...server.stored.values()].map((b) => b.text), ['a', 'b', 'c']);
  assert.deepEqual(texts(), ['a', 'b', 'c']);
  assert.deepEqual(states(), [undefined, undefined, undefined]);
  assert.equal(new Set(server.calls).size, 3);
});

test('what was refused for good says so, and can be sent again or given up', async () => {
  const { server, outbox, texts, states } = await setup();
  server.faults = [{ problem: new Problem({ status: 403, code: 'not_a_member' }) }];
  const id = outbox.add('r', 'message.posted', { text: 'a' });
  await until(() => states()[0] === 'failed');
  server.faults = [{ problem: new Problem({ status: 403, code: 'not_a_member' }) }];
  outbox.retry(id);
  await until(() => server.calls.length === 2 && states()[0] === 'failed');
  outbox.discard(id);
  assert.deepEqual(texts(), []);
  assert.equal(outbox.size, 0);
});

test('what was not sent is sent by the next visit, under the same id', async () => {
  const first = await setup();
  first.server.faults = Array(50).fill({ problem: unavailable });
  const id = first.outbox.add('r', 'message.posted', { text: 'a' });
  const second = await setup(first.storage);
  second.outbox.resume();
  await until(() => second.outbox.size === 0);
  assert.deepEqual([...second.server.stored.keys()], [id]);
  first.outbox.discard(id);
});

test('an event that is heard of is accepted, though no answer came', async () => {
  const { server, store, outbox, states } = await setup();
  server.faults = Array(50).fill({ problem: Problem.noAnswer(), stored: true });
  const id = outbox.add('r', 'message.posted', { text: 'a' });
  outbox.confirm(id);
  store.apply('r', { id, type: 'message.posted', actor: 'ada', region: 'two', data: { text: 'a' } });
  assert.equal(outbox.size, 0);
  assert.deepEqual(states(), [undefined]);
});

test('an id refused for its time is minted again, by the servers’ clock', async () => {
  const { server, outbox, texts } = await setup();
  server.faults = [{ problem: new Problem({ status: 422, code: 'id_in_future', time: '2020-01-01T00:00:00Z' }) }];
  const first = outbox.add('r', 'message.posted', { text: 'a' });
  await until(() => outbox.size === 0);
  assert.equal(server.stored.size, 1);
  assert.ok(!server.stored.has(first));
  assert.deepEqual(texts(), ['a']);
});

test('the next endpoint is taken at once, the preferred one again when it is well', async () => {
  let now = 0;
  const endpoints = new Endpoints([{ name: '', url: 'g' }, { name: 'one', url: '1' }, { name: 'two', url: '2' }], { now: () => now, random: () => 1 });
  assert.equal(endpoints.current().name, '');
  endpoints.prefer('two');
  const two = endpoints.current();
  assert.equal(two.name, 'two');
  endpoints.failed(two);
  endpoints.failed(two); // of many requests at the same time
  assert.equal(two.failures, 1);
  assert.equal(endpoints.current().name, '');
  const asked = [];
  await endpoints.ask(async (e) => asked.push(e.name) && false);
  assert.deepEqual(asked, []); // not yet
  now = 501;
  await endpoints.ask(async (e) => asked.push(e.name) && false);
  assert.equal(two.failures, 2);
  now = 2_000;
  await endpoints.ask(async () => true);
  assert.equal(endpoints.current().name, 'two');
});

test('pauses grow to a limit and differ', () => {
  assert.ok(backoff(0) >= 250 && backoff(0) <= 500);
  assert.ok(backoff(40) <= 15_000);
  assert.notEqual(backoff(5), backoff(5));
});
