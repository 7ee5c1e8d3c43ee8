// A list of messages: shows a window of them, pages up and down as it is scrolled, stays where it
// is while messages come and go, and is walked with the arrow keys. It holds as many elements as
// the window has messages, whatever the size of the room.

import { h, iconButton } from './dom.js';
import { isGone } from './fold.js';
import { dayText, startOfDay } from './format.js';
import { messageElement } from './message.js';
import { QUICK } from './emoji.js';

const NEAR = 300; // pixels from an end at which the next page is fetched
const TOGETHER = 5 * 60_000; // messages of one author within this go together

export class MessageList {
  #context;
  #on; // older, newer: fetch a page; bottom: the user sees the end
  #items = h('ol', { class: 'messages', role: 'list', 'aria-label': 'Messages' });
  #tools = h('div', { class: 'tools', role: 'toolbar', 'aria-label': 'Actions on this message' });
  #shown = new Map(); // id -> { element, of, follows, target }
  #fetching = false;
  #timeline = null;
  #size = '';
  element = h('div', { class: 'scroll', tabindex: '-1' }, this.#items);
  following = true; // the end is in sight, and stays there as messages come

  constructor(context, on) {
    this.#context = { ...context, find: (id) => this.#timeline?.get(id), idOf: (id) => `${context.prefix}${id}` };
    this.#on = on;
    this.element.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#items.addEventListener('pointerover', (e) => this.#offer(e.target.closest?.('.message')));
    this.#items.addEventListener('focusin', (e) => this.#offer(e.target.closest?.('.message')));
    this.#items.addEventListener('keydown', (e) => this.#key(e));
    new ResizeObserver(() => this.following && this.toEnd()).observe(this.element);
  }

  /** Shows a window, anew or changed; what is in sight stays where it is. */
  show(timeline, { mark = '' } = {}) {
    const another = timeline !== this.#timeline;
    if (another) this.#clear(timeline);
    const anchor = this.#anchor();
    this.#render(timeline, mark);
    if (this.following) this.toEnd();
    else this.#restore(anchor);
    this.#fetch();
  }

  toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
    this.following = true;
  }

  /** Scrolls to a message and shows which it is; false if it is not in the window. */
  reveal(id) {
    const element = this.#shown.get(id)?.element;
    if (!element) return false;
    this.following = false;
    element.scrollIntoView({ block: 'center' });
    element.classList.remove('flash');
    void element.offsetWidth; // so that the animation begins again
    element.classList.add('flash');
    element.focus({ preventScroll: true });
    return true;
  }

  get last() {
    return this.#timeline?.messages.at(-1);
  }

