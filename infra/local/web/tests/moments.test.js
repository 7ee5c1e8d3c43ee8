import { test } from 'node:test';
import assert from 'node:assert/strict';
import { encode, timeOf } from '../site/page/ids.js';
import { idAt, Moments } from '../site/page/moments.js';

const BEGIN = 1_800_000_000_000;
const step = (ms) => ({ id: encode((BigInt(BEGIN + ms) << 80n) + 7n), type: 'message.posted', actor: 'ada' });

test('a short room is gone through event by event', () => {
  const steps = [30, 0, 10].map(step);
  const moments = new Moments(steps, true);
  assert.equal(moments.max, 2);
  assert.deepEqual([0, 1, 2].map((v) => moments.at(v)), [0, 10, 30].map(step));
  for (const v of [0, 1, 2]) assert.equal(moments.valueOf(moments.at(v)), v);
  assert.equal(moments.valueOf({ id: idAt(BEGIN + 20) }), 1, 'between two events is at the first');
  assert.equal(moments.valueOf({ id: idAt(BEGIN - 5) }), 0);
});

test('a long room is gone through by time, from its first event to its last', () => {
  const moments = new Moments([step(990), step(1_000)], false);
  moments.learn([step(0)]);
  assert.equal(moments.at(moments.max), moments.last);
  assert.equal(timeOf(moments.at(0).id), BEGIN);
  assert.equal(timeOf(moments.at(500).id), BEGIN + 500);
  assert.equal(moments.valueOf(step(250)), 250);
  assert.equal(moments.valueOf(step(5_000)), moments.max);
  assert.equal(new Moments([step(0)], false).valueOf(step(0)), moments.max, 'a room with one event is at its end');
});

test('neighbours are those next to a moment, whether or not it is an event', () => {
  const moments = new Moments([0, 10, 20].map(step), false);
  assert.deepEqual(moments.beside(step(10).id, -1), step(0));
  assert.deepEqual(moments.beside(step(10).id, 1), step(20));
  assert.deepEqual(moments.upTo(idAt(BEGIN + 15)), step(10));
  assert.deepEqual(moments.beside(idAt(BEGIN + 15), -1), step(10));
  assert.deepEqual(moments.upTo(idAt(BEGIN + 10)), step(10), 'all of a millisecond is up to it');
  assert.equal(moments.upTo(idAt(BEGIN - 1)), undefined);
  assert.equal(moments.beside(step(0).id, -1), undefined);
  assert.equal(moments.beside(step(20).id, 1), undefined);
});

test('what is learned twice is there once', () => {
  const moments = new Moments([{ ...step(0), type: 'room.created' }, step(1)], true);
  moments.learn([step(0), step(1), step(2)]);
  assert.equal(moments.max, 2);
  assert.equal(moments.first.type, 'room.created', 'what was heard of an event says more than a page');
});
