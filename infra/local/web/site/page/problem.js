// What goes wrong, in plain words. Servers answer application/problem+json with a stable code.

/** An answer that is an error, or no answer at all (status 0). */
export class Problem extends Error {
  constructor({ status = 0, code = 'no_answer', detail = '', retryable = false, time = null, retryAfter = 0 }) {
    super(`${code}: ${detail}`);
    Object.assign(this, { status, code, detail, retryable, time, retryAfter });
  }

  /** Whether it may have happened all the same. */
  get unsure() {
    return this.status === 0 || this.status >= 500;
  }

  /** Whether another region is worth a try. */
  get regional() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }

  static async of(response) {
    let body = {};
    try {
      body = await response.json();
    } catch { /* a proxy's page, or a body that broke off: the status says enough */ }
    return new Problem({
      status: response.status,
      code: body.code ?? `http_${response.status}`,
      detail: body.detail ?? body.message ?? '',
      retryable: body.retryable ?? (response.status >= 500 || response.status === 429),
      time: body.time ?? null,
      retryAfter: Number(response.headers.get('Retry-After')) || 0,
    });
  }

  static noAnswer() {
    return new Problem({ retryable: true });
  }
}

const WORDS = {
  no_answer: 'The server does not answer. Check your connection.',
  unauthenticated: 'You have been signed out. Sign in again.',
  room_not_found: 'Room not found, or it is private and you have not been added.',
  message_not_found: 'This message has not reached your region yet.',
  message_deleted: 'This message was deleted.',
  member_not_found: 'That person is not in this room.',
  not_a_member: 'Join the room first.',
  not_the_author: 'Only its author can edit a message.',
  role_too_low: 'You need to be an admin of this room for that.',
  no_room_id: 'This is not a link to a room or the id of one.',
  banned: 'You have been banned from this room.',
  member_banned: 'That person is banned from this room.',
  room_archived: 'This room is archived: it can be read, but not changed.',
  direct_room: 'A direct conversation stays between the two of you.',
  last_owner: 'You are the only owner. Make someone else an owner before you leave.',
  too_many_reactions: 'This message has the maximum number of reactions.',
  too_many_contacts: 'You invited too many people, or opened too many conversations, in this hour. Try again later.',
  rate_limited: 'You sent too much at once. Wait a moment.',
  body_too_large: 'That is too long. A message has at most 20,000 bytes.',
  id_in_future: 'Your clock is ahead of the servers’. Set it and try again.',
  id_in_past: 'This waited too long to be sent. Copy it into a new message.',
  id_taken: 'Something else was sent under the same id. Copy it into a new message.',
  id_not_yours: 'Reload the page and try again.',
  no_healthy_region: 'No region is answering right now.',
};

/** Says in words what a problem means for who is reading. */
export function inWords(problem) {
  if (!(problem instanceof Problem)) return 'Something went wrong on this page. Reload it.';
  if (WORDS[problem.code]) return WORDS[problem.code];
  if (problem.code === 'invalid_field') return `That was not accepted: ${problem.detail}.`;
  if (problem.regional) return 'The region did not answer. The page will retry.';
  return problem.detail || `The server answered ${problem.status}.`;
}
