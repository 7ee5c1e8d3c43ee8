import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Minter } from '../site/page/ids.js';
import { Store } from '../site/page/store.js';

let now = 1_800_000_000_000;
const minter = new Minter('00112233445566', () => now++);
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

test('a user who has read to the end has nothing unread, even before the marker', () => {
  const store = roomWith();
  const late = event('message.posted', { text: 'late' });
  const post = event('message.posted', { text: 'read' });
  store.apply('r', post);
  assert.equal(store.markRead('r', post.id), true);
  store.setRooms([{ ...store.rooms.get('r'), unread: 1 }]);
  store.apply('r', late);
  assert.equal(store.markRead('r', late.id), false, 'a marker does not go back');
  assert.equal(store.rooms.get('r').unread, 1);
  assert.equal(store.markRead('r', post.id), true, 'the server does not know yet that what came late is read');
  assert.equal(store.rooms.get('r').unread, 0);
  assert.equal(store.markRead('r', post.id), false);
});

test('a message that comes late is to be read, in the room that is open too; of another room a server knows', () => {
  const store = roomWith();
  const asked = [];
  store.addEventListener('late', ({ room }) => asked.push(room));
  const [late, later] = [event('message.posted', { text: 'late' }), event('message.posted', { text: 'later' })];
  const post = event('message.posted', { text: 'read' });
  store.open('r');
  store.apply('r', post);
  assert.equal(store.markRead('r', post.id), true);
  store.apply('r', late);
  assert.deepEqual([asked, store.rooms.get('r').unread], [[], 0]);
  assert.equal(store.markRead('r', post.id), true);
  store.open('');
  store.apply('r', later);
  assert.deepEqual([asked, store.rooms.get('r').unread], [['r'], 0]);
});

test('a room that is marked as unread stays so until it is opened again', () => {
  const store = roomWith();
  const [first, second] = [event('message.posted', { text: 'first' }), event('message.posted', { text: 'second' })];
  store.open('r');
  store.apply('r', first);
  store.apply('r', second);
  const [read, marked, again] = [event('room.read', {}), event('room.marked_unread', {}), event('room.read', {})];
  assert.equal(store.markRead('r', second.id), true);
  store.markUnread('r', second.id);
  assert.equal(store.rooms.get('r').unread, 1);
  assert.equal(store.markRead('r', second.id), false, 'not by what the page does');
  store.markUnread('r', second.id, marked.id);
  assert.equal(store.markRead('r', second.id, read.id), false, 'nor by a marker that was set before');
  assert.equal(store.rooms.get('r').unread, 1);
  store.apply('r', event('message.posted', { text: 'third' }));
  assert.equal(store.rooms.get('r').unread, 2);
  assert.equal(store.markRead('r', second.id, again.id), true, 'another device has read it');
  store.markUnread('r', first.id, event('room.marked_unread', {}).id);
  assert.equal(store.rooms.get('r').unread, 3);
  store.open('r');
  assert.equal(store.markRead('r', store.rooms.get('r').last.id), true);
  assert.equal(store.rooms.get('r').unread, 0);
});

test('a message that comes after a later one and an answer about its room is unread too', () => {
  const store = roomWith();
  const [first, second] = [event('message.posted', { text: 'first' }), event('message.posted', { text: 'second' })];
  store.apply('r', second);
  store.setRooms([{ ...store.rooms.get('r'), name: 'Renamed' }], false); // it says nothing of what is unread
  store.apply('r', first);
  assert.equal(store.rooms.get('r').unread, 2);
});

test('events that come again from another region are not counted again', () => {
  const store = new Store('ada');
  const [listed, late] = [event('message.posted', { text: 'listed' }), event('message.posted', { text: 'late' })];
  const last = event('message.posted', { text: 'last' });
  store.setRooms([{ id: 'r', name: 'Room', unread: 2, last: { id: last.id, author: 'bob' } }]);
  assert.deepEqual(store.settled(), []);
  store.resuming(); // it goes back to before the list was taken
  for (const e of [listed, late, last, event('message.posted', { text: 'new' })]) store.apply('r', e);
  assert.equal(store.rooms.get('r').unread, 3);
  assert.deepEqual(store.settled(), ['r'], 'one of them may be new: a server knows');
  store.recount('r', 2);
  assert.equal(store.rooms.get('r').unread, 3, 'a server that lags behind takes nothing back');
  store.recount('r', 4);
  assert.equal(store.rooms.get('r').unread, 4);
  assert.deepEqual(store.settled(), []);
});

test('more events than are remembered are not counted twice', () => {
  const store = roomWith();
  const posts = Array.from({ length: 30_000 }, () => ({ ...event('message.posted', { text: 'x' }), actor: 'ada' }));
  posts[0].actor = 'bob';
  for (const e of posts) store.apply('r', e);
  store.resuming();
  for (const e of posts) store.apply('r', e);
  assert.equal(store.rooms.get('r').unread, 1);
  assert.deepEqual(store.settled(), ['r']);
});
