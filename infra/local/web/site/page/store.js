// The page's state: rooms, the loaded windows of their messages, who was active, what has been seen.
// The network code adds events to it; it notifies the views of changes. No DOM, no network.

import { about, fold, isGone, merge, posted } from './fold.js';
import { timeOf } from './ids.js';
import { Timeline } from './timeline.js';

const REMEMBERED = 20_000; // events by id
const TYPING_FOR = 5_000;
const STEPS = 2_000; // events of a room that the time slider can stop at

const erased = (message) => ({ ...message, text: '', erased: true });

/** The ids seen last: an event that comes again is counted once. */
class Seen {
  #ids = new Set();
  forgotten = ''; // the greatest id that was dropped

  /** Reports whether the id is new. */
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED) {
      const oldest = this.#ids.values().next().value;
      this.#ids.delete(oldest);
      if (oldest > this.forgotten) this.forgotten = oldest;
    }
    return true;
  }
}

export class Store extends EventTarget {
  user;
  rooms = new Map();
  invitations = []; // to rooms, the latest first
  timelines = new Map(); // by room
  thread = null; // { room, root, timeline }
  reading = ''; // the room in front of the user's eyes
  #unreadBy = new Map(); // room -> the event that marked it as unread, '' until it is known
  #lastSeen = ''; // the greatest id of any event, so far
  #seen = new Seen();
  #active = new Map(); // room -> user -> Unix ms
  #typing = new Map(); // room -> user -> Unix ms
  #history = new Map(); // room -> events heard of, as they came
  #known = new Map(); // room -> last message when its unread count was taken
  #settled = false; // what arrives has not been counted, whatever its id
  #resumed = false; // it was settled since the list of rooms was taken
  #doubtful = new Set(); // rooms with messages that may have been counted before

  constructor(user) {
    super();
    this.user = user;
  }

  get lastSeen() {
    return this.#lastSeen;
  }

