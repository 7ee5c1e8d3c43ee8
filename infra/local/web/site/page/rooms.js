// The left of the page: the rooms with what is unread in them, who you are, and what to open.

import { fill, h, icon, iconButton, toast } from './dom.js';
import { avatar, exactText, gist, roomName, whenText } from './format.js';
import { inWords } from './problem.js';

export class Rooms {
  #client;
  #app;
  #open = '';
  #filter = '';
  #list = h('ul', { class: 'room-list', onkeydown: (e) => this.#walk(e) });
  element;

  constructor(client, app) {
    this.#client = client;
    this.#app = app;
    this.element = h('nav', { class: 'rooms', 'aria-label': 'Rooms' },
      h('header', { class: 'bar' }, h('span', { class: 'brand' }, h('img', { src: 'page/icon.svg', alt: '', width: '22', height: '22' }), 'Parley'),
        iconButton('plus', 'New room or join (N)', () => app.newRoom()),
        iconButton('close', 'Close', () => app.toggleRooms(false), { class: 'icon-button only-narrow' })),
      h('div', { class: 'filter' }, h('input', { type: 'search', id: 'filter', placeholder: 'Find a room', 'aria-label': 'Find a room', oninput: (e) => { this.#filter = e.target.value.toLowerCase(); this.draw(); } })),
      this.#list, this.#me());
    client.store.addEventListener('rooms', () => this.#soon());
    client.names.addEventListener('change', () => this.#soon());
  }

  #drawing = 0;

  #soon() {
    this.#drawing ||= setTimeout(() => { this.#drawing = 0; this.draw(); }, 40);
  }

  #me() {
    const { user, name } = this.#client.session;
    return h('footer', { class: 'me' }, avatar(user, name), h('span', { class: 'who' }, h('b', {}, name), h('small', {}, user)),
      iconButton('keys', 'Keyboard shortcuts (?)', () => this.#app.shortcuts()),
      iconButton('moon', 'Light or dark', () => this.#app.theme.next(), { id: 'theme' }),
      iconButton('exit', 'Sign out', () => this.#app.signOut()));
  }

  select(room) {
    this.#open = room;
    this.draw();
  }

  draw() {
    const { store, session, names } = this.#client;
    const all = [...store.rooms.values()]
      .filter((r) => roomName(r, session.user, names).toLowerCase().includes(this.#filter))
      .sort((a, b) => (recent(b) > recent(a) ? 1 : -1));
    const focused = document.activeElement?.dataset.room;
    fill(this.#list, [...store.invitations.map((i) => this.#invitation(i)), ...all.map((r) => this.#item(r))]);
    if (focused) this.#list.querySelector(`[data-room="${focused}"]`)?.focus();
    if (!all.length && !store.invitations.length) fill(this.#list, h('li', { class: 'hint' }, this.#filter ? 'No room has this name.' : 'You are not in a room yet. Create one, or open a link to one.'));
    const unread = [...store.rooms.values()].reduce((n, r) => n + (r.id === this.#open && document.hasFocus() ? 0 : r.unread), 0);
    document.title = unread ? `(${unread > 99 ? '99+' : unread}) Parley` : 'Parley';
  }

  #invitation({ room, name, by }) {
    const answer = (act) => async () => {
      try {
        await act();
      } catch (problem) {
        toast(inWords(problem));
      }
    };
    return h('li', { class: 'invitation', 'data-invitation': room },
      h('span', { class: 'name', dir: 'auto' }, name),
      h('span', { class: 'last', dir: 'auto' }, `${this.#client.names.of(by)} invites you`),
      h('button', { type: 'button', 'aria-label': `Join ${name}`, onclick: answer(() => this.#client.joinRoom(room)) }, 'Join'),
      h('button', { type: 'button', class: 'quiet', 'aria-label': `Decline the invitation to ${name}`, onclick: answer(() => this.#client.decline(room)) }, 'Decline'));
  }

  #item(room) {
    const { session, names } = this.#client;
    const name = roomName(room, session.user, names);
    const count = room.unread > 99 ? '99+' : String(room.unread);
    const other = room.direct?.find((u) => u !== session.user);
    return h('li', {}, h('a', {
      href: `#/rooms/${room.id}`, class: room.unread ? 'unread' : '', 'data-room': room.id, 'aria-current': room.id === this.#open ? 'page' : null,
    },
    other ? avatar(other, name) : h('span', { class: 'glyph', 'aria-hidden': 'true' }, room.private ? icon('lock') : '#'),
    h('span', { class: 'name', dir: 'auto' }, name),
    room.last && time(new Date(room.last.sent_at)),
    h('span', { class: 'last', dir: 'auto' }, this.#last(room)),
    room.unread > 0 && h('span', { class: 'badge' }, count, h('span', { class: 'hidden' }, ' unread'))));
  }

  #last({ last }) {
    if (!last) return 'No messages yet';
    const who = last.author === this.#client.session.user ? 'You' : this.#client.names.of(last.author);
    return `${who}: ${gist(last, 60)}`;
  }

  #walk(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...this.#list.querySelectorAll('a')];
    all[all.indexOf(document.activeElement) + step]?.focus();
  }
}

const time = (at) => h('time', { datetime: at.toISOString(), title: exactText(at) }, whenText(at));
const recent = (room) => room.last?.id ?? room.id;
