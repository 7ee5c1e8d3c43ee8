// Puts the page together, and goes where the address says.

import { h, iconButton, toast } from './dom.js';
import { Conversation } from './conversation.js';
import { confirm, newRoom, shortcuts } from './dialogs.js';
import { EmojiPicker } from './emoji.js';
import { isID } from './ids.js';
import { Panel } from './panel.js';
import { People } from './people.js';
import { inWords, Problem } from './problem.js';
import { Rooms } from './rooms.js';
import { Status } from './status.js';
import { Thread } from './thread.js';

const TITLES = { people: 'People', regions: 'Regions', thread: 'Thread' };
const SIDE_KEY = 'parley.side';

/** The id of a room in a link to it, or as it is. */
export function roomIn(text) {
  const id = /(?:^|rooms\/)((?:direct-)?[0-9A-Za-z]{26})\/?$/.exec(text)?.[1] ?? '';
  const upper = id.replace(/^direct-/, '').toUpperCase();
  return isID(upper) ? id.replace(/[^-]{26}$/, upper) : '';
}

export class App {
  #client;
  #room = '';
  #side = '';
  #leaving = ''; // the room that the user leaves by herself
  #root = h('div', { class: 'app' });
  #sideTitle = h('h2', { tabindex: '-1' });
  #sideBody = h('div', { class: 'side-body' });
  #aside;

  constructor({ client, regions, theme, signOut }) {
    Object.assign(this, { regions, theme, signOut });
    this.#client = client;
    this.emoji = new EmojiPicker();
    this.status = new Status(client, regions);
    this.conversation = new Conversation(client, this);
    this.rooms = new Rooms(client, this);
    this.people = new People(client, this);
    this.panel = new Panel(client, regions);
    this.thread = new Thread(client, this, this.conversation.actions);
    this.#aside = h('aside', { class: 'side', 'aria-label': 'Details' },
      h('header', { class: 'bar' }, this.#sideTitle, iconButton('close', 'Close', () => this.showSide(''))), this.#sideBody);
    this.#root.append(this.rooms.element, this.conversation.element, this.#aside,
      h('div', { class: 'veil', onclick: () => { this.toggleRooms(false); this.showSide(''); } }));
  }

  start() {
    document.body.prepend(this.#root);
    addEventListener('hashchange', () => this.#go());
    addEventListener('keydown', (e) => this.#key(e));
    this.#client.outbox.addEventListener('failed', ({ problem }) => toast(inWords(problem)));
    this.#client.store.addEventListener('rooms', () => this.#leftBehind());
    if (innerWidth > 1100) this.showSide(sessionStorage.getItem(SIDE_KEY) ?? 'regions', false);
    else this.showSide('', false);
    this.rooms.draw();
    void this.#go();
  }

  // --- where we are

  async #go() {
    const room = roomIn(location.hash);
    if (!room) return this.#home();
    if (room === this.#room) return;
    this.#room = room;
    this.toggleRooms(false);
    if (this.#side === 'thread') this.showSide('');
    this.rooms.select(room);
    if (!await this.#enter(room)) return;
    await this.conversation.open(room);
    if (this.#side === 'people') this.people.open(room);
  }

  /** Joins the room of an opened link, once the user's own rooms are loaded. */
  async #enter(room) {
    try {
      await this.#client.ready;
      if (!this.#client.store.rooms.has(room)) await this.#client.joinRoom(room);
      return room === this.#room;
    } catch (problem) {
      toast(inWords(problem));
      if (room === this.#room) this.#home();
      return false;
    }
  }

  #home() {
    this.#room = '';
    this.rooms.select('');
    this.conversation.close();
    if (innerWidth <= 760) this.toggleRooms(true);
  }

  /** The room that was open is no longer ours. */
  #leftBehind() {
    const { store } = this.#client;
    if (!this.#room || store.reading !== this.#room || store.rooms.has(this.#room)) return;
    if (this.#leaving !== this.#room) toast(`You are no longer in ${this.conversation.name}.`);
    location.hash = '';
  }

  openRoom(room) {
    location.hash = `#/rooms/${room}`;
  }

  async openDirect(user) {
    try {
      this.openRoom(await this.#client.openDirect(user));
    } catch (problem) {
      toast(inWords(problem));
    }
  }

  async leave(room) {
    this.#leaving = room;
    try {
      await this.#client.leaveRoom(room);
      location.hash = '';
    } catch (problem) {
      toast(inWords(problem));
    } finally {
      this.#leaving = '';
    }
  }

  // --- what is beside

  toggleRooms(on = !this.#root.classList.contains('rooms-open')) {
    this.#root.classList.toggle('rooms-open', on);
    if (on) this.rooms.element.querySelector('a, button')?.focus();
  }

  /** Shows the people, the regions, a thread or, with '', nothing beside the conversation. */
  showSide(what, focus = true) {
    const wanted = what === this.#side && what !== 'thread' ? '' : what;
    if (this.#side === 'thread' && wanted !== 'thread') this.#client.closeThread();
    this.#side = wanted;
    sessionStorage.setItem(SIDE_KEY, wanted === 'thread' ? '' : wanted);
    this.#root.dataset.side = wanted;
    this.#sideTitle.textContent = TITLES[wanted] ?? '';
    this.#sideBody.replaceChildren(...(wanted ? [{ people: this.people, regions: this.panel, thread: this.thread }[wanted].element] : []));
    this.panel.show(wanted === 'regions');
    if (wanted === 'people' && this.#room) this.people.open(this.#room);
    for (const name of ['people', 'regions']) document.getElementById(`${name}-button`)?.setAttribute('aria-pressed', String(wanted === name));
    if (wanted && focus) this.#sideTitle.focus();
  }

  showThread(room, root) {
    this.showSide('thread');
    void this.thread.open(room, root);
  }

  // --- dialogs and keys

  confirm(question, label, act) {
    confirm(question, label, act);
  }

  shortcuts() {
    shortcuts();
  }

  newRoom() {
    newRoom({
      create: async (name, isPrivate) => this.openRoom(await this.#client.createRoom(name, isPrivate)),
      join: async (text) => {
        const room = roomIn(text);
        if (!room) throw new Problem({ status: 422, code: 'no_room_id' });
        this.openRoom(await this.#client.joinRoom(room));
      },
    });
  }

  #key(event) {
    const writing = event.target.closest?.('input, textarea, select, dialog');
    if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) this.#nextRoom(event.key === 'ArrowUp' ? -1 : 1);
    else if ((event.ctrlKey || event.metaKey) && event.key === 'k') this.rooms.element.querySelector('#filter').focus();
    else if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === '/') this.conversation.element.querySelector('textarea').focus();
    else if (event.key === 'n') this.newRoom();
    else if (event.key === '?') this.shortcuts();
    else if (event.key === 'g') this.showSide('regions');
    else if (event.key === 'p') this.showSide('people');
    else if (event.key === 'h') this.conversation.timeTravel();
    else if (event.key === 'Escape') this.#escape();
    else return;
    event.preventDefault();
  }

  #escape() {
    if (this.#root.classList.contains('rooms-open')) this.toggleRooms(false);
    else if (this.#side) this.showSide('');
  }

  #nextRoom(step) {
    const all = [...this.rooms.element.querySelectorAll('a[data-room]')];
    const at = all.findIndex((a) => a.dataset.room === this.#room);
    all[Math.min(all.length - 1, Math.max(0, at + step))]?.click();
  }
}
