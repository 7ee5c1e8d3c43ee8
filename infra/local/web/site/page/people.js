// Who is in a room: members, who was active a moment ago, and what can be done about it.

import { fill, h, toast } from './dom.js';
import { avatar } from './format.js';
import { userOf } from './names.js';
import { inWords } from './problem.js';

const RECENTLY = 5 * 60_000;

/** There is no presence, so this shows a member's last activity. */
function presence(idle) {
  if (idle < 60_000) return 'here now';
  return idle < RECENTLY ? `here ${Math.round(idle / 60_000)} min ago` : 'away';
}

export class People {
  #client;
  #app;
  #room = '';
  #members = [];
  #list = h('ul', { class: 'people' });
  #controls = h('div', { class: 'controls' });
  element = h('div', { class: 'panel-body' }, this.#list, this.#controls);

  constructor(client, app) {
    this.#client = client;
    this.#app = app;
    const { store, names } = client;
    store.addEventListener('active', ({ room }) => room === this.#room && this.#soon());
    store.addEventListener('room-changed', ({ room }) => room === this.#room && this.#load());
    names.addEventListener('change', () => this.#soon());
    setInterval(() => this.#soon(), 30_000);
  }

  #drawing = 0;

  #soon() {
    this.#drawing ||= setTimeout(() => { this.#drawing = 0; this.#draw(); }, 200);
  }

  open(room) {
    if (room !== this.#room) this.#members = [];
    this.#room = room;
    this.#draw();
    void this.#load();
  }

  async #load() {
    const room = this.#room;
    if (!room || !this.element.isConnected) return;
    try {
      const members = await this.#client.members(room);
      if (room !== this.#room) return;
      this.#members = members;
      this.#draw();
    } catch (problem) {
      toast(inWords(problem));
    }
  }

  #draw() {
    if (!this.#room || !this.element.isConnected) return;
    const now = Date.now();
    const idle = (m) => (m.user === this.#client.session.user ? 0 : now - this.#client.store.lastActive(this.#room, m.user));
    const active = (m) => idle(m) < RECENTLY;
    const here = this.#members.filter((m) => !m.banned);
    const sorted = [...here.filter(active), ...here.filter((m) => !active(m))];
    fill(this.#list, sorted.map((m) => this.#item(m, idle(m))));
    if (!this.#list.contains(document.activeElement)) this.#drawControls();
  }

  #item({ user, role, invited }, idle) {
    const active = idle < RECENTLY;
    const name = this.#client.names.of(user);
    const me = user === this.#client.session.user;
    return h('li', {}, avatar(user, name),
      h('span', { class: 'who' }, h('b', {}, name, me && ' (you)'), h('small', {}, invited ? 'invited' : [presence(idle), role !== 'member' && role].filter(Boolean).join(' · '))),
      h('span', { class: 'presence', 'data-active': String(active), 'aria-hidden': 'true' }),
      !me && h('button', { type: 'button', class: 'quiet', onclick: () => this.#app.openDirect(user), 'aria-label': `Message ${name}` }, 'Message'));
  }

  #drawControls() {
    const room = this.#client.store.rooms.get(this.#room);
    if (!room || room.direct) return fill(this.#controls);
    const admin = ['owner', 'admin'].includes(room.role);
    if (this.#controls.contains(document.activeElement)) return undefined;
    const input = h('input', { type: 'text', placeholder: 'Name', 'aria-label': 'Name of the person to invite', required: true, maxlength: '64' });
    return fill(this.#controls,
      admin && h('form', { class: 'inline', onsubmit: (e) => { e.preventDefault(); void this.#invite(input); } }, input, h('button', { type: 'submit' }, 'Invite')),
      h('button', { type: 'button', class: 'quiet danger', onclick: () => this.#app.confirm('Leave this room?', 'Leave', () => this.#app.leave(this.#room)) }, 'Leave room'));
  }

  async #invite(input) {
    try {
      await this.#client.invite(this.#room, userOf(input.value));
      input.value = '';
      input.blur();
      await this.#load();
    } catch (problem) {
      toast(inWords(problem));
    }
  }
}
