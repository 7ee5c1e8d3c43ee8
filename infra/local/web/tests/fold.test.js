import { test } from 'node:test';
import assert from 'node:assert/strict';
import { fold, merge, posted } from '../site/page/fold.js';
import { Minter } from '../site/page/ids.js';

let now = 1_800_000_000_000;
const minter = new Minter('96b170a131c179', () => now++);
const event = (type, actor, data) => ({ id: minter.mint(), type, actor, data, region: 'one' });

const post = event('message.posted', 'ada', { text: 'first' });
const on = (type, actor, data = {}) => event(type, actor, { message: post.id, ...data });
const some = [
  on('message.edited', 'ada', { text: 'second' }), on('message.edited', 'eve', { text: 'by another user' }), on('message.edited', 'ada', { text: 'third' }),
  on('reaction.added', 'bob', { emoji: '👍' }), on('reaction.removed', 'bob', { emoji: '👍' }), on('reaction.added', 'bob', { emoji: '👍' }),
  on('reaction.added', 'eve', { emoji: '👍' }), on('reaction.removed', 'eve', { emoji: '👍' }),
  on('message.pinned', 'bob'), on('message.deleted', 'eve'),
];

const shown = ({ text, deleted, pinned, reactions }) => ({ text, deleted, pinned, reactions });

function shuffled(list) {
  const all = [...list, ...list.filter(() => Math.random() < 0.5)];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

test('any order and repetition of events gives the same message', () => {
  const want = { text: 'third', deleted: undefined, pinned: true, reactions: { '👍': ['bob'] } };
  for (let i = 0; i < 500; i++) {
    assert.deepEqual(shown(shuffled(some).reduce(fold, posted(post, 'r'))), want);
  }
});

test('an emoji is one reaction in any form', () => {
  const forms = [
    on('reaction.added', 'bob', { emoji: '❤' }), on('reaction.added', 'eve', { emoji: '❤\ufe0f' }), on('reaction.added', 'ada', { emoji: '❤' }),
    on('reaction.removed', 'ada', { emoji: '❤\ufe0f' }),
  ];
  for (let i = 0; i < 100; i++) {
    const { reactions } = shuffled(forms).reduce(fold, posted(post, 'r'));
    assert.deepEqual(Object.values(reactions).map((users) => users.sort()), [['bob', 'eve']]);
  }
});

test('a deletion by the author or a moderator wins for good', () => {
  const gone = on('message.deleted', 'bob', { moderated: true });
  for (let i = 0; i < 200; i++) {
    const m = shuffled([...some, gone]).reduce(fold, posted(post, 'r'));
    assert.equal(m.deleted, true);
    assert.equal(m.text, '');
  }
});

test('what a server says is brought up to what was heard here', () => {
  const local = some.reduce(fold, posted(post, 'r'));
  const stale = { ...posted(post, 'r'), marks: undefined, replies: 2 };
  assert.deepEqual(shown(merge(stale, local)), shown(local));
  const ahead = { ...stale, text: 'newest', edited_at: new Date(now + 60_000).toISOString() };
  assert.equal(merge(ahead, local).text, 'newest');
});

test('an event that changes nothing gives the same object', () => {
  const m = some.reduce(fold, posted(post, 'r'));
  for (const e of some) assert.equal(fold(m, e), m);
});

test('what was erased comes without its text, and stays erased', () => {
  const m = posted({ ...post, data: { text: null } }, 'r');
  assert.deepEqual([m.text, m.erased], ['', true]);
  assert.equal(fold(m, some[0]), m, 'an edit that was heard before says nothing any more');
  const erased = { ...some[0], data: { ...some[0].data, text: null } };
  for (let i = 0; i < 200; i++) {
    const { text, erased: gone } = shuffled([...some, erased]).reduce(fold, posted(post, 'r'));
    assert.deepEqual([text, gone], ['', true]);
  }
});

test('what was deleted, or cannot be read yet, comes without its text and says which', () => {
  const nothing = { ...post, data: { text: null } };
  const deleted = posted({ ...nothing, deleted: true }, 'r');
  assert.deepEqual([deleted.text, deleted.deleted, deleted.erased], ['', true, undefined]);
  const unreadable = posted({ ...nothing, unreadable: true }, 'r');
  assert.deepEqual([unreadable.text, unreadable.unreadable, unreadable.erased], ['', true, undefined]);
  const edit = some.find((e) => e.type === 'message.edited' && e.actor === post.actor);
  const read = fold(unreadable, edit);
  assert.deepEqual([read.text, read.unreadable], [edit.data.text, undefined], 'a later edit can be read');
});

test('a server that has not heard of an erasure does not undo it, nor is one undone by what was heard here', () => {
  const local = some.reduce(fold, posted(post, 'r'));
  const gone = { ...local, text: '', erased: true };
  assert.deepEqual([merge({ ...local, marks: undefined }, gone).text, merge(gone, local).text], ['', '']);
});
