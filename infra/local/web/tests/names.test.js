import { test } from 'node:test';
import assert from 'node:assert/strict';
import { initials, whenText } from '../site/page/format.js';
import { escapeUser, plain, userOf } from '../site/page/names.js';

test('any name with a letter or a digit in it makes a user id', () => {
  assert.equal(userOf('Zoë Möller'), 'zoe-moller');
  assert.equal(userOf('  Ada 🎶 '), 'ada');
  const seen = new Set();
  for (const name of ['日本', '日本語', 'Ада', 'Ада Б.', 'Ada Б.', 'عمر', 'x'.repeat(90) + 'я', '7', 'ß']) {
    const user = userOf(name);
    assert.match(user, /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/, name);
    assert.equal(user, userOf(name));
    seen.add(user);
  }
  assert.equal(seen.size, 9, 'names that differ in their letters only are different people');
  for (const name of ['', ' ', '🎶', '...', '—']) assert.equal(userOf(name), '', name);
});

test('a subject of any identity provider is a user id', () => {
  for (const [subject, user] of [
    ['ada', 'ada'], ['Ada_1815-x.y', 'Ada_1815-x.y'], ['auth0|5f7c8ec7c33c6c004bbafe82', 'auth0~7C5f7c8ec7c33c6c004bbafe82'],
    ['ada@example.com', 'ada~40example.com'], ["a b!~*'()", 'a~20b~21~7E~2A~27~28~29'], ['é', '~C3~A9'], ['.', '~2E'], ['..', '~2E~2E'],
  ]) assert.equal(escapeUser(subject), user);
});

test('a name cannot turn around the text beside it', () => {
  assert.equal(plain('Eve\u202Elive\u202C \u2067x\u2069'), 'Evelive x');
  assert.equal(plain('שלום'), 'שלום');
});

test('initials are letters', () => {
  for (const [name, want] of [['Ada Lovelace', 'AL'], ['<b>Eve</b>', 'BB'], ['bob', 'B'], ['日本', '日'], ['***', '*'], ['', '']]) {
    assert.equal(initials(name), want, name);
  }
});

test('what was not today is named by its day', () => {
  const now = new Date(2026, 10, 28, 12);
  assert.match(whenText(new Date(2026, 10, 28, 9, 30), now), /30/);
  assert.match(whenText(new Date(2026, 4, 24), now), /24/);
  assert.doesNotMatch(whenText(new Date(2026, 4, 24), now), /2026/);
  assert.match(whenText(new Date(2019, 4, 24), now), /2019/);
});
