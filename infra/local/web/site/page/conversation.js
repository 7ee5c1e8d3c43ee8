// The middle of the page: a room's messages, who is typing, where to write, and the time slider.

import { announce, fill, h, icon, iconButton, toast } from './dom.js';
import { Composer } from './composer.js';
import { gist, roomName } from './format.js';
import { isGone } from './fold.js';
import { MessageList } from './list.js';
import { inWords } from './problem.js';
import { TimeSlider } from './slider.js';

export class Conversation {
  #client;
  #app;
  #room = '';
  #mark = ''; // what was read when the room was opened
  #drafts = new Map();
  #list;
  #past;
  #slider;
  #composer;
  #heading = h('h1', { tabindex: '-1' });
  #topic = h('p', { class: 'topic' });
  #typing = h('p', { class: 'typing', 'aria-live': 'polite' });
  #latest = h('button', { type: 'button', class: 'latest', hidden: true, onclick: () => this.#toLatest() }, icon('down'), h('span', {}, 'Latest'));
  #pastBanner = h('p', { class: 'past-banner', role: 'status', hidden: true });
  #body = h('div', { class: 'body' });
  #nowhere = h('div', { class: 'nowhere' }, h('p', {}, 'Choose a room, or create one.'),
    h('button', { type: 'button', class: 'primary', onclick: () => this.#app.newRoom() }, 'New room'));
  element;

  constructor(client, app) {
    this.#client = client;
    this.#app = app;
    const context = { user: client.session.user, names: client.names, regions: app.regions, actions: this.#actions(), prefix: 'm-' };
    this.#list = new MessageList(context, {
      older: () => client.older(this.#room).catch((p) => toast(inWords(p))),
      newer: () => client.newer(this.#room).catch((p) => toast(inWords(p))),
      scrolled: () => this.#onScroll(),
    });
    this.#past = null;
    this.#slider = new TimeSlider(client, {
      show: (timeline, older) => this.#showPast(timeline, older), leave: () => this.#leavePast(), failed: (p) => toast(inWords(p)),
    });
    this.#composer = new Composer({
      label: 'Message', names: client.names, emoji: app.emoji,
      on: {
        send: (text, { replyTo }) => { client.send(this.#room, text, { replyTo }); void this.#toLatest(); },
        edit: (id, text) => client.edit(this.#room, id, text),
        typing: () => client.live.typing(this.#room),
        last: () => client.store.timeline(this.#room).messages.findLast((m) => m.author === client.session.user && !isGone(m) && !m.sending),
      },
    });
    this.element = h('main', { class: 'conversation', 'aria-labelledby': 'room-name' }, this.#header(), this.#pastBanner, this.#nowhere, this.#body,
      this.#latest, this.#typing, this.#slider.element, this.#composer.element);
    this.#heading.id = 'room-name';
    this.#body.append(this.#list.element);
    this.#watch();
    this.#empty();
  }

  #header() {
    return h('header', { class: 'bar' },
      iconButton('menu', 'Rooms', () => this.#app.toggleRooms(), { class: 'icon-button only-narrow' }),
      h('div', { class: 'title' }, this.#heading, this.#topic),
      this.#app.status.element,
      h('div', { class: 'buttons' },
        iconButton('link', 'Copy a link to this room', () => this.#copyLink()),
        iconButton('clock', 'The room in the past', () => (this.#slider.active ? this.#slider.leave() : this.timeTravel()), { id: 'time-button' }),
        iconButton('people', 'People', () => this.#app.showSide('people'), { id: 'people-button' }),
        iconButton('globe', 'Regions', () => this.#app.showSide('regions'), { id: 'regions-button' })));
  }

  #watch() {
    const { store, names } = this.#client;
    const mine = (f) => ({ room }) => { if (room === this.#room) f(); };
    store.addEventListener('timeline', mine(() => this.#soon()));
    store.addEventListener('rooms', () => this.#title());
    store.addEventListener('typing', mine(() => this.#showTyping()));
    store.addEventListener('message', mine(() => this.#showTyping()));
    store.addEventListener('message', (e) => this.#announce(e));
    names.addEventListener('change', () => this.#soon());
    document.addEventListener('visibilitychange', () => this.#markRead());
    addEventListener('focus', () => this.#markRead());
    setInterval(() => this.#showTyping(), 1_500);
  }

  #drawing = false;

  /** Draws before the next frame, once for however many changes. */
  #soon() {
    if (this.#drawing) return;
    this.#drawing = true;
    // A page in the background has no frames; it draws all the same.
    const draw = () => { this.#drawing = false; this.#draw(); };
    if (document.hidden) setTimeout(draw, 50);
    else requestAnimationFrame(draw);
  }

  #draw() {
    if (!this.#room) return;
    this.#list.show(this.#client.store.timeline(this.#room), { mark: this.#mark });
    this.#onScroll();
    this.#markRead();
  }

  #empty() {
    this.#heading.textContent = 'Parley';
    this.element.classList.add('no-room');
    this.#nowhere.hidden = false;
    this.#latest.hidden = true;
    this.#composer.element.hidden = true;
  }

  /** Opens a room. */
  async open(room) {
    if (this.#room) this.#drafts.set(this.#room, this.#composer.draft);
    this.#slider.leave();
    this.#room = room;
    this.#mark = this.#client.store.rooms.get(room)?.unread ? this.#client.store.rooms.get(room).read_to ?? '' : '';
    this.element.classList.remove('no-room');
    this.#nowhere.hidden = true;
    this.#composer.element.hidden = false;
    this.#composer.draft = this.#drafts.get(room) ?? '';
    this.#title();
    this.#showTyping();
    this.#draw();
    this.#list.toEnd();
    if (!matchMedia('(pointer: coarse)').matches) this.#composer.focus();
    try {
      await this.#client.open(room);
      this.#draw();
    } catch (problem) {
      toast(inWords(problem));
    }
  }

  close() {
    this.#room = '';
    this.#client.store.reading = '';
    this.#list.show({ messages: [], loaded: false, before: null, after: null });
    this.#topic.textContent = '';
    this.#empty();
  }

  #title() {
    const room = this.#client.store.rooms.get(this.#room);
    if (!room) return;
    const name = roomName(room, this.#client.session.user, this.#client.names);
    fill(this.#heading, room.private && icon('lock'), h('span', {}, name));
    this.#topic.textContent = room.topic ?? '';
    this.#composer.label(`Message ${name}`);
  }

  // --- messages

  #actions() {
    const client = this.#client;
    const find = (id) => client.store.timeline(this.#room).get(id) ?? client.store.thread?.timeline.get(id);
    return {
      react: (id, emoji) => client.react(this.#room, find(id), emoji),
      pickReaction: (id, beside) => this.#app.emoji.open(beside, (emoji) => client.react(this.#room, find(id), emoji)),
      reply: (id) => this.#composer.reply(find(id)),
      edit: (id) => this.#composer.edit(find(id)),
      thread: (id) => this.#app.showThread(this.#room, id),
      pin: (id) => client.pinMessage(this.#room, find(id)),
      unread: (id) => client.unread(this.#room, id).catch((problem) => toast(inWords(problem))),
      remove: (id) => this.#app.confirm('Delete this message for everyone?', 'Delete', () => client.remove(this.#room, find(id))),
      mayDelete: (m) => m.author === client.session.user || ['owner', 'admin'].includes(client.store.rooms.get(this.#room)?.role),
      retry: (id) => client.outbox.retry(id),
      discard: (id) => client.outbox.discard(id),
      jump: (id) => this.jump(id),
      timeTravel: (id) => this.timeTravel(id),
    };
  }

  /** What the room that is open is called. */
  get name() {
    return this.#heading.textContent;
  }

  get actions() {
    return this.#actions();
  }

  /** Shows a message, wherever in the room it is. */
  async jump(id) {
    if (this.#list.reveal(id)) return;
    try {
      await this.#client.around(this.#room, id);
      this.#draw();
      this.#list.reveal(id);
    } catch (problem) {
      toast(inWords(problem));
    }
  }

  async #toLatest() {
    const timeline = this.#client.store.timeline(this.#room);
    if (timeline.after !== null) await this.#client.latest(this.#room).catch((p) => toast(inWords(p)));
    this.#draw();
    this.#list.toEnd();
    this.#onScroll();
  }

  #onScroll() {
    const { missed } = this.#client.store.timeline(this.#room);
    this.#latest.hidden = this.#list.following || this.#slider.active || !this.#room;
    this.#latest.lastElementChild.textContent = missed ? `${missed} new` : 'Latest';
    if (this.#list.following) this.#markRead();
  }

  #markRead() {
    const last = this.#list.last;
    if (!this.#room || document.hidden || !document.hasFocus() || !this.#list.following || !last || last.sending) return;
    if (last.author !== this.#client.session.user || this.#client.store.rooms.get(this.#room)?.unread) this.#client.read(this.#room, last.id);
  }

  #announce({ room, message, mine }) {
    if (mine || room !== this.#room) return;
    announce(`${this.#client.names.of(message.author)}: ${gist(message, 200)}`);
  }

  #showTyping() {
    const who = this.#client.store.whoTypes(this.#room).map((user) => this.#client.names.of(user));
    const text = who.length > 3 ? 'Several people are typing…' : who.length > 1 ? `${who.slice(0, -1).join(', ')} and ${who.at(-1)} are typing…` : who.length ? `${who[0]} is typing…` : '';
    if (this.#typing.textContent !== text) this.#typing.textContent = text;
  }

  async #copyLink() {
    const link = `${location.origin}${location.pathname}#/rooms/${this.#room}`;
    try {
      await navigator.clipboard.writeText(link);
      toast('The link is copied. Anyone who opens it can join.');
    } catch {
      toast(link);
    }
  }

  // --- the past

  timeTravel(id) {
    if (!this.#room) return;
    this.#slider.enter(this.#room, id);
  }

  #showPast(timeline, older) {
    const show = () => this.#past.show(timeline);
    this.#past = new MessageList({
      user: this.#client.session.user, names: this.#client.names, regions: this.#app.regions, prefix: 'p-', readOnly: true,
      actions: { ...this.#actions(), jump: (id) => this.#past.reveal(id) },
    }, { older: () => older().then(show, (p) => toast(inWords(p))), newer: () => {} });
    this.element.classList.add('in-past');
    this.#composer.element.hidden = true;
    this.#pastBanner.hidden = false;
    this.#pastBanner.textContent = 'You are viewing the past. Messages deleted since then stay deleted.';
    this.#body.replaceChildren(this.#past.element);
    show();
    this.#onScroll();
  }

  #leavePast() {
    this.element.classList.remove('in-past');
    this.#pastBanner.hidden = true;
    this.#composer.element.hidden = false;
    this.#body.replaceChildren(this.#list.element);
    this.#list.toEnd();
    this.#draw();
    this.#composer.focus();
  }
}
