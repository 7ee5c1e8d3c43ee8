// Dialogs: what to open, whether to go on, which keys there are.

import { fill, h, iconButton } from './dom.js';
import { inWords } from './problem.js';

/** Shows a dialog until it is closed; `make` gives its content and gets a function that closes it. */
function show(title, make) {
  const dialog = h('dialog', { 'aria-label': title });
  const close = () => dialog.close();
  dialog.append(h('header', {}, h('h2', {}, title), iconButton('close', 'Close', close)), ...make(close));
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('click', (e) => e.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before something that cannot be undone. */
export function confirm(question, label, act) {
  show(question, (close) => [h('div', { class: 'answers' },
    h('button', { type: 'button', onclick: close }, 'Cancel'),
    h('button', { type: 'button', class: 'primary danger', autofocus: true, onclick: () => { close(); act(); } }, label))]);
}

/** Makes a room, or joins one by its id or a link. */
export function newRoom({ create, join }) {
  show('New room', (close) => {
    const error = h('p', { class: 'error', role: 'alert' });
    const attempt = (act) => async (event) => {
      event.preventDefault();
      const button = event.submitter;
      fill(error);
      button.disabled = true;
      try {
        await act();
        close();
      } catch (problem) {
        error.textContent = inWords(problem);
      } finally {
        button.disabled = false;
      }
    };
    const name = h('input', { type: 'text', id: 'new-name', required: true, maxlength: '100', autofocus: true, placeholder: 'Engines' });
    const isPrivate = h('input', { type: 'checkbox', id: 'new-private' });
    const id = h('input', { type: 'text', id: 'join-id', required: true, placeholder: 'Link or id of the room', autocomplete: 'off' });
    return [
      h('form', { onsubmit: attempt(() => create(name.value.trim(), isPrivate.checked)) },
        h('label', { for: 'new-name' }, 'Name'), name,
        h('label', { class: 'check' }, isPrivate, h('span', {}, 'Private: only people who were added can see it')),
        h('button', { type: 'submit', class: 'primary' }, 'Create room')),
      h('form', { class: 'second', onsubmit: attempt(() => join(id.value.trim())) },
        h('label', { for: 'join-id' }, 'Or join one'), h('div', { class: 'inline' }, id, h('button', { type: 'submit' }, 'Join'))),
      error,
    ];
  });
}

const KEYS = [
  ['Alt ↑ / Alt ↓', 'previous or next room'], ['Ctrl K', 'find a room'], ['N', 'new room, or join'], ['/', 'write a message'],
  ['↑ in an empty field', 'edit your last message'], ['↑ ↓ or J K', 'walk through messages'], ['R', 'reply to the message'], ['T', 'open its thread'], ['U', 'mark as unread from it on'],
  ['E', 'edit it'], ['+', 'react to it'], ['Delete', 'delete it'], ['G', 'regions'], ['P', 'people'], ['H', 'the room in the past'], ['Esc', 'back to the present; close'],
];

export function shortcuts() {
  show('Keyboard shortcuts', () => [h('dl', { class: 'keys' }, KEYS.map(([key, what]) => [h('dt', {}, key), h('dd', {}, what)]))]);
}
