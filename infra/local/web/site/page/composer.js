// Where a message is written: a text that grows, what it answers or edits, an emoji, a button.

import { h, fill, icon, iconButton } from './dom.js';
import { gist } from './format.js';

const TYPING_EVERY = 3_000;
const MOST_BYTES = 20_000;

export class Composer {
  #on; // send(text, {replyTo}), edit(id, text), typing(), last(): the user's last message
  #names;
  #mode = null; // { kind: 'reply' | 'edit', message }
  #typed = 0;
  #text = h('textarea', { rows: '1', enterkeyhint: 'send', autocomplete: 'off' });
  #about = h('div', { class: 'about', hidden: true });
  #send = h('button', { type: 'submit', class: 'send', title: 'Send (Enter)', 'aria-label': 'Send' }, icon('send'));
  element;

  constructor({ label, names, emoji, on }) {
    this.#on = on;
    this.#names = names;
    this.#text.placeholder = label;
    this.#text.setAttribute('aria-label', label);
    this.element = h('form', { class: 'composer', onsubmit: (e) => { e.preventDefault(); this.#submit(); } },
      this.#about,
      h('div', { class: 'box' }, this.#text,
        iconButton('smile', 'Add an emoji', (e) => emoji.open(e.currentTarget, (it) => this.#insert(it))), this.#send));
    this.#text.addEventListener('input', () => this.#changed(true));
    this.#text.addEventListener('keydown', (e) => this.#key(e));
    this.#changed();
  }

  label(text) {
    this.#text.placeholder = text;
    this.#text.setAttribute('aria-label', text);
  }

  focus() {
    this.#text.focus();
  }

  /** What is written and not sent, to be kept while another room is open. */
  get draft() {
    return this.#mode?.kind === 'edit' ? '' : this.#text.value;
  }

  set draft(text) {
    this.#set(null);
    this.#text.value = text;
    this.#changed();
  }

  reply(message) {
    this.#set({ kind: 'reply', message });
    this.focus();
  }

  edit(message) {
    this.#set({ kind: 'edit', message });
    this.#text.value = message.text;
    this.#changed();
    this.focus();
  }

  #set(mode) {
    if (this.#mode?.kind === 'edit') this.#text.value = '';
    this.#mode = mode;
    this.#about.hidden = !mode;
    if (mode) {
      const { kind, message } = mode;
      fill(this.#about, icon(kind), h('span', {}, kind === 'edit' ? 'Editing your message' : `Replying to ${this.#names.of(message.author)}: ${gist(message, 70)}`),
        iconButton('close', kind === 'edit' ? 'Stop editing' : 'Do not reply', () => { this.#set(null); this.focus(); }));
    }
    this.#changed();
  }

  #submit() {
    const text = this.#text.value.trim();
    const mode = this.#mode;
    if (!text || this.#tooLong()) return;
    this.#text.value = '';
    this.#typed = 0; // what is sent ends the typing: the next letter begins it again
    this.#mode = null;
    this.#set(null);
    if (mode?.kind === 'edit') {
      if (text !== mode.message.text) this.#on.edit(mode.message.id, text);
    } else {
      this.#on.send(text, { replyTo: mode?.message.id });
    }
  }

  #tooLong() {
    return new TextEncoder().encode(this.#text.value).length > MOST_BYTES;
  }

  #changed(typed = false) {
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight}px`;
    const tooLong = this.#tooLong();
    this.#text.setAttribute('aria-invalid', String(tooLong));
    this.#text.title = tooLong ? 'This is too long: a message has at most 20,000 bytes.' : '';
    this.#send.disabled = !this.#text.value.trim() || tooLong;
    if (typed && this.#text.value && Date.now() - this.#typed > TYPING_EVERY) {
      this.#typed = Date.now();
      this.#on.typing?.();
    }
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Escape' && this.#mode) {
      event.stopPropagation();
      this.#set(null);
    } else if (event.key === 'ArrowUp' && !this.#text.value) {
      const last = this.#on.last?.();
      if (!last) return;
      event.preventDefault();
      this.edit(last);
    }
  }

  #insert(text) {
    this.#text.setRangeText(text, this.#text.selectionStart, this.#text.selectionEnd, 'end');
    this.#changed(true);
    this.focus();
  }
}
