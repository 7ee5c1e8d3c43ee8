import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Store } from '../site/page/store.js';
import { Timeline } from '../site/page/timeline.js';

const id = (n) => `01${String(n).padStart(24, '0')}`;
const message = (n) => ({ id: id(n), author: 'bob', text: String(n), sent_at: '2027-01-01T00:00:00Z', reactions: {}, region: 'one' });
const ids = (t) => t.messages.map((m) => Number(m.text));

/** A room of a hundred thousand messages, as a server pages it. */
function page({ before = Infinity, after = -1, limit = 60, total = 100_000 }) {
  const last = Math.min(before, total);
  const first = after >= 0 ? after + 1 : Math.max(0, last - limit);
  const messages = Array.from({ length: Math.min(limit, last - first) }, (_, i) => message(first + i));
  return { messages, before: first > 0 ? id(first) : null, after: first + messages.length < total ? id(first + messages.length - 1) : null };
}

const number = (text) => (text === null ? null : Number(text.slice(2)));

test('a window over a hundred thousand messages stays small and has no holes', () => {
  const t = new Timeline();
  t.replace(page({}));
  for (let i = 0; i < 50; i++) {
    t.prepend(page({ before: number(t.before) }));
    const shown = ids(t);
    assert.ok(shown.length <= 300);
    assert.deepEqual(shown, Array.from(shown, (_, j) => shown[0] + j));
  }
  assert.ok(ids(t)[0] < 97_000 && t.after !== null);
  while (t.after !== null) t.append(page({ after: number(t.after) }));
  assert.equal(ids(t).at(-1), 99_999);
  assert.ok(t.messages.length <= 300 && t.before !== null);
});

test('a message that comes late stands where it belongs, or is paged to', () => {
  const t = new Timeline();
  t.replace(page({ total: 1_000 }));
  t.remove(id(970));
  assert.equal(t.add(message(970)), true);
  assert.equal(t.add(message(970)), true); // again: nothing is doubled
  assert.equal(ids(t).filter((n) => n === 970).length, 1);
  assert.equal(t.add(message(5)), false);
  t.append({ messages: [], before: null, after: null });
  assert.equal(ids(t)[0], 940);
});

test('a window away from the end counts what comes, and shows no hole', () => {
  const t = new Timeline();
  t.replace({ ...page({ before: 500 }), after: id(499) });
  assert.equal(t.add(message(1_001)), false);
  assert.equal(t.missed, 1);
  assert.equal(ids(t).at(-1), 499);
});

test('a page from a region that lags takes nothing away', () => {
  const t = new Timeline();
  t.replace(page({ total: 100 }));
  t.add(message(100));
  t.fold(id(99), { id: id(101), type: 'message.edited', actor: 'bob', data: { message: id(99), text: 'edited' } });
  t.replace(page({ total: 100 }));
  assert.equal(ids(t).at(-1), 100);
  assert.equal(t.get(id(99)).text, 'edited');
});

const happened = (n, actor = 'bob', data = {}) => ({ id: id(n), type: 'message.posted', actor, region: 'one', data: { text: String(n), ...data } });

test('events that come again count once', () => {
  const store = new Store('ada');
  store.setRooms([{ id: 'r', name: 'R', unread: 3, last: message(10) }]);
  store.timeline('r').replace({ messages: [], before: null, after: null });
  for (const n of [9, 10, 11, 12, 12, 11]) store.apply('r', happened(n)); // 9 and 10 were counted in the list of rooms
  assert.equal(store.rooms.get('r').unread, 5);
  store.settled();
  store.apply('r', happened(8)); // late, and new
  store.apply('r', happened(13, 'ada'));
  assert.equal(store.rooms.get('r').unread, 6);
  assert.deepEqual(ids(store.timeline('r')), [8, 9, 10, 11, 12, 13]);
  assert.equal(store.lastSeen, id(13));
});

test('replies are counted, once each', () => {
  const store = new Store('ada');
  store.timeline('r').replace({ messages: [message(1)], before: null, after: null });
  for (const n of [2, 3, 3]) store.apply('r', happened(n, 'bob', { thread: id(1) }));
  assert.equal(store.timeline('r').get(id(1)).replies, 2);
});
