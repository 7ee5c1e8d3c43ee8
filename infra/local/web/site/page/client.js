// The client: everything a chat needs of the servers, and nothing of how it looks.

import { Endpoints } from './endpoints.js';
import { Http } from './http.js';
import { Minter } from './ids.js';
import { Live } from './live.js';
import { Names } from './names.js';
import { Outbox } from './outbox.js';
import { Store } from './store.js';
import { Timeline } from './timeline.js';

const PAGE = 60;
const ASK_EVERY = 1_000;

const messagesOf = (room) => `/v1/rooms/${room}/messages`;

export class Client {
  /** Asks for the user's mark first, until some region gives it: without it nothing can be sent. */
  static async of({ session, endpoints, storage }) {
    const all = new Endpoints(endpoints);
    const { mark } = await new Http(all, session).get('/v1/me', { patience: Infinity });
    return new Client(session, all, new Minter(mark), storage);
  }

  constructor(session, endpoints, minter, storage) {
    this.session = session;
    this.endpoints = endpoints;
    this.minter = minter;
    this.store = new Store(session.user);
    this.http = new Http(endpoints, session, (region) => this.#servedBy(region));
    this.names = new Names(this.http);
    this.outbox = new Outbox({ store: this.store, http: this.http, minter, storage });
    this.live = new Live({
      endpoints, session, http: this.http,
      apply: (happened) => this.#apply(happened),
      reload: () => this.reload(),
    });
    this.ready = new Promise((resolve) => { this.#loaded = resolve; });
  }

  #refreshing = new Map(); // room -> timer
  #loaded;
  ready; // resolves once the rooms are known

  start() {
    this.outbox.resume();
    this.live.addEventListener('status', () => this.#onStatus());
    this.live.addEventListener('typing', ({ frame: { room, user } }) => this.store.typing(room, user));
    this.live.addEventListener('removed', ({ frame: { room } }) => this.store.dropRoom(room));
    this.store.addEventListener('late', ({ room }) => this.#recount([room]).catch(() => {}));
    this.store.addEventListener('room-changed', ({ room }) => this.refreshRoom(room));
    void this.live.run();
    setInterval(() => this.endpoints.ask((endpoint) => this.#isWell(endpoint)), ASK_EVERY);
  }

  #wasLive = false;

  #onStatus() {
    const live = this.live.status.state === 'live';
    if (live && !this.#wasLive) {
      this.#recount(this.store.settled()).catch(() => {}); // the next change of region asks again
      this.outbox.retry();
    }
    if (!live && this.#wasLive) this.store.resuming();
    this.#wasLive = live;
  }

  /** Asks for the unread counts of rooms. */
  async #recount(rooms) {
    if (!rooms.length) return;
    for (const room of (await this.#list()).rooms) {
      if (rooms.includes(room.id)) this.store.recount(room.id, room.unread);
    }
  }

  #servedBy(region) {
    if (region && this.live.status.how !== 'socket' && region !== this.live.status.region) {
      this.live.status.region = region;
      this.live.dispatchEvent(new Event('status'));
      this.store.resuming(); // until the page of events is here, and the status is said again
      this.#wasLive = false;
    }
  }

  async #isWell({ url }) {
    try {
      return (await fetch(`${url}/health`, { cache: 'no-store', signal: AbortSignal.timeout(3_000) })).ok;
    } catch {
      return false;
    }
  }

  #apply({ room, event, partial }) {
    if (partial) {
      this.#whole(room, event).catch(() => this.live.kick());
      return;
    }
    this.outbox.confirm(event.id);
    this.store.apply(room, event);
    if (event.type === 'room.read' && !room) this.#readElsewhere(event);
    if (event.type === 'room.marked_unread' && !room) this.#markedUnread(event);
    if (event.type.startsWith('member.') && event.data?.user === this.session.user) this.#askInvitations();
  }

  /** An event too large for a frame, or whose key is not there yet: ask for what it holds. */
  async #whole(room, event) {
    if (event.type !== 'message.posted') return this.latest(room);
    const { text, deleted, erased, unreadable, reply_to, thread } = await this.http.get(`${messagesOf(room)}/${event.id}?includes=${event.id}`);
    if (unreadable) return this.live.hold();
    this.#apply({ room, event: { ...event, deleted, data: { text: deleted || erased ? null : text, reply_to, thread } } });
  }

  #readElsewhere({ id, data }) {
    this.store.markRead(data.room, data.up_to, id);
  }

  #markedUnread({ id, data }) {
    this.store.markUnread(data.room, data.from, id);
    this.#recount([data.room]).catch(() => {});
  }

  /** Publishes the user's display name. */
  setName(name) {
    const me = encodeURIComponent(this.session.user);
    this.http.request('PUT', `/v1/users/${me}`, { body: { name }, key: this.minter.mint() }).catch(() => {});
  }

  // --- rooms

  /** Loads the rooms and the one being read, and gives the cursor to go on with: it was taken first. */
  async reload() {
    const { rooms, cursor, invitations } = await this.#list();
    this.store.setInvitations(invitations);
    const reading = this.store.rooms.get(this.store.reading);
    if (reading && !rooms.some((r) => r.id === reading.id)) rooms.push(reading); // not here yet
    this.store.setRooms(rooms);
    for (const [room, timeline] of this.store.timelines) {
      if (room !== this.store.reading) timeline.loaded = false;
    }
    this.#loaded();
    if (this.store.reading) await this.latest(this.store.reading);
    return cursor;
  }

  /** All rooms of the user, with the first page's cursor. */
  async #list() {
    const rooms = [];
    let first;
    for (let after = ''; after !== null;) {
      const page = await this.http.get(`/v1/rooms?limit=200${after && `&after=${after}`}`);
      first ??= page;
      rooms.push(...page.rooms);
      after = page.after;
    }
    return { rooms, cursor: first.cursor ?? '', invitations: first.invitations };
  }

