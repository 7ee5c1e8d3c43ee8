import { test } from 'node:test';
import assert from 'node:assert/strict';
import { encode, isID, Minter, timeOf } from '../site/page/ids.js';

const MARK = '96b170a131c179';

test('ids are written as ULIDs are', () => {
  assert.equal(encode(0n), '00000000000000000000000000');
  assert.equal(encode((1n << 128n) - 1n), '7ZZZZZZZZZZZZZZZZZZZZZZZZZ');
  assert.equal(timeOf('01ARZ3NDEKTSV4RRFFQ69G5FAV'), 1469922850259);
});

test('ids only ever increase, also within a millisecond and when the clock is set back', () => {
  let now = 1_800_000_000_000;
  const minter = new Minter(MARK, () => now);
  let last = '';
  for (let i = 0; i < 5_000; i++) {
    if (i % 1_000 === 999) now += i % 2_000 === 999 ? 5 : -400;
    const id = minter.mint();
    assert.ok(id > last && isID(id), `${last} then ${id}`);
    last = id;
  }
});

test('an id sorts behind its causes, and does not move the clock', () => {
  const now = 1_800_000_000_000;
  const minter = new Minter(MARK, () => now);
  const other = new Minter('00112233445566', () => now + 7_000);
  for (let i = 0; i < 500; i++) {
    const cause = other.mint();
    assert.ok(minter.mint(cause, '') > cause);
  }
  assert.equal(timeOf(minter.mint()), now);
});

test('the servers’ time is used when they return it', () => {
  const minter = new Minter(MARK, () => 1_800_000_000_000);
  minter.mint();
  minter.setTime(1_700_000_000_000);
  assert.equal(timeOf(minter.mint()), 1_700_000_000_000);
});

test('an id carries the mark of its user', () => {
  const minter = new Minter(MARK);
  const bits = [...minter.mint()].reduce((sum, c) => (sum << 5n) | BigInt('0123456789ABCDEFGHJKMNPQRSTVWXYZ'.indexOf(c)), 0n);
  assert.equal((bits >> 24n) & 0xffffffffffffffn, BigInt(`0x${MARK}`));
});
