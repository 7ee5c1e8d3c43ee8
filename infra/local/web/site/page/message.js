// One message as an element.

import { h, icon } from './dom.js';
import { isGone } from './fold.js';
import { avatar, exactText, gist, isJumbo, linked, timeText } from './format.js';
import { inWords } from './problem.js';

const SENDING = { sending: 'Sending…', waiting: 'Waiting for a connection…', failed: 'Not sent' };

/**
 * @param {object} m the message
 * @param {object} context
 * @param {boolean} context.follows it goes on from one by the same author
 * @param {(id: string) => object | undefined} context.find another message, if it is at hand
 */
export function messageElement(m, context) {
  const { names, user, follows } = context;
  const name = names.of(m.author);
  const at = new Date(m.sent_at);
  const classes = ['message', follows && 'follows', context.sameRegion && 'same-region', m.author === user && 'mine', m.sending && `is-${m.sending.state}`, m.pinned && 'pinned', (m.reply_to || (m.thread && !context.inThread)) && 'answers'];
  return h('li', { class: classes.filter(Boolean).join(' '), id: context.idOf(m.id), 'data-id': m.id, tabindex: '-1' },
    h('article', { 'aria-label': `${name}, ${timeText(at)}` },
      follows ? h('time', { class: 'aside', datetime: m.sent_at, title: exactText(at) }, timeText(at)) : avatar(m.author, name),
      h('div', { class: 'content' },
        reference(m, context),
        !follows && h('header', {},
          h('span', { class: 'author' }, name),
          h('time', { datetime: m.sent_at, title: exactText(at) }, timeText(at)),
          m.pinned && h('span', { class: 'tag' }, icon('pin'), 'Pinned')),
        text(m),
        reactions(m, context),
        repliesLink(m, context)),
      fate(m, context)));
}

function text(m) {
  if (m.deleted) return h('p', { class: 'text gone' }, 'This message was deleted.');
  if (m.erased) return h('p', { class: 'text gone' }, 'This message was erased.');
  if (m.unreadable) return h('p', { class: 'text gone' }, 'This message cannot be read yet.');
  return h('p', { class: `text${isJumbo(m.text) ? ' jumbo' : ''}`, dir: 'auto' }, linked(m.text),
    m.edited_at && h('span', { class: 'edited', title: `Edited ${exactText(new Date(m.edited_at))}` }, ' (edited)'));
}

/** The line above a message that answers another or stands in a thread. */
function reference(m, { find, names, actions, inThread }) {
  const id = m.reply_to ?? (inThread ? null : m.thread);
  if (!id) return null;
  const target = find(id);
  const what = target ? `${names.of(target.author)}: ${gist(target)}` : 'an earlier message';
  const isReply = Boolean(m.reply_to);
  return h('button', {
    type: 'button', class: 'reference', onclick: () => (isReply ? actions.jump(id) : actions.thread(id)),
    'aria-label': `${isReply ? 'In reply to' : 'In the thread of'} ${what}`,
  }, icon(isReply ? 'reply' : 'thread'), h('span', { dir: 'auto' }, what));
}

function reactions(m, { user, names, actions, readOnly }) {
  const all = Object.entries(m.reactions ?? {});
  if (!all.length || isGone(m)) return null;
  return h('div', { class: 'reactions' }, all.map(([emoji, users]) => {
    const mine = users.includes(user);
    const who = users.map((u) => names.of(u)).join(', ');
    return h('button', {
      type: 'button', class: 'reaction', 'aria-pressed': String(mine), disabled: readOnly, title: who,
      'aria-label': `${emoji} ${users.length}, by ${who}`, onclick: () => actions.react(m.id, emoji),
    }, h('span', {}, emoji), String(users.length));
  }));
}

function repliesLink(m, { actions, inThread, readOnly }) {
  if (!m.replies || inThread) return null;
  const count = m.replies >= 100 ? '100 or more replies' : `${m.replies} ${m.replies === 1 ? 'reply' : 'replies'}`;
  return h('button', { type: 'button', class: 'replies', disabled: readOnly, onclick: () => actions.thread(m.id) }, icon('thread'), count);
}

/** Where a message is: on its way, or accepted, and by which region. */
function fate(m, { user, actions, regions }) {
  if (!m.sending) {
    if (!m.region) return null;
    return h('span', { class: 'region', 'data-region': regions.toneOf(m.region), title: `Accepted by ${m.region}` },
      m.author === user && h('span', { class: 'sent', title: 'Sent' }, icon('check')),
      h('span', { class: 'hidden' }, 'accepted by '), m.region);
  }
  const { state, problem } = m.sending;
  return h('span', { class: 'fate', 'data-state': state },
    state === 'failed' ? icon('warn') : h('span', { class: 'spinner', 'aria-hidden': 'true' }),
    h('span', { title: problem ? inWords(problem) : null }, state === 'failed' ? `${SENDING.failed}. ${inWords(problem)}` : SENDING[state]),
    state !== 'sending' && h('button', { type: 'button', onclick: () => actions.retry(m.id) }, state === 'failed' ? 'Try again' : 'Try now'),
    state === 'failed' && h('button', { type: 'button', onclick: () => actions.discard(m.id) }, 'Discard'));
}