  #asking = 0;

  #askInvitations() {
    this.#asking ||= setTimeout(async () => {
      this.#asking = 0;
      try {
        this.store.setInvitations((await this.http.get('/v1/rooms?limit=1')).invitations);
      } catch { /* the next event or reload asks again */ }
    }, 150);
  }

  /** Asks what has become of a room; many questions at once are one. */
  refreshRoom(room) {
    if (this.#refreshing.has(room)) return;
    this.#refreshing.set(room, setTimeout(async () => {
      this.#refreshing.delete(room);
      try {
        const now = await this.http.get(`/v1/rooms/${room}`);
        const known = this.store.rooms.get(room);
        if (!now.role) return this.store.dropRoom(room);
        this.store.setRooms([{ unread: 0, ...known, ...now }], false);
      } catch (problem) {
        if (problem.status === 403 || problem.status === 404) this.store.dropRoom(room);
      }
    }, 150));
  }

  async createRoom(name, isPrivate) {
    const id = this.minter.mint();
    const room = await this.http.request('PUT', `/v1/rooms/${id}`, { body: { name, private: isPrivate } });
    return this.#entered(room);
  }

  async joinRoom(id) {
    const me = encodeURIComponent(this.session.user);
    await this.http.request('PUT', `/v1/rooms/${id}/members/${me}`, { key: this.minter.mint() });
    return this.#entered(await this.http.get(`/v1/rooms/${id}`));
  }

  async openDirect(user) {
    return this.#entered(await this.http.request('PUT', `/v1/direct/${encodeURIComponent(user)}`, { key: this.minter.mint() }));
  }

  async leaveRoom(id) {
    const me = encodeURIComponent(this.session.user);
    await this.http.request('DELETE', `/v1/rooms/${id}/members/${me}`, { key: this.minter.mint() });
    this.store.dropRoom(id);
  }

  /** Declines an invitation. joinRoom accepts one. */
  async decline(room) {
    await this.leaveRoom(room);
    this.#askInvitations();
  }

  /** Invites a user, who becomes a member by accepting. */
  async invite(room, user) {
    await this.http.request('PUT', `/v1/rooms/${room}/members/${encodeURIComponent(user)}`, { key: this.minter.mint() });
  }

  #entered(room) {
    this.store.setRooms([{ unread: 0, ...this.store.rooms.get(room.id), ...room }], false);
    return room.id;
  }

  async members(room) {
    const members = [];
    for (let after = ''; after !== null && members.length < 1_000;) {
      const page = await this.http.get(`/v1/rooms/${room}/members?limit=200${after && `&after=${encodeURIComponent(after)}`}`);
      members.push(...page.members);
      after = page.after;
    }
    return members;
  }

  // --- messages

  /** Puts a room in front of the user. */
  async open(room) {
    this.store.open(room);
    const timeline = this.store.timeline(room);
    if (!timeline.loaded || timeline.after !== null) await this.latest(room);
  }

  async latest(room) {
    this.#replace(room, await this.http.get(`${messagesOf(room)}?limit=${PAGE}`));
  }

  async around(room, id) {
    this.#replace(room, await this.http.get(`${messagesOf(room)}?around=${id}&limit=${PAGE}`));
  }

  #replace(room, page) {
    const timeline = this.store.timeline(room);
    timeline.replace(page);
    if (page.after === null && page.messages.length) this.store.setLast(room, page.messages.at(-1));
    for (const { event, state, problem } of this.outbox.pending(room)) {
      this.store.apply(room, event, { state, problem });
    }
    for (const m of page.messages) this.store.touch(room, m.author, Date.parse(m.sent_at));
    this.store.changed(room);
  }

  async older(room, timeline = this.store.timeline(room)) {
    timeline.prepend(await this.http.get(`${messagesOf(room)}?before=${timeline.before}&limit=${PAGE}`));
    this.store.changed(room);
  }

  async newer(room, timeline = this.store.timeline(room)) {
    timeline.append(await this.http.get(`${messagesOf(room)}?after=${timeline.after}&limit=${PAGE}`));
    this.store.changed(room);
  }

  message(room, id) {
    return this.http.get(`${messagesOf(room)}/${id}`);
  }

  /** The room as it was just after an event, or at a time. */
  past(room, asOf, before = '') {
    return this.http.get(`${messagesOf(room)}?as_of=${encodeURIComponent(asOf)}&limit=${PAGE}${before && `&before=${before}`}`);
  }

  /** The message behind an id; undefined if there is none. */
  async next(room, id) {
    return (await this.http.get(`${messagesOf(room)}?after=${id}&limit=1`)).messages[0];
  }

  /** The first message of a room and the last. */
  async ends(room) {
    const [first, page] = await Promise.all([this.next(room, '0'.repeat(26)), this.http.get(`${messagesOf(room)}?limit=1`)]);
    return [first, page.messages[0]].filter(Boolean);
  }

  async openThread(room, root) {
    const timeline = new Timeline();
    this.store.thread = { room, root, timeline };
    const first = this.store.timeline(room).get(root) ?? await this.message(room, root);
    const page = await this.http.get(`${messagesOf(room)}/${root}/replies?limit=200`);
    timeline.replace({ ...page, messages: [first, ...page.messages], before: null });
    this.store.changed(room);
  }

  async moreReplies() {
    const { room, root, timeline } = this.store.thread;
    timeline.append(await this.http.get(`${messagesOf(room)}/${root}/replies?after=${timeline.after}&limit=200`));
    this.store.changed(room);
  }

  closeThread() {
    this.store.thread = null;
  }

  /** Sets the read marker; one that is lost is made good by the next. Without a key it covers what has arrived, and no more. */
  read(room, id) {
    if (!this.store.markRead(room, id)) return;
    this.http.request('PUT', `/v1/rooms/${room}/read`, { body: { up_to: id } }).catch(() => {});
  }

  /** Marks a room as unread from a message on. */
  async unread(room, id) {
    this.store.markUnread(room, id);
    try {
      const { event } = await this.http.request('PUT', `/v1/rooms/${room}/unread`, { body: { from: id }, key: this.minter.mint(id) });
      this.#markedUnread({ id: event, data: { room, from: id } });
    } catch (problem) {
      this.store.open(this.store.reading);
      throw problem;
    }
  }

  send(room, text, { replyTo, thread } = {}) {
    return this.outbox.add(room, 'message.posted', { text, reply_to: replyTo, thread }, [replyTo, thread].filter(Boolean).sort().at(-1));
  }

  edit(room, id, text) {
    return this.outbox.add(room, 'message.edited', { message: id, text }, id);
  }

  remove(room, message) {
    return this.outbox.add(room, 'message.deleted', { message: message.id, moderated: message.author !== this.session.user || undefined }, message.id);
  }

  react(room, message, emoji) {
    const mine = message.reactions[emoji]?.includes(this.session.user);
    return this.outbox.add(room, mine ? 'reaction.removed' : 'reaction.added', { message: message.id, emoji }, message.id);
  }

  pinMessage(room, message) {
    return this.outbox.add(room, message.pinned ? 'message.unpinned' : 'message.pinned', { message: message.id }, message.id);
  }
}
