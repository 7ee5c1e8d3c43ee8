// A thread beside the room: the message it began with, the replies, and where to write the next.

import { h, toast } from './dom.js';
import { Composer } from './composer.js';
import { MessageList } from './list.js';
import { inWords } from './problem.js';

export class Thread {
  #client;
  #list;
  #composer;
  element;

  constructor(client, app, actions) {
    this.#client = client;
    this.#composer = new Composer({
      label: 'Reply in the thread', names: client.names, emoji: app.emoji,
      on: {
        send: (text) => this.#send(text),
        edit: (id, text) => client.edit(this.#at.room, id, text),
        typing: () => client.live.typing(this.#at.room),
      },
    });
    const inThread = { ...actions, edit: (id) => this.#composer.edit(this.#at.timeline.get(id)), jump: (id) => this.#list.reveal(id) || actions.jump(id) };
    this.#list = new MessageList(
      { user: client.session.user, names: client.names, regions: app.regions, actions: inThread, prefix: 't-', inThread: true },
      { older: () => {}, newer: () => client.moreReplies().catch((p) => toast(inWords(p))) });
    this.element = h('div', { class: 'thread' }, this.#list.element, this.#composer.element);
    client.store.addEventListener('timeline', ({ room }) => room === this.#at?.room && this.#draw());
  }

  get #at() {
    return this.#client.store.thread;
  }

  async open(room, root) {
    try {
      await this.#client.openThread(room, root);
      this.#draw();
      this.#composer.draft = '';
      this.#composer.focus();
    } catch (problem) {
      toast(inWords(problem));
    }
  }

  #send(text) {
    this.#client.send(this.#at.room, text, { thread: this.#at.root });
    this.#list.toEnd();
  }

  #draw() {
    if (this.element.isConnected) this.#list.show(this.#at.timeline);
  }
}