  #emit(type, room) {
    this.dispatchEvent(Object.assign(new Event(type), { room }));
  }

  timeline(room) {
    if (!this.timelines.has(room)) this.timelines.set(room, new Timeline());
    return this.timelines.get(room);
  }

  /** All windows that could show an event of a room. */
  #windows(room) {
    const all = [this.timeline(room)];
    if (this.thread?.room === room) all.push(this.thread.timeline);
    return all;
  }

  /** Takes the list of rooms as a server gave it; `whole` if there are no others. */
  setRooms(rooms, whole = true) {
    const had = this.rooms;
    this.rooms = new Map(whole ? [] : had);
    if (whole) {
      this.#settled = this.#resumed = false;
      this.#doubtful.clear();
    }
    for (const room of rooms) {
      this.rooms.set(room.id, { ...room, unread: this.#reads(room.id) ? 0 : room.unread });
      if (whole) this.#known.set(room.id, room.last?.id ?? ''); // else the count is of events
      if (room.last) this.#see(room.last.id);
    }
    this.#emit('rooms');
  }

  setInvitations(invitations = []) {
    this.invitations = invitations;
    this.#emit('rooms');
  }

  dropRoom(room) {
    if (this.rooms.delete(room)) this.#emit('rooms', room);
  }

  /**
   * From now on unread counts are of events, not of the list of rooms. Gives the rooms whose counts a
   * server must be asked for.
   */
  settled() {
    const doubtful = [...this.#doubtful];
    this.#doubtful.clear();
    this.#settled = this.#resumed = true;
    return doubtful;
  }

  /** From now on events may come again that the list of rooms counts: another region goes back minutes. */
  resuming() {
    this.#settled = false;
  }

  /** Takes a server's unread count of a room. It may not have all that has come here. */
  recount(room, unread) {
    const entry = this.rooms.get(room);
    if (!entry || this.#reads(room) || unread <= entry.unread) return;
    entry.unread = unread;
    this.#emit('rooms', room);
  }

  /** Reports whether the user reads what comes in a room. */
  #reads(room) {
    return room === this.reading && !this.#unreadBy.has(room);
  }

  /** Reports whether a message may be one that was counted before its id was known here. */
  #mayRepeat(room, id) {
    return !this.#settled && (id <= (this.#known.get(room) ?? '') || id <= this.#seen.forgotten);
  }

  #see(id) {
    if (id > this.#lastSeen) this.#lastSeen = id;
  }

  /**
   * Takes an event, as often and in whatever order it comes. `message` is the state of a message
   * that this page is sending, undefined for what comes from a server.
   */
  apply(room, event, sending) {
    const fresh = this.#seen.add(event.id);
    this.#see(event.id);
    if (!room) return;
    if (fresh) this.#note(room, event);
    if (event.type === 'message.posted') this.#post(room, event, fresh, sending);
    else if (event.type.startsWith('message.') || event.type.startsWith('reaction.')) this.#change(room, event);
    else this.#emit('room-changed', room);
  }

  #note(room, event) {
    this.touch(room, event.actor, timeOf(event.id));
    if (!this.#history.has(room)) this.#history.set(room, []);
    const history = this.#history.get(room);
    history.push({ id: event.id, type: event.type, actor: event.actor });
    if (history.length > STEPS) history.shift();
    this.#typing.get(room)?.delete(event.actor);
  }

  #post(room, event, fresh, sending) {
    const message = posted(event, room);
    message.sending = sending;
    for (const window of this.#windows(room)) {
      if (window !== this.timeline(room) && event.data.thread !== this.thread.root) continue;
      if (!window.loaded) continue;
      window.add(message);
      window.update(event.id, (m) => (sending || (!m.sending && m.region) ? m : { ...m, sending: undefined, region: event.region }));
      if (message.erased) window.update(event.id, erased);
    }
    if (fresh) this.#count(room, message);
    const entry = this.rooms.get(room);
    if (message.erased && entry?.last?.id === event.id) entry.last = erased(entry.last);
    this.#emit('timeline', room);
  }

  #count(room, message) {
    const mayRepeat = this.#mayRepeat(room, message.id);
    if (mayRepeat && this.#resumed) this.#doubtful.add(room);
    if (message.thread && !mayRepeat) {
      for (const window of this.#windows(room)) {
        window.update(message.thread, (m) => ({ ...m, replies: Math.min(100, (m.replies ?? 0) + 1) }));
      }
    }
    const entry = this.rooms.get(room);
    if (!entry) return;
    const mine = message.author === this.user;
    const late = message.id <= (entry.read_to ?? ''); // or read on another device: a server knows
    if (!mine && !mayRepeat && late) {
      entry.late = true;
      if (!this.#reads(room)) this.dispatchEvent(Object.assign(new Event('late'), { room }));
    }
    if (!mine && !mayRepeat && !late && !this.#reads(room)) entry.unread = Math.min(100, entry.unread + 1);
    this.setLast(room, message);
    if (!mayRepeat) this.dispatchEvent(Object.assign(new Event('message'), { room, message, mine }));
    this.#emit('rooms', room);
  }

  /** The last message of a room, as a server gave it. */
  setLast(room, message) {
    const entry = this.rooms.get(room);
    if (!entry || entry.last?.id > message.id) return;
    entry.last = entry.last?.id === message.id ? merge(message, entry.last) : message;
    this.#emit('rooms', room);
  }

  #change(room, event) {
    const id = about(event);
    for (const window of this.#windows(room)) window.fold(id, event);
    const entry = this.rooms.get(room);
    if (entry?.last?.id === id) {
      entry.last = fold(entry.last, event);
      this.#emit('rooms', room);
    }
    this.#emit('timeline', room);
  }

  /** Marks how the sending of a message goes. */
  setSending(room, id, sending) {
    for (const window of this.#windows(room)) window.update(id, (m) => ({ ...m, sending }));
    this.#emit('timeline', room);
  }

  /** Takes back a message that was never sent, or puts a server's word in place of ours. */
  withdraw(room, id, fromServer) {
    for (const window of this.#windows(room)) {
      if (fromServer) window.update(id, () => ({ ...fromServer, marks: {} }));
      else window.remove(id);
    }
    const entry = this.rooms.get(room);
    if (entry?.last?.id === id) {
      entry.last = fromServer ?? this.timeline(room).messages.at(-1);
      this.#emit('rooms', room);
    }
    this.#emit('timeline', room);
  }

  changed(room) {
    this.#emit('timeline', room);
  }

  /** What happened in a room, as far as it is known here, in order. */
  history(room) {
    const messages = this.timeline(room).messages.filter((m) => !m.sending);
    const posts = messages.map((m) => ({ id: m.id, type: 'message.posted', actor: m.author }));
    const all = new Map([...posts, ...(this.#history.get(room) ?? [])].map((e) => [e.id, e]));
    return [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /**
   * Moves a read marker on, by an event of another device or by this page, and reports whether that changes
   * anything. What is marked as unread stays so until the room is opened again.
   */
  markRead(room, id, event = '') {
    const entry = this.rooms.get(room);
    if (!entry) return false;
    const unreadBy = this.#unreadBy.get(room);
    if (unreadBy !== undefined && (!event || !unreadBy || event < unreadBy)) return false;
    this.#unreadBy.delete(room);
    const further = (entry.read_to ?? '') < id;
    if (further) entry.read_to = id;
    const all = id >= (entry.last?.id ?? ''); // what came late may be unread and stand before the marker
    const changes = further || (all && Boolean(entry.unread || entry.late));
    if (changes) {
      entry.unread = 0;
      entry.late = false;
      this.#emit('rooms', room);
    }
    return changes;
  }

  /** Moves a read marker back to before a message. The event is not known while a server is being asked. */
  markUnread(room, from, event = '') {
    const entry = this.rooms.get(room);
    if (!entry || (event && event < (this.#unreadBy.get(room) ?? ''))) return;
    this.#unreadBy.set(room, event);
    entry.read_to = from.slice(0, -1); // sorts just before it
    const unread = this.timeline(room).messages.filter((m) => m.id >= from && m.author !== this.user && !isGone(m));
    entry.unread = Math.min(100, unread.length);
    this.#emit('rooms', room);
  }

  /** Puts a room in front of the user's eyes. */
  open(room) {
    this.reading = room;
    this.#unreadBy.delete(room);
  }

  touch(room, user, at) {
    if (!this.#active.has(room)) this.#active.set(room, new Map());
    const users = this.#active.get(room);
    if (at > (users.get(user) ?? 0)) {
      users.set(user, at);
      this.#emit('active', room);
    }
  }

  lastActive(room, user) {
    return this.#active.get(room)?.get(user) ?? 0;
  }

  typing(room, user, now = Date.now()) {
    if (user === this.user) return;
    if (!this.#typing.has(room)) this.#typing.set(room, new Map());
    this.#typing.get(room).set(user, now + TYPING_FOR);
    this.touch(room, user, now);
    this.#emit('typing', room);
  }

  whoTypes(room, now = Date.now()) {
    return [...(this.#typing.get(room) ?? [])].filter(([, until]) => until > now).map(([user]) => user);
  }
}