  #clear(timeline) {
    this.#timeline = timeline;
    this.#shown.clear();
    this.#items.replaceChildren();
    this.following = true;
  }

  #render(timeline, mark) {
    const wanted = [];
    const kept = new Map();
    let previous = null;
    let marked = !mark;
    for (const m of timeline.messages) {
      const at = new Date(m.sent_at);
      if (!previous || startOfDay(at) !== startOfDay(new Date(previous.sent_at))) {
        wanted.push(this.#line(`day-${startOfDay(at)}`, 'day', dayText(at)));
        previous = null;
      }
      if (!marked && m.id > mark && m.author !== this.#context.user) {
        wanted.push(this.#line('new', 'new', 'New'));
        marked = true;
        previous = null;
      }
      const item = this.#item(m, previous);
      kept.set(m.id, item);
      wanted.push(item.element);
      previous = m;
    }
    this.#shown = kept;
    place(this.#items, wanted);
    this.#items.dataset.beginning = String(timeline.loaded && timeline.before === null);
    this.#rove();
  }

  #line(key, kind, text) {
    return this.#items.querySelector(`:scope > [data-line="${key}"]`) ?? h('li', { class: `line ${kind}`, 'data-line': key, role: 'separator' }, h('span', {}, text));
  }

  /** The element of a message: the one there is, unless the message has changed. */
  #item(m, previous) {
    const follows = Boolean(previous) && previous.author === m.author && !m.reply_to && !m.thread && !m.pinned
      && new Date(m.sent_at) - new Date(previous.sent_at) < TOGETHER;
    const sameRegion = follows && previous.region === m.region;
    const target = this.#context.find(m.reply_to ?? m.thread ?? '');
    const old = this.#shown.get(m.id);
    if (old && old.of === m && old.follows === follows && old.sameRegion === sameRegion && old.target === target && old.names === this.#context.names.version) return old;
    const element = messageElement(m, { ...this.#context, follows, sameRegion });
    if (old) keepFocus(old.element, element, this.#tools);
    return { element, of: m, follows, sameRegion, target, names: this.#context.names.version };
  }

  /** One message can be reached by Tab: the last that was, or the newest. */
  #rove(to) {
    const current = to ?? this.#items.querySelector('.message[tabindex="0"]') ?? this.#items.querySelector('.message:last-of-type');
    for (const e of this.#items.querySelectorAll('.message[tabindex="0"]')) e.tabIndex = -1;
    if (current) current.tabIndex = 0;
  }

  #anchor() {
    const top = this.element.getBoundingClientRect().top;
    for (const element of this.#items.children) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top && element.dataset.id) return { id: element.dataset.id, at: box.top };
    }
    return null;
  }

  #restore(anchor) {
    const element = anchor && this.#shown.get(anchor.id)?.element;
    if (element) this.element.scrollTop += element.getBoundingClientRect().top - anchor.at;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight, clientWidth } = this.element;
    const resized = this.#size !== (this.#size = `${clientWidth} ${clientHeight}`);
    if (resized && this.following) return this.toEnd(); // lines have been broken anew, nobody has scrolled
    this.following = scrollHeight - scrollTop - clientHeight < 24 && this.#timeline?.after === null;
    this.#fetch();
    return this.#on.scrolled?.();
  }

  /** Fetches the next page in whichever direction the window's end comes near. */
  async #fetch() {
    const timeline = this.#timeline;
    if (this.#fetching || !timeline?.loaded) return;
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const up = timeline.before !== null && scrollTop < NEAR;
    const down = timeline.after !== null && scrollHeight - scrollTop - clientHeight < NEAR;
    if (!up && !down) return;
    this.#fetching = true;
    this.#items.classList.toggle('fetching', up);
    try {
      await (up ? this.#on.older() : this.#on.newer());
    } finally {
      this.#items.classList.remove('fetching');
      setTimeout(() => { this.#fetching = false; this.#fetch(); }, 120);
    }
  }

  /** Puts the tools on the message that is pointed at or focused. */
  #offer(element) {
    const m = element && this.#timeline?.get(element.dataset.id);
    if (!m || this.#context.readOnly || this.#tools.parentElement === element.firstElementChild && this.#tools.dataset.v === version(m)) return;
    this.#tools.dataset.v = version(m);
    this.#tools.replaceChildren(...this.#toolsFor(m));
    element.firstElementChild.append(this.#tools);
  }

  #toolsFor(m) {
    const { actions, user, inThread } = this.#context;
    if (m.sending) return [];
    const tool = (name, label, act, key) => iconButton(name, key ? `${label} (${key})` : label, (e) => act(e.currentTarget));
    const tools = isGone(m) ? [] : [
      ...QUICK.map((emoji) => h('button', { type: 'button', class: 'icon-button emoji', 'aria-label': `React with ${emoji}`, onclick: () => actions.react(m.id, emoji) }, emoji)),
      tool('smile', 'Add a reaction', (b) => actions.pickReaction(m.id, b), '+'),
      tool('reply', 'Reply', () => actions.reply(m.id), 'R'),
      !inThread && tool('thread', 'Reply in a thread', () => actions.thread(m.thread ?? m.id), 'T'),
      m.author === user && tool('edit', 'Edit', () => actions.edit(m.id), 'E'),
      !inThread && m.author !== user && tool('unread', 'Mark as unread from here', () => actions.unread(m.id), 'U'),
      tool('pin', m.pinned ? 'Unpin' : 'Pin', () => actions.pin(m.id)),
      actions.mayDelete(m) && tool('trash', 'Delete', () => actions.remove(m.id), 'Del'),
    ];
    return [...tools, !inThread && tool('clock', 'See the room as it was then', () => actions.timeTravel(m.id))].filter(Boolean);
  }

  #key(event) {
    const element = event.target;
    if (!element.classList?.contains('message') || event.ctrlKey || event.metaKey || event.altKey) return;
    const m = this.#timeline.get(element.dataset.id);
    const { actions, readOnly, user } = this.#context;
    const walk = { ArrowUp: -1, ArrowDown: 1, k: -1, j: 1 }[event.key];
    if (walk) this.#walk(element, walk);
    else if (readOnly || !m || isGone(m) || m.sending) return;
    else if (event.key === 'r') actions.reply(m.id);
    else if (event.key === 't') actions.thread(m.thread ?? m.id);
    else if (event.key === 'e' && m.author === user) actions.edit(m.id);
    else if (event.key === 'u' && m.author !== user && !this.#context.inThread) actions.unread(m.id);
    else if (event.key === '+') actions.pickReaction(m.id, element);
    else if (event.key === 'Delete' && actions.mayDelete(m)) actions.remove(m.id);
    else return;
    event.preventDefault();
  }

  #walk(element, step) {
    const all = [...this.#items.querySelectorAll('.message')];
    const next = all[all.indexOf(element) + step];
    if (!next) return;
    this.#rove(next);
    next.focus();
  }
}

const version = (m) => [isGone(m), m.pinned, m.sending?.state].join();

/** Makes the children of a list those wanted, moving as few as possible. */
function place(list, wanted) {
  let at = list.firstChild;
  for (const element of wanted) {
    if (element === at) at = at.nextSibling;
    else list.insertBefore(element, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** A changed message takes the place of the one that had the focus or the tools. */
function keepFocus(old, element, tools) {
  const active = document.activeElement;
  element.tabIndex = old.tabIndex;
  if (old.contains(tools)) element.firstElementChild.append(tools);
  old.replaceWith(element);
  if (active === old) element.focus({ preventScroll: true });
  else if (tools.contains(active)) active.focus({ preventScroll: true });
}
