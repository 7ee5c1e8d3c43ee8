// What an event does to a message. Like the folds of the server these give the same message for
// any order and repetition of events, so that a page may apply every event it receives, however
// often: of an edit, a reaction and a pin the latest wins, a deletion is for good. So is the
// erasure of what a user wrote: its events come without their text, which is null.

import { timeOf } from './ids.js';

/** The message that an event posts. */
export function posted(event, room) {
  return {
    id: event.id, room, author: event.actor, ...written(event),
    sent_at: new Date(timeOf(event.id)).toISOString(),
    reply_to: event.data.reply_to, thread: event.data.thread,
    reactions: {}, region: event.region, marks: {},
  };
}

/** What an event says, or why it says nothing: its message is deleted, or nobody can read it, yet or any more. */
function written({ data: { text }, deleted, unreadable }) {
  if (typeof text === 'string') return { text, unreadable: undefined };
  if (deleted) return { text: '', deleted };
  return unreadable ? { text: '', unreadable } : ERASED;
}

const ERASED = { text: '', erased: true };

/** Whether an edit tells that its author's texts were erased, whenever it was made. */
const erases = (event) => event.type === 'message.edited' && written(event) === ERASED;

/** Whether nothing is left of a message but that it was there. */
export const isGone = (message) => Boolean(message.deleted || message.erased);

/** The message an event is about, or undefined. */
export function about(event) {
  return event.type === 'message.posted' ? event.id : event.data?.message;
}

/** What an event decides over: of two events with one subject the later counts. */
function subjectOf(event) {
  switch (event.type) {
    case 'message.edited': return event.actor === undefined ? null : `text ${event.actor}`;
    case 'message.deleted': return 'deleted';
    case 'message.pinned': case 'message.unpinned': return 'pin';
    case 'reaction.added': case 'reaction.removed': return `${event.actor} ${bare(event.data.emoji)}`;
    default: return null;
  }
}

/** Folds an event into a message: the same object if it changes nothing, else a new one. */
export function fold(message, event) {
  const subject = subjectOf(event);
  if (subject === null || !counts(message, event)) return message;
  const known = message.marks?.[subject];
  if (known && known.id >= event.id && !erases(event)) return message;
  const changed = { ...message, marks: { ...message.marks, [subject]: event } };
  return effect(changed, event);
}

function counts(message, event) {
  switch (event.type) {
    case 'message.edited':
      return event.actor === message.author && !isGone(message)
        && (erases(event) || !(message.edited_at && timeOf(event.id) < Date.parse(message.edited_at)));
    case 'message.deleted':
      return event.actor === message.author || Boolean(event.data.moderated);
    default:
      return true;
  }
}

function effect(message, event) {
  switch (event.type) {
    case 'message.edited':
      return { ...message, ...written(event), edited_at: new Date(timeOf(event.id)).toISOString() };
    case 'message.deleted':
      return { ...message, text: '', deleted: true };
    case 'message.pinned': case 'message.unpinned':
      return { ...message, pinned: event.type === 'message.pinned' };
    default:
      return { ...message, reactions: react(message.reactions, event) };
  }
}

/** An emoji without variation selectors: with and without them it is one reaction. */
const bare = (emoji) => emoji.replace(/[\ufe0e\ufe0f]/gu, '').normalize();

function react(reactions, { type, actor, data }) {
  const emoji = Object.keys(reactions).find((form) => bare(form) === bare(data.emoji)) ?? data.emoji;
  const others = (reactions[emoji] ?? []).filter((user) => user !== actor);
  const users = type === 'reaction.added' ? [...others, actor] : others;
  const { [emoji]: _, ...rest } = reactions;
  return users.length ? { ...reactions, [emoji]: users } : rest;
}

/**
 * Brings together what a server says of a message and what was heard of it here: the server may
 * be another, which has not heard all of it yet.
 */
export function merge(fromServer, local) {
  if (!local) return { marks: {}, ...fromServer };
  const events = Object.values(local.marks ?? {}).sort((a, b) => (a.id < b.id ? -1 : 1));
  const replies = Math.max(fromServer.replies ?? 0, local.replies ?? 0);
  return events.reduce(fold, { ...fromServer, ...(local.erased && ERASED), replies, marks: {} });
}
