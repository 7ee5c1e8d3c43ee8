// What an event does to a message. Like the folds of the server these give the same message for
// any order and repetition of events, so that a page may apply whatever it hears, as often as it
// hears it: of an edit, a reaction and a pin the latest wins, a deletion is for good.

import { timeOf } from './ids.js';

/** The message that an event posts. */
export function posted(event, room) {
  return {
    id: event.id, room, author: event.actor, text: event.data.text,
    sent_at: new Date(timeOf(event.id)).toISOString(),
    reply_to: event.data.reply_to, thread: event.data.thread,
    reactions: {}, region: event.region, marks: {},
  };
}

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
    case 'reaction.added': case 'reaction.removed': return `${event.actor} ${event.data.emoji}`;
    default: return null;
  }
}

/** Folds an event into a message: the same object if it changes nothing, else a new one. */
export function fold(message, event) {
  const subject = subjectOf(event);
  if (subject === null || !counts(message, event)) return message;
  const known = message.marks?.[subject];
  if (known && known.id >= event.id) return message;
  const changed = { ...message, marks: { ...message.marks, [subject]: event } };
  return effect(changed, event);
}

function counts(message, event) {
  switch (event.type) {
    case 'message.edited':
      return event.actor === message.author && !message.deleted
        && !(message.edited_at && timeOf(event.id) < Date.parse(message.edited_at));
    case 'message.deleted':
      return event.actor === message.author || Boolean(event.data.moderated);
    default:
      return true;
  }
}

function effect(message, event) {
  switch (event.type) {
    case 'message.edited':
      return { ...message, text: event.data.text, edited_at: new Date(timeOf(event.id)).toISOString() };
    case 'message.deleted':
      return { ...message, text: '', deleted: true };
    case 'message.pinned': case 'message.unpinned':
      return { ...message, pinned: event.type === 'message.pinned' };
    default:
      return { ...message, reactions: react(message.reactions, event) };
  }
}

function react(reactions, { type, actor, data: { emoji } }) {
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
  return events.reduce(fold, { ...fromServer, replies: Math.max(fromServer.replies ?? 0, local.replies ?? 0), marks: {} });
}
