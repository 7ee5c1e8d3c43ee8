// A small emoji picker: a grid that is walked with the arrow keys.

import { h } from './dom.js';

const COLUMNS = 8;
const EMOJI = [
  ['👍', 'thumbs up'], ['❤️', 'heart'], ['😂', 'tears of joy'], ['🎉', 'party'], ['😮', 'surprised'], ['😢', 'crying'], ['🙏', 'thanks'], ['👀', 'eyes'],
  ['😀', 'grin'], ['😊', 'smile'], ['😉', 'wink'], ['😍', 'heart eyes'], ['🤔', 'thinking'], ['😅', 'relief'], ['😎', 'cool'], ['🙃', 'upside down'],
  ['👋', 'wave'], ['👏', 'clapping'], ['💪', 'strong'], ['🤝', 'handshake'], ['✅', 'done'], ['❌', 'no'], ['❓', 'question'], ['❗', 'attention'],
  ['🔥', 'fire'], ['🚀', 'rocket'], ['💡', 'idea'], ['🐛', 'bug'], ['🌍', 'earth'], ['☕', 'coffee'], ['🍰', 'cake'], ['🌈', 'rainbow'],
];

export const QUICK = EMOJI.slice(0, 3).map(([e]) => e);

export class EmojiPicker {
  #picked = () => {};
  #element = h('div', { id: 'emoji', popover: 'auto', role: 'dialog', 'aria-label': 'Pick an emoji', onkeydown: (e) => this.#walk(e) },
    EMOJI.map(([emoji, name], i) => h('button', { type: 'button', 'aria-label': name, title: name, tabindex: i ? '-1' : '0', onclick: () => this.#pick(emoji) }, emoji)));

  constructor() {
    document.body.append(this.#element);
  }

  /** Opens beside an element; `picked` gets the emoji. */
  open(beside, picked) {
    this.#picked = picked;
    this.#element.showPopover();
    const box = beside.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.#element;
    const top = box.top > height + 16 ? box.top - height - 6 : Math.min(box.bottom + 6, innerHeight - height - 8);
    this.#element.style.top = `${Math.max(8, top)}px`;
    this.#element.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
    this.#element.firstElementChild.focus();
    this.#element.addEventListener('toggle', ({ newState }) => {
      if (newState === 'closed' && beside.isConnected && this.#element.contains(document.activeElement)) beside.focus();
    }, { once: true });
  }

  #pick(emoji) {
    this.#element.hidePopover();
    this.#picked(emoji);
  }

  #walk(event) {
    if (event.key === 'Escape') event.stopPropagation(); // it closes this, and nothing else
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...this.#element.children];
    all[all.indexOf(document.activeElement) + step]?.focus();
  }
}
