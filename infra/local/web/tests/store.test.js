import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Minter } from '../site/page/ids.js';
import { Store } from '../site/page/store.js';

let now = 1_800_000_000_000;
const minter = await Minter.of('bob', () => now++);
const event = (type, data) => ({ id: minter.mint(), type, actor: 'bob', data, region: 'one' });

function roomWith(room = {}) {
  const store = new Store('ada');
  store.setRooms([{ id: 'r', name: 'Room', unread: 0, ...room }]);
  store.settled();
  store.timeline('r').replace({ messages: [], before: null, after: null });
  return store;
}

test('the list of rooms says of the last message what has become of it', () => {
  const store = roomWith();
  const post = event('message.posted', { text: 'hello' });
  store.apply('r', post);
  store.apply('r', event('message.edited', { message: post.id, text: 'hello!' }));
  assert.equal(store.rooms.get('r').last.text, 'hello!');
  store.apply('r', event('message.deleted', { message: post.id }));
  assert.deepEqual([store.rooms.get('r').last.text, store.rooms.get('r').last.deleted], ['', true]);
  store.setLast('r', { id: post.id, author: 'bob', text: 'hello', reactions: {} });
  assert.equal(store.rooms.get('r').last.deleted, true, 'a server that lags behind does not bring it back');
});

test('what is given up is no longer the last message', () => {
  const store = roomWith();
  const post = event('message.posted', { text: 'heard' });
  const mine = { ...event('message.posted', { text: 'never sent' }), actor: 'ada' };
  store.apply('r', post);
  store.apply('r', mine, { state: 'failed' });
  assert.equal(store.rooms.get('r').last.text, 'never sent');
  store.withdraw('r', mine.id);
  assert.equal(store.rooms.get('r').last.text, 'heard');
});

test('an event that comes again without its text erases what is shown', () => {
  const store = roomWith();
  const post = event('message.posted', { text: 'personal' });
  store.apply('r', post);
  store.apply('r', { ...post, data: { text: null } });
  assert.deepEqual([store.timeline('r').get(post.id).text, store.timeline('r').get(post.id).erased], ['', true]);
  assert.equal(store.rooms.get('r').last.text, '');
});

test('who has read to the end has nothing unread, though it stands before her marker', () => {
  const store = roomWith();
  const late = event('message.posted', { text: 'late' });
  const post = event('message.posted', { text: 'read' });
  store.apply('r', post);
  assert.equal(store.markRead('r', post.id), true);
  store.setRooms([{ ...store.rooms.get('r'), unread: 1 }]);
  store.apply('r', late);
  assert.equal(store.markRead('r', late.id), false, 'a marker does not go back');
  assert.equal(store.rooms.get('r').unread, 1);
  assert.equal(store.markRead('r', post.id), false);
  assert.equal(store.rooms.get('r').unread, 0);
});
