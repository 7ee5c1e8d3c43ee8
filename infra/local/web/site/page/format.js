// How times, names and texts are shown.

import { h } from './dom.js';
import { plain } from './names.js';

const clock = new Intl.DateTimeFormat([], { hour: 'numeric', minute: '2-digit' });
const exact = new Intl.DateTimeFormat([], { dateStyle: 'medium', timeStyle: 'medium' });
const day = new Intl.DateTimeFormat([], { weekday: 'long', day: 'numeric', month: 'long' });
const dayAndYear = new Intl.DateTimeFormat([], { day: 'numeric', month: 'long', year: 'numeric' });

const short = new Intl.DateTimeFormat([], { day: 'numeric', month: 'short' });
const shortWithYear = new Intl.DateTimeFormat([], { day: 'numeric', month: 'short', year: 'numeric' });

export const timeText = (date) => clock.format(date);
export const exactText = (date) => exact.format(date);

/** "Today", "Yesterday", "Tuesday, 3 March", "3 March 2021". */
export function dayText(date, now = new Date()) {
  const days = Math.round((startOfDay(now) - startOfDay(date)) / 86_400_000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return days < 300 ? day.format(date) : dayAndYear.format(date);
}

/** The time of today, else the day: "9:30", "3 Mar", "3 Mar 2021". */
export function whenText(date, now = new Date()) {
  if (startOfDay(now) === startOfDay(date)) return clock.format(date);
  return (date.getFullYear() === now.getFullYear() ? short : shortWithYear).format(date);
}

export function startOfDay(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** "40 ms", "2.3 s", "5 min". */
export function lagText(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** A stable small number for a name, to pick one of so many colours. */
export function toneOf(name, tones = 8) {
  let sum = 0;
  for (const c of name) sum = (sum * 37 + c.codePointAt(0)) % 9973;
  return sum % tones;
}

export function initials(name) {
  const words = name.match(/[\p{L}\p{N}\p{M}]+/gu) ?? [name];
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0] ?? '').join('').toUpperCase();
}

export function avatar(user, name) {
  return h('span', { class: 'avatar', 'data-tone': toneOf(user), 'aria-hidden': 'true' }, initials(name));
}

/** Text with its web addresses as links. Only http and https become one. */
export function linked(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g)) {
    if (!URL.canParse(match[0])) continue;
    parts.push(text.slice(at, match.index), h('a', { href: match[0], target: '_blank', rel: 'noopener noreferrer' }, match[0]));
    at = match.index + match[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}

/** What a message says in one line, for wherever it is only mentioned. */
export function gist(message, length = 90) {
  if (message.deleted) return 'deleted message';
  return message.erased ? 'erased message' : excerpt(message.text, length);
}

export function excerpt(text, length = 90) {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

/** Up to three emoji and nothing else are shown large. */
export function isJumbo(text) {
  return /^(\p{Extended_Pictographic}(\uFE0F|\u200D|\p{Emoji_Modifier}|\p{Extended_Pictographic})*\s*){1,3}$/u.test(text);
}

/** What a room is called: a direct room by the other one in it. */
export function roomName(room, user, names) {
  if (!room.direct) return plain(room.name ?? '') || 'Room';
  return names.of(room.direct.find((u) => u !== user) ?? user);
}
