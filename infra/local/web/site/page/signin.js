// The first thing one sees: who are you?

import { h } from './dom.js';
import { inWords, Problem } from './problem.js';

const OWN_WORDS = ['no_name', 'no_token'];

/** Asks until somebody is signed in. */
export function signIn(session, config) {
  return new Promise((resolve) => {
    const error = h('p', { class: 'error', role: 'alert' });
    const field = config.local
      ? h('input', { type: 'text', id: 'name', name: 'name', required: true, maxlength: '64', autocomplete: 'nickname', autofocus: true, placeholder: 'Ada' })
      : h('input', { type: 'password', id: 'name', name: 'token', required: true, autocomplete: 'off', autofocus: true });
    const page = h('main', { class: 'sign-in' }, h('form', {
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          if (config.local) await session.signIn(field.value.trim());
          else session.paste(field.value.trim());
          page.remove();
          resolve();
        } catch (problem) {
          error.textContent = problem instanceof Problem && OWN_WORDS.includes(problem.code) ? problem.detail : inWords(problem);
        }
      },
    },
    h('img', { src: 'page/icon.svg', alt: '', width: '56', height: '56' }),
    h('h1', {}, 'Parley'),
    h('p', {}, 'A chat that keeps working when a region goes down.'),
    h('label', { for: 'name' }, config.local ? 'Your name' : 'Your token'), field,
    h('button', { type: 'submit', class: 'primary' }, 'Start talking'), error,
    config.local && h('small', {}, 'Any name will do. Open another tab to be someone else.')));
    document.body.prepend(page);
    field.focus();
  });
}
